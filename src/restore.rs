//! Taking an image of a dictionary, and making a dictionary what an image says.
//!
//! Both are of one instant: every shard of the locks is locked, then the table of detached sessions, and then the root
//! is loaded, or replaced.

use crate::content::{Content, Root, Snapshot, content_of, sum_of_hashes};
use crate::deferred_drops::defer_drops;
use crate::engine::Engine;
use crate::image::{Image, ImportError};
use crate::locks::Restored;
use crate::position::StoreId;
use crate::revision::{FencingToken, Revision};
use crate::session::{Detached, State};
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

/// An image, ready to become a dictionary: nothing of the user's has to run any more.
pub(crate) struct Prepared<K, T> {
    store: StoreId,
    pub(crate) revision: Revision,
    fence: FencingToken,
    frozen: bool,
    pub(crate) locks: Restored<K, T>,
    pub(crate) sessions: Detached<K, T>,
}

impl<K: Hash, T: Clone + PartialEq> Prepared<K, T> {
    pub(crate) fn new(image: Image<K, T>, hasher: &impl BuildHasher, now: Instant) -> Self {
        let Image { store, revision, fence, frozen, sessions_opened, locks, sessions } = image;
        let hash = |key: &K| hasher.hash_one(key);
        let (locks, of_sessions) = Restored::new(locks, hash, now);
        let sessions = Detached::restored(sessions_opened, sessions, hash, of_sessions, now);
        Self { store, revision, fence, frozen, locks, sessions }
    }
}

impl<K: Clone + Eq, T> Prepared<K, T> {
    /// The root of a new dictionary.
    pub(crate) fn root<V, S>(
        &self,
        hasher: S,
        content: Content<K, V>,
        entry_hash: Option<fn(&K, &V) -> u64>,
    ) -> Root<K, V, S> {
        let mut root = Root::with_content(hasher, self.store, self.revision, content, entry_hash);
        (root.version, root.lock_version, root.frozen) = (self.fence.0, self.fence.0, self.frozen);
        root
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    /// The image, with sessions that are attached. O(locks + sessions). Waits for every thread that is updating locks.
    pub(crate) fn image<'a>(&self, attached: impl Iterator<Item = &'a State<K, T>>) -> (Image<K, T>, Snapshot<K, V, S>)
    where
        K: 'a,
        T: 'a,
    {
        let leases = self.published.leases();
        // The load may drop roots of other threads, and shards are locked.
        let look = || {
            let detached = self.sessions.lock();
            let (root, deferred) = defer_drops(|| self.published.load());
            let sessions = detached.images(attached, &root, leases.now());
            (root, deferred, sessions)
        };
        let (locks, (root, deferred, (sessions_opened, sessions))) = self.locks.images(leases, look);
        self.published.settle(deferred);
        let image = Image {
            store: root.shared().id,
            revision: root.revision,
            fence: FencingToken(root.lock_version),
            frozen: root.frozen,
            sessions_opened,
            locks,
            sessions,
        };
        (image, Snapshot::new(root))
    }

    /// Makes this dictionary what the image says. The linearization point is the replacement of the root.
    pub(crate) fn import(
        &self,
        image: Image<K, T>,
        entries: impl IntoIterator<Item = (K, Arc<V>, Revision)>,
    ) -> Result<Revision, ImportError> {
        let shared = self.published.shared();
        if image.store != shared.id {
            return Err(ImportError::OtherStore);
        }
        let content = content_of(&shared.hasher, entries);
        let hash = sum_of_hashes(&content, shared.entry_hash);
        let prepared = Prepared::new(image, &shared.hasher, self.published.leases().now());
        let revision = prepared.revision;
        let frozen = prepared.frozen;
        let edit = |root: &mut Root<K, V, S>| {
            if root.frozen {
                return Err(ImportError::Frozen);
            } else if root.held.is_some() {
                return Err(ImportError::ContentLocked);
            } else if root.revision > revision {
                return Err(ImportError::Older { image: revision, present: root.revision });
            }
            root.become_imported(&content, hash, revision, prepared.fence.0, frozen);
            Ok(())
        };
        let mut fence = self.fence();
        // Dropped when nothing is locked any more.
        let (old_locks, old_sessions);
        let mut all = self.locks.lock_all();
        let mut sessions = self.sessions.lock();
        self.locks.add_outstanding(prepared.locks.len());
        let (replaced, deferred) = self.published.replace(edit, |_| ());
        fence.replaced(replaced.is_ok(), replaced.is_ok(), deferred);
        if let Err(error) = replaced {
            self.locks.sub_outstanding(prepared.locks.len());
            return Err(error);
        }
        let Prepared { locks, sessions: imported, .. } = prepared;
        old_locks = all.replace(locks);
        old_sessions = mem::replace(&mut *sessions, imported);
        drop(sessions);
        drop(all);
        self.locks.sub_outstanding(old_locks.locks.len());
        if frozen {
            self.published.announce_freeze();
        } else {
            self.published.wakeups.gate.notify_all();
        }
        drop(fence);
        drop((old_locks, old_sessions, self.published.take_spare()));
        Ok(revision)
    }
}
