//! Committing changes.

use super::StateDictionary;
use crate::change::Change;
use crate::commit::{Effort, Making, Modification, Patience};
use crate::content::Snapshot;
use crate::error::UpdateError;
use crate::revision::Revision;
use std::hash::{BuildHasher, Hash};

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// Applies a change atomically, on behalf of `token`, and returns its revision.
    ///
    /// Every key that the change touches must be unlocked or locked by `token`. An empty change commits nothing and
    /// returns the present revision.
    ///
    /// O(k log n) for a change of k keys, and the same again for each retry. Waits for its turn while others commit,
    /// for at most 3 ms by the system's clock, and then commits without it. It does not wait for a turn whose owner has
    /// already made another commit wait that long, and a commit that is refused or empty does not wait for the turn at
    /// all. After that wait it is lock-free while no lock is outstanding; otherwise it may wait for a thread that is
    /// updating locks. Waits while [`lock_content`](Self::lock_content) locks the content. See [what can
    /// wait](Self#what-can-wait).
    ///
    /// # Errors
    /// See [`UpdateError`]. The error has the change, and nothing of it was applied.
    ///
    /// ```
    /// use state_dictionary::{Change, LockRequest, Refusal, StateDictionary, UpdateError};
    ///
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::new();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", None)).unwrap();
    /// dictionary.update_state(&"alice", Change::new().set("ball", 1)).unwrap();
    /// match dictionary.update_state(&"bob", Change::new().set("ball", 2).set("bat", 2)) {
    ///     Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) => assert_eq!(conflicts[0].owner, "alice"),
    ///     other => panic!("{other:?}"),
    /// }
    /// assert!(dictionary.get("bat").is_none());
    /// ```
    pub fn update_state(&self, token: &T, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.engine.commit(token, change, None, Patience::ForAll).map(|root| root.revision)
    }

    /// [`update_state`](Self::update_state) without sleeping: it returns an error instead of waiting for locked
    /// content, and commits without the turn if another thread has it. Lock-free while no lock is outstanding;
    /// otherwise it may wait for a thread that is updating locks.
    ///
    /// # Errors
    /// [`Refusal::ContentLocked`](crate::Refusal::ContentLocked), or as [`update_state`](Self::update_state).
    ///
    /// ```
    /// use state_dictionary::{Change, Refusal, StateDictionary, UpdateError};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let guard = dictionary.lock_content().unwrap();
    /// thread::scope(|scope| {
    ///     let refused = scope.spawn(|| dictionary.try_update_state(&(), Change::new().set("a", 1)));
    ///     assert!(matches!(refused.join().unwrap(), Err(UpdateError { reason: Refusal::ContentLocked, .. })));
    /// });
    /// # drop(guard);
    /// ```
    pub fn try_update_state(&self, token: &T, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.engine.commit(token, change, None, Patience::None).map(|root| root.revision)
    }

    /// Read, modify, write: commits the change that `modify` makes from the content, provided that no other commit came
    /// in between. If one did, `modify` is run again on the new content.
    ///
    /// `modify` may run many times, so it should have no other effects. If it returns an empty change, nothing is
    /// committed and the present revision is returned.
    ///
    /// `modify` returns a change, or a pair of a change and a value; then the value of the run that was committed is
    /// returned with the revision: see [`Modification`]. To read and write a single key, use
    /// [`Writer::update`](crate::Writer::update): commits of other keys do not make it retry.
    ///
    /// From its second run on, `modify` has the turn, so that it succeeds however busy other writers are. It should be
    /// quick: while it runs with the turn, other commits wait for it, for at most 3 ms, and overtake it after that. If
    /// it is slow, use [`lock_content`](Self::lock_content) and write through the guard; likewise for a change of so
    /// many keys (tens of thousands) that other commits overtake it again and again.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<String, u64, ()> = StateDictionary::new();
    /// let count = |amount: u64| {
    ///     dictionary.update_state_with(&(), |content| {
    ///         let sum = content.get("sum").copied().unwrap_or(0);
    ///         Change::new().set("sum", sum + amount)
    ///     })
    /// };
    /// count(3)?;
    /// count(4)?;
    /// assert_eq!(dictionary.snapshot()["sum"], 7);
    ///
    /// let (revision, half) = dictionary.update_state_with(&(), |content| {
    ///     let half = content["sum"] / 2;
    ///     (Change::new().set("sum", half), half)
    /// })?;
    /// assert_eq!((revision.get(), half), (3, 3));
    /// # Ok::<(), state_dictionary::UpdateError<String, u64, ()>>(())
    /// ```
    ///
    /// # Errors
    /// As [`update_state`](Self::update_state). A write to the same dictionary from inside `modify` is refused with
    /// [`Refusal::InsideUpdate`](crate::Refusal::InsideUpdate).
    ///
    /// # Panics
    /// If `modify` panics; then nothing is committed.
    pub fn update_state_with<M: Modification<Key = K, Value = V>>(
        &self,
        token: &T,
        modify: impl FnMut(&Snapshot<K, V, S>) -> M,
    ) -> Result<M::Output, UpdateError<K, V, T>> {
        self.update_state_with_limit(token, usize::MAX, modify)
    }

    /// [`update_state_with`](Self::update_state_with), running `modify` at most `attempts` times. A run also counts if
    /// the content was then locked, and changed through the guard.
    ///
    /// # Errors
    /// [`Refusal::RetriesExhausted`](crate::Refusal::RetriesExhausted) with the last change if another commit came in
    /// between each time, or if
    /// `attempts` is 0; otherwise as [`update_state_with`](Self::update_state_with).
    ///
    /// # Panics
    /// If `modify` panics; then nothing is committed.
    ///
    /// ```
    /// use state_dictionary::{Change, Refusal, StateDictionary, UpdateError};
    /// use std::thread;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let exhausted = dictionary.update_state_with_limit(&(), 3, |content| {
    ///     // Another thread commits first each time.
    ///     thread::scope(|scope| { scope.spawn(|| dictionary.update_state(&(), Change::new().set("a", 1))); });
    ///     Change::new().set("b", content.len() as i32)
    /// });
    /// assert!(matches!(exhausted, Err(UpdateError { reason: Refusal::RetriesExhausted { attempts: 3 }, .. })));
    /// ```
    pub fn update_state_with_limit<M: Modification<Key = K, Value = V>>(
        &self,
        token: &T,
        attempts: usize,
        modify: impl FnMut(&Snapshot<K, V, S>) -> M,
    ) -> Result<M::Output, UpdateError<K, V, T>> {
        let effort = Effort { attempts, ..Effort::UNLIMITED };
        self.engine.modify(token, effort, Making { read: &|root| Some(root.revision), modify, note: None })
    }
}
