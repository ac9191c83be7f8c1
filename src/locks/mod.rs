//! Locks: exclusive write access to keys, with leases.
//!
//! The table is sharded. It is never the truth about content, and does not know content at all. The [`Fence`] ties the
//! two together: a grant, a release or an expiry is complete only when it has replaced the root, and it does so while
//! it still has the shards of all its keys locked. So a writer that looked at a lock before the change loses its swap,
//! and one that looks later finds the shard locked until the change is complete.

mod all;
mod image;
mod leases;
mod request;
mod session;
mod table;
mod update;

pub(crate) use all::{Going, LockedShards, Obstacle};
pub(crate) use image::Restored;
pub use request::{Conflict, LockInfo, LockReceipt, LockRequest};
pub(crate) use session::{SessionId, SessionLocks};
pub(crate) use table::{Lock, LockTable, Verdict};
pub(crate) use update::LockFailure;

use crate::event::LockChange;
use std::mem::ManuallyDrop;

/// Clones a key and a token with a shard locked. If the second `Clone` panics, the first clone is leaked: its `Drop`
/// may use the dictionary, and would wait for this thread itself.
fn clone_both<A: Clone, B: Clone>(a: &A, b: &B) -> (A, B) {
    let a = ManuallyDrop::new(a.clone());
    let b = b.clone();
    (ManuallyDrop::into_inner(a), b)
}

/// The table's interface to the content, used while shards are locked.
pub(crate) trait Fence<K, T> {
    /// Replaces the root and returns the number of the change of locks, or `None` if the dictionary is frozen: then nothing was replaced if
    /// locks are being granted. Takes the events of the replacement, if [`records_events`](Self::records_events).
    fn replace(&mut self, granting: bool, changes: Vec<LockChange<K, T>>) -> Option<u64>;

    /// Whether lock events are kept.
    fn records_events(&self) -> bool;

    /// Whether the dictionary is frozen, for a renewal, which replaces nothing.
    fn is_frozen(&mut self) -> bool;

    /// Reports that a request is refused: because others have locked this many keys, or because of the freeze if 0.
    fn refused(&mut self, locked_keys: usize);

    /// Reports that this many expired locks are removed.
    fn expired(&mut self, locks: usize);

    /// Reports that a lock will expire before all others, so a waiter for the next deadline must look again.
    fn deadline_advanced(&mut self);
}
