//! WHAT is true: the root, how one root replaces another, and snapshots of it.
//!
//! Everything a reader can see hangs on one immutable [`Root`], and every commit, every lock that comes or goes, every hold and
//! the freeze replace it by compare-and-swap. That swap, in [`Published`], is their linearization point.
//!
//! Of locks a root has the version at which they last changed, and the events that are kept for those who follow them. Who
//! holds which lock, and until when, is in the table of locks alone; a renewal replaces no root.

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
