//! One error per operation. Each says what stood in the way and hands back what it was given.

use crate::change::{Change, Condition};
use crate::locks::{Conflict, LockReceipt, LockRequest};
use crate::revision::Revision;
use std::error::Error;
use std::fmt::{self, Debug, Display, Formatter};
use std::time::Duration;

/// Why a change was not committed. Nothing of it was.
///
/// When there are several reasons, the first of these is told: frozen, locked, condition.
///
/// The error has the change and the tokens of others, so it borrows what keys and tokens borrow. With keys or tokens that are
/// `&str` from a function's parameters, `?` cannot turn it into a `Box<dyn Error>`: use `String` or `Arc<str>` for both, or
/// `.map_err(|error| error.to_string())?`.
///
/// ```
/// use state_dictionary::{Change, LockRequest, Refusal, StateDictionary, UpdateError};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None)).unwrap();
/// let error = dictionary.update_state(&"bob", Change::new().set("ball", 1)).unwrap_err();
/// assert_eq!(error.to_string(), "locked by others: \"ball\" by \"alice\" until released");
///
/// dictionary.release_all(&"alice");
/// assert!(dictionary.update_state(&"bob", error.into_change()).is_ok());
///
/// dictionary.freeze();
/// let error = dictionary.update_state(&"bob", Change::new().set("ball", 2)).unwrap_err();
/// assert!(matches!(error, UpdateError { reason: Refusal::Frozen, .. }));
/// ```
#[derive(PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdateError<K, V, T = ()> {
    /// The change, as it was. If a closure was to make it, the change that it returned last, or an empty one if it was not run.
    pub change: Change<K, V>,
    /// Why it was not committed.
    pub reason: Refusal<K, T>,
}

/// Why a change was not committed: the reason of an [`UpdateError`].
///
/// ```
/// use state_dictionary::{Refusal, StateDictionary};
///
/// let flags: StateDictionary<&str, bool> = StateDictionary::new();
/// flags.freeze();
/// match flags.set("dark", true).unwrap_err().reason {
///     Refusal::Frozen => println!("it is too late"),
///     other => println!("{other}"),
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal<K, T = ()> {
    /// The dictionary is frozen.
    Frozen,
    /// Keys of the change are locked by others.
    Locked {
        /// The keys, their owners, and for how long they remain locked. A lock that expires during the call may be left out.
        conflicts: Vec<Conflict<K, T>>,
    },
    /// Conditions of the change did not hold.
    ConditionFailed {
        /// The conditions, and what was found instead.
        failed: Vec<FailedCondition<K>>,
    },
    /// The content is locked, and the call was one that does not wait. It is locked by a guard of `lock_content`, or for the time
    /// that it takes to remove the keys of sessions that end beside busy writers.
    ContentLocked,
    /// The calling thread itself has locked the content, with a guard through which it could write: waiting would never end.
    ContentLockedByThisThread,
    /// The call was made from inside a closure of `update_state_with` on the same dictionary, which would be run again
    /// for ever, since each run would change what it is based on.
    InsideUpdate,
    /// Other writers were faster each time.
    RetriesExhausted {
        /// How often the closure was run.
        attempts: usize,
    },
}

impl<K, V, T> UpdateError<K, V, T> {
    /// The change that was not committed, to try again with.
    pub fn into_change(self) -> Change<K, V> {
        self.change
    }
}

impl<K: Debug, T: Debug> Display for Refusal<K, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen => f.write_str("the dictionary is frozen"),
            Self::Locked { conflicts } => list(f, "locked by others: ", conflicts),
            Self::ConditionFailed { failed } => list(f, "conditions do not hold: ", failed),
            Self::ContentLocked => f.write_str("the content is held by lock_content"),
            Self::ContentLockedByThisThread => {
                f.write_str("this thread holds the content; write through the guard of lock_content")
            }
            Self::InsideUpdate => f.write_str("write to the dictionary from inside an update_state_with closure on it"),
            Self::RetriesExhausted { attempts } => write!(f, "the content changed during each of {attempts} attempts"),
        }
    }
}

impl<K: Debug, V, T: Debug> Display for UpdateError<K, V, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.reason, f)
    }
}

/// The reason and the change, without its values, which need not be printable.
impl<K: Debug, V, T: Debug> Debug for UpdateError<K, V, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "UpdateError({}; {:?})", self.reason, self.change)
    }
}

impl<K: Debug, V, T: Debug> Error for UpdateError<K, V, T> {}

/// A condition that did not hold.
///
/// ```
/// use state_dictionary::{Change, Condition, Refusal, StateDictionary, UpdateError};
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// let change = Change::new().set("b", 1).if_present("a");
/// let Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. }) = dictionary.update_state(&(), change) else { panic!() };
/// assert_eq!((failed[0].key, failed[0].expected, failed[0].found), ("a", Condition::Present, None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FailedCondition<K> {
    /// The key.
    pub key: K,
    /// What was asked of it.
    pub expected: Condition,
    /// The revision of its value, if it has one.
    pub found: Option<Revision>,
}

impl<K: Debug> Display for FailedCondition<K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.expected {
            Condition::Absent => write!(f, "{:?} should be absent", self.key)?,
            Condition::Present => write!(f, "{:?} should be present", self.key)?,
            Condition::At(revision) => write!(f, "{:?} should be at revision {revision}", self.key)?,
        }
        match self.found {
            Some(revision) => write!(f, ", is at revision {revision}"),
            None => f.write_str(", is absent"),
        }
    }
}

/// Why locks were not granted. None of them was; the releases that were asked for were carried out, unless said otherwise.
///
/// ```
/// use state_dictionary::{LockError, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None)).unwrap();
/// dictionary.update_locks(&"bob", LockRequest::new().acquire("bat", None)).unwrap();
///
/// match dictionary.update_locks(&"bob", LockRequest::new().acquire("ball", None).acquire("net", None).release("bat")) {
///     Err(LockError::Locked { conflicts, receipt, .. }) => {
///         assert_eq!((conflicts[0].key, conflicts[0].owner), ("ball", "alice"));
///         assert_eq!(receipt.released, ["bat"], "which happens all the same");
///     }
///     other => panic!("{other:?}"),
/// }
/// assert!(dictionary.lock_info("net").is_none(), "all or none");
/// ```
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError<K, T> {
    /// The dictionary is frozen.
    Frozen {
        /// The request, as it was.
        request: LockRequest<K>,
        /// What became of the releases.
        receipt: LockReceipt<K>,
    },
    /// Others hold keys that were asked for.
    Locked {
        /// The request, as it was.
        request: LockRequest<K>,
        /// What became of the releases.
        receipt: LockReceipt<K>,
        /// Which keys, who holds them and for how long still.
        conflicts: Vec<Conflict<K, T>>,
    },
    /// A lease of zero was asked for. Nothing was done, releases included.
    ZeroLease {
        /// The request, as it was.
        request: LockRequest<K>,
        /// The first key with such a lease.
        key: K,
    },
}

impl<K, T> LockError<K, T> {
    /// The request that was refused.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None)).unwrap();
    /// let error = dictionary.update_locks(&"bob", LockRequest::new().acquire("ball", None)).unwrap_err();
    /// dictionary.release_all(&"alice");
    /// assert!(dictionary.update_locks(&"bob", error.into_request()).is_ok());
    /// ```
    #[must_use]
    pub fn into_request(self) -> LockRequest<K> {
        match self {
            Self::Frozen { request, .. } | Self::Locked { request, .. } | Self::ZeroLease { request, .. } => request,
        }
    }
}

impl<K: Debug, T: Debug> Display for LockError<K, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen { .. } => f.write_str("the dictionary is frozen"),
            Self::Locked { conflicts, .. } => list(f, "locked by others: ", conflicts),
            Self::ZeroLease { key, .. } => write!(f, "a lease of zero was asked for {key:?}"),
        }
    }
}

impl<K: Debug, T: Debug> Error for LockError<K, T> {}

impl<K: Debug, T: Debug> Display for Conflict<K, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?}", self.key, self.owner)?;
        match self.remaining {
            Some(Duration::ZERO) => f.write_str(" for no time any more"),
            Some(remaining) => write!(f, " for {remaining:?}"),
            None => f.write_str(" until released"),
        }
    }
}

/// Why the content could not be held.
///
/// ```
/// use state_dictionary::{LockContentError, StateDictionary};
/// use std::thread;
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// let guard = dictionary.lock_content()?;
/// assert_eq!(dictionary.lock_content().unwrap_err(), LockContentError::ContentLockedByThisThread);
/// thread::scope(|scope| {
///     scope.spawn(|| assert_eq!(dictionary.try_lock_content().unwrap_err(), LockContentError::ContentLocked));
/// });
/// # drop(guard);
/// # Ok::<(), LockContentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockContentError {
    /// The calling thread holds it already: waiting would never end.
    ContentLockedByThisThread,
    /// Somebody else holds it: now, or still at the end of the timeout.
    ContentLocked,
}

impl Display for LockContentError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ContentLockedByThisThread => "this thread holds the content already",
            Self::ContentLocked => "the content is held",
        })
    }
}

impl Error for LockContentError {}

/// The feed is closed: everything was delivered and nothing more can come, because the dictionary was frozen or dropped, or the
/// feed closed.
///
/// ```
/// use state_dictionary::{FlushError, StateDictionary};
///
/// let flags: StateDictionary<&str, bool> = StateDictionary::new();
/// let buffer = flags.change_buffer();
/// drop(flags);
/// assert_eq!(buffer.flush().unwrap_err(), FlushError);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushError;

/// Why a flush that does not wait delivered nothing.
///
/// ```
/// use state_dictionary::{StateDictionary, TryFlushError};
///
/// let flags: StateDictionary<&str, bool> = StateDictionary::new();
/// let buffer = flags.change_buffer();
/// assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty); // look again later
/// drop(flags);
/// assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Closed); // never again
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryFlushError {
    /// Nothing is pending.
    Empty,
    /// See [`FlushError`].
    Closed,
}

/// Why a flush that waits for a limited time delivered nothing.
///
/// ```
/// use state_dictionary::{FlushTimeoutError, StateDictionary};
/// use std::time::Duration;
///
/// let flags: StateDictionary<&str, bool> = StateDictionary::new();
/// let buffer = flags.change_buffer();
/// assert_eq!(buffer.flush_timeout(Duration::ZERO).unwrap_err(), FlushTimeoutError::TimedOut);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushTimeoutError {
    /// Nothing was pending when the time was over.
    TimedOut,
    /// See [`FlushError`].
    Closed,
}

const CLOSED: &str = "the feed is closed";

impl Display for FlushError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED)
    }
}

impl Display for TryFlushError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "nothing is pending",
            Self::Closed => CLOSED,
        })
    }
}

impl Display for FlushTimeoutError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "nothing was pending when the time was over",
            Self::Closed => CLOSED,
        })
    }
}

impl Error for FlushError {}
impl Error for TryFlushError {}
impl Error for FlushTimeoutError {}

impl From<FlushError> for TryFlushError {
    fn from(FlushError: FlushError) -> Self {
        Self::Closed
    }
}

impl From<FlushError> for FlushTimeoutError {
    fn from(FlushError: FlushError) -> Self {
        Self::Closed
    }
}

/// Why a revision was not reached, or a condition does not hold.
///
/// ```
/// use state_dictionary::{StateDictionary, WaitError};
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// dictionary.freeze();
/// assert_eq!(dictionary.wait_for_revision(1.into()).unwrap_err(), WaitError::Frozen);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// It can no longer come: the dictionary is frozen.
    Frozen,
    /// It had not come at the end of the timeout.
    TimedOut,
}

impl Display for WaitError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frozen => "the dictionary is frozen, and what was waited for has not come",
            Self::TimedOut => "what was waited for has not come in time",
        })
    }
}

impl Error for WaitError {}

/// Writes at most a few of `items`: an error of a million keys must still be readable.
fn list<I: Display>(f: &mut Formatter<'_>, what: &str, items: &[I]) -> fmt::Result {
    const SHOWN: usize = 8;
    f.write_str(what)?;
    for (index, item) in items.iter().take(SHOWN).enumerate() {
        write!(f, "{}{item}", if index == 0 { "" } else { "; " })?;
    }
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}
