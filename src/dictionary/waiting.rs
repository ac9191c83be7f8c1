//! Waiting for a revision or for content.

use super::StateDictionary;
use crate::commit::Published;
use crate::content::Snapshot;
use crate::error::WaitError;
use crate::feed::KeyFeed;
use crate::revision::Revision;
use crate::sync::Arc;
use crate::wake;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

impl<K, V, T, S> StateDictionary<K, V, T, S> {
    /// Waits until the commit with this revision has been made, and returns the content of that commit or of a later
    /// one.
    ///
    /// # Errors
    /// [`WaitError::Frozen`] if the revision can no longer come.
    ///
    /// ```
    /// use state_dictionary::{Change, Revision, StateDictionary};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    /// thread::scope(|scope| {
    ///     let waiting = scope.spawn(|| dictionary.wait_for_revision(Revision::from(2)));
    ///     dictionary.update_state(&0, Change::new().set("a", 1)).unwrap();
    ///     dictionary.update_state(&0, Change::new().set("a", 2)).unwrap();
    ///     assert_eq!(waiting.join().unwrap().unwrap()["a"], 2);
    /// });
    /// ```
    pub fn wait_for_revision(&self, revision: Revision) -> Result<Snapshot<K, V, S>, WaitError> {
        self.wait_for_revision_until(revision, None)
    }

    /// [`wait_for_revision`](Self::wait_for_revision), waiting for at most `timeout`. A timeout too long for the clock
    /// never ends.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the time is over, [`WaitError::Frozen`] if the revision can no longer come.
    ///
    /// ```
    /// use state_dictionary::{Revision, StateDictionary, WaitError};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let soon = dictionary.wait_for_revision_timeout(Revision::from(1), Duration::ZERO);
    /// assert_eq!(soon.unwrap_err(), WaitError::TimedOut);
    /// dictionary.freeze();
    /// assert_eq!(dictionary.wait_for_revision(Revision::from(1)).unwrap_err(), WaitError::Frozen);
    /// assert!(dictionary.wait_for_revision(Revision::ZERO).is_ok(), "it was reached before");
    /// ```
    pub fn wait_for_revision_timeout(
        &self,
        revision: Revision,
        timeout: Duration,
    ) -> Result<Snapshot<K, V, S>, WaitError> {
        self.wait_for_revision_until(revision, self.engine.published.clock.now().checked_add(timeout))
    }

    fn wait_for_revision_until(
        &self,
        revision: Revision,
        deadline: Option<Instant>,
    ) -> Result<Snapshot<K, V, S>, WaitError> {
        let Published { wakeups, clock, .. } = &*self.engine.published;
        let reached = wake::wait(&wakeups.changed, clock, deadline, || self.engine.published.reached(revision));
        reached.unwrap_or(Err(WaitError::TimedOut))
    }

    /// Waits until `condition` returns a value for the content, and returns that value.
    ///
    /// `condition` is run on the present content at once, and again after commits; several commits may come between two
    /// runs, and it is not run twice on the content of one revision. It should return quickly, since every commit wakes
    /// this thread. It may use the dictionary; a commit that it makes leads to its next run.
    ///
    /// A condition that is only true or false ends with `.then_some(())`. Wrapped in `Some`, it would end the wait at once,
    /// with `false`.
    ///
    /// # Errors
    /// [`WaitError::Frozen`] if the dictionary is frozen and the condition does not hold for its last content.
    ///
    /// # Panics
    /// If `condition` panics.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::thread;
    ///
    /// let flags: StateDictionary<String, bool> = StateDictionary::new();
    /// thread::scope(|scope| {
    ///     let waiting = scope.spawn(|| flags.wait_until(|all| (all.get("beta") == Some(&true)).then_some(())));
    ///     flags.set("beta", false)?;
    ///     flags.set("beta", true)?;
    ///     assert_eq!(waiting.join().unwrap(), Ok(()));
    ///     Ok::<(), state_dictionary::UpdateError<String, bool>>(())
    /// })?;
    /// # Ok::<(), state_dictionary::UpdateError<String, bool>>(())
    /// ```
    #[doc(alias = "wait_for")]
    #[doc(alias = "wait_while")]
    pub fn wait_until<R>(&self, condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>) -> Result<R, WaitError> {
        self.wait_until_deadline(None, condition)
    }

    /// [`wait_until`](Self::wait_until), waiting for at most `timeout`. A timeout too long for the clock never ends.
    /// `condition` is run at least once.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the time is over; otherwise as [`wait_until`](Self::wait_until).
    ///
    /// # Panics
    /// If `condition` panics.
    ///
    /// ```
    /// use state_dictionary::{StateDictionary, WaitError};
    /// use std::time::Duration;
    ///
    /// let flags: StateDictionary<&str, bool> = [("dark", true)].into();
    /// let dark = flags.wait_until_timeout(Duration::ZERO, |all| all.get("dark").copied());
    /// assert_eq!(dark, Ok(true));
    /// let beta = flags.wait_until_timeout(Duration::from_millis(1), |all| all.get("beta").copied());
    /// assert_eq!(beta, Err(WaitError::TimedOut));
    /// ```
    pub fn wait_until_timeout<R>(
        &self,
        timeout: Duration,
        condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait_until_deadline(self.engine.published.clock.now().checked_add(timeout), condition)
    }

    /// [`wait_until`](Self::wait_until), awaited. Needs the feature `async`.
    ///
    /// Each poll runs `condition` at most twice. Cancel-safe: it changes nothing.
    ///
    /// # Errors
    /// As [`wait_until`](Self::wait_until).
    ///
    /// # Panics
    /// If `condition` panics.
    ///
    /// ```
    /// use futures_lite::future;
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # future::block_on(async {
    /// let flags: StateDictionary<&str, bool> = StateDictionary::new();
    /// let waiting = flags.wait_until_async(|all| all.get("beta").copied());
    /// let writing = flags.update_state_async(&(), Change::new().set("beta", true));
    /// let (beta, _) = future::zip(waiting, writing).await;
    /// assert_eq!(beta, Ok(true));
    /// # });
    /// ```
    #[cfg(feature = "async")]
    pub async fn wait_until_async<R>(
        &self,
        condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>,
    ) -> Result<R, WaitError> {
        let published = &self.engine.published;
        wake::wait_async(&published.wakeups.changed, published.looking(condition)).await
    }

    fn wait_until_deadline<R>(
        &self,
        deadline: Option<Instant>,
        condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>,
    ) -> Result<R, WaitError> {
        let published = &self.engine.published;
        let Published { wakeups, clock, .. } = &**published;
        let found = wake::wait(&wakeups.changed, clock, deadline, published.looking(condition));
        found.unwrap_or(Err(WaitError::TimedOut))
    }
}

impl<K: Eq + Hash, V, T, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// A feed of the value of one key, and of its removal. O(1); never waits.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let flags: StateDictionary<String, bool> = StateDictionary::new();
    /// let beta = flags.watch_key("beta");
    /// flags.set("beta", true)?;
    /// assert_eq!(beta.flush().unwrap().as_deref(), Some(&true));
    /// flags.remove("beta")?;
    /// assert!(beta.flush().unwrap().is_none());
    /// # Ok::<(), state_dictionary::UpdateError<String, bool>>(())
    /// ```
    #[must_use]
    #[doc(alias = "watch")]
    #[doc(alias = "subscribe")]
    pub fn watch_key(&self, key: impl Into<K>) -> KeyFeed<K, V, S> {
        KeyFeed::new(Arc::clone(&self.engine.published), key.into())
    }
}
