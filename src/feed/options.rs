//! How a buffer behaves, and which keys it follows.

use crate::position::Position;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// How a [`ChangeBuffer`](super::ChangeBuffer) behaves. The default is what most want.
///
/// ```
/// use state_dictionary::{BufferOptions, Change, StateDictionary};
///
/// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
/// let cursors = dictionary.change_buffer_with(BufferOptions::new().prefixes(["cursor."]));
/// dictionary.update_state(&0, Change::new().set("cursor.alice", 1).set("drawing", 7))?;
/// let delivery = cursors.flush()?;
/// assert_eq!(delivery.updates().map(|(key, _)| key).collect::<Vec<_>>(), ["cursor.alice"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BufferOptions<K> {
    pub(super) wanted: Wanted<K>,
    pub(super) resume: Option<Position>,
}

/// Where a [`CommitFeed`](super::CommitFeed) or a [`LockFeed`](super::LockFeed) begins. `P` is its position.
///
/// ```
/// use state_dictionary::{FeedOptions, StateDictionary};
///
/// let stock: StateDictionary<u64, u32> = StateDictionary::builder().commit_history(true).build();
/// let recorded = stock.commit_feed().position();
/// stock.set(3_u64, 5)?;
/// let feed = stock.commit_feed_with(FeedOptions::new().resume(recorded));
/// assert_eq!(feed.try_flush().unwrap().commits.len(), 1);
/// # Ok::<(), state_dictionary::UpdateError<u64, u32>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct FeedOptions<P> {
    pub(super) resume: Option<P>,
}

impl<P> FeedOptions<P> {
    /// The default: the feed begins now.
    pub const fn new() -> Self {
        Self { resume: None }
    }

    /// Begins after the position of an earlier feed: what happened since is delivered first.
    ///
    /// If that is not possible, since the position is of another dictionary or lies in the future, or the history does not
    /// reach back to it, the first delivery reports it: it is [full](super::CommitDelivery::full) or has
    /// [lagged](super::CommitDelivery::lagged), or is [`LockDelivery::Full`](super::LockDelivery::Full).
    pub fn resume(mut self, position: P) -> Self {
        self.resume = Some(position);
        self
    }
}

impl<P> Default for FeedOptions<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a buffer is to deliver.
pub(super) struct Wanted<K> {
    pub(super) tombstones: Tombstones,
    pub(super) filter: Filter<K>,
}

/// Which removals a [`ChangeBuffer`](super::ChangeBuffer) delivers.
///
/// ```
/// use state_dictionary::{BufferOptions, Change, StateDictionary, Tombstones};
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// let usual = dictionary.change_buffer();
/// let always = dictionary.change_buffer_with(BufferOptions::new().tombstones(Tombstones::Always));
/// dictionary.update_state(&(), Change::new().set("a", 1))?;
/// dictionary.update_state(&(), Change::new().remove("a"))?;
/// assert!(usual.try_flush().is_err(), "it never delivered the key");
/// assert_eq!(always.try_flush().unwrap().removals().collect::<Vec<_>>(), [&"a"]);
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tombstones {
    /// Those of keys of which the buffer has delivered a value.
    #[default]
    Delivered,
    /// Every removal after the buffer was made, or after the position that it resumes from, also of keys that it never
    /// delivered and of keys that had no value. If it cannot resume, those after it was made. Exact as long as the
    /// buffer does not lag behind the history; after that, until its next flush, as `Delivered`.
    Always,
}

/// Which keys are followed.
pub(super) struct Filter<K>(Option<Arc<dyn Fn(&K) -> bool + Send + Sync>>);

impl<K> Filter<K> {
    pub(super) fn passes(&self, key: &K) -> bool {
        self.0.as_ref().is_none_or(|filter| filter(key))
    }
}

impl<K> Clone for Wanted<K> {
    fn clone(&self) -> Self {
        Self { tombstones: self.tombstones, filter: Filter(self.filter.0.clone()) }
    }
}

impl<K> BufferOptions<K> {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self { wanted: Wanted { tombstones: Tombstones::default(), filter: Filter(None) }, resume: None }
    }

    /// Which removals are delivered.
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.wanted.tombstones = tombstones;
        self
    }

    /// Follows only the keys for which `filter` returns `true`: in the first content, in changes, in removals and when
    /// the buffer catches up. With several filters, a key must pass all of them.
    ///
    /// `filter` must always return the same for a key. A flush runs it on the keys touched since the last flush by any
    /// client (in the first flush, and if the buffer lagged behind the history, on all keys), until one passes; if none
    /// does, it has run on all of them, and on removed ones twice. Each iteration over the delivery runs it on all of
    /// them. So a filter saves the work after the flush, not that of the flush. Commits of other keys wake a waiting
    /// flush, which then waits again. A flush runs it with the buffer locked, so it must not use the buffer. If it
    /// panics, the flush panics, and the buffer is as it was before.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<u32, i32, ()> = StateDictionary::builder().content((0..10).map(|key| (key, 0))).build();
    /// let even = dictionary.change_buffer_with(BufferOptions::new().filter(|key| key % 2 == 0));
    /// assert_eq!(even.flush().unwrap().count(), 5);
    /// dictionary.update_state(&(), Change::new().set(1_u32, 1).remove(2_u32).remove(3_u32))?;
    /// assert_eq!(even.flush().unwrap().removals().collect::<Vec<_>>(), [&2]);
    /// # Ok::<(), state_dictionary::UpdateError<u32, i32, ()>>(())
    /// ```
    #[must_use]
    pub fn filter(mut self, filter: impl Fn(&K) -> bool + Send + Sync + 'static) -> Self
    where
        K: 'static,
    {
        self.wanted.filter = Filter(Some(match self.wanted.filter.0 {
            None => Arc::new(filter),
            Some(earlier) => Arc::new(move |key| earlier(key) && filter(key)),
        }));
        self
    }

    /// Follows only the keys that begin with one of these, as a [`filter`](Self::filter).
    ///
    /// Prefixes are compared byte by byte, as [`str::starts_with`] does. So the prefix `cursor` also passes
    /// `cursors.all`: end it with the character that separates the parts of your keys. Upper and lower case differ, and
    /// so do two texts that look the same but have different code points (`é` as one, or as `e` with an accent):
    /// normalise keys and prefixes alike. The empty prefix passes every key, and without prefixes no key passes.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, StateDictionary};
    ///
    /// let content = [("avatar.1", 0), ("cursor.1", 0), ("cursor.2", 0)];
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content(content).build();
    /// let followed = |options| dictionary.change_buffer_with(options).try_flush().map_or(0, |delivery| delivery.count());
    /// assert_eq!(followed(BufferOptions::new().prefixes(["avatar.", "cursor."])), 3, "any of them");
    /// assert_eq!(followed(BufferOptions::new().prefixes(["avatar."]).prefixes(["cursor."])), 0, "both");
    /// ```
    #[must_use]
    pub fn prefixes<P: Into<String>>(self, prefixes: impl IntoIterator<Item = P>) -> Self
    where
        K: AsRef<str> + 'static,
    {
        let prefixes: Vec<String> = prefixes.into_iter().map(Into::into).collect();
        self.filter(move |key| prefixes.iter().any(|prefix| key.as_ref().starts_with(prefix)))
    }

    /// Resumes from the position of a client: the first delivery has exactly what changed since, merged.
    ///
    /// If that is not possible, because the position is of another dictionary, or lies in the future, or further back
    /// than the [history](crate::Builder::history_limit) reaches at the first flush, the first delivery is the whole
    /// content instead, and [reports it](crate::Delivery::is_full): the client must discard what it has. That delivery
    /// comes at once, also if there is no content. See [`Position`] for an example.
    ///
    /// The buffer does not know which keys the client followed before. With another filter, newly followed keys are
    /// missed until they change; so a client that follows other keys than before must start without a position.
    #[must_use]
    pub fn resume(mut self, position: Position) -> Self {
        self.resume = Some(position);
        self
    }
}

// Every call takes them and returns them, so one that panics leaves none behind; a buffer survives a filter that panics.
impl<K> UnwindSafe for BufferOptions<K> {}
impl<K> RefUnwindSafe for BufferOptions<K> {}

impl<K> Default for BufferOptions<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clone for BufferOptions<K> {
    fn clone(&self) -> Self {
        Self { wanted: self.wanted.clone(), resume: self.resume }
    }
}

impl<K> fmt::Debug for BufferOptions<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferOptions")
            .field("tombstones", &self.wanted.tombstones)
            .field("filtered", &self.wanted.filter.0.is_some())
            .field("resume", &self.resume)
            .finish()
    }
}
