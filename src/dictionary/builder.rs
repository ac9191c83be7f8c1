//! Building a dictionary with other than the default settings.

use super::StateDictionary;
use crate::clock::{Clock, ManualClock};
use crate::content::{Published, Root};
use crate::locks::LockTable;
use crate::sync::{Arc, DEFAULT_TRAIL_LIMIT, DefaultHashBuilder, default_shards};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

/// The settings of a new [`StateDictionary`].
///
/// ```
/// use state_dictionary::{Revision, StateDictionary};
///
/// let dictionary: StateDictionary<String, i32, u8> =
///     StateDictionary::builder().trail_limit(10_000).content([("a".to_owned(), 1)]).build();
/// assert_eq!(u64::from(dictionary.revision()), 1);
/// ```
#[must_use]
pub struct Builder<K, V, T, S = DefaultHashBuilder> {
    hasher: S,
    clock: Clock,
    trail_limit: usize,
    shards: usize,
    content: Vec<(K, V)>,
    token: PhantomData<fn() -> T>,
}

impl<K, V, T> Builder<K, V, T> {
    pub(super) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            clock: Clock::System,
            trail_limit: DEFAULT_TRAIL_LIMIT,
            shards: default_shards(),
            content: Vec::new(),
            token: PhantomData,
        }
    }
}

impl<K, V, T, S> Builder<K, V, T, S> {
    /// How keys are hashed. By default as in `std`'s `HashMap`, which no client can make slow by a choice of keys; use a
    /// faster one only where keys can be trusted.
    pub fn hasher<H: BuildHasher>(self, hasher: H) -> Builder<K, V, T, H> {
        let Self { clock, trail_limit, shards, content, token, .. } = self;
        Builder { hasher, clock, trail_limit, shards, content, token }
    }

    /// The clock that leases, timeouts and intervals go by, for tests. By default the system's.
    pub fn manual_clock(mut self, clock: &ManualClock) -> Self {
        self.clock = Clock::Manual(clock.clone());
        self
    }

    /// How many touched keys the dictionary remembers for its buffers, at least; it remembers up to twice as many. 4096 by
    /// default.
    ///
    /// A buffer that falls further behind catches up by comparing contents. Worth setting to a few times the number of
    /// keys written between two flushes; more than the number of keys there are brings little. 0 is allowed: every flush
    /// then compares.
    pub fn trail_limit(mut self, keys: usize) -> Self {
        self.trail_limit = keys;
        self
    }

    /// Into how many shards the locks are divided: rounded up to a power of two between 2 and 65,536. By default four times
    /// the number of processors.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// The content to begin with, as commit 1. Of two values for one key the later is taken. Repeated calls add.
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
        let locks = LockTable::new(shards);
        let published = Published::new(Root::new(self.hasher, self.content), self.clock);
        StateDictionary { published: Arc::new(published), locks, trail_limit: self.trail_limit }
    }
}

impl<K, V, T, S> fmt::Debug for Builder<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("clock", &self.clock)
            .field("trail_limit", &self.trail_limit)
            .field("shards", &self.shards)
            .field("keys", &self.content.len())
            .finish_non_exhaustive()
    }
}
