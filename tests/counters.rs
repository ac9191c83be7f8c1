//! What is counted, and what is not.

mod common;

use common::{Dictionary, SECOND, with_manual_clock};
use state_dictionary::{BufferOptions, Change, Counters, Delivery, LockRequest, StateDictionary};
use std::cell::Cell;
use std::sync::{Arc, Barrier};
use std::thread;

fn set(dictionary: &Dictionary, key: &'static str) {
    assert!(dictionary.update_state(&"alice", Change::new().set(key, 1)).is_ok());
}

/// What differs from a dictionary to which nothing has happened.
fn changed(dictionary: &Dictionary, change: impl FnOnce(&mut Counters)) {
    let mut expected = Counters::default();
    change(&mut expected);
    assert_eq!(dictionary.counters(), expected);
}

#[test]
fn a_new_dictionary_has_counted_nothing() {
    changed(&Dictionary::new(), |_| ());
}

#[test]
fn commits_are_counted_and_initial_content_is_one() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1), ("b", 1)]).build();
    set(&dictionary, "a");
    set(&dictionary, "c");
    dictionary.update_state(&"alice", Change::new()).unwrap();
    changed(&dictionary, |counters| counters.commits = 3);
}

#[test]
fn a_closure_that_was_too_late_is_a_retry() {
    let dictionary = Dictionary::new();
    let runs = Cell::new(0);
    dictionary
        .update_state_with(&"bob", |_| {
            runs.set(runs.get() + 1);
            if runs.get() <= 2 {
                thread::scope(|scope| scope.spawn(|| set(&dictionary, "a")).join().unwrap());
            }
            Change::new().set("b", 1)
        })
        .unwrap();
    assert_eq!(runs.get(), 3);
    changed(&dictionary, |counters| (counters.commits, counters.retries) = (3, 2));
}

#[test]
fn a_commit_that_meets_an_expired_lock_is_retried() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"bob", LockRequest::new().acquire("a", SECOND)).unwrap();
    clock.advance(SECOND);
    set(&dictionary, "a");
    changed(&dictionary, |counters| (counters.commits, counters.retries) = (1, 1));
}

#[test]
fn the_retries_of_a_call_that_fails_are_counted() {
    let dictionary = Dictionary::new();
    let given_up = dictionary.update_state_with_limit(&"bob", 2, |_| {
        thread::scope(|scope| scope.spawn(|| set(&dictionary, "a")).join().unwrap());
        Change::new().set("b", 1)
    });
    assert!(given_up.is_err());
    changed(&dictionary, |counters| (counters.commits, counters.retries) = (2, 2));
}

#[test]
fn refusals_are_counted_whatever_the_reason() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None).acquire("b", None)).unwrap();
    let refused = |by: &dyn Fn() -> bool| {
        let before = dictionary.counters();
        assert!(by());
        assert_eq!(dictionary.counters().refusals, before.refusals + 1);
    };
    let change = || Change::new().set("a", 1).set("b", 1);
    refused(&|| dictionary.update_state(&"bob", change()).is_err());
    refused(&|| dictionary.update_state_with(&"bob", |_| change()).is_err());
    refused(&|| dictionary.update_locks(&"bob", LockRequest::new().acquire("a", None)).is_err());
    refused(&|| dictionary.session("bob").update_state(change()).is_err());
    refused(&|| dictionary.session("bob").update_ephemeral(change()).is_err());
    refused(&|| dictionary.session("bob").update_locks(LockRequest::new().acquire("a", None)).is_err());
    refused(&|| dictionary.lock_content().unwrap().update_state(&"bob", change()).is_err());
    refused(&|| dictionary.update_state(&"alice", change().if_present("a")).is_err());
    dictionary.freeze();
    refused(&|| dictionary.update_state(&"alice", change()).is_err());
    refused(&|| dictionary.update_locks(&"alice", LockRequest::new().acquire("c", None)).is_err());
    changed(&dictionary, |counters| counters.refusals = 10);
}

#[test]
fn other_errors_are_no_refusals() {
    let dictionary = Dictionary::new();
    let guard = dictionary.lock_content().unwrap();
    assert!(dictionary.update_state(&"alice", Change::new().set("a", 1)).is_err());
    let elsewhere = || dictionary.try_update_state(&"alice", Change::new().set("a", 1)).is_err();
    assert!(thread::scope(|scope| scope.spawn(elsewhere).join().unwrap()));
    drop(guard);
    let zero = LockRequest::new().acquire("a", std::time::Duration::ZERO);
    assert!(dictionary.update_locks(&"alice", zero).is_err());
    dictionary
        .update_state_with(&"alice", |_| {
            assert!(dictionary.update_state(&"alice", Change::new().set("a", 1)).is_err());
            Change::new()
        })
        .unwrap();
    changed(&dictionary, |_| ());
}

#[cfg(feature = "async")]
#[test]
fn locked_content_that_is_awaited_is_neither_a_refusal_nor_a_retry() {
    use futures_lite::future::{block_on, yield_now, zip};
    let dictionary = Dictionary::new();
    let guard = block_on(dictionary.lock_content_async());
    let let_go = async {
        yield_now().await;
        drop(guard);
    };
    let alice = dictionary.update_state_async(&"alice", Change::new().set("a", 1));
    let bob = dictionary.update_state_with_async(&"bob", |_| Change::new().set("b", 1));
    let ((alice, bob), ()) = block_on(zip(zip(alice, bob), let_go));
    assert!(alice.is_ok() && bob.is_ok());
    changed(&dictionary, |counters| counters.commits = 2);
}

#[test]
fn a_flush_that_lags_behind_the_history_is_a_catch_up() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).build();
    set(&dictionary, "a");
    let buffer = dictionary.change_buffer();
    buffer.flush().unwrap();
    let catch_ups_after = |commits| {
        (0..commits).for_each(|_| set(&dictionary, "a"));
        buffer.flush().unwrap();
        dictionary.counters().catch_ups
    };
    assert_eq!(catch_ups_after(1), 0);
    assert_eq!(catch_ups_after(3), 1);
    assert_eq!(catch_ups_after(1), 1);
    assert_eq!(catch_ups_after(3), 2);
    // The first delivery compares with nothing.
    let buffer = dictionary.change_buffer();
    (0..3).for_each(|_| set(&dictionary, "a"));
    buffer.flush().unwrap();
    assert_eq!(dictionary.counters().catch_ups, 2);
}

#[test]
fn a_buffer_is_live_until_it_is_dropped() {
    let dictionary = Dictionary::new();
    let live = || dictionary.counters().live_buffers;
    let first = dictionary.change_buffer();
    let second = dictionary.change_buffer();
    let third = dictionary.change_buffer();
    assert_eq!(live(), 3);
    drop(second);
    assert_eq!(live(), 2);
    let fourth = dictionary.change_buffer();
    assert_eq!(live(), 3);
    third.close();
    assert_eq!(live(), 3, "it still has content to deliver, and memory");
    drop((first, third, fourth));
    assert_eq!(live(), 0);
}

#[test]
fn buffers_may_outlive_the_dictionary() {
    let dictionary = Dictionary::new();
    set(&dictionary, "a");
    let buffer = dictionary.change_buffer();
    drop(dictionary);
    assert!(buffer.flush().is_ok());
}

#[test]
fn the_lag_is_that_of_the_slowest() {
    let dictionary = Dictionary::new();
    let lag = || dictionary.counters().slowest_lag;
    let (slow, fast) = (dictionary.change_buffer(), dictionary.change_buffer());
    set(&dictionary, "a");
    set(&dictionary, "a");
    fast.flush().unwrap();
    assert_eq!(lag(), 2, "one has never flushed");
    set(&dictionary, "a");
    slow.flush().unwrap();
    assert_eq!(lag(), 1, "now it is the other one");
    fast.flush().unwrap();
    assert_eq!(lag(), 0);
    set(&dictionary, "a");
    drop(slow);
    fast.flush().unwrap();
    assert_eq!(lag(), 0);
}

#[test]
fn a_buffer_that_never_flushed_is_behind_by_what_came_since_it_was_made() {
    let dictionary = Dictionary::new();
    set(&dictionary, "a");
    let buffer = dictionary.change_buffer();
    assert_eq!(dictionary.counters().slowest_lag, 0);
    (0..5).for_each(|_| set(&dictionary, "a"));
    assert_eq!(dictionary.counters().slowest_lag, 5);
    drop(buffer);
    assert_eq!(dictionary.counters().slowest_lag, 0);
}

#[test]
fn a_buffer_that_resumes_is_behind_from_its_position_on() {
    let dictionary = Dictionary::new();
    set(&dictionary, "a");
    let position = dictionary.position();
    (0..3).for_each(|_| set(&dictionary, "a"));
    let buffer = dictionary.change_buffer_with(BufferOptions::new().resume(position));
    assert_eq!(dictionary.counters().slowest_lag, 3);
    buffer.flush().unwrap();
    assert_eq!(dictionary.counters().slowest_lag, 0);
}

#[test]
fn a_filtered_buffer_that_looked_is_not_behind() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer_with(BufferOptions::new().prefixes(["cursor."]));
    (0..3).for_each(|_| set(&dictionary, "drawing"));
    assert_eq!(dictionary.counters().slowest_lag, 3);
    assert!(buffer.try_flush().is_err());
    assert_eq!(dictionary.counters().slowest_lag, 0);
}

#[test]
fn a_frozen_buffer_is_behind_its_own_end() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    let lag = || dictionary.counters().slowest_lag;
    (0..3).for_each(|_| set(&dictionary, "a"));
    assert!(buffer.close());
    (0..4).for_each(|_| set(&dictionary, "a"));
    assert_eq!(lag(), 3);
    assert!(!buffer.close());
    assert_eq!(lag(), 3);
    buffer.flush().unwrap();
    assert_eq!(lag(), 0);
    set(&dictionary, "a");
    assert_eq!(lag(), 0);
}

#[test]
fn the_buffers_of_a_frozen_dictionary_lag_until_their_last_flush() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    (0..3).for_each(|_| set(&dictionary, "a"));
    dictionary.freeze();
    assert_eq!(dictionary.counters().slowest_lag, 3);
    assert!(!buffer.close());
    assert_eq!(dictionary.counters().slowest_lag, 3);
    buffer.flush().unwrap();
    assert_eq!(dictionary.counters().slowest_lag, 0);
}

#[test]
fn nothing_is_lost_when_threads_count_at_once() {
    const THREADS: usize = 4;
    const REFUSALS: usize = 500;
    let dictionary = Arc::new(Dictionary::new());
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..REFUSALS {
                    let buffer = dictionary.change_buffer();
                    assert!(dictionary.update_state(&"bob", Change::new().set("a", 1)).is_err());
                    assert!((1..=THREADS).contains(&dictionary.counters().live_buffers));
                    drop(buffer);
                }
            });
        }
    });
    changed(&dictionary, |counters| counters.refusals = (THREADS * REFUSALS) as u64);
}

#[test]
fn a_broadcast_counts_as_one_buffer_however_many_follow_it() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).content([("a", 1)]).build();
    let frames = dictionary.broadcast(BufferOptions::new(), Delivery::count);
    let followers = [(); 3].map(|()| frames.join(None));
    for key in ["a", "b", "a"] {
        set(&dictionary, key);
    }
    let counters = dictionary.counters();
    assert_eq!((counters.live_buffers, counters.slowest_lag, counters.catch_ups), (1, 3, 0));
    assert!(frames.publish());
    let counters = dictionary.counters();
    assert_eq!((counters.live_buffers, counters.slowest_lag, counters.catch_ups), (1, 0, 1));
    drop(frames);
    assert_eq!(dictionary.counters().live_buffers, 1, "it has followers");
    drop(followers);
    assert_eq!(dictionary.counters().live_buffers, 0);
}
