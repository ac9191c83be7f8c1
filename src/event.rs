//! What is told of locks that come and go.

use crate::revision::{FencingToken, Revision};
use std::any::Any;
use std::hash::Hash;
use std::sync::Arc;

/// A lock that was granted, or that came to its end.
///
/// Everything that happens to a dictionary has a version, greater than that of all that happened before: every commit, and
/// every operation on locks but renewals. So events are ordered among themselves by their version, and among the commits by
/// their revision: an event comes after the commit of its [`revision`](Self::revision) and before the next one. (Where a
/// session ends, its locks are released by the very commit that removes its keys.)
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> =
///     StateDictionary::builder().clock(&clock).lock_history_limit(100).build();
/// let mut feed = dictionary.lock_feed();
/// assert!(feed.flush().is_ok()); // all locks: none
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
/// clock.advance(Duration::from_secs(5));
/// let Ok(LockDelivery::Events(events)) = feed.flush() else { panic!() };
/// assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [
///     LockEventKind::Granted,
///     LockEventKind::Expired, // although nobody touched the key
/// ]);
/// assert!(events[0].version < events[1].version && events[0].fencing_token == events[1].fencing_token);
/// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LockEvent<K, T> {
    /// When it happened, in the one order of versions. Events of one call share it.
    pub version: u64,
    /// The latest commit at that moment.
    pub revision: Revision,
    /// What happened.
    pub kind: LockEventKind,
    /// The key.
    pub key: K,
    /// Who holds the lock, or held it until now.
    pub owner: T,
    /// The token that the lock was granted with.
    pub fencing_token: FencingToken,
}

/// What can happen to a lock. Renewals are not told: they change only how long it lasts.
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
/// let mut feed = dictionary.lock_feed();
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
    /// It was granted.
    Granted,
    /// Its owner gave it back, or its owner's session ended.
    Released,
    /// Its lease had run out, and it was taken away.
    Expired,
    /// [`clear_locks`](crate::StateDictionary::clear_locks) took it away.
    Cleared,
}

/// A token without its type, so that content, snapshots and buffers need not name the type of tokens.
pub(crate) type Origin = Arc<dyn Any + Send + Sync>;

/// The token that lost its type: all tokens of a dictionary are of one.
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

/// One lock that came or went, as the table tells it.
pub(crate) struct LockChange<K, T> {
    pub(crate) kind: LockEventKind,
    pub(crate) key: K,
    pub(crate) owner: T,
    /// What it was granted with, if not at this very moment.
    pub(crate) granted: Option<FencingToken>,
}
