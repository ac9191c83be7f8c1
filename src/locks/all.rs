//! Operations on all locks of one shard or of all shards at one instant, with those shards locked.

use super::session::WithoutSession;
use super::table::{Lock, LockId, LockTable};
use super::{Fence, LockInfo, SessionId, SessionLocks, clone_both};
use crate::clock::Clock;
use crate::event::{LockChange, LockEventKind};
use crate::image::LockImage;
use crate::key::Hashed;
use crate::sync::{Shard, WriteShard};
use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

/// One shard or all of them, locked. Dropping this puts `taken` back, also while unwinding from a panic of the user's
/// code, and then unlocks.
pub(crate) struct LockedShards<'a, K: Clone + Eq, T: Clone + PartialEq> {
    /// Locks that were taken out to be looked at: safe code cannot iterate a shard.
    taken: Vec<(Hashed<K>, Lock<T>)>,
    pub(super) shards: Vec<WriteShard<'a, K, Lock<T>>>,
    /// The index of the first of `shards`.
    pub(super) first: usize,
    pub(super) table: &'a LockTable<K, T>,
}

/// A lock that was removed, and how it ended.
pub(super) type Removed<K, T> = (Hashed<K>, Lock<T>, LockEventKind);

/// A lock that ends with its session, or an expired lock on a key of a session that ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Going {
    pub(super) hash: u64,
    pub(super) id: LockId,
    pub(crate) expired: bool,
}

impl Going {
    pub(crate) fn id(&self) -> LockId {
        self.id
    }
}

/// The lock of another owner on a key of a session that is about to end.
pub(crate) enum Obstacle<T> {
    /// It is live.
    Locked { owner: T, remaining: Option<Duration> },
    /// It has expired.
    Expired(Going),
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    /// Waits for every thread that is updating locks.
    pub(crate) fn lock_all(&self) -> LockedShards<'_, K, T> {
        self.lock_shards(0..self.shards.count())
    }

    fn lock_shards(&self, indices: Range<usize>) -> LockedShards<'_, K, T> {
        let first = indices.start;
        let shards = indices.map(|index| self.shards.write(index)).collect();
        LockedShards { taken: Vec::new(), shards, first, table: self }
    }

    /// Removes the locks of some shards for which `end` returns a kind, in one step.
    pub(super) fn remove_where(
        &self,
        shards: Range<usize>,
        end: impl Fn(&Lock<T>, Instant) -> Option<LockEventKind>,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) -> Vec<Removed<K, T>> {
        // Made before the shards are locked: if a `Clone` panics, the clones so far are dropped after they are
        // unlocked.
        let mut changes = Vec::new();
        let mut locked = self.lock_shards(shards.clone());
        locked.take_out();
        let now = clock.now();
        let ends: Vec<_> = locked.taken.iter().map(|(_, lock)| end(lock, now)).collect();
        if ends.iter().any(Option::is_some) {
            if fence.records_events() {
                let ending = locked.taken.iter().zip(&ends);
                changes.extend(ending.filter_map(|((key, lock), end)| Some(lock.change(&key.key, (*end)?))));
            }
            fence.replace(false, changes);
        }
        let removed = locked.remove(ends);
        let mut earliest = vec![None; shards.len()];
        for (key, lock) in &locked.taken {
            let earliest = &mut earliest[self.shards.index_of(key.hash) - shards.start];
            *earliest = [*earliest, lock.deadline].into_iter().flatten().min();
        }
        for (shard, earliest) in shards.zip(earliest) {
            self.deadlines.reset(shard, earliest);
        }
        drop(locked);
        self.sub_outstanding(removed.len());
        fence.expired(removed.iter().filter(|(.., kind)| *kind == LockEventKind::Expired).count());
        removed
    }

    /// Removes the locks of all owners for which `unwanted` returns `true`, in all shards at once, and returns the keys
    /// of those that had not expired. O(n) in the number of all locks. Waits for every thread that is updating locks.
    pub(crate) fn remove_all(
        &self,
        unwanted: impl Fn(&T) -> bool,
        kind: LockEventKind,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) -> Vec<K> {
        let end = |lock: &Lock<T>, now| if lock.expired(now) { LockEventKind::Expired } else { kind };
        let end = |lock: &Lock<T>, now| unwanted(&lock.owner).then(|| end(lock, now));
        let removed = self.remove_where(0..self.shards.count(), end, clock, fence);
        removed.into_iter().filter(|(.., kind)| *kind != LockEventKind::Expired).map(|(key, ..)| key.key).collect()
    }

    /// All locks in the table at one instant, for an image, and what `look` returns while every shard is locked.
    pub(crate) fn images<R>(&self, clock: &Clock, look: impl FnOnce() -> R) -> (Vec<LockImage<K, T>>, R) {
        // Made before the shards are locked: if a `Clone` panics, the clones so far are dropped after they are
        // unlocked.
        let mut found = Vec::new();
        let mut all = self.lock_all();
        all.take_out();
        let now = clock.now();
        found.extend(all.taken.iter().map(|(key, lock)| {
            let (key, owner) = clone_both(&key.key, &lock.owner);
            let session = lock.session.map(|SessionId(number)| number.get());
            LockImage { key, owner, remaining: lock.remaining(now), fencing_token: lock.id.granted, session }
        }));
        let looked = look();
        drop(all);
        (found, looked)
    }

    /// All locks at one instant. Waits for every thread that is updating locks.
    pub(crate) fn all(&self, clock: &Clock) -> Vec<(K, LockInfo<T>)> {
        self.all_of(clock, |lock, now| !lock.expired(now), || ()).0
    }

    /// All locks in the table at one instant, also those that have just expired and are not yet removed, and what
    /// `look` returns while every shard is locked.
    pub(crate) fn all_with<R>(&self, clock: &Clock, look: impl FnOnce() -> R) -> (Vec<(K, LockInfo<T>)>, R) {
        self.all_of(clock, |_, _| true, look)
    }

    fn all_of<R>(
        &self,
        clock: &Clock,
        wanted: impl Fn(&Lock<T>, Instant) -> bool,
        look: impl FnOnce() -> R,
    ) -> (Vec<(K, LockInfo<T>)>, R) {
        // Made before the shards are locked: if a `Clone` panics, the clones so far are dropped after they are
        // unlocked.
        let mut found = Vec::new();
        let mut all = self.lock_all();
        all.take_out();
        let now = clock.now();
        let wanted = all.taken.iter().filter(|(_, lock)| wanted(lock, now));
        found.extend(wanted.map(|(key, lock)| {
            let (key, owner) = clone_both(&key.key, &lock.owner);
            (key, LockInfo { owner, remaining: lock.remaining(now), fencing_token: lock.id.granted })
        }));
        let looked = look();
        drop(all);
        (found, looked)
    }
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockedShards<'_, K, T> {
    /// Takes the locks out of their shards, in the order of their granting. O(n log n).
    fn take_out(&mut self) {
        self.taken.extend(self.shards.iter_mut().flat_map(|shard| shard.take_all()));
        self.taken.sort_unstable_by_key(|(_, lock)| lock.id);
    }

    fn put_back(&mut self) {
        for (key, lock) in self.taken.drain(..) {
            self.shards[self.table.shards.index_of(key.hash) - self.first].put(key, lock);
        }
    }

    /// Removes those of the taken locks that have an end.
    fn remove(&mut self, ends: Vec<Option<LockEventKind>>) -> Vec<Removed<K, T>> {
        let mut removed = Vec::new();
        for ((key, lock), end) in std::mem::take(&mut self.taken).into_iter().zip(ends) {
            match end {
                Some(kind) => removed.push((key, lock, kind)),
                None => self.taken.push((key, lock)),
            }
        }
        removed
    }

    fn shard(&self, hash: u64) -> &impl Shard<K, Lock<T>> {
        &*self.shards[self.table.shards.index_of(hash) - self.first]
    }

    /// The locks that belong to a session. O(k) in those that were acquired through it lately.
    pub(crate) fn of_session(&self, locks: &SessionLocks, now: Instant) -> Vec<Going> {
        let session = locks.session;
        let of_it = |&(hash, id): &(u64, LockId)| {
            let (_, lock) = self.shard(hash).look_up(hash, |_, lock| lock.id == id && lock.session == Some(session))?;
            Some(Going { hash, id, expired: lock.expired(now) })
        };
        locks.noted.lock().locks.iter().filter_map(of_it).collect()
    }

    /// The locks that one of these owners acquired without a session, each with the index of the owner. O(n) in the
    /// owners of such locks.
    pub(crate) fn without_session(&self, owners: &[&T], now: Instant) -> Vec<(usize, Going)> {
        let noted = self.table.without_session.of(owners).into_iter();
        let there = noted.filter_map(|(index, (hash, id))| {
            let (_, lock) = self.shard(hash).look_up(hash, |_, lock| lock.id == id && lock.session.is_none())?;
            Some((index, Going { hash, id, expired: lock.expired(now) }))
        });
        there.collect()
    }

    /// Whether there may be locks that were acquired without a session.
    pub(crate) fn any_without_session(&self) -> bool {
        self.table.without_session.are_any()
    }

    /// Whether this lock is in the table and belongs to that session, or to none.
    pub(super) fn has(&self, hash: u64, id: LockId, session: Option<SessionId>) -> bool {
        self.shard(hash).look_up(hash, |_, lock| lock.id == id && lock.session == session).is_some()
    }

    /// Notes all locks in the table, which were acquired without a session.
    pub(super) fn note_all(&mut self, without_session: &WithoutSession<T>) {
        self.take_out();
        for (key, lock) in &self.taken {
            without_session.add(&lock.owner, key.hash, lock.id);
        }
        self.put_back();
    }

    /// The lock that keeps `owner` from removing this key, unless it is one of `going`.
    pub(crate) fn obstacle(
        &self,
        key: &Hashed<K>,
        owner: &T,
        going: &HashSet<LockId>,
        now: Instant,
    ) -> Option<Obstacle<T>> {
        if self.table.is_empty() {
            return None;
        }
        let (_, lock) = self.shard(key.hash).look_up(key.hash, |other, _| *other == key.key)?;
        if lock.owner == *owner || going.contains(&lock.id) {
            None
        } else if lock.expired(now) {
            Some(Obstacle::Expired(Going { hash: key.hash, id: lock.id, expired: true }))
        } else {
            Some(Obstacle::Locked { owner: lock.owner.clone(), remaining: lock.remaining(now) })
        }
    }

    /// The event of a lock that ends.
    pub(crate) fn change(&self, going: Going) -> Option<LockChange<K, T>> {
        let (key, lock) = self.shard(going.hash).look_up(going.hash, |_, lock| lock.id == going.id)?;
        let kind = if going.expired { LockEventKind::Expired } else { LockEventKind::Released };
        Some(lock.change(key, kind))
    }

    /// Removes a lock; the caller subtracts it with [`LockTable::sub_outstanding`]. Runs no code of the user's.
    pub(crate) fn take(&mut self, going: Going) -> Option<(K, Lock<T>)> {
        let index = self.table.shards.index_of(going.hash) - self.first;
        self.shards[index].take(going.hash, |lock| lock.id == going.id)
    }
}

impl<K: Clone + Eq, T: Clone + PartialEq> Drop for LockedShards<'_, K, T> {
    fn drop(&mut self) {
        self.put_back();
    }
}
