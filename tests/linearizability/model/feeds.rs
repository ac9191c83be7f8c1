//! What feeds are meant to deliver: buffers, those of clients that reconnect, and feeds of commits.

use super::{Content, Model};
use crate::history::{Call, Commits, Delivery, Looked, Observed};
use crate::program::{Follow, Key, LAST_KEY, Token, Value};
use std::collections::BTreeSet;

/// A commit as it was made.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Commit {
    pub(super) by: Token,
    pub(super) change: Vec<(Key, Option<Value>)>,
}

impl Commit {
    fn touches(&self, key: Key) -> bool {
        self.change.iter().any(|(touched, _)| *touched == key)
    }

    fn removes(&self, key: Key) -> bool {
        let latest = self.change.iter().rfind(|(touched, _)| *touched == key);
        latest.is_some_and(|(_, value)| value.is_none())
    }

    fn keys(&self) -> usize {
        (0..=LAST_KEY).filter(|key| self.touches(*key)).count()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Buffer {
    follow: Follow,
    start: Start,
    made: u64,
    /// Up to where it has looked; before its first look, where it was made, or what it resumes from.
    reached: u64,
    looked: bool,
    /// Whether it has delivered anything, and where the last delivery ended.
    given: bool,
    delivered: u64,
    /// Which of the keys that it follows had a value where it has looked.
    keys: BTreeSet<Key>,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Start {
    Anew,
    Resumed,
    /// From a position that the dictionary cannot resume from.
    Refused,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum End {
    #[default]
    Open,
    /// Frozen when the revision and the content were these.
    At(u64, Content),
    Past,
}

impl Buffer {
    pub(super) fn new(follow: Follow, made: u64) -> Self {
        let keys = BTreeSet::new();
        Self {
            follow,
            start: Start::Anew,
            made,
            reached: made,
            looked: false,
            given: false,
            delivered: 0,
            keys,
            end: End::Open,
        }
    }

    pub(super) fn position(&self) -> u64 {
        if self.looked || self.start == Start::Resumed { self.reached } else { 0 }
    }
}

impl Model {
    /// Whether the history certainly reaches back from one revision to another: it keeps as many keys as its limit says, or
    /// operations, if it keeps commits as they were made. Initial content is not on it.
    pub(super) fn reaches_back(&self, from: u64, to: u64) -> bool {
        let size = |commit: &Commit| if self.commit_history { commit.change.len() } else { commit.keys() };
        let kept: usize = self.between(from, to).map(size).sum();
        from >= self.first_revision && kept <= self.history_limit
    }

    /// The commits after one revision, up to and including another.
    pub(super) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Commit> {
        let index = |revision: u64| usize::try_from(revision - self.first_revision).unwrap_or(usize::MAX);
        self.log[index(from.max(self.first_revision))..index(to)].iter().map(AsRef::as_ref)
    }

    pub(super) fn flush(&self, buffer: usize, wait: bool, seen: &Observed) -> Vec<Self> {
        let (delivery, ended) = match seen {
            Observed::Delivered(delivery) => (Some(delivery), false),
            Observed::Empty if !wait => (None, false),
            Observed::Closed => (None, true),
            _ => return Vec::new(),
        };
        let Some(looked) = self.look(&self.buffers[buffer], delivery, ended) else { return Vec::new() };
        let mut next = self.clone();
        next.buffers[buffer] = looked;
        vec![next]
    }

    pub(super) fn close_buffer(&self, buffer: usize, seen: &Observed) -> Vec<Self> {
        if self.frozen || self.buffers[buffer].end != End::Open {
            return self.same_if(*seen == Observed::Is(false));
        }
        let mut next = self.clone();
        next.buffers[buffer].end = End::At(self.revision, self.content.clone());
        next.only_if(*seen == Observed::Is(true))
    }

    pub(super) fn connect(&self, lost: bool, call: &Call) -> Vec<Self> {
        let follow = self.follow_clients;
        let made = Buffer::new(follow, self.revision);
        let buffer = match self.clients.get(&call.thread) {
            _ if lost => Buffer { start: Start::Refused, ..made },
            Some((position, keys)) => {
                let (reached, delivered, keys) = (*position, *position, keys.clone());
                Buffer { start: Start::Resumed, reached, delivered, keys, ..made }
            }
            None => made,
        };
        let position = buffer.position();
        let mut next = self.clone();
        next.connections.insert(call.thread, buffer);
        next.only_if(call.observed == Observed::Position(position))
    }

    pub(super) fn flush_connection(&self, call: &Call) -> Vec<Self> {
        let Observed::Looked(Looked { delivery, ended, position }) = &call.observed else { return Vec::new() };
        let looked = self.connections.get(&call.thread).and_then(|it| self.look(it, delivery.as_ref(), *ended));
        let Some(looked) = looked.filter(|looked| looked.position() == *position) else { return Vec::new() };
        let mut next = self.clone();
        next.clients.insert(call.thread, (*position, looked.keys.clone()));
        next.connections.insert(call.thread, looked);
        vec![next]
    }

    /// The buffer after a flush that gave this, if it may have.
    fn look(&self, buffer: &Buffer, seen: Option<&Delivery>, ended: bool) -> Option<Buffer> {
        let Buffer { follow, start, made, reached, looked, given, delivered, keys: before, end } = buffer;
        let (to, content, last) = match end {
            End::Open => (self.revision, &self.content, self.frozen),
            End::At(revision, content) => (*revision, content, true),
            End::Past => return (seen.is_none() && ended).then(|| buffer.clone()),
        };
        let followed = || content.iter().filter(|(key, _)| follow.passes(**key));
        let set_after = |from: u64| {
            let newer = followed().filter(move |(_, (_, revision))| *revision > from);
            newer.map(|(key, (value, revision))| (*key, *value, *revision)).collect::<Vec<_>>()
        };
        let certain = self.reaches_back(*reached, to);
        // A client that cannot resume is given the whole content, also if that is nothing.
        let refused = !looked
            && match start {
                Start::Anew => false,
                Start::Resumed => !certain && seen.is_some_and(|delivery| delivery.fresh),
                Start::Refused => true,
            };
        let at_first = *start != Start::Resumed && !given;
        let fresh = refused || at_first;
        let updates = if refused || at_first && !looked { set_after(0) } else { set_after(*reached) };

        // All that were removed since the last look, as long as the history reaches back so far; or those delivered before.
        // Since the buffer was made, if it begins anew.
        let since = if refused { *made } else { *reached };
        let certain = self.reaches_back(since, to);
        let gone = |key: &Key| follow.passes(*key) && !content.contains_key(key);
        let removed: BTreeSet<_> = (0..=LAST_KEY)
            .filter(|key| gone(key) && self.between(since, to).any(|commit| commit.removes(*key)))
            .collect();
        let known: BTreeSet<_> = before.iter().filter(|key| !refused && gone(key)).copied().collect();
        let (at_least, at_most) = match follow.always {
            false => (&known, &known),
            true if certain => (&removed, &removed),
            true => (&known, &removed),
        };
        let removals: BTreeSet<_> = seen.into_iter().flat_map(|delivery| delivery.removals.iter().copied()).collect();
        if !(at_least.is_subset(&removals) && removals.is_subset(at_most)) {
            return None;
        }

        let nothing = updates.is_empty() && removals.is_empty() && !refused;
        let possible = match seen {
            None => nothing && ended == last,
            Some(_) if nothing => false,
            Some(seen) => {
                let from = if fresh { 0 } else { *delivered };
                (seen.fresh, seen.from, seen.to) == (fresh, from, to) && seen.updates == updates
            }
        };
        possible.then(|| Buffer {
            reached: to,
            looked: true,
            given: *given || !nothing,
            delivered: if nothing { *delivered } else { to },
            keys: followed().map(|(key, _)| *key).collect(),
            end: if last { End::Past } else { End::Open },
            ..buffer.clone()
        })
    }

    pub(super) fn flush_commits(&self, seen: &Commits) -> Vec<Self> {
        let mut next = self.clone();
        next.recorded = seen.to;
        next.only_if(self.recorded == seen.after && self.commits_after(seen))
    }

    /// Whether a feed of commits may deliver this now.
    pub(super) fn commits_after(&self, seen: &Commits) -> bool {
        let Commits { after, to, lagged, kept: commits, ended } = seen;
        if *to != self.revision || *after > *to {
            return false;
        }
        if after == to {
            return lagged.is_none() && commits.is_empty() && *ended == self.frozen;
        }
        let certain = self.commit_history && self.reaches_back(*after, *to);
        let first = match lagged {
            Some((from, first)) if certain || from != after || first <= from || first > to => return false,
            Some((_, first)) => *first,
            None => *after,
        };
        let kept = self.commit_history || first == *to;
        let made = self.between(first, *to).zip(first + 1..);
        let as_made = |(seen, (made, revision)): (&crate::history::Commit, (&Commit, u64))| {
            // The keys of a session are in no order.
            let (mut one, mut other) = (made.change.clone(), seen.change.clone());
            if one.iter().all(|(_, value)| value.is_none()) {
                one.sort_unstable();
                other.sort_unstable();
            }
            seen.revision == revision && made.by == seen.token && one == other
        };
        let count = usize::try_from(to - first).unwrap_or(usize::MAX);
        !ended
            && kept
            && first >= self.first_revision
            && commits.len() == count
            && commits.iter().zip(made).all(as_made)
    }
}
