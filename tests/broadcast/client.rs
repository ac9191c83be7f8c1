//! A client of a broadcast who looks at each step whether what it has is right.

use crate::common::{Dictionary, content, parts};
use state_dictionary::{
    Broadcast, BufferOptions, Delivery, FlushError, Follower, Frame, Message, Position, Revision, TryFlushError,
};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Key = &'static str;
pub(crate) type Content = BTreeMap<Key, i32>;

/// How many frames are kept.
pub(crate) const KEPT: usize = 32;

/// An encoded change: its updates, its removals, and all that is followed, to compare with.
#[derive(Debug, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) updates: Vec<(Key, i32)>,
    pub(crate) removals: Vec<Key>,
    pub(crate) whole: Content,
}

pub(crate) type Frames = Broadcast<Key, i32, Encoded>;

pub(crate) fn encode(delivery: &Delivery<Key, i32>, follows: impl Fn(Key) -> bool) -> Encoded {
    let (updates, removals) = parts(delivery);
    let whole = content(&delivery.snapshot()).into_iter().filter(|(key, _)| follows(key)).collect();
    Encoded { updates, removals, whole }
}

pub(crate) fn follows_a(key: Key) -> bool {
    key.starts_with('a')
}

pub(crate) fn broadcast(dictionary: &Dictionary) -> Frames {
    dictionary.broadcast(BufferOptions::new(), |delivery| encode(delivery, |_| true))
}

/// Of the keys that begin with an `a`.
pub(crate) fn filtered(dictionary: &Dictionary) -> Frames {
    dictionary.broadcast(BufferOptions::new().prefixes(["a"]), |delivery| encode(delivery, follows_a))
}

/// A client that applies what its follower returns, and checks each step.
pub(crate) struct Client {
    pub(crate) follower: Follower<Key, i32, Encoded>,
    pub(crate) follows: fn(Key) -> bool,
    pub(crate) replica: Content,
    pub(crate) position: Option<Position>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Given {
    Frame(u64, u64),
    CatchUp(u64, u64),
    Anew(u64),
}

impl Client {
    pub(crate) fn join(frames: &Frames) -> Self {
        let follower = frames.join(None);
        Self { follower, follows: |_| true, replica: Content::from([("from before", 1)]), position: None }
    }

    /// Joins again from where it is.
    pub(crate) fn rejoin(&mut self, frames: &Frames) {
        self.follower = frames.join(self.position);
    }

    pub(crate) fn apply(&mut self, message: &Message<Key, i32, Encoded>) -> Given {
        let now = self.position.map_or(0, |position| position.revision.get());
        let (given, whole) = match message {
            Message::Frame(frame) => {
                let Encoded { updates, removals, whole } = frame.encoded();
                assert!(frame.since().get() <= now && now < frame.revision().get(), "{frame:?} at {now}");
                self.replica.extend(updates.iter().copied());
                for key in removals {
                    assert!(self.replica.remove(key).is_some(), "the removal of a key that it does not have");
                }
                (Given::Frame(frame.since().get(), frame.revision().get()), whole.clone())
            }
            Message::CatchUp(delivery) => {
                let (updates, removals) = parts(delivery);
                if delivery.is_full() {
                    self.replica.clear();
                }
                self.replica.extend(updates);
                for key in removals {
                    assert!(self.replica.remove(key).is_some(), "the removal of a key that it does not have");
                }
                let to = delivery.revision().get();
                let given = if delivery.is_full() { Given::Anew(to) } else { Given::CatchUp(now, to) };
                assert!(delivery.is_full() || delivery.since().get() == now);
                (given, encode(delivery, self.follows).whole)
            }
        };
        assert_eq!(self.replica, whole, "after {message:?}");
        assert_eq!(message.position(), self.follower.position());
        self.position = Some(message.position());
        given
    }

    /// All that there is, and why there is no more.
    pub(crate) fn follow(&mut self) -> (Vec<Given>, TryFlushError) {
        let mut all = Vec::new();
        loop {
            match self.follower.try_next() {
                Ok(message) => all.push(self.apply(&message)),
                Err(reason) => {
                    assert!(
                        self.follower.position().revision >= self.position.map_or(Revision::ZERO, |at| at.revision)
                    );
                    self.position = Some(self.follower.position());
                    return (all, reason);
                }
            }
        }
    }

    pub(crate) fn given(&mut self) -> Vec<Given> {
        let (all, reason) = self.follow();
        assert_eq!(reason, TryFlushError::Empty);
        all
    }

    pub(crate) fn given_last(&mut self) -> Vec<Given> {
        let (all, reason) = self.follow();
        assert_eq!(reason, TryFlushError::Closed);
        assert_eq!(self.follower.next().unwrap_err(), FlushError, "for good");
        all
    }
}

pub(crate) fn following_a(frames: &Frames) -> Client {
    Client { follows: follows_a, ..Client::join(frames) }
}

pub(crate) fn at(dictionary: &Dictionary, revision: u64) -> Position {
    Position { store: dictionary.id(), revision: Revision::from(revision) }
}

pub(crate) fn frame(message: Message<Key, i32, Encoded>) -> Arc<Frame<Encoded>> {
    let Message::Frame(frame) = message else { panic!("{message:?}") };
    frame
}
