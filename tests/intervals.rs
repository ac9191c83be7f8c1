//! The interval of a subscription, by the manual clock.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{Dictionary, SECOND, commit, remove, set, spawn_waiting, with_manual_clock, within_a_minute};
use state_dictionary::{BufferOptions, ManualClock, StateDictionary};
use std::thread;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(250);

/// When the next delivery of the subscription comes, if the clock is moved, but not at once.
fn next_comes_at<I: Iterator>(subscription: &mut I, clock: &ManualClock) -> Option<Duration> {
    thread::scope(|scope| {
        let (done, finished) = std::sync::mpsc::channel();
        scope.spawn(move || {
            // A delivery that does not wait has come long before that.
            let mut pause = Duration::from_millis(100);
            while finished.recv_timeout(pause).is_err() {
                clock.advance(STEP);
                pause = Duration::from_millis(5);
            }
        });
        let at = subscription.next().map(|_| clock.elapsed());
        done.send(()).unwrap();
        at
    })
}

#[test]
fn after_a_long_wait_there_is_one_delivery_at_once_and_the_next_an_interval_later() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let buffer = dictionary.change_buffer();
        let mut subscription = buffer.subscribe(SECOND);
        commit(&dictionary, [set("a", 0)]);
        assert!(subscription.next().is_some());
        for round in 0..3 {
            // Nothing happens for many intervals, during which it waits in a flush.
            let began = clock.elapsed();
            let came = thread::scope(|scope| {
                let waiting = spawn_waiting(scope, || subscription.next().map(|_| clock.elapsed()));
                for _ in 0..100 {
                    clock.advance(SECOND);
                }
                commit(&dictionary, [set("a", round)]);
                waiting.join().unwrap().unwrap()
            });
            assert_eq!(came, began + 100 * SECOND, "it does not wait for an interval that is over");
            let mut last = came;
            for number in 0..4 {
                commit(&dictionary, [set("a", number)]);
                let next = next_comes_at(&mut subscription, &clock).unwrap();
                assert!(next >= last + SECOND, "a burst: {last:?}, then {next:?}");
                assert!(next < last + SECOND + 40 * STEP, "the interval is over: {last:?}, then {next:?}");
                last = next;
            }
        }
    });
}

#[test]
fn a_client_that_is_slow_between_two_deliveries_waits_for_the_rest_of_the_interval_alone() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let buffer = dictionary.change_buffer();
        let mut subscription = buffer.subscribe(2 * SECOND);
        commit(&dictionary, [set("a", 0)]);
        assert!(subscription.next().is_some());
        clock.advance(7 * SECOND);
        commit(&dictionary, [set("a", 1)]);
        assert!(subscription.next().is_some(), "at once: the clock is not moved");
        assert_eq!(clock.elapsed(), 7 * SECOND);
        clock.advance(SECOND);
        commit(&dictionary, [set("a", 2)]);
        assert!(next_comes_at(&mut subscription, &clock).unwrap() >= 9 * SECOND);
    });
}

#[test]
fn flushes_that_find_nothing_are_no_deliveries_and_do_not_begin_an_interval() {
    within_a_minute(|| {
        let clock = ManualClock::new();
        let dictionary: Dictionary = StateDictionary::builder().clock(&clock).build();
        let buffer = dictionary.change_buffer_with(BufferOptions::new().prefixes(["cursor."]));
        let mut subscription = buffer.subscribe(SECOND);
        commit(&dictionary, [set("cursor.a", 0)]);
        assert!(subscription.next().is_some());
        let came = thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || subscription.next().map(|_| clock.elapsed()));
            clock.advance(10 * SECOND);
            // Each wakes the flush, which finds nothing to deliver.
            commit(&dictionary, (0..100).map(|number| set("drawing", number)));
            commit(&dictionary, [remove("cursor.a")]);
            waiting.join().unwrap().unwrap()
        });
        assert_eq!(came, 10 * SECOND);
    });
}

#[test]
fn an_interval_of_zero_is_no_limit_and_one_beyond_the_clock_ends_with_the_feed() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let (buffer, another) = (dictionary.change_buffer(), dictionary.change_buffer());
        let mut subscription = buffer.subscribe(Duration::ZERO);
        for number in 0..10 {
            commit(&dictionary, [set("a", number)]);
            assert!(subscription.next().is_some());
        }
        assert_eq!(clock.elapsed(), Duration::ZERO);
        let mut endless = another.subscribe(Duration::MAX);
        assert!(endless.next().is_some());
        commit(&dictionary, [set("a", 10)]);
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || endless.next().map(|delivery| delivery.revision().get()));
            clock.advance(1_000_000 * SECOND);
            assert!(another.close());
            assert_eq!(waiting.join().unwrap(), Some(11));
        });
        assert!(endless.next().is_none() && endless.next().is_none());
    });
}
