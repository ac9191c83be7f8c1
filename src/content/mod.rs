//! WHAT is true: the root, how one root replaces another, and snapshots of it.
//!
//! Everything a reader can see hangs on one immutable [`Root`], and every commit, every lock that comes or goes, every hold and
//! the freeze replace it by compare-and-swap. That swap, in [`Published`], is their linearization point.
//!
//! Of locks a root has the version at which they last changed, and the events that are kept for those who follow them. Who
//! holds which lock, and until when, is in the table of locks alone; a renewal replaces no root.

mod deferred_drops;
mod history;
pub(crate) mod iterators;
mod published;
mod root;
mod snapshot;
mod spare;
mod versioned;

pub use snapshot::{Iter, Snapshot};
pub use versioned::{Revision, Versioned};

pub(crate) use deferred_drops::{Deferred, DeferredDrops, defer_drops, is_deferring};
pub(crate) use history::{History, Keys, Logged, Record, Records, Touched};
pub(crate) use published::{Published, Reader};
pub(crate) use root::{Content, Entries, Hold, Root, Shared};
pub(crate) use spare::Turn;
