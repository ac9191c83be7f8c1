//! Code of the user's that panics leaves the dictionary as it was, and working.

mod common;

use common::{Dictionary, SECOND, within_a_minute};
use state_dictionary::{Change, LockDelivery, LockRequest, ManualClock, Session, StateDictionary};
use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

thread_local! {
    static FUSE: Cell<Option<usize>> = const { Cell::new(None) };
}

fn burn() {
    let left = FUSE.get();
    FUSE.set(left.map(|calls| calls.saturating_sub(1)));
    if left == Some(0) {
        FUSE.set(None);
        panic!("on purpose");
    }
}

/// A key or token of which every `Clone`, `Eq` and `Hash` counts, and one panics. What that drops uses the dictionary, which
/// must not be waiting for this very thread.
#[derive(Debug, PartialOrd, Ord)]
struct Fused(u32);

thread_local! {
    static IN_USE: RefCell<Weak<FusedDictionary>> = const { RefCell::new(Weak::new()) };
}

impl Drop for Fused {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        // Taken, because what `locks` returns is dropped too.
        if let Ok(in_use) = IN_USE.try_with(RefCell::take) {
            if let Some(dictionary) = in_use.upgrade() {
                assert!(dictionary.locks().len() < 10);
            }
            let _ = IN_USE.try_with(|dictionary| dictionary.replace(in_use));
        }
    }
}

impl Clone for Fused {
    fn clone(&self) -> Self {
        burn();
        Self(self.0)
    }
}

impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        burn();
        self.0 == other.0
    }
}

impl Eq for Fused {}

impl Hash for Fused {
    fn hash<H: Hasher>(&self, state: &mut H) {
        burn();
        self.0.hash(state);
    }
}

type FusedDictionary = StateDictionary<Fused, u32, Fused>;
type Described = (u64, Vec<(u32, u32, u64)>, Vec<(u32, u32, Option<Duration>)>);

const ALICE: Fused = Fused(1);
const BOB: Fused = Fused(2);

fn key(number: u32) -> Fused {
    Fused(number)
}

/// Keys 0 to 5 have values. Alice holds 0 and 1, Bob holds 2; locks of both, on 3 and 4, have expired.
fn dictionary(history_limit: usize) -> FusedDictionary {
    let clock = ManualClock::new();
    let builder =
        StateDictionary::builder().clock(&clock).history_limit(history_limit).lock_history_limit(100).shards(2);
    let dictionary: FusedDictionary = builder.content((0..6).map(|number| (Fused(number), number))).build();
    let alices = LockRequest::new().acquire(key(0), None).acquire(key(1), SECOND * 9).acquire(key(3), SECOND);
    let bobs = LockRequest::new().acquire(key(2), None).acquire(key(4), SECOND);
    assert!(dictionary.update_locks(&ALICE, alices).is_ok() && dictionary.update_locks(&BOB, bobs).is_ok());
    clock.advance(SECOND);
    dictionary
}

fn describe(dictionary: &FusedDictionary) -> Described {
    let content = dictionary.snapshot();
    let entries = content.entries().map(|(key, entry)| (key.0, **entry, entry.revision().get()));
    let locks = dictionary.locks().into_iter().map(|(key, lock)| (key.0, lock.owner.0, lock.remaining));
    (dictionary.revision().get(), common::sorted(entries), common::sorted(locks))
}

/// Lets the first call of the user's code in `operation` panic, then the second, and so on, until it gets through.
fn panicking_at_every_call(operation: impl Fn(&FusedDictionary)) {
    let clean = dictionary(100);
    operation(&clean);
    for calls in 0.. {
        let dictionary = Arc::new(dictionary(100));
        let before = describe(&dictionary);
        FUSE.set(Some(calls));
        IN_USE.set(Arc::downgrade(&dictionary));
        let finished = within_a_minute(|| panic::catch_unwind(AssertUnwindSafe(|| operation(&dictionary))));
        IN_USE.set(Weak::new());
        FUSE.set(None);
        if finished.is_ok() {
            assert!(calls > 0, "none of the user's code was run");
            assert_eq!(describe(&dictionary), describe(&clean));
            return;
        }
        assert_eq!(describe(&dictionary), before, "changed by a panic at call {calls}");
        within_a_minute(|| operation(&dictionary));
        assert_eq!(describe(&dictionary), describe(&clean), "wrong after a panic at call {calls}");
    }
}

#[test]
fn a_commit_that_panics_changes_nothing() {
    panicking_at_every_call(|dictionary| {
        let change = Change::new().set(key(0), 10).remove(key(1)).set(key(4), 14).set(key(7), 17).remove(key(8));
        assert!(dictionary.update_state(&ALICE, change.if_absent(key(7)).if_present(key(5))).is_ok());
    });
}

#[test]
fn a_refusal_that_panics_changes_nothing() {
    panicking_at_every_call(|dictionary| {
        let change = || Change::new().set(key(4), 14).set(key(0), 10).set(key(5), 15);
        assert!(dictionary.update_state(&BOB, change()).is_err());
        assert!(dictionary.update_state(&ALICE, change().if_absent(key(5))).is_err());
    });
}

#[test]
fn a_lock_request_that_panics_changes_nothing() {
    panicking_at_every_call(|dictionary| {
        let acquire = LockRequest::new().acquire(key(0), SECOND).acquire(key(3), SECOND).acquire(key(4), None);
        let request = acquire.acquire(key(9), None).acquire(key(9), SECOND).release(key(1)).release(key(2));
        let receipt = dictionary.update_locks(&ALICE, request).unwrap();
        assert_eq!((receipt.granted.len(), receipt.renewed.len(), receipt.released.len()), (3, 1, 1));
    });
}

#[test]
fn a_refused_lock_request_that_panics_changes_nothing() {
    panicking_at_every_call(|dictionary| {
        let request = LockRequest::new().acquire(key(9), None).acquire(key(2), None).release(key(1)).release(key(3));
        assert!(dictionary.update_locks(&ALICE, request).is_err());
    });
}

#[test]
fn releasing_everything_of_a_token_whose_eq_panics_changes_nothing() {
    panicking_at_every_call(|dictionary| assert_eq!(dictionary.release_all(&ALICE).len(), 2));
}

#[test]
fn an_ephemeral_change_that_panics_changes_nothing_and_what_it_sets_ends_with_the_session() {
    panicking_at_every_call(|dictionary| {
        /// If it is dropped by a panic, the session is left, not ended.
        struct Leaving(Option<Session<Fused, u32, Fused>>);
        impl Drop for Leaving {
            fn drop(&mut self) {
                if let Some(session) = self.0.take() {
                    session.detach(Duration::MAX);
                }
            }
        }
        let mut session = Leaving(Some(dictionary.session(Fused(ALICE.0))));
        let change = Change::new().set(key(7), 17).set(key(0), 10).set(key(8), 18).set(key(7), 18).remove(key(1));
        assert!(session.0.as_mut().unwrap().update_ephemeral(change).is_ok());
        // Its end is another call.
        FUSE.set(None);
        let removed = common::sorted(session.0.take().unwrap().end().removed);
        assert!(matches!(removed[..], [Fused(0), Fused(7), Fused(8)]), "{removed:?}");
    });
}

/// Not even if `Eq` panics while the spare tree is brought up to date, when the commit is visible.
#[test]
fn once_an_ephemeral_change_is_visible_the_session_knows_its_keys() {
    for calls in 0.. {
        let dictionary = dictionary(100);
        let mut session = dictionary.session(Fused(ALICE.0));
        FUSE.set(Some(calls));
        let committed =
            panic::catch_unwind(AssertUnwindSafe(|| session.update_ephemeral(Change::new().set(key(7), 17))));
        let burnt = FUSE.take().is_none();
        assert_eq!(dictionary.get(&key(7)).is_some(), committed.is_ok(), "after a panic at call {calls}");
        assert_eq!(session.end().removed.len(), usize::from(committed.is_ok()));
        assert!(dictionary.get(&key(7)).is_none());
        if !burnt {
            return;
        }
    }
}

#[test]
fn the_end_of_a_session_that_panics_changes_nothing_and_is_made_up_for() {
    let begin = || {
        let clock = ManualClock::new();
        let builder = StateDictionary::builder().clock(&clock).shards(2).commit_history(true).lock_history_limit(100);
        let dictionary: FusedDictionary = builder.build();
        let mut session = dictionary.session(Fused(ALICE.0));
        assert!(session.update_ephemeral(Change::new().set(key(0), 0).set(key(1), 1).set(key(2), 2)).is_ok());
        assert!(session.update_locks(LockRequest::new().acquire(key(3), None).acquire(key(2), None)).is_ok());
        assert!(dictionary.update_locks(&BOB, LockRequest::new().acquire(key(1), None)).is_ok());
        (dictionary, clock, session)
    };
    for calls in 0.. {
        let (dictionary, clock, session) = begin();
        let before = describe(&dictionary);
        FUSE.set(Some(calls));
        let ended = panic::catch_unwind(AssertUnwindSafe(|| drop(session)));
        if FUSE.take().is_some() {
            assert!(ended.is_ok() && calls > 0);
            return;
        }
        if ended.is_err() {
            assert_eq!(describe(&dictionary), before, "changed by a panic at call {calls}");
            clock.advance(SECOND);
            let expiry = within_a_minute(|| dictionary.expire());
            let (token, end) = &expiry.sessions[0];
            assert_eq!((token.0, end.removed.len(), end.released.len(), end.not_removed.len()), (ALICE.0, 2, 2, 1));
        }
        assert_eq!(dictionary.snapshot().keys().map(|key| key.0).collect::<Vec<_>>(), [1]);
        assert_eq!(dictionary.locks().len(), 1);
        assert!(dictionary.expire().sessions.is_empty());
    }
}

#[test]
fn inspection_that_panics_leaves_the_locks_in_place() {
    panicking_at_every_call(|dictionary| {
        assert_eq!(dictionary.locks().len(), 3);
        assert!(dictionary.lock_info(&key(0)).is_some());
        assert!(dictionary.get(&key(0)).is_some() && dictionary.snapshot().contains_key(&key(1)));
    });
}

#[test]
fn a_guards_write_that_panics_changes_nothing_and_the_guard_can_write_on() {
    panicking_at_every_call(|dictionary| {
        let mut guard = dictionary.lock_content().unwrap();
        assert!(guard.update_state(&BOB, Change::new().set(key(2), 12).remove(key(5))).is_ok());
        assert_eq!(guard.len(), 5);
    });
}

/// Does it again if it panics.
fn in_spite_of_a_panic<R>(act: impl Fn() -> R) -> R {
    panic::catch_unwind(AssertUnwindSafe(&act)).unwrap_or_else(|_| within_a_minute(&act))
}

#[test]
fn a_lock_flush_that_panics_can_be_repeated() {
    let dictionary: FusedDictionary = StateDictionary::builder().lock_history_limit(100).shards(2).build();
    let feed = dictionary.lock_feed();
    let request = || LockRequest::new().acquire(key(0), None).acquire(key(1), None);
    assert!(dictionary.update_locks(&ALICE, request()).is_ok());
    let LockDelivery::Full { locks, .. } = in_spite_of_panics(|| feed.try_flush().unwrap()) else {
        panic!("the first delivery is everything");
    };
    assert_eq!(locks.len(), 2);
    assert!(dictionary.update_locks(&ALICE, request().release(key(0)).release(key(1))).is_ok());
    let LockDelivery::Events(events) = in_spite_of_panics(|| feed.try_flush().unwrap()) else {
        panic!("it has not lagged");
    };
    assert_eq!(events.len(), 4);
}

/// What `act` returns when none of the user's code panics any more: first its first call does, then its second, and so on.
fn in_spite_of_panics<R>(mut act: impl FnMut() -> R) -> R {
    for calls in 0..1000 {
        FUSE.set(Some(calls));
        let done = panic::catch_unwind(AssertUnwindSafe(&mut act));
        FUSE.set(None);
        if let Ok(done) = done {
            assert!(calls > 0, "none of the user's code was run");
            return done;
        }
    }
    panic!("it panics whatever is called how often")
}

#[test]
fn a_flush_that_panics_can_be_repeated_and_so_can_looking_at_a_delivery() {
    for history_limit in [0, 100] {
        for calls in 0.. {
            let dictionary = dictionary(history_limit);
            let buffer = dictionary.change_buffer();
            let panicking = || {
                FUSE.set(Some(calls));
                let flushed = in_spite_of_a_panic(|| buffer.try_flush())
                    .map(|delivery| in_spite_of_a_panic(|| (delivery.updates().count(), delivery.removals().len())));
                FUSE.set(None);
                flushed
            };
            assert_eq!(panicking(), Ok((6, 0)));
            dictionary.update_state(&BOB, Change::new().set(key(2), 1).remove(key(5)).set(key(7), 1)).unwrap();
            FUSE.set(None);
            assert_eq!(panicking(), Ok((2, 1)));
            if calls > 100 {
                break;
            }
        }
    }
}

/// Lets each call of the user's code in `commit` panic in turn, and looks for what is left of it after another commit.
fn leaving_nothing(commit: impl Fn(&FusedDictionary, usize)) {
    for calls in 0.. {
        let dictionary = dictionary(100);
        let finished = panic::catch_unwind(AssertUnwindSafe(|| commit(&dictionary, calls))).is_ok();
        FUSE.set(None);
        let (revision, mut expected, _) = describe(&dictionary);
        let buffer = dictionary.change_buffer();
        assert!(buffer.try_flush().is_ok());
        assert!(dictionary.update_state(&BOB, Change::new().set(key(5), 25)).is_ok());
        expected.retain(|(key, ..)| *key != 5);
        expected.push((5, 25, revision + 1));
        assert_eq!(describe(&dictionary).1, common::sorted(expected), "after a panic at call {calls}");
        assert_eq!(buffer.try_flush().map(|delivery| delivery.updates().count()), Ok(1));
        if finished {
            assert!(calls > 10, "only {calls} calls of the user's code");
            return;
        }
    }
}

fn change_of_many_keys() -> Change<Fused, u32> {
    Change::new().set(key(0), 10).remove(key(1)).set(key(7), 17).remove(key(8)).set(key(9), 19)
}

#[test]
fn a_commit_in_the_spare_root_that_panics_leaves_nothing_of_it() {
    leaving_nothing(|dictionary, calls| {
        dictionary.update_state(&ALICE, Change::new().set(key(0), 1)).unwrap();
        FUSE.set(Some(calls));
        dictionary.update_state(&ALICE, change_of_many_keys()).unwrap();
    });
}

#[test]
fn a_commit_that_panics_while_the_spare_root_catches_up_leaves_nothing_of_it() {
    leaving_nothing(|dictionary, calls| {
        let mut runs = 0;
        let committed = dictionary.update_state_with(&ALICE, |_| {
            runs += 1;
            let others = || {
                for change in [Change::new().set(key(2), runs).remove(key(5)), Change::new().set(key(5), runs)] {
                    dictionary.update_state(&BOB, change).unwrap();
                }
            };
            match runs {
                1 | 2 => thread::scope(|scope| scope.spawn(others).join().unwrap()),
                // The turn is in hand, and the spare root behind.
                _ => FUSE.set(Some(calls)),
            }
            change_of_many_keys()
        });
        committed.unwrap();
    });
}

#[test]
fn an_update_closure_that_panics_commits_nothing_and_is_left() {
    let dictionary = Dictionary::new();
    let panicking = || dictionary.update_state_with(&"", |_| -> Change<_, _> { panic!("on purpose") });
    assert!(panic::catch_unwind(panicking).is_err());
    assert_eq!(dictionary.revision().get(), 0);
    assert_eq!(dictionary.update_state(&"", Change::new().set("a", 1)).unwrap().get(), 1);
}

#[test]
fn a_thread_that_panics_with_locks_and_the_content_locked_keeps_the_locks_and_unlocks_the_content() {
    let dictionary = Dictionary::new();
    let panicked = thread::scope(|scope| {
        let panicking = scope.spawn(|| {
            dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
            let _guard = dictionary.lock_content().unwrap();
            panic!("on purpose");
        });
        panicking.join().is_err()
    });
    assert!(panicked);
    assert!(dictionary.try_update_state(&"bob", Change::new().set("b", 1)).is_ok());
    assert_eq!(dictionary.release_all(&"alice"), ["a"]);
}
