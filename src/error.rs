//! One error per operation. Each has the reason, and the caller's arguments where they can be returned.

use crate::change::{Change, Condition};
use crate::locks::{Conflict, LockReceipt, LockRequest};
use crate::revision::Revision;
use std::error::Error;
use std::fmt::{self, Debug, Display, Formatter};
use std::time::Duration;

/// Why a change was not committed. Nothing of it was.
///
/// If there are several reasons, the error has the first of these: frozen, locked, condition.
///
/// The error owns the change and the tokens of the locks' owners, so it borrows what keys and tokens borrow. With keys
/// or tokens that are `&str` from a function's parameters, `?` cannot convert it into a `Box<dyn Error>`: use `String`
/// or `Arc<str>` for both, or `.map_err(|error| error.to_string())?`.
///
/// ```
/// use state_dictionary::{Change, LockRequest, Refusal, StateDictionary, UpdateError};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None)).unwrap();
/// let error = dictionary.update_state(&"bob", Change::new().set("ball", 1)).unwrap_err();
/// assert_eq!(error.to_string(), "1 key is locked by another owner: \"ball\" by \"alice\" until released");
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
    /// Other owners have locked keys of the change.
    Locked {
        /// Which keys, their owners, and for how long the locks still last. A lock that expires during the call may be
        /// missing.
        conflicts: Vec<Conflict<K, T>>,
    },
    /// Conditions of the change do not hold.
    ConditionFailed {
        /// The conditions, and what was found instead.
        failed: Vec<FailedCondition<K>>,
    },
    /// The content is locked, and the call is one that does not wait. It is locked by a guard of `lock_content`, or for
    /// the short time in which sessions that end beside busy writers remove their keys.
    ContentLocked,
    /// The calling thread itself has locked the content, with a guard through which it can write: waiting would never
    /// end.
    ContentLockedByThisThread,
    /// The call was made inside a closure of `update_state_with` on the same dictionary. That closure would be run
    /// again for ever, since each run would change the content that it reads.
    InsideUpdate,
    /// Other writers committed first in every attempt.
    RetriesExhausted {
        /// How many times the closure was run.
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
            Self::Locked { conflicts } => locked(f, conflicts),
            Self::ConditionFailed { failed } => conditions(f, failed),
            Self::ContentLocked => f.write_str("the content is locked"),
            Self::ContentLockedByThisThread => {
                f.write_str("this thread has locked the content; write through its guard")
            }
            Self::InsideUpdate => f.write_str("a closure of update_state_with wrote to the dictionary that runs it"),
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

/// A condition that does not hold.
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
    /// What the change requires of it.
    pub expected: Condition,
    /// The revision of its value, if it has one.
    pub found: Option<Revision>,
}

impl<K: Debug> Display for FailedCondition<K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.expected {
            Condition::Absent => write!(f, "expected {:?} to be absent", self.key)?,
            Condition::Present => write!(f, "expected {:?} to be present", self.key)?,
            Condition::At(revision) => write!(f, "expected {:?} to be at revision {revision}", self.key)?,
        }
        match self.found {
            Some(revision) => write!(f, ", found revision {revision}"),
            None => f.write_str(", found no value"),
        }
    }
}

/// Why locks were not granted. None of them was; the releases in the request were carried out, unless stated otherwise.
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
///         assert_eq!(receipt.released, ["bat"], "releases are carried out all the same");
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
        /// The request, unchanged.
        request: LockRequest<K>,
        /// Which releases were carried out.
        receipt: LockReceipt<K>,
    },
    /// Other owners have locked keys that the request acquires.
    Locked {
        /// The request, unchanged.
        request: LockRequest<K>,
        /// Which releases were carried out.
        receipt: LockReceipt<K>,
        /// Which keys, their owners, and for how long the locks still last.
        conflicts: Vec<Conflict<K, T>>,
    },
    /// The request asks for a lease of zero. Nothing was done: no release either.
    ZeroLease {
        /// The request, unchanged.
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
            Self::Locked { conflicts, .. } => locked(f, conflicts),
            Self::ZeroLease { key, .. } => write!(f, "the lease requested for {key:?} is zero"),
        }
    }
}

impl<K: Debug, T: Debug> Error for LockError<K, T> {}

impl<K: Debug, T: Debug> Display for Conflict<K, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?}", self.key, self.owner)?;
        match self.remaining {
            Some(Duration::ZERO) => f.write_str(" until now"),
            Some(remaining) => write!(f, " for another {}", Rounded(remaining)),
            None => f.write_str(" until released"),
        }
    }
}

/// Why the content could not be locked.
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
    /// The calling thread has locked it already: waiting would never end.
    ContentLockedByThisThread,
    /// Another guard locks it: now, or still at the end of the timeout.
    ContentLocked,
}

impl Display for LockContentError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ContentLockedByThisThread => "this thread has locked the content already",
            Self::ContentLocked => "the content is locked",
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
            Self::TimedOut => "timed out with nothing pending",
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

/// Why a wait for a revision or for a condition ended without it.
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
    /// The dictionary is frozen, so it can no longer come.
    Frozen,
    /// It has not come by the end of the timeout.
    TimedOut,
}

impl Display for WaitError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frozen => "the dictionary was frozen before the awaited content was there",
            Self::TimedOut => "timed out before the awaited content was there",
        })
    }
}

impl Error for WaitError {}

fn locked<K: Debug, T: Debug>(f: &mut Formatter<'_>, conflicts: &[Conflict<K, T>]) -> fmt::Result {
    match conflicts.len() {
        1 => f.write_str("1 key is locked by another owner: ")?,
        keys => write!(f, "{keys} keys are locked by others: ")?,
    }
    list(f, ", ", conflicts)
}

fn conditions<K: Debug>(f: &mut Formatter<'_>, failed: &[FailedCondition<K>]) -> fmt::Result {
    match failed.len() {
        1 => f.write_str("1 condition does not hold: ")?,
        conditions => write!(f, "{conditions} conditions do not hold: ")?,
    }
    list(f, "; ", failed)
}

/// Writes at most eight of `items`, so that an error about a million keys stays readable.
fn list<I: Display>(f: &mut Formatter<'_>, separator: &str, items: &[I]) -> fmt::Result {
    const SHOWN: usize = 8;
    for (index, item) in items.iter().take(SHOWN).enumerate() {
        write!(f, "{}{item}", if index == 0 { "" } else { separator })?;
    }
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, "{separator}and {more} more"),
    }
}

/// A duration for people: with one digit after the point at most, rounded up.
struct Rounded(Duration);

impl Display for Rounded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        let tenths = self.0.as_nanos().div_ceil(100_000_000);
        let seconds = self.0.as_secs().saturating_add(u64::from(self.0.subsec_nanos() > 0));
        if tenths < 10 {
            write!(f, "{} ms", self.0.as_nanos().div_ceil(1_000_000))
        } else if seconds > 2 * DAY {
            write!(f, "{} days", seconds.div_ceil(DAY))
        } else if seconds > 2 * HOUR {
            write!(f, "{} h", seconds.div_ceil(HOUR))
        } else if seconds > 2 * MINUTE {
            write!(f, "{} min", seconds.div_ceil(MINUTE))
        } else if seconds > MINUTE || tenths % 10 == 0 {
            write!(f, "{seconds} s")
        } else {
            write!(f, "{}.{} s", tenths / 10, tenths % 10)
        }
    }
}
