//! A shared key/value store for programs in which many clients write and many watch: a multi-user session, a game room, a
//! live configuration, a digital twin.
//!
//! Clients make atomic changes of many keys, take exclusive write access to keys for as long as a lease lasts, read the
//! whole content at one instant in O(1), and follow it through buffers that merge what has changed since they last looked.
//!
//! ```
//! use state_dictionary::{Change, LockRequest, StateDictionary};
//! use std::time::Duration;
//!
//! // Keys are strings, values whatever you like, and a writer is known by a token: here, a name.
//! let dictionary: StateDictionary<String, f64, &str> = StateDictionary::new();
//! let buffer = dictionary.change_buffer();
//!
//! // Alice takes the ball for five seconds and moves it. Bob cannot.
//! dictionary.update_locks(&"alice", LockRequest::new().acquire("ball.x", Duration::from_secs(5)))?;
//! dictionary.update_state(&"alice", Change::new().set("ball.x", 0.5).set("score", 1.0))?;
//! let refused = dictionary.update_state(&"bob", Change::new().set("ball.x", 0.0)).unwrap_err();
//! assert!(refused.to_string().starts_with("locked by others: \"ball.x\" by \"alice\""));
//!
//! // A snapshot is one instant, and stays it.
//! let snapshot = dictionary.snapshot();
//! dictionary.update_state(&"alice", Change::new().set("ball.x", 0.7))?;
//! assert_eq!(snapshot["ball.x"], 0.5);
//!
//! // Whoever follows gets the latest value of every key, once.
//! let delivery = buffer.flush()?;
//! assert_eq!(delivery.updates().count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The three organs
//!
//! **Content** is *what is true*: a persistent hash map of keys to values, each with the [`Revision`] of the commit that set
//! it. [`StateDictionary::update_state`] commits a [`Change`]; [`StateDictionary::snapshot`] keeps an instant.
//!
//! **Locks** are *who may write*: a [`LockRequest`] takes and gives back exclusive write access, with a lease so that a
//! client that vanishes does not hold a key for ever, and with a [`FencingToken`]. Locks never hinder a reader.
//!
//! **The feed** is *who has seen what*: a [`ChangeBuffer`] is a cursor into the one order of revisions. Writers push
//! nothing to anybody, so a commit does no work for a subscriber, however many there are, but to wake those who sleep.
//!
//! # Consistency
//!
//! Every operation is linearizable: it takes effect at one instant between its call and its return. For all that changes
//! anything that instant is one compare-and-swap of one word, the pointer to an immutable *root* that holds content,
//! revision, the trail of latest changes, and whether the content is held or frozen. So whatever can be seen together was
//! true together: a snapshot has all of a commit or nothing of it, a delivery is one consistent instant, and a lock that
//! has been granted is seen by every commit after it. Locks live outside the root, in a sharded map; a grant, a release or
//! an expiry is complete only when it has replaced the root as well.
//!
//! # What it costs, and when to use something else
//!
//! A commit takes a third of a microsecond, or one or two where somebody keeps the content that it replaces; a mutable
//! concurrent map takes a tenth of one. If nobody needs snapshots, multi-key changes or a feed, use such a map. If changes
//! must survive the process, use a database. If every change must be seen singly and none merged, use a channel.
//!
//! What can wait, and on what, is told in a table at [`StateDictionary`].
//!
//! # Features
//!
//! None is on by default.
//!
//! * `rwlock-strategy`: the root behind a reader-writer lock instead of arc-swap's lock-free algorithm.
//! * `loom`, together with `--cfg loom`: the crate runs on loom's primitives, so that a program that embeds it can be model
//!   checked; waits with a time limit need a [`ManualClock`] then. Either of the two alone changes nothing.
//! * `shuttle`, together with `--cfg shuttle`: the same for shuttle.
//!
//! How to check a program of your own, and how this crate is checked, is told in [`docs::proofs`].
#![forbid(unsafe_code)]

mod change;
mod clock;
mod content;
mod dictionary;
mod error;
mod event;
mod feed;
mod key;
mod locks;
mod position;
mod sync;
mod wake;

pub use change::{Change, Condition};
pub use clock::ManualClock;
pub use content::{Entry, Iter, Revision, Snapshot};
#[cfg(feature = "async")]
pub use dictionary::OwnedContentGuard;
pub use dictionary::{
    Builder, ContentGuard, Expiry, Left, LockDelivery, LockFeed, Session, SessionEnd, StateDictionary,
};
pub use error::{FailedCondition, FlushError, LockContentError, LockError, UpdateError, WaitError};
pub use event::{LockEvent, LockEventKind};
pub use feed::{
    BufferOptions, ChangeBuffer, Commit, CommitDelivery, CommitFeed, Delivery, Subscription, Tombstones, Updates,
};
pub use locks::{Conflict, FencingToken, LockInfo, LockReceipt, LockRequest};
pub use position::{ParsePositionError, Position, StoreId};

/// Longer texts.
pub mod docs {
    #[doc = include_str!("../docs/proofs.md")]
    pub mod proofs {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
