//! Events of locks.

use crate::revision::{FencingToken, Revision};
use std::any::Any;
use std::hash::Hash;
use std::sync::Arc;

/// A lock that was granted, or that ended.
///
/// Every commit has a version, and so has every operation on locks except a renewal; it is greater than the versions of
/// all that happened before. So events are ordered among themselves by their version, and among the commits by their
/// revision: an event comes after the commit of its [`revision`](Self::revision) and before the next one. (The commit
/// that removes the keys of a session that ends also releases its locks.)
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> =
///     StateDictionary::builder().clock(&clock).lock_history_limit(100).build();
/// let feed = dictionary.lock_feed();
/// assert!(feed.flush().is_ok()); // all locks: none
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
/// clock.advance(Duration::from_secs(5));
/// let Ok(LockDelivery::Events(events)) = feed.flush() else { panic!() };
/// assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [
///     LockEventKind::Granted,
///     LockEventKind::Expired, // although no client touched the key
/// ]);
/// assert!(events[0].version < events[1].version && events[0].fencing_token == events[1].fencing_token);
/// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LockEvent<K, T> {
    /// The version at which it happened. The events of one call share it.
    pub version: u64,
    /// The latest commit at that version.
    pub revision: Revision,
    /// What happened.
    pub kind: LockEventKind,
    /// The key.
    pub key: K,
    /// The owner of the lock, or its last owner if it ended.
    pub owner: T,
    /// The fencing token that the lock was granted with.
    pub fencing_token: FencingToken,
}

/// What can happen to a lock. A renewal is not an event: it changes only the deadline.
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
/// let feed = dictionary.lock_feed();
/// assert!(feed.flush().is_ok()); // all locks: none
/// let acquire = || dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None));
/// acquire()?;
/// dictionary.release_all(&"alice");
/// acquire()?;
/// dictionary.clear_locks();
/// let Ok(LockDelivery::Events(events)) = feed.flush() else { panic!() };
/// let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
/// use LockEventKind::{Cleared, Granted, Released};
/// assert_eq!(kinds, [Granted, Released, Granted, Cleared]);
/// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LockEventKind {
    /// The lock was granted.
    Granted,
    /// Its owner released it, or its owner's session ended.
    Released,
    /// Its lease had expired, and it was removed.
    Expired,
    /// [`clear_locks`](crate::StateDictionary::clear_locks) removed it.
    Cleared,
}

/// A token without its type, so that content, snapshots and buffers need no type parameter for tokens.
pub(crate) type Origin = Arc<dyn Any + Send + Sync>;

/// The token with its type again: all tokens of a dictionary have one type.
pub(crate) fn token<T: Clone + 'static>(origin: &Origin) -> T {
    match origin.downcast_ref::<T>() {
        Some(token) => token.clone(),
        None => unreachable!("all tokens of a dictionary are of one type"),
    }
}

/// What one operation did to the locks.
pub(crate) struct LockRecord<K> {
    pub(crate) revision: Revision,
    pub(crate) changes: Arc<[LockChange<K, Origin>]>,
}

/// One lock that was granted or ended.
pub(crate) struct LockChange<K, T> {
    pub(crate) kind: LockEventKind,
    pub(crate) key: K,
    pub(crate) owner: T,
    /// The token that it was granted with; `None` for a lock that this operation grants.
    pub(crate) granted: Option<FencingToken>,
}
