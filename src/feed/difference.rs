//! What has changed between a buffer's cursor and a root: found while it is iterated, and borrowed, so that a flush
//! itself only finds out whether there is anything, and clones nothing.

use super::options::{Filter, Tombstones, Wanted};
use crate::content::{Content, Records, Root, Touched, Versioned};
use crate::content::{Entries, Keys};
use crate::key::{BuildPassThrough, Hashed};
use crate::position::Position;
use crate::revision::Revision;
use std::collections::HashMap;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::slice;
use std::sync::Arc;

pub(super) struct Difference<K, V, S> {
    since: Since<K, V>,
    root: Arc<Root<K, V, S>>,
    wanted: Wanted<K>,
}

/// What a root is compared with.
enum Since<K, V> {
    /// Nothing, so that all of it is new. The buffer was made at this revision.
    Nothing(Revision),
    /// A revision that the root's history reaches back to.
    History(Revision),
    /// The content of a revision that the root's history does not reach.
    Content(Content<K, V>),
}

impl<K, V, S> Difference<K, V, S> {
    /// Full, for a buffer that has delivered nothing yet and was made at this revision.
    pub(super) fn everything(root: Arc<Root<K, V, S>>, made: Revision, wanted: &Wanted<K>) -> Self {
        Self { since: Since::Nothing(made), root, wanted: wanted.clone() }
    }

    /// What changed after `cursor`, when `seen` was the content; `None` if that is not known and the history does not
    /// reach back to `cursor`.
    pub(super) fn since(
        root: Arc<Root<K, V, S>>,
        cursor: Revision,
        seen: Option<&Content<K, V>>,
        wanted: &Wanted<K>,
    ) -> Option<Self>
    where
        K: Clone,
    {
        let on_the_history = root.history.after(cursor.0).is_some();
        let since = if on_the_history { Since::History(cursor) } else { Since::Content(seen?.clone()) };
        Some(Self { since, root, wanted: wanted.clone() })
    }

    /// This difference, for the user to keep.
    pub(super) fn into_kept(self) -> Self {
        Self { root: self.root.into_kept(), ..self }
    }

    /// Whether contents are compared, because the history does not reach back so far.
    pub(super) fn is_compared(&self) -> bool {
        matches!(self.since, Since::Content(_))
    }

    pub(super) fn position(&self) -> Position {
        self.root.position()
    }

    pub(super) fn revision(&self) -> Revision {
        self.root.revision
    }

    pub(super) fn root(&self) -> &Arc<Root<K, V, S>> {
        &self.root
    }
}

impl<K: Eq, V, S> Difference<K, V, S> {
    pub(super) fn updates(&self) -> Updates<'_, K, V> {
        let content = &self.root.content;
        let source = match &self.since {
            Since::Nothing(_) => Source::Full(content.iter()),
            Since::History(cursor) => match self.root.history.after(cursor.0) {
                Some(records) => Source::History { content, records, touched: [].iter(), revision: *cursor },
                None => unreachable!("the history of a root does not get shorter"),
            },
            Since::Content(seen) => Source::Compared { entries: content.iter(), seen },
        };
        Updates { source, filter: &self.wanted.filter }
    }

    pub(super) fn removals(&self) -> Vec<&K> {
        let content = &self.root.content;
        let removed = match &self.since {
            Since::Content(seen) => seen.keys().filter(|key| !content.contains_key(*key)).collect(),
            Since::Nothing(_) if self.wanted.tombstones == Tombstones::Delivered => Vec::new(),
            Since::Nothing(cursor) | Since::History(cursor) => self.removals_after(*cursor),
        };
        removed.into_iter().map(|key| &key.key).filter(|key| self.wanted.filter.passes(key)).collect()
    }

    /// The keys that have no value, and that had one at the cursor, according to the oldest commit that touched them
    /// since.
    fn removals_after(&self, cursor: Revision) -> Vec<&Hashed<K>> {
        let touched = || self.root.history.after(cursor.0).into_iter().flatten().flat_map(|record| &record.what);
        let removed = touched().filter(|touched| touched.removed).map(|touched| &touched.key);
        let absent = removed.filter(|key| !self.root.content.contains_key(*key)).map(|key| (key, false));
        let mut absent: HashMap<_, _, BuildPassThrough> = absent.collect();
        if absent.is_empty() {
            return Vec::new();
        }
        // Newest first, so that the oldest has the last word.
        for touched in touched() {
            if let Some(existed) = absent.get_mut(&touched.key) {
                *existed = touched.existed;
            }
        }
        let always = self.wanted.tombstones == Tombstones::Always;
        absent.into_iter().filter(|(_, existed)| *existed || always).map(|(key, _)| key).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.updates().next().is_none() && self.removals().is_empty()
    }
}

impl<K: Clone, V, S> Clone for Difference<K, V, S> {
    fn clone(&self) -> Self {
        let since = match &self.since {
            Since::Nothing(made) => Since::Nothing(*made),
            Since::History(cursor) => Since::History(*cursor),
            Since::Content(seen) => Since::Content(seen.clone()),
        };
        Self { since, root: Arc::clone(&self.root), wanted: self.wanted.clone() }
    }
}

/// The updates of a [`Delivery`](super::Delivery): keys with their latest value and its revision. Each step is O(log n)
/// in the content; if the buffer lagged behind the history, all together are O(n).
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1), ("b", 2)]).build();
/// let delivery = dictionary.change_buffer().flush().unwrap();
/// let updates = delivery.updates();
/// assert_eq!(updates.clone().count(), 2, "a clone begins where it is");
/// assert_eq!(updates.map(|(_, entry)| **entry).sum::<i32>(), 3);
/// ```
pub struct Updates<'a, K, V> {
    source: Source<'a, K, V>,
    filter: &'a Filter<K>,
}

enum Source<'a, K, V> {
    Full(Entries<'a, K, V>),
    History {
        content: &'a Content<K, V>,
        records: Records<'a, Keys<K>>,
        touched: slice::Iter<'a, Touched<K>>,
        revision: Revision,
    },
    Compared {
        entries: Entries<'a, K, V>,
        seen: &'a Content<K, V>,
    },
}

impl<'a, K: Eq, V> Iterator for Updates<'a, K, V> {
    type Item = (&'a K, &'a Versioned<V>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, entry) = self.source.next()?;
            if self.filter.passes(key) {
                return Some((key, entry));
            }
        }
    }
}

impl<'a, K: Eq, V> Source<'a, K, V> {
    fn next(&mut self) -> Option<(&'a K, &'a Versioned<V>)> {
        let (key, entry) = match self {
            Self::Full(entries) => entries.next(),
            Self::History { content, records, touched, revision } => loop {
                let Some(next) = touched.next() else {
                    let record = records.next()?;
                    (*touched, *revision) = (record.what.iter(), Revision(record.at));
                    continue;
                };
                // Of the commits that touched a key, the one that set its value mentions it.
                let entry = content.get(&next.key).filter(|entry| entry.revision() == *revision);
                if let Some(entry) = entry {
                    break Some((&next.key, entry));
                }
            },
            Self::Compared { entries, seen } => {
                entries.find(|(key, entry)| seen.get(*key).map(Versioned::revision) != Some(entry.revision()))
            }
        }?;
        Some((&key.key, entry))
    }
}

impl<K: Eq, V> FusedIterator for Updates<'_, K, V> {}

// Moves past a key before a filter or the key's `Eq` runs: after a panic it continues with the next key.
impl<K, V> UnwindSafe for Updates<'_, K, V> {}
impl<K, V> RefUnwindSafe for Updates<'_, K, V> {}

impl<K, V> Clone for Updates<'_, K, V> {
    fn clone(&self) -> Self {
        let source = match &self.source {
            Source::Full(entries) => Source::Full(entries.clone()),
            Source::History { content, records, touched, revision } => {
                Source::History { content, records: records.clone(), touched: touched.clone(), revision: *revision }
            }
            Source::Compared { entries, seen } => Source::Compared { entries: entries.clone(), seen },
        };
        Self { source, filter: self.filter }
    }
}

impl<K: Eq + std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for Updates<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
