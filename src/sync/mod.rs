//! Every primitive that threads synchronise with, and the only folder that knows loom and shuttle.
//!
//! As shipped, the root's cell is arc-swap's, the lock table's shards are dashmap's, the other locks are
//! `parking_lot`'s and waiting is event-listener's. A model checker can explore only the last of these. So under
//! `--cfg loom` with the feature `loom` (and likewise for shuttle) a part with the same contract, made of the checker's
//! primitives, replaces each of the others. All code above this folder is the same in both cases.
//!
//! The contracts:
//!
//! * [`RootCell`]: `load` returns the value most recently swapped in; `compare_and_swap` replaces exactly the value it
//!   was given, compared by address, and no other value can have this address while a thread owns that value. A
//!   successful swap is a release. A load, or a swap that finds another value, acquires what the swap of the value that
//!   it finds has released, and all before. So a thread that has a root, or a later one, sees what came before the swap
//!   of that root. The count of outstanding locks relies on that: it rises by a relaxed addition before the swap of the
//!   grant.
//! * [`Mutex`]: its next owner sees what was done with it before. It is not fair, and may be unlocked while unwinding.
//! * [`Shards`]: each shard is a table behind a reader-writer lock; the shard of a hash never changes.
//! * [`Arc`]: shared by values that may outlive each other; a cell's content is in a plain `std::sync::Arc`.
//! * [`Event`]: a listener sees every notification after the call that created it.

#[cfg(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle")))]
mod checked;
#[cfg(any(all(loom, not(feature = "loom")), all(shuttle, feature = "shuttle"), target_family = "wasm"))]
mod condvar;
#[cfg(not(any(all(loom, not(feature = "loom")), all(shuttle, feature = "shuttle"), target_family = "wasm")))]
mod event;
#[cfg(not(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle"))))]
mod shipped;

mod wakeups;

#[cfg(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle")))]
use checked as imp;
#[cfg(any(all(loom, not(feature = "loom")), all(shuttle, feature = "shuttle"), target_family = "wasm"))]
use condvar as wait;
#[cfg(not(any(all(loom, not(feature = "loom")), all(shuttle, feature = "shuttle"), target_family = "wasm")))]
use event as wait;
#[cfg(not(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle"))))]
use shipped as imp;

#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) use imp::others;
pub(crate) use imp::{
    ATTEMPTS_TO_END, Arc, AtomicU64, AtomicUsize, Backoff, DEFAULT_HISTORY_LIMIT, DefaultHashBuilder, FRAMES_KEPT,
    Mutex, MutexGuard, RootCell, SESSIONS_AT_ONCE, Shards, ThreadId, TurnLock, WriteShard, current_thread,
    default_shards, thread_local,
};
pub(crate) use std::sync::atomic::Ordering;
pub(crate) use wait::Event;
pub(crate) use wakeups::Wakeups;

use crate::key::Hashed;

/// The lock table's interface to one locked shard.
///
/// Only `look_up` runs code of the user's. The other operations identify an entry by its value alone, so that a shard
/// can be changed without running a user's `Eq`.
pub(crate) trait Shard<K, L> {
    fn look_up(&self, hash: u64, wanted: impl FnMut(&K, &L) -> bool) -> Option<(&K, &L)>;
    fn look_up_mut(&mut self, hash: u64, lock: impl FnMut(&L) -> bool) -> Option<&mut L>;
    fn put(&mut self, key: Hashed<K>, lock: L);
    fn take(&mut self, hash: u64, lock: impl FnMut(&L) -> bool) -> Option<(K, L)>;
    /// Empties the shard. Safe code cannot iterate locked tables; locks that stay are put back.
    fn take_all(&mut self) -> Vec<(Hashed<K>, L)>;
}
