//! The feed of single commits.

use super::cursor::{Cursor, End};
use super::following::sealed::{Source, Waits};
use super::following::{self, Found};
use super::{Feed, FeedOptions, Subscription};
use crate::change::Change;
use crate::commit::{Published, Reader};
use crate::content::{Logged, Root};
use crate::deferred_drops::defer_drops;
use crate::error::{FlushError, FlushTimeoutError, TryFlushError};
use crate::event::token;
use crate::position::{Position, StoreId};
use crate::revision::Revision;
use crate::sync::{self, DefaultHashBuilder};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Follows the dictionary commit by commit: none is merged with another, and each comes with the token of its writer.
///
/// For recorders and mirrors, and for clients that skip the echo of their own changes. To follow the latest value of
/// every key, a [`ChangeBuffer`](crate::ChangeBuffer) is better: it misses nothing however far it lags.
///
/// The dictionary must have been built with [`Builder::commit_history`](crate::Builder::commit_history). It keeps at
/// least the latest commits whose operations sum up to the [history limit](crate::Builder::history_limit), and at most
/// twice that; a commit of more operations than the limit is not kept, nor is any before it. A feed that lags further
/// behind reports which commits it missed. Initial content is no commit with a token, and is reported as missed.
///
/// A feed adds no work to a commit, except to wake waiters in a flush. It owns what it needs and may outlive the
/// dictionary; leaking it has no other effect. It can be shared: if several threads flush it, each commit is delivered
/// to one of them.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::builder().commit_history(true).build();
/// let feed = dictionary.commit_feed();
/// dictionary.update_state(&"alice", Change::new().set("a", 1))?;
/// dictionary.update_state(&"bob", Change::new().set("a", 2))?;
///
/// let delivery = feed.flush()?;
/// assert!(delivery.lagged.is_none());
/// let not_mine: Vec<_> = delivery.commits.iter().filter(|commit| commit.token != "alice").collect();
/// assert_eq!(not_mine.len(), 1);
/// assert_eq!(not_mine[0].change, Change::new().set("a", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CommitFeed<K, V, T = (), S = DefaultHashBuilder> {
    store: StoreId,
    cursor: Cursor<At, Reader<K, V, S>, Arc<Root<K, V, S>>>,
    token: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy)]
struct At {
    revision: Revision,
    /// Whether the feed could not begin where it was to, which has yet to be reported.
    full: bool,
}

/// A delivery of a [`CommitFeed`]. The deliveries of one feed join without a gap, except for those that `lagged`
/// reports.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let dictionary: StateDictionary<u32, i32, ()> = StateDictionary::builder().commit_history(true).history_limit(2).build();
/// let feed = dictionary.commit_feed();
/// for key in 0..5_u32 {
///     dictionary.update_state(&(), Change::new().set(key, 1))?;
/// }
/// let delivery = feed.flush().unwrap();
/// let (after, to) = delivery.lagged.unwrap();
/// assert_eq!((after.get(), to.get()), (0, 2), "the history reaches back to commit 3");
/// assert_eq!(delivery.commits.len(), 3);
/// # Ok::<(), state_dictionary::UpdateError<u32, i32, ()>>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CommitDelivery<K, V, T = ()> {
    /// Whether the feed was to resume from a position of another dictionary, or from one that lies in the future, and
    /// begins at the beginning instead. Only in a first delivery, which then comes at once.
    pub full: bool,
    /// Commits that the dictionary no longer has: those after the first of these revisions, up to and including the
    /// second. They came before all of `commits`.
    pub lagged: Option<(Revision, Revision)>,
    /// The commits, oldest first.
    #[cfg_attr(
        feature = "serde",
        serde(bound(
            serialize = "Commit<K, V, T>: serde::Serialize",
            deserialize = "Commit<K, V, T>: serde::Deserialize<'de>"
        ))
    )]
    pub commits: Vec<Commit<K, V, T>>,
}

/// One commit, as it was made.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().commit_history(true).build();
/// let feed = dictionary.commit_feed();
/// dictionary.update_state(&"alice", Change::new().set("a", 1).if_absent("a"))?;
/// let commit = feed.flush().unwrap().commits.remove(0);
/// assert_eq!((commit.revision.get(), commit.token), (1, "alice"));
/// assert_eq!(commit.change.conditions().len(), 0, "which held");
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Commit<K, V, T = ()> {
    /// Its revision.
    pub revision: Revision,
    /// The token of its writer.
    pub token: T,
    /// What it did, without its conditions.
    #[cfg_attr(
        feature = "serde",
        serde(bound(
            serialize = "Change<K, V>: serde::Serialize",
            deserialize = "Change<K, V>: serde::Deserialize<'de>"
        ))
    )]
    pub change: Change<K, V>,
}

impl<K, V, T, S> CommitFeed<K, V, T, S> {
    pub(crate) fn new(source: Reader<K, V, S>, options: FeedOptions<Position>) -> Self {
        let now = source.peek(Root::position);
        let after = options.resume.unwrap_or(now);
        let full = after.store != now.store || after.revision > now.revision;
        let revision = if full { Revision::ZERO } else { after.revision };
        Self { store: now.store, cursor: Cursor::new(At { revision, full }, source), token: PhantomData }
    }

    /// The last commit that was delivered or reported as missed: a recorder keeps it, to [resume](FeedOptions::resume)
    /// from it the next time. After a flush that found nothing it is the position of the dictionary that the flush
    /// looked at.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { store: self.store, revision: self.cursor.at().revision }
    }

    /// Whether no later commit will be delivered: the feed was closed, or the dictionary frozen or dropped. Something
    /// may still be pending.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.published().is_none_or(|published| published.peek(|root| root.frozen))
    }

    /// Closes this feed, from any thread: what was committed before this moment is delivered, and then nothing more.
    ///
    /// Returns whether this call closed it: `false` if it was closed before or the dictionary has ended. Wakes waiters
    /// in a flush or a subscription of it.
    ///
    /// ```
    /// use state_dictionary::{FlushError, StateDictionary};
    ///
    /// let stock: StateDictionary<u64, u32> = StateDictionary::builder().commit_history(true).build();
    /// let feed = stock.commit_feed();
    /// stock.set(3_u64, 5)?;
    /// assert!(feed.close()); // from another thread, mostly
    /// stock.set(3_u64, 4)?;
    /// assert_eq!(feed.flush()?.commits.len(), 1, "what was committed before");
    /// assert_eq!(feed.flush().unwrap_err(), FlushError);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) -> bool {
        let Some(published) = self.published() else { return false };
        let (open, deferred) =
            defer_drops(|| self.cursor.close(|_| Some(published.load()).filter(|root| !root.frozen)));
        if open.is_some() {
            published.wakeups.changed.notify_all();
            published.wakeups.ended.notify_all();
        }
        published.settle(deferred);
        open.is_some()
    }

    pub(super) fn published(&self) -> Option<sync::Arc<Published<K, V, S>>> {
        self.cursor.source(|reader| sync::Arc::clone(reader))
    }
}

impl<K: Clone, V, T: Clone + 'static, S> CommitFeed<K, V, T, S> {
    /// Waits for the next commit and delivers all that are pending. O(n) in their keys.
    ///
    /// # Errors
    /// [`FlushError`] if everything was delivered and nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().commit_history(true).build();
    /// let feed = dictionary.commit_feed();
    /// let recorder = thread::spawn(move || feed.flush());
    /// dictionary.update_state(&"alice", Change::new().set("a", 1))?;
    /// assert_eq!(recorder.join().unwrap()?.commits[0].token, "alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> Result<CommitDelivery<K, V, T>, FlushError> {
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
    /// let dictionary: StateDictionary<&str, i32> = StateDictionary::builder().commit_history(true).build();
    /// let nothing = dictionary.commit_feed().flush_timeout(Duration::from_millis(1));
    /// assert_eq!(nothing.unwrap_err(), FlushTimeoutError::TimedOut);
    /// ```
    pub fn flush_timeout(&self, timeout: Duration) -> Result<CommitDelivery<K, V, T>, FlushTimeoutError> {
        following::flush_timeout(self, timeout)
    }

    /// Delivers the pending commits, without waiting.
    ///
    /// # Errors
    /// [`TryFlushError`].
    ///
    /// ```
    /// use state_dictionary::{StateDictionary, TryFlushError};
    ///
    /// let dictionary: StateDictionary<&str, i32> = StateDictionary::builder().commit_history(true).build();
    /// let feed = dictionary.commit_feed();
    /// assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Empty);
    /// dictionary.set("a", 1).unwrap();
    /// dictionary.freeze();
    /// assert_eq!(feed.try_flush().unwrap().commits.len(), 1);
    /// assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Closed);
    /// ```
    pub fn try_flush(&self) -> Result<CommitDelivery<K, V, T>, TryFlushError> {
        following::try_flush(self)
    }

    /// Flushes repeatedly, with at least `interval` between the end of one delivery and the next; 0 is no limit. See
    /// [`ChangeBuffer::subscribe`](crate::ChangeBuffer::subscribe).
    pub fn subscribe(&self, interval: Duration) -> Subscription<&Self> {
        Subscription::new(self, interval)
    }
}

impl<K: Clone, V, T: Clone + 'static, S> Feed for CommitFeed<K, V, T, S> {
    type Delivery = CommitDelivery<K, V, T>;
}

impl<K: Clone, V, T: Clone + 'static, S> Source for CommitFeed<K, V, T, S> {
    type Found = CommitDelivery<K, V, T>;

    fn look(&self) -> Found<CommitDelivery<K, V, T>> {
        loop {
            let (moves, At { revision, full }, end) = self.cursor.now(|reader| sync::Arc::clone(reader));
            let (root, closed) = match end {
                End::Open(published) => (published.load(), false),
                End::At(root) => (root, true),
                End::Past => return Some(Err(FlushError)),
            };
            let last = closed || root.frozen;
            if root.revision <= revision && !full {
                if !last {
                    return None;
                }
                if self.cursor.end(moves) {
                    return Some(Err(FlushError));
                }
                continue;
            }
            let commits = commits_after(&root, revision);
            let first = commits.first().map_or(root.revision.0, |commit: &Commit<K, V, T>| commit.revision.0 - 1);
            let lagged = (revision.0 < first).then_some((revision, Revision(first)));
            let (to, shared) = (root.revision, Arc::clone(&root.shared));
            // Before the feed moves: a destructor of the user's may panic.
            drop(root);
            if self.cursor.advance(moves, At { revision: to, full: false }, last) {
                if let Some((after, up_to)) = lagged {
                    shared.observed.lagged_commits(after, up_to);
                }
                return Some(Ok(CommitDelivery { full, lagged, commits }));
            }
        }
    }

    #[allow(private_interfaces)]
    fn waits(&self) -> Option<Waits> {
        Some(Waits::of(&*self.published()?, |wakeups| &wakeups.changed))
    }

    fn is_over(&self) -> bool {
        self.is_closed()
    }
}

/// The commits after a revision that the root still has, oldest first.
fn commits_after<K: Clone, V, T: Clone + 'static, S>(root: &Root<K, V, S>, revision: Revision) -> Vec<Commit<K, V, T>> {
    let Some(history) = root.commits.as_deref() else { return Vec::new() };
    let records = history.after(revision.0.max(history.floor())).into_iter().flatten();
    let kept = records.map(|record| {
        let Logged { origin, change } = &*record.what;
        Commit { revision: Revision(record.at), token: token(origin), change: change.clone() }
    });
    let mut commits: Vec<_> = kept.collect();
    commits.reverse();
    commits
}

// A panic of a `Clone` leaves the feed where it was: it moves when everything is cloned.
impl<K, V, T, S> UnwindSafe for CommitFeed<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for CommitFeed<K, V, T, S> {}

impl<K, V, T, S> fmt::Debug for CommitFeed<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitFeed").field("revision", &self.cursor.at().revision).finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, V, T: fmt::Debug> fmt::Debug for CommitDelivery<K, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { full, lagged, commits } = self;
        f.debug_struct("CommitDelivery").field("full", full).field("lagged", lagged).field("commits", commits).finish()
    }
}

/// Shows the change's keys, not its values.
impl<K: fmt::Debug, V, T: fmt::Debug> fmt::Debug for Commit<K, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, token, change } = self;
        f.debug_struct("Commit").field("revision", revision).field("token", token).field("change", change).finish()
    }
}
