//! Sessions by client, awaited.

#[path = "../../tests/common/mod.rs"]
mod common;

use async_tests::everywhere;
use common::{Dictionary, SECOND, set, sorted};
use futures_lite::future::{self, poll_once};
use std::sync::Arc;

#[test]
fn a_connection_learns_that_its_session_was_taken_over() {
    everywhere(async |spawner| {
        let dictionary = Dictionary::new();
        let sessions = dictionary.sessions(SECOND);
        let old = Arc::new(sessions.open("alice"));
        assert!(poll_once(old.taken_over()).await.is_none());
        let waiting = spawner.spawn({
            let old = Arc::clone(&old);
            async move { old.taken_over().await }
        });
        future::yield_now().await;
        let new = sessions.open("alice");
        waiting.await;
        old.taken_over().await; // at once
        assert!(old.update_state_async(set("a", 1)).await.is_none());
        assert!(new.update_state_async(set("a", 2)).await.unwrap().is_ok());
        assert_eq!(dictionary.snapshot()["a"], 2);
    });
}

#[test]
fn a_write_that_waits_for_locked_content_does_not_delay_a_takeover_and_is_refused_after_it() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        let sessions = dictionary.sessions(SECOND);
        let old = sessions.open("alice");
        old.update_ephemeral_async(set("cursor", 1)).await.unwrap().unwrap();
        let guard = dictionary.lock_content_async().await;
        let mut ephemeral = Box::pin(old.update_ephemeral_async(set("cursor", 7)));
        let mut lasting = Box::pin(old.update_state_async(set("score", 7)));
        assert!(poll_once(&mut ephemeral).await.is_none() && poll_once(&mut lasting).await.is_none());
        let new = sessions.open("alice");
        drop(guard);
        assert!(ephemeral.await.is_none() && lasting.await.is_none());
        assert_eq!(dictionary.snapshot().len(), 1);
        new.update_ephemeral_async(set("avatar", 1)).await.unwrap().unwrap();
        assert_eq!(sorted(new.end_async().await.unwrap().removed), ["avatar", "cursor"]);
        assert!(old.end_async().await.is_none());
    });
}
