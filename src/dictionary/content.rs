//! Locking the content.

use super::StateDictionary;
use crate::commit::ContentGuard;
use crate::error::LockContentError;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// Locks the content: until the guard is dropped, every commit not made through it waits, and so does every other
    /// `lock_content`. Works on a frozen dictionary too.
    ///
    /// To read several keys of one instant a [`snapshot`](Self::snapshot) is enough, and delays no other thread. Waits
    /// for other guards, in no particular order.
    ///
    /// # Errors
    /// [`LockContentError::ContentLockedByThisThread`] if this thread has a guard already.
    ///
    /// ```
    /// use state_dictionary::{Change, Refusal, StateDictionary, UpdateError};
    ///
    /// let dictionary: StateDictionary<String, i32, ()> = StateDictionary::new();
    /// let mut guard = dictionary.lock_content()?;
    /// let past_the_guard = dictionary.update_state(&(), Change::new().set("a", 1));
    /// assert!(matches!(past_the_guard, Err(UpdateError { reason: Refusal::ContentLockedByThisThread, .. })));
    /// guard.update_state(&(), Change::new().set("a", 2)).unwrap();
    /// assert_eq!(guard["a"], 2);
    /// # Ok::<(), state_dictionary::LockContentError>(())
    /// ```
    pub fn lock_content(&self) -> Result<ContentGuard<'_, K, V, T, S>, LockContentError> {
        self.engine.lock_content(None)
    }

    /// [`lock_content`](Self::lock_content), waiting for at most `timeout`. A timeout too long for the clock never
    /// ends.
    ///
    /// # Errors
    /// [`LockContentError::ContentLocked`] if the content is still locked then, or
    /// [`LockContentError::ContentLockedByThisThread`].
    ///
    /// ```
    /// use state_dictionary::{LockContentError, StateDictionary};
    /// use std::{thread, time::Duration};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let guard = dictionary.lock_content().unwrap();
    /// thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         let too_late = dictionary.lock_content_timeout(Duration::from_millis(1));
    ///         assert_eq!(too_late.unwrap_err(), LockContentError::ContentLocked);
    ///     });
    /// });
    /// # drop(guard);
    /// ```
    pub fn lock_content_timeout(&self, timeout: Duration) -> Result<ContentGuard<'_, K, V, T, S>, LockContentError> {
        self.engine.lock_content(self.engine.published.clock.now().checked_add(timeout))
    }

    /// [`lock_content`](Self::lock_content) without waiting. Lock-free.
    ///
    /// # Errors
    /// [`LockContentError::ContentLocked`] if the content is locked, or
    /// [`LockContentError::ContentLockedByThisThread`].
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let guard = dictionary.try_lock_content();
    /// assert!(guard.is_ok() && dictionary.try_lock_content().is_err());
    /// drop(guard);
    /// assert!(dictionary.try_lock_content().is_ok());
    /// ```
    pub fn try_lock_content(&self) -> Result<ContentGuard<'_, K, V, T, S>, LockContentError> {
        self.engine.try_lock_content()
    }
}
