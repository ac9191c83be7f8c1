//! What locks are meant to do.

use super::lock_feed::Instant;
use super::{Model, add};
use crate::history::{Call, Kind, LockChange, Observed, Receipt};
use crate::program::{Key, Lease, Token};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) owner: Token,
    pub(super) token: u64,
    /// The session through which it was last acquired or renewed, if any.
    pub(super) session: Option<u64>,
    pub(super) deadline: Option<u64>,
    /// When the call returned that set the deadline: until then, other threads need not know of it.
    pub(super) settled: u64,
}

impl Lock {
    pub(super) fn told(&self, kind: Kind, key: Key) -> LockChange {
        LockChange { kind, key, owner: self.owner, token: self.token }
    }
}

/// How a lock counts for one call.
#[derive(Clone, Copy, PartialEq)]
enum Counts {
    Held,
    RunOut,
    /// Expired, and removed by another client since.
    Gone,
}

/// For which locks that expire during a call it may count either way for that call. What decides the answer must be so
/// when it is given; where locks are looked at one after the other, or some time before the answer takes effect, the
/// others need not be so any more, or yet.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Slack {
    None,
    /// They may count as live when they have just expired.
    Late,
    /// Or as expired when they are about to.
    Both,
}

/// The locks as one call may see them.
type View = BTreeMap<Key, Counts>;

impl Model {
    /// Whether a lock is live at this moment.
    pub(super) fn held_now(&self, key: Key) -> bool {
        self.locks.get(&key).is_some_and(|lock| lock.deadline.is_none_or(|deadline| self.clock < deadline))
    }

    /// How the locks on `keys` may count for a call.
    fn views(&self, keys: impl Iterator<Item = Key>, call: &Call, slack: Slack) -> Vec<View> {
        let latest_end = if slack == Slack::None { self.clock } else { call.earliest_clock };
        let earliest_end = if slack == Slack::Both { call.latest_clock } else { self.clock };
        let mut views = vec![View::new()];
        for key in keys.collect::<BTreeSet<_>>() {
            let Some(lock) = self.locks.get(&key) else { continue };
            let mut choices = Vec::new();
            if lock.deadline.is_none_or(|deadline| latest_end < deadline) {
                choices.push(Counts::Held);
            }
            if lock.deadline.is_some_and(|deadline| earliest_end >= deadline) {
                choices.push(Counts::RunOut);
                if call.touched_by_others.contains(&key) {
                    choices.push(Counts::Gone);
                }
            }
            let with = |view: &View| choices.iter().map(|counts| with(view, key, *counts)).collect::<Vec<_>>();
            views = views.iter().flat_map(with).collect();
        }
        views
    }

    /// What a step may lead to that only asks which locks are held.
    pub(super) fn any_view(&self, call: &Call, slack: Slack, step: impl Fn(&BTreeSet<Key>) -> Vec<Self>) -> Vec<Self> {
        let refused = matches!(call.observed, Observed::LockedByOthers(_));
        let slack = if refused { Slack::Both } else { slack };
        let mut all = Vec::new();
        for view in self.views(self.locks.keys().copied(), call, slack) {
            let held = view.into_iter().filter(|(_, counts)| *counts == Counts::Held).map(|(key, _)| key).collect();
            add(&mut all, step(&held));
        }
        all
    }

    /// Between finding the expired locks and removing them, other calls may report theirs. Only a feed of locks can see
    /// that.
    pub(super) fn removing(&self) -> Slack {
        if self.followers.is_some() { Slack::Late } else { Slack::None }
    }

    pub(super) fn update_locks(
        &self,
        by: Token,
        past: bool,
        acquire: &[(Key, Lease)],
        release: &[Key],
        call: &Call,
    ) -> Vec<Self> {
        if let Some((key, _)) = acquire.iter().find(|(_, lease)| *lease == Some(0)) {
            return self.same_if(call.observed == Observed::ZeroLease(*key));
        }
        let acquire: BTreeMap<_, _> = acquire.iter().copied().collect();
        let release: BTreeSet<_> = release.iter().copied().collect();
        let slack = match &call.observed {
            Observed::Locked(receipt) if !receipt.granted.is_empty() => Slack::Late,
            Observed::LocksLocked(..) => Slack::Both,
            _ => self.removing(),
        };
        let mut all = Vec::new();
        for view in self.views(acquire.keys().chain(&release).copied(), call, slack) {
            // A lease is counted from some moment between the grant and the return of the call.
            let moments = if acquire.values().any(Option::is_some) { self.clock..=call.latest_clock } else { 0..=0 };
            for start in moments {
                add(&mut all, self.grant((by, past), &acquire, &release, &view, start, call));
            }
        }
        all
    }

    fn grant(
        &self,
        (by, past): (Token, bool),
        acquire: &BTreeMap<Key, Lease>,
        release: &BTreeSet<Key>,
        view: &View,
        start: u64,
        call: &Call,
    ) -> Vec<Self> {
        let seen = &call.observed;
        let settled = call.ended;
        let mut next = self.clone();
        let mut receipt = Receipt::default();
        let counts = |key: &Key| view.get(key).copied().unwrap_or(Counts::Gone);
        let mine = |key: &Key| self.locks.get(key).is_some_and(|lock| lock.owner == by);
        let mut told = Vec::new();
        let through =
            self.sessions.get(&call.thread).filter(|session| session.token == by && !past).map(|session| session.id);

        // Releases happen regardless.
        for key in release {
            match (mine(key), counts(key)) {
                (true, Counts::Held) => {
                    receipt.released.push(*key);
                    told.push(self.locks[key].told(Kind::Released, *key));
                }
                (true, Counts::RunOut) => receipt.expired.push(*key),
                _ => receipt.not_held.push(*key),
            }
            if mine(key) {
                next.locks.remove(key);
            }
        }

        // All locks are granted or none.
        if !acquire.is_empty() && self.frozen {
            next.tell(told, None);
            return next.only_if(*seen == Observed::LocksFrozen(receipt));
        }
        let in_the_way = acquire.keys().filter(|key| !mine(key) && counts(key) == Counts::Held);
        let conflicts: Vec<_> = in_the_way.map(|key| (*key, self.locks[key].owner)).collect();
        if !conflicts.is_empty() {
            let decided = conflicts.iter().any(|(key, _)| self.held_now(*key));
            next.tell(told, None);
            return next.only_if(decided && *seen == Observed::LocksLocked(receipt, conflicts));
        }

        // The fencing token is the crate's to choose, as long as it is new.
        let Observed::Locked(observed) = seen else { return Vec::new() };
        let new_token = observed.granted.first().map_or(0, |(_, token)| *token);
        for (key, lease) in acquire {
            let deadline = lease.map(|lease| start.saturating_add(lease));
            let still_held = mine(key) && counts(key) == Counts::Held && !release.contains(key);
            let (token, before) =
                if still_held { (self.locks[key].token, self.locks[key].session) } else { (new_token, None) };
            let session = through.or(before);
            if still_held {
                receipt.renewed.push((*key, token));
            } else {
                receipt.granted.push((*key, token));
                told.push(LockChange { kind: Kind::Granted, key: *key, owner: by, token });
                if mine(key) && counts(key) == Counts::RunOut && !release.contains(key) {
                    receipt.expired.push(*key);
                }
            }
            next.locks.insert(*key, Lock { owner: by, token, session, deadline, settled });
        }
        receipt.expired.sort_unstable();
        next.tell(told, None);
        if !receipt.granted.is_empty() {
            if new_token <= self.newest_token {
                return Vec::new();
            }
            next.newest_token = new_token;
        }
        next.only_if(*observed == receipt)
    }

    pub(super) fn remove_locks(
        &self,
        unwanted: impl Fn(&Lock) -> bool,
        kind: Kind,
        held: &BTreeSet<Key>,
        seen: &Observed,
    ) -> Vec<Self> {
        let mut next = self.clone();
        let gone = Observed::Keys(next.take_locks(unwanted, kind, held, None));
        next.only_if(*seen == gone)
    }

    /// Removes locks and emits their events. Returns those that were live.
    pub(super) fn take_locks(
        &mut self,
        unwanted: impl Fn(&Lock) -> bool,
        kind: Kind,
        held: &BTreeSet<Key>,
        step: Option<u64>,
    ) -> Vec<Key> {
        let gone: Vec<_> = self.locks.iter().filter(|(_, lock)| unwanted(lock)).map(|(key, _)| *key).collect();
        let gone: Vec<_> = gone.into_iter().filter_map(|key| Some((key, self.locks.remove(&key)?))).collect();
        let gone: Vec<_> = gone.into_iter().filter(|(key, _)| held.contains(key)).collect();
        self.tell(gone.iter().map(|(key, lock)| lock.told(kind, *key)).collect(), step);
        gone.into_iter().map(|(key, _)| key).collect()
    }

    /// The lock on a key goes if it has expired. Locks are looked at one after the other, so of two calls each may remove some.
    pub(super) fn expire(&self, key: Key, call: &Call) -> Vec<Self> {
        let mut all = Vec::new();
        for view in self.views([key].into_iter(), call, Slack::Late) {
            let lock = self.locks.get(&key).filter(|_| view.get(&key) == Some(&Counts::RunOut));
            if let Some(lock) = lock {
                let mut next = self.clone();
                next.locks.remove(&key);
                add(&mut all, next.only_if(call.observed == Observed::ExpiredLock(Some(lock.owner))));
            }
            // One that is just being granted may be overlooked.
            let none = lock.is_none_or(|lock| lock.settled > call.began);
            add(&mut all, self.same_if(none && call.observed == Observed::ExpiredLock(None)));
        }
        all
    }

    /// The events of several steps of one call may be delivered together.
    pub(super) fn tell(&mut self, told: Vec<LockChange>, step: Option<u64>) {
        if let Some(followers) = self.followers.as_mut().filter(|_| !self.frozen) {
            followers.add(told, step);
        }
    }

    pub(super) fn flush_locks(&self, call: &Call) -> Vec<Self> {
        let mut next = self.clone();
        let Self { followers: Some(followers), locks, .. } = &mut next else { return Vec::new() };
        let Call { began, earliest_clock: certainly, .. } = *call;
        let now = Instant { clock: self.clock, certainly, began, revision: self.revision };
        let possible = followers.flush(locks, now, self.frozen, &call.observed);
        next.only_if(possible)
    }
}

fn with(view: &View, key: Key, counts: Counts) -> View {
    let mut view = view.clone();
    view.insert(key, counts);
    view
}
