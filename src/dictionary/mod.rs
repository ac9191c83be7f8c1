//! The façade: each method is a line or two over the engine.

#[cfg(feature = "async")]
mod awaiting;
mod builder;
mod content;
#[cfg(all(test, not(any(loom, shuttle))))]
mod deferred_drops;
#[cfg(test)]
mod lock_count;
mod locks;
mod sessions;
mod short;
mod state;
mod waiting;

pub use builder::Builder;

use crate::commit::{Published, Reader};
use crate::content::{Snapshot, Versioned};
use crate::engine::Engine;
use crate::error::WaitError;

use crate::feed::{Broadcast, BufferOptions, ChangeBuffer, CommitFeed, Delivery, FeedOptions, LockFeed};
use crate::position::{LockPosition, Position, StoreId};
use crate::revision::Revision;
use crate::sync::{Arc, DefaultHashBuilder};
use crate::wake;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// A shared key/value store for many writers and many watchers.
///
/// `K` is the key, `V` the value, `T` the token by which a writer is known to the locks, `S` the hasher. Where no writer needs
/// to be told from another, leave out the token: `StateDictionary<K, V>` has `()` for it, and short forms that take none. Keys and tokens
/// are cloned and compared, so they should be cheap to clone (`Arc<str>`, a number); values are never cloned.
///
/// One value of this type owns the store. Share it as an [`Arc`] or by reference. Dropping it ends its feeds as
/// [`freeze`](Self::freeze) does; snapshots and buffers live on.
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
/// # What can wait
///
/// Reading never waits: [`snapshot`](Self::snapshot), [`get`](Self::get), [`revision`](Self::revision), making a buffer or a
/// feed. A commit waits for its *turn* while others commit, for at most 3 ms, and is lock-free then; what is refused, what
/// changes nothing and what is called `try` does not wait for a turn. While a lock is outstanding, a commit may wait for a
/// thread that is inside a lock operation, and while somebody holds the content, until it is let go. Lock operations may wait for each other, never for a lock to come free. A flush waits, for that is what it is for.
///
/// [`docs::performance`](crate::docs::performance) has a table of every operation.
///
/// # In async code
///
/// What waits for its turn, for held content or for something to come blocks its thread; with the feature `async` it has a
/// form that is awaited. [Performance](crate::docs::performance#in-an-executor) says what may be called in an executor.
///
/// # What it costs
///
/// Reading a key is O(log n), taking a snapshot O(1), a commit of k keys O(k log n). A commit takes three to five times as long
/// where somebody keeps the content that it replaces. Buffers cost it nothing, however many there are, but it looks at every
/// thread that follows, and wakes those that are asleep in a flush. Whoever drops a snapshot frees what only that still had.
/// All of this is told at more length in [`docs::performance`](crate::docs::performance#what-makes-commits-slow).
///
/// # Values that are dropped
///
/// Values, keys and tokens that nobody can see any more are dropped by whoever lets go of them last: mostly the thread that
/// commits, else one that flushes, that drops a snapshot, or that just reads. For itself the dictionary keeps clones of the keys
/// that were touched last, as many as the [history limit](Builder::history_limit) says or up to twice as many, and what it was built
/// to keep: [commits](Builder::commit_history), [lock events](Builder::lock_history_limit). And when threads commit at once and one of
/// them is interrupted or refused, or when a call unwinds, old values may stay until the next commit. Nothing is locked then that the dictionary would wait
/// for without end, and a commit is visible and everybody notified, so their `Drop` may use the dictionary. If it panics, the
/// panic comes out of the call, the commit stands, and some memory may leak. A value nested so deep that its `Drop` overflows
/// the stack aborts the process, as everywhere in Rust: give such a type a `Drop` without recursion.
///
/// # Panics
///
/// If a key's or token's `Hash`, `Eq` or `Clone`, a hasher or a closure of yours panics, the call unwinds, the dictionary
/// is as it was before the call, and it goes on working. Once a commit is visible, `Eq` and `Clone` of its keys run once more,
/// to bring the tree for the next commit up to date; a panic then is caught, and costs only time.
///
/// `Hash`, `Eq` and `Clone` of keys and tokens may run with locks of the dictionary held. They must not use it: they could
/// wait for themselves.
#[doc(alias = "KeyLockableMap")]
pub struct StateDictionary<K, V, T = (), S = DefaultHashBuilder> {
    engine: Engine<K, V, T, S>,
    reader: Reader<K, V, S>,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq> StateDictionary<K, V, T> {
    /// An empty dictionary with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }
}

impl<K, V, T> StateDictionary<K, V, T> {
    /// To choose hasher, clock, history limit, shard count or initial content.
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
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    #[doc(alias = "copy_content")]
    pub fn snapshot(&self) -> Snapshot<K, V, S> {
        Snapshot::new(self.engine.published.load())
    }

    /// The revision of the latest commit. Never waits.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.engine.published.peek(|root| root.revision)
    }

    /// Ends all changes, for ever. Lock-free; does not wait for held content, nor for a commit that is being made.
    ///
    /// Returns whether it was this call that did. Writers get [`Refusal::Frozen`](crate::Refusal::Frozen), those
    /// waiting for held content too; buffers deliver what is pending and then end. Reading, releasing locks and
    /// [`lock_content`](Self::lock_content) go on working.
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

    /// A buffer that follows the dictionary. O(1); never waits, but with the feature `counters` for a mutex that is held for
    /// some instructions.
    ///
    /// Its first flush gives the whole content as it is then. Of a frozen dictionary, that is also its last.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// dictionary.update_state(&(), Change::new().set("a", 1))?;
    /// let buffer = dictionary.change_buffer();
    /// dictionary.update_state(&(), Change::new().set("b", 1))?;
    /// assert_eq!(buffer.flush().unwrap().count(), 2, "first everything, also what was there before");
    /// dictionary.update_state(&(), Change::new().set("b", 2))?;
    /// assert_eq!(buffer.flush().unwrap().count(), 1, "and then what has changed");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    #[doc(alias = "get_change_buffer")]
    pub fn change_buffer(&self) -> ChangeBuffer<K, V, S> {
        self.change_buffer_with(BufferOptions::default())
    }

    /// A buffer with other than the default options.
    #[must_use]
    pub fn change_buffer_with(&self, options: BufferOptions<K>) -> ChangeBuffer<K, V, S> {
        ChangeBuffer::new(Arc::clone(&self.engine.published), options)
    }

    /// Frames for all clients that follow the same: what has changed is encoded once for all of them. O(1); never waits, as
    /// [`change_buffer`](Self::change_buffer).
    ///
    /// `encode` makes a message of a change, in the thread that [publishes](Broadcast::publish), never of the whole content. The
    /// options say what is followed. A position to [resume](BufferOptions::resume) from is ignored: the broadcast begins with the
    /// present content, and where a client goes on from is for [`Broadcast::join`] to say. See [`Broadcast`] for an example.
    #[must_use]
    pub fn broadcast<M>(
        &self,
        options: BufferOptions<K>,
        encode: impl Fn(&Delivery<K, V, S>) -> M + Send + Sync + 'static,
    ) -> Broadcast<K, V, M, S> {
        Broadcast::new(Arc::clone(&self.engine.published), options, encode)
    }

    /// Which dictionary this is. Never waits.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.engine.published.shared().id
    }

    /// Which dictionary this is and its latest commit. Never waits.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { store: self.id(), revision: self.revision() }
    }

    /// Waits until the commit with this revision has been made, and returns the content then or a little later.
    ///
    /// # Errors
    /// [`WaitError::Frozen`] if it can no longer come.
    ///
    /// ```
    /// use state_dictionary::{Change, Revision, StateDictionary};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    /// thread::scope(|scope| {
    ///     let waiting = scope.spawn(|| dictionary.wait_for_revision(Revision::from(2)));
    ///     dictionary.update_state(&0, Change::new().set("a", 1)).unwrap();
    ///     dictionary.update_state(&0, Change::new().set("a", 2)).unwrap();
    ///     assert_eq!(waiting.join().unwrap().unwrap()["a"], 2);
    /// });
    /// ```
    pub fn wait_for_revision(&self, revision: Revision) -> Result<Snapshot<K, V, S>, WaitError> {
        self.wait_for_revision_until(revision, None)
    }

    /// [`wait_for_revision`](Self::wait_for_revision), waiting at most `timeout`. One too long for the clock never ends.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the time has passed, [`WaitError::Frozen`] if the revision can no longer come.
    ///
    /// ```
    /// use state_dictionary::{Revision, StateDictionary, WaitError};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let soon = dictionary.wait_for_revision_timeout(Revision::from(1), Duration::ZERO);
    /// assert_eq!(soon.unwrap_err(), WaitError::TimedOut);
    /// dictionary.freeze();
    /// assert_eq!(dictionary.wait_for_revision(Revision::from(1)).unwrap_err(), WaitError::Frozen);
    /// assert!(dictionary.wait_for_revision(Revision::ZERO).is_ok(), "it was reached before");
    /// ```
    pub fn wait_for_revision_timeout(
        &self,
        revision: Revision,
        timeout: Duration,
    ) -> Result<Snapshot<K, V, S>, WaitError> {
        self.wait_for_revision_until(revision, self.engine.published.clock.now().checked_add(timeout))
    }

    fn wait_for_revision_until(
        &self,
        revision: Revision,
        deadline: Option<Instant>,
    ) -> Result<Snapshot<K, V, S>, WaitError> {
        let Published { wakeups, clock, .. } = &*self.engine.published;
        let reached = wake::wait(&wakeups.changed, clock, deadline, || self.engine.published.reached(revision));
        reached.unwrap_or(Err(WaitError::TimedOut))
    }

    /// A feed of every commit after this moment, none merged with another, with the token of its writer. O(1); never waits.
    ///
    /// The dictionary must have been built with [`Builder::commit_history`]; otherwise every delivery says only which commits
    /// were missed.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new(); // without `keep_commits`
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

    /// [`commit_feed`](Self::commit_feed), from a position that an earlier feed has got to, such as that of a recorder before it
    /// was restarted.
    ///
    /// If the position is of another dictionary, or lies in the future, the feed begins at the beginning, and its first delivery
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

    /// What has happened so far, in numbers. Only with the feature `counters`.
    ///
    /// O(n) in the number of buffers. Waits at most for others who read counters or make or drop a buffer, some instructions
    /// each. Commits, and whoever else counts, never wait for it.
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

    /// A feed of the locks: first all there are, then what is granted, released, expired or cleared. O(1); never waits.
    ///
    /// The dictionary should have been built with [`Builder::lock_history_limit`]; otherwise every delivery is all locks.
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
        self.engine.published.freeze();
    }
}

impl<K, V, T, S> fmt::Debug for StateDictionary<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.engine.published.load();
        f.debug_struct("StateDictionary")
            .field("revision", &root.revision)
            .field("keys", &root.content.len())
            .field("held", &root.held.is_some())
            .field("frozen", &root.frozen)
            .finish_non_exhaustive()
    }
}
