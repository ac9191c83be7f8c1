//! Deferred drops: the contents of roots that are dropped while something is locked.

use crate::sync::{Mutex, thread_local};
use std::cell::Cell;
use std::mem;
// No model checker explores it: no decision depends on when something is dropped.
use std::sync::atomic::{AtomicBool, Ordering};

/// The parts of roots whose last owner dropped them with a shard locked, or before the waiters for a change were
/// notified.
///
/// Dropping a root can drop the user's keys and values, whose `Drop` may use the dictionary or panic. A thread that
/// replaces the root cannot know which roots it drops: arc-swap drops roots of other threads inside its `load` and its
/// `compare_and_swap`. So a root that is dropped inside [`defer_drops`] moves its content here.
///
/// The next operation to end empties it, as a rule the one that filled it. If that one unwinds before, the next one
/// does.
pub(crate) struct DeferredDrops<R> {
    parts: Mutex<Vec<R>>,
    occupied: AtomicBool,
}

/// Drops may have been deferred. [Settle](crate::content::Shared::settle) them when nothing is locked.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub(crate) struct Deferred(());

impl Deferred {
    pub(crate) fn and(self, _: Self) -> Self {
        self
    }
}

thread_local! {
    /// Whether this thread is inside `defer_drops`. Its type has no destructor, so it can be used also while the thread
    /// exits and its other thread-locals are destroyed.
    #[allow(clippy::missing_const_for_thread_local)] // loom's macro does not know `const`
    static DEFERRING: Cell<bool> = Cell::new(false);
}

/// Runs `act`, and defers the drops of roots that this thread drops meanwhile.
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

/// Whether this thread defers drops now.
pub(crate) fn is_deferring() -> bool {
    // Where a platform or a model checker has no thread-locals while a thread exits, everything is deferred.
    DEFERRING.try_with(Cell::get).unwrap_or(true)
}

impl<R> DeferredDrops<R> {
    pub(crate) fn new() -> Self {
        Self { parts: Mutex::new(Vec::new()), occupied: AtomicBool::new(false) }
    }

    /// Carries out the deferred drops. Nothing may be locked.
    #[inline]
    pub(crate) fn empty(&self) {
        // ORDERING: Relaxed, for a thread sees its own store, and another thread carries out what it has deferred
        // itself.
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
