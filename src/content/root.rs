//! The immutable root, and how a commit makes the next root from it.

use super::hash::sum_of_hashes;
use super::history::Keys;
use crate::change::Change;
use crate::content::{History, Logged, Touched, Versioned};
use crate::deferred_drops::{Deferred, DeferredDrops, is_deferring};
use crate::error::FailedCondition;
use crate::event::{LockChange, LockRecord, Origin};
use crate::key::{BuildPassThrough, Hashed, Lookup};
use crate::observe::Observed;
use crate::position::{Position, StoreId};
use crate::revision::Revision;
use crate::sync::{ThreadId, current_thread};
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The content: a persistent hash map, so that a root shares all except a few paths with the root before it.
pub(crate) type Content<K, V> =
    im::GenericHashMap<Hashed<K>, Versioned<V>, BuildPassThrough, im::shared_ptr::DefaultSharedPtr>;

/// Of a content, in no particular order.
pub(crate) type Entries<'a, K, V> = im::hashmap::Iter<'a, Hashed<K>, Versioned<V>, im::shared_ptr::DefaultSharedPtr>;

/// Everything that is true at one instant. It never changes once it is published; it is replaced.
pub(crate) struct Root<K, V, S> {
    /// Rises by 1 with every root.
    pub(crate) version: u64,
    /// Rises by 1 with every commit. The content is a function of it.
    pub(crate) revision: Revision,
    pub(crate) content: Content<K, V>,
    /// The sum of the hashes of all entries; 0 if it is not kept.
    pub(crate) content_hash: u64,
    pub(crate) history: History<Keys<K>>,
    /// The latest commits as they were made; `None` if there are none, or if commits are not kept.
    pub(crate) commits: Option<Arc<History<Box<Logged<K, V>>>>>,
    /// The number of the latest grant or end of a lock: the version at which it was, unless numbers are given from
    /// outside.
    pub(crate) lock_version: u64,
    /// The latest lock events, by version; `None` if there are none, or if they are not kept.
    pub(crate) lock_history: Option<Arc<History<LockRecord<K>>>>,
    /// Set while a guard of `lock_content` locks the content. In the root, so that no commit can miss it.
    pub(crate) held: Option<Hold>,
    /// No more commits, ever.
    pub(crate) frozen: bool,
    /// Whether a buffer keeps the content: `Turn::keep` would have to copy it then.
    followed: AtomicBool,
    pub(crate) shared: Arc<Shared<K, V, S>>,
}

/// What all roots of a dictionary share.
pub(crate) struct Shared<K, V, S> {
    pub(crate) hasher: S,
    pub(crate) id: StoreId,
    /// The hash of an entry, if the content's hash is kept.
    pub(crate) entry_hash: Option<fn(&K, &V) -> u64>,
    pub(crate) deferred_drops: DeferredDrops<RootParts<K, V>>,
    pub(crate) observed: Observed,
    /// `Root::without_history`, kept so that taking and cloning a snapshot need not ask for `K: Clone`.
    without_history: fn(&Root<K, V, S>) -> Root<K, V, S>,
}

/// The parts of a root that may own values, keys or tokens of the user's.
pub(crate) struct RootParts<K, V> {
    _content: Content<K, V>,
    _history: History<Keys<K>>,
    _commits: Option<Arc<History<Box<Logged<K, V>>>>>,
    _lock_history: Option<Arc<History<LockRecord<K>>>>,
}

/// A guard of `lock_content`, as writers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// The version of the root that began it.
    pub(crate) version: u64,
    /// The thread whose writes past the guard are refused; `None` if the guard may be sent to other threads.
    pub(crate) thread: Option<ThreadId>,
}

impl Hold {
    pub(crate) fn is_of_this_thread(&self) -> bool {
        self.thread.is_some_and(|thread| thread == current_thread())
    }
}

impl<K, V, S: BuildHasher> Shared<K, V, S> {
    /// The key as the content knows it.
    pub(crate) fn lookup<'a, Q: Hash + ?Sized>(&self, key: &'a Q) -> Lookup<'a, Q> {
        Lookup { hash: self.hasher.hash_one(key), key }
    }
}

impl<K, V, S> Shared<K, V, S> {
    /// Carries out the deferred drops. Nothing may be locked, and all waiters must have been notified.
    pub(crate) fn settle(&self, _: Deferred) {
        self.deferred_drops.empty();
    }

    /// Calls [`settle`](Self::settle) when the returned guard is dropped, also while unwinding.
    pub(crate) fn settle_later(&self, deferred: Deferred) -> Settling<'_, K, V, S> {
        Settling(self, deferred)
    }
}

/// Carries out the deferred drops when it is dropped.
pub(crate) struct Settling<'a, K, V, S>(&'a Shared<K, V, S>, Deferred);

impl<K, V, S> Drop for Settling<'_, K, V, S> {
    fn drop(&mut self) {
        self.0.settle(self.1);
    }
}

impl<K, V, S> Root<K, V, S> {
    pub(crate) fn shared(&self) -> &Shared<K, V, S> {
        &self.shared
    }

    pub(crate) fn position(&self) -> Position {
        Position { store: self.shared.id, revision: self.revision }
    }

    /// This root for a handle that the user may keep: it has the content and the history of touched keys, and neither
    /// the kept commits nor the lock events, whose values and tokens are not of its instant. O(1); allocates only if
    /// there are any.
    #[inline]
    pub(crate) fn into_kept(self: Arc<Self>) -> Arc<Self> {
        if self.has_history() { self.into_kept_without_history() } else { self }
    }

    #[cold]
    #[inline(never)]
    fn into_kept_without_history(self: Arc<Self>) -> Arc<Self> {
        // The content is shared although this root is not, so a commit that changed it in place would have to copy
        // it.
        self.mark_followed();
        Arc::new((self.shared.without_history)(&self))
    }

    #[inline]
    pub(crate) fn has_history(&self) -> bool {
        self.commits.is_some() || self.lock_history.is_some()
    }

    fn mark_followed(&self) {
        // ORDERING: Relaxed, for only the last owner of this root uses it, and only to save work.
        self.followed.store(true, Ordering::Relaxed);
    }

    /// Notes that locks were granted or ended, under this number, and the events, if they are kept.
    pub(crate) fn locks_changed(&mut self, number: u64, changes: Option<&Arc<[LockChange<K, Origin>]>>, limit: usize) {
        if let Some(changes) = changes {
            let none = || History::starting_after(self.lock_version);
            let history = self.lock_history.as_deref().map_or_else(none, History::clone);
            let record = LockRecord { revision: self.revision, changes: Arc::clone(changes) };
            self.lock_history = Some(Arc::new(history.with(number, record, changes.len(), limit)));
        }
        self.lock_version = number;
    }
}

impl<K: Clone + Eq, V, S> Root<K, V, S> {
    pub(crate) fn new(
        hasher: S,
        initial: impl IntoIterator<Item = (K, V)>,
        entry_hash: Option<fn(&K, &V) -> u64>,
    ) -> Self
    where
        K: Hash,
        S: BuildHasher,
    {
        let initial = initial.into_iter().map(|(key, value)| (key, Arc::new(value), Revision(1)));
        let content = content_of(&hasher, initial);
        let revision = Revision(u64::from(!content.is_empty()));
        Self::with_content(hasher, StoreId::random(), revision, content, entry_hash)
    }

    /// A root with this content and no history.
    pub(crate) fn with_content(
        hasher: S,
        id: StoreId,
        revision: Revision,
        content: Content<K, V>,
        entry_hash: Option<fn(&K, &V) -> u64>,
    ) -> Self {
        Self {
            version: 0,
            revision,
            content_hash: sum_of_hashes(&content, entry_hash),
            content,
            history: History::starting_after(revision.0),
            commits: None,
            lock_version: 0,
            lock_history: None,
            held: None,
            frozen: false,
            followed: AtomicBool::new(false),
            shared: Arc::new(Shared {
                hasher,
                id,
                entry_hash,
                deferred_drops: DeferredDrops::new(),
                observed: Observed::new(id),
                without_history: Self::without_history,
            }),
        }
    }

    /// A root that is the same except for its version.
    pub(crate) fn successor(&self) -> Self {
        let mut next = self.bare();
        next.version += 1;
        next.history = self.history.clone();
        next.inherit_history(self);
        next
    }

    /// A root to be made into another one: the content of this one, without its histories.
    pub(crate) fn bare(&self) -> Self {
        Self {
            version: self.version,
            revision: self.revision,
            content: self.content.clone(),
            content_hash: self.content_hash,
            history: History::starting_after(self.revision.0),
            commits: None,
            lock_version: self.lock_version,
            lock_history: None,
            held: self.held,
            frozen: self.frozen,
            followed: AtomicBool::new(false),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Takes the kept commits and lock events over from `base`. This root has none.
    #[inline]
    fn inherit_history(&mut self, base: &Self) {
        if base.has_history() {
            self.commits.clone_from(&base.commits);
            self.lock_history.clone_from(&base.lock_history);
        }
    }

    /// The same, without kept commits and lock events.
    fn without_history(&self) -> Self {
        let mut next = self.bare();
        next.history = self.history.clone();
        next
    }

    /// Makes this root, whose content is that of `base`, the one that follows `base` by `change`. `logged` is the
    /// change to be kept; `None` if commits are not kept, or if it names more keys than `history_limit`.
    ///
    /// `base` still has all that this root drops, except for clones of keys. So nothing else of the user's is dropped.
    pub(crate) fn commit(
        &mut self,
        base: &Self,
        change: &Change<K, V>,
        hashes: &[u64],
        logged: Option<Box<Logged<K, V>>>,
        history_limit: usize,
    ) {
        let revision = base.revision.next();
        let touched = self.carry_out(base, change, hashes, revision);
        let keys = touched.len();
        if let Some(hash) = self.shared.entry_hash {
            self.content_hash = self.hash_after(base, &touched, hash);
        }
        self.version = base.version + 1;
        self.revision = revision;
        self.history = base.history.with(revision.0, touched, keys, history_limit);
        self.inherit_history(base);
        // A kept commit may name a key many times.
        self.log(logged, change.len(), history_limit);
        self.lock_version = base.lock_version;
        self.held = base.held;
        self.frozen = base.frozen;
        *self.followed.get_mut() = false;
    }

    /// Makes this root, which is not yet published, one with an imported content. Feeds find the difference by comparing:
    /// no history reaches back beyond it.
    pub(crate) fn become_imported(
        &mut self,
        content: &Content<K, V>,
        hash: u64,
        revision: Revision,
        fence: u64,
        frozen: bool,
    ) {
        (self.content, self.content_hash, self.revision) = (content.clone(), hash, revision);
        self.history = History::starting_after(revision.0);
        (self.commits, self.lock_history) = (None, None);
        // If it is the same, the locks are the same.
        self.lock_version = fence.max(self.lock_version);
        self.version = self.version.max(self.lock_version);
        self.frozen = frozen;
    }

    /// Whether the commit with this revision set the present value of the key.
    pub(crate) fn is_at(&self, key: &Hashed<K>, revision: Revision) -> bool {
        self.content.get(key).is_some_and(|entry| entry.revision() == revision)
    }

    /// Removes keys that are there, as one commit, in this root, which is not yet published. Drops nothing of the
    /// user's: it returns the removed entries.
    pub(crate) fn remove<'a>(
        &mut self,
        keys: impl ExactSizeIterator<Item = &'a Hashed<K>> + Clone,
        logged: Option<impl FnOnce(Change<K, V>) -> Box<Logged<K, V>>>,
        history_limit: usize,
    ) -> Vec<(Hashed<K>, Versioned<V>)>
    where
        K: 'a,
    {
        let count = keys.len();
        let removed: Vec<_> = keys.clone().filter_map(|key| self.content.remove_with_key(key)).collect();
        for (key, entry) in &removed {
            self.subtract_hash(&key.key, entry);
        }
        self.revision = self.revision.next();
        if count > history_limit {
            self.history = History::starting_after(self.revision.0);
            self.log(None, count, history_limit);
            return removed;
        }
        let change = || keys.clone().fold(Change::new(), |change, key| change.remove(key.key.clone()));
        let logged = logged.map(|log| log(change()));
        let touched = keys.map(|key| Touched { key: key.clone(), existed: true, removed: true });
        self.history = self.history.with(self.revision.0, touched.collect(), count, history_limit);
        self.log(logged, count, history_limit);
        removed
    }

    /// Keeps the commit of this root's revision as it was made. `None` means that commits are not kept or that this one
    /// names more keys than the limit; in the second case no earlier commit is kept either.
    #[inline]
    fn log(&mut self, logged: Option<Box<Logged<K, V>>>, keys: usize, limit: usize) {
        let Revision(revision) = self.revision;
        if let Some(logged) = logged {
            let none = || History::starting_after(revision - 1);
            let history = self.commits.as_deref().map_or_else(none, History::clone);
            self.commits = Some(Arc::new(history.with(revision, logged, keys, limit)));
        } else if let Some(commits) = &mut self.commits {
            *commits = Arc::new(History::starting_after(revision));
        }
    }

    /// The content, for a buffer to keep.
    pub(crate) fn follow(&self) -> Content<K, V> {
        self.mark_followed();
        self.content.clone()
    }

    pub(crate) fn is_followed(&self) -> bool {
        // ORDERING: Relaxed, see `mark_followed`.
        self.followed.load(Ordering::Relaxed)
    }

    /// Carries out the operations, last one first: of those on one key only the first that it meets counts.
    fn carry_out(&mut self, base: &Self, change: &Change<K, V>, hashes: &[u64], revision: Revision) -> Keys<K> {
        let mut touched = Keys::with_capacity(hashes.len());
        let mut removing = false;
        // Removed keys that had no value: the content does not show that they were touched.
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
                        *present = Versioned::new(Arc::clone(value), revision);
                        (key.clone(), true)
                    }
                    None => {
                        let key = Hashed { hash, key: key.clone() };
                        self.content.insert(key.clone(), Versioned::new(Arc::clone(value), revision));
                        (key, false)
                    }
                },
                None => match self.content.get_key_value(&lookup) {
                    Some((_, found)) if found.revision() == revision => continue,
                    None if removed() => continue,
                    // Looked up first: removing a key that has no value would copy the path to it all the same.
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
        let found = |key| self.content.get(&self.shared.lookup(key)).map(Versioned::revision);
        let judged = change.conditions().map(|(key, expected)| (key, expected, found(key)));
        judged
            .filter(|(_, expected, found)| !expected.holds(*found))
            .map(|(key, expected, found)| FailedCondition { key: key.clone(), expected, found })
            .collect()
    }
}

/// A content with these entries.
pub(crate) fn content_of<K: Clone + Eq + Hash, V>(
    hasher: &impl BuildHasher,
    entries: impl IntoIterator<Item = (K, Arc<V>, Revision)>,
) -> Content<K, V> {
    let mut content = Content::default();
    for (key, value, revision) in entries {
        let hash = hasher.hash_one(&key);
        content.insert(Hashed { hash, key }, Versioned::new(value, revision));
    }
    content
}

impl<K, V, S> Drop for Root<K, V, S> {
    fn drop(&mut self) {
        if is_deferring() {
            let parts = RootParts {
                _content: mem::take(&mut self.content),
                _history: mem::replace(&mut self.history, History::starting_after(0)),
                _commits: self.commits.take(),
                _lock_history: self.lock_history.take(),
            };
            self.shared.deferred_drops.put(parts);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::deferred_drops::defer_drops;
    use crate::sync::DefaultHashBuilder;
    use std::cell::RefCell;
    use std::thread;

    type Number = Root<u8, u32, DefaultHashBuilder>;

    /// A root, and whether its value is still alive.
    struct DefersAtExit(Option<Number>);

    impl Drop for DefersAtExit {
        fn drop(&mut self) {
            let Some(root) = self.0.take() else { return };
            defers(root);
        }
    }

    thread_local! {
        static AT_EXIT: RefCell<Option<DefersAtExit>> = const { RefCell::new(None) };
    }

    fn root() -> Number {
        Root::new(DefaultHashBuilder::default(), [(1, 1)], None)
    }

    fn defers(root: Number) {
        let (shared, value) =
            (Arc::clone(&root.shared), root.content.values().next().map(|entry| Arc::downgrade(entry.value())));
        let is_there = || value.as_ref().is_some_and(|value| value.strong_count() > 0);
        let ((), deferred) = defer_drops(|| drop(root));
        assert!(is_there());
        shared.settle(deferred);
        assert!(!is_there());
    }

    #[test]
    fn drops_are_deferred_also_while_a_thread_ends() {
        defers(root());
        let ended = thread::spawn(|| {
            AT_EXIT.with(|at_exit| *at_exit.borrow_mut() = Some(DefersAtExit(Some(root()))));
            defers(root());
        });
        assert!(ended.join().is_ok());
    }
}
