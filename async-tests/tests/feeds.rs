//! Feeds and revisions that are awaited.

#[path = "../../tests/common/mod.rs"]
mod common;

use async_tests::everywhere;
use common::{Dictionary, SECOND, parts, replay, with_manual_clock};
use futures_lite::StreamExt;
use futures_lite::future::{self, poll_once};
use state_dictionary::{
    BufferOptions, Change, FlushError, LockDelivery, LockEventKind, LockRequest, Revision, StateDictionary,
    TryFlushError, WaitError,
};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

fn set(key: &'static str, value: i32) -> Change<&'static str, i32> {
    Change::new().set(key, value)
}

/// Commits and lock events are kept.
fn dictionary() -> Arc<Dictionary> {
    Arc::new(StateDictionary::builder().commit_history(true).lock_history_limit(100).build())
}

#[test]
fn a_flush_waits_for_the_commit_of_another_task() {
    everywhere(async |spawner| {
        let dictionary = dictionary();
        let buffer = dictionary.change_buffer();
        let waiting = spawner.spawn(async move { parts(&buffer.flush_async().await.unwrap()) });
        future::yield_now().await;
        dictionary.update_state_async(&"alice", set("a", 1)).await.unwrap();
        assert_eq!(waiting.await, (vec![("a", 1)], vec![]));
    });
}

#[test]
fn a_flush_waits_for_the_commit_of_a_thread() {
    everywhere(async |_| {
        let dictionary = dictionary();
        let buffer = dictionary.change_buffer();
        let mut waiting = pin!(buffer.flush_async());
        assert!(poll_once(waiting.as_mut()).await.is_none());
        let writer = thread::spawn(move || dictionary.update_state(&"alice", set("a", 1)).map(|_| dictionary));
        assert_eq!(parts(&waiting.await.unwrap()), (vec![("a", 1)], vec![]));
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn what_is_pending_comes_without_waiting() {
    everywhere(async |_| {
        let dictionary = dictionary();
        let (buffer, commits) = (dictionary.change_buffer(), dictionary.commit_feed());
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        assert!(poll_once(buffer.flush_async()).await.unwrap().is_ok());
        assert!(poll_once(commits.flush_async()).await.unwrap().is_ok());
        assert!(poll_once(dictionary.lock_feed().flush_async()).await.unwrap().is_ok());
        assert!(poll_once(dictionary.wait_for_revision_async(Revision::from(1))).await.unwrap().is_ok());
    });
}

#[test]
fn a_flush_is_not_ended_by_commits_of_other_keys() {
    everywhere(async |_| {
        let dictionary = dictionary();
        let options = state_dictionary::BufferOptions::new().filter(|key| *key == "a");
        let buffer = dictionary.change_buffer_with(options);
        let mut waiting = pin!(buffer.flush_async());
        for value in 0..3 {
            assert!(poll_once(waiting.as_mut()).await.is_none());
            dictionary.update_state(&"alice", set("b", value)).unwrap();
        }
        assert!(poll_once(waiting.as_mut()).await.is_none());
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        assert_eq!(parts(&waiting.await.unwrap()), (vec![("a", 1)], vec![]));
    });
}

#[test]
fn two_tasks_that_flush_one_buffer_share_the_changes() {
    everywhere(async |spawner| {
        let dictionary = dictionary();
        let buffer = Arc::new(dictionary.change_buffer());
        let tasks = [(), ()].map(|()| {
            let buffer = Arc::clone(&buffer);
            spawner.spawn(async move {
                let mut deliveries = Vec::new();
                while let Ok(delivery) = buffer.flush_async().await {
                    deliveries.push(delivery);
                }
                deliveries
            })
        });
        for value in 1..=100 {
            dictionary.update_state_async(&"alice", set("a", value)).await.unwrap();
            future::yield_now().await;
        }
        dictionary.freeze();
        let mut deliveries = Vec::new();
        for task in tasks {
            deliveries.extend(task.await);
        }
        deliveries.sort_by_key(state_dictionary::Delivery::revision);
        let joints = deliveries.windows(2).all(|pair| pair[0].revision() == pair[1].since());
        assert!(joints && deliveries[0].since() == Revision::ZERO, "a change was lost or delivered twice");
        let mut replica = BTreeMap::new();
        for delivery in &deliveries {
            replay(delivery, &mut replica);
        }
        assert_eq!(replica["a"], 100);
    });
}

#[test]
fn a_feed_of_commits_waits_for_the_next() {
    everywhere(async |spawner| {
        let dictionary = dictionary();
        let feed = dictionary.commit_feed();
        let waiting = spawner.spawn(async move {
            let mut seen = Vec::new();
            while let Ok(delivery) = feed.flush_async().await {
                assert!(delivery.lagged.is_none());
                seen.extend(delivery.commits.into_iter().map(|commit| (commit.token, commit.change)));
            }
            seen
        });
        future::yield_now().await;
        dictionary.update_state_async(&"alice", set("a", 1)).await.unwrap();
        future::yield_now().await;
        dictionary.update_state_async(&"bob", set("a", 2)).await.unwrap();
        drop(dictionary);
        assert_eq!(waiting.await, [("alice", set("a", 1)), ("bob", set("a", 2))]);
    });
}

#[test]
fn a_feed_of_locks_waits_for_the_next() {
    everywhere(async |spawner| {
        let dictionary = dictionary();
        let feed = dictionary.lock_feed();
        assert!(matches!(feed.flush_async().await, Ok(LockDelivery::Full { locks, .. }) if locks.is_empty()));
        let waiting = spawner.spawn(async move {
            let mut seen = Vec::new();
            while let Ok(LockDelivery::Events(events)) = feed.flush_async().await {
                seen.extend(events.into_iter().map(|event| event.kind));
            }
            seen
        });
        future::yield_now().await;
        dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
        future::yield_now().await;
        dictionary.release_all(&"alice");
        dictionary.freeze();
        assert_eq!(waiting.await, [LockEventKind::Granted, LockEventKind::Released]);
    });
}

#[test]
fn an_expired_lock_is_an_event_when_it_is_removed() {
    everywhere(async |_| {
        let (dictionary, clock) = with_manual_clock();
        let feed = dictionary.lock_feed();
        dictionary.update_locks(&"alice", LockRequest::new().acquire("a", SECOND)).unwrap();
        assert!(feed.flush_async().await.is_ok());
        clock.advance(SECOND);
        let mut waiting = pin!(feed.flush_async());
        assert_eq!(dictionary.expire().locks, [("a", "alice")]);
        // No events are kept: all locks again, of which there are none.
        let delivery = poll_once(waiting.as_mut()).await.unwrap();
        assert!(matches!(delivery, Ok(LockDelivery::Full { locks, .. }) if locks.is_empty()));
    });
}

#[test]
fn a_revision_is_waited_for() {
    everywhere(async |spawner| {
        let dictionary = dictionary();
        let waiting = spawner.spawn({
            let dictionary = Arc::clone(&dictionary);
            async move { dictionary.wait_for_revision_async(Revision::from(2)).await.map(|content| content["a"]) }
        });
        for value in 1..=2 {
            future::yield_now().await;
            dictionary.update_state_async(&"alice", set("a", value)).await.unwrap();
        }
        assert_eq!(waiting.await, Ok(2));
    });
}

#[test]
fn the_end_of_the_dictionary_wakes_waiters() {
    for end in [
        |dictionary: Dictionary| drop(dictionary),
        |dictionary: Dictionary| {
            dictionary.freeze();
            // It is the freezing that must wake them.
            std::mem::forget(dictionary);
        },
    ] {
        everywhere(async |spawner| {
            let dictionary: Dictionary = StateDictionary::builder().commit_history(true).build();
            let buffer = dictionary.change_buffer();
            let (commits, locks) = (dictionary.commit_feed(), dictionary.lock_feed());
            assert!(locks.flush_async().await.is_ok());
            let tasks = [
                spawner.spawn(async move { buffer.flush_async().await.map(drop) }),
                spawner.spawn(async move { commits.flush_async().await.map(drop) }),
                spawner.spawn(async move { locks.flush_async().await.map(drop) }),
            ];
            future::yield_now().await;
            end(dictionary);
            for task in tasks {
                assert_eq!(task.await, Err(FlushError));
            }
        });
    }
}

#[test]
fn freezing_wakes_waiters_for_a_revision() {
    everywhere(async |spawner| {
        let dictionary = dictionary();
        let waiting = spawner.spawn({
            let dictionary = Arc::clone(&dictionary);
            async move { dictionary.wait_for_revision_async(Revision::from(1)).await.map(drop) }
        });
        future::yield_now().await;
        dictionary.freeze();
        assert_eq!(waiting.await, Err(WaitError::Frozen));
    });
}

#[test]
fn freezing_a_buffer_wakes_its_flush() {
    everywhere(async |spawner| {
        let dictionary = dictionary();
        let buffer = Arc::new(dictionary.change_buffer());
        let waiting = spawner.spawn({
            let buffer = Arc::clone(&buffer);
            async move { buffer.flush_async().await.map(drop) }
        });
        future::yield_now().await;
        assert!(buffer.close());
        assert_eq!(waiting.await, Err(FlushError));
    });
}

#[test]
fn an_awaited_flush_that_finds_nothing_moves_the_position_also_if_the_future_is_dropped() {
    everywhere(async |_| {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(2).build();
        let cursors = || BufferOptions::new().prefixes(["cursor."]);
        let buffer = dictionary.change_buffer_with(cursors());
        for number in 0..9 {
            dictionary.update_state_async(&"alice", set("drawing", number)).await.unwrap();
            assert!(poll_once(buffer.flush_async()).await.is_none());
            assert_eq!(buffer.position(), dictionary.position());
        }
        let resumed = dictionary.change_buffer_with(cursors().resume(buffer.position()));
        assert_eq!(resumed.try_flush().unwrap_err(), TryFlushError::Empty);
        // As a stream it delivers what comes next, from where it is.
        dictionary.update_state_async(&"alice", set("cursor.a", 1)).await.unwrap();
        let delivery = pin!(resumed.into_stream()).next().await.unwrap();
        assert_eq!((delivery.is_full(), delivery.position()), (false, dictionary.position()));
    });
}
