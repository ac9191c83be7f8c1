//! The settings of a dictionary.

use super::StateDictionary;
use crate::clock::{Clock, ManualClock};
use crate::commit::{Published, Reader};
use crate::content::{Root, content_of};
use crate::engine::{Engine, Settings};
use crate::event::Origin;
use crate::image::Image;
use crate::locks::LockTable;
use crate::restore::Prepared;
use crate::revision::Revision;
use crate::session::DetachedSessions;
use crate::sync::{self, DEFAULT_HISTORY_LIMIT, DefaultHashBuilder, default_shards};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// The entries of a content, with the commits that set them.
type ImageEntries<K, V> = Vec<(K, Arc<V>, Revision)>;

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
    lease_clock: Option<Clock>,
    settings: Settings<T>,
    shards: usize,
    content: Vec<(K, V)>,
    image: Option<(Image<K, T>, ImageEntries<K, V>)>,
    entry_hash: Option<fn(&K, &V) -> u64>,
}

impl<K, V, T> Builder<K, V, T> {
    pub(super) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            clock: Clock::System,
            lease_clock: None,
            settings: Settings::new(DEFAULT_HISTORY_LIMIT),
            shards: default_shards(),
            content: Vec::new(),
            image: None,
            entry_hash: None,
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
        let Self { clock, lease_clock, settings, shards, content, image, entry_hash, .. } = self;
        Builder { hasher, clock, lease_clock, settings, shards, content, image, entry_hash }
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

    /// The clock that leases of locks and graces of sessions go by, while timeouts and intervals go by
    /// [`clock`](Self::clock). For a dictionary that a log drives: its leases end by the time of the log.
    ///
    /// With a clock of their own, leases and graces end **only** when [`StateDictionary::expire`] is called, or a writer
    /// finds an expired lock on its key; then all that is due ends in one step. Readers never change anything: a
    /// [`LockFeed`](crate::LockFeed) does not wait for leases, and a flush of it ends none.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, ManualClock, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let time = ManualClock::new();
    /// let replica: StateDictionary<&str, i32, &str> = StateDictionary::builder().lease_clock(&time).build();
    /// let second = Duration::from_secs(1);
    /// replica.update_locks(&"alice", LockRequest::new().acquire("ball", second))?;
    /// time.advance(second); // as the log says
    /// assert_eq!(replica.expire().locks, [("ball", "alice")]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lease_clock(mut self, clock: &ManualClock) -> Self {
        self.lease_clock = Some(Clock::Manual(clock.clone()));
        self
    }

    /// Builds the dictionary that an [`Image`] and the entries of its content describe: the same store, revisions,
    /// fencing tokens, locks and sessions, so that positions of clients stay valid. Replaces
    /// [`content`](Self::content).
    ///
    /// All sessions are detached: [`StateDictionary::session`] takes one up. Those that were attached when the image was
    /// taken have no time limit; see [`Image::detach_sessions`]. Histories begin anew. Leases and graces go on with what
    /// was left of them.
    ///
    /// ```
    /// use state_dictionary::{Image, LockRequest, StateDictionary};
    /// use std::time::Duration;
    ///
    /// type Board = StateDictionary<String, u32, String>;
    /// let board: Board = StateDictionary::builder().content([("ball".to_owned(), 1)]).build();
    /// board.update_locks(&"alice".to_owned(), LockRequest::new().acquire("ball", None))?;
    /// let (image, content) = board.image();
    /// let entries = content.into_iter().map(|(key, entry)| (key, entry.value().clone(), entry.revision()));
    ///
    /// let restored: Board = StateDictionary::builder().image(image, entries).build();
    /// assert_eq!(restored.position(), board.position());
    /// assert_eq!(restored.lock_info("ball"), board.lock_info("ball"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn image(mut self, image: Image<K, T>, entries: impl IntoIterator<Item = (K, Arc<V>, Revision)>) -> Self {
        self.image = Some((image, entries.into_iter().collect()));
        self
    }

    /// Keeps a hash of the content, with which two replicas can be compared: [`Snapshot::content_hash`]. It is kept up
    /// with every commit, in O(keys of the commit), and read in O(1).
    ///
    /// `hash` hashes an entry. Replicas must have the same one, and it must not depend on the process: not a hasher with
    /// a random seed. It runs in every commit, before it is committed.
    ///
    /// [`Snapshot::content_hash`]: crate::Snapshot::content_hash
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let new = || StateDictionary::builder().content_hash(|key: &u64, value: &u64| key ^ value.rotate_left(32));
    /// let [one, other]: [StateDictionary<u64, u64>; 2] = [new().build(), new().build()];
    /// for replica in [&one, &other] {
    ///     replica.set(3_u64, 5)?;
    /// }
    /// assert_eq!(one.snapshot().content_hash(), other.snapshot().content_hash());
    /// other.set(3_u64, 6)?;
    /// assert_ne!(one.snapshot().content_hash(), other.snapshot().content_hash());
    /// # Ok::<(), state_dictionary::UpdateError<u64, u64>>(())
    /// ```
    pub fn content_hash(mut self, hash: fn(&K, &V) -> u64) -> Self {
        self.entry_hash = Some(hash);
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
        let Self { hasher, clock, lease_clock, settings, shards, content, image, entry_hash } = self;
        let leases = lease_clock.as_ref().unwrap_or(&clock);
        let locks = LockTable::new(shards.clamp(2, 1 << 16).next_power_of_two(), leases);
        let (root, sessions) = match image {
            None => (Root::new(hasher, content, entry_hash), DetachedSessions::none()),
            Some((image, entries)) => {
                let content = content_of(&hasher, entries);
                let prepared = Prepared::new(image, &hasher, leases.now());
                let root = prepared.root(hasher, content, entry_hash);
                locks.restore(prepared.locks);
                (root, DetachedSessions::of(prepared.sessions))
            }
        };
        let published = sync::Arc::new(Published::new(root, clock, lease_clock));
        let reader = Reader::new(sync::Arc::clone(&published));
        let (locks, sessions) = (sync::Arc::new(locks), sync::Arc::new(sessions));
        StateDictionary { engine: Engine { published, locks, sessions, settings }, reader, is_owner: true }
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
