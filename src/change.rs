//! What a writer requests: keys to set, keys to remove, and conditions on the content before the change.

use crate::revision::Revision;
use smallvec::SmallVec;
use std::fmt;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// A multi-key change, applied atomically or not at all.
///
/// A change is a sequence of operations, so the later of two operations on one key wins. It may have conditions. They
/// are checked against the content before the change, and the whole change is refused if one of them does not hold.
///
/// Values are shared as `Arc<V>`, so neither a retry nor an error that returns a refused change clones a `V`.
///
/// ```
/// use state_dictionary::Change;
///
/// let change: Change<String, i32> = Change::new().set("a", 1).set("b", 2).remove("c").if_absent("a");
/// assert_eq!(change.len(), 3);
///
/// // A loop adds to it in place.
/// let mut change: Change<String, usize> = Change::new();
/// for number in 0..3 {
///     change.insert(format!("row {number}"), number);
/// }
/// assert_eq!(change, (0..3).map(|number| (format!("row {number}"), number)).collect());
/// ```
#[derive(PartialEq, Eq)]
#[must_use = "a change does nothing until it is committed by `update_state` or the like"]
pub struct Change<K, V> {
    /// Inline if there is only one.
    operations: SmallVec<[(K, Option<Arc<V>>); 1]>,
    conditions: Vec<(K, Condition)>,
}

/// What a [`Change`] can require of a key before the change.
///
/// ```
/// use state_dictionary::{Change, Condition, Revision};
///
/// let change: Change<&str, i32> = Change::new().set("a", 1).if_absent("a").if_revision("b", Revision::from(7));
/// let conditions: Vec<_> = change.conditions().collect();
/// assert_eq!(conditions, [(&"a", Condition::Absent), (&"b", Condition::At(Revision::from(7)))]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Condition {
    /// The key has no value.
    Absent,
    /// The key has a value.
    Present,
    /// The key's value was set by the commit with this revision.
    At(Revision),
}

impl Condition {
    pub(crate) fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::At(revision) => found == Some(revision),
        }
    }
}

// Every call takes it and returns it, so a call that panics (in a key's `Into`, say) leaves none behind; values are
// only shared.
impl<K, V> UnwindSafe for Change<K, V> {}
impl<K, V> RefUnwindSafe for Change<K, V> {}

impl<K, V> Change<K, V> {
    /// A change that does nothing.
    pub const fn new() -> Self {
        Self { operations: SmallVec::new_const(), conditions: Vec::new() }
    }

    /// Sets every pair of `updates`, then removes every key of `removals`: a key in both is removed.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, u8> = StateDictionary::new();
    /// dictionary.update_state(&0, Change::from_parts([("a", 1), ("b", 1)], ["b"]))?;
    /// assert_eq!(dictionary.snapshot().keys().collect::<Vec<_>>(), [&"a"]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, u8>>(())
    /// ```
    pub fn from_parts(updates: impl IntoIterator<Item = (K, V)>, removals: impl IntoIterator<Item = K>) -> Self {
        let mut change: Self = updates.into_iter().collect();
        change.operations.extend(removals.into_iter().map(|key| (key, None)));
        change
    }

    /// Sets a key. Setting the value that it already has is a change too.
    ///
    /// Keys are converted, so a `&str` can be passed for a `String` or an `Arc<str>`. A number needs its type: `1_u64`.
    /// In a loop, use [`insert`](Self::insert), which adds in place; this takes the change and returns it.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::sync::Arc;
    ///
    /// let dictionary: StateDictionary<Arc<str>, u8, u8> = StateDictionary::new();
    /// assert_eq!(dictionary.update_state(&0, Change::new().set("a", 1))?.get(), 1);
    /// assert_eq!(dictionary.update_state(&0, Change::new().set("a", 1))?.get(), 2, "and buffers deliver it again");
    /// assert_eq!(dictionary.update_state(&0, Change::new().set("a", 3).set("a", 4))?.get(), 3);
    /// assert_eq!(dictionary.snapshot()["a"], 4);
    /// # Ok::<(), state_dictionary::UpdateError<Arc<str>, u8, u8>>(())
    /// ```
    #[must_use = "the change is in what this returns; `insert` adds to a change in place"]
    pub fn set(self, key: impl Into<K>, value: V) -> Self {
        self.set_arc(key, Arc::new(value))
    }

    /// Sets a key to a value that is already in an `Arc`.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::sync::Arc;
    ///
    /// let dictionary: StateDictionary<&str, Vec<u8>, ()> = StateDictionary::new();
    /// let large = Arc::new(vec![0; 1 << 20]);
    /// dictionary.update_state(&(), Change::new().set_arc("a", Arc::clone(&large)).set_arc("b", large))?;
    /// let snapshot = dictionary.snapshot();
    /// assert!(std::ptr::eq(&snapshot["a"], &snapshot["b"]), "one shared value");
    /// # Ok::<(), state_dictionary::UpdateError<&str, Vec<u8>, ()>>(())
    /// ```
    #[must_use = "the change is in what this returns; `insert` adds to a change in place"]
    pub fn set_arc(mut self, key: impl Into<K>, value: Arc<V>) -> Self {
        self.operations.push((key.into(), Some(value)));
        self
    }

    /// Removes a key. Removing a key that has no value is allowed.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, u8> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// let revision = dictionary.update_state(&0, Change::new().remove("a"))?;
    /// assert_eq!(revision.get(), 1, "a commit like any other");
    /// assert!(buffer.try_flush().is_err(), "except that buffers have nothing to deliver");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, u8>>(())
    /// ```
    #[must_use = "the change is in what this returns; `delete` adds to a change in place"]
    pub fn remove(mut self, key: impl Into<K>) -> Self {
        self.operations.push((key.into(), None));
        self
    }

    /// [`set`](Self::set), in place.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let stock: StateDictionary<String, u32> = [("apples".to_owned(), 0), ("pears".to_owned(), 2)].into();
    /// let mut change = Change::new();
    /// for (fruit, count) in &stock.snapshot() {
    ///     if *count == 0 {
    ///         change.delete(fruit.as_str());
    ///     } else {
    ///         change.insert(fruit.as_str(), count - 1);
    ///     }
    /// }
    /// stock.update_state(&(), change)?;
    /// assert_eq!(stock.snapshot().sorted(), [(&"pears".to_owned(), &1)]);
    /// # Ok::<(), state_dictionary::UpdateError<String, u32>>(())
    /// ```
    pub fn insert(&mut self, key: impl Into<K>, value: V) {
        self.operations.push((key.into(), Some(Arc::new(value))));
    }

    /// [`remove`](Self::remove), in place.
    pub fn delete(&mut self, key: impl Into<K>) {
        self.operations.push((key.into(), None));
    }

    /// Refuses the change if the key has a value.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, &str, &str> = StateDictionary::new();
    /// let claim = |client| dictionary.update_state(&client, Change::new().set("seat", client).if_absent("seat"));
    /// assert!(claim("alice").is_ok());
    /// let error = claim("bob").unwrap_err().to_string();
    /// assert_eq!(error, "1 condition does not hold: expected \"seat\" to be absent, found revision 1");
    /// ```
    #[must_use = "the change is in what this returns"]
    pub fn if_absent(self, key: impl Into<K>) -> Self {
        self.on(key, Condition::Absent)
    }

    /// Refuses the change if the key has no value.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// // Moves the piece if it is still on the board, and never puts it back there.
    /// let moved = dictionary.update_state(&(), Change::new().set("piece", 7).if_present("piece"));
    /// assert!(moved.is_err() && dictionary.snapshot().is_empty());
    /// ```
    #[must_use = "the change is in what this returns"]
    pub fn if_present(self, key: impl Into<K>) -> Self {
        self.on(key, Condition::Present)
    }

    /// Refuses the change unless the key's value was set by the commit with this revision.
    ///
    /// [`Versioned::revision`](crate::Versioned::revision) is the revision of a value.
    ///
    /// ```
    /// use state_dictionary::{Change, Refusal, StateDictionary, UpdateError};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// dictionary.update_state(&(), Change::new().set("a", 1)).unwrap();
    /// let seen = dictionary.get("a").unwrap();
    /// let add = || Change::new().set("a", *seen + 1).if_revision("a", seen.revision());
    /// assert!(dictionary.update_state(&(), add()).is_ok());
    /// match dictionary.update_state(&(), add()) {
    ///     Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. }) => assert_eq!(failed[0].found.unwrap().get(), 2),
    ///     other => panic!("{other:?}"),
    /// }
    /// ```
    #[must_use = "the change is in what this returns"]
    pub fn if_revision(self, key: impl Into<K>, revision: Revision) -> Self {
        self.on(key, Condition::At(revision))
    }

    pub(crate) fn on(mut self, key: impl Into<K>, condition: Condition) -> Self {
        self.conditions.push((key.into(), condition));
        self
    }

    /// This change, then `later`, as one.
    ///
    /// Composition is associative, and [`Change::new`] is its unit. The composition leaves the same content as the two
    /// changes one after the other. The conditions of both are checked against the content before either.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let both = Change::new().set("a", 1).set("b", 1).then(Change::new().remove("a").set("b", 2));
    /// dictionary.update_state(&(), both).unwrap();
    /// assert_eq!(dictionary.snapshot().iter().collect::<Vec<_>>(), [(&"b", &2)]);
    ///
    /// // The condition is about the content before the change, not about what the change itself sets.
    /// let both = Change::new().set("c", 1).then(Change::new().set("d", 1).if_present("c"));
    /// assert!(dictionary.update_state(&(), both).is_err());
    /// ```
    #[must_use = "the change is in what this returns"]
    pub fn then(mut self, mut later: Self) -> Self {
        self.operations.append(&mut later.operations);
        self.conditions.append(&mut later.conditions);
        self
    }

    /// The same operations, without conditions.
    pub(crate) fn unconditional(&self) -> Self
    where
        K: Clone,
    {
        Self { operations: self.operations.clone(), conditions: Vec::new() }
    }

    /// Whether there is nothing to set or remove, whether or not there are conditions.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let question = Change::new().if_present("a");
    /// assert!(question.is_empty());
    /// assert!(dictionary.update_state(&(), question).is_err(), "its condition is checked nevertheless");
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The number of operations; two on one key count twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// The operations in the order in which they apply: a value to set, or `None` to remove the key.
    #[must_use]
    pub fn operations(&self) -> impl DoubleEndedIterator<Item = (&K, Option<&Arc<V>>)> + ExactSizeIterator {
        self.operations.iter().map(|(key, value)| (key, value.as_ref()))
    }

    /// The conditions, in the order in which they were added.
    #[must_use]
    pub fn conditions(&self) -> impl ExactSizeIterator<Item = (&K, Condition)> {
        self.conditions.iter().map(|(key, condition)| (key, *condition))
    }
}

impl<K, V> Default for Change<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone, V> Clone for Change<K, V> {
    fn clone(&self) -> Self {
        Self { operations: self.operations.clone(), conditions: self.conditions.clone() }
    }
}

/// Sets each pair.
impl<K, V> FromIterator<(K, V)> for Change<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let operations = pairs.into_iter().map(|(key, value)| (key, Some(Arc::new(value)))).collect();
        Self { operations, conditions: Vec::new() }
    }
}

/// Sets each pair.
impl<K, V, const N: usize> From<[(K, V); N]> for Change<K, V> {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

/// Sets each pair, after what the change already does.
impl<K, V> Extend<(K, V)> for Change<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        self.operations.extend(pairs.into_iter().map(|(key, value)| (key, Some(Arc::new(value)))));
    }
}

/// Shows keys and conditions, not values, so that every change in an error can be printed.
impl<K: fmt::Debug, V> fmt::Debug for Change<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |set: bool| {
            self.operations
                .iter()
                .filter(move |(_, value)| value.is_some() == set)
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
        };
        f.debug_struct("Change")
            .field("set", &keys(true))
            .field("remove", &keys(false))
            .field("conditions", &self.conditions)
            .finish()
    }
}
