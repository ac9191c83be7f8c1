//! Snapshots: roots that the user keeps.

use super::iterators::{self, IntoIter, Keys, Values};
use super::root::Entries;
use crate::content::{Root, Versioned};
use crate::revision::Revision;
use crate::sync::DefaultHashBuilder;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;
use std::ops::Index;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// The whole content at one instant. It never changes, whatever the dictionary does later.
///
/// Taking and cloning one is O(1) and never waits. It delays no other thread. A snapshot keeps alive the content of its
/// instant, as far as later content does not share it, and clones of the keys that were touched before it, at most
/// twice as many as the [history limit](crate::Builder::history_limit). It keeps no other value alive, and no token:
/// neither [kept commits](crate::Builder::commit_history) nor [lock events](crate::Builder::lock_history_limit).
/// Leaking one (`mem::forget`) leaks that memory and has no other effect.
///
/// Dropping the last snapshot of an instant frees what only it still owned, in the thread that drops it: O(k log n) for
/// k keys set since it was taken, at worst O(n); see [what it costs](crate::StateDictionary#what-it-costs), and [values
/// that are dropped](crate::StateDictionary#values-that-are-dropped) for what a value's `Drop` may do.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
/// dictionary.update_state(&0, Change::new().set("a", 1))?;
/// let before = dictionary.snapshot();
/// dictionary.update_state(&0, Change::new().set("a", 2))?;
/// assert_eq!(before["a"], 1);
/// assert_eq!(dictionary.snapshot()["a"], 2);
/// # Ok::<(), state_dictionary::UpdateError<String, i32, u8>>(())
/// ```
pub struct Snapshot<K, V, S = DefaultHashBuilder> {
    root: Arc<Root<K, V, S>>,
}

impl<K, V, S> Snapshot<K, V, S> {
    /// For the user to keep: it has only the content and the history of touched keys of this root.
    pub(crate) fn new(root: Arc<Root<K, V, S>>) -> Self {
        Self { root: root.into_kept() }
    }

    /// For the user to look at. A clone of it can be kept.
    pub(crate) fn lent(root: Arc<Root<K, V, S>>) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Arc<Root<K, V, S>> {
        &self.root
    }

    /// The hash of the content, if the dictionary keeps one: see
    /// [`Builder::content_hash`](crate::Builder::content_hash). O(1).
    #[must_use]
    pub fn content_hash(&self) -> Option<u64> {
        self.root.shared().entry_hash.map(|_| self.root.content_hash)
    }

    /// The revision of the latest commit in this snapshot.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.root.revision
    }

    /// The number of keys. O(1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.root.content.len()
    }

    /// Whether there are no keys. O(1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.content.is_empty()
    }

    /// Every key with its value and revision, in an arbitrary order, which is the same each time. O(n) to iterate.
    #[must_use]
    pub fn entries(&self) -> iterators::Entries<'_, K, V> {
        iterators::Entries(self.root.content.iter())
    }

    /// Every key with its value, in the order of [`entries`](Self::entries).
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.root.content.iter())
    }

    /// Every key, in the order of [`entries`](Self::entries).
    #[must_use]
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.root.content.iter())
    }

    /// Every value, in the order of [`entries`](Self::entries).
    #[must_use]
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.root.content.iter())
    }

    /// Every key with its value, in the order of the keys. O(n log n).
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let scores: StateDictionary<&str, u32> = [("bob", 2), ("alice", 1)].into();
    /// assert_eq!(scores.snapshot().sorted(), [(&"alice", &1), (&"bob", &2)]);
    /// ```
    #[must_use]
    pub fn sorted(&self) -> Vec<(&K, &V)>
    where
        K: Ord,
    {
        let mut pairs: Vec<_> = self.iter().collect();
        pairs.sort_unstable_by_key(|(key, _)| *key);
        pairs
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Snapshot<K, V, S> {
    /// The value of a key. O(log n).
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entry(key).map(|entry| &**entry)
    }

    /// The value of a key with the revision of the commit that set it. O(log n).
    #[must_use]
    pub fn entry<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&Versioned<V>>
    where
        K: Borrow<Q>,
    {
        self.root.content.get(&self.root.shared.lookup(key))
    }

    /// Whether the key has a value. O(log n).
    #[must_use]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.entry(key).is_some()
    }
}

// It never changes, so no panic can leave it half changed.
impl<K, V, S> UnwindSafe for Snapshot<K, V, S> {}
impl<K, V, S> RefUnwindSafe for Snapshot<K, V, S> {}

impl<K, V, S> Clone for Snapshot<K, V, S> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.root))
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for Snapshot<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K, Q, V, S> Index<&Q> for Snapshot<K, V, S>
where
    K: Eq + Hash + Borrow<Q>,
    Q: Hash + Eq + fmt::Debug + ?Sized,
    S: BuildHasher,
{
    type Output = V;

    /// # Panics
    /// If the key has no value. The message names the key, so the key must be `Debug`; [`get`](Snapshot::get) does not
    /// need that.
    ///
    /// ```should_panic
    /// let dictionary: state_dictionary::StateDictionary<&str, i32> = state_dictionary::StateDictionary::new();
    /// let _ = dictionary.snapshot()["nothing"]; // no value for the key "nothing" in the snapshot at revision 0
    /// ```
    #[track_caller]
    fn index(&self, key: &Q) -> &V {
        match self.get(key) {
            Some(value) => value,
            None => panic!("no value for the key {key:?} in the snapshot at revision {}", self.revision()),
        }
    }
}

impl<'a, K, V, S> IntoIterator for &'a Snapshot<K, V, S> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The keys with their values, in the order of [`entries`](Snapshot::entries). Values are shared, so none is cloned.
impl<K: Clone + Eq, V, S> IntoIterator for Snapshot<K, V, S> {
    type Item = (K, Versioned<V>);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter(self.root.follow().into_iter())
    }
}

/// The same keys with equal values. Revisions and hashers are not compared. O(n).
impl<K: Eq + Hash, V: PartialEq, S: BuildHasher, R: BuildHasher> PartialEq<Snapshot<K, V, R>> for Snapshot<K, V, S> {
    fn eq(&self, other: &Snapshot<K, V, R>) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: Eq + Hash, V: Eq, S: BuildHasher> Eq for Snapshot<K, V, S> {}

/// The keys of a [`Snapshot`] with their values.
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1), ("b", 2)]).build();
/// let snapshot = dictionary.snapshot();
/// let sum: i32 = snapshot.iter().map(|(_, value)| value).sum();
/// assert_eq!((sum, snapshot.iter().len()), (3, 2));
/// ```
pub struct Iter<'a, K, V>(Entries<'a, K, V>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, entry)| (&key.key, &**entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}

// Runs no code of the user's, and what it borrows never changes.
impl<K, V> UnwindSafe for Iter<'_, K, V> {}
impl<K, V> RefUnwindSafe for Iter<'_, K, V> {}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone()).finish()
    }
}
