//! The iterators of a snapshot, except for [`Iter`](super::Iter).

use super::root;
use crate::content::Versioned;
use crate::key::Hashed;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// The keys of a [`Snapshot`](crate::Snapshot) with their values and revisions. Made by
/// [`Snapshot::entries`](crate::Snapshot::entries).
///
/// ```
/// use state_dictionary::{Entries, StateDictionary};
///
/// /// Continues after the previous call, so that many keys are sent in several messages.
/// struct Sending<'a>(Entries<'a, &'static str, u32>);
///
/// let scores: StateDictionary<&str, u32> = [("alice", 1), ("bob", 2), ("carol", 3)].into();
/// let snapshot = scores.snapshot();
/// let mut sending = Sending(snapshot.entries());
/// assert_eq!(sending.0.by_ref().take(2).count(), 2);
/// assert_eq!(sending.0.len(), 1);
/// ```
pub struct Entries<'a, K, V>(pub(super) root::Entries<'a, K, V>);

/// The keys of a [`Snapshot`](crate::Snapshot). Made by [`Snapshot::keys`](crate::Snapshot::keys).
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let scores: StateDictionary<&str, u32> = [("alice", 1)].into();
/// assert_eq!(scores.snapshot().keys().collect::<Vec<_>>(), [&"alice"]);
/// ```
pub struct Keys<'a, K, V>(pub(super) root::Entries<'a, K, V>);

/// The values of a [`Snapshot`](crate::Snapshot). Made by [`Snapshot::values`](crate::Snapshot::values).
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let scores: StateDictionary<&str, u32> = [("alice", 1), ("bob", 2)].into();
/// assert_eq!(scores.snapshot().values().sum::<u32>(), 3);
/// ```
pub struct Values<'a, K, V>(pub(super) root::Entries<'a, K, V>);

/// The keys of a [`Snapshot`](crate::Snapshot) that was consumed, with their values and revisions.
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let scores: StateDictionary<&str, u32> = [("bob", 2), ("alice", 1)].into();
/// let mut winners: Vec<_> = scores.snapshot().into_iter().filter(|(_, score)| **score > 1).collect();
/// let (name, score) = winners.remove(0);
/// assert_eq!((name, *score, score.revision().get()), ("bob", 2, 1));
/// ```
pub struct IntoIter<K: Eq, V>(pub(super) Drained<K, V>);

/// The content of a snapshot that was consumed.
type Drained<K, V> = im::hashmap::ConsumingIter<(Hashed<K>, Versioned<V>), im::shared_ptr::DefaultSharedPtr>;

macro_rules! iterators {
    ($($name:ident: $item:ty = |$key:ident, $entry:ident| $output:expr;)*) => {$(
        impl<'a, K, V> Iterator for $name<'a, K, V> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                self.0.next().map(|(Hashed { key: $key, .. }, $entry)| $output)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl<K, V> ExactSizeIterator for $name<'_, K, V> {}
        impl<K, V> FusedIterator for $name<'_, K, V> {}

        // Runs no code of the user's, and what it borrows never changes.
        impl<K, V> UnwindSafe for $name<'_, K, V> {}
        impl<K, V> RefUnwindSafe for $name<'_, K, V> {}

        impl<K, V> Clone for $name<'_, K, V> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl<'a, K, V> fmt::Debug for $name<'a, K, V>
        where
            $item: fmt::Debug,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.clone()).finish()
            }
        }
    )*};
}

iterators! {
    Entries: (&'a K, &'a Versioned<V>) = |key, entry| (key, entry);
    Keys: &'a K = |key, _entry| key;
    Values: &'a V = |_key, entry| &**entry;
}

impl<K: Clone + Eq, V> Iterator for IntoIter<K, V> {
    type Item = (K, Versioned<V>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, entry)| (key.key, entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K: Clone + Eq, V> ExactSizeIterator for IntoIter<K, V> {}
impl<K: Clone + Eq, V> FusedIterator for IntoIter<K, V> {}

// If a key's `Clone` panics, the iterator is before or after that key.
impl<K: Clone + Eq, V> UnwindSafe for IntoIter<K, V> {}
impl<K: Clone + Eq, V> RefUnwindSafe for IntoIter<K, V> {}

impl<K: Clone + Eq, V> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("remaining", &self.0.len()).finish_non_exhaustive()
    }
}
