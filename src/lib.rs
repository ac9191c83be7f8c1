//! A shared key/value store for programs in which many clients write and many watch: a multi-user session, a game room,
//! a live configuration, a digital twin.
//!
//! Clients change several keys in one atomic commit, lock keys for as long as a lease lasts, read the whole content at one
//! instant in O(1), and follow it through feeds that deliver the latest value of each key that has changed.
//!
//! ```
//! use state_dictionary::{Change, StateDictionary};
//!
//! // Keys are strings, values are numbers, and a writer is known by a token: here, a name.
//! let room: StateDictionary<String, f64, &str> = StateDictionary::new();
//! let buffer = room.change_buffer();
//! room.update_state(&"alice", Change::new().set("ball.x", 0.5).set("score", 1.0))?;
//!
//! // A snapshot is the content at one instant. It never changes.
//! let snapshot = room.snapshot();
//! room.update_state(&"bob", Change::new().set("ball.x", 0.7))?;
//! assert_eq!((snapshot["ball.x"], room.snapshot()["ball.x"]), (0.5, 0.7));
//!
//! // A buffer delivers the latest value of each key, once.
//! let delivery = buffer.flush()?;
//! assert_eq!(delivery.updates().count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Without locks
//!
//! A dictionary without locks needs no tokens, and has short forms for single keys. A thread can wait for a condition on the
//! content, or watch one key.
//!
//! ```
//! use state_dictionary::StateDictionary;
//!
//! let flags: StateDictionary<String, bool> = StateDictionary::new();
//! flags.set("dark", true)?;
//! let dark = flags.watch_key("dark");
//! flags.update("dark", |now| now.map(|on| !on))?;
//! assert_eq!(dark.flush()?.as_deref(), Some(&false));
//! flags.wait_until(|all| (all.get("dark") == Some(&false)).then_some(()))?; // at once, since it is
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # In one line each
//!
//! Read-modify-write that returns a value, what has changed since a snapshot, a `static`:
//!
//! ```
//! use state_dictionary::{Change, StateDictionary};
//! use std::sync::{Arc, LazyLock};
//!
//! let stock: StateDictionary<u64, u32, &str> = (0..10).map(|id| (id, 5)).collect();
//! let yesterday = stock.snapshot();
//! let (revision, left) = stock.update_state_with(&"till 1", |now| {
//!     let left = now[&3] - 1;
//!     (Change::new().set(3_u64, left), left)
//! })?;
//! let changed = stock.snapshot().changes_since(&yesterday);
//! assert_eq!((left, changed.count(), changed.revision()), (4, 1, revision));
//!
//! static SETTINGS: LazyLock<StateDictionary<&str, Arc<str>>> = LazyLock::new(StateDictionary::new);
//! SETTINGS.set("name", Arc::from("board"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Read, modify, write
//!
//! The closure makes a change from a snapshot. If another commit comes in between, it runs again with a new snapshot.
//!
//! ```
//! use state_dictionary::{Change, StateDictionary};
//!
//! let bank: StateDictionary<&str, i64, ()> =
//!     StateDictionary::builder().content([("alice", 100), ("bob", 0)]).build();
//! bank.update_state_with(&(), |now| {
//!     Change::new().set("alice", now["alice"] - 30).set("bob", now["bob"] + 30)
//! })?;
//! assert_eq!((bank.snapshot()["alice"], bank.snapshot()["bob"]), (70, 30));
//!
//! // Or on a condition, which depends on this one key and is checked when the change is committed.
//! let alice = bank.get("alice").unwrap();
//! let change = Change::new().set("alice", *alice + 5).if_revision("alice", alice.revision());
//! bank.update_state(&(), change)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A lock with a lease
//!
//! A lock keeps all other writers from a key. It ends when it is released, or when its lease is over and has not been renewed.
//!
//! ```
//! use state_dictionary::{Change, LockRequest, ManualClock, StateDictionary};
//! use std::time::Duration;
//!
//! let clock = ManualClock::new(); // for tests; without it, the system's clock
//! let room: StateDictionary<&str, f64, &str> = StateDictionary::builder().clock(&clock).build();
//! let five_seconds = Duration::from_secs(5);
//! room.update_locks(&"alice", LockRequest::new().acquire("ball", five_seconds))?;
//! let refused = room.update_state(&"bob", Change::new().set("ball", 0.0)).unwrap_err();
//! assert!(refused.to_string().contains("\"alice\""));
//!
//! clock.advance(five_seconds); // Alice does not renew the lease
//! room.update_state(&"bob", Change::new().set("ball", 0.0))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A feed with resume
//!
//! A client that was disconnected resumes from the position it has seen, and receives only what has changed since.
//!
//! ```
//! use state_dictionary::{BufferOptions, Change, StateDictionary};
//!
//! let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
//! let buffer = room.change_buffer();
//! room.update_state(&"alice", Change::new().set("ball", 1).set("score", 1))?;
//! let seen = buffer.flush()?.position(); // the client keeps it; it has a text form
//! drop(buffer); // the connection is lost
//! room.update_state(&"alice", Change::new().set("score", 2))?;
//!
//! let buffer = room.change_buffer_with(BufferOptions::new().resume(seen));
//! let delivery = buffer.flush()?;
//! assert!(!delivery.is_full()); // otherwise the delivery replaces all that the client has
//! assert_eq!(delivery.updates().count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A session
//!
//! A session owns what belongs to one client. When it ends, its locks are released and its ephemeral keys are removed,
//! in one commit.
//!
//! ```
//! use state_dictionary::{Change, LockRequest, StateDictionary};
//!
//! let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
//! let mut alice = room.session("alice");
//! alice.update_locks(LockRequest::new().acquire("ball", None))?;
//! alice.update_ephemeral(Change::new().set("cursor.alice", 7))?;
//! alice.update_state(Change::new().set("score", 1))?; // lasting
//!
//! drop(alice); // or `end`; or `detach`, which leaves her time to reconnect
//! assert!(room.get("cursor.alice").is_none() && room.lock_info("ball").is_none());
//! assert_eq!(room.snapshot()["score"], 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The three parts
//!
//! **Content** is a persistent hash map of keys to values, each with the [`Revision`] of the commit that set it.
//! [`StateDictionary::update_state`] commits a [`Change`]; [`StateDictionary::snapshot`] returns the content at one
//! instant.
//!
//! **Locks** decide which client may write. A [`LockRequest`] acquires and releases exclusive write access to keys,
//! with a lease and a [`FencingToken`]. Locks never delay a reader.
//!
//! **Feeds** deliver what has changed. A [`ChangeBuffer`] is a cursor into the one order of revisions, so a commit does
//! no work for buffers, however many there are, except to wake those that sleep in a flush. If many clients follow the
//! same keys, a [`Broadcast`] encodes each change once for all of them. There are also feeds of one key ([`KeyFeed`]),
//! of locks ([`LockFeed`]) and of every single commit ([`CommitFeed`]).
//!
//! A [`Session`] ties the three to one client.
//!
//! # Consistency
//!
//! Every operation is linearizable: it takes effect at one instant between its call and its return. For a commit, for a lock
//! that is granted, released or expires, for locking the content and for the freeze, that instant is one compare-and-swap of
//! one pointer, the one to the immutable *root*. The root has the content, its revision, the history of the latest changes, and
//! whether the content is locked or frozen. So what can be seen together was true together: a snapshot has all of a commit or
//! nothing of it, a delivery is one consistent instant, and every commit after a grant sees the lock.
//!
//! The locks themselves are in a sharded map beside the root. A grant, a release or an expiry is complete only when it
//! has replaced the root as well. Renewing a lock, and detaching or resuming a session, replace nothing.
//!
//! # Where to read on
//!
//! [`StateDictionary`] first, which lists its [methods by purpose](StateDictionary#the-methods-by-purpose), then [`Change`],
//! [`LockRequest`] and [`ChangeBuffer`]. Most other types are only what a method returns. Longer texts are in [`docs`]:
//!
//! * [patterns](docs::patterns): frequent mistakes, their consequences, and what to do instead.
//! * [limitations](docs::limitations): what the crate does not do or not well, and when something else is better.
//! * [why](docs::why): the decisions behind it, and what each costs.
//! * [glossary](docs::glossary): the words that these pages use.
//! * [performance](docs::performance): what every operation costs, and what it may wait for.
//! * [observability](docs::observability): events and counters for an operator, and what they cost.
//! * [internals](docs::internals): how it works, with a picture.
//! * [json](docs::json): the JSON form of what clients and servers send.
//! * [proofs](docs::proofs): how it is checked, what that shows and does not show, and how to check a program of your own.
//! * [migrating](docs::migrating): from NanoVer and Narupa.
//!
//! # Features
//!
//! None is on by default.
//!
//! * `async`: operations that wait can be awaited, and deliveries come as streams, under any runtime; see
//!   [performance](docs::performance#in-an-executor).
//! * `rwlock-strategy`: the root behind a reader-writer lock instead of arc-swap's lock-free algorithm.
//! * `tracing`: events for an operator: refused by a lock, retried many times, lagged behind the history, expired,
//!   frozen. See [`docs::observability`].
//! * `counters`: `StateDictionary::counters`, with commits, retries, refusals, catch-ups, live buffers and the lag of the slowest.
//! * `loom`, together with `--cfg loom`: the crate uses loom's primitives, so that a program that embeds it can be
//!   model checked; waits with a time limit need a [`ManualClock`] then. Either of the two alone changes nothing.
//! * `shuttle`, together with `--cfg shuttle`: the same for shuttle.
//! * `serde`: requests, results and content can be serialised, in the forms of [`docs::json`].
//! * `json`: `serde`, and `JsonDictionary`, the usual instance, whose keys are strings and whose values are JSON.
//! * `wire`: `json`, and the module `wire`, which reads and writes the messages of NanoVer and Narupa.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod change;
mod clock;
mod commit;
mod content;
mod deferred_drops;
mod dictionary;
mod engine;
mod error;
mod event;
mod feed;
mod image;
#[cfg(feature = "json")]
mod json;
mod key;
mod locks;
mod observe;
mod position;
mod restore;
mod revision;
#[cfg(feature = "serde")]
mod serde;
mod session;
mod sync;
mod wake;
#[cfg(feature = "wire")]
pub mod wire;

pub use change::{Change, Condition};
pub use clock::ManualClock;
#[cfg(feature = "async")]
pub use commit::OwnedContentGuard;
pub use commit::{ContentGuard, Modification, Replaced, Writer};
pub use content::iterators::{Entries, IntoIter, Keys, Values};
pub use content::{Iter, Snapshot, Versioned};
pub use dictionary::{Builder, ReadHandle, StateDictionary};
pub use error::{
    FailedCondition, FlushError, FlushTimeoutError, LockContentError, LockError, Refusal, TryFlushError, UpdateError,
    WaitError,
};
pub use event::{LockEvent, LockEventKind};
pub use feed::{
    Broadcast, BufferOptions, ChangeBuffer, Commit, CommitDelivery, CommitFeed, Delivery, Feed, FeedOptions, Follower,
    Frame, KeyFeed, LockDelivery, LockFeed, Message, Subscription, Tombstones, Updates,
};
pub use image::{Image, ImportError, LockImage, SessionImage};
#[cfg(feature = "json")]
pub use json::{JsonChange, JsonDelivery, JsonDictionary, JsonSnapshot};
pub use locks::{Conflict, LockInfo, LockReceipt, LockRequest};
#[cfg(feature = "counters")]
pub use observe::Counters;
pub use position::{LockPosition, ParsePositionError, ParseStoreIdError, Position, StoreId};
pub use revision::{FencingToken, Revision};
pub use session::{ClientSession, Expired, NotRemoved, Session, SessionSummary, Sessions};

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

    #[doc = include_str!("../docs/why.md")]
    pub mod why {}

    #[doc = include_str!("../docs/glossary.md")]
    pub mod glossary {}

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
