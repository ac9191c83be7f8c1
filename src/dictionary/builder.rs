//! Building a dictionary with other than the default settings.

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
    /// How keys are hashed. By default as in `std`'s `HashMap`, which no client can make slow by a choice of keys; use a
    /// faster one only where keys can be trusted.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::hash::{BuildHasherDefault, DefaultHasher};
    ///
    /// // Without a random seed, so the same in every run.
    /// type Fixed = BuildHasherDefault<DefaultHasher>;
    /// let dictionary: StateDictionary<u32, i32, (), Fixed> = StateDictionary::builder().hasher(Fixed::default()).build();
    /// ```
    pub fn hasher<H: BuildHasher>(self, hasher: H) -> Builder<K, V, T, H> {
        let Self { clock, settings, shards, content, .. } = self;
        Builder { hasher, clock, settings, shards, content }
    }

    /// The clock that leases, timeouts and intervals go by, for tests. By default the system's.
    pub fn clock(mut self, clock: &ManualClock) -> Self {
        self.clock = Clock::Manual(clock.clone());
        self
    }

    /// How many touched keys the dictionary remembers for its buffers, at least; it remembers up to twice as many. 4096 by
    /// default.
    ///
    /// A buffer that falls further behind catches up by comparing contents. Worth setting to a few times the number of
    /// keys written between two flushes; more than the number of keys there are brings little. 0 is allowed: every flush
    /// then compares.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, StateDictionary};
    ///
    /// // Resuming needs the history, and so says how much of it there is: the first keys are forgotten here.
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

    /// Keeps the latest commits as they were made, with their tokens: for the feed of [`StateDictionary::commit_feed`]. They are
    /// as many as have, all together, as many operations as the [history limit](Self::history_limit) says, and up to twice as many.
    ///
    /// Not done by default, for it keeps replaced values alive and copies every change; and each snapshot and each delivery
    /// allocates, since it leaves the kept commits out. They are dropped when the dictionary and its feeds of commits and of
    /// locks are.
    pub fn commit_history(mut self, keep: bool) -> Self
    where
        T: Send + Sync + 'static,
    {
        self.settings.commit_log = keep.then_some(|token| Arc::new(token) as Origin);
        self
    }

    /// How many locks that came or went the dictionary remembers for those who follow the locks, at least; up to twice as
    /// many. 0 by default: a [`LockFeed`](crate::LockFeed) then gives all locks each time that some came or went. More than 0
    /// makes each snapshot and each delivery allocate, since they leave the events out.
    ///
    /// ```
    /// use state_dictionary::{LockDelivery, LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new(); // without
    /// let mut feed = dictionary.lock_feed();
    /// assert!(feed.flush().is_ok());
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(feed.flush(), Ok(LockDelivery::Full { .. })), "once more");
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    pub fn lock_history_limit(mut self, keys: usize) -> Self
    where
        T: Send + Sync + 'static,
    {
        self.settings.lock_history_limit = keys;
        self.settings.lock_events = (keys > 0).then_some(|token| Arc::new(token) as Origin);
        self
    }

    /// Into how many shards the locks are divided: rounded up to a power of two between 2 and 65,536. By default four times
    /// the number of processors.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// The content to begin with, as commit 1. Of two values for one key the later is taken. Repeated calls add.
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

    /// The dictionary. O(n) in the initial content.
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

// Every call takes it and returns it, so one that panics leaves none behind.
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
