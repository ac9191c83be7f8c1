//! A value together with the commit that set it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The number of a commit: how many changes had been committed when it was done, itself included.
///
/// Revisions of one dictionary are gap-free and totally ordered. An empty dictionary is at [`Revision::ZERO`]; initial
/// content given to the builder is commit 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub(crate) u64);

impl Revision {
    /// The revision of a dictionary in which nothing was ever committed.
    pub const ZERO: Self = Self(0);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Revision> for u64 {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

impl From<u64> for Revision {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// A value and the revision of the commit that set it. Dereferences to the value; clones share it.
pub struct Entry<V> {
    value: Arc<V>,
    revision: Revision,
    created: Revision,
}

impl<V> Entry<V> {
    /// Of a key that had no value before.
    pub(crate) fn new(value: Arc<V>, revision: Revision) -> Self {
        Self { value, revision, created: revision }
    }

    /// The same key with a new value.
    pub(crate) fn replaced(&self, value: Arc<V>, revision: Revision) -> Self {
        Self { value, revision, created: self.created }
    }

    /// The shared value.
    #[must_use]
    pub fn value(&self) -> &Arc<V> {
        &self.value
    }

    /// The shared value, without the revision.
    #[must_use]
    pub fn into_value(self) -> Arc<V> {
        self.value
    }

    /// The revision of the commit that set this value: what [`Change::if_revision`](crate::Change::if_revision) asks for.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision of the commit that gave the key a value, since when it has always had one.
    #[must_use]
    pub const fn created(&self) -> Revision {
        self.created
    }
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), revision: self.revision, created: self.created }
    }
}

/// The same value set by the same commit.
impl<V: PartialEq> PartialEq for Entry<V> {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.value == other.value
    }
}

impl<V: Eq> Eq for Entry<V> {}

impl<V> Deref for Entry<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V: fmt::Debug> fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @ {}", self.value, self.revision)
    }
}
