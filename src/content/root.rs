//! The immutable root, how the root after a commit is made from the one before, and where roots go when they are dropped
//! at a bad moment.

use super::trail::Touched;
use super::{Entry, Revision, Trail};
use crate::change::Change;
use crate::error::FailedCondition;
use crate::sync::{Mutex, ThreadId, thread_local};
use std::cell::Cell;
use std::hash::{BuildHasher, Hash};
use std::mem;
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
    graveyard: Arc<Graveyard<K, V, S>>,
    /// `Clone` of the hasher, for `Drop`, which cannot ask for it.
    clone_hasher: fn(&S) -> S,
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
        Self {
            version: 0,
            revision,
            content,
            trail: Trail::starting_after(revision),
            held: None,
            frozen: false,
            graveyard: Arc::new(Graveyard(Mutex::new(Vec::new()))),
            clone_hasher: S::clone,
        }
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
            graveyard: Arc::clone(&self.graveyard),
            clone_hasher: self.clone_hasher,
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
            graveyard: Arc::clone(&self.graveyard),
            clone_hasher: self.clone_hasher,
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

/// What was left of roots whose last owner let go of them at a bad moment: with a shard locked, or before those who wait
/// for a change were notified of it.
///
/// Dropping a root can drop the user's keys and values, whose `Drop` may use the dictionary or panic. Yet whoever replaces
/// the root cannot know what it will be the last to own: arc-swap lets go of other threads' roots inside its `load` and its
/// `compare_and_swap`. So a root that is dropped inside [`put_off_drops`] leaves its content here.
struct Graveyard<K, V, S>(Mutex<Vec<(Content<K, V, S>, Trail<K>)>>);

/// That roots may be in their graveyard, to be [settled](super::Published::settle) when nothing is locked.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub(crate) struct PutOff(bool);

impl PutOff {
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 || other.0)
    }

    pub(super) const fn happened(self) -> bool {
        self.0
    }
}

thread_local! {
    /// Inside `put_off_drops`: whether it has happened yet that a drop was put off.
    #[allow(clippy::missing_const_for_thread_local)] // loom's macro does not know `const`
    static PUTTING_OFF: Cell<Option<PutOff>> = Cell::new(None);
}

/// Runs `act` so that roots dropped meanwhile by this thread go to their graveyard.
pub(crate) fn put_off_drops<R>(act: impl FnOnce() -> R) -> (R, PutOff) {
    struct Restore(Option<PutOff>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PUTTING_OFF.with(|putting_off| putting_off.set(self.0));
        }
    }
    let restore = Restore(PUTTING_OFF.with(|putting_off| putting_off.replace(Some(PutOff(false)))));
    let result = act();
    let put_off = PUTTING_OFF.with(Cell::get).unwrap_or_default();
    drop(restore);
    (result, put_off)
}

impl<K, V, S> Root<K, V, S> {
    /// Drops what was put off. Nothing may be locked.
    pub(super) fn empty_graveyard(&self) {
        let remains = mem::take(&mut *self.graveyard.0.lock());
        drop(remains);
    }
}

impl<K, V, S> Drop for Root<K, V, S> {
    fn drop(&mut self) {
        // Where there is no thread-local any more, because the thread is ending, nothing is put off.
        if PUTTING_OFF.try_with(Cell::get).is_ok_and(|putting_off| putting_off.is_some()) {
            PUTTING_OFF.with(|putting_off| putting_off.set(Some(PutOff(true))));
            let empty = Content::with_hasher((self.clone_hasher)(self.content.hasher()));
            let content = mem::replace(&mut self.content, empty);
            let trail = mem::replace(&mut self.trail, Trail::starting_after(self.revision));
            self.graveyard.0.lock().push((content, trail));
        }
    }
}
