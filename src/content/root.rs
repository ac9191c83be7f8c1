//! The immutable root, and how the root after a commit is made from the one before.

use super::trail::Touched;
use super::{Entry, Revision, Trail};
use crate::change::Change;
use crate::error::FailedCondition;
use crate::sync::ThreadId;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// The content: a persistent hash map, so that a root shares all but a path with the root before it.
pub(crate) type Content<K, V, S> = im::GenericHashMap<K, Entry<V>, S, im::shared_ptr::DefaultSharedPtr>;

/// Everything that is true at one instant. Never changes; is replaced.
pub(crate) struct Root<K, V, S> {
    /// +1 for every root. What a lock was granted at, and so its fencing token.
    pub(crate) version: u64,
    /// +1 for every committed change.
    pub(crate) revision: Revision,
    pub(crate) content: Content<K, V, S>,
    pub(crate) trail: Trail<K>,
    /// Set while a guard of `lock_content` holds the content. In the root, so that no commit can miss it.
    pub(crate) held: Option<Hold>,
    /// No more commits, ever.
    pub(crate) frozen: bool,
}

/// A guard of `lock_content`, as writers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// The version of the root that began it.
    pub(crate) version: u64,
    pub(crate) thread: ThreadId,
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher + Clone> Root<K, V, S> {
    pub(crate) fn new(hasher: S, initial: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut content = Content::with_hasher(hasher);
        for (key, value) in initial {
            content.insert(key, Entry::new(Arc::new(value), Revision(1)));
        }
        let revision = Revision(u64::from(!content.is_empty()));
        Self { version: 0, revision, content, trail: Trail::starting_after(revision), held: None, frozen: false }
    }

    /// The same in everything but its version.
    pub(crate) fn successor(&self) -> Self {
        Self {
            version: self.version + 1,
            revision: self.revision,
            content: self.content.clone(),
            trail: self.trail.clone(),
            held: self.held,
            frozen: self.frozen,
        }
    }

    /// The root after `change`.
    pub(crate) fn after(&self, change: &Change<K, V>, trail_limit: usize) -> Self {
        let revision = self.revision.next();
        let mut content = self.content.clone();
        let mut touched = Vec::with_capacity(change.len());
        for (key, value) in change.operations() {
            let existed = match value {
                Some(value) => content.insert(key.clone(), Entry::new(Arc::clone(value), revision)).is_some(),
                // Looked up first: removing a key that is not there would copy the path to it all the same.
                None => content.contains_key(key) && content.remove(key).is_some(),
            };
            touched.push(Touched { key: key.clone(), existed });
        }
        Self {
            version: self.version + 1,
            revision,
            content,
            trail: self.trail.with(revision, touched, trail_limit),
            held: self.held,
            frozen: self.frozen,
        }
    }

    /// The conditions of `change` that do not hold here.
    pub(crate) fn failed_conditions(&self, change: &Change<K, V>) -> Vec<FailedCondition<K>> {
        let judged =
            change.conditions().map(|(key, expected)| (key, expected, self.content.get(key).map(Entry::revision)));
        judged
            .filter(|(_, expected, found)| !expected.holds(*found))
            .map(|(key, expected, found)| FailedCondition { key: key.clone(), expected, found })
            .collect()
    }
}
