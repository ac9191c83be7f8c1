//! WHO may write: exclusive write access to keys, with leases.
//!
//! The table is sharded and is never the truth about content; it does not know content at all. What ties the two together
//! is the [`Fence`]: a grant, a release or an expiry is not finished until it has replaced the root, and it does so while
//! it still holds the shards of all its keys. A writer that looked at a lock before it changed then loses its swap, and
//! one that looks after finds the shard locked until the change is complete.

mod all;
mod leases;
mod request;
mod session;
mod table;
mod update;

pub(crate) use all::{Going, LockedShards, Obstacle};
pub use request::{Conflict, LockInfo, LockReceipt, LockRequest};
pub(crate) use session::{SessionId, SessionLocks};
pub(crate) use table::{Lock, LockTable, Verdict};
pub(crate) use update::LockFailure;

use crate::event::LockChange;
use std::fmt;
use std::mem::ManuallyDrop;
use std::num::ParseIntError;
use std::str::FromStr;

/// The version at which a lock was granted: greater than that of every lock granted before, on any key.
///
/// A resource outside the dictionary can use it to turn away a client whose lease has run out unnoticed: remember the
/// greatest token seen, refuse smaller ones. Renewing a lock keeps its token.
///
/// Tokens are those of one dictionary, which counts from 0: a new one, after a restart of the program, say, grants smaller
/// ones again. So a resource that outlives the dictionary remembers the greatest token for each
/// [`StateDictionary::id`](crate::StateDictionary::id), is told that as well, and refuses the id of an earlier dictionary.
///
/// ```
/// use state_dictionary::{FencingToken, LockRequest, ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().clock(&clock).build();
/// let acquire = |who| {
///     let receipt = dictionary.update_locks(&who, LockRequest::new().acquire("disk", Duration::from_secs(5)));
///     receipt.unwrap().granted[0].1
/// };
/// let alice = acquire("alice");
/// clock.advance(Duration::from_secs(5)); // alice is slow
/// let bob = acquire("bob");
///
/// // The disk has seen bob's. When alice comes, with a smaller one, it knows that she is late.
/// let greatest_seen = bob;
/// assert!(alice < greatest_seen);
///
/// // Such a resource stores it as a number or as text.
/// assert_eq!(bob.to_string().parse(), Ok(bob));
/// assert_eq!(FencingToken::from(bob.get()), bob);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FencingToken(pub(crate) u64);

impl FencingToken {
    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}

impl From<u64> for FencingToken {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl FromStr for FencingToken {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Clones a key and a token with a shard locked. If the second `Clone` panics, the first clone is leaked: its `Drop` may use
/// the dictionary, and would wait for this very thread.
fn clone_both<A: Clone, B: Clone>(a: &A, b: &B) -> (A, B) {
    let a = ManuallyDrop::new(a.clone());
    let b = b.clone();
    (ManuallyDrop::into_inner(a), b)
}

/// What the table asks of the content, while shards are locked.
pub(crate) trait Fence<K, T> {
    /// Replaces the root and returns its version, or `None` if the dictionary is frozen: then nothing was replaced if locks are
    /// being granted. Tells what the replacing is for, if [`tells`](Self::records_events).
    fn replace(&mut self, granting: bool, changes: Vec<LockChange<K, T>>) -> Option<u64>;

    /// Whether anybody is told what comes and goes.
    fn records_events(&self) -> bool;

    /// Whether the dictionary is frozen, for a renewal, which replaces nothing.
    fn is_frozen(&mut self) -> bool;

    /// A request is refused: for locks of others on so many keys, or for the freeze if on none.
    fn refused(&mut self, locked_keys: usize);

    /// So many locks are taken away because they have run out.
    fn expired(&mut self, locks: usize);

    /// A lock will run out before all others, so whoever waits for the next to do so must look again.
    fn deadline_advanced(&mut self);
}
