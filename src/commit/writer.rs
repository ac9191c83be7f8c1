//! Writing one key in one line, with a token that is bound once.

use crate::change::Change;
use crate::commit::{Effort, Making, Note, Patience, Replacing, shortened};
use crate::content::{Root, Snapshot, Versioned};
use crate::engine::Engine;
use crate::error::UpdateError;
use crate::revision::Revision;
use crate::sync::DefaultHashBuilder;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Short forms of [`update_state`](crate::StateDictionary::update_state) for one key, with the token bound once. Made by
/// [`StateDictionary::writer`](crate::StateDictionary::writer) and [`Session::writer`](crate::Session::writer).
///
/// Each call is one commit. Every method waits and can fail as `update_state` does; it is O(log n) unless stated
/// otherwise. To write several keys in one commit, use `update_state`.
///
/// A dictionary without tokens, `StateDictionary<K, V>`, has the same methods itself. A [`Session`](crate::Session) has those
/// of one key, and sets ephemeral values.
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let room: StateDictionary<String, u32, &str> = StateDictionary::new();
/// let alice = room.writer(&"alice");
/// alice.set("score", 1)?;
/// let was = alice.update("score", |now| now.map(|score| score + 1))?;
/// assert_eq!(was.value.as_deref(), Some(&1));
/// assert_eq!(room.snapshot()["score"], 2);
/// # Ok::<(), state_dictionary::UpdateError<String, u32, &str>>(())
/// ```
pub struct Writer<'a, K, V, T = (), S = DefaultHashBuilder> {
    engine: &'a Engine<K, V, T, S>,
    token: &'a T,
}

/// What a write of one key replaced.
///
/// A struct and not a pair, so that a caller that needs one of the two names it.
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let flags: StateDictionary<String, bool> = StateDictionary::new();
/// let first = flags.set("dark", true)?;
/// assert!(first.value.is_none());
/// let second = flags.set("dark", false)?;
/// assert_eq!(second.value.as_deref(), Some(&true));
/// assert_eq!(second.value.map(|was| was.revision()), Some(first.revision));
/// # Ok::<(), state_dictionary::UpdateError<String, bool>>(())
/// ```
#[non_exhaustive]
pub struct Replaced<V> {
    /// The revision of the commit; of an [`update`](Writer::update) that changed nothing, the revision that it read.
    pub revision: Revision,
    /// The value that the key had in the content that the commit replaced, with the revision that set it; `None` if it had none.
    pub value: Option<Versioned<V>>,
}

impl<'a, K, V, T, S> Writer<'a, K, V, T, S> {
    pub(crate) fn new(engine: &'a Engine<K, V, T, S>, token: &'a T) -> Self {
        Self { engine, token }
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &'a T {
        self.token
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Writer<'_, K, V, T, S> {
    /// Sets a key, and returns what it replaced.
    ///
    /// Keys are converted as by [`Change::set`]. A number needs its type: `3_u64`.
    ///
    /// # Errors
    /// As [`update_state`](crate::StateDictionary::update_state).
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
    /// let alice = room.writer(&"alice");
    /// assert!(alice.set("score", 1)?.value.is_none());
    /// assert_eq!(alice.set("score", 2)?.value.as_deref(), Some(&1));
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// ```
    #[doc(alias = "insert")]
    pub fn set(&self, key: impl Into<K>, value: V) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        self.engine.write_one(self.token, Change::new().set(key, value), None)
    }

    /// Removes a key, and returns the value that it had. Removing a key that has no value is allowed, and is a commit.
    ///
    /// # Errors
    /// As [`update_state`](crate::StateDictionary::update_state).
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
    /// let alice = room.writer(&"alice");
    /// alice.set("score", 1)?;
    /// assert_eq!(alice.remove("score")?.value.as_deref(), Some(&1));
    /// assert!(alice.remove("score")?.value.is_none());
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// ```
    pub fn remove(&self, key: impl Into<K>) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        self.engine.write_one(self.token, Change::new().remove(key), None)
    }

    /// Reads, modifies and writes one key: sets it to the value that `modify` returns for its present one, or removes
    /// it if that is `None`. Returns the value that `modify` was given.
    ///
    /// `modify` is run again only if another writer has set or removed this key meanwhile, mostly with the turn from
    /// its second run on, as by [`update_state_with`](crate::StateDictionary::update_state_with); so it should be quick
    /// and have no other effects. If the key has no value and `modify` returns none, nothing is committed. To return the present
    /// value is a commit all the same, and feeds deliver it; to refuse a change of a key that has a value, use
    /// [`update_state_with`](crate::StateDictionary::update_state_with) and an empty change, see
    /// [`Modification`](crate::Modification).
    ///
    /// # Errors
    /// As [`update_state`](crate::StateDictionary::update_state). A write to the same dictionary from inside `modify` is refused
    /// with [`Refusal::InsideUpdate`](crate::Refusal::InsideUpdate). If the dictionary is frozen, `modify` is not run.
    ///
    /// # Panics
    /// If `modify` panics; then nothing is committed.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
    /// let alice = room.writer(&"alice");
    /// let count = || alice.update("visits", |now| Some(now.copied().unwrap_or(0) + 1));
    /// assert!(count()?.value.is_none());
    /// assert_eq!(count()?.value.as_deref(), Some(&1));
    /// assert_eq!(room.snapshot()["visits"], 2);
    /// assert!(alice.update("visits", |_| None)?.value.is_some());
    /// assert!(room.is_empty());
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// ```
    #[doc(alias = "modify")]
    #[doc(alias = "fetch_update")]
    pub fn update(
        &self,
        key: impl Into<K>,
        modify: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        self.engine.update_one(self.token, &key.into(), None, modify)
    }

    /// Sets a key if its value is still the one that the commit with this revision set, or, with `None`, if it has no value.
    ///
    /// # Errors
    /// [`Refusal::ConditionFailed`](crate::Refusal::ConditionFailed) if the key is at another revision; otherwise as
    /// [`update_state`](crate::StateDictionary::update_state).
    ///
    /// ```
    /// use state_dictionary::{Refusal, StateDictionary, UpdateError};
    ///
    /// let board: StateDictionary<&str, &str, &str> = StateDictionary::new();
    /// let alice = board.writer(&"alice");
    /// let first = alice.compare_and_set("seat", None, "alice")?;
    /// let taken = board.writer(&"bob").compare_and_set("seat", None, "bob");
    /// assert!(matches!(taken, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
    /// assert!(alice.compare_and_set("seat", first.revision, "carol").is_ok());
    /// # Ok::<(), UpdateError<&str, &str, &str>>(())
    /// ```
    #[doc(alias = "compare_exchange")]
    pub fn compare_and_set(
        &self,
        key: impl Into<K>,
        expected: impl Into<Option<Revision>>,
        value: V,
    ) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        self.engine.write_one(self.token, expecting(key.into(), expected.into(), value), None)
    }

    /// Removes every key for which `keep` returns `false`, in one commit, and returns its revision; if there is none,
    /// the present one.
    ///
    /// O(n) in the number of keys. It reads the whole content, so `keep` is run on all of it again after each commit
    /// that came in between; see [`update_state_with`](crate::StateDictionary::update_state_with).
    ///
    /// # Errors
    /// As [`update_state_with`](crate::StateDictionary::update_state_with). If a key to be removed is locked by another owner,
    /// none is removed.
    ///
    /// # Panics
    /// If `keep` panics; then nothing is committed.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let room: StateDictionary<&str, u32, &str> = [("a", 1), ("b", 2), ("c", 3)].into();
    /// room.writer(&"alice").retain(|_, value| value % 2 == 1)?;
    /// assert_eq!(room.snapshot().sorted(), [(&"a", &1), (&"c", &3)]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) -> Result<Revision, UpdateError<K, V, T>> {
        let modify = |content: &Snapshot<K, V, S>| {
            let removed = content.iter().filter(|(key, value)| !keep(key, value));
            removed.fold(Change::new(), |change, (key, _)| change.remove(key.clone()))
        };
        let read = |root: &Root<K, V, S>| Some(root.revision);
        self.engine.modify(self.token, Effort::UNLIMITED, Making { read: &read, modify, note: None })
    }

    /// Removes every key, in one commit, and returns its revision; if there is none, the present one. O(n) in the number of keys.
    ///
    /// # Errors
    /// As [`retain`](Self::retain).
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    ///
    /// let room: StateDictionary<&str, u32, &str> = [("a", 1), ("b", 2)].into();
    /// room.update_locks(&"bob", LockRequest::new().acquire("b", None)).unwrap();
    /// assert!(room.writer(&"alice").clear().is_err());
    /// assert_eq!(room.len(), 2);
    /// assert!(room.writer(&"bob").clear().is_ok());
    /// assert!(room.is_empty());
    /// ```
    pub fn clear(&self) -> Result<Revision, UpdateError<K, V, T>> {
        self.retain(|_, _| false)
    }
}

/// Sets a key on the condition that it is at this revision, or absent.
pub(crate) fn expecting<K: Clone, V>(key: K, expected: Option<Revision>, value: V) -> Change<K, V> {
    let change = Change::new().set(key.clone(), value);
    match expected {
        Some(revision) => change.if_revision(key, revision),
        None => change.if_absent(key),
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    /// Commits a change of one operation.
    pub(crate) fn write_one(
        &self,
        token: &T,
        change: Change<K, V>,
        note: Option<Note<'_, K, V, S>>,
    ) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        let Some((key, _)) = change.operations().next() else { unreachable!("a change of one operation") };
        let mut replacing = Replacing::new(key, shortened(note));
        match self.commit_borrowed(token, &change, None, Patience::ForAll, Some(&mut replacing)) {
            Ok(root) => Ok(Replaced { revision: root.revision, value: replacing.value() }),
            Err(reason) => Err(UpdateError { change, reason }),
        }
    }

    /// Commits what a closure makes of the value of one key.
    pub(crate) fn update_one(
        &self,
        token: &T,
        key: &K,
        note: Option<Note<'_, K, V, S>>,
        mut modify: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        let lookup = self.published.shared().lookup(key);
        let read = |root: &Root<K, V, S>| root.content.get(&lookup).map(Versioned::revision);
        let modify = |content: &Snapshot<K, V, S>| {
            let now = content.entry(key).cloned();
            let change = match modify(now.as_deref()) {
                Some(value) => Change::new().set(key.clone(), value),
                None if now.is_some() => Change::new().remove(key.clone()),
                None => Change::new(),
            };
            (change, now)
        };
        let (revision, value) =
            self.modify(token, Effort::UNLIMITED, Making { read: &read, modify, note: shortened(note) })?;
        Ok(Replaced { revision, value })
    }
}

impl<K, V, T, S> Clone for Writer<'_, K, V, T, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V, T, S> Copy for Writer<'_, K, V, T, S> {}

// As the dictionary, which it borrows.
impl<K, V, T, S> UnwindSafe for Writer<'_, K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for Writer<'_, K, V, T, S> {}

impl<K, V, T: fmt::Debug, S> fmt::Debug for Writer<'_, K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("token", self.token).finish_non_exhaustive()
    }
}

impl<V> Clone for Replaced<V> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, value: self.value.clone() }
    }
}

impl<V: PartialEq> PartialEq for Replaced<V> {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.value == other.value
    }
}

impl<V: Eq> Eq for Replaced<V> {}

impl<V: fmt::Debug> fmt::Debug for Replaced<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, value } = self;
        f.debug_struct("Replaced").field("revision", revision).field("value", value).finish()
    }
}
