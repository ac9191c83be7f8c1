//! WHAT is true: the root, and snapshots of it.
//!
//! Everything a reader can see hangs on one immutable [`Root`]. How one root replaces another is in `commit`.
//!
//! Of locks a root has the version at which they last changed, and the events that are kept for those who follow them. Who
//! holds which lock, and until when, is in the table of locks alone; a renewal replaces no root.

mod history;
pub(crate) mod iterators;
mod root;
mod snapshot;
mod versioned;

pub use snapshot::{Iter, Snapshot};
pub use versioned::Versioned;

pub(crate) use history::{History, Keys, Logged, Record, Records, Touched};
pub(crate) use root::{Content, Entries, Hold, Root, Shared};
