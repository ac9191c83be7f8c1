//! The spare root, which saves a commit from copying a path of the map.
//!
//! A root that has just been replaced has, as a rule, no other owner, and differs from its successor by one change. So
//! the thread that replaced it applies that change to it as well, in place, and keeps it as the spare. The next commit
//! finds a root with the present content that it alone owns, changes it in place, and publishes it; the root that it
//! replaces becomes the spare. Two trees take turns, as in left-right, and each change is applied twice instead of
//! copying the nodes on its path (and counting up, and later down, every reference in them). This costs memory, up to a
//! second set of the map's nodes, though not of values, nor of keys whose clones share. It also means that a tree which
//! a snapshot keeps is later freed as a whole. So if there are many keys and frequent snapshots, paths are copied.
//!
//! It is safe by `Arc::get_mut` alone: a root that a snapshot, a reader or another writer still owns is not changed;
//! then a path is copied as if there were no spare. The compare-and-swap that publishes the root is the same in both
//! cases, and the only one.
//!
//! The spare comes with the *turn* to commit. Other writers wait for the turn, since they would lose their swap. But
//! they wait for a bounded time and then commit without it, and once one wait has timed out, no other thread waits for
//! that owner. So a thread that is suspended with the turn delays each of the others once, for at most that time.

use crate::change::Change;
use crate::content::Keys;
use crate::content::{History, Logged, Root, Touched, Versioned};
use crate::event::LockRecord;
use crate::key::Hashed;
use crate::revision::Revision;
use crate::sync::{AtomicUsize, Backoff, MutexGuard, Ordering, TurnLock};
use smallvec::SmallVec;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A spare root is maintained while fewer keys were touched than there are, or than this.
const SMALL: usize = 16;

/// If a snapshot keeps a tree, the thread that drops the snapshot frees it: about 130 ns for every key. With at most
/// this many keys that does not matter.
const FEW: usize = 1 << 12;
/// With more keys than this it would, however seldom it happens.
const MOST: usize = 1 << 17;

/// For how many rounds of spinning a commit waits for readers of the root that it has replaced: about a microsecond.
const PATIENCE: usize = 5;

pub(crate) struct Spare<K, V, S> {
    state: TurnLock<State<K, V, S>>,
    /// Above 0 once no spare roots are to be kept any more.
    closed: AtomicUsize,
}

struct State<K, V, S> {
    root: Option<Arc<Root<K, V, S>>>,
    /// Whether the last replaced root soon had no other owner: then waiting for that is worthwhile.
    patient: bool,
    /// How many commits ago a replaced root kept another owner.
    alone: usize,
}

/// The right to use the spare root, or only to commit without it.
pub(crate) struct Turn<'a, K, V, S> {
    spare: Owned<'a, K, V, S>,
    /// The spare root while it is changed. It is dropped after the turn is over, also if a key's `Eq` panics.
    next: Option<Arc<Root<K, V, S>>>,
    /// Dropped after the turn is over, and after its owner has notified all waiters.
    outdated: Outdated<K, V, S>,
}

/// The turn, or without `state` the right to commit without it.
struct Owned<'a, K, V, S> {
    of: &'a Spare<K, V, S>,
    state: Option<MutexGuard<'a, State<K, V, S>>>,
}

/// What may be the last references to the user's keys and values.
pub(crate) struct Outdated<K, V, S> {
    entries: SmallVec<[Versioned<V>; 2]>,
    pairs: Vec<(Hashed<K>, Versioned<V>)>,
    touched: SmallVec<[History<Keys<K>>; 1]>,
    histories: Vec<KeptHistory<K, V>>,
    roots: SmallVec<[Arc<Root<K, V, S>>; 2]>,
}

/// Kept commits and lock events.
type KeptHistory<K, V> = (Option<Arc<History<Box<Logged<K, V>>>>>, Option<Arc<History<LockRecord<K>>>>);

impl<K, V, S> Outdated<K, V, S> {
    fn none() -> Self {
        let (entries, pairs, touched) = (SmallVec::new(), Vec::new(), SmallVec::new());
        Self { entries, pairs, touched, histories: Vec::new(), roots: SmallVec::new() }
    }
}

impl<K, V, S> Outdated<K, V, S> {
    /// As `extend`, which takes about fifty instructions more.
    fn add(&mut self, root: Option<Arc<Root<K, V, S>>>) {
        if let Some(root) = root {
            self.roots.push(root);
        }
    }
}

impl<K, V, S> Spare<K, V, S> {
    pub(crate) fn none() -> Self {
        Self { state: TurnLock::new(State { root: None, patient: true, alone: 0 }), closed: AtomicUsize::new(0) }
    }

    /// Waits for the turn, for at most a few milliseconds.
    pub(crate) fn turn(&self) -> Turn<'_, K, V, S> {
        self.turn_with(self.state.lock_for_a_while())
    }

    /// The turn if no thread has it.
    pub(crate) fn turn_or_none(&self) -> Turn<'_, K, V, S> {
        self.turn_with(self.state.try_lock())
    }

    fn turn_with<'a>(&'a self, state: Option<MutexGuard<'a, State<K, V, S>>>) -> Turn<'a, K, V, S> {
        Turn { spare: Owned { of: self, state }, next: None, outdated: Outdated::none() }
    }

    /// Drops the spare root for good, because the root is frozen; or the owner of the turn does, at its end.
    pub(crate) fn close(&self) {
        // ORDERING: AcqRel, like the one in `Owned::end`: of two read-modify-writes one comes first. If it is this one, the
        // owner of the turn sees it and takes the spare root; if it is that one, the turn is over for `take` here. A
        // later owner of the turn sees the frozen root.
        self.closed.fetch_add(1, Ordering::AcqRel);
        drop(self.take());
    }

    /// The spare root, unless another thread has the turn.
    pub(crate) fn take(&self) -> Option<Arc<Root<K, V, S>>> {
        self.state.try_lock().and_then(|mut state| state.root.take())
    }
}

impl<K, V, S> Owned<'_, K, V, S> {
    /// Ends the turn. Returns the spare root, if it is to be dropped.
    fn end(&mut self) -> Option<Arc<Root<K, V, S>>> {
        drop(self.state.take()?);
        // ORDERING: AcqRel, see `Spare::close`; a plain load could be done before the turn is over.
        if self.of.closed.fetch_add(0, Ordering::AcqRel) == 0 { None } else { self.of.take() }
    }
}

impl<K, V, S> Drop for Owned<'_, K, V, S> {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl<K, V, S> Turn<'_, K, V, S> {
    /// Whether it is the turn, and not the right to commit without it.
    pub(crate) fn is_real(&self) -> bool {
        self.spare.state.is_some()
    }

    /// Ends the turn. The returned value is to be dropped when all waiters have been notified.
    pub(crate) fn end(mut self) -> Outdated<K, V, S> {
        self.outdated.add(self.next.take());
        self.outdated.add(self.spare.end());
        self.outdated
    }
}

impl<K: Clone + Eq, V, S> Turn<'_, K, V, S> {
    /// The root that follows `base` by `change`: the spare one, or else one with a copied path. `base` was loaded after
    /// the turn was taken, so the spare root is no newer.
    pub(crate) fn next(
        &mut self,
        base: &Root<K, V, S>,
        change: &Change<K, V>,
        hashes: &[u64],
        mut logged: Option<Box<Logged<K, V>>>,
        history_limit: usize,
    ) -> Arc<Root<K, V, S>> {
        self.next = self.spare.state.as_mut().and_then(|spare| spare.root.take());
        if let Some(root) = self.next.as_mut().and_then(Arc::get_mut) {
            if root.catch_up(base, &mut self.outdated) {
                root.commit(base, change, hashes, logged.take(), history_limit);
                if let Some(next) = self.next.take() {
                    return next;
                }
            }
        }
        let mut root = base.bare();
        root.commit(base, change, hashes, logged, history_limit);
        Arc::new(root)
    }

    /// Makes `replaced`, the root before `present`, the spare, unless it keeps another owner.
    ///
    /// Never panics: the commit stands. (A key's `Eq` or `Clone` that panics costs the spare root and nothing else.)
    pub(crate) fn keep(&mut self, mut replaced: Arc<Root<K, V, S>>, present: &Root<K, V, S>) {
        let Self { spare: Owned { state: Some(spare), .. }, outdated, .. } = self else {
            self.outdated.roots.push(replaced);
            return;
        };
        // A thread that just reads a value will release this root in an instant, and should not have to drop it all.
        let backoff = Backoff::new();
        let patience = if spare.patient { PATIENCE } else { 0 };
        for _ in 0..patience {
            if Arc::strong_count(&replaced) == 1 {
                break;
            }
            backoff.spin();
        }
        let root = Arc::get_mut(&mut replaced);
        spare.patient = root.is_some();
        let root = root.filter(|root| !root.is_followed());
        spare.alone = if root.is_some() { spare.alone + 1 } else { 0 };
        // Two trees that take turns have less in common with every commit. So with many keys they begin only when about as
        // many commits have gone by, and what it may cost to free one of them is shared out among those.
        let keys = present.content.len();
        let worth_it = keys <= MOST && spare.alone >= keys.saturating_sub(FEW);
        let kept = root.filter(|_| worth_it).is_some_and(|root| caught(|| root.catch_up(present, outdated)));
        if kept {
            outdated.add(spare.root.replace(replaced));
        } else {
            outdated.roots.push(replaced);
        }
    }

    /// Makes `lost`, the root that was to follow `base` and was not published, the spare.
    pub(crate) fn take_back(&mut self, mut lost: Arc<Root<K, V, S>>, base: &Root<K, V, S>) {
        let Self { spare: Owned { state: Some(spare), .. }, outdated, .. } = self else { return };
        if spare.root.is_some() {
            return;
        }
        if let Some(root) = Arc::get_mut(&mut lost) {
            let history = mem::replace(&mut root.history, History::starting_after(base.revision.0));
            root.shed_history(outdated);
            if root.copy(base, &history, base.revision, outdated) {
                spare.root = Some(lost);
            } else {
                outdated.roots.push(lost);
            }
            outdated.touched.push(history);
        }
    }
}

/// What `act` returns, or `false` if it panics.
fn caught(act: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|payload| {
        // What it panicked with may panic when it is dropped.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(again);
        }
        false
    })
}

impl<K: Clone + Eq, V, S> Root<K, V, S> {
    /// A spare root has none: its history would be outdated, and kept alive until the next commit, however late that
    /// is.
    #[inline]
    fn shed_history(&mut self, outdated: &mut Outdated<K, V, S>) {
        if self.has_history() {
            outdated.histories.push((self.commits.take(), self.lock_history.take()));
        }
    }

    /// Gives this root the content of a later one. Returns whether that was possible and worthwhile; if not, or if it
    /// unwinds, this root cannot be used.
    fn catch_up(&mut self, later: &Self, outdated: &mut Outdated<K, V, S>) -> bool {
        self.shed_history(outdated);
        self.revision == later.revision || self.copy(later, &later.history, self.revision, outdated)
    }

    /// Gives this root the content of `other`, from which it differs by the keys that `history` says were touched after
    /// `since`.
    fn copy(
        &mut self,
        other: &Self,
        history: &History<Keys<K>>,
        since: Revision,
        outdated: &mut Outdated<K, V, S>,
    ) -> bool {
        let Some(records) = history.after(since.0) else { return false };
        let mut worth_it = other.content.len().max(SMALL);
        for Touched { key, .. } in records.flat_map(|record| &record.what) {
            if worth_it == 0 {
                return false;
            }
            worth_it -= 1;
            match other.content.get(key) {
                Some(entry) => match self.content.get_mut(key) {
                    Some(mine) => outdated.entries.push(mem::replace(mine, entry.clone())),
                    None => drop(self.content.insert(key.clone(), entry.clone())),
                },
                None => outdated.pairs.extend(self.content.remove_with_key(key)),
            }
        }
        self.revision = other.revision;
        self.content_hash = other.content_hash;
        outdated.touched.push(mem::replace(&mut self.history, History::starting_after(other.revision.0)));
        true
    }
}
