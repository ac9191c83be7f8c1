//! The turn to commit: who waits for it, for how long, and what a thread that is suspended in it costs the others.
#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use common::{acquire, within_a_minute};
use state_dictionary::{Change, LockContentError, Refusal, StateDictionary, UpdateError};
use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Less than any wait for the turn, and more than what does not wait takes where nothing comes in between.
const NO_WAIT: Duration = Duration::from_millis(1);

/// For how long something is tried that is quick at best: a machine that is busy makes some slow, and not all.
const TRYING: Duration = Duration::from_secs(20);

thread_local! {
    static STALLED: RefCell<Option<(Sender<()>, Receiver<()>)>> = const { RefCell::new(None) };
}

/// A key whose `Eq` waits, once, in a thread that wants it to: with its turn to commit, for no lock and no condition makes a
/// writer look at its key before.
#[derive(Clone, Debug, Eq)]
struct Key(&'static str);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        if let Some((stalled, go_on)) = STALLED.take() {
            stalled.send(()).unwrap();
            let _ = go_on.recv();
        }
        self.0 == other.0
    }
}

type Dictionary = StateDictionary<Key, i32, &'static str>;

fn set(key: &'static str, value: i32) -> Change<Key, i32> {
    Change::new().set(Key(key), value)
}

fn dictionary() -> Dictionary {
    let dictionary: Dictionary = StateDictionary::builder().content([(Key("a"), 0), (Key("b"), 0)]).build();
    // Now there is a spare root.
    for value in 1..4 {
        dictionary.update_state(&"", set("a", value)).unwrap();
    }
    dictionary
}

/// Acts while another thread is suspended in the middle of a commit. Returns how that ended too.
fn beside_a_suspended_commit<R>(
    dictionary: &Dictionary,
    act: impl FnOnce() -> R,
) -> (R, Result<(), UpdateError<Key, i32, &'static str>>) {
    let ((stalled, is_stalled), (go_on, goes_on)) = (channel(), channel());
    thread::scope(|scope| {
        let suspended = scope.spawn(move || {
            STALLED.set(Some((stalled, goes_on)));
            dictionary.update_state(&"suspended", set("a", -1)).map(drop)
        });
        is_stalled.recv().unwrap();
        let result = act();
        drop(go_on);
        (result, suspended.join().unwrap())
    })
}

fn elapsed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

/// Fails if `act` never takes less than `limit`, each time beside another suspended commit.
fn takes_less(limit: Duration, act: impl Fn(&Dictionary) -> Duration) {
    let begun = Instant::now();
    let mut quickest = Duration::MAX;
    while quickest >= limit {
        assert!(begun.elapsed() < TRYING, "it took {quickest:?} at best");
        let dictionary = dictionary();
        quickest = quickest.min(within_a_minute(|| beside_a_suspended_commit(&dictionary, || act(&dictionary)).0));
    }
}

#[test]
fn what_is_refused_or_empty_does_not_wait_for_the_turn() {
    let acts: [fn(&Dictionary); 6] = [
        |dictionary| assert!(dictionary.update_state(&"", Change::new()).is_ok()),
        |dictionary| {
            let refused = dictionary.update_state(&"", set("b", 1).if_absent(Key("b")));
            assert!(matches!(refused, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
        },
        |dictionary| {
            dictionary.update_locks(&"alice", acquire_key("b")).unwrap();
            assert!(matches!(
                dictionary.update_state(&"bob", set("b", 1)),
                Err(UpdateError { reason: Refusal::Locked { .. }, .. })
            ));
        },
        |dictionary| {
            dictionary.freeze();
            assert!(matches!(
                dictionary.update_state(&"", set("b", 1)),
                Err(UpdateError { reason: Refusal::Frozen, .. })
            ));
        },
        |dictionary| {
            let _guard = dictionary.lock_content().unwrap();
            let refused = dictionary.update_state(&"", set("b", 1));
            assert!(matches!(refused, Err(UpdateError { reason: Refusal::ContentLockedByThisThread, .. })));
        },
        |dictionary| {
            let refused = dictionary.update_state_with(&"", |_| set("b", 1).if_absent(Key("b")));
            assert!(matches!(refused, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
            assert!(dictionary.update_state_with(&"", |_| Change::new()).is_ok());
        },
    ];
    for act in acts {
        takes_less(NO_WAIT, |dictionary| elapsed(|| act(dictionary)));
    }
}

fn acquire_key(key: &'static str) -> state_dictionary::LockRequest<Key> {
    state_dictionary::LockRequest::new().acquire(Key(key), None)
}

#[test]
fn what_is_called_try_does_not_wait_for_the_turn() {
    let acts: [fn(&Dictionary); 4] = [
        |dictionary| assert!(dictionary.try_update_state(&"", set("b", 1)).is_ok()),
        |dictionary| {
            let mut guard = dictionary.try_lock_content().unwrap();
            assert!(guard.update_state(&"", set("b", 1)).is_ok());
            let again = dictionary.try_lock_content();
            assert!(matches!(again, Err(LockContentError::ContentLockedByThisThread)));
        },
        |dictionary| assert!(dictionary.change_buffer().try_flush().is_ok()),
        |dictionary| {
            let session = dictionary.session("alice");
            session.update_locks(acquire_key("b")).unwrap();
            session.detach(Duration::ZERO);
            assert_eq!(dictionary.expire().sessions.len(), 1);
        },
    ];
    for act in acts {
        takes_less(NO_WAIT, |dictionary| elapsed(|| act(dictionary)));
    }
}

#[test]
fn a_commit_beside_a_suspended_one_waits_for_three_milliseconds_by_the_clock() {
    takes_less(Duration::from_millis(10), |dictionary| {
        let waited = elapsed(|| assert!(dictionary.update_state(&"", set("b", 1)).is_ok()));
        assert!(waited >= Duration::from_millis(3), "{waited:?}");
        waited
    });
}

#[test]
fn after_one_wait_for_a_turn_has_timed_out_no_thread_waits_for_its_owner() {
    takes_less(NO_WAIT, |dictionary| {
        dictionary.update_state(&"first", set("b", 1)).unwrap();
        let commit = |value| elapsed(|| assert!(dictionary.update_state(&"later", set("b", value)).is_ok()));
        let elsewhere = thread::scope(|scope| scope.spawn(|| commit(2)).join().unwrap());
        let with = elapsed(|| assert!(dictionary.update_state_with(&"later", |_| set("b", 3)).is_ok()));
        elsewhere.max(commit(4)).max(with)
    });
}

#[test]
fn the_next_owner_of_the_turn_is_waited_for_again() {
    let dictionary = dictionary();
    let commit = || elapsed(|| assert!(dictionary.update_state(&"", set("b", 1)).is_ok()));
    for _ in 0..3 {
        let (waited, suspended) = beside_a_suspended_commit(&dictionary, commit);
        assert!(waited >= Duration::from_millis(3), "{waited:?}");
        assert!(suspended.is_ok());
    }
}

#[test]
fn freezing_and_dropping_do_not_wait_for_the_turn_and_free_the_tree_for_the_next_commit_all_the_same() {
    takes_less(NO_WAIT, |dictionary| elapsed(|| assert!(dictionary.freeze())));
    let dictionary = dictionary();
    let value = Arc::clone(dictionary.get(&Key("b")).unwrap().value());
    assert_eq!(Arc::strong_count(&value), 3, "two trees, and this one");
    let (frozen, suspended) = beside_a_suspended_commit(&dictionary, || dictionary.freeze());
    assert!(frozen && matches!(suspended, Err(UpdateError { reason: Refusal::Frozen, .. })));
    assert_eq!(Arc::strong_count(&value), 2);
    let buffer = dictionary.change_buffer();
    drop(dictionary);
    assert_eq!(Arc::strong_count(&value), 2);
    drop(buffer);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_commit_that_unwinds_with_the_turn_in_hand_gives_it_back() {
    let dictionary = &common::Dictionary::new();
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    for _ in 0..2 {
        let unwound = thread::scope(|scope| {
            let mut runs = 0;
            let closure = move |_: &state_dictionary::Snapshot<_, _>| {
                runs += 1;
                assert!(runs < 2, "on purpose, with the turn in hand");
                thread::scope(|scope| {
                    scope.spawn(|| dictionary.update_state(&"bob", common::set("b", 1))).join().unwrap()
                })
                .unwrap();
                common::set("c", 1)
            };
            scope.spawn(move || dictionary.update_state_with(&"bob", closure).is_ok()).join().is_err()
        });
        assert!(unwound);
    }
    let quickest = (0..100).map(|_| elapsed(|| assert!(dictionary.update_state(&"bob", common::set("b", 1)).is_ok())));
    assert!(quickest.min() < Some(NO_WAIT));
}
