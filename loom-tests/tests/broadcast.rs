//! Broadcasts: publishing, joining and following against commits and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, actor, explore, explore_bounded, join, shared};
use state_dictionary::{
    Broadcast, BufferOptions, Change, Delivery, FlushError, Follower, Message, Position, TryFlushError,
};
use std::collections::BTreeMap;
use std::sync::Arc;

type Content = BTreeMap<u8, u32>;

/// An encoded change: what is set, what is removed, and all that there is then, to compare with.
struct Encoded {
    set: Content,
    removed: Vec<u8>,
    whole: Content,
}

type Frames = Broadcast<u8, u32, Encoded>;

fn encode(delivery: &Delivery<u8, u32>) -> Encoded {
    Encoded {
        set: delivery.updates().map(|(key, entry)| (*key, **entry)).collect(),
        removed: delivery.removals().copied().collect(),
        whole: delivery.snapshot().iter().map(|(key, value)| (*key, *value)).collect(),
    }
}

fn broadcast(dictionary: &Dictionary) -> Frames {
    dictionary.broadcast(BufferOptions::new(), encode)
}

/// What a client has that applies what it is given: at each step the content of its position.
#[derive(Default)]
struct Client {
    replica: Content,
    revision: u64,
    frames: usize,
}

impl Client {
    fn apply(&mut self, message: &Message<u8, u32, Encoded>) {
        let apply = |replica: &mut Content, change: &Encoded| {
            replica.extend(&change.set);
            for key in &change.removed {
                assert!(replica.remove(key).is_some(), "the removal of a key that the client does not have");
            }
            assert_eq!(*replica, change.whole, "after {message:?}");
        };
        match message {
            Message::Frame(frame) => {
                assert_eq!(frame.since().get(), self.revision, "frames do not join");
                apply(&mut self.replica, frame.encoded());
                self.frames += 1;
            }
            Message::CatchUp(delivery) => {
                if delivery.is_full() {
                    self.replica.clear();
                } else {
                    assert_eq!(delivery.since().get(), self.revision, "what is caught up does not join");
                }
                apply(&mut self.replica, &encode(delivery));
            }
        }
        self.revision = message.position().revision.get();
    }

    fn follow(&mut self, follower: &mut Follower<u8, u32, Encoded>) -> TryFlushError {
        loop {
            match follower.try_next() {
                Ok(message) => self.apply(&message),
                Err(reason) => return reason,
            }
        }
    }

    fn assert_equals(&self, dictionary: &Dictionary) {
        let content: Content = dictionary.snapshot().iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!((&self.replica, self.revision), (&content, dictionary.revision().get()));
    }
}

/// Invariant: whenever a client joins, what it is given adds up to the content of its position, also if its position is
/// ahead of what is published, and goes on without a gap or an overlap.
#[test]
fn join_against_publish_and_commit() {
    explore("join_against_publish_and_commit", 4400, || {
        let dictionary = shared();
        dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap();
        let frames = Arc::new(broadcast(&dictionary));
        let publisher = actor(&frames, |frames| {
            frames.publish();
        });
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(1, 1).remove(0)).unwrap());
        let joined = Arc::clone(&frames);
        let client = actor(&dictionary, move |d| {
            // Where the dictionary is, which may not have been published.
            let here = d.snapshot();
            let revision = here.revision();
            let mut client = Client {
                replica: here.iter().map(|(key, value)| (*key, *value)).collect(),
                revision: revision.get(),
                frames: 0,
            };
            let mut follower = joined.join(Some(Position { store: d.id(), revision }));
            assert_eq!(client.follow(&mut follower), TryFlushError::Empty);
            let mut anew = (Client::default(), joined.join(None));
            assert_eq!(anew.0.follow(&mut anew.1), TryFlushError::Empty);
            [(client, follower), anew]
        });
        join(publisher);
        join(writer);
        let clients = join(client);
        frames.publish();
        for (mut client, mut follower) in clients {
            assert_eq!(client.follow(&mut follower), TryFlushError::Empty);
            client.assert_equals(&dictionary);
        }
    });
}

/// Invariant: of several threads that publish at once every commit is in one frame, frames join, and what was committed before
/// a call is published after it.
#[test]
fn two_publishers_against_commits() {
    explore("two_publishers_against_commits", 320, || {
        let dictionary = shared();
        let frames = Arc::new(broadcast(&dictionary));
        let mut follower = frames.join(None);
        let mut client = Client::default();
        assert_eq!(client.follow(&mut follower), TryFlushError::Empty);
        dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap();
        let publisher = actor(&frames, |frames| usize::from(frames.publish()));
        let own = Arc::clone(&frames);
        let writer = actor(&dictionary, move |d| {
            let first = d.update_state(&'a', Change::new().set(0, 2).set(1, 2)).unwrap();
            let made = usize::from(own.publish());
            let mut late = Client::default();
            late.follow(&mut own.join(None));
            assert!(late.revision >= first.get(), "what was committed before the call is published");
            d.update_state(&'a', Change::new().remove(0)).unwrap();
            made
        });
        let made = join(publisher) + join(writer) + usize::from(frames.publish());
        assert_eq!(client.follow(&mut follower), TryFlushError::Empty);
        client.assert_equals(&dictionary);
        // Of more than two frames the first are no longer kept.
        assert_eq!(client.frames, if made > 2 { 0 } else { made });
    });
}

/// Invariant: a follower that waits is woken by what is published.
#[test]
fn waiting_follower_against_publish() {
    explore("waiting_follower_against_publish", 650, || {
        let dictionary = shared();
        let frames = Arc::new(broadcast(&dictionary));
        let mut follower = frames.join(Some(dictionary.position()));
        dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap();
        let waiting = loom::thread::spawn(move || follower.next().unwrap().position().revision.get());
        let publisher = actor(&frames, Frames::publish);
        assert!(join(publisher));
        assert_eq!(join(waiting), 1);
    });
}

/// Invariant: when the dictionary is frozen every follower receives everything, and then the end, whichever thread
/// publishes what is left.
#[test]
fn two_waiting_followers_against_commit_and_freeze() {
    explore_bounded("two_waiting_followers_against_commit_and_freeze", 2, 18000, || {
        let dictionary = shared();
        let frames = Arc::new(broadcast(&dictionary));
        let followers = [(); 2].map(|()| {
            let mut follower = frames.join(Some(dictionary.position()));
            loom::thread::spawn(move || {
                let mut client = Client::default();
                loop {
                    match follower.next() {
                        Ok(message) => client.apply(&message),
                        Err(reason) => return (client, reason),
                    }
                }
            })
        });
        let writer = actor(&dictionary, |d| {
            d.update_state(&'a', Change::new().set(0, 1)).unwrap();
            d.freeze();
        });
        join(writer);
        for (client, reason) in followers.map(join) {
            assert_eq!(reason, FlushError);
            client.assert_equals(&dictionary);
            assert_eq!(client.frames, 1, "of one commit");
        }
        assert!(!frames.publish());
    });
}

/// Invariant: a follower is given what was published before its broadcast was dropped, and then the end.
#[test]
fn waiting_follower_against_the_end_of_its_broadcast() {
    explore("waiting_follower_against_the_end_of_its_broadcast", 7200, || {
        let dictionary = shared();
        let frames = broadcast(&dictionary);
        let mut follower = frames.join(Some(dictionary.position()));
        let waiting = loom::thread::spawn(move || {
            let mut client = Client::default();
            loop {
                match follower.next() {
                    Ok(message) => client.apply(&message),
                    Err(reason) => return (client.revision, reason),
                }
            }
        });
        let owner = actor(&dictionary, move |d| {
            d.update_state(&'a', Change::new().set(0, 1)).unwrap();
            frames.publish();
            d.update_state(&'a', Change::new().set(0, 2)).unwrap();
            drop(frames);
        });
        join(owner);
        assert_eq!(join(waiting), (1, FlushError));
    });
}

/// Invariant: a follower that is overtaken by more frames than are kept is caught up, or begins anew, and goes on.
#[test]
fn slow_follower_against_more_frames_than_are_kept() {
    explore("slow_follower_against_more_frames_than_are_kept", 650, || {
        let dictionary = shared();
        let frames = Arc::new(broadcast(&dictionary));
        let mut follower = frames.join(Some(dictionary.position()));
        let own = Arc::clone(&frames);
        let publisher = actor(&dictionary, move |d| {
            for change in [
                Change::new().set(0, 1),
                Change::new().set(1, 2),
                Change::new().set(0, 3).remove(1),
                Change::new().set(2, 4),
            ] {
                d.update_state(&'a', change).unwrap();
                own.publish();
            }
        });
        let client = loom::thread::spawn(move || {
            let mut client = Client::default();
            client.follow(&mut follower);
            (client, follower)
        });
        join(publisher);
        let (mut client, mut follower) = join(client);
        assert_eq!(client.follow(&mut follower), TryFlushError::Empty);
        client.assert_equals(&dictionary);
    });
}
