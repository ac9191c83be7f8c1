//! What a feed of locks must deliver: what has happened to them, in order and without a gap, or all there are.
//!
//! The crate chooses when it removes an expired lock: at some moment before the lock is granted again. So the model
//! accepts the event of that end whenever it comes. All other events are delivered exactly when they happen.

use super::locks::Lock;
use crate::history::{Event, Kind, LockChange, Observed};
use crate::program::{Key, Token};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LockFeed {
    /// How many events are kept at least.
    limit: usize,
    /// The locks as they were delivered.
    known: BTreeMap<Key, (Token, u64)>,
    /// What has happened since, step by step, except for locks that have expired; and of which call it was a step, if
    /// that has several.
    pending: Vec<(Option<u64>, Vec<LockChange>)>,
    version: u64,
    revision: u64,
}

/// When a flush takes place.
#[derive(Clone, Copy)]
pub(super) struct Instant {
    pub(super) clock: u64,
    /// The clock stood no lower when the flush began to look for locks that have expired.
    pub(super) certainly: u64,
    /// When the flush began.
    pub(super) began: u64,
    pub(super) revision: u64,
}

impl LockFeed {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: BTreeMap::new(), pending: Vec::new(), version: 0, revision: 0 }
    }

    /// What one step did.
    pub(super) fn add(&mut self, mut told: Vec<LockChange>, step: Option<u64>) {
        if !told.is_empty() {
            told.sort_unstable();
            self.pending.push((step, told));
        }
    }

    /// Whether a flush may return this. Locks whose end was delivered are removed.
    pub(super) fn flush(
        &mut self,
        locks: &mut BTreeMap<Key, Lock>,
        now: Instant,
        frozen: bool,
        seen: &Observed,
    ) -> bool {
        match seen {
            Observed::Empty => !frozen && self.pending.is_empty() && self.is_right(locks, now),
            Observed::Closed => frozen && (self.pending.is_empty() || self.may_have_lagged()),
            Observed::LockEvents(events) => self.take(events, locks, now) && (frozen || self.is_right(locks, now)),
            Observed::EveryLock(revision, all) => {
                let possible = !frozen && self.may_have_lagged() && *revision == now.revision;
                self.pending.clear();
                self.known = all.iter().map(|(key, owner, token)| (*key, (*owner, *token))).collect();
                self.revision = now.revision;
                forget_expired(locks, &self.known, now);
                possible && self.is_right(locks, now)
            }
            _ => false,
        }
    }

    /// If everything that may have happened has.
    fn may_have_lagged(&self) -> bool {
        let pending = || self.pending.iter().flat_map(|(_, told)| told);
        let expired = self.known.len() + pending().filter(|told| told.kind == Kind::Granted).count();
        pending().count() + expired > self.limit
    }

    /// Whether the locks are as they were delivered, except for those that have just expired, which may not yet be
    /// removed.
    fn is_right(&self, locks: &BTreeMap<Key, Lock>, now: Instant) -> bool {
        let there = self.known.iter().all(|(key, known)| {
            locks.get(key).is_some_and(|lock| {
                let goes_on = lock.deadline.is_none_or(|deadline| deadline > now.certainly);
                (lock.owner, lock.token) == *known && (goes_on || lock.settled > now.began)
            })
        });
        there && locks.keys().all(|key| self.known.contains_key(key))
    }

    /// Follows events, which must be those that are pending, with ends of locks that have expired among them.
    fn take(&mut self, events: &[Event], locks: &mut BTreeMap<Key, Lock>, now: Instant) -> bool {
        let mut pending = std::mem::take(&mut self.pending).into_iter().peekable();
        for together in events.chunk_by(|one, other| one.version == other.version) {
            if together[0].version <= self.version {
                return false;
            }
            self.version = together[0].version;
            let mut expected = Vec::new();
            for Event { version, revision, told } in together {
                let LockChange { kind, key, owner, token } = *told;
                let in_order = self.revision <= *revision && *revision <= now.revision;
                let followed = match kind {
                    Kind::Granted => token == *version && self.known.insert(key, (owner, token)).is_none(),
                    _ => self.known.remove(&key) == Some((owner, token)),
                };
                if !(in_order && followed) {
                    return false;
                }
                self.revision = *revision;
                if kind == Kind::Expired {
                    let ran_out =
                        |lock: &Lock| lock.token == token && lock.deadline.is_some_and(|deadline| deadline > now.clock);
                    if locks.get(&key).is_some_and(ran_out) {
                        return false;
                    }
                } else {
                    expected.push(*told);
                }
            }
            expected.sort_unstable();
            if expected.is_empty() {
                continue;
            }
            let Some((step, mut told)) = pending.next() else { return false };
            while told.len() < expected.len() {
                match pending.next_if(|(other, _)| step.is_some() && *other == step) {
                    Some((_, more)) => told.extend(more),
                    None => break,
                }
            }
            told.sort_unstable();
            if told != expected {
                return false;
            }
        }
        forget_expired(locks, &self.known, now);
        pending.next().is_none() && !events.is_empty()
    }
}

/// Removes the expired locks whose end was delivered.
fn forget_expired(locks: &mut BTreeMap<Key, Lock>, known: &BTreeMap<Key, (Token, u64)>, now: Instant) {
    locks.retain(|key, lock| {
        lock.deadline.is_none_or(|deadline| deadline > now.clock) || known.get(key) == Some(&(lock.owner, lock.token))
    });
}
