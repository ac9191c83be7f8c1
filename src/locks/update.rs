//! Carrying out a [`LockRequest`].
//!
//! All shards of all its keys are locked in ascending order and stay locked until everything is done: look, replace the
//! root, change the table, set the leases, unlock. Looking may run the user's `Eq` and `Clone`, may panic, and has
//! changed nothing; from replacing the root on, no code of the user's runs until the shards are unlocked.

use super::table::{Lock, LockId, LockTable};
use super::{Conflict, Fence, LockReceipt, LockRequest, SessionLocks, clone_both};
use crate::clock::Clock;
use crate::event::{LockChange, LockEventKind};
use crate::key::Hashed;
use crate::revision::FencingToken;
use crate::sync::{Shard, WriteShard};
use std::mem;
use std::time::{Duration, Instant};

/// Why locks were not granted, and which releases were carried out.
pub(crate) struct LockFailure<K, T> {
    pub(crate) receipt: LockReceipt<K>,
    /// The keys locked by others; none if the dictionary is frozen.
    pub(crate) conflicts: Vec<Conflict<K, T>>,
}

type Lease = Option<Duration>;

/// One key of a request.
struct Item<'a, K> {
    /// Its place in the request.
    place: usize,
    hash: u64,
    key: &'a K,
    acquire: Option<Lease>,
    release: bool,
}

/// The shards of a request, locked, with their indices in ascending order.
struct Locked<'a, K, T>(Vec<(usize, WriteShard<'a, K, Lock<T>>)>);

/// What is to be done, with all values ready that only the user's code can make.
struct Plan<K, T> {
    receipt: LockReceipt<K>,
    conflicts: Vec<Conflict<K, T>>,
    removals: Vec<(u64, LockId)>,
    renewals: Vec<(u64, LockId, Lease)>,
    grants: Vec<(Hashed<K>, T, Lease)>,
    /// The events, if lock events are kept.
    changes: Option<Vec<LockChange<K, T>>>,
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    /// Carries out a request whose leases are not zero; `hash` hashes a key. May wait for another thread that is
    /// updating locks.
    pub(crate) fn update(
        &self,
        token: &T,
        session: Option<&SessionLocks>,
        request: &LockRequest<K>,
        hash: impl Fn(&K) -> u64,
        clock: &Clock,
        fence: &mut impl Fence<K, T>,
    ) -> Result<LockReceipt<K>, LockFailure<K, T>> {
        let items = items(request, hash);
        match session {
            Some(session) => self.prune(session),
            None => self.prune_without_session(),
        }
        // Made before the shards are locked, so that they are dropped after they are unlocked, also when unwinding:
        // they own keys and tokens.
        let (mut wanted, mut releases) = (Plan::new(fence.records_events()), Plan::new(fence.records_events()));
        let mut shards = self.lock(&items);

        let acquiring = !request.acquire.is_empty();
        let mut refused = acquiring && fence.is_frozen();
        if !refused {
            self.look(&items, true, token, clock, &shards, &mut wanted);
            refused = !wanted.conflicts.is_empty();
        }

        // Before the root is replaced, because this compares tokens.
        let number =
            if session.is_none() && !wanted.grants.is_empty() { self.without_session.number_of(token) } else { None };
        // Added before the root is replaced; dropping this, the last step, subtracts what has ended.
        let mut owed = Owed { table: self, locks: 0 };
        let mut version = 0;
        let nothing = wanted.grants.is_empty() && wanted.removals.is_empty();
        if !refused && !nothing {
            self.add_outstanding(wanted.grants.len());
            owed.locks = wanted.grants.len();
            match fence.replace(acquiring, wanted.changes.take().unwrap_or_default()) {
                Some(replaced) => version = replaced,
                None => refused = acquiring,
            }
        }
        let mut frozen = false;
        if refused {
            self.look(&items, false, token, clock, &shards, &mut releases);
            if !releases.removals.is_empty() {
                frozen = fence.replace(false, releases.changes.take().unwrap_or_default()).is_none();
            }
        }
        let plan = if refused { &mut releases } else { &mut wanted };
        owed.locks = owed.locks + plan.removals.len() - plan.grants.len();
        let granted = !plan.grants.is_empty();

        let noted = (session, number);
        let (removed, sooner) = self.carry_out(plan, FencingToken(version), clock.now(), noted, &mut shards);
        if sooner {
            fence.deadline_advanced();
        }
        fence.expired(removed.len().saturating_sub(plan.receipt.released.len()));
        let receipt = mem::replace(&mut plan.receipt, LockReceipt::new());
        drop(shards);
        drop(owed);
        drop(removed);
        if granted {
            self.sweep_if_due(clock, fence);
        }
        if refused {
            // If the dictionary was frozen when the releases were carried out, the freeze is the reason for the
            // refusal, so that the answer is of one instant.
            let conflicts = if frozen { Vec::new() } else { mem::take(&mut wanted.conflicts) };
            fence.refused(conflicts.len());
            Err(LockFailure { receipt, conflicts })
        } else {
            Ok(receipt)
        }
    }

    fn lock(&self, items: &[Item<'_, K>]) -> Locked<'_, K, T> {
        let mut indices: Vec<_> = items.iter().map(|item| self.shards.index_of(item.hash)).collect();
        indices.sort_unstable();
        indices.dedup();
        Locked(indices.into_iter().map(|index| (index, self.shards.write(index))).collect())
    }

    fn look(
        &self,
        items: &[Item<'_, K>],
        acquiring: bool,
        token: &T,
        clock: &Clock,
        shards: &Locked<'_, K, T>,
        plan: &mut Plan<K, T>,
    ) {
        let now = clock.now();
        for &Item { hash, key, acquire, release, .. } in items {
            let shard = shards.get(self.shards.index_of(hash));
            let found = shard.look_up(hash, |k, _| k == key).map(|(_, lock)| lock);
            let (mine, live) = found.map_or((false, false), |lock| (lock.owner == *token, !lock.expired(now)));

            if release && !mine {
                plan.receipt.not_held.push(key.clone());
            }
            let acquire = acquire.filter(|_| acquiring);
            let end = if mine && live { LockEventKind::Released } else { LockEventKind::Expired };
            if let Some(lock) = found {
                if mine && live && release {
                    plan.receipt.released.push(key.clone());
                    plan.removals.push((hash, lock.id));
                } else if mine && live {
                    if let Some(lease) = acquire {
                        plan.receipt.renewed.push((key.clone(), lock.id.granted));
                        plan.renewals.push((hash, lock.id, lease));
                    }
                    continue;
                } else if mine && (release || acquire.is_some()) {
                    plan.receipt.expired.push(key.clone());
                    plan.removals.push((hash, lock.id));
                } else if live && acquire.is_some() {
                    let (key, owner) = clone_both(key, &lock.owner);
                    plan.conflicts.push(Conflict { key, owner, remaining: lock.remaining(now) });
                    continue;
                } else if acquire.is_some() {
                    plan.removals.push((hash, lock.id));
                } else {
                    continue;
                }
                if let Some(changes) = &mut plan.changes {
                    changes.push(lock.change(key, end));
                }
            }
            if let Some(lease) = acquire {
                plan.receipt.granted.push((key.clone(), FencingToken(0)));
                let (granted, owner) = clone_both(key, token);
                plan.grants.push((Hashed { hash, key: granted }, owner, lease));
                if let Some(changes) = &mut plan.changes {
                    let (key, owner) = clone_both(key, token);
                    let kind = LockEventKind::Granted;
                    changes.push(LockChange { kind, key, owner, granted: None });
                }
            }
        }
    }

    /// Changes the table. Runs no code of the user's. Returns the removed locks, to be dropped later, and whether a
    /// lock now expires before all others.
    fn carry_out(
        &self,
        plan: &mut Plan<K, T>,
        granted: FencingToken,
        now: Instant,
        (session, number): (Option<&SessionLocks>, Option<u64>),
        shards: &mut Locked<'_, K, T>,
    ) -> (Vec<(K, Lock<T>)>, bool) {
        let mut sooner = false;
        let deadline = |lease: Lease| lease.and_then(|lease| now.checked_add(lease));
        let index_of = |hash| self.shards.index_of(hash);
        let mut removed = Vec::with_capacity(plan.removals.len());
        for (hash, id) in plan.removals.drain(..) {
            removed.extend(shards.get_mut(index_of(hash)).take(hash, |lock| lock.id == id));
        }
        let id_of = session.map(|session| session.session);
        for (index, (key, owner, lease)) in plan.grants.drain(..).enumerate() {
            let id = LockId { granted, index };
            let lock = Lock { owner, deadline: deadline(lease), session: id_of, id };
            match (session, number) {
                (Some(session), _) => session.note(key.hash, id),
                (None, Some(number)) => self.without_session.note(number, key.hash, id),
                (None, None) => {}
            }
            let shard = index_of(key.hash);
            sooner |= self.deadlines.note(shard, lock.deadline);
            shards.get_mut(shard).put(key, lock);
        }
        for (hash, id, lease) in plan.renewals.drain(..) {
            let shard = index_of(hash);
            if let Some(lock) = shards.get_mut(shard).look_up_mut(hash, |lock| lock.id == id) {
                lock.deadline = deadline(lease);
                sooner |= self.deadlines.note(shard, lock.deadline);
                if let Some(session) = session.filter(|session| lock.session != Some(session.session)) {
                    lock.session = id_of;
                    session.note(hash, id);
                }
            }
        }
        for (_, token) in &mut plan.receipt.granted {
            *token = granted;
        }
        (removed, sooner)
    }
}

/// The keys of a request, each once, in the order of their first mention.
fn items<K: Eq>(request: &LockRequest<K>, hash: impl Fn(&K) -> u64) -> Vec<Item<'_, K>> {
    let item = |key, acquire, release| Item { place: 0, hash: hash(key), key, acquire, release };
    let acquires = request.acquire.iter().map(|(key, lease)| item(key, Some(*lease), false));
    let releases = request.release.iter().map(|key| item(key, None, true));
    let mut all: Vec<_> = acquires.chain(releases).collect();
    if all.len() < 2 {
        return all;
    }
    for (place, item) in all.iter_mut().enumerate() {
        item.place = place;
    }
    all.sort_by_key(|item| item.hash);

    let mut items: Vec<Item<'_, K>> = Vec::with_capacity(all.len());
    for item in all {
        let mut same_hash = items.iter_mut().rev().take_while(|earlier| earlier.hash == item.hash);
        if let Some(earlier) = same_hash.find(|earlier| earlier.key == item.key) {
            earlier.acquire = item.acquire.or(earlier.acquire);
            earlier.release |= item.release;
        } else {
            items.push(item);
        }
    }
    items.sort_unstable_by_key(|item| item.place);
    items
}

/// The shard with this index, which is among the locked ones.
impl<'a, K, T> Locked<'a, K, T> {
    fn get(&self, index: usize) -> &WriteShard<'a, K, Lock<T>> {
        &self.0[self.position(index)].1
    }

    fn get_mut(&mut self, index: usize) -> &mut WriteShard<'a, K, Lock<T>> {
        let position = self.position(index);
        &mut self.0[position].1
    }

    fn position(&self, index: usize) -> usize {
        self.0.partition_point(|(locked, _)| *locked < index)
    }
}

impl<K, T> Plan<K, T> {
    fn new(records_events: bool) -> Self {
        Self {
            receipt: LockReceipt::new(),
            conflicts: Vec::new(),
            removals: Vec::new(),
            renewals: Vec::new(),
            grants: Vec::new(),
            changes: records_events.then(Vec::new),
        }
    }
}

/// Locks still to be subtracted, also when unwinding.
struct Owed<'a, K: Clone + Eq, T: Clone + PartialEq> {
    table: &'a LockTable<K, T>,
    locks: usize,
}

impl<K: Clone + Eq, T: Clone + PartialEq> Drop for Owed<'_, K, T> {
    fn drop(&mut self) {
        if self.locks > 0 {
            self.table.sub_outstanding(self.locks);
        }
    }
}
