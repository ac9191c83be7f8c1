//! Holding the content still.

mod common;

use common::{
    Dictionary, Grenade, NANOSECOND, SECOND, content, set, spawn_waiting, with_manual_clock, within_a_minute,
};
use state_dictionary::{
    Change, ContentGuard, LockContentError, LockRequest, Refusal, Revision, StateDictionary, UpdateError,
};
use std::mem;
use std::panic;
use std::thread;
use std::time::Duration;

/// Runs `body` in another thread to its end.
fn elsewhere<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
}

#[test]
fn a_guard_reads_the_present_content_and_its_own_writes() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let mut guard = dictionary.lock_content().unwrap();
    assert_eq!((guard["a"], guard.len(), guard.revision().get()), (1, 1, 1));
    assert_eq!(guard.update_state(&"alice", set("b", 2).remove("a")).unwrap().get(), 2);
    assert_eq!(content(&guard), [("b", 2)].into());
    assert_eq!((guard.revision(), guard.entry("b").unwrap().revision().get()), (dictionary.revision(), 2));
}

#[test]
fn the_guards_writes_are_seen_at_once_by_all_threads() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    let mut guard = dictionary.lock_content().unwrap();
    guard.update_state(&"alice", set("a", 1)).unwrap();
    elsewhere(|| {
        assert_eq!(dictionary.snapshot()["a"], 1);
        assert_eq!(*dictionary.get("a").unwrap(), 1);
        assert_eq!(buffer.try_flush().unwrap().updates().count(), 1);
    });
}

#[test]
fn the_guards_own_writes_honour_locks_and_conditions_and_change_nothing_when_refused() {
    let dictionary = Dictionary::new();
    let mut guard = dictionary.lock_content().unwrap();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    assert!(matches!(guard.update_state(&"bob", set("a", 1)), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    let conditional = guard.update_state(&"alice", set("a", 1).if_present("a"));
    assert!(matches!(conditional, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
    assert!(guard.is_empty());
    assert!(guard.update_state(&"alice", set("a", 1)).is_ok());
    assert_eq!(guard.update_state(&"alice", Change::new()).unwrap().get(), 1);
}

#[test]
fn while_locked_every_commit_not_made_through_the_guard_is_delayed() {
    let dictionary = Dictionary::new();
    let mut guard = dictionary.lock_content().unwrap();
    let change = set("a", 1);
    let Err(UpdateError { change: returned, reason: Refusal::ContentLocked, .. }) =
        elsewhere(|| dictionary.try_update_state(&"bob", change.clone()))
    else {
        panic!("not held")
    };
    assert_eq!(returned, change);
    assert!(guard.update_state(&"alice", set("a", 2)).is_ok(), "also after others were turned away");
    drop(guard);
    assert_eq!(elsewhere(|| dictionary.try_update_state(&"bob", change)).unwrap().get(), 2);
}

#[test]
fn writers_that_wait_commit_after_the_guards_last_write() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let mut guard = dictionary.lock_content().unwrap();
        guard.update_state(&"alice", set("guard", 0)).unwrap();
        thread::scope(|scope| {
            let write = |write: fn(&Dictionary) -> Result<Revision, UpdateError<_, _, _>>| {
                let dictionary = &dictionary;
                spawn_waiting(scope, move || write(dictionary).unwrap().get())
            };
            let plain = write(|dictionary| dictionary.update_state(&"bob", set("plain", 1)));
            let with =
                write(|dictionary| dictionary.update_state_with(&"carol", |content| set("with", content["guard"])));
            for round in 1..=500 {
                guard.update_state(&"alice", set("guard", round)).unwrap();
            }
            drop(guard);
            assert_eq!(common::sorted([plain.join().unwrap(), with.join().unwrap()]), [502, 503]);
        });
        assert_eq!(dictionary.snapshot()["with"], 500);
    });
}

#[test]
fn while_locked_refusals_locks_snapshots_feeds_and_empty_changes_are_not_delayed() {
    within_a_minute(|| {
        let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
        let guard = dictionary.lock_content().unwrap();
        elsewhere(|| {
            let granted = dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
            assert_eq!(granted.granted.len(), 1);
            assert!(matches!(
                dictionary.update_state(&"bob", set("a", 2)),
                Err(UpdateError { reason: Refusal::Locked { .. }, .. })
            ));
            let failing = dictionary.update_state(&"alice", set("a", 2).if_absent("a"));
            assert!(matches!(failing, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
            assert_eq!(dictionary.update_state(&"bob", Change::new()).unwrap().get(), 1);
            assert_eq!(dictionary.change_buffer().flush().unwrap().updates().count(), 1);
            assert_eq!(dictionary.snapshot()["a"], 1);
            assert_eq!(dictionary.update_locks(&"alice", LockRequest::new().release("a")).unwrap().released, ["a"]);
            dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
            assert_eq!(dictionary.clear_locks(), ["a"]);
            assert!(dictionary.freeze());
        });
        drop(guard);
    });
}

#[test]
fn while_locked_the_content_cannot_be_locked_by_another() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let guard = dictionary.lock_content().unwrap();
        elsewhere(|| {
            assert_eq!(dictionary.try_lock_content().unwrap_err(), LockContentError::ContentLocked);
            assert_eq!(dictionary.lock_content_timeout(Duration::ZERO).unwrap_err(), LockContentError::ContentLocked);
        });
        drop(guard);
        elsewhere(|| {
            drop(dictionary.try_lock_content().unwrap());
            drop(dictionary.lock_content_timeout(Duration::ZERO).unwrap());
        });
    });
}

#[test]
fn a_waiter_for_the_content_gets_it_when_it_is_unlocked() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let mut guard = dictionary.lock_content().unwrap();
        thread::scope(|scope| {
            let waiters = [Duration::MAX, SECOND * 3600].map(|timeout| {
                let dictionary = &dictionary;
                spawn_waiting(scope, move || dictionary.lock_content_timeout(timeout).unwrap().get("a").copied())
            });
            let patient = spawn_waiting(scope, || dictionary.lock_content().unwrap().get("a").copied());
            guard.update_state(&"alice", set("a", 1)).unwrap();
            drop(guard);
            for waiter in waiters.into_iter().chain([patient]) {
                assert_eq!(waiter.join().unwrap(), Some(1));
            }
        });
    });
}

#[test]
fn waiting_for_the_content_ends_at_the_timeout() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let guard = dictionary.lock_content().unwrap();
        thread::scope(|scope| {
            let waiter = spawn_waiting(scope, || dictionary.lock_content_timeout(SECOND).err());
            while !waiter.is_finished() {
                clock.advance(SECOND);
                thread::yield_now();
            }
            assert_eq!(waiter.join().unwrap(), Some(LockContentError::ContentLocked));
        });
        drop(guard);
        let system = Dictionary::new();
        let _guard = system.lock_content().unwrap();
        let waited = elsewhere(|| system.lock_content_timeout(Duration::from_millis(1)).err());
        assert_eq!(waited, Some(LockContentError::ContentLocked));
    });
}

#[test]
fn writing_past_the_guard_from_its_own_thread_is_an_error() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let guard = dictionary.lock_content().unwrap();
        let refusals = [
            dictionary.update_state(&"alice", set("a", 1)),
            dictionary.try_update_state(&"alice", set("a", 1)),
            dictionary.update_state_with(&"alice", |_| set("a", 1)),
        ];
        for refused in refusals {
            let Err(UpdateError { change, reason: Refusal::ContentLockedByThisThread, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(change, set("a", 1));
        }
        assert!(guard.is_empty());
        drop(guard);
        assert!(dictionary.update_state(&"alice", set("a", 1)).is_ok());
    });
}

#[test]
fn holding_the_content_twice_from_one_thread_is_an_error() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let _guard = dictionary.lock_content().unwrap();
        let refusals = [
            dictionary.lock_content().err(),
            dictionary.try_lock_content().err(),
            dictionary.lock_content_timeout(NANOSECOND).err(),
        ];
        assert_eq!(refusals, [Some(LockContentError::ContentLockedByThisThread); 3]);
    });
}

#[test]
fn guards_of_different_dictionaries_do_not_get_in_each_others_way() {
    let (one, other) = (Dictionary::new(), Dictionary::new());
    let (_one, _other) = (one.lock_content().unwrap(), other.lock_content().unwrap());
    let third = Dictionary::new();
    assert!(third.update_state(&"alice", set("a", 1)).is_ok());
}

#[test]
fn refusals_for_other_reasons_come_before_locked_content() {
    let dictionary = Dictionary::new();
    let _guard = dictionary.lock_content().unwrap();
    dictionary.update_locks(&"bob", LockRequest::new().acquire("a", None)).unwrap();
    let write = |change| dictionary.try_update_state(&"alice", change);
    assert!(matches!(write(set("a", 1)), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    assert!(matches!(
        write(set("b", 1).if_present("b")),
        Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })
    ));
    dictionary.freeze();
    assert!(matches!(write(set("b", 1)), Err(UpdateError { reason: Refusal::Frozen, .. })));
}

#[test]
fn a_panic_while_the_content_is_locked_unlocks_it() {
    let dictionary = Dictionary::new();
    let panicked = panic::catch_unwind(|| {
        let _guard = dictionary.lock_content().unwrap();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    assert!(dictionary.try_update_state(&"alice", set("a", 1)).is_ok());
}

#[test]
fn a_leaked_guard_stops_writers_that_do_not_wait_and_nothing_else() {
    within_a_minute(|| {
        let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
        mem::forget(dictionary.lock_content().unwrap());
        elsewhere(|| {
            let refused = dictionary.try_update_state(&"alice", set("a", 2));
            assert!(matches!(refused, Err(UpdateError { reason: Refusal::ContentLocked, .. })));
            assert_eq!(dictionary.snapshot()["a"], 1);
            assert_eq!(dictionary.change_buffer().flush().unwrap().count(), 1);
        });
        thread::scope(|scope| {
            let waiter = spawn_waiting(scope, || dictionary.update_state(&"alice", set("a", 2)));
            dictionary.freeze();
            assert!(matches!(waiter.join().unwrap(), Err(UpdateError { reason: Refusal::Frozen, .. })));
        });
    });
}

#[test]
fn a_guard_cannot_be_sent_to_another_thread() {
    trait AmbiguousIfSend<A> {
        fn check() {}
    }
    impl<T: ?Sized> AmbiguousIfSend<()> for T {}
    impl<T: ?Sized + Send> AmbiguousIfSend<u8> for T {}
    <ContentGuard<'static, u8, u8, u8, u8> as AmbiguousIfSend<_>>::check();
}

#[test]
fn a_guard_can_be_printed() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let guard = dictionary.lock_content().unwrap();
    assert_eq!(format!("{guard:?}"), r#"ContentGuard { content: {"a": 1}, .. }"#);
}

#[test]
fn a_guard_shows_what_was_committed_through_it_also_if_a_destructor_panics_afterwards() {
    let dictionary: StateDictionary<&str, Grenade, &str> = StateDictionary::new();
    let mut guard = dictionary.lock_content().unwrap();
    // The first value is dropped with the change, when the second has been committed.
    let change = Change::new().set("a", Grenade(true)).set("a", Grenade(false));
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(|| guard.update_state(&"alice", change))).is_err());
    assert!(guard.contains_key("a"));
    assert_eq!(guard.revision(), dictionary.revision());
}
