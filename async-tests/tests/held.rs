//! Locked content, awaited.

#[path = "../../tests/common/mod.rs"]
mod common;

use async_tests::everywhere;
use common::{Dictionary, sorted, within_a_minute};
use futures_lite::future::{self, poll_once};
use state_dictionary::{Change, LockRequest, Refusal, StateDictionary, UpdateError};
use std::pin::pin;
use std::sync::Arc;
use std::thread;

fn set(key: &'static str, value: i32) -> Change<&'static str, i32> {
    Change::new().set(key, value)
}

#[test]
fn a_change_waits_while_another_task_locks_the_content() {
    everywhere(async |spawner| {
        let dictionary = Arc::new(Dictionary::new());
        let mut guard = dictionary.lock_content_async().await;
        let writer = spawner.spawn({
            let dictionary = Arc::clone(&dictionary);
            async move { dictionary.update_state_async(&"alice", set("a", 1)).await.unwrap() }
        });
        future::yield_now().await;
        assert_eq!(guard.update_state(&"bob", set("b", 1)).unwrap().get(), 1);
        assert_eq!((guard["b"], guard.len()), (1, 1));
        drop(guard);
        assert_eq!(writer.await.get(), 2);
    });
}

#[test]
fn a_closure_sees_what_was_written_through_the_guard() {
    everywhere(async |spawner| {
        let dictionary = Arc::new(Dictionary::new());
        let mut guard = dictionary.lock_content_async().await;
        let writer = spawner.spawn({
            let dictionary = Arc::clone(&dictionary);
            let count = |content: &state_dictionary::Snapshot<_, i32>| set("a", content.get("a").map_or(1, |a| a + 1));
            async move { dictionary.update_state_with_async(&"alice", count).await }
        });
        future::yield_now().await;
        guard.update_state(&"bob", set("a", 10)).unwrap();
        drop(guard);
        writer.await.unwrap();
        assert_eq!(dictionary.snapshot()["a"], 11);
    });
}

#[test]
fn guards_wait_for_each_other() {
    everywhere(async |spawner| {
        let dictionary = Arc::new(Dictionary::new());
        let tasks = [(); 10].map(|()| {
            let dictionary = Arc::clone(&dictionary);
            spawner.spawn(async move {
                let mut guard = dictionary.lock_content_async().await;
                let count = guard.get("a").copied().unwrap_or(0);
                future::yield_now().await;
                guard.update_state(&"alice", set("a", count + 1)).unwrap();
            })
        });
        for task in tasks {
            task.await;
        }
        assert_eq!(dictionary.snapshot()["a"], 10);
    });
}

#[test]
fn tasks_wait_for_the_guard_of_a_thread_and_threads_for_that_of_a_task() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let (let_go, allowed) = std::sync::mpsc::channel();
            let (dictionary, owner) = (&dictionary, &dictionary);
            scope.spawn(move || {
                let mut guard = owner.lock_content().unwrap();
                tell.send(()).unwrap();
                allowed.recv().unwrap();
                guard.update_state(&"bob", set("a", 1)).unwrap();
            });
            told.recv().unwrap();
            let mut update = pin!(dictionary.update_state_async(&"alice", set("a", 2)));
            let mut hold = pin!(dictionary.lock_content_async());
            assert!(future::block_on(poll_once(update.as_mut())).is_none());
            assert!(future::block_on(poll_once(hold.as_mut())).is_none());
            let_go.send(()).unwrap();
            assert_eq!(future::block_on(update).unwrap().get(), 2);
            let guard = future::block_on(hold);
            let writer = scope.spawn(|| dictionary.update_state(&"carol", set("a", 3)));
            assert_eq!((guard["a"], dictionary.try_lock_content().is_err()), (2, true));
            drop(guard);
            assert_eq!(writer.join().unwrap().unwrap().get(), 3);
        });
    });
}

#[test]
fn a_guard_can_be_sent_and_outlives_the_dictionary() {
    everywhere(async |spawner| {
        let dictionary = Dictionary::new();
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        let mut guard = dictionary.lock_content_async().await;
        drop(dictionary);
        let elsewhere = spawner.spawn(async move {
            let refused = guard.update_state(&"alice", set("a", 2));
            assert!(matches!(refused, Err(UpdateError { reason: Refusal::Frozen, .. })));
            guard["a"]
        });
        assert_eq!(elsewhere.await, 1);
    });
}

#[test]
fn a_guard_honours_locks_and_conditions() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        dictionary.update_locks(&"bob", LockRequest::new().acquire("b", None)).unwrap();
        let mut guard = dictionary.lock_content_async().await;
        let locked = guard.update_state(&"alice", set("b", 1));
        assert!(matches!(locked, Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
        let condition = guard.update_state(&"alice", set("a", 1).if_present("a"));
        assert!(matches!(condition, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
        assert!(guard.is_empty());
        assert_eq!(format!("{guard:?}"), "OwnedContentGuard { content: {}, .. }");
    });
}

#[test]
fn refusals_do_not_wait_for_locked_content() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        dictionary.update_locks(&"bob", LockRequest::new().acquire("b", None)).unwrap();
        let _guard = dictionary.lock_content_async().await;
        let locked = poll_once(dictionary.update_state_async(&"alice", set("b", 1))).await;
        assert!(matches!(locked, Some(Err(UpdateError { reason: Refusal::Locked { .. }, .. }))));
        let empty = poll_once(dictionary.update_state_with_async(&"alice", |_| Change::new())).await;
        assert_eq!(empty.unwrap().unwrap().get(), 0);
    });
}

#[test]
fn freezing_wakes_waiters_for_locked_content() {
    everywhere(async |spawner| {
        let dictionary = Arc::new(Dictionary::new());
        let guard = dictionary.lock_content_async().await;
        let plain = spawner.spawn({
            let dictionary = Arc::clone(&dictionary);
            async move { dictionary.update_state_async(&"alice", set("a", 1)).await }
        });
        let with = spawner.spawn({
            let dictionary = Arc::clone(&dictionary);
            async move { dictionary.update_state_with_async(&"alice", |_| set("a", 1)).await }
        });
        let mut session = dictionary.session("carol");
        let ephemeral = spawner.spawn(async move { session.update_ephemeral_async(set("a", 1)).await });
        future::yield_now().await;
        dictionary.freeze();
        let Err(UpdateError { change, reason: Refusal::Frozen, .. }) = plain.await else { panic!("it was committed") };
        assert_eq!(change, set("a", 1));
        assert!(matches!(with.await, Err(UpdateError { reason: Refusal::Frozen, .. })));
        assert!(matches!(ephemeral.await, Err(UpdateError { reason: Refusal::Frozen, .. })));

        // Other guards wait all the same, and are given.
        let mut next = pin!(dictionary.lock_content_async());
        assert!(poll_once(next.as_mut()).await.is_none());
        drop(guard);
        assert!(next.await.is_empty());
    });
}

#[test]
fn writing_past_a_guard_of_the_thread_is_an_error() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let guard = dictionary.lock_content().unwrap();
        let refused = future::block_on(dictionary.update_state_async(&"alice", set("a", 1)));
        assert!(matches!(refused, Err(UpdateError { reason: Refusal::ContentLockedByThisThread, .. })));
        drop(guard);
    });
}

#[test]
fn writing_inside_a_closure_is_an_error() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        let mut inner = None;
        let outer = dictionary.update_state_with_async(&"alice", |_| {
            inner = Some(future::block_on(dictionary.update_state_async(&"alice", set("a", 1))));
            set("b", 1)
        });
        assert_eq!(outer.await.unwrap().get(), 1);
        assert!(matches!(inner, Some(Err(UpdateError { reason: Refusal::InsideUpdate, .. }))));
    });
}

#[test]
fn a_session_awaits_locked_content_and_ends_in_one_commit() {
    everywhere(async |spawner| {
        let dictionary = Arc::new(Dictionary::new());
        let mut session = dictionary.session("alice");
        session.update_locks(LockRequest::new().acquire("drawing", None)).unwrap();
        let guard = dictionary.lock_content_async().await;
        let client = spawner.spawn(async move {
            session.update_ephemeral_async(set("cursor", 1).set("name", 1)).await.unwrap();
            session.update_state_async(set("drawing", 1)).await.unwrap();
            session
        });
        future::yield_now().await;
        assert_eq!(dictionary.revision().get(), 0);
        drop(guard);
        let session = client.await;
        assert_eq!(sorted(session.ephemeral_keys()), ["cursor", "name"]);

        let guard = dictionary.lock_content_async().await;
        let ending = spawner.spawn(session.end_async());
        future::yield_now().await;
        assert!(dictionary.lock_info("drawing").is_some(), "it was released without the keys being removed");
        drop(guard);
        let end = ending.await;
        assert_eq!((end.revision.get(), end.released, end.not_removed.len()), (3, vec!["drawing"], 0));
        assert_eq!(sorted(end.removed), ["cursor", "name"]);
        assert_eq!(dictionary.snapshot().len(), 1);
    });
}

/// A spawned task must be `Send`, also where keys have lifetimes.
#[test]
fn an_update_that_returns_a_value_can_be_spawned() {
    fn sent<F: Future + Send>(future: F) -> F {
        future
    }
    let dictionary: StateDictionary<&'static str, i32> = StateDictionary::from([("a", 1)]);
    let update = sent(dictionary.update_state_with_async(&(), |now| (set("a", now["a"] + 1), now.len())));
    assert_eq!(future::block_on(update).map(|(revision, seen)| (revision.get(), seen)), Ok((2, 1)));
    let waiting = sent(dictionary.wait_until_async(|now| now.get("a").copied()));
    assert_eq!(future::block_on(waiting), Ok(2));
    let feed = dictionary.watch_key("a");
    assert!(future::block_on(sent(feed.flush_async())).is_ok());
}
