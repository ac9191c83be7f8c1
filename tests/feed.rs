//! Following the content: flushes and subscriptions.

mod common;

use common::{
    ALMOST_A_SECOND, Dictionary, NANOSECOND, SECOND, commit, content, parts, remove, replay, set, spawn_waiting,
    with_manual_clock, within_a_minute,
};
use state_dictionary::{BufferOptions, FlushTimeoutError, Revision, StateDictionary, Tombstones, TryFlushError};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

fn with_tombstones<K>() -> BufferOptions<K> {
    BufferOptions::new().tombstones(Tombstones::Always)
}

#[test]
fn the_first_flush_gives_all_content_and_each_later_one_what_changed() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1), ("b", 1)]).build();
    let buffer = dictionary.change_buffer();
    commit(&dictionary, [set("c", 1)]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("a", 1), ("b", 1), ("c", 1)], vec![]));
    commit(&dictionary, [set("b", 2), remove("a"), set("d", 1)]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("b", 2), ("d", 1)], vec!["a"]));
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
}

#[test]
fn only_the_latest_value_of_a_key_is_delivered() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    commit(&dictionary, (0..10).map(|value| set("a", value)));
    assert_eq!(parts(&buffer.try_flush().unwrap()).0, [("a", 9)]);
    commit(&dictionary, [set("a", 10), remove("a"), set("a", 11)]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("a", 11)], vec![]));
    commit(&dictionary, [remove("a"), set("a", 12), remove("a")]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["a"]));
}

#[test]
fn the_first_flush_on_an_empty_dictionary_waits_and_try_flush_returns_empty() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let buffer = dictionary.change_buffer();
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
        assert_eq!(buffer.flush_timeout(Duration::ZERO).unwrap_err(), FlushTimeoutError::TimedOut);
        thread::scope(|scope| {
            let flushing = spawn_waiting(scope, || parts(&buffer.flush().unwrap()));
            commit(&dictionary, [set("a", 1)]);
            assert_eq!(flushing.join().unwrap(), (vec![("a", 1)], vec![]));
        });
    });
}

#[test]
fn the_first_flush_waits_also_if_everything_was_removed_before() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let buffer = dictionary.change_buffer();
    commit(&dictionary, [remove("a")]);
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
}

#[test]
fn a_key_set_and_removed_between_two_flushes_is_not_mentioned() {
    for history_limit in [0, 1, 2, 100] {
        let dictionary: Dictionary =
            StateDictionary::builder().history_limit(history_limit).content([("z", 0)]).build();
        let buffer = dictionary.change_buffer();
        commit(&dictionary, [set("a", 1), remove("a")]);
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("z", 0)], vec![]));
        commit(&dictionary, [set("b", 1), remove("b"), set("b", 1), remove("b"), set("c", 1).remove("c")]);
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
        commit(&dictionary, [remove("z"), set("d", 1), remove("d")]);
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["z"]), "history limit {history_limit}");
    }
}

#[test]
fn a_key_touched_twice_in_the_change_that_removes_it_is_removed() {
    for change in [remove("z").remove("z"), set("z", 1).remove("z"), remove("z").set("z", 1).remove("z")] {
        let dictionary: Dictionary = StateDictionary::builder().content([("z", 0)]).build();
        let buffer = dictionary.change_buffer();
        buffer.try_flush().unwrap();
        commit(&dictionary, [change]);
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["z"]));
    }
}

#[test]
fn a_key_delivered_removed_and_set_again_is_an_update() {
    for history_limit in [0, 1, 100] {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
        let buffer = dictionary.change_buffer();
        commit(&dictionary, [set("a", 1)]);
        buffer.try_flush().unwrap();
        commit(&dictionary, [remove("a"), set("a", 1)]);
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("a", 1)], vec![]));
    }
}

#[test]
fn removing_a_key_that_is_not_there_delivers_nothing_and_waiters_keep_waiting() {
    within_a_minute(|| {
        let dictionary: Dictionary = StateDictionary::builder().content([("z", 0)]).build();
        let buffer = dictionary.change_buffer();
        buffer.flush().unwrap();
        thread::scope(|scope| {
            let flushing = spawn_waiting(scope, || buffer.flush().unwrap());
            commit(&dictionary, (0..100).map(|_| remove("a")));
            commit(&dictionary, [set("b", 1)]);
            let delivery = flushing.join().unwrap();
            assert_eq!(parts(&delivery), (vec![("b", 1)], vec![]));
            assert_eq!((delivery.since().get(), delivery.revision().get()), (1, 102));
        });
    });
}

#[test]
fn with_tombstones_always_every_removal_is_delivered() {
    let dictionary: Dictionary = StateDictionary::builder().content([("z", 0)]).build();
    let buffer = dictionary.change_buffer_with(with_tombstones());
    commit(&dictionary, [remove("absent")]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("z", 0)], vec!["absent"]));
    commit(&dictionary, [remove("absent")]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["absent"]));
    commit(&dictionary, [set("a", 1), remove("a"), remove("b"), set("b", 1)]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("b", 1)], vec!["a"]));
}

#[test]
fn with_tombstones_a_removal_from_an_empty_dictionary_wakes_the_first_flush() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        commit(&dictionary, [remove("before the buffer was made")]);
        let buffer = dictionary.change_buffer_with(with_tombstones());
        thread::scope(|scope| {
            let flushing = spawn_waiting(scope, || buffer.flush().unwrap());
            commit(&dictionary, [remove("a")]);
            let delivery = flushing.join().unwrap();
            assert_eq!(parts(&delivery), (vec![], vec!["a"]));
            assert_eq!((delivery.since(), delivery.revision().get(), delivery.count()), (Revision::ZERO, 2, 1));
        });
    });
}

#[test]
fn behind_the_history_a_buffer_with_tombstones_still_delivers_the_removals_of_what_it_had_delivered() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).content([("a", 1), ("b", 1)]).build();
    let buffer = dictionary.change_buffer_with(with_tombstones());
    buffer.try_flush().unwrap();
    commit(&dictionary, [remove("a").remove("absent"), set("b", 2), set("b", 3), set("b", 4)]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("b", 4)], vec!["a"]));
    commit(&dictionary, [remove("absent")]);
    assert_eq!(parts(&buffer.try_flush().unwrap()).1, ["absent"], "exact again");
}

#[test]
fn behind_the_history_a_buffer_with_tombstones_is_exact_again_after_a_flush_that_finds_nothing() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).content([("a", 1)]).build();
    let buffer = dictionary.change_buffer_with(with_tombstones());
    buffer.try_flush().unwrap();
    commit(&dictionary, (0..3).map(|_| remove("absent")));
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
    commit(&dictionary, [remove("absent")]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["absent"]));
}

#[test]
fn behind_the_history_before_its_first_delivery_a_buffer_with_tombstones_is_exact_again_after_a_flush() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).build();
    let buffer = dictionary.change_buffer_with(with_tombstones());
    commit(&dictionary, (0..3).map(|_| remove("absent")));
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
    commit(&dictionary, [remove("absent")]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["absent"]));
}

#[test]
fn setting_the_same_value_again_is_delivered() {
    for history_limit in [0, 100] {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
        let buffer = dictionary.change_buffer();
        for revision in 1..=3 {
            commit(&dictionary, [set("a", 1)]);
            let delivery = buffer.try_flush().unwrap();
            assert_eq!(delivery.updates().next().unwrap().1.revision().get(), revision);
        }
    }
}

#[test]
fn a_buffer_that_lags_behind_a_small_history_catches_up_exactly() {
    for history_limit in [0, 1, 2] {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
        let buffer = dictionary.change_buffer();
        commit(&dictionary, [set("kept", 1).set("changed", 1).set("removed", 1).set("again", 1)]);
        buffer.try_flush().unwrap();
        let last = [set("removed", 2), remove("removed"), remove("again"), set("again", 2)];
        commit(&dictionary, (0..9).map(|value| set("changed", value)).chain(last));
        commit(&dictionary, [set("new", 1), set("gone", 1), remove("gone")]);
        let delivery = buffer.try_flush().unwrap();
        assert_eq!(parts(&delivery), (vec![("again", 2), ("changed", 8), ("new", 1)], vec!["removed"]));
        assert_eq!((delivery.since().get(), delivery.revision()), (1, dictionary.revision()));
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
        commit(&dictionary, [remove("new")]);
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["new"]), "back on the history");
    }
}

#[test]
fn deliveries_join_without_a_gap_and_begin_at_zero() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let buffer = dictionary.change_buffer();
    let span = || buffer.try_flush().map(|delivery| (delivery.since().get(), delivery.revision().get()));
    commit(&dictionary, [set("b", 1)]);
    assert_eq!(span(), Ok((0, 2)));
    commit(&dictionary, [remove("x"), set("c", 1)]);
    assert_eq!(span(), Ok((2, 4)));
    commit(&dictionary, [remove("x")]);
    assert!(buffer.try_flush().is_err());
    commit(&dictionary, [remove("c")]);
    assert_eq!(span(), Ok((4, 6)));
}

#[test]
fn a_delivery_can_be_taken_apart_printed_and_applied_to_another_dictionary() {
    let dictionary = Dictionary::new();
    let (buffer, other) = (dictionary.change_buffer(), Dictionary::new());
    for change in [set("a", 1).set("b", 1), set("b", 2).remove("a").set("c", 3)] {
        commit(&dictionary, [change]);
        commit(&other, [buffer.try_flush().unwrap().to_change()]);
        assert_eq!(content(&other.snapshot()), content(&dictionary.snapshot()));
    }
    commit(&dictionary, [set("b", 5).remove("c")]);
    let delivery = buffer.try_flush().unwrap();
    let shown = format!("{:?}", delivery.clone());
    assert!(shown.starts_with("Delivery { since: Revision(2), revision: Revision(3), full: false, "), "{shown}");
    assert!(shown.ends_with(r#"updates: [("b", 5 @ 3)], removals: ["c"] }"#) && delivery.count() == 2, "{shown}");
    let (updates, removals) = delivery.to_parts();
    assert_eq!((updates.len(), removals), (1, vec!["c"]));
    assert!(format!("{buffer:?}").contains("delivered: Revision(3), ended: false"));
}

#[test]
fn buffers_follow_independently_of_each_other() {
    let dictionary = Dictionary::new();
    let (quick, slow) = (dictionary.change_buffer(), dictionary.change_buffer());
    for value in 0..5 {
        commit(&dictionary, [set("a", value)]);
        assert_eq!(parts(&quick.try_flush().unwrap()).0, [("a", value)]);
    }
    assert_eq!(parts(&slow.try_flush().unwrap()).0, [("a", 4)]);
    assert_eq!(parts(&dictionary.change_buffer().try_flush().unwrap()).0, [("a", 4)]);
}

#[test]
fn of_several_threads_that_flush_one_buffer_each_change_goes_to_one() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let buffer = dictionary.change_buffer();
        let (deliver, deliveries) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..3 {
                let (deliver, buffer) = (deliver.clone(), &buffer);
                scope.spawn(move || std::iter::from_fn(|| buffer.flush().ok()).try_for_each(|d| deliver.send(d)));
            }
            commit(&dictionary, (0..300).map(|value| set("a", value)));
            dictionary.freeze();
        });
        drop(deliver);
        let mut deliveries: Vec<_> = deliveries.iter().collect();
        deliveries.sort_by_key(state_dictionary::Delivery::since);
        let mut reached = Revision::ZERO;
        for delivery in &deliveries {
            assert_eq!(
                (delivery.since(), delivery.updates().next().unwrap().1.revision()),
                (reached, delivery.revision())
            );
            reached = delivery.revision();
        }
        assert_eq!(reached.get(), 300);
    });
}

#[test]
fn threads_that_answer_each_other_are_woken_every_time() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let answer = |own: &'static str, others: &'static str| {
            let (dictionary, buffer) = (&dictionary, dictionary.change_buffer());
            move || {
                for round in 0..1_000 {
                    commit(dictionary, [set(own, round)]);
                    while dictionary.get(others).is_none_or(|answer| *answer < round) {
                        buffer.flush().unwrap();
                    }
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(answer("a", "b"));
            scope.spawn(answer("b", "a"));
        });
    });
}

#[test]
fn a_timed_flush_ends_at_its_deadline() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let buffer = dictionary.change_buffer();
        thread::scope(|scope| {
            let flushing = spawn_waiting(scope, || buffer.flush_timeout(SECOND).map(drop));
            while !flushing.is_finished() {
                clock.advance(SECOND / 2);
                thread::yield_now();
            }
            assert_eq!(flushing.join().unwrap(), Err(FlushTimeoutError::TimedOut));
        });
        let system = Dictionary::new();
        let begin = Instant::now();
        let timeout = Duration::from_millis(2);
        assert_eq!(system.change_buffer().flush_timeout(timeout).map(drop), Err(FlushTimeoutError::TimedOut));
        assert!(begin.elapsed() >= timeout);
    });
}

#[test]
fn a_timed_flush_is_woken_by_a_commit() {
    within_a_minute(|| {
        for timeout in [SECOND * 3600, Duration::MAX] {
            for dictionary in [with_manual_clock().0, Dictionary::new()] {
                let buffer = dictionary.change_buffer();
                thread::scope(|scope| {
                    let flushing =
                        spawn_waiting(scope, || buffer.flush_timeout(timeout).map(|delivery| parts(&delivery).0));
                    commit(&dictionary, [set("a", 1)]);
                    assert_eq!(flushing.join().unwrap(), Ok(vec![("a", 1)]));
                });
            }
        }
    });
}

#[test]
fn what_is_pending_is_delivered_even_with_no_time_left() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    assert!(dictionary.change_buffer().flush_timeout(Duration::ZERO).is_ok());
}

#[test]
fn a_subscription_waits_at_least_its_interval_between_deliveries() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let buffer = dictionary.change_buffer();
        commit(&dictionary, [set("a", 0)]);
        thread::scope(|scope| {
            let (deliver, deliveries) = mpsc::channel();
            let subscriber = (clock.clone(), &buffer);
            scope.spawn(move || {
                let (clock, buffer) = subscriber;
                buffer.subscribe(SECOND).try_for_each(|delivery| deliver.send((clock.elapsed(), delivery)))
            });
            let (mut last, _) = deliveries.recv().unwrap();
            assert_eq!(last, Duration::ZERO, "the first does not wait");
            for value in 1..50 {
                commit(&dictionary, [set("a", -value), set("a", value)]);
                clock.advance(ALMOST_A_SECOND);
                assert!(deliveries.try_recv().is_err());
                clock.advance(NANOSECOND);
                let (now, delivery) = deliveries.recv().unwrap();
                assert!(now >= last + SECOND);
                assert_eq!(parts(&delivery).0, [("a", value)]);
                last = now;
            }
            dictionary.freeze();
        });
    });
}

#[test]
fn a_subscription_by_the_systems_clock_waits_for_its_interval() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    let interval = Duration::from_millis(20);
    let mut subscription = buffer.subscribe(interval);
    let begin = Instant::now();
    for value in 0..3 {
        commit(&dictionary, [set("a", value)]);
        assert_eq!(parts(&subscription.next().unwrap()).0, [("a", value)]);
    }
    assert!(begin.elapsed() >= interval * 2);
}

#[test]
fn a_subscription_makes_no_burst_after_a_pause() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let buffer = dictionary.change_buffer();
        let mut subscription = buffer.subscribe(SECOND);
        commit(&dictionary, [set("a", 0)]);
        subscription.next().unwrap();
        clock.advance(SECOND * 10);
        commit(&dictionary, [set("a", 1)]);
        subscription.next().unwrap();
        commit(&dictionary, [set("a", 2)]);
        thread::scope(|scope| {
            let after_pause = spawn_waiting(scope, || {
                let delivery = subscription.next().unwrap();
                (clock.elapsed(), parts(&delivery).0)
            });
            for value in 3..200 {
                commit(&dictionary, [set("a", value)]);
            }
            clock.advance(SECOND);
            assert_eq!(after_pause.join().unwrap(), (SECOND * 11, vec![("a", 199)]));
        });
    });
}

#[test]
fn an_interval_of_zero_is_no_limit() {
    let (dictionary, _clock) = with_manual_clock();
    let buffer = dictionary.change_buffer();
    let mut subscription = buffer.subscribe(Duration::ZERO);
    for value in 0..10 {
        commit(&dictionary, [set("a", value)]);
        assert_eq!(parts(&subscription.next().unwrap()).0, [("a", value)]);
    }
}

#[test]
fn a_subscription_yields_everything_and_stays_ended() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let buffer = dictionary.change_buffer();
    dictionary.freeze();
    let mut subscription = buffer.subscribe(Duration::MAX);
    let mut replica = BTreeMap::new();
    subscription.by_ref().for_each(|delivery| replay(&delivery, &mut replica));
    assert_eq!(replica, [("a", 1)].into());
    assert!(subscription.next().is_none() && subscription.next().is_none());
}
