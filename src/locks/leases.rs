//! Leases: the next deadline, and removing expired locks.

use super::Fence;
use super::table::{Lock, LockTable};
use crate::clock::Clock;
use crate::event::LockEventKind;
use crate::sync::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The next deadline.
pub(super) struct Deadlines {
    /// Of each shard: no lock in it expires before this many nanoseconds after the epoch. Changed only with the shard
    /// locked; falls with every lease that ends sooner, and rises when the locks of the shard have been looked at.
    earliest: Vec<AtomicU64>,
    epoch: Instant,
}

/// Later than any deadline.
const NEVER: u64 = u64::MAX;

/// Fewer locks than this are not swept.
pub(super) const FIRST_SWEEP: usize = 64;

impl Deadlines {
    pub(super) fn none(shards: usize, clock: &Clock) -> Self {
        Self { earliest: (0..shards).map(|_| AtomicU64::new(NEVER)).collect(), epoch: clock.now() }
    }

    /// Notes the deadline of a lock, with its shard locked. Returns whether it is before all others of the shard.
    pub(super) fn note(&self, shard: usize, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        let nanos = self.nanos(deadline);
        // ORDERING: AcqRel; the release pairs with the load in `of`.
        self.earliest[shard].fetch_min(nanos, Ordering::AcqRel) > nanos
    }

    fn of(&self, shard: usize) -> Option<Instant> {
        // ORDERING: Acquire, so that a thread that was woken by a lease that ends sooner finds it here.
        match self.earliest[shard].load(Ordering::Acquire) {
            NEVER => None,
            nanos => self.epoch.checked_add(Duration::from_nanos(nanos)),
        }
    }

    /// Notes the first deadline of a shard, which is locked.
    pub(super) fn reset(&self, shard: usize, earliest: Option<Instant>) {
        let earliest = earliest.map_or(NEVER, |deadline| self.nanos(deadline));
        // ORDERING: Release, as in `note`. No other thread stores meanwhile, because the shard is locked.
        self.earliest[shard].store(earliest, Ordering::Release);
    }

    fn nanos(&self, deadline: Instant) -> u64 {
        let since = deadline.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(NEVER - 1).min(NEVER - 1)
    }
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    /// The instant before which no lock expires, or `None` if none ever does. O(1) in the number of locks.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        (0..self.shards.count()).filter_map(|shard| self.deadlines.of(shard)).min()
    }

    /// Removes every expired lock, and returns keys and owners. O(1) if none has expired; otherwise O(n) in the locks
    /// of the shards that have expired locks, one shard locked at a time.
    pub(crate) fn expire(&self, clock: &Clock, fence: &mut impl Fence<K, T>) -> Vec<(K, T)> {
        let mut expired = Vec::new();
        for shard in 0..self.shards.count() {
            if self.deadlines.of(shard).is_some_and(|deadline| deadline <= clock.now()) {
                let end = |lock: &Lock<T>, now| lock.expired(now).then_some(LockEventKind::Expired);
                let removed = self.remove_where(shard..shard + 1, end, clock, fence);
                expired.extend(removed.into_iter().map(|(key, lock, _)| (key.key, lock.owner)));
            }
        }
        expired
    }

    /// The same in one step, with all shards locked: what it does is the same on two replicas, whose keys are in different
    /// shards.
    pub(crate) fn expire_at_once(&self, clock: &Clock, fence: &mut impl Fence<K, T>) -> Vec<(K, T)> {
        if self.next_deadline().is_none_or(|deadline| deadline > clock.now()) {
            return Vec::new();
        }
        let end = |lock: &Lock<T>, now| lock.expired(now).then_some(LockEventKind::Expired);
        let removed = self.remove_where(0..self.shards.count(), end, clock, fence);
        removed.into_iter().map(|(key, lock, _)| (key.key, lock.owner)).collect()
    }

    /// Removes all expired locks when there are twice as many locks as after the last sweep, so that locks of lost
    /// clients, on keys that no other client touches, do not accumulate. Amortised, a grant costs O(1) for it.
    pub(super) fn sweep_if_due(&self, clock: &Clock, fence: &mut impl Fence<K, T>) {
        // ORDERING: Relaxed, these only decide when to sweep.
        if self.outstanding.load(Ordering::Relaxed) >= self.sweep_at.load(Ordering::Relaxed) {
            self.expire(clock, fence);
            let left = self.outstanding.load(Ordering::Relaxed);
            self.sweep_at.store(left.saturating_mul(2).max(FIRST_SWEEP), Ordering::Relaxed);
        }
    }
}
