//! What belongs to clients: sessions, and where they are when they reconnect.

use super::locks::Slack;
use super::{Model, add};
use crate::history::{Call, Delivery, Kind, Left, Observed, Reconnected, SessionEnd};
use crate::program::{Key, Token};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Session {
    pub(super) token: Token,
    pub(super) keys: BTreeSet<Key>,
}

impl Model {
    pub(super) fn begin_session(&self, by: Token, call: &Call) -> Vec<Self> {
        let mut next = self.clone();
        let begun = Session { token: by, keys: BTreeSet::new() };
        if !self.lingering.iter().any(|(session, _)| session.token == by) {
            next.sessions.insert(call.thread, begun);
            return next.only_if(call.observed == Observed::Is(false));
        }
        let each = self.lingering.iter().enumerate().filter(|(_, (session, _))| session.token == by);
        let mut all = Vec::new();
        for (index, _) in each.filter(|_| call.observed == Observed::Is(true)) {
            let mut next = self.clone();
            let (session, _) = next.lingering.remove(index);
            next.sessions.insert(call.thread, session);
            add(&mut all, vec![next]);
        }
        all
    }

    pub(super) fn leave_session(&self, grace: u64, call: &Call) -> Vec<Self> {
        let mut all = Vec::new();
        // The time is counted from some moment of the call.
        for left in call.earliest_clock..=self.clock {
            let mut next = self.clone();
            let Some(session) = next.sessions.remove(&call.thread) else { return Vec::new() };
            next.linger(session, Some(left + grace));
            add(&mut all, vec![next]);
        }
        all
    }

    fn linger(&mut self, session: Session, due: Option<u64>) {
        self.lingering.push((session, due));
        self.lingering.sort_unstable();
    }

    pub(super) fn end_session(&self, call: &Call) -> Vec<Self> {
        let mut next = self.clone();
        let Some(session) = next.sessions.remove(&call.thread) else { return Vec::new() };
        next.end(&session, true, call)
    }

    pub(super) fn end_lingering(&self, by: Token, call: &Call) -> Vec<Self> {
        let due =
            |(session, due): &(Session, Option<u64>)| session.token == by && due.is_some_and(|due| due <= self.clock);
        let mut all = Vec::new();
        for (index, _) in self.lingering.iter().enumerate().filter(|(_, session)| due(session)) {
            let mut next = self.clone();
            let (session, _) = next.lingering.remove(index);
            add(&mut all, next.end(&session, false, call));
        }
        all
    }

    /// What a session leaves that is ended: locks and keys go in one step.
    fn end(&self, session: &Session, waits: bool, call: &Call) -> Vec<Self> {
        self.any_view(call, Slack::Late, |held| {
            let mut next = self.clone();
            let by_another =
                |key: &Key| self.locks.get(key).filter(|lock| held.contains(key) && lock.owner != session.token);
            let mut end = SessionEnd { revision: 0, released: Vec::new(), removed: Vec::new(), left: Vec::new() };
            for key in &session.keys {
                match by_another(key) {
                    Some(lock) => end.left.push((*key, Left::Locked(lock.owner))),
                    None if self.frozen => end.left.push((*key, Left::Frozen)),
                    None if waits && self.held == Some(call.thread) => end.left.push((*key, Left::PutOff)),
                    // It is not done yet.
                    None if self.held.is_some() => return Vec::new(),
                    None => end.removed.push(*key),
                }
            }
            if !end.removed.is_empty() {
                let removals: Vec<_> = end.removed.iter().map(|key| (*key, None)).collect();
                next.commit(&removals, None);
            }
            end.revision = next.revision;
            next.locks.retain(|key, _| held.contains(key));
            end.released = next.take_locks(|lock| lock.owner == session.token, Kind::Released, held);
            if end.left.iter().any(|(_, left)| *left == Left::PutOff) {
                next.linger(session.clone(), None);
            }
            next.only_if(call.observed == Observed::SessionEnd(end))
        })
    }

    /// A buffer that is made to go on from where the client is, and flushed once.
    pub(super) fn reconnect(&self, call: &Call) -> Vec<Self> {
        let Observed::Reconnected(Reconnected { delivery, fresh, ended, position }) = &call.observed else {
            return Vec::new();
        };
        let all = |from: u64| self.content.iter().filter(move |(_, (_, revision))| *revision > from);
        let as_updates = |from| all(from).map(|(key, (value, revision))| (*key, *value, *revision)).collect::<Vec<_>>();
        let whole = Delivery { from: 0, to: self.revision, updates: as_updates(0), removals: Vec::new() };
        let client = self.clients.get(&call.thread);
        let difference = client.map(|(from, keys)| {
            let removals = keys.iter().filter(|key| !self.content.contains_key(key)).copied().collect();
            Delivery { from: *from, to: self.revision, updates: as_updates(*from), removals }
        });
        let nothing = match &difference {
            Some(difference) => difference.updates.is_empty() && difference.removals.is_empty(),
            None => self.content.is_empty(),
        };
        // At most three keys in a commit, so that for so long the trail certainly reaches back.
        let certainly = |from: u64| (self.revision - from) * 3 <= self.trail_limit as u64;
        let possible = match delivery {
            // Whoever could not go on is given the whole content, also if that is nothing.
            Some(delivery) if *fresh => *delivery == whole && client.is_none_or(|(from, _)| !certainly(*from)),
            Some(delivery) => !nothing && difference.as_ref() == Some(delivery),
            None => nothing && *ended == self.frozen,
        };
        // It was looked at, whether or not there was anything to deliver.
        let mut next = self.clone();
        next.clients.insert(call.thread, (self.revision, self.content.keys().copied().collect()));
        next.only_if(possible && *position == self.revision)
    }
}
