//! Which locks belong to which session.
//!
//! A lock belongs to the session through which it was last acquired or renewed; so the lock says. The session notes which
//! locks were granted to it, so that its end finds them without looking at all others.

use super::table::{LockId, LockTable};
use crate::sync::{Mutex, Shard};
use std::mem;
use std::num::NonZeroU64;

/// Tells a session of a dictionary from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) NonZeroU64);

/// The locks that were acquired or renewed through a session.
pub(crate) struct SessionLocks {
    pub(crate) session: SessionId,
    pub(super) noted: Mutex<Noted>,
}

pub(super) struct Noted {
    /// Each with the hash of its key. Some may be gone, or belong to another session now.
    pub(super) locks: Vec<(u64, LockId)>,
    /// With how many locks those that are gone are next looked for.
    prune_at: usize,
}

/// Fewer locks than this are not worth looking through.
const FIRST_PRUNING: usize = 64;

impl SessionLocks {
    pub(crate) fn none(session: SessionId) -> Self {
        Self { session, noted: Mutex::new(Noted { locks: Vec::new(), prune_at: FIRST_PRUNING }) }
    }

    /// How many locks it has at most.
    pub(crate) fn len(&self) -> usize {
        self.noted.lock().locks.len()
    }

    pub(super) fn note(&self, hash: u64, id: LockId) {
        self.noted.lock().locks.push((hash, id));
    }
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    /// Forgets the noted locks that have gone, when there are twice as many as the last time: O(1) per lock, amortised. May
    /// wait for threads that are updating locks.
    pub(super) fn prune(&self, session: &SessionLocks) {
        let mut noted = session.noted.lock();
        if noted.locks.len() < noted.prune_at {
            return;
        }
        let mut locks = mem::take(&mut noted.locks);
        // Not while shards are being locked: a thread that has one may be about to note a lock.
        drop(noted);
        locks.retain(|&(hash, id)| {
            let mut shard = self.shards.write(self.shards.index_of(hash));
            shard.look_up_mut(hash, |lock| lock.id == id && lock.session == Some(session.session)).is_some()
        });
        let mut noted = session.noted.lock();
        noted.locks.append(&mut locks);
        noted.prune_at = noted.locks.len().saturating_mul(2).max(FIRST_PRUNING);
    }
}
