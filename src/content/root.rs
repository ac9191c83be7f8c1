//! The immutable root, and how the root after a commit is made from the one before.

use super::graveyard::Graveyard;
use super::trail::{Keys, Touched};
use super::{Entry, Revision, Trail};
use crate::change::Change;
use crate::error::FailedCondition;
use crate::key::{BuildPassThrough, Hashed, Lookup};
use crate::sync::ThreadId;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The content: a persistent hash map, so that a root shares all but a path with the root before it.
pub(crate) type Content<K, V> =
    im::GenericHashMap<Hashed<K>, Entry<V>, BuildPassThrough, im::shared_ptr::DefaultSharedPtr>;

/// Of a content, in no particular order.
pub(crate) type Entries<'a, K, V> = im::hashmap::Iter<'a, Hashed<K>, Entry<V>, im::shared_ptr::DefaultSharedPtr>;

/// Everything that is true at one instant. Never changes once it is published; is replaced.
pub(crate) struct Root<K, V, S> {
    /// +1 for every root. What a lock was granted at, and so its fencing token.
    pub(crate) version: u64,
    /// +1 for every committed change. Content is a function of it.
    pub(crate) revision: Revision,
    pub(crate) content: Content<K, V>,
    pub(crate) trail: Trail<K>,
    /// Set while a guard of `lock_content` holds the content. In the root, so that no commit can miss it.
    pub(crate) held: Option<Hold>,
    /// No more commits, ever.
    pub(crate) frozen: bool,
    /// Whether a buffer keeps the content, for [`keep`](super::Turn::keep), which would only copy it then.
    followed: AtomicBool,
    pub(super) shared: Arc<Shared<K, V, S>>,
}

/// What all roots of a dictionary have in common.
pub(crate) struct Shared<K, V, S> {
    pub(crate) hasher: S,
    pub(super) graveyard: Graveyard<K, V>,
}

/// A guard of `lock_content`, as writers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// The version of the root that began it.
    pub(crate) version: u64,
    pub(crate) thread: ThreadId,
}

impl<K, V, S: BuildHasher> Shared<K, V, S> {
    /// The key as the content knows it.
    pub(crate) fn lookup<'a, Q: Hash + ?Sized>(&self, key: &'a Q) -> Lookup<'a, Q> {
        Lookup { hash: self.hasher.hash_one(key), key }
    }
}

impl<K: Clone + Eq, V, S> Root<K, V, S> {
    pub(crate) fn new(hasher: S, initial: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Hash,
        S: BuildHasher,
    {
        let mut content = Content::default();
        for (key, value) in initial {
            let hash = hasher.hash_one(&key);
            content.insert(Hashed { hash, key }, Entry::new(Arc::new(value), Revision(1)));
        }
        let revision = Revision(u64::from(!content.is_empty()));
        Self {
            version: 0,
            revision,
            content,
            trail: Trail::starting_after(revision),
            held: None,
            frozen: false,
            followed: AtomicBool::new(false),
            shared: Arc::new(Shared { hasher, graveyard: Graveyard::new() }),
        }
    }

    /// The same in everything but its version.
    pub(crate) fn successor(&self) -> Self {
        let mut next = self.bare();
        next.version += 1;
        next.trail = self.trail.clone();
        next
    }

    /// A root to be made into another one: the content of this one, without its trail.
    pub(super) fn bare(&self) -> Self {
        Self {
            version: self.version,
            revision: self.revision,
            content: self.content.clone(),
            trail: Trail::starting_after(self.revision),
            held: self.held,
            frozen: self.frozen,
            followed: AtomicBool::new(false),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Makes this root, whose content is that of `base`, the one that follows `base` by `change`.
    ///
    /// What this lets go of `base` still has, so nothing of the user's is dropped but clones of keys.
    pub(super) fn commit(&mut self, base: &Self, change: &Change<K, V>, hashes: &[u64], trail_limit: usize) {
        let revision = base.revision.next();
        let touched = self.carry_out(base, change, hashes, revision);
        self.version = base.version + 1;
        self.revision = revision;
        self.trail = base.trail.with(revision, touched, trail_limit);
        self.held = base.held;
        self.frozen = base.frozen;
        *self.followed.get_mut() = false;
    }

    /// The content, for a buffer to keep.
    pub(crate) fn follow(&self) -> Content<K, V> {
        // ORDERING: Relaxed, for it matters only to whoever is the last to have this root, and nothing goes by it.
        self.followed.store(true, Ordering::Relaxed);
        self.content.clone()
    }

    pub(super) fn is_followed(&self) -> bool {
        // ORDERING: Relaxed, see `follow`.
        self.followed.load(Ordering::Relaxed)
    }

    /// Carries out the operations, last one first: whichever touches a key first is the one that counts.
    fn carry_out(&mut self, base: &Self, change: &Change<K, V>, hashes: &[u64], revision: Revision) -> Keys<K> {
        let mut touched = Keys::with_capacity(hashes.len());
        let mut removing = false;
        // Keys removed that were not there before: the content does not show that they were touched.
        let mut vain = HashSet::with_hasher(BuildPassThrough::default());
        for ((key, value), &hash) in change.operations().zip(hashes).rev() {
            let lookup = Lookup { hash, key };
            let removed = || removing && (base.content.contains_key(&lookup) || vain.contains(&Hashed { hash, key }));
            let (key, existed) = match value {
                Some(value) => match self.content.get_key_value_mut(&lookup) {
                    Some((_, present)) if present.revision() == revision => continue,
                    None if removed() => continue,
                    // The key that is there already, so that all of the store shares one clone of it.
                    Some((key, present)) => {
                        *present = Entry::new(Arc::clone(value), revision);
                        (key.clone(), true)
                    }
                    None => {
                        let key = Hashed { hash, key: key.clone() };
                        self.content.insert(key.clone(), Entry::new(Arc::clone(value), revision));
                        (key, false)
                    }
                },
                None => match self.content.get_key_value(&lookup) {
                    Some((_, found)) if found.revision() == revision => continue,
                    None if removed() => continue,
                    // Looked up first: removing a key that is not there would copy the path to it all the same.
                    Some((key, _)) => {
                        let key = key.clone();
                        self.content.remove(&lookup);
                        (key, true)
                    }
                    None => {
                        vain.insert(Hashed { hash, key });
                        (Hashed { hash, key: key.clone() }, false)
                    }
                },
            };
            removing |= value.is_none();
            touched.push(Touched { key, existed, removed: value.is_none() });
        }
        touched
    }

    /// The conditions of `change` that do not hold here.
    pub(crate) fn failed_conditions(&self, change: &Change<K, V>) -> Vec<FailedCondition<K>>
    where
        K: Hash,
        S: BuildHasher,
    {
        let found = |key| self.content.get(&self.shared.lookup(key)).map(Entry::revision);
        let judged = change.conditions().map(|(key, expected)| (key, expected, found(key)));
        judged
            .filter(|(_, expected, found)| !expected.holds(*found))
            .map(|(key, expected, found)| FailedCondition { key: key.clone(), expected, found })
            .collect()
    }
}
