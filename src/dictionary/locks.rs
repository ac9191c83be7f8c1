//! Acquiring, releasing and inspecting locks.

use super::StateDictionary;
use crate::engine::Engine;
use crate::error::LockError;
use crate::event::LockEventKind;
use crate::locks::{LockInfo, LockReceipt, LockRequest};
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// Acquires and releases exclusive write access to keys, in one step. Either all requested locks are granted or
    /// none; releases are carried out in any case.
    ///
    /// A lock forbids other tokens to write to its key, not to read it. The key need not have a value, and removing the
    /// value keeps the lock. Acquiring a lock that `token` owns already sets its lease to the requested one, shorter or
    /// longer. A lease is counted from the end of this call, and expires at its deadline without a further call.
    ///
    /// O(k log k) for k keys. May wait for other threads that are updating locks; never for a lock to become free, nor
    /// for locked content. A grant or a release makes commits that are in progress retry; a renewal does not.
    ///
    /// # Errors
    /// See [`LockError`]. The error has the request and reports which releases were carried out.
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
    #[doc(alias = "lock")]
    #[doc(alias = "acquire")]
    #[doc(alias = "unlock")]
    pub fn update_locks(&self, token: &T, request: LockRequest<K>) -> Result<LockReceipt<K>, LockError<K, T>> {
        self.engine.update_locks(token, None, request)
    }

    /// Releases all locks of `token`, for a client that has disconnected. Returns the keys whose lease had not expired.
    ///
    /// One step: no other thread sees some of the locks released and others not. O(n) in the number of all locks. Waits
    /// for threads that are updating locks.
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
        locks.remove_all(|owner| owner == token, LockEventKind::Released, published.leases(), &mut self.engine.fence())
    }

    /// Removes all locks, of all owners, and returns the keys of those whose lease had not expired.
    ///
    /// One step, like [`release_all`](Self::release_all). An owner finds out when it next writes or renews.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert_eq!(dictionary.clear_locks(), ["ball"]);
    /// let receipt = dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(receipt.renewed.is_empty(), "so the lock was lost in between");
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn clear_locks(&self) -> Vec<K> {
        let Engine { locks, published, .. } = &self.engine;
        locks.remove_all(|_| true, LockEventKind::Cleared, published.leases(), &mut self.engine.fence())
    }

    /// The lock on a key at this instant, with its owner, if the key is locked. May wait for a thread that is updating
    /// locks.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert_eq!(dictionary.lock_info("ball").map(|lock| lock.owner), Some("alice"));
    /// assert!(dictionary.lock_info("bat").is_none(), "at this instant; it may be locked a moment later");
    /// # Ok::<(), state_dictionary::LockError<String, &str>>(())
    /// ```
    #[must_use]
    pub fn lock_info<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<LockInfo<T>>
    where
        K: Borrow<Q>,
    {
        self.engine.locks.get(self.engine.published.shared().lookup(key), self.engine.published.leases())
    }

    /// All locks at one instant, in no particular order. O(n) in their number. No other thread can update locks
    /// meanwhile, nor write while there are any; meant for inspection, not for use at a high rate.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// for (key, lock) in dictionary.locks() {
    ///     println!("{key} is locked by {}", lock.owner);
    /// }
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    #[must_use]
    pub fn locks(&self) -> Vec<(K, LockInfo<T>)> {
        self.engine.locks.all(self.engine.published.leases())
    }
}
