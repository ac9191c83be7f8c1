//! What a flush hands out.

use super::difference::{Difference, Updates};
use crate::change::Change;
use crate::content::{Entry, Revision};
use crate::position::Position;
use crate::sync::DefaultHashBuilder;
use std::fmt;

/// What changed between two revisions, merged: the latest value of every key that was set, and the keys that were
/// removed.
///
/// Deliveries of one buffer join without a gap: each begins where the one before ended. Applying them in order to an
/// empty map gives the content at [`to`](Self::to).
///
/// It lends what it delivers, and looks it up while it is iterated; nothing is copied. So iterating is what costs, each
/// time, and until it is dropped a delivery keeps alive what a [`Snapshot`](crate::Snapshot) would (one for which the
/// buffer had fallen off the trail, also the content delivered before). It waits for nothing and holds up nobody.
pub struct Delivery<K, V, S = DefaultHashBuilder> {
    pub(super) from: Revision,
    pub(super) difference: Difference<K, V, S>,
}

impl<K, V, S> Delivery<K, V, S> {
    /// The delivery covers the commits after this revision: where the one before ended, or [`Revision::ZERO`] for a
    /// [fresh start](Self::is_fresh_start).
    #[must_use]
    pub fn from(&self) -> Revision {
        self.from
    }

    /// The delivery covers the commits up to and including this revision.
    #[must_use]
    pub fn to(&self) -> Revision {
        self.difference.to()
    }
}

impl<K, V, S> Delivery<K, V, S> {
    /// Where this delivery brings whoever applies it: what a client keeps to [resume](crate::BufferOptions::resume) from.
    #[must_use]
    pub fn position(&self) -> Position {
        self.difference.position()
    }

    /// Whether this is the whole content (of the keys that are followed), and no difference: whoever applies it must forget
    /// what it had before. So it is of the first delivery of a buffer, unless it could resume from where a client was.
    #[must_use]
    pub fn is_fresh_start(&self) -> bool {
        self.difference.is_everything()
    }
}

impl<K: Eq, V, S> Delivery<K, V, S> {
    /// The keys that were set, each once, with their latest entry, in no particular order, the same each time. O(log n) for
    /// each key touched; of a buffer that fell off the trail, O(n) for all.
    #[must_use]
    pub fn updates(&self) -> Updates<'_, K, V> {
        self.difference.updates()
    }

    /// The keys that were removed, each once, in no particular order. None of them is among the updates. O(k) for k keys
    /// touched, and O(log n) for each that a commit removed; of a buffer that fell off the trail, O(n).
    #[must_use]
    pub fn removals(&self) -> impl ExactSizeIterator<Item = &K> {
        self.difference.removals().into_iter()
    }

    /// The number of keys. 0 only in a fresh start of a client that could not resume. Takes the time of iterating them all.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.updates().count() + self.removals().len()
    }

    /// The updates and the removals, cloned.
    #[must_use]
    pub fn into_parts(self) -> (Vec<(K, Entry<V>)>, Vec<K>)
    where
        K: Clone,
    {
        let updates = self.updates().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        (updates, self.removals().cloned().collect())
    }

    /// The change that does to another dictionary what happened to this one.
    #[must_use]
    pub fn into_change(self) -> Change<K, V>
    where
        K: Clone,
    {
        let change = self
            .updates()
            .fold(Change::new(), |change, (key, entry)| change.set_shared(key.clone(), entry.clone().into_value()));
        self.removals().cloned().fold(change, Change::remove)
    }
}

/// O(1), like a snapshot.
impl<K: Clone, V, S> Clone for Delivery<K, V, S> {
    fn clone(&self) -> Self {
        Self { from: self.from, difference: self.difference.clone() }
    }
}

impl<K: Eq + fmt::Debug, V: fmt::Debug, S> fmt::Debug for Delivery<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("from", &self.from())
            .field("to", &self.to())
            .field("updates", &self.updates())
            .field("removals", &self.difference.removals())
            .finish()
    }
}
