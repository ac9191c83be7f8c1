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
//! # The three parts
//!
//! **Content** is *what is true*: a persistent hash map of keys to values, each with the [`Revision`] of the commit that set
//! it. [`StateDictionary::update_state`] commits a [`Change`]; [`StateDictionary::snapshot`] keeps an instant.
//!
//! **Locks** are *who may write*: a [`LockRequest`] takes and gives back exclusive write access, with a lease so that a
//! client that vanishes does not hold a key for ever, and with a [`FencingToken`]. Locks never hinder a reader.
//!
//! **The feed** is *who has seen what*: a [`ChangeBuffer`] is a cursor into the one order of revisions. Writers push
//! nothing to anybody, so a commit does no work for a subscriber, however many there are, but to wake those who sleep. A
//! client that was away goes on from the [`Position`] it has seen. There are feeds of the locks that come and go
//! ([`LockFeed`]) and of every single commit ([`CommitFeed`]) as well.
//!
//! **Sessions** tie the three to a client: when a [`Session`] ends, its locks are released and its keys removed, in one commit.
//!
//! # Consistency
//!
//! Every operation is linearizable: it takes effect at one instant between its call and its return. For every commit, every
//! lock that comes or goes, every hold of the content and the freeze that instant is one compare-and-swap of one word, the
//! pointer to an immutable *root* that has content, revision, the history of latest changes, and whether the content is held or
//! frozen. So whatever can be seen together was true together: a snapshot has all of a commit or nothing of it, a delivery is
//! one consistent instant, and a lock that has been granted is seen by every commit after it. Locks live outside the root, in
//! a sharded map; a grant, a release or an expiry is complete only when it has replaced the root as well. A renewal changes
//! only when its lock ends, and replaces nothing; so does leaving a session and taking it up again.
//!
//! # Where to read on
//!
//! [`StateDictionary`] first, then [`Change`], [`LockRequest`] and [`ChangeBuffer`]. Longer texts are in [`docs`]:
//!
//! * [patterns](docs::patterns): mistakes, what comes of them, and what to do instead.
//! * [limitations](docs::limitations): what it does not do or not well, and when something else is better.
//! * [performance](docs::performance): what every operation costs, and what it may wait for.
//! * [observability](docs::observability): events and counters for an operator, and what they cost.
//! * [internals](docs::internals): how it works, with a picture.
//! * [json](docs::json): the form of everything that is sent as JSON.
//! * [proofs](docs::proofs): how it is checked, what that shows and does not show, and how to check a program of your own.
//! * [migrating](docs::migrating): from NanoVer and Narupa.
//!
//! # Features
//!
//! None is on by default.
//!
//! * `async`: what waits can be awaited instead, and deliveries come as streams, under any runtime; see
//!   [performance](docs::performance#in-an-executor).
//! * `rwlock-strategy`: the root behind a reader-writer lock instead of arc-swap's lock-free algorithm.
//! * `tracing`: events where an operator asks: refused by a lock, retried many times, fallen off the history, expired, frozen. See
//!   [`docs::observability`].
//! * `counters`: `StateDictionary::counters`, with commits, retries, refusals, catch-ups, live buffers and the lag of the slowest.
//! * `loom`, together with `--cfg loom`: the crate runs on loom's primitives, so that a program that embeds it can be model
//!   checked; waits with a time limit need a [`ManualClock`] then. Either of the two alone changes nothing.
//! * `shuttle`, together with `--cfg shuttle`: the same for shuttle.
//! * `serde`: what is asked and what is told can be serialised, in the forms of [`docs::json`].
//! * `json`: `serde`, and `JsonDictionary`, the usual instance, whose keys are strings and whose values are JSON.
//! * `wire`: `json`, and the module `wire`, which reads and writes the messages of NanoVer and Narupa.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod change;
mod clock;
mod content;
mod dictionary;
mod error;
mod event;
mod feed;
#[cfg(feature = "json")]
mod json;
mod key;
mod locks;
mod observe;
mod position;
#[cfg(feature = "serde")]
mod serde;
mod sync;
mod wake;
#[cfg(feature = "wire")]
pub mod wire;

pub use change::{Change, Condition};
pub use clock::ManualClock;
pub use content::{Iter, Revision, Snapshot, Versioned};
#[cfg(feature = "async")]
pub use dictionary::OwnedContentGuard;
pub use dictionary::{
    Builder, ContentGuard, Expired, LockDelivery, LockFeed, NotRemoved, Session, SessionSummary, StateDictionary,
};
pub use error::{FailedCondition, FlushError, LockContentError, LockError, UpdateError, WaitError};
pub use event::{LockEvent, LockEventKind};
pub use feed::{
    BufferOptions, ChangeBuffer, Commit, CommitDelivery, CommitFeed, Delivery, Subscription, Tombstones, Updates,
};
#[cfg(feature = "json")]
pub use json::{JsonChange, JsonDelivery, JsonDictionary, JsonSnapshot};
pub use locks::{Conflict, FencingToken, LockInfo, LockReceipt, LockRequest};
#[cfg(feature = "counters")]
pub use observe::Counters;
pub use position::{ParsePositionError, ParseStoreIdError, Position, StoreId};

/// Longer texts.
pub mod docs {
    #[doc = include_str!("../docs/json.md")]
    pub mod json {}

    #[doc = include_str!("../docs/patterns.md")]
    pub mod patterns {}

    #[doc = include_str!("../docs/limitations.md")]
    pub mod limitations {}

    #[doc = include_str!("../docs/performance.md")]
    pub mod performance {}

    #[doc = include_str!("../docs/internals.md")]
    pub mod internals {}

    #[doc = include_str!("../docs/observability.md")]
    pub mod observability {}

    #[doc = include_str!("../docs/proofs.md")]
    pub mod proofs {}

    #[doc = include_str!("../docs/migrating.md")]
    pub mod migrating {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
