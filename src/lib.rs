//! A shared key/value store for programs in which many clients write and many watch.
#![forbid(unsafe_code)]

mod change;
mod clock;
mod content;
mod dictionary;
mod error;
mod feed;
mod locks;
mod sync;
mod wake;

pub use change::{Change, Condition};
pub use clock::ManualClock;
pub use content::{Entry, Iter, Revision, Snapshot};
pub use dictionary::{Builder, ContentGuard, StateDictionary};
pub use error::{FailedCondition, FlushError, LockContentError, LockError, UpdateError};
pub use feed::{BufferOptions, ChangeBuffer, Delivery, Subscription, Tombstones};
pub use locks::{Conflict, FencingToken, LockInfo, LockReceipt, LockRequest};
