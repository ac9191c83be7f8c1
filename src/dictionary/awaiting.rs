//! Awaiting what would otherwise block the thread: locked content, or a revision.
//!
//! A commit made here never waits for the turn, for that wait sleeps. After a few lost attempts in one poll it wakes
//! its task and continues in the next poll, and so does an update by a closure after each run.

use super::StateDictionary;
use crate::change::Change;
use crate::commit::{Effort, Making, Modification, OwnedContentGuard, Patience};
use crate::content::Snapshot;
use crate::error::{Refusal, UpdateError, WaitError};
use crate::revision::Revision;
use crate::wake;
use std::hash::{BuildHasher, Hash};

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
    /// [`update_state`](Self::update_state), with locked content awaited. Needs the feature `async`.
    ///
    /// It does not wait for the turn: if another thread has it, it commits without, and retries if it loses. A poll
    /// makes at most four attempts, then it wakes its task and is pending.
    ///
    /// Cancel-safe: the poll that returns the commit makes it. A future that is dropped has committed nothing, and
    /// drops the change.
    ///
    /// # Errors
    /// As [`update_state`](Self::update_state). While the polling thread has a [`ContentGuard`](crate::ContentGuard),
    /// that is [`Refusal::ContentLockedByThisThread`], whichever task the guard
    /// belongs to: in async code, use
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

    /// [`update_state_with`](Self::update_state_with), with locked content awaited. Needs the feature `async`.
    ///
    /// `modify` is run again after the content was unlocked, and each time another writer committed first; from its
    /// second run on with the turn, if that is free. Each poll runs it at most once, then it wakes its task and is
    /// pending, so a timeout around this future is late by at most one run. It should be quick, as all code in a poll.
    ///
    /// Cancel-safe: the poll that returns the commit makes it, and a future that is dropped has committed nothing.
    ///
    /// # Errors
    /// As [`update_state_async`](Self::update_state_async).
    ///
    /// # Panics
    /// If `modify` panics; then nothing is committed.
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
    pub async fn update_state_with_async<M: Modification<Key = K, Value = V>>(
        &self,
        token: &T,
        mut modify: impl FnMut(&Snapshot<K, V, S>) -> M,
    ) -> Result<M::Output, UpdateError<K, V, T>> {
        let mut effort = Effort { attempts: 1, patience: Patience::OfAPoll, ahead: false };
        loop {
            let making = Making { read: &|root| Some(root.revision), modify: &mut modify, note: None };
            match self.engine.modify(token, effort, making) {
                Err(
                    UpdateError { reason: Refusal::ContentLocked, .. }
                    | UpdateError { reason: Refusal::RetriesExhausted { .. }, .. },
                ) => effort.ahead = true,
                answer => return answer,
            }
            self.engine.until_another_poll().await;
        }
    }

    /// Locks the content for a task: [`lock_content`](Self::lock_content), awaited, with a guard that may be sent and
    /// be kept across other awaits. Needs the feature `async`.
    ///
    /// Waits for other guards of any kind, in no particular order, and works on a frozen dictionary too.
    ///
    /// The guard does not know its task. A task that awaits a commit or another guard while it has one waits for
    /// itself, for ever, and a call that blocks also blocks the executor's thread; so write through the guard.
    ///
    /// Cancel-safe: the content is locked only once the guard is returned.
    ///
    /// ```
    /// use futures_lite::future;
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, ()> = StateDictionary::new();
    /// let mut guard = dictionary.lock_content_async().await;
    /// let past_the_guard = dictionary.update_state_async(&(), Change::new().set("a", 1));
    /// let through_the_guard = async move {
    ///     future::yield_now().await; // the other task runs, and waits for the guard
    ///     guard.update_state(&(), Change::new().set("a", 2))
    /// };
    /// let (later, earlier) = future::zip(past_the_guard, through_the_guard).await;
    /// assert!(earlier? < later?);
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, ()>>(())
    /// # }).unwrap();
    /// ```
    pub async fn lock_content_async(&self) -> OwnedContentGuard<K, V, T, S> {
        self.engine.lock_content_async().await
    }
}
