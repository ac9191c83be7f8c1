//! Futures that are dropped: nothing is lost, nothing is half done. Each is polled so often, and at its last poll it has been
//! woken or not, until it is ready.

#[path = "../../tests/common/mod.rs"]
mod common;

use async_tests::everywhere;
use common::{Dictionary, Grenade, content, parts, replay};
use futures_lite::StreamExt;
use futures_lite::future::{self, poll_once};
use state_dictionary::{BufferOptions, Change, LockDelivery, LockRequest, Revision, StateDictionary};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Arc;
use std::thread;

fn set(key: &'static str, value: i32) -> Change<&'static str, i32> {
    Change::new().set(key, value)
}

/// Polls a future so many times, with `between` after each poll, and drops it. It must not become ready.
async fn drop_after_polls<R, B>(polls: usize, future: impl Future<Output = R>, between: impl Fn() -> B) {
    let mut future = pin!(future);
    for _ in 0..polls {
        assert!(poll_once(future.as_mut()).await.is_none(), "it was ready too early to be dropped");
        between();
    }
}

#[test]
fn a_dropped_flush_has_taken_nothing() {
    everywhere(async |_| {
        for polls in 0..4 {
            let dictionary = Dictionary::new();
            let buffer = dictionary.change_buffer_with(BufferOptions::new().filter(|key| *key != "other"));
            // Commits of another key wake it without ending it.
            let wake = || dictionary.update_state(&"alice", set("other", 1)).unwrap();
            drop_after_polls(polls, buffer.flush_async(), wake).await;
            // And one that it would deliver has come when it is dropped.
            let commit = || dictionary.update_state(&"alice", set("a", 1)).unwrap();
            drop_after_polls(1, buffer.flush_async(), commit).await;
            let delivery = poll_once(buffer.flush_async()).await.unwrap().unwrap();
            assert_eq!((delivery.since(), parts(&delivery)), (Revision::ZERO, (vec![("a", 1)], vec![])));
        }
    });
}

#[test]
fn one_that_is_dropped_does_not_take_the_waking_of_another_along() {
    everywhere(async |spawner| {
        let dictionary = Dictionary::new();
        let buffer = Arc::new(dictionary.change_buffer());
        let mut dropped = Box::pin(buffer.flush_async());
        assert!(poll_once(dropped.as_mut()).await.is_none());
        let waiting = spawner.spawn({
            let buffer = Arc::clone(&buffer);
            async move { buffer.flush_async().await.unwrap().revision() }
        });
        future::yield_now().await;
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        drop(dropped);
        assert_eq!(waiting.await.get(), 1);
    });
}

#[test]
fn a_dropped_flush_of_commits_or_locks_has_taken_nothing() {
    everywhere(async |_| {
        let dictionary: Dictionary = StateDictionary::builder().commit_history(true).lock_history_limit(10).build();
        let (commits, locks) = (dictionary.commit_feed(), dictionary.lock_feed());
        assert!(locks.flush_async().await.is_ok());
        let commit = || dictionary.update_state(&"alice", set("a", 1)).unwrap();
        drop_after_polls(1, commits.flush_async(), commit).await;
        let grant = || dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
        drop_after_polls(1, locks.flush_async(), grant).await;
        assert_eq!(commits.flush_async().await.unwrap().commits.len(), 1);
        assert!(matches!(locks.flush_async().await, Ok(LockDelivery::Events(events)) if events.len() == 1));
    });
}

#[test]
fn a_dropped_item_of_a_stream_is_still_to_come() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        let rung = Cell::new(false);
        let timer = async || {
            while !rung.replace(false) {
                future::yield_now().await;
            }
        };
        let mut stream = pin!(dictionary.change_buffer().into_stream_with(timer));
        let (commit, nothing) = (|| dictionary.update_state(&"alice", set("a", 1)).unwrap(), || ());
        // Before the first delivery, woken and not.
        drop_after_polls(2, stream.next(), nothing).await;
        drop_after_polls(1, stream.next(), commit).await;
        assert_eq!(stream.next().await.unwrap().revision().get(), 1);
        // In its interval, and after the timer has rung.
        drop_after_polls(2, stream.next(), commit).await;
        drop_after_polls(1, stream.next(), || rung.set(true)).await;
        let delivery = stream.next().await.unwrap();
        assert_eq!((delivery.since().get(), delivery.revision().get()), (1, 3));
        // After the interval, with nothing pending; the timer is not begun anew.
        rung.set(true);
        drop_after_polls(2, stream.next(), nothing).await;
        drop_after_polls(1, stream.next(), commit).await;
        assert_eq!(stream.next().await.unwrap().revision().get(), 4);
        assert!(!rung.get());
    });
}

#[test]
fn a_dropped_change_is_not_committed() {
    everywhere(async |_| {
        for polls in 0..4 {
            let dictionary = Dictionary::new();
            let mut session = dictionary.session("bob");
            let (held, runs) = (Cell::new(Some(dictionary.lock_content_async().await)), Cell::new(0));
            // The content is unlocked, and locked again by the next guard.
            let wake = || {
                held.take();
                held.set(future::block_on(poll_once(dictionary.lock_content_async())));
            };
            drop_after_polls(polls, dictionary.update_state_async(&"alice", set("a", 1)), wake).await;
            let modify = |_: &_| {
                runs.set(runs.get() + 1);
                set("a", 1)
            };
            drop_after_polls(polls, dictionary.update_state_with_async(&"alice", modify), wake).await;
            assert_eq!(runs.get(), polls.min(1), "it was run without a commit");
            drop_after_polls(polls, session.update_state_async(set("a", 1)), wake).await;
            drop_after_polls(polls, session.update_ephemeral_async(set("a", 1)), wake).await;
            drop_after_polls(polls, dictionary.wait_for_revision_async(Revision::from(1)), wake).await;
            drop(held);
            assert_eq!((dictionary.revision().get(), session.ephemeral_keys().len()), (0, 0));
            assert_eq!(dictionary.update_state_async(&"alice", set("a", 2)).await.unwrap().get(), 1);
        }
    });
}

#[test]
fn a_dropped_change_that_could_have_been_made_is_not() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        let held = Cell::new(Some(dictionary.lock_content_async().await));
        let let_go = || drop(held.take());
        drop_after_polls(1, dictionary.update_state_async(&"alice", set("a", 1)), let_go).await;
        assert!(dictionary.snapshot().is_empty());
    });
}

#[test]
fn a_dropped_wait_for_the_content_does_not_lock_it() {
    everywhere(async |_| {
        for polls in 0..4 {
            let dictionary = Dictionary::new();
            let held = Cell::new(Some(dictionary.lock_content_async().await));
            let wake = || {
                held.take();
                held.set(future::block_on(poll_once(dictionary.lock_content_async())));
            };
            drop_after_polls(polls, dictionary.lock_content_async(), wake).await;
            drop_after_polls(1, dictionary.lock_content_async(), || drop(held.take())).await;
            assert!(dictionary.try_lock_content().is_ok());
        }
    });
}

#[test]
fn a_session_whose_end_is_dropped_ends_all_the_same() {
    everywhere(async |_| {
        for polls in 0..4 {
            let dictionary = Arc::new(Dictionary::new());
            let mut session = dictionary.session("alice");
            session.update_ephemeral(set("cursor", 1)).unwrap();
            session.update_locks(LockRequest::new().acquire("drawing", None)).unwrap();
            let held = Cell::new(Some(dictionary.lock_content_async().await));
            let wake = || {
                held.take();
                held.set(future::block_on(poll_once(dictionary.lock_content_async())));
            };
            drop_after_polls(polls, session.end_async(), wake).await;
            assert!(dictionary.lock_info("drawing").is_none() && dictionary.get("cursor").is_some());
            let again = dictionary.session("alice");
            assert!(again.is_resumed(), "its keys belong to no session");
            drop(held);
            assert_eq!(again.end_async().await.removed, ["cursor"]);
        }
    });
}

#[test]
fn what_a_dropped_end_has_deferred_is_done_by_expire() {
    everywhere(async |_| {
        let (dictionary, clock) = common::with_manual_clock();
        let mut session = dictionary.session("alice");
        session.update_ephemeral(set("cursor", 1)).unwrap();
        let guard = dictionary.lock_content_async().await;
        drop_after_polls(1, session.end_async(), || ()).await;
        clock.advance(common::SECOND);
        assert!(dictionary.expire().sessions.is_empty() && guard.contains_key("cursor"), "not yet");
        drop(guard);
        clock.advance(common::SECOND);
        assert_eq!(dictionary.expire().sessions[0].1.removed, ["cursor"]);
    });
}

/// A flush that is dropped at any moment of a commit.
#[test]
fn nothing_is_lost_by_flushes_that_are_dropped_while_others_commit() {
    everywhere(async |_| {
        let dictionary = Arc::new(Dictionary::new());
        let buffer = dictionary.change_buffer();
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                for (value, key) in (0..5_000).zip(["a", "b", "c", "d", "e"].into_iter().cycle()) {
                    let change = if value % 7 == 0 { Change::new().remove(key) } else { set(key, value) };
                    dictionary.update_state(&"alice", change).unwrap();
                }
                dictionary.freeze();
            }
        });
        let mut replica = BTreeMap::new();
        let mut at = Revision::ZERO;
        loop {
            // Sometimes it is the flush that is first, mostly it is dropped.
            match future::or(async { Some(buffer.flush_async().await) }, async { None }).await {
                Some(Ok(delivery)) => {
                    assert_eq!(delivery.since(), at);
                    at = delivery.revision();
                    replay(&delivery, &mut replica);
                }
                Some(Err(_)) => break,
                None => future::yield_now().await,
            }
        }
        writer.join().unwrap();
        assert_eq!(replica, content(&dictionary.snapshot()));
    });
}

/// Changes that are dropped at any moment of a guard.
#[test]
fn only_changes_that_were_awaited_to_the_end_are_made_while_others_lock_the_content() {
    everywhere(async |_| {
        let dictionary = Arc::new(Dictionary::new());
        let owner = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || (0..5_000).for_each(|_| drop(dictionary.lock_content().unwrap()))
        });
        let mut made = 0;
        for value in 0..5_000 {
            let update = async { Some(dictionary.update_state_async(&"alice", set("a", value)).await.unwrap()) };
            made += u64::from(future::or(update, async { None }).await.is_some());
        }
        owner.join().unwrap();
        assert_eq!(dictionary.revision().get(), made);
    });
}

/// The poll that commits notes whose keys they are, whatever unwinds out of it.
#[test]
fn an_ephemeral_update_whose_poll_panics_after_its_commit_leaves_the_keys_to_the_session() {
    let dictionary: StateDictionary<&str, Grenade, &str> = StateDictionary::new();
    dictionary.update_state(&"server", Change::new().set("scene", Grenade(true))).unwrap();
    let mut session = dictionary.session("alice");
    let change = Change::new().set("avatar", Grenade(false)).set("scene", Grenade(false));
    let update = || drop(future::block_on(session.update_ephemeral_async(change)));
    assert!(panic::catch_unwind(AssertUnwindSafe(update)).is_err());
    assert_eq!(session.ephemeral_keys().len(), 2);
    assert_eq!(future::block_on(session.end_async()).removed.len(), 2);
    assert!(dictionary.snapshot().is_empty());
}
