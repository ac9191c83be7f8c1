//! The content: the root, and snapshots of it.
//!
//! All that a reader can see is in one immutable [`Root`]. How one root replaces another is in `commit`.
//!
//! Of the locks, a root has the version at which they last changed, and the kept events. The owners and the deadlines
//! are in the table of locks alone; a renewal replaces no root.

mod hash;
mod history;
pub(crate) mod iterators;
mod root;
mod snapshot;
mod versioned;

pub use snapshot::{Iter, Snapshot};
pub use versioned::Versioned;

pub(crate) use hash::sum_of_hashes;
pub(crate) use history::{History, Keys, Logged, Record, Records, Touched};
pub(crate) use root::{Content, Entries, Hold, Root, Shared, content_of};
