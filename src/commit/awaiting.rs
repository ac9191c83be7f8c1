//! Awaiting what a commit waits for, and a guard that can be sent.

use super::guard::LockedContent;
use crate::change::Change;
use crate::commit::Patience;
use crate::content::Snapshot;
use crate::engine::Engine;
use crate::error::{Refusal, UpdateError};
use crate::revision::Revision;
use crate::sync::DefaultHashBuilder;
use crate::wake;
use futures_lite::future;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

impl<K, V, T, S> Engine<K, V, T, S> {
    /// Waits until the content is unlocked or the dictionary is frozen: then the caller returns an error.
    pub(crate) async fn until_content_unlocked(&self) {
        let unlocked = || self.published.peek(|root| root.frozen || root.held.is_none()).then_some(());
        wake::wait_async(&self.published.wakeups.gate, unlocked).await;
    }

    pub(crate) async fn lock_content_async(&self) -> OwnedContentGuard<K, V, T, S> {
        let (hold, content) = wake::wait_async(&self.published.wakeups.gate, || self.hold(None).ok()).await;
        OwnedContentGuard { locked: LockedContent::new(self.clone(), hold, content) }
    }

    /// Waits until a retry is worthwhile: in another poll, and with the content unlocked.
    pub(crate) async fn until_another_poll(&self) {
        future::yield_now().await;
        self.until_content_unlocked().await;
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    pub(crate) async fn commit_async(
        &self,
        token: &T,
        mut change: Change<K, V>,
    ) -> Result<Revision, UpdateError<K, V, T>> {
        loop {
            match self.commit(token, change, None, Patience::OfAPoll) {
                Err(UpdateError { change: deferred, reason: Refusal::ContentLocked }) => change = deferred,
                answer => return answer.map(|root| root.revision),
            }
            self.until_another_poll().await;
        }
    }
}

/// The locked content, owned by a task. Made by
/// [`StateDictionary::lock_content_async`](crate::StateDictionary::lock_content_async); needs the feature `async`.
///
/// Like a [`ContentGuard`](crate::ContentGuard), but it may be sent to another thread and outlive the dictionary, which
/// is frozen then. It cannot detect that its owner writes past it: such a write waits for ever.
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
#[must_use = "the content is unlocked when the guard is dropped"]
pub struct OwnedContentGuard<K, V, T = (), S = DefaultHashBuilder> {
    locked: LockedContent<Engine<K, V, T, S>, K, V, T, S>,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> OwnedContentGuard<K, V, T, S> {
    /// [`StateDictionary::update_state`](crate::StateDictionary::update_state) through the guard: waits for no guard
    /// and no turn, and checks locks and conditions. O(k log n); it may wait for a thread that is updating locks, and
    /// has nothing to await.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state`](crate::StateDictionary::update_state).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("sum", 1)]).build();
    /// let mut guard = dictionary.lock_content_async().await;
    /// let doubled = guard["sum"] * 2;
    /// guard.update_state(&(), Change::new().set("sum", doubled))?;
    /// assert_eq!(guard["sum"], 2, "the guard shows its own write");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// # }).unwrap();
    /// ```
    pub fn update_state(&mut self, token: &T, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.locked.update_state(token, change)
    }
}

impl<K, V, T, S> Deref for OwnedContentGuard<K, V, T, S> {
    type Target = Snapshot<K, V, S>;

    fn deref(&self) -> &Self::Target {
        self.locked.content()
    }
}

// A write that panics leaves the content as it was before, and the guard shows that.
impl<K, V, T, S> UnwindSafe for OwnedContentGuard<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for OwnedContentGuard<K, V, T, S> {}

impl<K: fmt::Debug, V: fmt::Debug, T, S> fmt::Debug for OwnedContentGuard<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedContentGuard").field("content", self.locked.content()).finish_non_exhaustive()
    }
}
