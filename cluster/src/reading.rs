//! Read, modify, write over a log: what was read becomes the condition of what is written.

use state_dictionary::{Change, Revision, Snapshot, Versioned};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

/// What a closure of [`Node::update_state_with`](crate::Node::update_state_with) reads: the content at one instant. It
/// notes the keys that are read.
pub struct Reading<K, V> {
    snapshot: Snapshot<K, V>,
    read: RefCell<HashMap<K, Option<Revision>>>,
    whole: Cell<bool>,
}

/// What such a closure returns: a [`Change`], or a pair of a change and a value.
pub trait Written<K, V> {
    /// What the operation returns: the revision, or a pair of the revision and the value.
    type Output;
    /// What is returned beside the change.
    type Beside;
    /// The change and the value.
    fn into_parts(self) -> (Change<K, V>, Self::Beside);
    /// What the operation returns.
    fn output(revision: Revision, beside: Self::Beside) -> Self::Output;
}

impl<K, V> Written<K, V> for Change<K, V> {
    type Output = Revision;
    type Beside = ();

    fn into_parts(self) -> (Change<K, V>, ()) {
        (self, ())
    }

    fn output(revision: Revision, (): ()) -> Revision {
        revision
    }
}

impl<K, V, R> Written<K, V> for (Change<K, V>, R) {
    type Output = (Revision, R);
    type Beside = R;

    fn into_parts(self) -> (Change<K, V>, R) {
        self
    }

    fn output(revision: Revision, beside: R) -> (Revision, R) {
        (revision, beside)
    }
}

impl<K: Clone + Eq + Hash, V> Reading<K, V> {
    pub(crate) fn new(snapshot: Snapshot<K, V>) -> Self {
        Self { snapshot, read: RefCell::default(), whole: Cell::new(false) }
    }

    /// The value of a key. The change will be committed only if the key has not been set or removed meanwhile.
    pub fn get(&self, key: impl Into<K>) -> Option<Versioned<V>> {
        let key = key.into();
        let found = self.snapshot.entry(&key).cloned();
        self.read.borrow_mut().insert(key, found.as_ref().map(Versioned::revision));
        found
    }

    /// The whole content. The change will be committed only if there was no other commit meanwhile, which is often in
    /// vain where many write.
    pub fn snapshot(&self) -> &Snapshot<K, V> {
        self.whole.set(true);
        &self.snapshot
    }

    pub(crate) fn into_read(self) -> (HashMap<K, Option<Revision>>, Option<u64>) {
        let Self { snapshot, read, whole } = self;
        (read.into_inner(), whole.get().then(|| snapshot.revision().get()))
    }
}

pub(crate) fn condition<K, V>(change: Change<K, V>, key: K, revision: Option<Revision>) -> Change<K, V> {
    match revision {
        Some(revision) => change.if_revision(key, revision),
        None => change.if_absent(key),
    }
}

impl<K, V> fmt::Debug for Reading<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("revision", &self.snapshot.revision()).finish_non_exhaustive()
    }
}
