//! Locking the content.

use crate::change::Change;
use crate::commit::Patience;
use crate::commit::Published;
use crate::content::{Hold, Root, Snapshot};
use crate::engine::Engine;
use crate::error::{LockContentError, UpdateError};
use crate::revision::Revision;
use crate::sync::{DefaultHashBuilder, ThreadId, current_thread};
use crate::wake;
use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

/// The locked content: until this guard is dropped, nothing is committed except through it.
///
/// Dereferences to a [`Snapshot`] that is always the present content. Made by
/// [`StateDictionary::lock_content`](crate::StateDictionary::lock_content).
///
/// Other commits and other guards wait. Snapshots, feeds, refusals, lock operations and
/// [`freeze`](crate::StateDictionary::freeze) do not. A leaked guard (`mem::forget`) locks the content for ever:
/// writers wait for ever, except that [`freeze`](crate::StateDictionary::freeze) ends their wait with an error;
/// [`try_update_state`](crate::StateDictionary::try_update_state) and everything else still work.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
/// use std::thread;
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("sum", 1)]).build();
/// thread::scope(|scope| {
///     let mut guard = dictionary.lock_content().unwrap();
///     scope.spawn(|| dictionary.update_state(&(), Change::new().set("sum", 0))); // waits
///     let doubled = guard["sum"] * 2;
///     guard.update_state(&(), Change::new().set("sum", doubled)).unwrap();
///     assert_eq!(guard["sum"], 2, "the other thread waits");
/// });
/// assert_eq!(dictionary.snapshot()["sum"], 0);
/// ```
#[must_use = "the content is unlocked when the guard is dropped"]
pub struct ContentGuard<'a, K, V, T = (), S = DefaultHashBuilder> {
    locked: LockedContent<&'a Engine<K, V, T, S>, K, V, T, S>,
    /// The root knows the thread, so that a write past the guard can be refused.
    not_send: PhantomData<MutexGuard<'static, ()>>,
}

impl<K, V, T, S> Engine<K, V, T, S> {
    pub(crate) fn try_lock_content(&self) -> Result<ContentGuard<'_, K, V, T, S>, LockContentError> {
        let (hold, content) = self.hold(Some(current_thread()))?;
        Ok(ContentGuard { locked: LockedContent::new(self, hold, content), not_send: PhantomData })
    }

    pub(crate) fn lock_content(
        &self,
        deadline: Option<Instant>,
    ) -> Result<ContentGuard<'_, K, V, T, S>, LockContentError> {
        let Published { wakeups, clock, .. } = &*self.published;
        let locked = wake::wait(&wakeups.gate, clock, deadline, || match self.try_lock_content() {
            Err(LockContentError::ContentLocked) => None,
            answer => Some(answer),
        });
        locked.unwrap_or(Err(LockContentError::ContentLocked))
    }

    /// Locks the content, for a guard that stays in this thread or, with `None`, may be sent.
    pub(crate) fn hold(&self, thread: Option<ThreadId>) -> Result<(Hold, Snapshot<K, V, S>), LockContentError> {
        let take = |root: &mut Root<K, V, S>| match root.held {
            Some(hold) if hold.is_of_this_thread() => Err(LockContentError::ContentLockedByThisThread),
            Some(_) => Err(LockContentError::ContentLocked),
            None => {
                root.held = Some(Hold { version: root.version, thread });
                Ok(())
            }
        };
        let (taken, deferred) = self.published.replace(take, Arc::clone);
        self.published.settle(deferred);
        let root = taken?;
        Ok((Hold { version: root.version, thread }, Snapshot::new(root)))
    }

    /// Unlocks the content, for a guard that is dropped.
    pub(crate) fn unlock_content(&self) {
        let unlock = |root: &mut Root<K, V, S>| {
            root.held = None;
            Ok::<_, Infallible>(())
        };
        let (_, deferred) = self.published.replace(unlock, |_| ());
        self.published.wakeups.gate.notify_all();
        self.published.settle(deferred);
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> ContentGuard<'_, K, V, T, S> {
    /// [`StateDictionary::update_state`](crate::StateDictionary::update_state) through the guard: waits for no guard
    /// and no turn, and checks locks and conditions. Copies a path of the tree for each key, since the guard keeps the
    /// content that it replaces. It may wait for a thread that is updating locks.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state`](crate::StateDictionary::update_state).
    ///
    /// ```
    /// use state_dictionary::{Change, LockRequest, Refusal, StateDictionary, UpdateError};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None)).unwrap();
    /// let mut guard = dictionary.lock_content().unwrap();
    /// let refused = guard.update_state(&"bob", Change::new().set("ball", 1));
    /// assert!(matches!(refused, Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    /// guard.update_state(&"alice", Change::new().set("ball", 1)).unwrap();
    /// assert_eq!(guard["ball"], 1);
    /// ```
    pub fn update_state(&mut self, token: &T, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.locked.update_state(token, change)
    }
}

/// What both guards have: the content, locked until this is dropped. `E` is the engine, borrowed or owned.
pub(super) struct LockedContent<E: Borrow<Engine<K, V, T, S>>, K, V, T, S> {
    engine: E,
    hold: Hold,
    content: Snapshot<K, V, S>,
    token: PhantomData<fn() -> T>,
}

impl<E: Borrow<Engine<K, V, T, S>>, K, V, T, S> LockedContent<E, K, V, T, S> {
    pub(super) fn new(engine: E, hold: Hold, content: Snapshot<K, V, S>) -> Self {
        Self { engine, hold, content, token: PhantomData }
    }

    pub(super) fn content(&self) -> &Snapshot<K, V, S> {
        &self.content
    }

    /// Commits through the guard, which then shows the present content, also if a destructor panics after the commit.
    pub(super) fn update_state(&mut self, token: &T, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>>
    where
        K: Clone + Eq + Hash,
        T: Clone + PartialEq,
        S: BuildHasher,
    {
        let engine = self.engine.borrow();
        let commit = || engine.commit(token, change, Some(self.hold), Patience::None).map(|root| root.revision);
        let committed = catch_unwind(AssertUnwindSafe(commit));
        // Nothing is committed past the guard.
        let outdated = mem::replace(&mut self.content, Snapshot::new(engine.published.load()));
        match committed {
            Ok(answer) => answer,
            Err(panicked) => {
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(outdated)));
                mem::forget(dropped); // what a second panic carries may panic too
                resume_unwind(panicked)
            }
        }
    }
}

impl<K, V, T, S> Deref for ContentGuard<'_, K, V, T, S> {
    type Target = Snapshot<K, V, S>;

    fn deref(&self) -> &Self::Target {
        self.locked.content()
    }
}

// A write that panics has been committed or not, and the guard shows which.
impl<K, V, T, S> UnwindSafe for ContentGuard<'_, K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for ContentGuard<'_, K, V, T, S> {}

impl<E: Borrow<Engine<K, V, T, S>>, K, V, T, S> Drop for LockedContent<E, K, V, T, S> {
    fn drop(&mut self) {
        self.engine.borrow().unlock_content();
    }
}

impl<K: fmt::Debug, V: fmt::Debug, T, S> fmt::Debug for ContentGuard<'_, K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentGuard").field("content", self.locked.content()).finish_non_exhaustive()
    }
}
