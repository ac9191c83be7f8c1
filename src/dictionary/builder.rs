//! The settings of a dictionary.

use super::StateDictionary;
use crate::clock::{Clock, ManualClock};
use crate::commit::{Published, Reader};
use crate::content::Root;
use crate::engine::{Engine, Settings};
use crate::event::Origin;
use crate::locks::LockTable;
use crate::session::DetachedSessions;
use crate::sync::{self, DEFAULT_HISTORY_LIMIT, DefaultHashBuilder, default_shards};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// The settings of a new [`StateDictionary`].
///
/// ```
/// use state_dictionary::{Revision, StateDictionary};
///
/// let dictionary: StateDictionary<String, i32, u8> =
///     StateDictionary::builder().history_limit(10_000).content([("a".to_owned(), 1)]).build();
/// assert_eq!(u64::from(dictionary.revision()), 1);
/// ```
#[must_use]
pub struct Builder<K, V, T = (), S = DefaultHashBuilder> {
    hasher: S,
    clock: Clock,
    settings: Settings<T>,
    shards: usize,
    content: Vec<(K, V)>,
}

impl<K, V, T> Builder<K, V, T> {
    pub(super) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            clock: Clock::System,
            settings: Settings::new(DEFAULT_HISTORY_LIMIT),
            shards: default_shards(),
            content: Vec::new(),
        }
    }
}

impl<K, V, T, S> Builder<K, V, T, S> {
    /// How keys are hashed. By default as in `std`'s `HashMap`, which no client can slow down by its choice of keys;
    /// use a faster hasher only where keys can be trusted.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::hash::{BuildHasherDefault, DefaultHasher};
    ///
    /// // Without a random seed: the same hashes in every run.
    /// type Fixed = BuildHasherDefault<DefaultHasher>;
    /// let dictionary: StateDictionary<u32, i32, (), Fixed> = StateDictionary::builder().hasher(Fixed::default()).build();
    /// ```
    pub fn hasher<H: BuildHasher>(self, hasher: H) -> Builder<K, V, T, H> {
        let Self { clock, settings, shards, content, .. } = self;
        Builder { hasher, clock, settings, shards, content }
    }

    /// The clock of leases, timeouts and intervals, for tests. By default the system's.
    pub fn clock(mut self, clock: &ManualClock) -> Self {
        self.clock = Clock::Manual(clock.clone());
        self
    }

    /// How many touched keys the dictionary remembers for its buffers, at least; at most twice as many. 4096 by
    /// default.
    ///
    /// A buffer that lags further behind catches up by comparing contents. A good limit is a few times the number of
    /// keys written between two flushes; more than the number of keys in the dictionary brings little. With 0, every
    /// flush compares.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, StateDictionary};
    ///
    /// // A buffer can resume only within the history. Here the first keys have been forgotten.
    /// let dictionary: StateDictionary<u32, i32, ()> = StateDictionary::builder().history_limit(2).build();
    /// let start = dictionary.position();
    /// for key in 0..5_u32 {
    ///     dictionary.update_state(&(), Change::new().set(key, 1))?;
    /// }
    /// let buffer = dictionary.change_buffer_with(BufferOptions::new().resume(start));
    /// assert!(buffer.flush().unwrap().is_full());
    /// # Ok::<(), state_dictionary::UpdateError<u32, i32, ()>>(())
    /// ```
    pub fn history_limit(mut self, keys: usize) -> Self {
        self.settings.history_limit = keys;
        self
    }

    /// Keeps the latest commits as they were made, with their tokens, for the feed of [`StateDictionary::commit_feed`].
    /// Their operations sum up to at least the [history limit](Self::history_limit), and at most twice that.
    ///
    /// Off by default, since it keeps replaced values alive and copies every change, and makes each snapshot and each
    /// delivery allocate, since those leave the kept commits out. The kept commits are dropped with the dictionary and
    /// its feeds of commits and of locks.
    pub fn commit_history(mut self, keep: bool) -> Self
    where
        T: Send + Sync + 'static,
    {
        self.settings.commit_log = keep.then_some(|token| Arc::new(token) as Origin);
        self
    }

    /// How many lock events the dictionary remembers for its feeds of locks, at least; at most twice as many. 0 by
    /// default: a [`LockFeed`](crate::LockFeed) then delivers all locks each time that one was granted or ended. More
    /// than 0 makes each snapshot and each delivery allocate, since those leave the events out.
    ///
    /// ```
    /// use state_dictionary::{LockDelivery, LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new(); // without a history of locks
    /// let feed = dictionary.lock_feed();
    /// assert!(feed.flush().is_ok());
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(feed.flush(), Ok(LockDelivery::Full { .. })), "all locks again");
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    pub fn lock_history_limit(mut self, events: usize) -> Self
    where
        T: Send + Sync + 'static,
    {
        self.settings.lock_history_limit = events;
        self.settings.lock_events = (events > 0).then_some(|token| Arc::new(token) as Origin);
        self
    }

    /// The number of shards of the lock table: rounded up to a power of two between 2 and 65,536. By default four times
    /// the number of processors.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// The content to begin with, as commit 1. Of several values for one key the last one is used. Repeated calls add.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> =
    ///     StateDictionary::builder().content([("a", 1), ("b", 1)]).content([("a", 2)]).build();
    /// assert_eq!((dictionary.snapshot()["a"], dictionary.snapshot().len()), (2, 2));
    /// assert_eq!(dictionary.revision().get(), 1);
    /// ```
    pub fn content(mut self, content: impl IntoIterator<Item = (K, V)>) -> Self {
        self.content.extend(content);
        self
    }

    /// Builds the dictionary. O(n) in the initial content.
    #[must_use]
    pub fn build(self) -> StateDictionary<K, V, T, S>
    where
        K: Clone + Eq + Hash,
        T: Clone + PartialEq,
        S: BuildHasher,
    {
        let shards = self.shards.clamp(2, 1 << 16).next_power_of_two();
        let locks = sync::Arc::new(LockTable::new(shards, &self.clock));
        let published = sync::Arc::new(Published::new(Root::new(self.hasher, self.content), self.clock));
        let reader = Reader::new(sync::Arc::clone(&published));
        let engine =
            Engine { published, locks, sessions: sync::Arc::new(DetachedSessions::none()), settings: self.settings };
        StateDictionary { engine, reader }
    }
}

// Every call takes it and returns it, so a call that panics leaves none behind.
impl<K, V, T, S> UnwindSafe for Builder<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for Builder<K, V, T, S> {}

impl<K, V, T, S> fmt::Debug for Builder<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("clock", &self.clock)
            .field("history_limit", &self.settings.history_limit)
            .field("shards", &self.shards)
            .field("keys", &self.content.len())
            .finish_non_exhaustive()
    }
}
