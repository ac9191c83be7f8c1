//! Followers of a broadcast that are awaited.

#[path = "../../tests/common/mod.rs"]
mod common;

use async_tests::everywhere;
use common::{Dictionary, parts, set};
use futures_lite::StreamExt;
use futures_lite::future::{self, poll_once};
use state_dictionary::{Broadcast, BufferOptions, FlushError, Message};
use std::pin::pin;
use std::thread;

type Frames = Broadcast<&'static str, i32, Vec<(&'static str, i32)>>;

fn broadcast(dictionary: &Dictionary) -> Frames {
    dictionary.broadcast(BufferOptions::new(), |delivery| parts(delivery).0)
}

#[test]
fn a_follower_waits_for_what_another_task_publishes() {
    everywhere(async |spawner| {
        let dictionary = Dictionary::new();
        let frames = broadcast(&dictionary);
        let mut follower = frames.join(Some(dictionary.position()));
        let waiting = spawner.spawn(async move { follower.next_async().await.unwrap() });
        future::yield_now().await;
        dictionary.update_state_async(&"alice", set("a", 1)).await.unwrap();
        assert!(frames.publish());
        let Message::Frame(frame) = waiting.await else { panic!("it had everything before") };
        assert_eq!(*frame.encoded(), [("a", 1)]);
    });
}

#[test]
fn a_follower_waits_for_what_a_thread_publishes_and_not_for_commits() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        let frames = broadcast(&dictionary);
        let mut follower = frames.join(Some(dictionary.position()));
        let mut waiting = pin!(follower.next_async());
        assert!(poll_once(waiting.as_mut()).await.is_none());
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        assert!(poll_once(waiting.as_mut()).await.is_none());
        let publisher = thread::spawn(move || frames.publish().then_some(frames));
        assert_eq!(waiting.await.unwrap().position(), dictionary.position());
        assert!(publisher.join().unwrap().is_some());
    });
}

#[test]
fn a_dropped_wait_has_taken_nothing() {
    everywhere(async |_| {
        let dictionary = Dictionary::new();
        let frames = broadcast(&dictionary);
        let mut follower = frames.join(Some(dictionary.position()));
        {
            let mut waiting = pin!(follower.next_async());
            assert!(poll_once(waiting.as_mut()).await.is_none());
            dictionary.update_state(&"alice", set("a", 1)).unwrap();
            frames.publish();
        }
        assert_eq!(follower.position().revision.get(), 0);
        assert!(matches!(follower.next_async().await, Ok(Message::Frame(_))));
    });
}

#[test]
fn a_stream_of_messages_ends_with_the_dictionary() {
    everywhere(async |spawner| {
        let dictionary = Dictionary::new();
        let frames = broadcast(&dictionary);
        let messages = frames.join(None).into_stream();
        let client =
            spawner.spawn(async move { messages.map(|message| message.position().revision.get()).collect().await });
        for number in 1..=3 {
            dictionary.update_state_async(&"alice", set("a", number)).await.unwrap();
            future::yield_now().await;
            frames.publish();
        }
        dictionary.update_state_async(&"alice", set("a", 4)).await.unwrap();
        drop(dictionary);
        let positions: Vec<u64> = client.await;
        assert!(positions.is_sorted() && positions.last() == Some(&4), "{positions:?}");
        let mut late = frames.join(None);
        assert!(matches!(late.next_async().await, Ok(Message::CatchUp(_))));
        assert_eq!(late.next_async().await.unwrap_err(), FlushError);
    });
}
