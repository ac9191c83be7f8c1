//! Operations on locks, and how they replace the root.

use crate::content::Root;
use crate::deferred_drops::{Deferred, defer_drops};
use crate::engine::Engine;
use crate::error::LockError;
use crate::event::{LockChange, Origin};
use crate::locks::{Fence, LockFailure, LockReceipt, LockRequest, SessionLocks};
use crate::observe::PendingEvents;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    pub(crate) fn update_locks(
        &self,
        token: &T,
        session: Option<&SessionLocks>,
        request: LockRequest<K>,
    ) -> Result<LockReceipt<K>, LockError<K, T>> {
        let zero_lease =
            request.acquires().find(|(_, lease)| *lease == Some(Duration::ZERO)).map(|(key, _)| key.clone());
        if let Some(key) = zero_lease {
            return Err(LockError::ZeroLease { request, key });
        }
        let clock = self.published.leases();
        let hash = |key: &K| self.published.shared().hasher.hash_one(key);
        self.locks.update(token, session, &request, hash, clock, &mut self.fence()).map_err(|failure| {
            let LockFailure { receipt, conflicts } = failure;
            if conflicts.is_empty() {
                LockError::Frozen { request, receipt }
            } else {
                LockError::Locked { request, receipt, conflicts }
            }
        })
    }

    pub(crate) fn fence(&self) -> RootFence<'_, K, V, T, S> {
        let (deferred, recorded, events) = (Deferred::default(), SmallVec::new(), PendingEvents::default());
        RootFence { engine: self, deferred, changed: false, committed: false, recorded, events }
    }
}

impl<K, V, T, S> Engine<K, V, T, S> {
    /// The events of the table with erased token types, as roots keep them; `None` if they keep none.
    pub(crate) fn kept(&self, changes: Vec<LockChange<K, T>>) -> Option<LockChanges<K>> {
        let erase = self.settings.lock_events?;
        let erased = changes.into_iter().map(|LockChange { kind, key, owner, granted }| LockChange {
            kind,
            key,
            owner: erase(owner),
            granted,
        });
        Some(erased.collect())
    }
}

/// Lets the lock table replace the root. It is dropped when no shard is locked any more.
pub(crate) struct RootFence<'a, K, V, T, S> {
    engine: &'a Engine<K, V, T, S>,
    deferred: Deferred,
    /// Whether feeds of locks have something to see.
    changed: bool,
    /// Whether feeds of the content have.
    committed: bool,
    /// Kept until then, because the last owner of a key or a token must not drop it with a shard locked.
    recorded: SmallVec<[LockChanges<K>; 1]>,
    events: PendingEvents,
}

/// The locks that were granted or ended at one version, as roots keep them.
pub(crate) type LockChanges<K> = Arc<[LockChange<K, Origin>]>;

impl<K, V, T, S> RootFence<'_, K, V, T, S> {
    /// Notes a root that was replaced without this fence.
    pub(crate) fn replaced(&mut self, locks_changed: bool, committed: bool, deferred: Deferred) {
        self.changed |= locks_changed;
        self.committed |= committed;
        self.deferred = self.deferred.and(deferred);
    }
}

impl<K, V, T, S> Fence<K, T> for RootFence<'_, K, V, T, S> {
    fn replace(&mut self, granting: bool, changes: Vec<LockChange<K, T>>) -> Option<u64> {
        let Engine { published, settings, .. } = self.engine;
        let changes = self.engine.kept(changes);
        let edit = |root: &mut Root<K, V, S>| match (root.frozen, granting) {
            (true, true) => Err(()),
            (true, false) => Ok(()),
            (false, _) => {
                published.locks_changed(root, changes.as_ref(), settings.lock_history_limit);
                Ok(())
            }
        };
        let (version, deferred) = published.replace(edit, |root| (!root.frozen).then_some(root.lock_version));
        self.recorded.extend(changes);
        self.deferred = self.deferred.and(deferred);
        let version = version.ok().flatten();
        self.changed |= version.is_some();
        version
    }

    fn records_events(&self) -> bool {
        self.engine.settings.lock_events.is_some()
    }

    fn is_frozen(&mut self) -> bool {
        let (frozen, deferred) = defer_drops(|| self.engine.published.peek(|root| root.frozen));
        self.deferred = self.deferred.and(deferred);
        frozen
    }

    fn refused(&mut self, locked_keys: usize) {
        self.events.refused(locked_keys);
    }

    fn expired(&mut self, locks: usize) {
        self.events.expired(locks);
    }

    fn deadline_advanced(&mut self) {
        self.changed = true;
    }
}

impl<K, V, T, S> Drop for RootFence<'_, K, V, T, S> {
    fn drop(&mut self) {
        if self.committed {
            self.engine.published.wakeups.changed.notify_all();
        }
        if self.changed {
            self.engine.published.wakeups.locks.notify_all();
        }
        self.engine.published.settle(self.deferred);
        self.events.emit(&self.engine.published.shared().observed);
    }
}
