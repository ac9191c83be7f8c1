//! Where roots go when they are dropped at a bad moment.

use crate::sync::{Mutex, thread_local};
use std::cell::Cell;
use std::mem;
// Which no model checker sees: when something is dropped decides nothing else.
use std::sync::atomic::{AtomicBool, Ordering};

/// What was left of roots whose last owner let go of them at a bad moment: with a shard locked, or before those who wait
/// for a change were notified of it.
///
/// Dropping a root can drop the user's keys and values, whose `Drop` may use the dictionary or panic. Yet whoever replaces
/// the root cannot know what it will be the last to own: arc-swap lets go of other threads' roots inside its `load` and its
/// `compare_and_swap`. So a root that is dropped inside [`defer_drops`] leaves its content here.
///
/// It is emptied by the next operation that comes to its end, as a rule the one that filled it. If that one unwinds before, or
/// cannot say that it did, the next one is.
pub(crate) struct DeferredDrops<R> {
    parts: Mutex<Vec<R>>,
    occupied: AtomicBool,
}

/// Drops may have been deferred. They are to be [settled](crate::content::Shared::settle) when nothing is locked.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub(crate) struct Deferred(());

impl Deferred {
    pub(crate) fn and(self, _: Self) -> Self {
        self
    }
}

thread_local! {
    /// Whether this thread is inside `defer_drops`. Of a type without a destructor, so that it is there also while the thread
    /// ends and its other thread-locals are destroyed.
    #[allow(clippy::missing_const_for_thread_local)] // loom's macro does not know `const`
    static DEFERRING: Cell<bool> = Cell::new(false);
}

/// Runs `act` so that roots dropped meanwhile by this thread go to their store of deferred drops.
pub(crate) fn defer_drops<R>(act: impl FnOnce() -> R) -> (R, Deferred) {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = DEFERRING.try_with(|deferring| deferring.set(self.0));
        }
    }
    let before = DEFERRING.try_with(|deferring| deferring.replace(true));
    let _restore = Restore(before.unwrap_or_default());
    (act(), Deferred(()))
}

/// Whether what this thread drops now is to be deferred.
pub(crate) fn is_deferring() -> bool {
    // Where a platform, or a model checker, has no thread-locals any more while a thread ends, everything is put off.
    DEFERRING.try_with(Cell::get).unwrap_or(true)
}

impl<R> DeferredDrops<R> {
    pub(crate) fn new() -> Self {
        Self { parts: Mutex::new(Vec::new()), occupied: AtomicBool::new(false) }
    }

    /// Drops what was put off. Nothing may be locked.
    #[inline]
    pub(crate) fn empty(&self) {
        // ORDERING: Relaxed, for a thread sees its own store, and what another has put off is for that one to drop.
        if self.occupied.load(Ordering::Relaxed) {
            self.empty_now();
        }
    }

    #[cold]
    #[inline(never)]
    fn empty_now(&self) {
        let mut parts = self.parts.lock();
        // ORDERING: Relaxed, see `put`.
        self.occupied.store(false, Ordering::Relaxed);
        let taken = mem::take(&mut *parts);
        drop(parts);
        drop(taken);
    }

    pub(crate) fn put(&self, parts: R) {
        let mut all = self.parts.lock();
        all.push(parts);
        // ORDERING: Relaxed, see `empty`; the lock orders it with the store there.
        self.occupied.store(true, Ordering::Relaxed);
    }
}
