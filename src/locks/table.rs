//! The sharded table of locks, and how a writer checks its keys against it.

use super::leases::{Deadlines, FIRST_SWEEP};
use super::session::WithoutSession;
use super::{Conflict, Fence, LockInfo, SessionId, clone_both};
use crate::clock::Clock;
use crate::event::{LockChange, LockEventKind};
use crate::key::Lookup;
use crate::revision::FencingToken;
use crate::sync::{AtomicUsize, Ordering, Shard, Shards};
use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Lock<T> {
    pub(super) owner: T,
    pub(super) deadline: Option<Instant>,
    /// The session through which it was last acquired or renewed, if any.
    pub(super) session: Option<SessionId>,
    /// Identifies the lock, so that it can be found again without running its key's `Eq`.
    pub(super) id: LockId,
}

/// The version at which a lock was granted, and its index among the locks granted at that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LockId {
    pub(super) granted: FencingToken,
    pub(super) index: usize,
}

impl<T> Lock<T> {
    pub(super) fn expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }
}

pub(crate) struct LockTable<K, T> {
    pub(super) shards: Shards<K, Lock<T>>,
    /// The number of locks, so that a writer need not look while there are none. Rises before the root is replaced and
    /// falls after the locks are removed, so it is never too low for a thread that has seen the root.
    pub(super) outstanding: AtomicUsize,
    pub(super) without_session: WithoutSession<T>,
    /// The number of locks at which expired ones are next swept.
    pub(super) sweep_at: AtomicUsize,
    pub(super) deadlines: Deadlines,
}

/// The result of checking a writer's keys.
pub(crate) enum Verdict<K, T> {
    Free,
    Locked(Vec<Conflict<K, T>>),
    /// Expired locks were in the way and have been removed. The writer must retry.
    Expired,
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    pub(crate) fn new(shards: usize, clock: &Clock) -> Self {
        let (outstanding, sweep_at) = (AtomicUsize::new(0), AtomicUsize::new(FIRST_SWEEP));
        let (shards, deadlines) = (Shards::new(shards), Deadlines::none(shards, clock));
        Self { shards, outstanding, without_session: WithoutSession::none(), sweep_at, deadlines }
    }

    /// Checks, for a writer that has loaded its root already, whether `token` may write to `keys`.
    ///
    /// May wait for a thread that is updating locks. Expired locks of others are removed first, each in a step of its
    /// own, so that each expiry has its own version.
    pub(crate) fn check<'a>(
        &self,
        keys: impl Iterator<Item = Lookup<'a, K>>,
        token: &T,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) -> Verdict<K, T>
    where
        K: 'a,
    {
        // ORDERING: Acquire pairs with the release in `sub_outstanding`: a thread that sees the count fallen cannot win
        // a swap against a root from before the fall. The load of the root, which came first, orders the rises.
        if self.outstanding.load(Ordering::Acquire) == 0 {
            return Verdict::Free;
        }
        let mut conflicts = Vec::new();
        let mut reported = HashSet::new();
        let mut expired = Vec::new();
        for Lookup { hash, key } in keys {
            let shard = self.shards.read(self.shards.index_of(hash));
            let Some((key, lock)) = shard.look_up(hash, |k, _| k == key) else { continue };
            if lock.owner == *token {
                continue;
            }
            let now = clock.now();
            if lock.expired(now) {
                let changes = fence.records_events().then(|| lock.change(key, LockEventKind::Expired));
                expired.push((hash, lock.id, changes));
            } else if reported.insert(lock.id) {
                let (key, owner) = clone_both(key, &lock.owner);
                conflicts.push(Conflict { key, owner, remaining: lock.remaining(now) });
            }
        }
        if !conflicts.is_empty() {
            return Verdict::Locked(conflicts);
        }
        if expired.is_empty() {
            return Verdict::Free;
        }
        for (hash, id, changes) in expired {
            self.remove_expired(hash, id, changes, clock, fence);
        }
        Verdict::Expired
    }

    /// Removes a lock that was seen to have expired, if it is still there and has not been renewed.
    fn remove_expired(
        &self,
        hash: u64,
        id: LockId,
        changes: Option<LockChange<K, T>>,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) {
        let mut shard = self.shards.write(self.shards.index_of(hash));
        let now = clock.now();
        if !shard.look_up_mut(hash, |lock| lock.id == id).is_some_and(|lock| lock.expired(now)) {
            return;
        }
        fence.replace(false, changes.into_iter().collect());
        let removed = shard.take(hash, |lock| lock.id == id);
        drop(shard);
        self.sub_outstanding(usize::from(removed.is_some()));
        fence.expired(1);
        drop(removed);
    }

    /// The number of locks that a writer sees.
    #[cfg(test)]
    pub(crate) fn outstanding(&self) -> usize {
        // ORDERING: Relaxed, because a test that calls this has no other threads.
        self.outstanding.load(Ordering::Relaxed)
    }

    /// The lock on a key. Waits for a thread that is updating locks in the same shard.
    pub(crate) fn get<Q: Eq + ?Sized>(&self, Lookup { hash, key }: Lookup<'_, Q>, clock: &Clock) -> Option<LockInfo<T>>
    where
        K: Borrow<Q>,
    {
        let shard = self.shards.read(self.shards.index_of(hash));
        let (_, lock) = shard.look_up(hash, |k, _| k.borrow() == key)?;
        let now = clock.now();
        (!lock.expired(now)).then(|| lock.info(now))
    }

    /// Adds locks that are about to be granted.
    pub(crate) fn add_outstanding(&self, locks: usize) {
        // ORDERING: Relaxed, for the swap of the root that follows publishes it.
        self.outstanding.fetch_add(locks, Ordering::Relaxed);
    }

    /// Subtracts locks that have ended.
    pub(crate) fn sub_outstanding(&self, locks: usize) {
        // ORDERING: Release, so that a thread that sees the count fallen also sees the root that was replaced before.
        self.outstanding.fetch_sub(locks, Ordering::Release);
    }

    /// Whether there are no locks. All shards must be locked.
    pub(super) fn is_empty(&self) -> bool {
        // ORDERING: Relaxed, because it rises only with a shard locked.
        self.outstanding.load(Ordering::Relaxed) == 0
    }
}

impl<T: Clone> Lock<T> {
    pub(super) fn change<K: Clone>(&self, key: &K, kind: LockEventKind) -> LockChange<K, T> {
        let (key, owner) = clone_both(key, &self.owner);
        LockChange { kind, key, owner, granted: Some(self.id.granted) }
    }

    pub(super) fn info(&self, now: Instant) -> LockInfo<T> {
        LockInfo { owner: self.owner.clone(), remaining: self.remaining(now), fencing_token: self.id.granted }
    }
}
