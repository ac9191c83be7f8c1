//! Awaiting what would otherwise block the thread: held content, a revision, locks that come and go.
//!
//! A commit made here never waits for its turn, for that would be to sleep. Where others are faster a few times in a poll, it
//! wakes itself and goes on in the next, and so does the caller's closure after each run.

use super::modification::{Effort, Making, Modification};
use super::write::Patience;
use super::{Engine, LockDelivery, LockFeed, Session, SessionSummary, StateDictionary};
use crate::change::Change;
use crate::content::{Hold, Revision, Snapshot};
use crate::error::{FlushError, UpdateError, WaitError};
use crate::sync::DefaultHashBuilder;
use crate::wake;
use futures_lite::future;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

impl<K, V, T, S> Engine<K, V, T, S> {
    /// Until nobody holds the content. If the dictionary is frozen, whoever waited must be told.
    pub(super) async fn until_let_go(&self) {
        let let_go = || self.published.peek(|root| root.frozen || root.held.is_none()).then_some(());
        wake::wait_async(&self.published.wakeups.gate, let_go).await;
    }

    /// Until it is worth to try again: in another poll, and when nobody holds the content.
    async fn until_another_poll(&self) {
        future::yield_now().await;
        self.until_let_go().await;
    }
}

impl<K, V, T, S> StateDictionary<K, V, T, S> {
    /// [`wait_for_revision`](Self::wait_for_revision), awaited. Needs the feature `async`.
    ///
    /// Cancel-safe: it changes nothing.
    ///
    /// # Errors
    /// [`WaitError::Frozen`] if the revision can no longer come.
    ///
    /// ```
    /// use futures_lite::future;
    /// use state_dictionary::{Change, Revision, StateDictionary};
    ///
    /// # future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    /// let waiting = dictionary.wait_for_revision_async(Revision::from(1));
    /// let writing = dictionary.update_state_async(&0, Change::new().set("a", 1));
    /// let (content, written) = future::zip(waiting, writing).await;
    /// assert_eq!(content?["a"], 1);
    /// # written?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn wait_for_revision_async(&self, revision: Revision) -> Result<Snapshot<K, V, S>, WaitError> {
        let published = &self.engine.published;
        wake::wait_async(&published.wakeups.changed, || published.reached(revision)).await
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// [`update_state`](Self::update_state), with held content awaited. Needs the feature `async`.
    ///
    /// It does not wait for its turn: it commits without if another thread has it, and where that one is faster, tries again. A
    /// poll makes at most four attempts, then it wakes its task and is pending.
    ///
    /// Cancel-safe: the commit is made by the poll that returns it. A future that is dropped has committed nothing; the change
    /// is dropped with it.
    ///
    /// # Errors
    /// As [`update_state`](Self::update_state). While this thread has a [`ContentGuard`](crate::ContentGuard), that is
    /// [`UpdateError::ContentLockedByThisThread`], whichever task has it: in async code, use
    /// [`lock_content_async`](Self::lock_content_async).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    /// let revision = dictionary.update_state_async(&0, Change::new().set("a", 1)).await?;
    /// assert_eq!(revision.get(), 1);
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, u8>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_state_async(&self, token: &T, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.engine.commit_async(token, change).await
    }

    /// [`update_state_with`](Self::update_state_with), with held content awaited. Needs the feature `async`.
    ///
    /// `modify` is run again when the content was let go, and whenever others were faster; from its second run on with the turn
    /// to commit, if that is free. Each poll runs it once at most, then it wakes its task and is pending: so a timeout around
    /// this future is late by one run at most. It should be quick, as everything in a poll.
    ///
    /// Cancel-safe: the commit is made by the poll that returns it, and a future that is dropped has committed nothing.
    ///
    /// # Errors
    /// As [`update_state_async`](Self::update_state_async).
    ///
    /// # Panics
    /// If `modify` does; then nothing is committed.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<String, u64, ()> = StateDictionary::new();
    /// for amount in [3, 4] {
    ///     let add = |content: &state_dictionary::Snapshot<String, u64>| {
    ///         Change::new().set("sum", content.get("sum").copied().unwrap_or(0) + amount)
    ///     };
    ///     dictionary.update_state_with_async(&(), add).await?;
    /// }
    /// assert_eq!(dictionary.snapshot()["sum"], 7);
    /// # Ok::<(), state_dictionary::UpdateError<String, u64, ()>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_state_with_async<M: Modification<K, V, R>, R>(
        &self,
        token: &T,
        mut modify: impl FnMut(&Snapshot<K, V, S>) -> M,
    ) -> Result<R, UpdateError<K, V, T>> {
        let mut effort = Effort { attempts: 1, patience: Patience::OfAPoll, ahead: false };
        loop {
            let making = Making { read: &|root| Some(root.revision), modify: &mut modify, note: None };
            match self.engine.modify(token, effort, making) {
                Err(UpdateError::ContentLocked { .. } | UpdateError::RetriesExhausted { .. }) => effort.ahead = true,
                answer => return answer,
            }
            self.engine.until_another_poll().await;
        }
    }

    /// Holds the content still, for a task: [`lock_content`](Self::lock_content), awaited, with a guard that may be sent and be
    /// kept while other things are awaited. Needs the feature `async`.
    ///
    /// Waits for other guards of any kind, in no particular order, and works on a frozen dictionary too.
    ///
    /// The guard does not know its task. A task that awaits a commit or another guard while it has one waits for itself, for
    /// ever, and a call that blocks takes the executor's thread along; so write through the guard.
    ///
    /// Cancel-safe: the content is held only once the guard is returned.
    ///
    /// ```
    /// use futures_lite::future;
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, ()> = StateDictionary::new();
    /// let mut guard = dictionary.lock_content_async().await;
    /// let held_up = dictionary.update_state_async(&(), Change::new().set("a", 1));
    /// let through_the_guard = async move {
    ///     future::yield_now().await; // the other task has its chance, and waits
    ///     guard.update_state(&(), Change::new().set("a", 2))
    /// };
    /// let (later, earlier) = future::zip(held_up, through_the_guard).await;
    /// assert!(earlier? < later?);
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, ()>>(())
    /// # }).unwrap();
    /// ```
    pub async fn lock_content_async(&self) -> OwnedContentGuard<K, V, T, S> {
        let gate = &self.engine.published.wakeups.gate;
        let (hold, content) = wake::wait_async(gate, || self.engine.hold(None).ok()).await;
        OwnedContentGuard { engine: self.engine.clone(), hold, content }
    }
}

/// The content, held by a task. Made by [`StateDictionary::lock_content_async`]; needs the feature `async`.
///
/// Like a [`ContentGuard`](crate::ContentGuard), but it may be sent to another thread and outlive the dictionary, which is
/// frozen then. There is no check that its owner does not write past it: that waits for ever.
///
/// Dereferences to a [`Snapshot`] that is always the present content.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
/// use std::thread;
///
/// # futures_lite::future::block_on(async {
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// let mut guard = dictionary.lock_content_async().await;
/// drop(dictionary);
/// thread::spawn(move || assert!(guard.update_state(&(), Change::new().set("a", 1)).is_err())).join().unwrap();
/// # });
/// ```
#[must_use = "the content is let go when the guard is dropped"]
pub struct OwnedContentGuard<K, V, T = (), S = DefaultHashBuilder> {
    engine: Engine<K, V, T, S>,
    hold: Hold,
    content: Snapshot<K, V, S>,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> OwnedContentGuard<K, V, T, S> {
    /// [`StateDictionary::update_state`] through the guard: waits for no guard and for no turn, and honours locks and
    /// conditions. O(k log n); it may wait for a thread that is updating locks, but there is nothing to await.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state`].
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("sum", 1)]).build();
    /// let mut guard = dictionary.lock_content_async().await;
    /// let doubled = guard["sum"] * 2;
    /// guard.update_state(&(), Change::new().set("sum", doubled))?;
    /// assert_eq!(guard["sum"], 2, "what it has written, it shows");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// # }).unwrap();
    /// ```
    pub fn update_state(&mut self, token: &T, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.engine.write_through(self.hold, &mut self.content, token, change)
    }
}

impl<K, V, T, S> Deref for OwnedContentGuard<K, V, T, S> {
    type Target = Snapshot<K, V, S>;

    fn deref(&self) -> &Self::Target {
        &self.content
    }
}

// A write that panics leaves the content as it was before, and the guard shows that.
impl<K, V, T, S> UnwindSafe for OwnedContentGuard<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for OwnedContentGuard<K, V, T, S> {}

impl<K, V, T, S> Drop for OwnedContentGuard<K, V, T, S> {
    fn drop(&mut self) {
        self.engine.let_go();
    }
}

impl<K: fmt::Debug, V: fmt::Debug, T, S> fmt::Debug for OwnedContentGuard<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedContentGuard").field("content", &self.content).finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    async fn commit_async(&self, token: &T, mut change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        loop {
            match self.commit(token, change, None, Patience::OfAPoll) {
                Err(UpdateError::ContentLocked { change: deferred }) => change = deferred,
                answer => return answer.map(|root| root.revision),
            }
            self.until_another_poll().await;
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Session<K, V, T, S> {
    /// [`update_state`](Self::update_state), with held content awaited. Needs the feature `async`.
    ///
    /// Cancel-safe: a future that is dropped has committed nothing.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state_async`].
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let alice = dictionary.session("alice");
    /// let revision = alice.update_state_async(Change::new().set("drawing", 7)).await?;
    /// assert_eq!(revision, dictionary.revision());
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_state_async(&self, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.engine.commit_async(self.token(), change).await
    }

    /// [`update_ephemeral`](Self::update_ephemeral), with held content awaited. Needs the feature `async`.
    ///
    /// Cancel-safe: the poll that commits also notes which keys are the session's, and a future that is dropped has committed
    /// nothing.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state_async`].
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral_async(Change::new().set("cursor", 1)).await?;
    /// assert_eq!(alice.ephemeral_keys(), ["cursor"]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_ephemeral_async(&mut self, mut change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        loop {
            match self.update_ephemeral_with(change, Patience::OfAPoll) {
                Err(UpdateError::ContentLocked { change: deferred }) => change = deferred,
                answer => return answer,
            }
            self.engine.until_another_poll().await;
        }
    }

    /// [`end`](Self::end), with held content awaited. Needs the feature `async`.
    ///
    /// If its future is dropped before it is ready, the session ends as one does that is dropped: its locks are released at
    /// once, and its keys are removed by [`StateDictionary::expire`] when the content is let go. Until one of both happens it
    /// keeps everything.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::new();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral_async(Change::new().set("cursor.alice", 1)).await?;
    /// alice.update_state_async(Change::new().set("drawing", 7)).await?;
    /// assert_eq!(alice.end_async().await.removed, ["cursor.alice"]);
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn end_async(mut self) -> SessionSummary<K, T> {
        loop {
            match self.try_end() {
                Some(end) => return end,
                None => self.engine.until_let_go().await,
            }
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq + 'static, S: BuildHasher> LockFeed<K, V, T, S> {
    /// [`flush`](Self::flush), awaited. Needs the feature `async`.
    ///
    /// Unlike `flush`, it has no clock and does not wake up when a lease runs out, for that takes a runtime's timer. A server
    /// has one that calls [`StateDictionary::expire`], which is how such locks are seen here.
    ///
    /// Cancel-safe: events are taken only by the poll that returns them, so a future that is dropped has lost nothing.
    ///
    /// # Errors
    /// [`FlushError::Closed`] if everything was delivered and nothing more can come.
    ///
    /// ```
    /// use state_dictionary::{LockDelivery, LockRequest, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(1000).build();
    /// let mut feed = dictionary.lock_feed();
    /// assert!(matches!(feed.flush_async().await?, LockDelivery::Full { .. }));
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert!(matches!(feed.flush_async().await?, LockDelivery::Events(events) if events[0].owner == "alice"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn flush_async(&mut self) -> Result<LockDelivery<K, T>, FlushError> {
        let Some(engine) = self.engine.clone() else { return Err(FlushError::Closed) };
        wake::wait_async(&engine.published.wakeups.locks, || self.pending()).await
    }
}
