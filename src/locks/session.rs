//! Which locks belong to which session.
//!
//! A lock belongs to the session through which it was last acquired or renewed, and has that session's id. The session
//! notes which locks were granted to it, so that its end finds them without looking at all others.

use super::table::{LockId, LockTable};
use crate::sync::{AtomicUsize, Mutex, Ordering, Shard};
use std::mem;
use std::num::NonZeroU64;

/// Identifies a session within its dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) NonZeroU64);

/// The locks that were acquired or renewed through a session.
pub(crate) struct SessionLocks {
    pub(crate) session: SessionId,
    pub(super) noted: Mutex<Noted>,
}

pub(super) struct Noted {
    /// Each with the hash of its key. Some may have ended, or belong to another session now.
    pub(super) locks: Vec<(u64, LockId)>,
    /// The number of locks at which ended ones are next removed from `locks`.
    prune_at: usize,
}

/// With fewer locks than this, none are removed.
const FIRST_PRUNING: usize = 64;

impl SessionLocks {
    pub(crate) fn none(session: SessionId) -> Self {
        Self { session, noted: Mutex::new(Noted { locks: Vec::new(), prune_at: FIRST_PRUNING }) }
    }

    /// The number of its locks, at most.
    pub(crate) fn len(&self) -> usize {
        self.noted.lock().locks.len()
    }

    pub(super) fn note(&self, hash: u64, id: LockId) {
        self.noted.lock().locks.push((hash, id));
    }
}

/// The locks that were acquired without a session, by their owners, so that the end of a session finds those of its
/// token. Maintained from the first session on.
pub(super) struct WithoutSession<T> {
    /// 1 from the first session on. Changes with all shards locked, and is read with a shard locked.
    kept: AtomicUsize,
    owners: Mutex<ByOwner<T>>,
}

pub(super) struct ByOwner<T> {
    /// In the order of their numbers. An owner may occur twice.
    owners: Vec<Owner<T>>,
    next_number: u64,
    noted: usize,
    /// The number of locks at which ended ones are next removed.
    prune_at: usize,
}

struct Owner<T> {
    number: u64,
    token: T,
    /// As those of a session.
    locks: Vec<(u64, LockId)>,
}

impl<T> WithoutSession<T> {
    pub(super) fn none() -> Self {
        Self { kept: AtomicUsize::new(0), owners: Mutex::new(ByOwner::none()) }
    }

    /// Exchanges all notes, with all shards locked. Runs no code of the user's.
    pub(super) fn replace(&self, owners: ByOwner<T>) -> ByOwner<T> {
        // ORDERING: Relaxed, because all shards are locked.
        self.kept.store(1, Ordering::Relaxed);
        mem::replace(&mut *self.owners.lock(), owners)
    }

    pub(super) fn are_any(&self) -> bool {
        !self.owners.lock().owners.is_empty()
    }

    fn are_kept(&self) -> bool {
        // ORDERING: Relaxed, because a shard is locked, and all were when it was set; without a shard it only saves
        // time.
        self.kept.load(Ordering::Relaxed) != 0
    }

    /// Notes a lock of the owner with this number. Its shard has been locked since the number was given. Runs no code
    /// of the user's.
    pub(super) fn note(&self, number: u64, hash: u64, id: LockId) {
        self.owners.lock().note(number, hash, id);
    }
}

impl<T> ByOwner<T> {
    pub(super) const fn none() -> Self {
        Self { owners: Vec::new(), next_number: 0, noted: 0, prune_at: FIRST_PRUNING }
    }

    pub(super) fn note(&mut self, number: u64, hash: u64, id: LockId) {
        if let Ok(index) = self.owners.binary_search_by_key(&number, |owner| owner.number) {
            self.owners[index].locks.push((hash, id));
            self.noted += 1;
        }
    }
}

impl<T: Clone + PartialEq> ByOwner<T> {
    pub(super) fn number_of(&mut self, token: &T) -> u64 {
        if let Some(owner) = self.owners.iter().find(|owner| owner.token == *token) {
            return owner.number;
        }
        let number = self.next_number;
        self.owners.push(Owner { number, token: token.clone(), locks: Vec::new() });
        self.next_number += 1;
        number
    }
}

impl<T: Clone + PartialEq> WithoutSession<T> {
    /// The number of this owner, if its locks are noted. A shard is locked. O(n) in the owners of such locks.
    pub(super) fn number_of(&self, token: &T) -> Option<u64> {
        self.are_kept().then(|| self.owners.lock().number_of(token))
    }

    /// Notes a lock that was acquired earlier. If the token's code unwinds, the call can be repeated.
    pub(super) fn add(&self, token: &T, hash: u64, id: LockId) {
        let number = self.owners.lock().number_of(token);
        self.note(number, hash, id);
    }

    /// The noted locks of these owners, each with the index of the owner. All shards are locked.
    pub(super) fn of(&self, tokens: &[&T]) -> Vec<(usize, (u64, LockId))> {
        let mut found = Vec::new();
        for owner in &self.owners.lock().owners {
            if let Some(index) = tokens.iter().position(|token| owner.token == **token) {
                found.extend(owner.locks.iter().map(|&lock| (index, lock)));
            }
        }
        found
    }
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    /// From now on, notes the locks that are acquired without a session. The first call is O(n) in the present locks.
    /// May wait for threads that are updating locks.
    pub(crate) fn expect_sessions(&self) {
        if self.without_session.are_kept() {
            return;
        }
        let mut all = self.lock_all();
        all.note_all(&self.without_session);
        // ORDERING: Relaxed, because all shards are locked.
        self.without_session.kept.store(1, Ordering::Relaxed);
    }

    /// Removes the notes of ended locks that were acquired without a session, when there are twice as many notes as the
    /// last time: O(1) per lock, amortised. May wait for threads that are updating locks.
    pub(super) fn prune_without_session(&self) {
        let is_due = |all: &ByOwner<T>| all.noted + all.owners.len() >= all.prune_at;
        if !is_due(&self.without_session.owners.lock()) {
            return;
        }
        let shards = self.lock_all();
        let mut all = self.without_session.owners.lock();
        for owner in &mut all.owners {
            owner.locks.retain(|&(hash, id)| shards.has(hash, id, None));
        }
        let owners = mem::take(&mut all.owners).into_iter();
        let (kept, gone): (Vec<_>, Vec<_>) = owners.partition(|owner| !owner.locks.is_empty());
        all.owners = kept;
        all.noted = all.owners.iter().map(|owner| owner.locks.len()).sum();
        all.prune_at = (all.noted + all.owners.len()).saturating_mul(2).max(FIRST_PRUNING);
        drop(all);
        drop(shards);
        // With no shard locked, because a token's `Drop` may use the dictionary.
        drop(gone);
    }

    /// Removes the notes of ended locks, when there are twice as many notes as the last time: O(1) per lock, amortised.
    /// May wait for threads that are updating locks.
    pub(super) fn prune(&self, session: &SessionLocks) {
        let mut noted = session.noted.lock();
        if noted.locks.len() < noted.prune_at {
            return;
        }
        let mut locks = mem::take(&mut noted.locks);
        // Unlocked before shards are locked: a thread that has a shard locked may be about to note a lock.
        drop(noted);
        locks.retain(|&(hash, id)| {
            let shard = self.shards.read(self.shards.index_of(hash));
            shard.look_up(hash, |_, lock| lock.id == id && lock.session == Some(session.session)).is_some()
        });
        let mut noted = session.noted.lock();
        noted.locks.append(&mut locks);
        noted.prune_at = noted.locks.len().saturating_mul(2).max(FIRST_PRUNING);
    }
}
