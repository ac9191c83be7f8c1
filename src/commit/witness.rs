//! Callbacks from inside a commit.

use crate::content::{Root, Versioned};
use crate::key::Lookup;
use crate::revision::Revision;
use smallvec::SmallVec;

/// Is called at the steps of a commit.
pub(crate) trait Witness<K, V, S> {
    /// The commit will replace this root, unless the attempt is lost: then there is another call. Drops nothing of the
    /// user's.
    fn replaces(&mut self, _root: &Root<K, V, S>, _hashes: &[u64]) {}

    /// The commit was made. Must not panic.
    fn committed(&mut self, revision: Revision);
}

impl<K, V, S, F: FnMut(Revision)> Witness<K, V, S> for F {
    fn committed(&mut self, revision: Revision) {
        self(revision);
    }
}

pub(crate) type Note<'a, K, V, S> = &'a mut dyn Witness<K, V, S>;

/// The note with a shorter lifetime, which only a coercion outside of `Option` can give it.
pub(crate) fn shortened<'a, 'b: 'a, K, V, S>(note: Option<Note<'b, K, V, S>>) -> Option<Note<'a, K, V, S>> {
    note.map(|note| note as _)
}

/// Keeps the value that a commit of one key replaces.
pub(crate) struct Replacing<'a, K, V, S> {
    key: &'a K,
    /// One for each attempt: none is dropped before the last attempt is over, because a value's `Drop` may commit.
    values: SmallVec<[Option<Versioned<V>>; 1]>,
    note: Option<Note<'a, K, V, S>>,
}

impl<'a, K, V, S> Replacing<'a, K, V, S> {
    pub(crate) fn new(key: &'a K, note: Option<Note<'a, K, V, S>>) -> Self {
        Self { key, values: SmallVec::new(), note }
    }

    /// The value that the last attempt has seen.
    pub(crate) fn value(mut self) -> Option<Versioned<V>> {
        self.values.pop().flatten()
    }
}

impl<K: Eq, V, S> Witness<K, V, S> for Replacing<'_, K, V, S> {
    fn replaces(&mut self, root: &Root<K, V, S>, hashes: &[u64]) {
        let found = hashes.first().and_then(|&hash| root.content.get(&Lookup { hash, key: self.key }));
        self.values.push(found.cloned());
    }

    fn committed(&mut self, revision: Revision) {
        if let Some(note) = &mut self.note {
            note.committed(revision);
        }
    }
}
