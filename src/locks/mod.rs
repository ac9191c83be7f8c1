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
use std::mem::ManuallyDrop;

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
