//! The sharded table of locks: looking at it, and emptying it.

use super::{Conflict, Fence, FencingToken, LockInfo};
use crate::clock::Clock;
use crate::event::{LockChange, LockEventKind};
use crate::key::{BuildPassThrough, Hashed, Lookup};
use crate::sync::{AtomicU64, AtomicUsize, Ordering, Shard, Shards, WriteShard};
use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
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
    /// No lock runs out before this many nanoseconds after the epoch. Changed only with the shard of the lock in question
    /// locked; falls with every lease that ends sooner, and rises when all shards are locked and looked at.
    earliest: AtomicU64,
    epoch: Instant,
}

/// Later than any deadline.
const NEVER: u64 = u64::MAX;

/// Fewer locks than this are not worth a sweep.
const FIRST_SWEEP: usize = 64;

/// That somebody else holds a key, of those that a session would remove.
pub(crate) struct Claim<T> {
    pub(crate) holder: T,
    pub(crate) remaining: Option<Duration>,
}

/// What a writer finds when it looks at the locks of its keys.
pub(crate) enum Verdict<K, T> {
    Free,
    Locked(Vec<Conflict<K, T>>),
    /// The locks that stood in the way had run out, and were taken away. The writer must start again.
    Expired,
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    pub(crate) fn new(shards: usize, clock: &Clock) -> Self {
        let (outstanding, sweep_at) = (AtomicUsize::new(0), AtomicUsize::new(FIRST_SWEEP));
        let (earliest, epoch) = (AtomicU64::new(NEVER), clock.now());
        Self { shards: Shards::new(shards), outstanding, sweep_at, earliest, epoch }
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
        fence: &mut impl Fence<K, T>,
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
                let told = fence.tells().then(|| lock.change(key, LockEventKind::Expired));
                expired.push((hash, lock.id, told));
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
        for (hash, id, told) in expired {
            self.take_away(hash, id, told, clock, fence);
        }
        Verdict::Expired
    }

    /// Removes a lock that was seen to have run out, if it is still there and has not been renewed.
    fn take_away(
        &self,
        hash: u64,
        id: LockId,
        told: Option<LockChange<K, T>>,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) {
        let mut shard = self.shards.write(self.shards.index_of(hash));
        let now = clock.now();
        if !shard.look_up_mut(hash, |lock| lock.id == id).is_some_and(|lock| lock.expired(now)) {
            return;
        }
        fence.replace(false, told.into_iter().collect());
        let removed = shard.take(hash, |lock| lock.id == id);
        self.gone(1);
        fence.expired(1);
        drop(shard);
        drop(removed);
    }

    /// Removes the locks that `unwanted` points out, of all shards at once, and returns the keys of those that had not
    /// run out. Waits for every thread that is updating locks.
    pub(crate) fn remove_all(
        &self,
        unwanted: impl Fn(&T) -> bool,
        kind: LockEventKind,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) -> Vec<K> {
        let removed = self.remove_where(|lock, now| unwanted(&lock.owner).then(|| lock.end(kind, now)), clock, fence);
        removed.into_iter().filter(|(_, _, kind)| *kind != LockEventKind::Expired).map(|(key, ..)| key).collect()
    }

    /// Removes every lock that has run out, in one step, and returns keys and holders. O(1) if none has; else waits for
    /// every thread that is updating locks.
    pub(crate) fn expire(&self, clock: &Clock, fence: &mut impl Fence<K, T>) -> Vec<(K, T)> {
        if self.next_deadline().is_none_or(|deadline| deadline > clock.now()) {
            return Vec::new();
        }
        let expired = |lock: &Lock<T>, now| lock.expired(now).then_some(LockEventKind::Expired);
        self.remove_where(expired, clock, fence).into_iter().map(|(key, holder, _)| (key, holder)).collect()
    }

    /// How many locks a writer believes there are.
    #[cfg(test)]
    pub(crate) fn outstanding(&self) -> usize {
        // ORDERING: Relaxed, for nothing else happens in a test that asks.
        self.outstanding.load(Ordering::Relaxed)
    }

    /// The instant before which no lock runs out, if any ever does.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        // ORDERING: Acquire, so that whoever was woken by a lease that ends sooner finds it here.
        match self.earliest.load(Ordering::Acquire) {
            NEVER => None,
            nanos => self.epoch.checked_add(Duration::from_nanos(nanos)),
        }
    }

    /// Takes away all expired locks, when there are twice as many locks as the last time: locks of clients that have
    /// vanished, on keys that nobody else touches, must not pile up. So a grant pays for it in O(1), amortised.
    pub(super) fn sweep_if_due(&self, clock: &Clock, fence: &mut impl Fence<K, T>) {
        // ORDERING: Relaxed, these only say when it is worth the while.
        if self.outstanding.load(Ordering::Relaxed) >= self.sweep_at.load(Ordering::Relaxed) {
            self.remove_where(|lock, now| lock.expired(now).then_some(LockEventKind::Expired), clock, fence);
            let left = self.outstanding.load(Ordering::Relaxed);
            self.sweep_at.store(left.saturating_mul(2).max(FIRST_SWEEP), Ordering::Relaxed);
        }
    }

    fn remove_where(
        &self,
        unwanted: impl Fn(&Lock<T>, Instant) -> Option<LockEventKind>,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) -> Vec<(K, T, LockEventKind)> {
        // Made before the shards are locked: should a `Clone` panic, the clones so far are dropped after.
        let mut told = Vec::new();
        let mut all = AllShards::lock(self);
        let now = clock.now();
        let unwanted = all.choose(|lock| unwanted(lock, now));
        if unwanted.iter().any(Option::is_some) {
            if fence.tells() {
                told.extend(all.changes(&unwanted));
            }
            fence.replace(false, told);
        }
        let removed = all.remove(unwanted);
        self.looked_at_all(&all);
        drop(all);
        self.gone(removed.len());
        fence.expired(removed.iter().filter(|(.., kind)| *kind == LockEventKind::Expired).count());
        removed.into_iter().map(|(key, lock, kind)| (key.key, lock.owner, kind)).collect()
    }

    /// Takes away all locks of `token`, and with them all that have run out, in one step with what `act` does to content while
    /// every shard is locked. `act` is given the claim of another on each of `keys`, whether any locks go, and what to tell of them, if that `tells`; it must
    /// replace the root if any go, and drop nothing of the user's. It says whether that was done: if not, nothing is. The keys of
    /// the locks that had not run out are returned, and how many had.
    pub(crate) fn release_with(
        &self,
        token: &T,
        keys: &[(Hashed<K>, impl Sized)],
        clock: &Clock,
        tells: bool,
        act: impl FnOnce(&[Option<Claim<T>>], bool, Vec<LockChange<K, T>>) -> bool,
    ) -> (Vec<K>, usize) {
        // Made before the shards are locked, so that they are dropped after, also when unwinding.
        let (mut claims, mut told) = (Vec::with_capacity(keys.len()), Vec::new());
        let mut all = AllShards::lock(self);
        let now = clock.now();
        let theirs = all.choose(|lock| {
            let expired = lock.expired(now).then_some(LockEventKind::Expired);
            expired.or_else(|| (lock.owner == *token).then_some(LockEventKind::Released))
        });
        if !keys.is_empty() {
            let others = all.locks.iter().filter(|(_, lock)| lock.owner != *token && !lock.expired(now));
            let others: HashMap<_, _, BuildPassThrough> = others.map(|(key, lock)| (key, lock)).collect();
            let claim = |lock: &&Lock<T>| Claim { holder: lock.owner.clone(), remaining: lock.remaining(now) };
            claims.extend(keys.iter().map(|(key, _)| others.get(key).map(claim)));
        }
        if tells {
            told.extend(all.changes(&theirs));
        }
        if !act(&claims, theirs.iter().any(Option::is_some), told) {
            return (Vec::new(), 0);
        }
        let removed = all.remove(theirs);
        drop(all);
        self.gone(removed.len());
        let gone = removed.len();
        let live = removed.into_iter().filter(|(.., kind)| *kind != LockEventKind::Expired);
        let live: Vec<K> = live.map(|(key, ..)| key.key).collect();
        let expired = gone - live.len();
        (live, expired)
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
        self.all_of(clock, |lock, now| !lock.expired(now), || ()).0
    }

    /// All locks that are there at one instant, also those that have just run out and have yet to be taken away, and what
    /// `look` finds while every shard is locked.
    pub(crate) fn all_with<R>(&self, clock: &Clock, look: impl FnOnce() -> R) -> (Vec<(K, LockInfo<T>)>, R) {
        self.all_of(clock, |_, _| true, look)
    }

    fn all_of<R>(
        &self,
        clock: &Clock,
        wanted: impl Fn(&Lock<T>, Instant) -> bool,
        look: impl FnOnce() -> R,
    ) -> (Vec<(K, LockInfo<T>)>, R) {
        // Made before the shards are locked: should a `Clone` panic, the clones so far are dropped after.
        let mut found = Vec::new();
        let all = AllShards::lock(self);
        let now = clock.now();
        let wanted = all.locks.iter().filter(|(_, lock)| wanted(lock, now));
        found.extend(wanted.map(|(key, lock)| (key.key.clone(), lock.info(now))));
        let looked = look();
        drop(all);
        (found, looked)
    }

    /// Notes the end of a lease, with its shard locked. Whether it is nearer than all others.
    pub(super) fn runs_out(&self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        let nanos = self.nanos(deadline);
        // ORDERING: AcqRel; the release pairs with the load in `next_deadline`.
        self.earliest.fetch_min(nanos, Ordering::AcqRel) > nanos
    }

    fn looked_at_all(&self, all: &AllShards<'_, K, T>) {
        let deadlines = all.locks.iter().filter_map(|(_, lock)| lock.deadline);
        let earliest = deadlines.min().map_or(NEVER, |deadline| self.nanos(deadline));
        // ORDERING: Release, as in `runs_out`. No other thread stores meanwhile, for all shards are locked.
        self.earliest.store(earliest, Ordering::Release);
    }

    fn nanos(&self, deadline: Instant) -> u64 {
        let since = deadline.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(NEVER - 1).min(NEVER - 1)
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

impl<T> Lock<T> {
    /// How it ends, if it ends now and had it not run out would end as `kind`.
    fn end(&self, kind: LockEventKind, now: Instant) -> LockEventKind {
        if self.expired(now) { LockEventKind::Expired } else { kind }
    }
}

impl<T: Clone> Lock<T> {
    pub(super) fn change<K: Clone>(&self, key: &K, kind: LockEventKind) -> LockChange<K, T> {
        LockChange { kind, key: key.clone(), holder: self.owner.clone(), granted: Some(self.id.granted) }
    }

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

    /// Of each lock, as what it ends, if it does.
    fn choose(&self, end: impl Fn(&Lock<T>) -> Option<LockEventKind>) -> Vec<Option<LockEventKind>> {
        self.locks.iter().map(|(_, lock)| end(lock)).collect()
    }

    fn changes<'b>(
        &'b self,
        ends: &'b [Option<LockEventKind>],
    ) -> impl Iterator<Item = LockChange<K, T>> + use<'a, 'b, K, T>
    where
        K: Clone,
        T: Clone,
    {
        let ending = self.locks.iter().zip(ends);
        ending.filter_map(|((key, lock), end)| Some(lock.change(&key.key, (*end)?)))
    }

    fn remove(&mut self, ends: Vec<Option<LockEventKind>>) -> Vec<(Hashed<K>, Lock<T>, LockEventKind)> {
        let mut removed = Vec::new();
        for ((key, lock), end) in std::mem::take(&mut self.locks).into_iter().zip(ends) {
            match end {
                Some(kind) => removed.push((key, lock, kind)),
                None => self.locks.push((key, lock)),
            }
        }
        removed
    }
}

impl<K: Eq, T> Drop for AllShards<'_, K, T> {
    fn drop(&mut self) {
        for (key, lock) in self.locks.drain(..) {
            self.shards[self.table.index_of(key.hash)].put(key, lock);
        }
    }
}
