//! A buffer: a cursor, and the content it last delivered.

use super::difference::Difference;
use super::following::sealed::{Source, Waits};
use super::following::{self, Found};
use super::options::Wanted;
use super::{BufferOptions, Delivery, Feed, Subscription};
use crate::commit::Published;
use crate::content::{Content, Root};
use crate::deferred_drops::{Deferred, defer_drops};
use crate::error::{FlushError, FlushTimeoutError, TryFlushError};
use crate::observe::Following;
use crate::position::{Position, StoreId};
use crate::revision::Revision;
use crate::sync::{self, DefaultHashBuilder, Mutex};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Follows the dictionary: each flush delivers what has changed since the one before, merged to the latest value of
/// each key.
///
/// The first flush delivers the whole content. A key that is set and removed between two flushes is not delivered,
/// unless the [options](BufferOptions) ask for it. When the dictionary is frozen or dropped, or the buffer is
/// [closed](Self::close), what is still pending is delivered once, and then every flush returns [`FlushError`].
///
/// # Cost
/// A flush only finds out whether there is anything to deliver. The [`Delivery`] looks it up while it is iterated, in
/// the time of what was touched since the last flush. A buffer that lags by more than the [history
/// limit](crate::Builder::history_limit) catches up by comparing the content that it saw last with the present one, in
/// the time of both: slower, and as exact. However slow a buffer is, it keeps alive only the content that it saw last
/// and what the dictionary itself has. A closed one keeps the content that it ends with in place of the dictionary's;
/// one that has ended keeps nothing. The next flush drops the content of the last, which takes what dropping a
/// [`Snapshot`](crate::Snapshot) takes. Writers do no work for a buffer, except to wake a thread that waits in `flush`;
/// but the first commits after a flush copy what it keeps.
///
/// # Threads
/// A buffer can be shared. If several threads flush it, each change is delivered to one of them, and a flush may wait
/// for another one that is looking. It owns what it needs and may outlive the dictionary. A leaked buffer keeps its
/// memory and has no other effect.
///
/// ```
/// use state_dictionary::{Change, FlushError, StateDictionary, TryFlushError};
///
/// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
/// let buffer = dictionary.change_buffer();
/// assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
///
/// dictionary.update_state(&0, Change::new().set("a", 1).set("b", 1))?;
/// dictionary.update_state(&0, Change::new().set("a", 2).remove("b"))?;
/// let delivery = buffer.flush()?;
/// let updates: Vec<_> = delivery.updates().map(|(key, entry)| (key.as_str(), **entry)).collect();
/// assert_eq!(updates, [("a", 2)]);
/// assert_eq!(delivery.removals().len(), 0, "b was never delivered");
///
/// dictionary.freeze();
/// assert_eq!(buffer.flush().unwrap_err(), FlushError);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChangeBuffer<K, V, S = DefaultHashBuilder> {
    store: StoreId,
    wanted: Wanted<K>,
    state: Mutex<State<K, V, S>>,
    following: Following,
}

struct State<K, V, S> {
    /// The revision up to which all commits were looked at; before the first look, the one after which the next
    /// delivery's removals are counted.
    cursor: Revision,
    /// The content at the cursor; `None` before the first look and after the end.
    seen: Option<Content<K, V>>,
    /// Where the last delivery ended.
    delivered: Revision,
    /// What a client has that has received all deliveries. Of a flush that found nothing, all the content at that time.
    reached: Revision,
    next: Next,
    end: End<K, V, S>,
}

/// What the next delivery is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The whole content, once there is any.
    Full,
    /// The whole content, even if there is none: a client that wants to resume must learn that it cannot.
    FullAtOnce,
    /// What changed since the cursor.
    Difference,
    /// The same, if the history still reaches it; otherwise the whole content, even if there is none. The buffer was made at this
    /// revision.
    DifferenceIfPossible { made: Revision },
}

/// The root that the buffer ends with.
enum End<K, V, S> {
    /// The root that the dictionary ends with.
    Open(sync::Arc<Published<K, V, S>>),
    /// This root, of the moment at which the buffer was closed.
    At(Arc<Root<K, V, S>>),
    /// The end was delivered. An ended buffer keeps nothing alive.
    Past,
}

impl<K, V, S> ChangeBuffer<K, V, S> {
    pub(crate) fn new(published: sync::Arc<Published<K, V, S>>, options: BufferOptions<K>) -> Self {
        let now = published.peek(Root::position);
        let (next, cursor, delivered) = match options.resume {
            None => (Next::Full, now.revision, Revision::ZERO),
            Some(seen) if seen.store == now.store && seen.revision <= now.revision => {
                (Next::DifferenceIfPossible { made: now.revision }, seen.revision, seen.revision)
            }
            Some(_) => (Next::FullAtOnce, now.revision, Revision::ZERO),
        };
        let following = published.shared().observed.follow(cursor);
        let end = End::Open(published);
        let state = State { cursor, seen: None, delivered, reached: delivered, next, end };
        Self { store: now.store, wanted: options.wanted, state: Mutex::new(state), following }
    }

    /// Closes this buffer, from any thread: what was committed before this moment is delivered once, then nothing more.
    ///
    /// Returns whether this call closed it: `false` if it was closed before or the dictionary has ended. Wakes waiters
    /// in a flush or a subscription of it. May wait for a flush of this buffer that is looking, not for one that
    /// sleeps.
    ///
    /// ```
    /// use state_dictionary::{Change, FlushError, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// dictionary.update_state(&(), Change::new().set("a", 1)).unwrap();
    /// assert!(buffer.close()); // a client has disconnected; mostly from another thread
    /// dictionary.update_state(&(), Change::new().set("a", 2)).unwrap();
    /// let delivery = buffer.flush().unwrap();
    /// assert_eq!(**delivery.updates().next().unwrap().1, 1, "what was committed before");
    /// assert_eq!(buffer.flush().unwrap_err(), FlushError);
    /// ```
    #[doc(alias = "freeze")]
    pub fn close(&self) -> bool {
        let Some(published) = self.source() else { return false };
        let mut state = self.state.lock();
        // With the lock held, so that no flush delivers a later root in between.
        let (root, deferred) = defer_drops(|| published.load());
        let frozen = matches!(state.end, End::Open(_)) && !root.frozen;
        let open = frozen.then(|| {
            self.following.ends_at(root.revision);
            mem::replace(&mut state.end, End::At(Arc::clone(&root).into_kept()))
        });
        drop(state);
        if frozen {
            published.wakeups.changed.notify_all();
            published.wakeups.ended.notify_all();
        }
        let settling = root.shared().settle_later(deferred);
        drop(open);
        drop(settling);
        frozen
    }

    /// What the buffer follows, as long as it has not ended.
    pub(super) fn source(&self) -> Option<sync::Arc<Published<K, V, S>>> {
        if let End::Open(published) = &self.state.lock().end { Some(sync::Arc::clone(published)) } else { None }
    }

    /// The position of a client that has applied all deliveries: the client keeps it, to
    /// [resume](BufferOptions::resume) from it. Before the first flush it is where the buffer began: at
    /// [`Revision::ZERO`], or at the position that it resumes from.
    ///
    /// Every flush moves it to the revision that it looks at, also a flush that finds nothing to deliver. So it is
    /// later than the end of the last delivery if the commits since had nothing to deliver.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let cursors = dictionary.change_buffer_with(BufferOptions::new().prefixes(["cursor."]));
    /// dictionary.update_state(&(), Change::new().set("drawing", 1))?;
    /// assert!(cursors.try_flush().is_err());
    /// assert_eq!(cursors.position(), dictionary.position(), "the commits had nothing to deliver, and were looked at");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    pub fn position(&self) -> Position {
        Position { store: self.store, revision: self.state.lock().reached }
    }

    /// Whether no later commit will be delivered: the buffer was closed, or the dictionary frozen or dropped. Something
    /// may still be pending.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// dictionary.update_state(&(), Change::new().set("a", 1)).unwrap();
    /// drop(dictionary);
    /// assert!(buffer.is_closed() && buffer.flush().is_ok());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.source().is_none_or(|published| published.peek(|root| root.frozen))
    }
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher> ChangeBuffer<K, V, S> {
    /// Waits until something is pending and delivers it.
    ///
    /// # Errors
    /// [`FlushError`] if everything was delivered and nothing more can come.
    ///
    /// # Panics
    /// If a key's `Clone`, `Hash` or `Eq` panics, or the `Drop` of a value of the content delivered before. The next
    /// call then delivers what this one would have.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// let watcher = thread::spawn(move || buffer.flush().map(|delivery| delivery.count()));
    /// dictionary.update_state(&(), Change::new().set("a", 1)).unwrap();
    /// assert_eq!(watcher.join().unwrap(), Ok(1));
    /// ```
    #[doc(alias = "flush_changed_blocking")]
    pub fn flush(&self) -> Result<Delivery<K, V, S>, FlushError> {
        following::flush(self)
    }

    /// [`flush`](Self::flush), waiting for at most `timeout`. A timeout too long for the clock never ends.
    ///
    /// # Errors
    /// [`FlushTimeoutError::TimedOut`] if the time is over,
    /// [`FlushTimeoutError::Closed`] if nothing more can come.
    ///
    /// # Panics
    /// As [`flush`](Self::flush).
    ///
    /// ```
    /// use state_dictionary::{StateDictionary, FlushTimeoutError};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// let nothing = buffer.flush_timeout(Duration::from_millis(1)); // time to send a keep-alive message instead
    /// assert_eq!(nothing.unwrap_err(), FlushTimeoutError::TimedOut);
    /// ```
    pub fn flush_timeout(&self, timeout: Duration) -> Result<Delivery<K, V, S>, FlushTimeoutError> {
        following::flush_timeout(self, timeout)
    }

    /// Delivers what is pending, without waiting.
    ///
    /// # Errors
    /// [`TryFlushError::Empty`] if nothing is pending,
    /// [`TryFlushError::Closed`] if nothing more can come.
    ///
    /// # Panics
    /// As [`flush`](Self::flush).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let buffers = [dictionary.change_buffer(), dictionary.change_buffer()];
    /// dictionary.update_state(&(), Change::new().set("a", 1)).unwrap();
    /// // One thread serves many clients.
    /// let deliveries = buffers.iter().filter_map(|buffer| buffer.try_flush().ok());
    /// assert_eq!(deliveries.count(), 2);
    /// ```
    pub fn try_flush(&self) -> Result<Delivery<K, V, S>, TryFlushError> {
        following::try_flush(self)
    }

    /// Flushes repeatedly, with at least `interval` between the end of one delivery and the next; 0 is no limit.
    ///
    /// The iterator waits as [`flush`](Self::flush) does and ends with the feed. The first delivery does not wait for the
    /// interval, and there is no burst after a pause. While it sleeps in its interval, commits do not wake it; the end of
    /// the feed does, and then what is pending comes at once.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::{thread, time::Duration};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// let watcher = thread::spawn(move || {
    ///     let deliveries = buffer.subscribe(Duration::from_millis(33));
    ///     deliveries.last().map(|delivery| delivery.revision())
    /// });
    /// for number in 1..=100 {
    ///     dictionary.update_state(&(), Change::new().set("a", number)).unwrap();
    /// }
    /// drop(dictionary);
    /// assert_eq!(watcher.join().unwrap().map(u64::from), Some(100), "in far fewer deliveries");
    /// ```
    #[doc(alias = "subscribe_changes")]
    #[doc(alias = "subscribe_updates")]
    pub fn subscribe(&self, interval: Duration) -> Subscription<&Self> {
        Subscription::new(self, interval)
    }
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher> Feed for ChangeBuffer<K, V, S> {
    type Delivery = Delivery<K, V, S>;
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher> Source for ChangeBuffer<K, V, S> {
    type Found = Delivery<K, V, S>;

    fn look(&self) -> Found<Delivery<K, V, S>> {
        // Declared before the lock is taken, so that they are dropped after it is released, also when a key's `Eq`
        // panics.
        let (root, difference, settling, deferred);
        let mut outdated = (None, None);
        let mut state = self.state.lock();
        // One root per flush, so that everything in a delivery is of one instant; and loaded with the lock held, so that
        // of two flushes the later does not have the older root.
        let last = match &state.end {
            End::Open(published) => {
                (root, deferred) = defer_drops(|| published.load());
                root.frozen
            }
            End::At(end) => {
                (root, deferred) = (Arc::clone(end), Deferred::default());
                true
            }
            End::Past => return Some(Err(FlushError)),
        };
        let shared = root.shared();
        settling = shared.settle_later(deferred);
        let (cursor, to) = (state.cursor, root.revision);
        let since = match (&state.seen, state.next) {
            (None, Next::Full | Next::FullAtOnce) => None,
            (seen, _) => Difference::since(Arc::clone(&root), cursor, seen.as_ref(), &self.wanted),
        };
        let refused = since.is_none() && state.next != Next::Full;
        let made = if let Next::DifferenceIfPossible { made } = state.next { made } else { cursor };
        difference = since.unwrap_or_else(|| Difference::everything(Arc::clone(&root), made, &self.wanted));
        let nothing = difference.is_empty() && !refused;
        // The whole content, also if there was nothing to deliver of what was looked at before.
        let full = refused || state.next == Next::Full;

        let before = Before { buffer: self, root: &root, cursor, delivered: state.delivered, next: state.next, last };
        // What is replaced is dropped after the lock is released: a value's `Drop` may flush this buffer.
        if last || cursor != to || state.seen.is_none() {
            let seen = (!last).then(|| root.follow());
            outdated.0 = mem::replace(&mut state.seen, seen);
            self.following.reached(to);
        }
        if last {
            outdated.1 = Some(mem::replace(&mut state.end, End::Past));
        }
        (state.cursor, state.reached) = (to, to);
        let from = if full { Revision::ZERO } else { state.delivered };
        if !nothing {
            state.delivered = to;
        }
        if !nothing || state.next != Next::Full {
            state.next = Next::Difference;
        }
        drop(state);
        drop(outdated);
        drop(settling);
        mem::forget(before);
        if difference.is_compared() {
            shared.observed.caught_up(cursor, to);
        }
        if refused {
            shared.observed.could_not_resume(to);
        }
        match (nothing, last) {
            (false, _) => Some(Ok(Delivery { since: from, full, difference: difference.into_kept() })),
            (true, true) => Some(Err(FlushError)),
            (true, false) => None,
        }
    }

    #[allow(private_interfaces)]
    fn waits(&self) -> Option<Waits> {
        Some(Waits::of(&*self.source()?, |wakeups| &wakeups.changed))
    }

    fn is_over(&self) -> bool {
        self.is_closed()
    }
}

/// The position of a buffer before a look. If this is dropped, because what the buffer kept panics when it is dropped,
/// the buffer goes back to that position, so that nothing is lost, unless another thread has looked since.
struct Before<'a, K, V, S> {
    buffer: &'a ChangeBuffer<K, V, S>,
    root: &'a Arc<Root<K, V, S>>,
    cursor: Revision,
    delivered: Revision,
    next: Next,
    last: bool,
}

impl<K, V, S> Drop for Before<'_, K, V, S> {
    fn drop(&mut self) {
        let Self { buffer, root, cursor, delivered, next, last } = *self;
        let mut state = buffer.state.lock();
        if state.cursor != root.revision {
            return;
        }
        // The content that it had seen is dropped, so it continues as a client that resumes.
        let seen = state.seen.take();
        (state.cursor, state.reached, state.delivered) = (cursor, cursor, delivered);
        state.next = if next == Next::Difference { Next::DifferenceIfPossible { made: cursor } } else { next };
        if last {
            state.end = End::At(Arc::clone(root));
        }
        drop(state);
        // The root has it too, so no value is dropped with it.
        drop(seen);
    }
}

// A panic of the user's code leaves the buffer as it was.
impl<K, V, S> UnwindSafe for ChangeBuffer<K, V, S> {}
impl<K, V, S> RefUnwindSafe for ChangeBuffer<K, V, S> {}

impl<K, V, S> fmt::Debug for ChangeBuffer<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delivered = self.state.lock().delivered;
        f.debug_struct("ChangeBuffer")
            .field("delivered", &delivered)
            .field("ended", &self.is_closed())
            .finish_non_exhaustive()
    }
}
