//! The end: of all changes, of one buffer, of the dictionary.

mod common;

use common::{Dictionary, SECOND, parts, set, spawn_waiting, within_a_minute};
use state_dictionary::{FlushError, FlushTimeoutError, Refusal, StateDictionary, TryFlushError, UpdateError};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

#[test]
fn freezing_ends_all_changes_and_only_the_first_call_did_it() {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    assert!(!dictionary.is_frozen());
    assert!(dictionary.freeze());
    assert!(!dictionary.freeze());
    assert!(dictionary.is_frozen());
    for refused in [
        dictionary.update_state(&"alice", set("a", 2)),
        dictionary.try_update_state(&"alice", set("a", 2)),
        dictionary.lock_content().unwrap().update_state(&"alice", set("a", 2)),
    ] {
        let Err(UpdateError { change, reason: Refusal::Frozen, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(change, set("a", 2));
    }
    assert_eq!((dictionary.snapshot()["a"], dictionary.revision().get()), (1, 1));
}

#[test]
fn freezing_while_the_content_is_locked_does_not_wait() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let mut guard = dictionary.lock_content().unwrap();
        assert!(dictionary.freeze());
        assert!(matches!(guard.update_state(&"alice", set("a", 1)), Err(UpdateError { reason: Refusal::Frozen, .. })));
    });
}

#[test]
fn freezing_wakes_a_writer_that_waits_for_locked_content() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let _guard = dictionary.lock_content().unwrap();
        thread::scope(|scope| {
            let plain = spawn_waiting(scope, || dictionary.update_state(&"alice", set("a", 1)));
            let with = spawn_waiting(scope, || dictionary.update_state_with(&"bob", |_| set("a", 1)));
            dictionary.freeze();
            for writer in [plain, with] {
                assert!(matches!(writer.join().unwrap(), Err(UpdateError { reason: Refusal::Frozen, .. })));
            }
        });
    });
}

#[test]
fn freezing_inside_update_state_with_refuses_its_change() {
    let dictionary = Dictionary::new();
    let refused = dictionary.update_state_with(&"alice", |_| {
        dictionary.freeze();
        set("a", 1)
    });
    assert!(matches!(refused, Err(UpdateError { reason: Refusal::Frozen, .. })));
    assert!(dictionary.snapshot().is_empty());
}

#[test]
fn buffers_deliver_what_is_pending_once_and_then_end() {
    let dictionary = Dictionary::new();
    let (late, done, never) = (dictionary.change_buffer(), dictionary.change_buffer(), dictionary.change_buffer());
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    done.try_flush().unwrap();
    late.try_flush().unwrap();
    dictionary.update_state(&"alice", set("b", 1).remove("a")).unwrap();
    done.try_flush().unwrap();
    dictionary.freeze();
    assert_eq!(parts(&late.try_flush().unwrap()), (vec![("b", 1)], vec!["a"]));
    assert_eq!(parts(&never.try_flush().unwrap()), (vec![("b", 1)], vec![]));
    for buffer in [late, done, never] {
        assert!(buffer.is_closed());
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Closed);
        within_a_minute(|| {
            assert_eq!(buffer.flush().unwrap_err(), FlushError);
            assert_eq!(buffer.flush_timeout(Duration::MAX).unwrap_err(), FlushTimeoutError::Closed);
            assert!(buffer.subscribe(Duration::ZERO).next().is_none());
        });
    }
}

#[test]
fn every_thread_that_waits_in_a_flush_is_woken_by_the_end() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let buffer = dictionary.change_buffer();
        thread::scope(|scope| {
            let patient = [(); 2].map(|()| spawn_waiting(scope, || buffer.flush().map(drop)));
            let timed = spawn_waiting(scope, || buffer.flush_timeout(Duration::MAX).map(drop).map_err(|_| FlushError));
            let subscribed = spawn_waiting(scope, || buffer.subscribe(SECOND).next().map(drop).ok_or(FlushError));
            dictionary.freeze();
            for waiter in patient.into_iter().chain([timed, subscribed]) {
                assert_eq!(waiter.join().unwrap(), Err(FlushError));
            }
        });
    });
}

#[test]
fn a_subscriber_asleep_in_its_interval_is_woken_by_the_end_and_gets_what_is_pending() {
    within_a_minute(|| {
        let ends: [fn(Dictionary, &state_dictionary::ChangeBuffer<_, _, _>); 3] = [
            |dictionary, _| assert!(dictionary.freeze()),
            |dictionary, _| drop(dictionary),
            |dictionary, buffer| {
                assert!(buffer.close());
                dictionary.update_state(&"alice", set("later", 1)).unwrap();
            },
        ];
        for end in ends {
            let dictionary = Dictionary::new();
            let buffer = dictionary.change_buffer();
            dictionary.update_state(&"alice", set("a", 1)).unwrap();
            thread::scope(|scope| {
                let mut subscription = buffer.subscribe(Duration::MAX);
                subscription.next().unwrap();
                let rest = spawn_waiting(scope, move || subscription.collect::<Vec<_>>());
                dictionary.update_state(&"alice", set("b", 1)).unwrap();
                dictionary.update_state(&"alice", set("b", 2)).unwrap();
                end(dictionary, &buffer);
                let rest = rest.join().unwrap();
                assert_eq!(rest.iter().map(parts).collect::<Vec<_>>(), [(vec![("b", 2)], vec![])]);
            });
        }
    });
}

#[test]
fn freezing_one_buffer_delivers_what_was_committed_before_once_and_then_ends_it() {
    let dictionary = Dictionary::new();
    let (frozen, other) = (dictionary.change_buffer(), dictionary.change_buffer());
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    frozen.try_flush().unwrap();
    dictionary.update_state(&"alice", set("a", 2)).unwrap();
    assert!(!frozen.is_closed());
    assert!(frozen.close());
    assert!(!frozen.close());
    assert!(frozen.is_closed());
    dictionary.update_state(&"alice", set("a", 3)).unwrap();
    let delivery = frozen.try_flush().unwrap();
    assert_eq!((parts(&delivery).0, delivery.revision().get()), (vec![("a", 2)], 2));
    assert_eq!(frozen.try_flush().unwrap_err(), TryFlushError::Closed);
    assert!(!frozen.close());
    assert_eq!(parts(&other.try_flush().unwrap()).0, [("a", 3)]);
    assert!(!dictionary.is_frozen() && !other.is_closed());
}

#[test]
fn freezing_a_buffer_with_nothing_pending_ends_it_at_once() {
    let dictionary = Dictionary::new();
    let (unused, used) = (dictionary.change_buffer(), dictionary.change_buffer());
    assert!(unused.close());
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    used.try_flush().unwrap();
    assert!(used.close());
    dictionary.update_state(&"alice", set("a", 2)).unwrap();
    assert_eq!([unused, used].map(|buffer| buffer.try_flush().unwrap_err()), [TryFlushError::Closed; 2]);
}

#[test]
fn freezing_a_buffer_from_another_thread_wakes_all_that_flush_it() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let buffer = dictionary.change_buffer();
        thread::scope(|scope| {
            let flushing = [(); 2].map(|()| spawn_waiting(scope, || buffer.flush().map(drop)));
            assert!(buffer.close());
            for thread in flushing {
                assert_eq!(thread.join().unwrap(), Err(FlushError));
            }
        });
    });
}

#[test]
fn a_closed_buffer_that_lags_behind_the_history_still_delivers_what_was_pending() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).build();
    let buffer = dictionary.change_buffer();
    dictionary.update_state(&"alice", set("a", 1).set("b", 1)).unwrap();
    buffer.try_flush().unwrap();
    dictionary.update_state(&"alice", set("c", 1).remove("a").set("b", 2)).unwrap();
    buffer.close();
    for value in 2..9 {
        dictionary.update_state(&"alice", set("c", value)).unwrap();
    }
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("b", 2), ("c", 1)], vec!["a"]));
}

#[test]
fn freezing_the_dictionary_after_a_buffer_does_not_prolong_the_buffer() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    buffer.close();
    dictionary.update_state(&"alice", set("a", 2)).unwrap();
    dictionary.freeze();
    assert!(!buffer.close());
    assert_eq!(parts(&buffer.try_flush().unwrap()).0, [("a", 1)]);
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Closed);
}

#[test]
fn a_buffer_made_after_freezing_delivers_the_final_content_once_and_then_ends() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    dictionary.freeze();
    let buffer = dictionary.change_buffer();
    assert!(buffer.is_closed());
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("a", 1)], vec![]));
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Closed);
}

#[test]
fn a_buffer_of_a_frozen_empty_dictionary_ends_at_once() {
    let dictionary = Dictionary::new();
    dictionary.freeze();
    assert_eq!(dictionary.change_buffer().try_flush().unwrap_err(), TryFlushError::Closed);
}

#[test]
fn dropping_the_dictionary_ends_its_feeds_after_the_final_content() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    let snapshot = dictionary.snapshot();
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    let last = dictionary.snapshot();
    drop(dictionary);
    assert!(buffer.is_closed());
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("a", 1)], vec![]));
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Closed);
    assert!(snapshot.is_empty());
    assert_eq!(last["a"], 1);
}

#[test]
fn dropping_the_dictionary_wakes_a_flush() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let buffer = Arc::new(dictionary.change_buffer());
        let flushing = thread::spawn({
            let buffer = Arc::clone(&buffer);
            move || buffer.flush().map(drop)
        });
        drop(dictionary);
        assert_eq!(flushing.join().unwrap(), Err(FlushError));
    });
}

#[test]
fn closing_a_buffer_that_the_dictionary_has_ended_already_reports_it() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    assert!(dictionary.freeze());
    assert!(buffer.is_closed() && !buffer.close());
}

#[test]
fn freezing_drops_the_tree_for_the_next_commit() {
    let dictionary = Dictionary::new();
    for value in 0..4 {
        dictionary.update_state(&"alice", set("a", value)).unwrap();
    }
    let owners = || dictionary.get("a").map(|entry| Arc::strong_count(entry.value()));
    assert_eq!(owners(), Some(3), "two trees, and what was got");
    dictionary.freeze();
    assert_eq!(owners(), Some(2));
}
