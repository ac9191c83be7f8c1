//! The façade: each method is a line or two over the engine.

#[cfg(feature = "async")]
mod awaiting;
mod builder;
mod content;
#[cfg(all(test, not(any(loom, shuttle))))]
mod deferred_drops;
mod image;
#[cfg(test)]
mod lock_count;
mod locks;
mod read_handle;
mod sessions;
mod short;
mod state;
mod waiting;

pub use builder::Builder;
pub use read_handle::ReadHandle;

use crate::commit::Reader;
use crate::content::{Snapshot, Versioned};
use crate::engine::Engine;
use crate::feed::{Broadcast, BufferOptions, ChangeBuffer, CommitFeed, Delivery, FeedOptions, LockFeed};
use crate::position::{LockPosition, Position, StoreId};
use crate::revision::Revision;
use crate::sync::{Arc, DefaultHashBuilder};
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A shared key/value store for many writers and many watchers.
///
/// `K` is the key, `V` the value, and `S` the hasher. `T` is the token: a client passes its token when it writes or locks, and
/// a lock belongs to the token that acquired it. Without locks no token is needed: `StateDictionary<K, V>` has `()` for `T`,
/// and [short forms](#method.set) of its methods take none. Keys and tokens are cloned and compared, so they should be cheap to
/// clone (`Arc<str>`, a number); values are shared and never cloned.
///
/// One value of this type owns the store, and all methods take `&self`: share it as an [`Arc`], by reference or in a `static`.
/// Dropping it ends its feeds as [`freeze`](Self::freeze) does; snapshots stay readable, and feeds still deliver what was
/// pending.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
/// use std::{sync::Arc, thread};
///
/// let dictionary: Arc<StateDictionary<String, u32, u8>> = Arc::new(StateDictionary::new());
/// let writers: Vec<_> = (0..4)
///     .map(|writer| {
///         let dictionary = Arc::clone(&dictionary);
///         thread::spawn(move || dictionary.update_state(&writer, Change::new().set(format!("key {writer}"), 1)))
///     })
///     .collect();
/// for writer in writers {
///     writer.join().unwrap()?;
/// }
/// assert_eq!((dictionary.snapshot().len(), dictionary.revision().get()), (4, 4));
/// # Ok::<(), state_dictionary::UpdateError<String, u32, u8>>(())
/// ```
///
/// # The methods by purpose
///
/// * Build: [`new`](Self::new), [`builder`](Self::builder), or from pairs: `collect()`, `StateDictionary::from([..])`.
/// * Read: [`get`](Self::get), [`snapshot`](Self::snapshot), [`revision`](Self::revision). To iterate, or to compare two
///   instants ([`changes_since`](Snapshot::changes_since)), take a snapshot.
/// * Write: [`update_state`](Self::update_state) for several keys at once, [`update_state_with`](Self::update_state_with) to
///   read, modify and write, [`lock_content`](Self::lock_content) to keep all other writers out for a while. For one key:
///   [`set`](Self::set), [`update`](Self::update) and so on, or with tokens `dictionary.writer(&token).set(..)`; see
///   [`writer`](Self::writer).
/// * Lock keys: [`update_locks`](Self::update_locks), [`lock_info`](Self::lock_info), [`expire`](Self::expire).
/// * Follow: [`change_buffer`](Self::change_buffer), [`watch_key`](Self::watch_key), [`broadcast`](Self::broadcast),
///   [`commit_feed`](Self::commit_feed), [`lock_feed`](Self::lock_feed), [`wait_until`](Self::wait_until).
/// * Tie keys and locks to a client: [`session`](Self::session); for the clients of a server, [`sessions`](Self::sessions).
///
/// Methods that write or watch a key convert it, so a `&str` will do for a `String` or an `Arc<str>`, and a number needs its
/// type: `3_u64`, not `3`. Methods that look one up take a reference, as those of `HashMap`: `"a"`, `&3`.
///
/// # What can wait
///
/// Reading never waits: [`snapshot`](Self::snapshot), [`get`](Self::get), [`revision`](Self::revision), creating a
/// buffer or a feed. Other operations may wait as follows:
///
/// * A commit waits for its *turn* while other threads commit, for at most 3 ms, and is lock-free after that. A commit that is
///   refused or empty does not wait for the turn, nor do the methods whose names begin with `try_`.
/// * A commit waits while a guard of [`lock_content`](Self::lock_content) locks the content.
/// * While any key is locked, a commit may wait for a thread that is inside a lock operation.
/// * Lock operations may wait for each other, never for a lock to become free.
/// * A flush waits until there is something to deliver.
///
/// [`docs::performance`](crate::docs::performance) has a table of every operation.
///
/// # In async code
///
/// A method that waits blocks its thread. With the feature `async`, `update_state`, `update_state_with`,
/// `lock_content`, the waits for content and the flushes of feeds have an `_async` form to await.
/// [Performance](crate::docs::performance#in-an-executor) lists what else may be called in an executor.
///
/// # What it costs
///
/// For a content of n keys, reading a key is O(log n), taking a snapshot O(1), and a commit of k keys O(k log n). A
/// commit takes three to five times as long while a snapshot or a buffer keeps the content that it replaces. Buffers
/// add no work to it, however many there are, except to wake those that wait in a flush; but each thread of the process
/// that has used a dictionary adds 12 to 20 ns. Dropping the last snapshot of an instant frees what only that snapshot
/// still owned. [`docs::performance`](crate::docs::performance#what-makes-commits-slow) has the details.
///
/// # Values that are dropped
///
/// The last owner of a value, key or token drops it: mostly the thread that commits, otherwise one that flushes, drops a
/// snapshot, or merely reads. No lock of the dictionary that its `Drop` could wait for is held then, the commit is visible and
/// all waiters have been notified; so a `Drop` may use the dictionary. If it panics, the call panics, the commit stands, and
/// some memory may leak. A value nested so deep that its `Drop` overflows the stack aborts the process, as everywhere in Rust:
/// give such a type a `Drop` without recursion.
///
/// The dictionary itself keeps clones of the keys that were touched last, at least as many as the
/// [history limit](Builder::history_limit) and at most twice as many, and what it was built to keep:
/// [commits](Builder::commit_history) and [lock events](Builder::lock_history_limit). If threads commit at once and one of them
/// is interrupted or refused, or if a call unwinds, replaced values may stay until the next commit.
///
/// # Panics
///
/// If `Hash`, `Eq` or `Clone` of a key or token, a hasher or a closure of yours panics, the call unwinds, and the dictionary is as it
/// was before the call and still works. After a commit has become visible, `Eq` and `Clone` of its keys run once more, to
/// prepare the tree of the next commit; a panic then is caught, and costs only time.
///
/// `Hash`, `Eq` and `Clone` of keys and tokens may run while internal locks are held. They must not use the dictionary: they
/// could wait for themselves.
#[doc(alias = "KeyLockableMap")]
pub struct StateDictionary<K, V, T = (), S = DefaultHashBuilder> {
    engine: Engine<K, V, T, S>,
    reader: Reader<K, V, S>,
    /// Whether dropping it ends the dictionary: not inside a read handle.
    is_owner: bool,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq> StateDictionary<K, V, T> {
    /// An empty dictionary with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }
}

impl<K, V, T> StateDictionary<K, V, T> {
    /// Sets hasher, clock, history limit, shard count or initial content.
    pub fn builder() -> Builder<K, V, T> {
        Builder::new()
    }
}

impl<K, V, T, S> StateDictionary<K, V, T, S> {
    /// The whole content at this instant. O(1); never waits.
    ///
    /// The snapshot never changes. Use it to read several keys of one instant.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let empty = dictionary.snapshot();
    /// dictionary.update_state(&(), Change::new().set("a", 1))?;
    /// assert!(empty.is_empty() && dictionary.snapshot().contains_key("a"));
    ///
    /// // The dictionary itself is not iterated: it could change meanwhile.
    /// for (key, value) in &dictionary.snapshot() {
    ///     println!("{key} is {value}");
    /// }
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    #[doc(alias = "copy_content")]
    #[doc(alias = "iter")]
    #[doc(alias = "keys")]
    #[doc(alias = "values")]
    pub fn snapshot(&self) -> Snapshot<K, V, S> {
        Snapshot::new(self.engine.published.load())
    }

    /// The revision of the latest commit. Never waits.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.engine.published.peek(|root| root.revision)
    }

    /// Ends all changes, for ever. Lock-free; does not wait for locked content, nor for a commit that is in progress.
    ///
    /// Returns whether this call froze the dictionary: `false` if it was frozen before. Writers get
    /// [`Refusal::Frozen`](crate::Refusal::Frozen), also those that wait for locked content; feeds deliver what is
    /// pending and then end. Reading, releasing locks and [`lock_content`](Self::lock_content) still work.
    ///
    /// ```
    /// use state_dictionary::{Change, FlushError, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// dictionary.update_state(&(), Change::new().set("a", 1)).unwrap();
    /// assert!(dictionary.freeze());
    /// assert!(!dictionary.freeze(), "it was frozen already");
    /// assert!(dictionary.update_state(&(), Change::new().set("a", 2)).is_err());
    /// assert!(buffer.flush().is_ok(), "what was pending");
    /// assert_eq!(buffer.flush().unwrap_err(), FlushError);
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn freeze(&self) -> bool {
        self.engine.published.freeze()
    }

    /// Whether the dictionary is frozen. Never waits.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.engine.published.peek(|root| root.frozen)
    }

    /// A buffer that follows the dictionary. O(1); never waits, except with the feature `counters` for a mutex that is
    /// locked for a few instructions.
    ///
    /// Its first flush delivers the whole content as it is then. Of a frozen dictionary, that is also its last.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// dictionary.update_state(&(), Change::new().set("a", 1))?;
    /// let buffer = dictionary.change_buffer();
    /// dictionary.update_state(&(), Change::new().set("b", 1))?;
    /// assert_eq!(buffer.flush().unwrap().count(), 2, "the whole content, also what was set before");
    /// dictionary.update_state(&(), Change::new().set("b", 2))?;
    /// assert_eq!(buffer.flush().unwrap().count(), 1, "then what has changed");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    #[doc(alias = "get_change_buffer")]
    #[doc(alias = "watch")]
    #[doc(alias = "subscribe")]
    pub fn change_buffer(&self) -> ChangeBuffer<K, V, S> {
        self.change_buffer_with(BufferOptions::default())
    }

    /// A buffer with the given options.
    #[must_use]
    pub fn change_buffer_with(&self, options: BufferOptions<K>) -> ChangeBuffer<K, V, S> {
        ChangeBuffer::new(Arc::clone(&self.engine.published), options)
    }

    /// Frames for all clients that follow the same keys: each change is encoded once for all of them. O(1); never
    /// waits, except as [`change_buffer`](Self::change_buffer).
    ///
    /// `encode` makes a message of a change, in the thread that [publishes](Broadcast::publish), and never of the whole
    /// content. The options select what is followed. A position to [resume](BufferOptions::resume) from is ignored: the
    /// broadcast begins with the present content, and each client passes its own position to [`Broadcast::join`]. See
    /// [`Broadcast`] for an example.
    ///
    /// A catch-up is encoded by the caller, so `encode` is mostly a function, or a closure that is cloned. A closure that is
    /// given a name before it is passed must name the type of its argument, or rustc finds it "not general enough":
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Delivery, StateDictionary};
    ///
    /// let room: StateDictionary<&str, i32> = StateDictionary::new();
    /// let encode = |delivery: &Delivery<_, _>| format!("{delivery:?}");
    /// let frames = room.broadcast(BufferOptions::new(), encode);
    /// # assert!(!frames.publish());
    /// ```
    #[must_use]
    pub fn broadcast<M>(
        &self,
        options: BufferOptions<K>,
        encode: impl Fn(&Delivery<K, V, S>) -> M + Send + Sync + 'static,
    ) -> Broadcast<K, V, M, S> {
        Broadcast::new(Arc::clone(&self.engine.published), options, encode)
    }

    /// The id of this dictionary. Never waits.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.engine.published.shared().id
    }

    /// The id of this dictionary and the revision of its latest commit. Never waits.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { store: self.id(), revision: self.revision() }
    }

    /// A feed of every commit after this moment, none merged with another, with the token of its writer. O(1); never waits.
    ///
    /// The dictionary must have been built with [`Builder::commit_history`]; otherwise every delivery only reports the
    /// commits that were missed.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new(); // without `commit_history`
    /// let feed = dictionary.commit_feed();
    /// let revision = dictionary.update_state(&(), Change::new().set("a", 1))?;
    /// let delivery = feed.flush().unwrap();
    /// assert!(delivery.commits.is_empty() && delivery.lagged.is_some_and(|(_, to)| to == revision));
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    pub fn commit_feed(&self) -> CommitFeed<K, V, T, S> {
        self.commit_feed_with(FeedOptions::new())
    }

    /// [`commit_feed`](Self::commit_feed), from the position of an earlier feed, such as that of a recorder before it was
    /// restarted.
    ///
    /// If the position is of another dictionary, or lies in the future, the feed starts anew, and its first delivery
    /// [reports it](crate::CommitDelivery::full).
    ///
    /// ```
    /// use state_dictionary::{FeedOptions, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32> = StateDictionary::builder().commit_history(true).build();
    /// dictionary.set("a", 1)?;
    /// let recorded = dictionary.position();
    /// for number in 2..=3 {
    ///     dictionary.set("a", number)?;
    /// }
    /// let feed = dictionary.commit_feed_with(FeedOptions::new().resume(recorded));
    /// let delivery = feed.try_flush().unwrap();
    /// assert_eq!(delivery.commits.iter().map(|commit| commit.revision.get()).collect::<Vec<_>>(), [2, 3]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32>>(())
    /// ```
    #[must_use]
    pub fn commit_feed_with(&self, options: FeedOptions<Position>) -> CommitFeed<K, V, T, S> {
        CommitFeed::new(self.reader.clone(), options)
    }

    /// What has happened so far, in numbers. Needs the feature `counters`.
    ///
    /// O(n) in the number of buffers. Waits at most for threads that read counters or create or drop a buffer, a few
    /// instructions each. Commits, and all else that counts, never wait for it.
    ///
    /// ```
    /// use state_dictionary::{Change, LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None)).unwrap();
    /// dictionary.update_state(&"alice", Change::new().set("ball", 1)).unwrap();
    /// assert!(dictionary.update_state(&"bob", Change::new().set("ball", 2)).is_err());
    ///
    /// let counters = dictionary.counters();
    /// assert_eq!((counters.commits, counters.refusals), (1, 1));
    /// assert_eq!((counters.live_buffers, counters.slowest_lag), (1, 1));
    /// buffer.flush()?;
    /// assert_eq!(dictionary.counters().slowest_lag, 0);
    /// # Ok::<(), state_dictionary::FlushError>(())
    /// ```
    #[cfg(feature = "counters")]
    #[must_use]
    pub fn counters(&self) -> crate::Counters {
        self.engine.published.shared().observed.counters(self.revision())
    }

    /// A feed of the locks: first all locks, then those that are granted, released, expired or cleared. O(1); never
    /// waits.
    ///
    /// The dictionary should have been built with [`Builder::lock_history_limit`]; otherwise every delivery has all
    /// locks.
    ///
    /// ```
    /// use state_dictionary::{LockDelivery, LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let feed = dictionary.lock_feed();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(feed.flush()?, LockDelivery::Full { locks, .. } if locks[0].0 == "ball"));
    /// dictionary.release_all(&"alice");
    /// assert!(matches!(feed.flush()?, LockDelivery::Events(events) if events[0].key == "ball"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lock_feed(&self) -> LockFeed<K, V, T, S> {
        self.lock_feed_with(FeedOptions::new())
    }

    /// [`lock_feed`](Self::lock_feed), from a position that an earlier feed has got to. If the
    /// [history of locks](Builder::lock_history_limit) does not reach back to it, the first delivery is all locks.
    #[must_use]
    pub fn lock_feed_with(&self, options: FeedOptions<LockPosition>) -> LockFeed<K, V, T, S> {
        LockFeed::new(self.engine.clone(), self.reader.clone(), options)
    }
}

impl<K: Eq + Hash, V, T, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// The value of one key, with the revision of the commit that set it. O(log n); never waits.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<String, i32, ()> = StateDictionary::new();
    /// dictionary.update_state(&(), Change::new().set("a", 1))?;
    /// assert_eq!(dictionary.get("a").map(|entry| *entry), Some(1));
    /// assert!(dictionary.get("b").is_none());
    ///
    /// // What is returned is an entry; `*entry` is the value.
    /// let sum = dictionary.get("a").map_or(0, |entry| *entry) + dictionary.get("b").map_or(0, |entry| *entry);
    /// assert!(sum == 1 && dictionary.get("a").is_some_and(|entry| *entry > 0));
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, ()>>(())
    /// ```
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Versioned<V>>
    where
        K: Borrow<Q>,
    {
        let key = self.engine.published.shared().lookup(key);
        self.engine.published.peek(|root| root.content.get(&key).cloned())
    }
}

// A panic of the user's code leaves the dictionary as it was (see "Panics" above).
impl<K, V, T, S> UnwindSafe for StateDictionary<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for StateDictionary<K, V, T, S> {}

/// An empty dictionary with the default settings.
impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher + Default> Default for StateDictionary<K, V, T, S> {
    fn default() -> Self {
        StateDictionary::builder().hasher(S::default()).build()
    }
}

impl<K, V, T, S> Drop for StateDictionary<K, V, T, S> {
    fn drop(&mut self) {
        if self.is_owner {
            self.engine.published.freeze();
        }
    }
}

impl<K, V, T, S> fmt::Debug for StateDictionary<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.engine.published.load();
        f.debug_struct("StateDictionary")
            .field("revision", &root.revision)
            .field("keys", &root.content.len())
            .field("content_locked", &root.held.is_some())
            .field("frozen", &root.frozen)
            .finish_non_exhaustive()
    }
}
