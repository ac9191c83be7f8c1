//! Reading, following and waiting, apart from writing.

use super::StateDictionary;
use crate::commit::Reader;
use crate::content::{Snapshot, Versioned};
use crate::engine::Engine;
use crate::error::WaitError;
use crate::feed::{Broadcast, BufferOptions, ChangeBuffer, CommitFeed, Delivery, FeedOptions, KeyFeed, LockFeed};
use crate::locks::LockInfo;
use crate::position::{LockPosition, Position, StoreId};
use crate::revision::Revision;
use crate::sync::DefaultHashBuilder;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

/// A handle to a dictionary that can read, follow and wait, and cannot write, lock, freeze or expire. Made by
/// [`StateDictionary::read_handle`]; a clone is another handle.
///
/// Whoever applies a log owns the [`StateDictionary`], and gives read handles to everybody else. Each method is that of
/// the dictionary, with the same cost. When the dictionary is dropped, it is frozen: feeds end, and what was there can
/// still be read.
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let dictionary: StateDictionary<&str, u32> = StateDictionary::new();
/// let handle = dictionary.read_handle();
/// let buffer = handle.change_buffer();
/// dictionary.set("a", 1)?;
/// drop(dictionary);
/// assert_eq!(buffer.flush()?.count(), 1);
/// assert!(handle.is_frozen() && handle.snapshot()["a"] == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReadHandle<K, V, T = (), S = DefaultHashBuilder>(StateDictionary<K, V, T, S>);

impl<K, V, T, S> ReadHandle<K, V, T, S> {
    pub(super) fn new(engine: Engine<K, V, T, S>, reader: Reader<K, V, S>) -> Self {
        Self(StateDictionary { engine, reader, is_owner: false })
    }

    /// [`StateDictionary::snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K, V, S> {
        self.0.snapshot()
    }

    /// [`StateDictionary::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// [`StateDictionary::is_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// [`StateDictionary::id`].
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.0.id()
    }

    /// [`StateDictionary::revision`].
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.revision()
    }

    /// [`StateDictionary::position`].
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position()
    }

    /// [`StateDictionary::is_frozen`].
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.0.is_frozen()
    }

    /// [`StateDictionary::change_buffer`].
    #[must_use]
    pub fn change_buffer(&self) -> ChangeBuffer<K, V, S> {
        self.0.change_buffer()
    }

    /// [`StateDictionary::change_buffer_with`].
    #[must_use]
    pub fn change_buffer_with(&self, options: BufferOptions<K>) -> ChangeBuffer<K, V, S> {
        self.0.change_buffer_with(options)
    }

    /// [`StateDictionary::broadcast`].
    #[must_use]
    pub fn broadcast<M>(
        &self,
        options: BufferOptions<K>,
        encode: impl Fn(&Delivery<K, V, S>) -> M + Send + Sync + 'static,
    ) -> Broadcast<K, V, M, S> {
        self.0.broadcast(options, encode)
    }

    /// [`StateDictionary::commit_feed`].
    #[must_use]
    pub fn commit_feed(&self) -> CommitFeed<K, V, T, S> {
        self.0.commit_feed()
    }

    /// [`StateDictionary::commit_feed_with`].
    #[must_use]
    pub fn commit_feed_with(&self, options: FeedOptions<Position>) -> CommitFeed<K, V, T, S> {
        self.0.commit_feed_with(options)
    }

    /// [`StateDictionary::lock_feed`]. A flush of it removes expired locks, unless leases have a
    /// [clock of their own](crate::Builder::lease_clock).
    #[must_use]
    pub fn lock_feed(&self) -> LockFeed<K, V, T, S> {
        self.0.lock_feed()
    }

    /// [`StateDictionary::lock_feed_with`].
    #[must_use]
    pub fn lock_feed_with(&self, options: FeedOptions<LockPosition>) -> LockFeed<K, V, T, S> {
        self.0.lock_feed_with(options)
    }

    /// [`StateDictionary::wait_for_revision`].
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_for_revision(&self, revision: Revision) -> Result<Snapshot<K, V, S>, WaitError> {
        self.0.wait_for_revision(revision)
    }

    /// [`StateDictionary::wait_for_revision_timeout`].
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_for_revision_timeout(
        &self,
        revision: Revision,
        timeout: Duration,
    ) -> Result<Snapshot<K, V, S>, WaitError> {
        self.0.wait_for_revision_timeout(revision, timeout)
    }

    /// [`StateDictionary::wait_until`].
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_until<R>(&self, condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>) -> Result<R, WaitError> {
        self.0.wait_until(condition)
    }

    /// [`StateDictionary::wait_until_timeout`].
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_until_timeout<R>(
        &self,
        timeout: Duration,
        condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>,
    ) -> Result<R, WaitError> {
        self.0.wait_until_timeout(timeout, condition)
    }

    /// [`StateDictionary::wait_for_revision_async`].
    ///
    /// # Errors
    /// [`WaitError`].
    #[cfg(feature = "async")]
    pub async fn wait_for_revision_async(&self, revision: Revision) -> Result<Snapshot<K, V, S>, WaitError> {
        self.0.wait_for_revision_async(revision).await
    }

    /// [`StateDictionary::wait_until_async`].
    ///
    /// # Errors
    /// [`WaitError`].
    #[cfg(feature = "async")]
    pub async fn wait_until_async<R>(
        &self,
        condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>,
    ) -> Result<R, WaitError> {
        self.0.wait_until_async(condition).await
    }

    /// [`StateDictionary::counters`].
    #[cfg(feature = "counters")]
    #[must_use]
    pub fn counters(&self) -> crate::Counters {
        self.0.counters()
    }
}

impl<K: Eq + Hash, V, T, S: BuildHasher> ReadHandle<K, V, T, S> {
    /// [`StateDictionary::get`].
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Versioned<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// [`StateDictionary::contains_key`].
    #[must_use]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// [`StateDictionary::watch_key`].
    #[must_use]
    pub fn watch_key(&self, key: impl Into<K>) -> KeyFeed<K, V, S> {
        self.0.watch_key(key)
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> ReadHandle<K, V, T, S> {
    /// [`StateDictionary::lock_info`].
    #[must_use]
    pub fn lock_info<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<LockInfo<T>>
    where
        K: Borrow<Q>,
    {
        self.0.lock_info(key)
    }

    /// [`StateDictionary::locks`].
    #[must_use]
    pub fn locks(&self) -> Vec<(K, LockInfo<T>)> {
        self.0.locks()
    }
}

impl<K, V, T, S> Clone for ReadHandle<K, V, T, S> {
    fn clone(&self) -> Self {
        Self::new(self.0.engine.clone(), self.0.reader.clone())
    }
}

impl<K, V, T, S> fmt::Debug for ReadHandle<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadHandle").field(&self.0).finish()
    }
}
