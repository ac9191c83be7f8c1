//! One broadcast for all who follow the same.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod client;
#[path = "../common/mod.rs"]
mod common;
mod ends;
mod panics;
mod threads;

use client::{Client, Content, Given, KEPT, Key, at, broadcast, encode, filtered, following_a, frame};
use common::{Dictionary, commit, content, remove, set, spawn_waiting, within_a_minute};
use state_dictionary::{
    BufferOptions, Message, Position, Revision, StateDictionary, StoreId, Tombstones, TryFlushError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn a_change_is_encoded_once_for_all() {
    let dictionary = Dictionary::new();
    let encoded = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&encoded);
    let frames = dictionary.broadcast(BufferOptions::new(), move |delivery| {
        count.fetch_add(1, Ordering::Relaxed);
        encode(delivery, |_| true)
    });
    let mut clients = [(); 3].map(|()| Client::join(&frames));
    for client in &mut clients {
        assert_eq!(client.given(), [Given::Anew(0)]);
    }
    commit(&dictionary, [set("a", 1), set("a", 2), set("b", 1), remove("b")]);
    assert!(frames.publish());
    assert_eq!(encoded.load(Ordering::Relaxed), 1);
    let given = clients.each_mut().map(|client| {
        let message = client.follower.next().unwrap();
        client.apply(&message);
        frame(message)
    });
    assert!(given.iter().all(|frame| Arc::ptr_eq(frame, &given[0])));
    assert_eq!((given[0].since().get(), given[0].position()), (0, dictionary.position()));
    assert_eq!(given[0].encoded().updates, [("a", 2)], "merged");
    assert_eq!(given[0].encoded().removals, Vec::<Key>::new());
}

#[test]
fn the_first_message_is_the_whole_content_also_if_there_is_none() {
    let dictionary = Dictionary::new();
    let frames = broadcast(&dictionary);
    let mut client = Client::join(&frames);
    assert_eq!(client.follower.position(), at(&dictionary, 0));
    assert_eq!(client.given(), [Given::Anew(0)]);
    assert_eq!(client.given(), []);
    commit(&dictionary, [set("a", 1)]);
    assert_eq!(Client::join(&frames).given(), [Given::Anew(0)], "as it was published last");
    frames.publish();
    assert_eq!(Client::join(&frames).given(), [Given::Anew(1)]);
    assert_eq!(client.given(), [Given::Frame(0, 1)]);
}

#[test]
fn nothing_pending_publishes_nothing() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let (frames, filtered) = (broadcast(&dictionary), filtered(&dictionary));
    assert!(!frames.publish());
    commit(&dictionary, [set("b", 1), remove("b"), remove("c")]);
    for frames in [&frames, &filtered] {
        assert!(!frames.publish(), "no follower was sent it");
    }
    let mut client = following_a(&filtered);
    assert_eq!(client.given(), [Given::Anew(4)]);
    commit(&dictionary, [set("b", 1)]);
    assert!(frames.publish());
    assert!(!frames.publish());
    assert!(!filtered.publish());
    assert_eq!(client.given(), []);
    assert_eq!(client.follower.position(), at(&dictionary, 5), "it was looked at");
    commit(&dictionary, [set("a", 1)]);
    assert!(filtered.publish(), "setting the same value is a change");
    assert_eq!(client.given(), [Given::Frame(1, 6)]);
}

#[test]
fn tombstones_are_those_of_the_options() {
    let dictionary = Dictionary::new();
    let options = BufferOptions::new().tombstones(Tombstones::Always);
    let frames = dictionary.broadcast(options, |delivery| encode(delivery, |_| true));
    let mut follower = frames.join(Some(dictionary.position()));
    commit(&dictionary, [set("a", 1), remove("a")]);
    assert!(frames.publish());
    assert_eq!(frame(follower.next().unwrap()).encoded().removals, ["a"]);
}

#[test]
fn a_client_that_joins_where_a_frame_begins_continues_with_the_frames() {
    let dictionary = Dictionary::new();
    let frames = broadcast(&dictionary);
    for number in 0..10 {
        commit(&dictionary, [set("a", number), set("b", number)]);
        assert!(frames.publish());
    }
    for begin in 0..=10 {
        let mut follower = frames.join(Some(at(&dictionary, 2 * begin)));
        for next in begin..10 {
            let frame = frame(follower.try_next().unwrap());
            assert_eq!((frame.since().get(), frame.revision().get()), (2 * next, 2 * next + 2));
        }
        assert_eq!(follower.try_next().unwrap_err(), TryFlushError::Empty);
        assert_eq!(follower.position(), dictionary.position());
    }
}

#[test]
fn a_client_that_joins_inside_a_frame_is_caught_up() {
    let dictionary = Dictionary::new();
    let frames = broadcast(&dictionary);
    let mut buffered = Client::join(&frames);
    commit(&dictionary, [set("a", 1), set("b", 1)]);
    let inside = dictionary.position();
    let has = content(&dictionary.snapshot());
    commit(&dictionary, [remove("a"), set("c", 1)]);
    frames.publish();
    (buffered.replica, buffered.position) = (has, Some(inside));
    buffered.rejoin(&frames);
    assert_eq!(buffered.given(), [Given::CatchUp(2, 4)]);
    commit(&dictionary, [set("c", 2)]);
    frames.publish();
    assert_eq!(buffered.given(), [Given::Frame(4, 5)]);
}

#[test]
fn a_client_ahead_of_the_frames_waits_until_they_pass_it() {
    let dictionary = Dictionary::new();
    let frames = broadcast(&dictionary);
    commit(&dictionary, [set("a", 1), set("b", 1)]);
    let mut ahead = Client::join(&frames);
    (ahead.replica, ahead.position) = (content(&dictionary.snapshot()), Some(dictionary.position()));
    ahead.rejoin(&frames);
    assert_eq!(ahead.given(), []);
    assert_eq!(ahead.follower.position(), at(&dictionary, 2));
    commit(&dictionary, [set("a", 2)]);
    assert_eq!(ahead.given(), [], "it was not published");
    frames.publish();
    assert_eq!(ahead.given(), [Given::CatchUp(2, 3)]);

    // Exactly where a frame ends.
    commit(&dictionary, [set("a", 3)]);
    (ahead.replica, ahead.position) = (content(&dictionary.snapshot()), Some(dictionary.position()));
    ahead.rejoin(&frames);
    frames.publish();
    commit(&dictionary, [set("a", 4)]);
    frames.publish();
    assert_eq!(ahead.given(), [Given::Frame(4, 5)]);
}

/// Nothing may come that a frame is made of, and still the client has what is gone.
#[test]
fn a_client_ahead_of_the_frames_receives_removals_that_no_frame_has() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let frames = broadcast(&dictionary);
        commit(&dictionary, [set("a", 1)]);
        let mut ahead = Client::join(&frames);
        (ahead.replica, ahead.position) = (content(&dictionary.snapshot()), Some(dictionary.position()));
        ahead.rejoin(&frames);
        commit(&dictionary, [remove("a")]);
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || {
                let message = ahead.follower.next().unwrap();
                ahead.apply(&message)
            });
            assert!(!frames.publish(), "no frame ever had the key");
            assert_eq!(waiting.join().unwrap(), Given::CatchUp(1, 2));
        });
    });
}

#[test]
fn a_position_that_is_of_no_use_begins_anew() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).content([("a", 1)]).build();
    let old = dictionary.position();
    let foreign = Position { store: StoreId::from(!u64::from(dictionary.id())), revision: Revision::from(1) };
    commit(&dictionary, [set("b", 1), set("b", 2), set("b", 3)]);
    let frames = broadcast(&dictionary);
    for position in [foreign, at(&dictionary, 5), old, at(&dictionary, 0)] {
        let mut client = Client::join(&frames);
        client.follower = frames.join(Some(position));
        let before = client.follower.position();
        assert!(before == position || before == at(&dictionary, 0));
        // An old position that cannot be gone on from is known to be one only when it is looked at.
        client.position = Some(before);
        assert_eq!(client.given(), [Given::Anew(4)], "{position}");
    }
    let empty = Dictionary::new();
    let frames = broadcast(&empty);
    let mut follower = frames.join(Some(foreign));
    assert!(matches!(follower.next().unwrap(), Message::CatchUp(delivery) if delivery.is_full()));
}

#[test]
fn a_follower_that_lags_behind_the_frames_is_caught_up() {
    for (history_limit, expected) in [(1000, Given::CatchUp(1, 42)), (0, Given::Anew(42))] {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
        let frames = broadcast(&dictionary);
        let mut client = Client::join(&frames);
        commit(&dictionary, [set("a", 0)]);
        frames.publish();
        assert_eq!(client.given(), [Given::Anew(1)]);
        for number in 1..=41 {
            commit(&dictionary, [if number % 2 == 0 { set("a", number) } else { set("b", number) }]);
            assert!(frames.publish());
        }
        assert_eq!(client.given(), [expected]);
        commit(&dictionary, [remove("a")]);
        frames.publish();
        assert_eq!(client.given(), [Given::Frame(42, 43)]);
    }
}

#[test]
fn exactly_so_many_frames_are_kept() {
    for lag in [KEPT, KEPT + 1] {
        let dictionary = Dictionary::new();
        let frames = broadcast(&dictionary);
        let mut client = Client::join(&frames);
        assert_eq!(client.given(), [Given::Anew(0)]);
        for number in 0..lag {
            commit(&dictionary, [set("a", i32::try_from(number).unwrap())]);
            frames.publish();
        }
        assert_eq!(client.given().len(), if lag == KEPT { KEPT } else { 1 });
    }
}

#[test]
fn frames_begin_where_the_one_before_ended_whatever_was_looked_at_in_between() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(0).content([("a", 1)]).build();
    let frames = filtered(&dictionary);
    let mut early = following_a(&frames);
    assert_eq!(early.given(), [Given::Anew(1)]);
    commit(&dictionary, [set("b", 1)]);
    assert!(!frames.publish());
    let mut late = following_a(&frames);
    assert_eq!(late.given(), [Given::Anew(2)]);
    commit(&dictionary, [set("b", 2), set("a", 2)]);
    assert!(frames.publish());
    for client in [&mut early, &mut late] {
        assert_eq!(client.given(), [Given::Frame(1, 4)]);
    }
    // A client that was here in between.
    late.replica = Content::from([("a", 1)]);
    late.position = Some(at(&dictionary, 2));
    late.rejoin(&frames);
    assert_eq!(late.given(), [Given::Anew(4)], "there is no history");
}

#[test]
fn a_position_to_resume_from_is_ignored() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let seen = dictionary.position();
    commit(&dictionary, [set("a", 2)]);
    let options = BufferOptions::new().resume(seen);
    let frames = dictionary.broadcast(options, |delivery| encode(delivery, |_| true));
    assert!(!frames.publish());
    let mut client = Client::join(&frames);
    (client.replica, client.position) = (Content::from([("a", 1)]), Some(seen));
    client.rejoin(&frames);
    assert_eq!(client.given(), [Given::CatchUp(1, 2)]);
}

#[test]
fn what_a_broadcast_is_can_be_shown() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let frames = dictionary.broadcast(BufferOptions::new(), |_| "secret");
    let mut follower = frames.join(None);
    let message = follower.next().unwrap();
    assert!(format!("{message:?}").starts_with("CatchUp(Delivery {"), "{message:?}");
    commit(&dictionary, [set("a", 2)]);
    frames.publish();
    assert_eq!(
        format!("{:?}", follower.next().unwrap()),
        "Frame(Frame { since: Revision(1), revision: Revision(2), .. })"
    );
    let shown = format!("{frames:?}");
    assert!(shown.starts_with("Broadcast { revision: Revision(2), frames: [Frame {"), "{shown}");
    assert!(format!("{follower:?}").ends_with("ended: false, .. }"), "{follower:?}");
}
