//! What is awaited instead of blocked for: each wake-up against what it is to be woken by.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use futures_lite::StreamExt;
use futures_lite::future::poll_once;
use loom::future::block_on;
use loom_tests::{Dictionary, acquire, actor, explore, explore_bounded, join, shared};
use state_dictionary::{Change, FlushError, LockDelivery, Refusal, Revision, UpdateError};
use std::future;
use std::sync::Arc;

/// Invariant: a flush that is awaited is woken by the commit.
#[test]
fn flush_against_commit() {
    explore("flush_against_commit", 390, || {
        let dictionary = shared();
        let buffer = dictionary.change_buffer();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        let reader = loom::thread::spawn(move || block_on(buffer.flush_async()).unwrap().revision());
        assert_eq!(join(reader), join(writer));
    });
}

/// Invariant: a flush that is awaited is woken by the end, and has what was committed before.
#[test]
fn flush_against_freeze() {
    explore("flush_against_freeze", 390, || {
        let dictionary = shared();
        let buffer = dictionary.change_buffer();
        let freezer = actor(&dictionary, Dictionary::freeze);
        let reader = loom::thread::spawn(move || block_on(buffer.flush_async()).map(drop));
        assert_eq!(join(reader), Err(FlushError));
        assert!(join(freezer));
    });
}

/// Invariant: a flush that is dropped after a poll loses nothing, and does not take the waking of another along.
#[test]
fn dropped_flush_against_commit() {
    explore_bounded("dropped_flush_against_commit", 2, 22_000, || {
        let dictionary = shared();
        let buffers = Arc::new([dictionary.change_buffer(), dictionary.change_buffer()]);
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        let gives_up = actor(&buffers, |[buffer, _]| {
            block_on(async {
                match poll_once(buffer.flush_async()).await {
                    Some(first) => first.unwrap().revision(),
                    None => buffer.flush_async().await.unwrap().revision(),
                }
            })
        });
        let waits = actor(&buffers, |[_, buffer]| block_on(buffer.flush_async()).unwrap().revision());
        let written = join(writer);
        assert_eq!((join(gives_up), join(waits)), (written, written));
    });
}

/// Invariant: a stream in its interval hears the end, and what is pending comes then.
#[test]
fn stream_in_its_interval_against_freeze() {
    explore("stream_in_its_interval_against_freeze", 770, || {
        let dictionary = shared();
        let buffer = dictionary.change_buffer();
        dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap();
        let writer = actor(&dictionary, |d| {
            let written = d.update_state(&'a', Change::new().set(0, 2)).unwrap();
            d.freeze();
            written
        });
        let reader = loom::thread::spawn(move || {
            let deliveries = buffer.into_stream_with(future::pending).map(|delivery| delivery.revision());
            block_on(deliveries.collect::<Vec<_>>())
        });
        let (written, deliveries) = (join(writer), join(reader));
        assert_eq!(deliveries.last(), Some(&written));
        assert!(deliveries.len() <= 2);
    });
}

/// Invariant: a change that waits for locked content is woken when the content is unlocked, and made then.
#[test]
fn change_against_guard() {
    explore("change_against_guard", 520, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| block_on(d.update_state_async(&'a', Change::new().set(0, 1))).unwrap());
        let owner = actor(&dictionary, |d| {
            let mut guard = d.lock_content().unwrap();
            let seen = guard.revision();
            let own = guard.update_state(&'b', Change::new().set(1, 1)).unwrap();
            assert_eq!(own.get(), seen.get() + 1, "a commit came past the guard");
        });
        join(writer);
        join(owner);
        assert_eq!(dictionary.revision().get(), 2);
    });
}

/// Invariant: of two guards that are awaited one waits for the other and is woken.
#[test]
fn two_guards() {
    explore("two_guards", 1_410, || {
        let dictionary = shared();
        let owners = ['a', 'b'].map(|token| {
            actor(&dictionary, move |d| {
                let mut guard = block_on(d.lock_content_async());
                let one_more = guard.get(&0).copied().unwrap_or(0) + 1;
                guard.update_state(&token, Change::new().set(0, one_more)).unwrap();
            })
        });
        let _: [(); 2] = owners.map(join);
        assert_eq!(dictionary.snapshot()[&0], 2);
    });
}

/// Invariant: a change that waits for locked content ends with an error when the dictionary is frozen.
#[test]
fn change_while_locked_against_freeze() {
    explore("change_while_locked_against_freeze", 710, || {
        let dictionary = shared();
        let guard = dictionary.lock_content().unwrap();
        let writer = actor(&dictionary, |d| block_on(d.update_state_with_async(&'a', |_| Change::new().set(0, 1))));
        let freezer = actor(&dictionary, Dictionary::freeze);
        assert!(matches!(join(writer), Err(UpdateError { reason: Refusal::Frozen, .. })));
        assert!(join(freezer));
        drop(guard);
    });
}

/// Invariant: a session whose end waits for locked content is woken, and ends in one commit.
#[test]
fn end_of_a_session_against_guard() {
    explore("end_of_a_session_against_guard", 460, || {
        let dictionary = shared();
        let mut session = dictionary.session('a');
        session.update_ephemeral(Change::new().set(0, 1)).unwrap();
        let owner = actor(&dictionary, |d| drop(d.lock_content().unwrap()));
        let ending = loom::thread::spawn(move || block_on(session.end_async()).removed);
        assert_eq!(join(ending), [0]);
        join(owner);
    });
}

/// Invariant: a feed of locks is woken by a grant.
#[test]
fn feed_of_locks_against_grant() {
    explore("feed_of_locks_against_grant", 530, || {
        let dictionary = shared();
        let feed = dictionary.lock_feed();
        feed.try_flush().unwrap();
        let locker = actor(&dictionary, |d| d.update_locks(&'a', acquire(&[0])).is_ok());
        let reader = loom::thread::spawn(move || block_on(feed.flush_async()));
        let delivery = join(reader);
        assert!(matches!(delivery, Ok(LockDelivery::Full { locks, .. }) if locks.len() == 1));
        assert!(join(locker));
    });
}

/// Invariant: a waiter for a revision is woken by its commit.
#[test]
fn revision_against_commit() {
    explore("revision_against_commit", 180, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        let reader = actor(&dictionary, |d| block_on(d.wait_for_revision_async(Revision::from(1))).unwrap()[&0]);
        assert_eq!(join(reader), 1);
        join(writer);
    });
}
