//! The feeds: each is a cursor into the one order of revisions or versions.
//!
//! Writers push nothing. A buffer remembers how far it has delivered; a flush keeps the present root, and the delivery
//! looks up there what has changed since. So coalescing and order cannot go wrong, a flush is one consistent instant,
//! and a commit does no work for feeds except to wake those that wait in a flush.

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
