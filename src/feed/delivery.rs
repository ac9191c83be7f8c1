//! What a flush hands out.

use crate::change::Change;
use crate::content::{Entry, Revision};
use std::fmt;

/// What changed between two revisions, merged: the latest value of every key that was set, and the keys that were
/// removed.
///
/// Deliveries of one buffer join without a gap: each begins where the one before ended. Applying them in order to an
/// empty map gives the content at [`to`](Self::to).
#[derive(PartialEq, Eq)]
pub struct Delivery<K, V> {
    pub(super) from: Revision,
    pub(super) to: Revision,
    pub(super) updates: Vec<(K, Entry<V>)>,
    pub(super) removals: Vec<K>,
}

impl<K, V> Delivery<K, V> {
    /// The delivery covers the commits after this revision: where the one before ended, or [`Revision::ZERO`] for the
    /// first, which holds the whole content.
    #[must_use]
    pub fn from(&self) -> Revision {
        self.from
    }

    /// The delivery covers the commits up to and including this revision.
    #[must_use]
    pub fn to(&self) -> Revision {
        self.to
    }

    /// The keys that were set, each once, with their latest entry, in no particular order.
    #[must_use]
    pub fn updates(&self) -> &[(K, Entry<V>)] {
        &self.updates
    }

    /// The keys that were removed, each once, in no particular order. None of them is among the updates.
    #[must_use]
    pub fn removals(&self) -> &[K] {
        &self.removals
    }

    /// The number of keys. Never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.updates.len() + self.removals.len()
    }

    /// The updates and the removals.
    #[must_use]
    pub fn into_parts(self) -> (Vec<(K, Entry<V>)>, Vec<K>) {
        (self.updates, self.removals)
    }

    /// The change that does to another dictionary what happened to this one.
    #[must_use]
    pub fn into_change(self) -> Change<K, V> {
        let change = self
            .updates
            .into_iter()
            .fold(Change::new(), |change, (key, entry)| change.set_shared(key, entry.into_value()));
        self.removals.into_iter().fold(change, Change::remove)
    }
}

impl<K: Clone, V> Clone for Delivery<K, V> {
    fn clone(&self) -> Self {
        Self { from: self.from, to: self.to, updates: self.updates.clone(), removals: self.removals.clone() }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Delivery<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("updates", &self.updates)
            .field("removals", &self.removals)
            .finish()
    }
}
