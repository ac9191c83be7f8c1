//! The sharded table of locks: looking at it, and emptying it.

use super::{Conflict, Fence, FencingToken, LockInfo};
use crate::clock::Clock;
use crate::key::{Hashed, Lookup};
use crate::sync::{AtomicUsize, Ordering, Shard, Shards, WriteShard};
use std::borrow::Borrow;
use std::collections::HashSet;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Lock<T> {
    pub(super) owner: T,
    pub(super) deadline: Option<Instant>,
    /// Names the lock, so that it can be found again without running its key's `Eq`.
    pub(super) id: LockId,
}

/// The version a lock was granted at, and its place among the locks granted at that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LockId {
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
    /// How many locks there are, so that a writer need not look while there are none. Rises before the root is replaced
    /// and falls after the locks are gone, so it is never too low for whoever has seen the root.
    pub(super) outstanding: AtomicUsize,
    /// With how many locks expired ones are next swept out.
    sweep_at: AtomicUsize,
}

/// Fewer locks than this are not worth a sweep.
const FIRST_SWEEP: usize = 64;

/// What a writer finds when it looks at the locks of its keys.
pub(crate) enum Verdict<K, T> {
    Free,
    Locked(Vec<Conflict<K, T>>),
    /// The locks that stood in the way had run out, and were taken away. The writer must start again.
    Expired,
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    pub(crate) fn new(shards: usize) -> Self {
        let (outstanding, sweep_at) = (AtomicUsize::new(0), AtomicUsize::new(FIRST_SWEEP));
        Self { shards: Shards::new(shards), outstanding, sweep_at }
    }

    /// Looks, on behalf of a writer that has loaded its root already, whether `token` may write to `keys`.
    ///
    /// May wait for a thread that is updating locks. Expired locks of others are taken away first, each in a step of its
    /// own, so that expiry is an event in the order of versions.
    pub(crate) fn check<'a>(
        &self,
        keys: impl Iterator<Item = Lookup<'a, K>>,
        token: &T,
        clock: &Clock,
        fence: &mut impl Fence,
    ) -> Verdict<K, T>
    where
        K: 'a,
    {
        // ORDERING: Acquire pairs with the release in `gone`: whoever sees the count fallen cannot win a swap against a
        // root from before the fall. That it has risen is ordered by the load of the root, which came first.
        if self.outstanding.load(Ordering::Acquire) == 0 {
            return Verdict::Free;
        }
        let mut conflicts = Vec::new();
        let mut reported = HashSet::new();
        let mut expired = Vec::new();
        for Lookup { hash, key } in keys {
            let shard = self.shards.read(self.shards.index_of(hash));
            let Some((key, lock)) = shard.look_up(hash, |k| k == key) else { continue };
            if lock.owner == *token {
                continue;
            }
            let now = clock.now();
            if lock.expired(now) {
                expired.push((hash, lock.id));
            } else if reported.insert(lock.id) {
                let (key, holder) = (key.clone(), lock.owner.clone());
                conflicts.push(Conflict { key, holder, remaining: lock.remaining(now) });
            }
        }
        if !conflicts.is_empty() {
            return Verdict::Locked(conflicts);
        }
        if expired.is_empty() {
            return Verdict::Free;
        }
        for (hash, id) in expired {
            self.take_away(hash, id, clock, fence);
        }
        Verdict::Expired
    }

    /// Removes a lock that was seen to have run out, if it is still there and has not been renewed.
    fn take_away(&self, hash: u64, id: LockId, clock: &Clock, fence: &mut impl Fence) {
        let mut shard = self.shards.write(self.shards.index_of(hash));
        let now = clock.now();
        if !shard.look_up_mut(hash, |lock| lock.id == id).is_some_and(|lock| lock.expired(now)) {
            return;
        }
        fence.replace(false);
        let removed = shard.take(hash, |lock| lock.id == id);
        self.gone(1);
        drop(shard);
        drop(removed);
    }

    /// Removes the locks that `unwanted` points out, of all shards at once, and returns the keys of those that had not
    /// run out. Waits for every thread that is updating locks.
    pub(crate) fn remove_all(&self, unwanted: impl Fn(&T) -> bool, clock: &Clock, fence: &mut impl Fence) -> Vec<K> {
        self.remove_where(|lock, _| unwanted(&lock.owner), clock, fence)
    }

    /// Takes away all expired locks, when there are twice as many locks as the last time: locks of clients that have
    /// vanished, on keys that nobody else touches, must not pile up. So a grant pays for it in O(1), amortised.
    pub(super) fn sweep_if_due(&self, clock: &Clock, fence: &mut impl Fence) {
        // ORDERING: Relaxed, these only say when it is worth the while.
        if self.outstanding.load(Ordering::Relaxed) >= self.sweep_at.load(Ordering::Relaxed) {
            self.remove_where(Lock::expired, clock, fence);
            let left = self.outstanding.load(Ordering::Relaxed);
            self.sweep_at.store(left.saturating_mul(2).max(FIRST_SWEEP), Ordering::Relaxed);
        }
    }

    fn remove_where(
        &self,
        unwanted: impl Fn(&Lock<T>, Instant) -> bool,
        clock: &Clock,
        fence: &mut impl Fence,
    ) -> Vec<K> {
        let mut all = AllShards::lock(self);
        let now = clock.now();
        let unwanted: Vec<bool> = all.locks.iter().map(|(_, lock)| unwanted(lock, now)).collect();
        if !unwanted.contains(&true) {
            return Vec::new();
        }
        fence.replace(false);
        let mut unwanted = unwanted.into_iter();
        let (removed, kept): (Vec<_>, Vec<_>) = all.locks.drain(..).partition(|_| unwanted.next().unwrap_or(false));
        all.locks = kept;
        drop(all);
        self.gone(removed.len());
        removed.into_iter().filter(|(_, lock)| !lock.expired(now)).map(|(key, _)| key.key).collect()
    }

    /// The lock on a key. Waits for a thread that is updating locks in the same shard.
    pub(crate) fn get<Q: Eq + ?Sized>(&self, Lookup { hash, key }: Lookup<'_, Q>, clock: &Clock) -> Option<LockInfo<T>>
    where
        K: Borrow<Q>,
    {
        let shard = self.shards.read(self.shards.index_of(hash));
        let (_, lock) = shard.look_up(hash, |k| k.borrow() == key)?;
        let now = clock.now();
        (!lock.expired(now)).then(|| lock.info(now))
    }

    /// All locks at one instant. Waits for every thread that is updating locks.
    pub(crate) fn all(&self, clock: &Clock) -> Vec<(K, LockInfo<T>)> {
        // Made before the shards are locked: should a `Clone` panic, the clones so far are dropped after.
        let mut found = Vec::new();
        let all = AllShards::lock(self);
        let now = clock.now();
        let live = all.locks.iter().filter(|(_, lock)| !lock.expired(now));
        found.extend(live.map(|(key, lock)| (key.key.clone(), lock.info(now))));
        drop(all);
        found
    }

    /// Counts locks that are about to be granted.
    pub(super) fn coming(&self, locks: usize) {
        // ORDERING: Relaxed, for the swap of the root that follows publishes it.
        self.outstanding.fetch_add(locks, Ordering::Relaxed);
    }

    /// Counts locks that have gone.
    pub(super) fn gone(&self, locks: usize) {
        // ORDERING: Release, so that whoever sees the count fallen also sees the root that was replaced before.
        self.outstanding.fetch_sub(locks, Ordering::Release);
    }
}

impl<T: Clone> Lock<T> {
    fn info(&self, now: Instant) -> LockInfo<T> {
        LockInfo { holder: self.owner.clone(), remaining: self.remaining(now), fencing_token: self.id.granted }
    }
}

/// Every shard, locked and emptied. Dropping this puts `locks` back, also while unwinding from a user's panic, and then
/// unlocks.
struct AllShards<'a, K: Eq, T> {
    locks: Vec<(Hashed<K>, Lock<T>)>,
    shards: Vec<WriteShard<'a, K, Lock<T>>>,
    table: &'a Shards<K, Lock<T>>,
}

impl<'a, K: Eq, T> AllShards<'a, K, T> {
    fn lock(table: &'a LockTable<K, T>) -> Self {
        let table = &table.shards;
        let mut shards: Vec<_> = (0..table.count()).map(|index| table.write(index)).collect();
        let locks = shards.iter_mut().flat_map(|shard| shard.take_all()).collect();
        Self { locks, shards, table }
    }
}

impl<K: Eq, T> Drop for AllShards<'_, K, T> {
    fn drop(&mut self) {
        for (key, lock) in self.locks.drain(..) {
            self.shards[self.table.index_of(key.hash)].put(key, lock);
        }
    }
}
