//! What a broadcast is meant to publish, and what its followers are to be given.

use super::{Content, Model};
use crate::history::{Call, Delivery, Looked, Observed};
use crate::program::Key;
use std::collections::BTreeSet;

/// How many frames are kept under a checker.
const KEPT: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Broadcast {
    /// Up to where it has looked.
    looked: u64,
    /// Where the newest frame ends.
    published: u64,
    /// Oldest first.
    frames: Vec<Frame>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Frame {
    since: u64,
    to: u64,
    updates: Vec<(Key, u8, u64)>,
    removals: Vec<Key>,
}

/// A client of the broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// `None` if it has nothing.
    reached: Option<u64>,
    /// Where the frame begins that it can continue with.
    boundary: u64,
}

impl Broadcast {
    pub(super) fn new(made: u64) -> Self {
        Self { looked: made, published: made, frames: Vec::new() }
    }
}

impl Model {
    /// What is followed of the content when this was the revision.
    fn content_at(&self, revision: u64) -> Content {
        if revision < self.first_revision {
            return Content::new();
        }
        let mut content = self.initial.clone();
        for (commit, at) in self.between(self.first_revision, revision).zip(self.first_revision + 1..) {
            for (key, value) in &commit.change {
                match value {
                    Some(value) => content.insert(*key, (*value, at)),
                    None => content.remove(key),
                };
            }
        }
        content.retain(|key, _| self.follow_clients.passes(*key));
        content
    }

    /// The updates and removals that lead from one revision to another.
    fn difference(&self, from: u64, to: u64) -> (Vec<(Key, u8, u64)>, Vec<Key>) {
        let (before, after) = (self.content_at(from), self.content_at(to));
        let updates = after.iter().filter(|(_, (_, revision))| *revision > from);
        let updates = updates.map(|(key, (value, revision))| (*key, *value, *revision)).collect();
        (updates, before.keys().filter(|key| !after.contains_key(key)).copied().collect())
    }

    /// What is published that was committed up to this revision. Whether that is a frame.
    fn published_up_to(&self, revision: u64) -> (Self, bool) {
        let mut next = self.clone();
        let Broadcast { looked, published, frames } = &mut next.broadcast;
        let (updates, removals) = self.difference(*looked, revision);
        *looked = revision;
        let framed = !(updates.is_empty() && removals.is_empty());
        if framed {
            frames.push(Frame { since: *published, to: revision, updates, removals });
            *published = revision;
            if frames.len() > KEPT {
                frames.remove(0);
            }
        }
        (next, framed)
    }

    /// A publisher looks at some instant of its call, and publishes later in the call.
    pub(super) fn publish(&self, call: &Call) -> Vec<Self> {
        let looks = self.broadcast.looked.max(call.earliest_revision)..=self.revision;
        let published = looks.map(|revision| self.published_up_to(revision));
        published.filter(|(_, framed)| call.observed == Observed::Is(*framed)).map(|(next, _)| next).collect()
    }

    pub(super) fn join(&self, lost: bool, call: &Call) -> Vec<Self> {
        let reached = self.clients.get(&call.thread).filter(|_| !lost).map(|(position, _)| *position);
        let boundary = reached.unwrap_or(0);
        let mut next = self.clone();
        next.clients_of_broadcast.insert(call.thread, Follower { reached, boundary });
        next.only_if(call.observed == Observed::Position(boundary))
    }

    /// When the dictionary is frozen, a follower that has everything publishes what is left.
    pub(super) fn next(&self, call: &Call) -> Vec<Self> {
        let not_removed = self.frozen && self.broadcast.looked < self.revision;
        let published = not_removed.then(|| self.published_up_to(self.revision).0);
        [Some(self), published.as_ref()].into_iter().flatten().filter_map(|state| state.given(call)).collect()
    }

    fn given(&self, call: &Call) -> Option<Self> {
        let Observed::Next { frame: is_frame, looked: Looked { delivery: seen, ended, position } } = &call.observed
        else {
            return None;
        };
        let Follower { reached, boundary } = self.clients_of_broadcast.get(&call.thread)?;
        let Broadcast { looked, published, frames } = &self.broadcast;
        let seen = seen.as_ref();
        let exactly = |frame: &&Frame| reached.is_some() && frame.since == *boundary;
        let frame = frames.iter().find(exactly);
        // A follower that has looked, and then publishes what is left, may be where the look brought it: elsewhere than where
        // the last frame begins, with the same content.
        let looked_before = |frame: &&Frame| {
            let before = reached.filter(|reached| *reached < frame.to);
            before.is_some_and(|reached| self.content_at(reached) == self.content_at(frame.since))
        };
        let frame = frame.or_else(|| frames.last().filter(|frame| self.frozen && *is_frame && looked_before(frame)));
        let (possible, next) = match (reached, frame) {
            (None, _) => (seen.is_some_and(|seen| self.is_whole(seen)), (*looked, *published)),
            (Some(_), Some(frame)) => {
                let Frame { since, to, updates, removals } = frame;
                let delivery = Delivery {
                    fresh: false,
                    from: *since,
                    to: *to,
                    updates: updates.clone(),
                    removals: removals.clone(),
                };
                (seen == Some(&delivery), (*to, *to))
            }
            (Some(_), None) if boundary == published => (seen.is_none(), (*looked, *published)),
            (Some(reached), None) if reached <= looked => (self.catches_up(*reached, seen), (*looked, *published)),
            (Some(reached), None) => (seen.is_none(), (*reached, *boundary)),
        };
        let last = self.frozen && *looked == self.revision;
        let is_last = seen.is_none() && last;
        // A follower that has everything of a frozen dictionary does not keep waiting.
        let waits = seen.is_none() && self.frozen && !last;
        if !possible || waits || *ended != is_last || *is_frame != frame.is_some() || *position != next.0 {
            return None;
        }
        let mut state = self.clone();
        let keys: BTreeSet<_> = self.content_at(next.0).into_keys().collect();
        state.clients.insert(call.thread, (next.0, keys));
        state.clients_of_broadcast.insert(call.thread, Follower { reached: Some(next.0), boundary: next.1 });
        Some(state)
    }

    fn is_whole(&self, seen: &Delivery) -> bool {
        let to = self.broadcast.looked;
        let (updates, _) = self.difference(0, to);
        (seen.fresh, seen.from, seen.to) == (true, 0, to) && seen.updates == updates && seen.removals.is_empty()
    }

    /// Whether a client that is at `reached` may be given this to bring it to what was looked at.
    fn catches_up(&self, reached: u64, seen: Option<&Delivery>) -> bool {
        let to = self.broadcast.looked;
        let (updates, removals) = self.difference(reached, to);
        match seen {
            None => updates.is_empty() && removals.is_empty(),
            Some(seen) if seen.fresh => !self.reaches_back(reached, to) && self.is_whole(seen),
            Some(seen) => {
                let something = !(updates.is_empty() && removals.is_empty());
                something
                    && (seen.from, seen.to) == (reached, to)
                    && (&seen.updates, &seen.removals) == (&updates, &removals)
            }
        }
    }
}
