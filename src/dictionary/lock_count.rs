//! Tests of the count of outstanding locks: it is 0 when there are no locks, however they ended, so that commits do not
//! look at locks any more; and it is not 0 while there is one.

use super::StateDictionary;
use crate::locks::LockRequest;
use crate::session::Session;
use crate::{Change, ManualClock};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

thread_local! {
    /// After how many calls of a key's `Eq` or `Clone` one panics.
    static CALLS: Cell<Option<usize>> = const { Cell::new(None) };
}

fn call() {
    match CALLS.get() {
        Some(0) => {
            CALLS.set(None);
            panic!("on purpose");
        }
        Some(calls) => CALLS.set(Some(calls - 1)),
        None => {}
    }
}

#[derive(Debug)]
struct Key(u32);

impl Clone for Key {
    fn clone(&self) -> Self {
        call();
        Self(self.0)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        call();
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

type Dictionary = StateDictionary<Key, u8, u8>;

fn dictionary() -> (Dictionary, ManualClock) {
    let clock = ManualClock::new();
    (StateDictionary::builder().clock(&clock).lock_history_limit(100).build(), clock)
}

fn acquire(keys: impl IntoIterator<Item = u32>, lease: Option<Duration>) -> LockRequest<Key> {
    keys.into_iter().fold(LockRequest::new(), |request, key| request.acquire(Key(key), lease))
}

fn release(keys: impl IntoIterator<Item = u32>) -> LockRequest<Key> {
    keys.into_iter().fold(LockRequest::new(), |request, key| request.release(Key(key)))
}

impl Dictionary {
    /// The count, which must be the number of locks.
    fn count(&self) -> usize {
        let locks = self.engine.locks.all_with(&self.engine.published.clock, || ()).0;
        assert_eq!(self.engine.locks.outstanding(), locks.len(), "{locks:?}");
        locks.len()
    }

    fn lock_three(&self, lease: Option<Duration>) {
        assert!(self.update_locks(&1, acquire([1, 2, 3], lease)).is_ok());
        assert_eq!(self.count(), 3);
    }
}

#[test]
fn the_count_of_locks_is_0_again_after_each_way_for_them_to_go() {
    let ways: [(&str, fn(&Dictionary, &ManualClock)); 13] = [
        ("release", |d, _| drop(d.update_locks(&1, release([1, 2, 3])))),
        ("release one by one", |d, _| (1..=3).for_each(|key| drop(d.update_locks(&1, release([key]))))),
        ("release_all", |d, _| drop(d.release_all(&1))),
        ("clear_locks", |d, _| drop(d.clear_locks())),
        ("clear_locks when they have expired", |d, clock| {
            clock.advance(SECOND);
            d.clear_locks();
        }),
        ("expiry by a writer", |d, clock| {
            clock.advance(SECOND);
            let change = (1..=3).fold(Change::new(), |change, key| change.set(Key(key), 1));
            assert!(d.update_state(&2, change).is_ok());
        }),
        ("expiry by expire", |d, clock| {
            clock.advance(SECOND);
            assert_eq!(d.expire().locks.len(), 3);
        }),
        ("expiry by a feed of locks", |d, clock| {
            clock.advance(SECOND);
            assert!(d.lock_feed().try_flush().is_ok());
        }),
        ("release when they have expired", |d, clock| {
            clock.advance(SECOND);
            assert_eq!(d.update_locks(&1, release([1, 2, 3])).unwrap().expired.len(), 3);
        }),
        ("end of a session", |d, _| {
            let mut session = d.session(1);
            assert!(session.update_ephemeral(Change::new().set(Key(9), 1)).is_ok());
            assert_eq!(session.end().released.len(), 3);
        }),
        ("end of another session when they have expired", |d, clock| {
            clock.advance(SECOND);
            drop(d.session(2));
            d.expire();
        }),
        ("refused request whose releases were carried out", |d, _| {
            assert!(d.update_locks(&2, acquire([7], None)).is_ok());
            assert!(d.update_locks(&1, acquire([7, 8], None).release(Key(1)).release(Key(2)).release(Key(3))).is_err());
            assert_eq!(d.count(), 1);
            d.release_all(&2);
        }),
        ("after a freeze", |d, _| {
            d.freeze();
            assert!(d.update_locks(&1, acquire([4], None).release(Key(1))).is_err());
            assert_eq!(d.count(), 2);
            d.release_all(&1);
        }),
    ];
    for (way, go) in ways {
        let (dictionary, clock) = dictionary();
        dictionary.lock_three(Some(SECOND));
        go(&dictionary, &clock);
        assert_eq!(dictionary.count(), 0, "{way}");
    }
}

#[test]
fn the_count_of_locks_is_right_after_grants_over_expired_locks_and_renewals() {
    let (dictionary, clock) = dictionary();
    dictionary.lock_three(Some(SECOND));
    assert!(dictionary.update_locks(&1, acquire([1, 2], Some(SECOND))).is_ok());
    assert_eq!(dictionary.count(), 3, "renewed");
    assert!(dictionary.update_locks(&1, acquire([1], Some(SECOND)).release(Key(1))).is_ok());
    assert_eq!(dictionary.count(), 3, "released and granted anew");
    clock.advance(SECOND);
    assert!(dictionary.update_locks(&2, acquire([1, 2], Some(SECOND))).is_ok());
    assert_eq!(dictionary.count(), 3, "granted to another");
    assert!(dictionary.update_locks(&1, acquire([1, 4], None)).is_err());
    assert_eq!(dictionary.count(), 3, "refused");
    dictionary.clear_locks();
    assert_eq!(dictionary.count(), 0);
}

#[test]
fn a_sweep_of_expired_locks_counts_them_off() {
    let (dictionary, clock) = dictionary();
    for key in 0..1_000 {
        assert!(dictionary.update_locks(&1, acquire([key], Some(SECOND))).is_ok());
        clock.advance(SECOND);
        assert!(
            dictionary.count() <= 130,
            "the earlier keys are never touched, and their locks are removed nevertheless"
        );
    }
    dictionary.expire();
    assert_eq!(dictionary.count(), 0);
}

#[test]
fn the_count_of_locks_is_right_whatever_panics() {
    let operations: [(&str, fn(&Dictionary, &ManualClock)); 8] = [
        ("grant", |d, _| drop(d.update_locks(&1, acquire([4, 5], None)))),
        ("grant and release", |d, _| drop(d.update_locks(&1, acquire([4], None).release(Key(1)).release(Key(2))))),
        ("refusal that releases", |d, _| drop(d.update_locks(&1, acquire([7], None).release(Key(1))))),
        ("release_all", |d, _| drop(d.release_all(&1))),
        ("clear_locks", |d, _| drop(d.clear_locks())),
        ("expire", |d, clock| {
            clock.advance(SECOND);
            d.expire();
        }),
        ("expiry by a writer", |d, clock| {
            clock.advance(SECOND);
            drop(d.update_state(&3, Change::new().set(Key(1), 1).set(Key(2), 1)));
        }),
        ("end of a session", |d, _| drop(Session::end(d.session(1)))),
    ];
    for (operation, act) in operations {
        let mut calls = 0;
        loop {
            let (dictionary, clock) = dictionary();
            dictionary.lock_three(Some(SECOND));
            assert!(dictionary.update_locks(&2, acquire([7], None)).is_ok());
            CALLS.set(Some(calls));
            let unwound = catch_unwind(AssertUnwindSafe(|| act(&dictionary, &clock))).is_err();
            CALLS.set(None);
            dictionary.count();
            // Locks that the unwound operation left are removed as usual.
            dictionary.expire();
            dictionary.clear_locks();
            assert_eq!(dictionary.count(), 0, "{operation}, call {calls}");
            if !unwound {
                break;
            }
            calls += 1;
        }
        assert!(calls > 0, "{operation} calls the user's code");
    }
}
