//! Waiting for content, and the feed of one key: each against what it is to be woken by.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom::future::block_on;
use loom_tests::{Dictionary, actor, explore, join, shared};
use state_dictionary::{FlushError, KeyFeed, WaitError};
use std::sync::Arc;

/// Invariant: the commit that makes the condition hold wakes the thread that waits for it, whatever is committed beside it.
#[test]
fn wait_until_against_commits() {
    explore("wait_until_against_commits", 2_000, || {
        let dictionary = shared();
        let waiter = actor(&dictionary, |d| d.wait_until(|all| all.get(&0).copied().filter(|value| *value == 2)));
        let writer = actor(&dictionary, |d| {
            d.writer(&'a').set(0, 1).unwrap();
            d.writer(&'a').set(0, 2).unwrap();
        });
        assert_eq!(join(waiter), Ok(2));
        join(writer);
    });
}

/// Invariant: the same for a task.
#[test]
fn wait_until_async_against_commit() {
    explore("wait_until_async_against_commit", 420, || {
        let dictionary = shared();
        let waiter = actor(&dictionary, |d| block_on(d.wait_until_async(|all| all.get(&0).copied())));
        let writer = actor(&dictionary, |d| d.writer(&'a').set(0, 1).unwrap().revision);
        assert_eq!(join(waiter), Ok(1));
        assert_eq!(join(writer).get(), 1);
    });
}

/// Invariant: what was committed before the freeze is looked at, and what does not hold then ends the wait.
#[test]
fn wait_until_against_freeze() {
    for (key, expected) in [(0, Ok(1)), (1, Err(WaitError::Frozen))] {
        explore("wait_until_against_freeze", 1_200, move || {
            let dictionary = shared();
            let waiter = actor(&dictionary, move |d| d.wait_until(|all| all.get(&key).copied()));
            let writer = actor(&dictionary, |d| {
                d.writer(&'a').set(0, 1).unwrap();
                d.freeze()
            });
            assert!(join(writer));
            assert_eq!(join(waiter), expected);
        });
    }
}

/// All that is delivered until the end; `None` stands for a removal.
fn follow(feed: &KeyFeed<u8, u32>) -> Vec<Option<u32>> {
    let mut delivered = Vec::new();
    loop {
        match feed.flush() {
            Ok(value) => delivered.push(value.map(|value| *value)),
            Err(end) => {
                assert_eq!(end, FlushError);
                return delivered;
            }
        }
    }
}

/// Invariant: a feed of one key delivers in order, ends with the last value, and reports no removal of what it never delivered.
#[test]
fn key_feed_against_commits_and_freeze() {
    explore("key_feed_against_commits_and_freeze", 12_500, || {
        let dictionary = shared();
        let feed = dictionary.watch_key(0);
        let writer = actor(&dictionary, |d| {
            d.writer(&'a').set(0, 1).unwrap();
            d.writer(&'a').remove(0).unwrap();
            d.writer(&'a').set(0, 2).unwrap();
            d.freeze();
        });
        let follower = loom::thread::spawn(move || follow(&feed));
        join(writer);
        let possible: [&[_]; 3] = [&[Some(1), None, Some(2)], &[Some(1), Some(2)], &[Some(2)]];
        let delivered = join(follower);
        assert!(possible.contains(&&*delivered), "{delivered:?}");
    });
}

/// Invariant: of two threads that flush one feed each value is delivered to one, and the later flush has the later value.
#[test]
fn two_flushes_of_a_key_feed_against_commit() {
    explore("two_flushes_of_a_key_feed_against_commit", 1_700, || {
        let dictionary = shared();
        let feed = Arc::new(dictionary.watch_key(0));
        let writer = actor(&dictionary, |d| {
            d.writer(&'a').set(0, 1).unwrap();
            d.writer(&'a').set(0, 2).unwrap();
        });
        let actors = [(); 2].map(|()| actor(&feed, |feed| feed.try_flush().ok().flatten().map(|value| *value)));
        join(writer);
        let flushed = actors.map(join);
        let rest = feed.try_flush().ok().flatten().map(|value| *value);
        let delivered: Vec<_> = flushed.into_iter().chain([rest]).flatten().collect();
        assert_eq!(delivered.iter().filter(|value| **value == 2).count(), 1, "{delivered:?}");
        assert!(delivered.iter().filter(|value| **value == 1).count() <= 1, "{delivered:?}");
        assert!(rest.is_none_or(|rest| rest == 2), "{delivered:?}");
    });
}

/// Invariant: a feed that is closed wakes the thread that waits in it, and delivers what was committed before, and nothing later.
#[test]
fn key_feed_against_commit_and_close() {
    explore("key_feed_against_commit_and_close", 5000, || {
        let dictionary = shared();
        let feed = Arc::new(dictionary.watch_key(0));
        let follower = actor(&feed, follow);
        let closer = {
            let feed = Arc::clone(&feed);
            actor(&dictionary, move |d: &Dictionary| {
                d.writer(&'a').set(0, 1).unwrap();
                assert!(feed.close());
                d.writer(&'a').set(0, 2).unwrap();
            })
        };
        join(closer);
        assert_eq!(join(follower), [Some(1)]);
    });
}
