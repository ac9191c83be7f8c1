//! Putting the locks of an image into the table.

use super::session::{ByOwner, SessionLocks};
use super::table::{Lock, LockId, LockTable};
use super::{LockedShards, SessionId};
use crate::image::LockImage;
use crate::key::Hashed;
use crate::sync::Shard;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Instant;

/// The locks of an image, ready to be put into the table.
pub(crate) struct Restored<K, T> {
    locks: Vec<(Hashed<K>, Lock<T>)>,
    /// Those that were acquired without a session.
    without_session: ByOwner<T>,
}

/// What was in the table before, to be dropped when nothing is locked.
pub(crate) struct Old<K, T> {
    pub(crate) locks: Vec<(Hashed<K>, Lock<T>)>,
    _without_session: ByOwner<T>,
}

impl<K, T: Clone + PartialEq> Restored<K, T> {
    /// With the locks of each session, by its number.
    pub(crate) fn new(
        images: Vec<LockImage<K, T>>,
        hash: impl Fn(&K) -> u64,
        now: Instant,
    ) -> (Self, HashMap<u64, SessionLocks>) {
        let (mut of_sessions, mut without_session) = (HashMap::new(), ByOwner::none());
        let locks = images.into_iter().enumerate().map(|(index, image)| {
            let LockImage { key, owner, remaining, fencing_token, session } = image;
            let key = Hashed { hash: hash(&key), key };
            let id = LockId { granted: fencing_token, index };
            let session = session.and_then(NonZeroU64::new).map(SessionId);
            if let Some(session) = session {
                let of_it = of_sessions.entry(session.0.get()).or_insert_with(|| SessionLocks::none(session));
                of_it.note(key.hash, id);
            } else {
                let number = without_session.number_of(&owner);
                without_session.note(number, key.hash, id);
            }
            (key, Lock { owner, deadline: remaining.and_then(|remaining| now.checked_add(remaining)), session, id })
        });
        let locks = locks.collect();
        (Self { locks, without_session }, of_sessions)
    }

    pub(crate) fn len(&self) -> usize {
        self.locks.len()
    }
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockTable<K, T> {
    /// Puts the locks of an image into a new table.
    pub(crate) fn restore(&self, locks: Restored<K, T>) {
        self.add_outstanding(locks.len());
        drop(self.lock_all().replace(locks));
    }
}

impl<K: Clone + Eq, T: Clone + PartialEq> LockedShards<'_, K, T> {
    /// Puts the locks of an image into the table, in place of those that are there; the caller adds and subtracts them.
    /// Runs no code of the user's.
    pub(crate) fn replace(&mut self, Restored { locks, without_session }: Restored<K, T>) -> Old<K, T> {
        let old = self.shards.iter_mut().flat_map(|shard| shard.take_all()).collect();
        for shard in 0..self.shards.len() {
            self.table.deadlines.reset(shard, None);
        }
        for (key, lock) in locks {
            let shard = self.table.shards.index_of(key.hash);
            self.table.deadlines.note(shard, lock.deadline);
            self.shards[shard - self.first].put(key, lock);
        }
        Old { locks: old, _without_session: self.table.without_session.replace(without_session) }
    }
}
