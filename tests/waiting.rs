//! Waiting for content, and the feed of one key.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{SECOND, spawn_waiting, with_manual_clock, within_a_minute};
use state_dictionary::{FlushError, FlushTimeoutError, KeyFeed, StateDictionary, TryFlushError, WaitError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

type Numbers = StateDictionary<&'static str, u32>;

#[test]
fn wait_until_returns_at_once_if_the_condition_holds() {
    let numbers = Numbers::from([("a", 1)]);
    assert_eq!(numbers.wait_until(|all| all.get("a").copied()), Ok(1));
    assert_eq!(numbers.wait_until_timeout(Duration::ZERO, |all| Some(all.len())), Ok(1));
}

#[test]
fn wait_until_is_woken_by_the_commit_that_makes_it_hold() {
    let numbers = Numbers::new();
    within_a_minute(|| {
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || numbers.wait_until(|all| all.get("a").copied().filter(|a| *a >= 3)));
            for value in 1..=3 {
                numbers.set("a", value).unwrap();
                numbers.set("b", value).unwrap();
            }
            assert_eq!(waiting.join().unwrap(), Ok(3));
        });
    });
}

#[test]
fn wait_until_looks_at_the_last_content_and_then_ends() {
    let numbers = Numbers::new();
    within_a_minute(|| {
        thread::scope(|scope| {
            let never = spawn_waiting(scope, || numbers.wait_until(|all| all.get("never").copied()));
            let last = spawn_waiting(scope, || numbers.wait_until(|all| all.get("last").copied()));
            numbers.set("last", 1).unwrap();
            numbers.freeze();
            assert_eq!(never.join().unwrap(), Err(WaitError::Frozen));
            assert_eq!(last.join().unwrap(), Ok(1));
        });
    });
    assert_eq!(numbers.wait_until(|all| all.get("last").copied()), Ok(1));
    assert_eq!(numbers.wait_until(|_| None::<()>), Err(WaitError::Frozen));
}

#[test]
fn wait_until_runs_its_condition_once_at_each_revision() {
    let numbers = Numbers::new();
    let mut looked = Vec::new();
    let found = numbers.wait_until(|all| {
        looked.push(all.revision().get());
        match all.get("a") {
            Some(3) => Some("found"),
            Some(value) => numbers.set("a", value + 1).map(|_| None).unwrap(),
            None => numbers.set("a", 1).map(|_| None).unwrap(),
        }
    });
    assert_eq!(found, Ok("found"));
    assert_eq!(looked, [0, 1, 2, 3]);
}

#[test]
fn wait_until_times_out_by_the_clock() {
    let (dictionary, clock) = with_manual_clock();
    within_a_minute(|| {
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || dictionary.wait_until_timeout(SECOND, |all| all.get("a").copied()));
            dictionary.writer(&"bob").set("b", 1).unwrap();
            clock.advance(SECOND);
            // It begins to wait before or after the clock is moved.
            clock.advance(SECOND);
            while !waiting.is_finished() {
                clock.advance(SECOND);
                thread::yield_now();
            }
            assert_eq!(waiting.join().unwrap(), Err(WaitError::TimedOut));
        });
    });
}

#[test]
fn a_condition_that_panics_leaves_the_dictionary_as_it_was() {
    let numbers = Numbers::from([("a", 1)]);
    let panicked = catch_unwind(AssertUnwindSafe(|| numbers.wait_until(|_| -> Option<()> { panic!("on purpose") })));
    assert!(panicked.is_err());
    numbers.set("a", 2).unwrap();
    assert_eq!(numbers.wait_until(|all| all.get("a").copied()), Ok(2));
}

#[test]
fn a_condition_may_use_the_dictionary() {
    let numbers = Numbers::from([("a", 1)]);
    let found = numbers.wait_until(|all| {
        assert_eq!(numbers.snapshot(), *all);
        assert_eq!(numbers.wait_until(|inner| inner.get("a").copied()), Ok(1));
        let guard = numbers.lock_content().unwrap();
        guard.get("a").copied()
    });
    assert_eq!(found, Ok(1));
}

#[cfg(feature = "async")]
#[test]
fn wait_until_can_be_awaited() {
    use futures_lite::future::{block_on, poll_once};
    let numbers = Numbers::new();
    block_on(async {
        let mut waiting = Box::pin(numbers.wait_until_async(|all| all.get("a").copied()));
        assert!(poll_once(&mut waiting).await.is_none());
        numbers.set("b", 1).unwrap();
        assert!(poll_once(&mut waiting).await.is_none());
        numbers.set("a", 1).unwrap();
        assert_eq!(waiting.await, Ok(1));
        let mut waiting = Box::pin(numbers.wait_until_async(|all| all.get("c").copied()));
        assert!(poll_once(&mut waiting).await.is_none());
        numbers.freeze();
        assert_eq!(waiting.await, Err(WaitError::Frozen));
    });
}

/// What a flush without waiting delivers.
fn flushed(feed: &KeyFeed<&'static str, u32>) -> Result<Option<u32>, TryFlushError> {
    feed.try_flush().map(|value| value.map(|value| *value))
}

const NOTHING: Result<Option<u32>, TryFlushError> = Err(TryFlushError::Empty);

#[test]
fn a_key_feed_delivers_the_latest_value_once() {
    let numbers = Numbers::new();
    let feed = numbers.watch_key("a");
    assert_eq!((*feed.key(), flushed(&feed)), ("a", NOTHING));
    numbers.set("b", 1).unwrap();
    assert_eq!(flushed(&feed), NOTHING);
    numbers.set("a", 1).unwrap();
    numbers.set("a", 2).unwrap();
    assert_eq!(flushed(&feed), Ok(Some(2)));
    assert_eq!(flushed(&feed), NOTHING);
    numbers.set("a", 2).unwrap();
    assert_eq!(flushed(&feed), Ok(Some(2)), "the same value again is a change");
    numbers.remove("a").unwrap();
    assert_eq!(flushed(&feed), Ok(None));
    assert_eq!(flushed(&feed), NOTHING);
    numbers.set("a", 3).unwrap();
    numbers.remove("a").unwrap();
    assert_eq!(flushed(&feed), NOTHING, "3 was never delivered");
    numbers.set("a", 4).unwrap();
    numbers.remove("a").unwrap();
    numbers.set("a", 5).unwrap();
    assert_eq!(flushed(&feed), Ok(Some(5)));
}

#[test]
fn a_key_feed_begins_with_the_present_value() {
    let numbers = Numbers::from([("a", 1)]);
    let feed = numbers.watch_key("a");
    numbers.remove("a").unwrap();
    assert_eq!(flushed(&feed), NOTHING, "it was never delivered");
    numbers.set("a", 2).unwrap();
    assert_eq!(flushed(&numbers.watch_key("a")), Ok(Some(2)));
}

#[test]
fn a_key_feed_ends_with_the_dictionary() {
    let numbers = Numbers::new();
    let feeds = ["a", "a", "b"].map(|key| numbers.watch_key(key));
    numbers.set("a", 1).unwrap();
    assert_eq!(flushed(&feeds[0]), Ok(Some(1)));
    assert!(!feeds[0].is_closed());
    drop(numbers);
    assert!(feeds.iter().all(|feed| feed.is_closed() && !feed.close()));
    assert_eq!(flushed(&feeds[0]), Err(TryFlushError::Closed));
    assert_eq!(flushed(&feeds[1]), Ok(Some(1)));
    assert_eq!(flushed(&feeds[1]), Err(TryFlushError::Closed));
    assert_eq!(flushed(&feeds[2]), Err(TryFlushError::Closed));
}

#[test]
fn a_closed_key_feed_delivers_what_was_there() {
    let numbers = Numbers::from([("a", 1)]);
    let [pending, delivered] = [(); 2].map(|()| numbers.watch_key("a"));
    assert_eq!(flushed(&delivered), Ok(Some(1)));
    assert!(pending.close() && delivered.close());
    assert!(!pending.close() && pending.is_closed());
    numbers.set("a", 2).unwrap();
    assert_eq!(flushed(&pending), Ok(Some(1)));
    assert_eq!(flushed(&pending), Err(TryFlushError::Closed));
    assert_eq!(flushed(&delivered), Err(TryFlushError::Closed));
}

#[test]
fn waiters_in_a_key_feed_are_woken() {
    let numbers = Numbers::new();
    let (by_commit, by_close, by_freeze) = (numbers.watch_key("a"), numbers.watch_key("a"), numbers.watch_key("b"));
    within_a_minute(|| {
        thread::scope(|scope| {
            let closed = spawn_waiting(scope, || by_close.flush().map(|value| value.map(|value| *value)));
            assert!(by_close.close());
            assert_eq!(closed.join().unwrap(), Err(FlushError));
            let set = spawn_waiting(scope, || by_commit.flush().map(|value| value.map(|value| *value)));
            let frozen = spawn_waiting(scope, || by_freeze.flush_timeout(Duration::MAX));
            numbers.set("a", 1).unwrap();
            assert_eq!(set.join().unwrap(), Ok(Some(1)));
            numbers.freeze();
            assert_eq!(frozen.join().unwrap().unwrap_err(), FlushTimeoutError::Closed);
        });
    });
}

#[test]
fn a_key_feed_times_out_by_the_clock() {
    let (dictionary, clock) = with_manual_clock();
    let feed = dictionary.watch_key("a");
    assert_eq!(feed.flush_timeout(Duration::ZERO).unwrap_err(), FlushTimeoutError::TimedOut);
    within_a_minute(|| {
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || feed.flush_timeout(SECOND));
            while !waiting.is_finished() {
                clock.advance(SECOND);
                thread::yield_now();
            }
            assert_eq!(waiting.join().unwrap().unwrap_err(), FlushTimeoutError::TimedOut);
        });
    });
}

#[test]
fn an_ended_key_feed_keeps_nothing_alive() {
    let value = Arc::new(());
    let held: StateDictionary<&str, Arc<()>> = [("a", value.clone())].into();
    let feed = held.watch_key("a");
    drop(feed.flush().unwrap());
    drop(held);
    assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Closed);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_value_that_flushes_its_own_feed_when_it_is_dropped_does_not_wait_for_itself() {
    struct Flushes(OnceLock<Weak<KeyFeed<&'static str, Self>>>);
    impl Drop for Flushes {
        fn drop(&mut self) {
            if let Some(feed) = self.0.get().and_then(Weak::upgrade) {
                let _ = feed.try_flush();
            }
        }
    }
    within_a_minute(|| {
        let dictionary: StateDictionary<&str, Flushes> = StateDictionary::new();
        let feed = Arc::new(dictionary.watch_key("a"));
        let value = || {
            let cell = OnceLock::new();
            assert!(cell.set(Arc::downgrade(&feed)).is_ok());
            Flushes(cell)
        };
        dictionary.set("a", value()).unwrap();
        drop(feed.flush().unwrap());
        drop(dictionary.set("a", value()).unwrap()); // and so does the flush of the value that was replaced
        assert_eq!(feed.try_flush().map(drop), Err(TryFlushError::Empty));
        drop(dictionary);
        assert_eq!(feed.flush().map(drop), Err(FlushError)); // which drops the value that was set last
    });
}
