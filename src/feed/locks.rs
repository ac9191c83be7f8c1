//! The feed of lock events. It looks at the lock table as well as at the root.

use super::cursor::{Cursor, End};
use super::following::sealed::{Source, Waits};
use super::following::{self, Found};
use super::{Feed, FeedOptions, Subscription};
use crate::commit::{Published, Reader};
use crate::content::{Record, Root};
use crate::deferred_drops::defer_drops;
use crate::engine::Engine;
use crate::error::{FlushError, FlushTimeoutError, TryFlushError};
use crate::event::{LockChange, LockEvent, LockRecord, token};
use crate::locks::LockInfo;
use crate::position::{LockPosition, StoreId};
use crate::revision::{FencingToken, Revision};
use crate::sync::{self, DefaultHashBuilder};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Follows the locks: first all locks, then those that are granted, released, expired or cleared, in order and without
/// a gap.
///
/// The dictionary keeps at least [`Builder::lock_history_limit`](crate::Builder::lock_history_limit) events. A feed
/// that lags further behind delivers all locks anew, and so does every delivery if no events are kept.
///
/// The expiry of a lock is an event even if no client touches its key: a waiter in [`flush`](Self::flush) wakes up at
/// the deadline and removes the lock. If no thread waits, [`StateDictionary::expire`](crate::StateDictionary::expire)
/// removes it. (Renewing a lease for a shorter time wakes the waiters for the longer one.) Renewals are no events.
///
/// Nothing that happens after the dictionary was frozen or dropped is delivered: what happened before is, and then
/// every flush returns [`FlushError`]. So does a feed that would have to deliver all locks anew.
///
/// A waiting flush ends with an event, by [`close`](Self::close), or with the dictionary. To limit the wait, use
/// [`flush_timeout`](Self::flush_timeout) or, in async code, drop the future.
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(1000).build();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
/// let feed = dictionary.lock_feed();
/// match feed.flush()? {
///     LockDelivery::Full { locks, .. } => assert_eq!(locks[0].1.owner, "alice"),
///     LockDelivery::Events(_) => unreachable!("the first delivery is everything"),
/// }
/// dictionary.update_locks(&"alice", LockRequest::new().release("ball"))?;
/// match feed.flush()? {
///     LockDelivery::Events(events) => assert_eq!(events[0].kind, LockEventKind::Released),
///     LockDelivery::Full { .. } => unreachable!("it has not lagged"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LockFeed<K, V, T = (), S = DefaultHashBuilder> {
    store: StoreId,
    /// The version up to which everything was delivered.
    cursor: Cursor<Option<u64>, Followed<K, V, T, S>, Arc<Root<K, V, S>>>,
}

struct Followed<K, V, T, S> {
    engine: Engine<K, V, T, S>,
    _reader: Reader<K, V, S>,
}

/// A delivery of a [`LockFeed`].
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, StateDictionary};
/// use std::collections::HashMap;
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
/// let (feed, mut owners) = (dictionary.lock_feed(), HashMap::new());
/// let mut follow = || match feed.try_flush() {
///     Ok(LockDelivery::Full { locks, .. }) => {
///         owners = locks.into_iter().map(|(key, lock)| (key, lock.owner)).collect();
///         owners.len()
///     }
///     Ok(LockDelivery::Events(events)) => {
///         for event in events {
///             match event.kind {
///                 LockEventKind::Granted => drop(owners.insert(event.key, event.owner)),
///                 _ => drop(owners.remove(event.key)),
///             }
///         }
///         owners.len()
///     }
///     Err(_) => owners.len(),
/// };
/// assert_eq!(follow(), 0);
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None).acquire("bat", None))?;
/// assert_eq!(follow(), 2);
/// dictionary.release_all(&"alice");
/// assert_eq!(follow(), 0);
/// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum LockDelivery<K, T> {
    /// All locks at one instant: the first delivery, and the next one after events were missed.
    Full {
        /// The version at which a lock was last granted or ended; all later events have greater ones.
        version: u64,
        /// The latest commit at that instant.
        revision: Revision,
        /// The locks, in no particular order. A lock that expires at that instant may be among them, with no time
        /// remaining; its end is delivered next.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
        locks: Vec<(K, LockInfo<T>)>,
    },
    /// What happened since the delivery before, oldest first. Never empty.
    Events(Vec<LockEvent<K, T>>),
}

impl<K, V, T, S> LockFeed<K, V, T, S> {
    pub(crate) fn new(engine: Engine<K, V, T, S>, reader: Reader<K, V, S>, options: FeedOptions<LockPosition>) -> Self {
        let (store, now) = engine.published.peek(|root| (root.shared().id, root.lock_version));
        let resume = options.resume.filter(|since| since.store == store && since.version <= now);
        Self { store, cursor: Cursor::new(resume.map(|since| since.version), Followed { engine, _reader: reader }) }
    }

    /// The last event that was delivered: a client keeps this position, to [resume](FeedOptions::resume) from it.
    #[must_use]
    pub fn position(&self) -> LockPosition {
        LockPosition { store: self.store, version: self.cursor.at().unwrap_or_default() }
    }

    /// Whether nothing later will be delivered: the feed was closed, or the dictionary frozen or dropped. Something may
    /// still be pending.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.published().is_none_or(|published| published.peek(|root| root.frozen))
    }

    /// Closes this feed, from any thread: lock events before this moment are delivered, unless the feed would have to
    /// deliver all locks anew, and then nothing more.
    ///
    /// Returns whether this call closed it: `false` if it was closed before or the dictionary has ended. Wakes waiters
    /// in a flush or a subscription of it.
    ///
    /// ```
    /// use state_dictionary::{FlushError, StateDictionary};
    /// use std::thread;
    ///
    /// let room: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let feed = room.lock_feed();
    /// assert!(feed.flush().is_ok(), "all locks, of which there are none");
    /// thread::scope(|scope| {
    ///     let watcher = scope.spawn(|| feed.flush());
    ///     assert!(feed.close());
    ///     assert_eq!(watcher.join().unwrap(), Err(FlushError));
    /// });
    /// ```
    pub fn close(&self) -> bool {
        let Some(published) = self.published() else { return false };
        let (open, deferred) =
            defer_drops(|| self.cursor.close(|_| Some(published.load()).filter(|root| !root.frozen)));
        if open.is_some() {
            published.wakeups.locks.notify_all();
            published.wakeups.ended.notify_all();
        }
        published.settle(deferred);
        open.is_some()
    }

    pub(super) fn published(&self) -> Option<sync::Arc<Published<K, V, S>>> {
        self.cursor.source(|followed| sync::Arc::clone(&followed.engine.published))
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq + 'static, S: BuildHasher> LockFeed<K, V, T, S> {
    /// Waits until a lock is granted or ends and delivers all that happened; the first time, all locks, at once.
    ///
    /// O(n) in the number of events; O(n) in that of all locks if all of them are delivered, or if a lock has expired:
    /// then it may wait for threads that are updating locks.
    ///
    /// # Errors
    /// [`FlushError`] if everything was delivered and nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{LockDelivery, LockRequest, StateDictionary};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let feed = dictionary.lock_feed();
    /// feed.flush()?; // at once: all locks, of which there are none
    /// let watcher = thread::spawn(move || feed.flush());
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(watcher.join().unwrap()?, LockDelivery::Events(events) if events[0].key == "ball"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> Result<LockDelivery<K, T>, FlushError> {
        following::flush(self)
    }

    /// [`flush`](Self::flush), waiting for at most `timeout`. A timeout too long for the clock never ends.
    ///
    /// # Errors
    /// [`FlushTimeoutError`].
    ///
    /// ```
    /// use state_dictionary::{FlushTimeoutError, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let feed = dictionary.lock_feed();
    /// assert!(feed.flush().is_ok(), "at once: there are no locks");
    /// let nothing = feed.flush_timeout(Duration::from_millis(1));
    /// assert_eq!(nothing.unwrap_err(), FlushTimeoutError::TimedOut);
    /// ```
    pub fn flush_timeout(&self, timeout: Duration) -> Result<LockDelivery<K, T>, FlushTimeoutError> {
        following::flush_timeout(self, timeout)
    }

    /// Delivers what has happened, without waiting for an event. Expired locks are removed first.
    ///
    /// # Errors
    /// [`TryFlushError`].
    ///
    /// ```
    /// use state_dictionary::{LockDelivery, LockRequest, StateDictionary, TryFlushError};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let feed = dictionary.lock_feed();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(feed.try_flush()?, LockDelivery::Full { locks, .. } if locks.len() == 1));
    /// assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_flush(&self) -> Result<LockDelivery<K, T>, TryFlushError> {
        following::try_flush(self)
    }

    /// Flushes repeatedly, with at least `interval` between the end of one delivery and the next; 0 is no limit. See
    /// [`ChangeBuffer::subscribe`](crate::ChangeBuffer::subscribe). It does not remove expired locks during an
    /// interval.
    pub fn subscribe(&self, interval: Duration) -> Subscription<&Self> {
        Subscription::new(self, interval)
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq + 'static, S: BuildHasher> Feed for LockFeed<K, V, T, S> {
    type Delivery = LockDelivery<K, T>;
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq + 'static, S: BuildHasher> Source for LockFeed<K, V, T, S> {
    type Found = LockDelivery<K, T>;

    fn look(&self) -> Found<LockDelivery<K, T>> {
        loop {
            let (moves, cursor, end) = self.cursor.now(|followed| followed.engine.clone());
            let (root, engine) = match end {
                End::Open(engine) => {
                    if !engine.published.expires_on_request() {
                        engine.expire_locks();
                    }
                    (engine.published.load(), Some(engine))
                }
                End::At(root) => (root, None),
                End::Past => return Some(Err(FlushError)),
            };
            let last = engine.is_none() || root.frozen;
            if cursor == Some(root.lock_version) {
                if !last {
                    return None;
                }
                if self.cursor.end(moves) {
                    return Some(Err(FlushError));
                }
                continue;
            }
            if let Some(events) = cursor.and_then(|cursor| events_after(&root, cursor)) {
                let version = root.lock_version;
                // Before the feed moves: a destructor of the user's may panic.
                drop(root);
                if self.cursor.advance(moves, Some(version), last) {
                    return Some(Ok(LockDelivery::Events(events)));
                }
                continue;
            }
            let Some(Engine { published, locks, settings, .. }) = &engine else {
                if self.cursor.end(moves) {
                    return Some(Err(FlushError));
                }
                continue;
            };
            // The load may drop roots of other threads, and shards are locked.
            let (locks, (root, deferred)) = locks.all_with(published.leases(), || defer_drops(|| published.load()));
            published.settle(deferred);
            if root.frozen {
                // Locks may have been released since, which is not reported.
                if self.cursor.end(moves) {
                    return Some(Err(FlushError));
                }
                continue;
            }
            let (version, revision) = (root.lock_version, root.revision);
            drop(root);
            if self.cursor.advance(moves, Some(version), false) {
                if let (Some(cursor), Some(_)) = (cursor, settings.lock_events) {
                    published.shared().observed.lagged_lock_events(cursor, version);
                }
                return Some(Ok(LockDelivery::Full { version, revision, locks }));
            }
        }
    }

    #[allow(private_interfaces)]
    fn waits(&self) -> Option<Waits> {
        Some(Waits::of(&*self.published()?, |wakeups| &wakeups.locks))
    }

    fn is_over(&self) -> bool {
        self.is_closed()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let next = |Followed { engine, .. }: &Followed<K, V, T, S>| {
            if engine.published.expires_on_request() { None } else { engine.locks.next_deadline() }
        };
        self.cursor.source(next).flatten()
    }
}

/// The events after a version, oldest first, or `None` if the root does not have all of them.
fn events_after<K: Clone, V, T: Clone + 'static, S>(root: &Root<K, V, S>, cursor: u64) -> Option<Vec<LockEvent<K, T>>> {
    let mut records: Vec<_> = root.lock_history.as_deref()?.after(cursor)?.collect();
    records.reverse();
    let events = records.into_iter().flat_map(|record| {
        let Record { at: version, what: LockRecord { revision, changes }, .. } = record;
        changes.iter().map(|LockChange { kind, key, owner, granted }| LockEvent {
            version: *version,
            revision: *revision,
            kind: *kind,
            key: key.clone(),
            owner: token(owner),
            fencing_token: granted.unwrap_or(FencingToken(*version)),
        })
    });
    Some(events.collect())
}

// A panic of a `Clone` leaves the feed where it was: it moves when everything is cloned.
impl<K, V, T, S> UnwindSafe for LockFeed<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for LockFeed<K, V, T, S> {}

impl<K, V, T, S> fmt::Debug for LockFeed<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockFeed").field("version", &self.cursor.at()).finish_non_exhaustive()
    }
}
