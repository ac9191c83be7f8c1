//! WHAT is true: the root, how one root replaces another, and snapshots of it.
//!
//! Everything a reader can see hangs on one immutable [`Root`], and everything that happens replaces it by
//! compare-and-swap. That swap, in [`Published`], is the linearization point of every operation that changes anything.
//! Nothing here knows of locks.

mod entry;
mod graveyard;
mod published;
mod root;
mod snapshot;
mod spare;
mod trail;

pub use entry::{Entry, Revision};
pub use snapshot::{Iter, Snapshot};

pub(crate) use graveyard::{PutOff, put_off_drops};
pub(crate) use published::{Published, Reader};
pub(crate) use root::{Content, Entries, Hold, Root, Shared};
pub(crate) use spare::Turn;
pub(crate) use trail::{Keys, Logged, Record, Records, Touched, Trail};
