//! How one root replaces another.
//!
//! Every commit, every grant and end of a lock, locking and unlocking the content, and the freeze replace the published
//! root by compare-and-swap. That swap, [`Published::compare_and_swap`], is their linearization point.

mod attempt;
#[cfg(feature = "async")]
mod awaiting;
mod fence;
mod guard;
mod inside;
mod modification;
mod published;
mod spare;
mod witness;
mod writer;

pub(crate) use attempt::Patience;
#[cfg(feature = "async")]
pub use awaiting::OwnedContentGuard;
pub(crate) use fence::{LockChanges, RootFence};
pub use guard::ContentGuard;
pub(crate) use inside::Inside;
pub use modification::Modification;
pub(crate) use modification::{Effort, Making};
pub(crate) use published::{Published, Reader};
pub(crate) use spare::Turn;
pub(crate) use witness::{Note, Replacing, shortened};
pub(crate) use writer::expecting;
pub use writer::{Replaced, Writer};
