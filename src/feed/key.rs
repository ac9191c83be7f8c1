//! The feed of one key.

use super::following::sealed::{Source as Looks, Waits};
use super::following::{self, Found};
use super::{Feed, Subscription};
use crate::commit::Published;
use crate::content::Versioned;
use crate::deferred_drops::defer_drops;
use crate::error::{FlushError, FlushTimeoutError, TryFlushError};
use crate::key::Hashed;
use crate::revision::Revision;
use crate::sync::{Arc, DefaultHashBuilder, Mutex};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// Follows one key: each flush delivers its value, if it has been set since the flush before, or `None`, if it has been removed.
/// Made by [`StateDictionary::watch_key`](crate::StateDictionary::watch_key).
///
/// The latest value is delivered, once; values that were replaced before a flush are not. The first flush delivers the value
/// that the key has then; if it has none, there is nothing to deliver until it is set. A value that was never delivered is not
/// reported to be removed. When the dictionary is frozen or dropped, or the feed is [closed](Self::close), what is still pending
/// is delivered, and then every flush returns [`FlushError`].
///
/// # Cost
/// A flush looks up the key, in O(log n). The feed keeps no content and no value alive while the dictionary lives. It
/// adds no work to a commit, except that each commit wakes the waiters in a flush, whichever keys it sets: to follow
/// many keys, use one [`ChangeBuffer`](crate::ChangeBuffer).
///
/// # Threads
/// A feed can be shared. If several threads flush it, each value is delivered to one of them. It may outlive the
/// dictionary.
///
/// ```
/// use state_dictionary::{FlushError, StateDictionary, TryFlushError};
///
/// let stock: StateDictionary<u64, u32> = StateDictionary::from([(3, 5)]);
/// let feed = stock.watch_key(3_u64);
/// let value = feed.flush()?;
/// assert_eq!(value.as_deref(), Some(&5));
///
/// stock.set(3_u64, 4)?;
/// stock.set(3_u64, 2)?;
/// stock.set(7_u64, 1)?;
/// assert_eq!(feed.flush()?.as_deref(), Some(&2));
/// assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
///
/// stock.remove(3_u64)?;
/// drop(stock);
/// assert_eq!(feed.flush(), Ok(None));
/// assert_eq!(feed.flush(), Err(FlushError));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyFeed<K, V, S = DefaultHashBuilder> {
    key: Hashed<K>,
    state: Mutex<State<K, V, S>>,
}

struct State<K, V, S> {
    source: Source<K, V, S>,
    /// The commit that set the value that was delivered last; `None` after a removal, and before the first value.
    delivered: Option<Revision>,
}

enum Source<K, V, S> {
    Open(Arc<Published<K, V, S>>),
    /// The value of the key when the feed was closed.
    Closed(Option<Versioned<V>>),
    /// An ended feed keeps nothing alive.
    Ended,
}

impl<K, V, S> KeyFeed<K, V, S> {
    pub(crate) fn new(published: Arc<Published<K, V, S>>, key: K) -> Self
    where
        K: Hash,
        S: BuildHasher,
    {
        let hash = published.shared().hasher.hash_one(&key);
        let state = State { source: Source::Open(published), delivered: None };
        Self { key: Hashed { hash, key }, state: Mutex::new(state) }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key.key
    }

    /// Whether no later value will be delivered: the feed was closed, or the dictionary frozen or dropped. Something
    /// may still be pending.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.source().is_none_or(|published| published.peek(|root| root.frozen))
    }

    pub(super) fn source(&self) -> Option<Arc<Published<K, V, S>>> {
        if let Source::Open(published) = &self.state.lock().source { Some(Arc::clone(published)) } else { None }
    }
}

impl<K: Eq, V, S> KeyFeed<K, V, S> {
    /// Waits until something is pending and delivers it: the value of the key, or `None` if it was removed.
    ///
    /// # Errors
    /// [`FlushError`] if everything was delivered and nothing more can come.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::thread;
    ///
    /// let flags: StateDictionary<&str, bool> = StateDictionary::new();
    /// let beta = flags.watch_key("beta");
    /// let watcher = thread::spawn(move || beta.flush().map(|value| value.map(|on| *on)));
    /// flags.set("beta", true)?;
    /// assert_eq!(watcher.join().unwrap(), Ok(Some(true)));
    /// # Ok::<(), state_dictionary::UpdateError<&str, bool>>(())
    /// ```
    pub fn flush(&self) -> Result<Option<Versioned<V>>, FlushError> {
        following::flush(self)
    }

    /// [`flush`](Self::flush), waiting for at most `timeout`. A timeout too long for the clock never ends.
    ///
    /// # Errors
    /// [`FlushTimeoutError::TimedOut`] if the time is over,
    /// [`FlushTimeoutError::Closed`] if nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{StateDictionary, FlushTimeoutError};
    /// use std::time::Duration;
    ///
    /// let flags: StateDictionary<&str, bool> = StateDictionary::new();
    /// let nothing = flags.watch_key("beta").flush_timeout(Duration::from_millis(1));
    /// assert_eq!(nothing, Err(FlushTimeoutError::TimedOut));
    /// ```
    pub fn flush_timeout(&self, timeout: Duration) -> Result<Option<Versioned<V>>, FlushTimeoutError> {
        following::flush_timeout(self, timeout)
    }

    /// Delivers what is pending, without waiting.
    ///
    /// # Errors
    /// [`TryFlushError::Empty`] if nothing is pending,
    /// [`TryFlushError::Closed`] if nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{StateDictionary, TryFlushError};
    ///
    /// let flags: StateDictionary<&str, bool> = [("beta", true)].into();
    /// let beta = flags.watch_key("beta");
    /// assert!(beta.try_flush().is_ok_and(|value| value.is_some()));
    /// assert_eq!(beta.try_flush(), Err(TryFlushError::Empty));
    /// ```
    pub fn try_flush(&self) -> Result<Option<Versioned<V>>, TryFlushError> {
        following::try_flush(self)
    }

    /// Flushes repeatedly, with at least `interval` between the end of one delivery and the next; 0 is no limit. See
    /// [`ChangeBuffer::subscribe`](crate::ChangeBuffer::subscribe).
    pub fn subscribe(&self, interval: Duration) -> Subscription<&Self> {
        Subscription::new(self, interval)
    }

    /// Closes this feed, from any thread: the value that the key has at this moment is delivered, if it was not before,
    /// and then nothing more.
    ///
    /// Returns whether this call closed it: `false` if it was closed before or the dictionary has ended. Wakes waiters
    /// in a flush of it.
    ///
    /// ```
    /// use state_dictionary::{FlushError, StateDictionary};
    /// use std::thread;
    ///
    /// let flags: StateDictionary<&str, bool> = StateDictionary::new();
    /// let beta = flags.watch_key("beta");
    /// thread::scope(|scope| {
    ///     let watcher = scope.spawn(|| beta.flush());
    ///     assert!(beta.close());
    ///     assert_eq!(watcher.join().unwrap(), Err(FlushError));
    /// });
    /// assert!(beta.is_closed());
    /// ```
    pub fn close(&self) -> bool {
        let Some(published) = self.source() else { return false };
        let mut state = self.state.lock();
        // With the lock held, so that no flush delivers a later value in between.
        let (root, deferred) = defer_drops(|| published.load());
        let closes = matches!(state.source, Source::Open(_)) && !root.frozen;
        let open = closes.then(|| {
            let last = root.content.get(&self.key).cloned();
            mem::replace(&mut state.source, Source::Closed(last))
        });
        drop(state);
        if closes {
            published.wakeups.changed.notify_all();
            published.wakeups.ended.notify_all();
        }
        let settling = root.shared().settle_later(deferred);
        drop(open);
        drop(settling);
        closes
    }
}

impl<K: Eq, V, S> Feed for KeyFeed<K, V, S> {
    type Delivery = Option<Versioned<V>>;
}

impl<K: Eq, V, S> Looks for KeyFeed<K, V, S> {
    type Found = Option<Versioned<V>>;

    fn look(&self) -> Found<Option<Versioned<V>>> {
        // Declared before the lock is taken, so that they are dropped after it is released, also when unwinding.
        let (root, value, _settling, _ended);
        let mut state = self.state.lock();
        // Loaded with the lock held, so that of two flushes the later does not have the older root.
        let last = match &state.source {
            Source::Open(published) => {
                let deferred;
                (root, deferred) = defer_drops(|| published.load());
                _settling = root.shared().settle_later(deferred);
                value = root.content.get(&self.key).cloned();
                root.frozen
            }
            Source::Closed(closed) => {
                value = closed.clone();
                true
            }
            Source::Ended => return Some(Err(FlushError)),
        };
        if last {
            _ended = mem::replace(&mut state.source, Source::Ended);
        }
        let revision = value.as_ref().map(Versioned::revision);
        if mem::replace(&mut state.delivered, revision) != revision {
            return Some(Ok(value));
        }
        last.then_some(Err(FlushError))
    }

    #[allow(private_interfaces)]
    fn waits(&self) -> Option<Waits> {
        Some(Waits::of(&*self.source()?, |wakeups| &wakeups.changed))
    }

    fn is_over(&self) -> bool {
        self.is_closed()
    }
}

// A panic of a key's `Eq` leaves the feed as it was.
impl<K, V, S> UnwindSafe for KeyFeed<K, V, S> {}
impl<K, V, S> RefUnwindSafe for KeyFeed<K, V, S> {}

impl<K: fmt::Debug, V, S> fmt::Debug for KeyFeed<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFeed").field("key", self.key()).field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
