//! What a client requests of the locks, and what the dictionary reports about them.

use crate::revision::FencingToken;
use std::time::Duration;

/// Keys to lock and keys to release, in one step.
///
/// Either all requested locks are granted or none; releases are carried out in any case. If a key is requested twice,
/// the later call wins. A key both released and acquired is locked afterwards, with the requested lease and a new
/// fencing token.
///
/// ```
/// use state_dictionary::LockRequest;
/// use std::time::Duration;
///
/// let request: LockRequest<String> = LockRequest::new()
///     .acquire("ball", Duration::from_secs(5))
///     .acquire("goal", None) // until released
///     .release("bat");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRequest<K> {
    pub(super) acquire: Vec<(K, Option<Duration>)>,
    pub(super) release: Vec<K>,
}

impl<K> LockRequest<K> {
    /// An empty request.
    #[must_use]
    pub const fn new() -> Self {
        Self { acquire: Vec::new(), release: Vec::new() }
    }

    /// Requests the lock on a key, or a new lease for it if the caller owns it already. `None` is a lease without end.
    ///
    /// A lease is counted from the end of the call that grants it. One that is too long for the clock has no end. One
    /// of zero makes the whole request an error, even if a later call requests the same key again.
    ///
    /// ```
    /// use state_dictionary::{LockError, LockRequest, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let acquire = |lease: Option<Duration>| dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", lease));
    /// acquire(Some(Duration::from_secs(60)))?;
    /// acquire(Some(Duration::from_secs(1)))?; // shorter, too
    /// assert!(dictionary.lock_info("ball").unwrap().remaining <= Some(Duration::from_secs(1)));
    /// acquire(None)?; // for ever
    /// assert_eq!(dictionary.lock_info("ball").unwrap().remaining, None);
    /// assert!(matches!(acquire(Some(Duration::ZERO)), Err(LockError::ZeroLease { .. })));
    /// # Ok::<(), LockError<&str, &str>>(())
    /// ```
    #[must_use]
    pub fn acquire(mut self, key: impl Into<K>, lease: impl Into<Option<Duration>>) -> Self {
        self.acquire.push((key.into(), lease.into()));
        self
    }

    /// Releases the lock on a key. Releasing a lock that the caller does not own is no error; the receipt reports it.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let receipt = dictionary.update_locks(&"alice", LockRequest::new().release("ball"))?;
    /// assert_eq!((receipt.released, receipt.not_held), (vec![], vec!["ball"]));
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    #[must_use]
    pub fn release(mut self, key: impl Into<K>) -> Self {
        self.release.push(key.into());
        self
    }

    /// The requested keys, with their leases, in the order of the calls.
    #[must_use]
    pub fn acquires(&self) -> impl ExactSizeIterator<Item = (&K, Option<Duration>)> {
        self.acquire.iter().map(|(key, lease)| (key, *lease))
    }

    /// The keys to release, in the order of the calls.
    #[must_use]
    pub fn releases(&self) -> impl ExactSizeIterator<Item = &K> {
        self.release.iter()
    }
}

impl<K> Default for LockRequest<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// The result of a [`LockRequest`]. Keys are in no particular order.
///
/// ```
/// use state_dictionary::{LockRequest, ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().clock(&clock).build();
/// let acquire = || dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5)));
/// let first = acquire()?.granted[0].1;
/// assert_eq!(acquire()?.renewed, [("ball", first)]);
///
/// clock.advance(Duration::from_secs(5)); // too late: another client may have written to it
/// let receipt = acquire()?;
/// assert_eq!((receipt.renewed.len(), receipt.expired), (0, vec!["ball"]));
/// assert!(receipt.granted[0].1 > first);
/// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LockReceipt<K> {
    /// Newly granted locks. They share one fencing token, that of this call.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
    pub granted: Vec<(K, FencingToken)>,
    /// Locks that the caller owned before and that have a new lease, each with the fencing token it was granted with.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
    pub renewed: Vec<(K, FencingToken)>,
    /// Released locks.
    pub released: Vec<K>,
    /// Keys to release whose lock the caller did not own.
    pub not_held: Vec<K>,
    /// Keys, to release or to acquire, whose lock the caller owned until it expired: another client may have written to
    /// them since. For a key to acquire, the lock is granted anew. An expired lock that another operation has removed
    /// is not among them; its key is then only in `granted` or `not_held`. So only `renewed` shows that a lock was
    /// never lost.
    pub expired: Vec<K>,
}

impl<K> LockReceipt<K> {
    pub(super) const fn new() -> Self {
        Self {
            granted: Vec::new(),
            renewed: Vec::new(),
            released: Vec::new(),
            not_held: Vec::new(),
            expired: Vec::new(),
        }
    }
}

/// A key that another owner has locked.
///
/// ```
/// use state_dictionary::{Change, LockRequest, ManualClock, Refusal, StateDictionary, UpdateError};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().clock(&clock).build();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5))).unwrap();
/// let refused = dictionary.update_state(&"bob", Change::new().set("ball", 1));
/// let Err(UpdateError { change, reason: Refusal::Locked { conflicts }, .. }) = refused else { panic!() };
/// assert_eq!((conflicts[0].key, conflicts[0].owner), ("ball", "alice"));
/// clock.advance(conflicts[0].remaining.unwrap());
/// assert!(dictionary.update_state(&"bob", change).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Conflict<K, T> {
    /// The key.
    pub key: K,
    /// Its owner.
    pub owner: T,
    /// For how long the lock still lasts, if it has a lease that is not renewed.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::seconds"))]
    pub remaining: Option<Duration>,
}

/// A lock as it was at one instant.
///
/// ```
/// use state_dictionary::{LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
/// let lock = dictionary.lock_info("ball").unwrap();
/// assert_eq!((lock.owner, lock.remaining), ("alice", None));
/// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LockInfo<T> {
    /// Its owner.
    pub owner: T,
    /// For how long it still lasts, if it has a lease that is not renewed.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::seconds"))]
    pub remaining: Option<Duration>,
    /// The token that it was granted with.
    pub fencing_token: FencingToken,
}
