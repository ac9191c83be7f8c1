//! WHO has seen what: buffers, each a cursor into the one order of revisions.
//!
//! Writers push nothing to anybody. A buffer remembers how far it has delivered; a flush hands out the root of its moment,
//! and what has changed since is looked up there. So coalescing and order cannot go wrong, a flush is one consistent
//! instant, and a commit does nothing for those who watch except to wake those asleep in a flush.

#[cfg(feature = "async")]
mod awaiting;
mod broadcast;
mod buffer;
mod changes_since;
mod commits;
mod cursor;
mod delivery;
mod difference;
mod follower;
mod following;
mod key;
mod locks;
mod options;
mod subscription;

pub use broadcast::{Broadcast, Frame};
pub use buffer::ChangeBuffer;
pub use commits::{Commit, CommitDelivery, CommitFeed};
pub use delivery::Delivery;
pub use difference::Updates;
pub use follower::{Follower, Message};
pub use following::Feed;
pub use key::KeyFeed;
pub use locks::{LockDelivery, LockFeed};
pub use options::{BufferOptions, FeedOptions, Tombstones};
pub use subscription::Subscription;
