//! Taking, giving back and inspecting locks.

use super::{Engine, StateDictionary};
use crate::content::{Deferred, Published, Root, defer_drops};
use crate::error::LockError;
use crate::event::{LockChange, LockEventKind, Origin};
use crate::locks::{Fence, LockFailure, LockInfo, LockReceipt, LockRequest, SessionLocks};
use crate::observe::News;
use smallvec::SmallVec;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// Takes and gives back exclusive write access to keys, in one step. All locks asked for are granted or none; releases
    /// happen regardless.
    ///
    /// A lock forbids writing to its key, not reading. The key need not have a value, and removing the value keeps the
    /// lock. Acquiring a lock one holds gives it the lease asked, shorter or longer. A lease ends by itself at its
    /// deadline; it is counted from the end of this call.
    ///
    /// O(k log k) for k keys. May wait for other threads that are updating locks; never for a lock to become free, nor for
    /// held content. A grant or a release makes writers that are just committing try again; a renewal does not.
    ///
    /// # Errors
    /// See [`LockError`]. The request is in the error, together with what became of the releases.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::new();
    /// let receipt = dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
    /// let (_, fencing_token) = &receipt.granted[0];
    /// assert_eq!(dictionary.lock_info("ball").unwrap().fencing_token, *fencing_token);
    /// assert!(dictionary.update_locks(&"bob", LockRequest::new().acquire("ball", None)).is_err());
    /// dictionary.update_locks(&"alice", LockRequest::new().release("ball"))?;
    /// # Ok::<(), state_dictionary::LockError<String, &str>>(())
    /// ```
    pub fn update_locks(&self, token: &T, request: LockRequest<K>) -> Result<LockReceipt<K>, LockError<K, T>> {
        self.engine.update_locks(token, None, request)
    }

    /// Gives back everything that `token` holds, for a client that has left. Returns the keys whose lease had not run out.
    ///
    /// One step: nobody sees some of the locks gone and others not. O(n) in the number of all locks. Waits for threads that
    /// are updating locks.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// dictionary.update_locks(&"bob", LockRequest::new().acquire("bat", None))?;
    /// assert_eq!(dictionary.release_all(&"alice"), ["ball"]);
    /// assert_eq!(dictionary.locks().len(), 1);
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    pub fn release_all(&self, token: &T) -> Vec<K> {
        let Engine { locks, published, .. } = &self.engine;
        locks.remove_all(|owner| owner == token, LockEventKind::Released, &published.clock, &mut self.engine.fence())
    }

    /// Takes all locks away from everybody, and returns the keys of those whose lease had not run out.
    ///
    /// One step, like [`release_all`](Self::release_all). Whoever held a lock finds out when it next writes or renews.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert_eq!(dictionary.clear_locks(), ["ball"]);
    /// let receipt = dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(receipt.renewed.is_empty(), "so she finds out that it was lost");
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn clear_locks(&self) -> Vec<K> {
        let Engine { locks, published, .. } = &self.engine;
        locks.remove_all(|_| true, LockEventKind::Cleared, &published.clock, &mut self.engine.fence())
    }

    /// Who holds a key at this instant, if anybody. May wait for a thread that is updating locks.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert_eq!(dictionary.lock_info("ball").map(|lock| lock.owner), Some("alice"));
    /// assert!(dictionary.lock_info("bat").is_none(), "now; a moment later it may be another's");
    /// # Ok::<(), state_dictionary::LockError<String, &str>>(())
    /// ```
    #[must_use]
    pub fn lock_info<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<LockInfo<T>>
    where
        K: Borrow<Q>,
    {
        self.engine.locks.get(self.engine.published.shared().lookup(key), &self.engine.published.clock)
    }

    /// All locks at one instant, in no particular order. O(n) in their number, during which nobody can update locks, nor
    /// write while there are any; meant for inspection, not for use at a high rate.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// for (key, lock) in dictionary.locks() {
    ///     println!("{key} is held by {}", lock.owner);
    /// }
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    #[must_use]
    pub fn locks(&self) -> Vec<(K, LockInfo<T>)> {
        self.engine.locks.all(&self.engine.published.clock)
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    pub(super) fn update_locks(
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
        let Published { clock, .. } = &*self.published;
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

    pub(super) fn fence(&self) -> RootFence<'_, K, V, T, S> {
        let (deferred, recorded, news) = (Deferred::default(), SmallVec::new(), News::default());
        RootFence { engine: self, deferred, changed: false, committed: false, recorded, news }
    }
}

impl<K, V, T, S> Engine<K, V, T, S> {
    /// What the table records_events of locks, as roots keep it; nothing if they do not.
    pub(super) fn kept(&self, changes: Vec<LockChange<K, T>>) -> Option<LockChanges<K>> {
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

/// Lets the lock table replace the root. Is dropped when no shard is locked any more.
pub(super) struct RootFence<'a, K, V, T, S> {
    engine: &'a Engine<K, V, T, S>,
    deferred: Deferred,
    /// Whether there is something to see for those who follow the locks.
    changed: bool,
    /// Whether there is for those who follow the content.
    committed: bool,
    /// Kept, because with a shard locked the last of a key or a token must not be dropped.
    recorded: SmallVec<[LockChanges<K>; 1]>,
    news: News,
}

/// Locks that came or went at one version, as roots keep them.
pub(super) type LockChanges<K> = Arc<[LockChange<K, Origin>]>;

impl<K, V, T, S> RootFence<'_, K, V, T, S> {
    /// Tells of a root that was replaced past this fence.
    pub(super) fn replaced(&mut self, locks_changed: bool, committed: bool, deferred: Deferred) {
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
                root.locks_changed(changes.as_ref(), settings.lock_history_limit);
                Ok(())
            }
        };
        let (version, deferred) = published.replace(edit, |root| (!root.frozen).then_some(root.version));
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
        self.news.refused(locked_keys);
    }

    fn expired(&mut self, locks: usize) {
        self.news.expired(locks);
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
        self.news.tell(&self.engine.published.shared().observed);
    }
}
