//! The feed of locks that come and go. Here, and not among the other feeds, for it looks at the table as well as at the root.

use crate::commit::{Published, Reader};
use crate::content::{Record, Root};
use crate::deferred_drops::defer_drops;
use crate::engine::Engine;
use crate::error::FlushError;
use crate::event::{LockChange, LockEvent, LockRecord, token};
use crate::locks::LockInfo;
use crate::revision::{FencingToken, Revision};
use crate::sync::DefaultHashBuilder;
use crate::wake::{self, Look};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// Follows the locks: first all there are, then what is granted, released, expired or cleared, in order and without a gap.
///
/// The dictionary keeps as many events as it was told with [`Builder::lock_history_limit`](crate::Builder::lock_history_limit). A feed that
/// has fallen further behind is given all locks anew, and so is every feed each time, if none are to be kept.
///
/// A lock that runs out is an event even if nobody touches its key: whoever waits in [`flush`](Self::flush) wakes up at its
/// deadline and takes it away. Where nobody waits, [`StateDictionary::expire`](crate::StateDictionary::expire) does. (A lease
/// that is renewed for a shorter time wakes those who wait for the longer one.) Renewals are no events.
///
/// Nothing that happens after the dictionary was frozen or dropped is delivered: what happened before is, and then every flush
/// says [`FlushError::Closed`]. So does one that would have to begin anew.
///
/// A flush that waits is ended by the end of the dictionary only; whoever wants to stop earlier uses
/// [`flush_timeout`](Self::flush_timeout) or, in async code, drops the future.
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(1000).build();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
/// let mut feed = dictionary.lock_feed();
/// match feed.flush()? {
///     LockDelivery::Full { locks, .. } => assert_eq!(locks[0].1.owner, "alice"),
///     LockDelivery::Events(_) => unreachable!("the first delivery is everything"),
/// }
/// dictionary.update_locks(&"alice", LockRequest::new().release("ball"))?;
/// match feed.flush()? {
///     LockDelivery::Events(events) => assert_eq!(events[0].kind, LockEventKind::Released),
///     LockDelivery::Full { .. } => unreachable!("it has not fallen behind"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LockFeed<K, V, T = (), S = DefaultHashBuilder> {
    /// `None` when it has ended: it keeps nothing alive then.
    pub(crate) engine: Option<Engine<K, V, T, S>>,
    reader: Option<Reader<K, V, S>>,
    /// The version up to which everything was delivered.
    cursor: Option<u64>,
}

/// What a [`LockFeed`] delivers.
///
/// ```
/// use state_dictionary::{LockDelivery, LockEventKind, LockRequest, StateDictionary};
/// use std::collections::HashMap;
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
/// let (mut feed, mut owners) = (dictionary.lock_feed(), HashMap::new());
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
    /// All locks at one instant: the first delivery, and what follows when events were missed.
    Full {
        /// The version at which locks last came or went; all later events have greater ones.
        version: u64,
        /// The latest commit at that instant.
        revision: Revision,
        /// The locks, in no particular order. One that runs out at that very instant may be among them, with no time
        /// remaining; its end is told next.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
        locks: Vec<(K, LockInfo<T>)>,
    },
    /// What happened since the delivery before, oldest first. Never empty.
    Events(Vec<LockEvent<K, T>>),
}

impl<K, V, T, S> LockFeed<K, V, T, S> {
    pub(crate) fn new(engine: Engine<K, V, T, S>, reader: Reader<K, V, S>) -> Self {
        Self { engine: Some(engine), reader: Some(reader), cursor: None }
    }

    fn end<D>(&mut self) -> Result<D, FlushError> {
        (self.engine, self.reader) = (None, None);
        Err(FlushError::Closed)
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq + 'static, S: BuildHasher> LockFeed<K, V, T, S> {
    /// Waits until a lock comes or goes and delivers all that happened; the first time, all locks there are, at once.
    ///
    /// O(n) in the number of events; O(n) in that of all locks if all of them are delivered, or if a lock has run out: then it
    /// may wait for threads that are updating locks.
    ///
    /// # Errors
    /// [`FlushError::Closed`] if everything was delivered and nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{LockDelivery, LockRequest, StateDictionary};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let mut feed = dictionary.lock_feed();
    /// feed.flush()?; // at once: all locks, of which there are none
    /// let watcher = thread::spawn(move || feed.flush());
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(watcher.join().unwrap()?, LockDelivery::Events(events) if events[0].key == "ball"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&mut self) -> Result<LockDelivery<K, T>, FlushError> {
        self.flush_for(None)
    }

    /// [`flush`](Self::flush), waiting at most `timeout`. One too long for the clock never ends.
    ///
    /// # Errors
    /// [`FlushError::Empty`] if the time has passed, [`FlushError::Closed`] if nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{FlushError, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let mut feed = dictionary.lock_feed();
    /// assert!(feed.flush().is_ok(), "at once: there are no locks");
    /// let nothing = feed.flush_timeout(Duration::from_millis(1));
    /// assert_eq!(nothing.unwrap_err(), FlushError::Empty);
    /// ```
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<LockDelivery<K, T>, FlushError> {
        self.flush_for(Some(timeout))
    }

    /// Delivers what has happened, without waiting for anything to happen. Locks that have run out are taken away first.
    ///
    /// # Errors
    /// [`FlushError::Empty`] if nothing has, [`FlushError::Closed`] if nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{FlushError, LockDelivery, LockRequest, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
    /// let mut feed = dictionary.lock_feed();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(feed.try_flush()?, LockDelivery::Full { locks, .. } if locks.len() == 1));
    /// assert_eq!(feed.try_flush(), Err(FlushError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_flush(&mut self) -> Result<LockDelivery<K, T>, FlushError> {
        self.pending().unwrap_or(Err(FlushError::Empty))
    }

    fn flush_for(&mut self, timeout: Option<Duration>) -> Result<LockDelivery<K, T>, FlushError> {
        let Some(engine) = self.engine.clone() else { return Err(FlushError::Closed) };
        let Published { wakeups, clock, .. } = &*engine.published;
        let deadline = timeout.and_then(|timeout| clock.now().checked_add(timeout));
        wake::wait_for_look(&wakeups.locks, clock, || match self.pending() {
            Some(answer) => Look::Found(answer),
            None if deadline.is_some_and(|deadline| clock.now() >= deadline) => Look::Found(Err(FlushError::Empty)),
            None => Look::Until([deadline, engine.locks.next_deadline()].into_iter().flatten().min()),
        })
    }

    /// What a flush at this moment answers, or `None` if it has to wait.
    pub(crate) fn pending(&mut self) -> Option<Result<LockDelivery<K, T>, FlushError>> {
        let Some(engine) = &self.engine else { return Some(Err(FlushError::Closed)) };
        let Engine { published, locks, .. } = engine;
        locks.expire(&published.clock, &mut engine.fence());
        let root = published.load();
        if self.cursor == Some(root.lock_version) {
            return root.frozen.then(|| self.end());
        }
        if let Some(events) = self.cursor.and_then(|cursor| events_after(&root, cursor)) {
            let version = root.lock_version;
            // Before the feed moves: a destructor of the user's may panic.
            drop(root);
            self.cursor = Some(version);
            return Some(Ok(LockDelivery::Events(events)));
        }
        // Others' roots may be let go of in a load, and shards are locked.
        let (locks, (root, deferred)) = locks.all_with(&published.clock, || defer_drops(|| published.load()));
        published.settle(deferred);
        if root.frozen {
            // Locks may have been released since, of which nothing is told.
            return Some(self.end());
        }
        if let (Some(cursor), Some(_)) = (self.cursor, engine.settings.lock_events) {
            published.shared().observed.lagged_lock_events(cursor, root.lock_version);
        }
        let (version, revision) = (root.lock_version, root.revision);
        drop(root);
        self.cursor = Some(version);
        Some(Ok(LockDelivery::Full { version, revision, locks }))
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
        f.debug_struct("LockFeed").field("version", &self.cursor).finish_non_exhaustive()
    }
}
