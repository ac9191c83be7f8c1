//! The published root: the one word on which everything linearizes, and the waking of whoever waits for it to change.

use super::Root;
use crate::clock::Clock;
use crate::sync::{self, Backoff, Cell};
use crate::wake::Wakeups;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

pub(crate) struct Published<K, V, S> {
    cell: Cell<Root<K, V, S>>,
    /// `Root::successor`, kept so that a `Drop`, which cannot ask for `K: Clone`, can replace the root.
    successor: fn(&Root<K, V, S>) -> Root<K, V, S>,
    pub(crate) wakeups: sync::Arc<Wakeups>,
    pub(crate) clock: Clock,
}

/// Roots that were replaced, or that lost, while shards were locked. Dropping one can run a value's `Drop`, which may
/// panic or call back, so they wait here until nothing is locked.
pub(crate) type Retired<K, V, S> = Vec<Arc<Root<K, V, S>>>;

impl<K: Clone + Eq + Hash, V, S: BuildHasher + Clone> Published<K, V, S> {
    pub(crate) fn new(root: Root<K, V, S>, clock: Clock) -> Self {
        let wakeups = sync::Arc::new(Wakeups::default());
        clock.wake(&wakeups);
        Self { cell: Cell::new(Arc::new(root)), successor: Root::successor, wakeups, clock }
    }
}

impl<K, V, S> Published<K, V, S> {
    pub(crate) fn load(&self) -> Arc<Root<K, V, S>> {
        self.cell.load_full()
    }

    /// A short look at the present root, cheaper than [`load`](Self::load). Nothing of `look` may be slow.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&Root<K, V, S>) -> R) -> R {
        look(&self.cell.load())
    }

    pub(crate) fn is_current(&self, root: &Arc<Root<K, V, S>>) -> bool {
        Arc::ptr_eq(&self.cell.load(), root)
    }

    /// The linearization point of every commit, grant, release, expiry, hold and freeze.
    pub(crate) fn compare_and_swap(&self, current: &Arc<Root<K, V, S>>, next: &Arc<Root<K, V, S>>) -> bool {
        self.cell.compare_and_swap(current, Arc::clone(next))
    }

    /// Replaces the root by its successor as `edit` leaves it, or not at all if `edit` says so.
    ///
    /// Lock-free: an attempt is repeated only because another thread replaced the root. Runs no code of the user's but
    /// the hasher's `Clone`. What is replaced goes to `retired`, for the caller to drop when it holds nothing.
    pub(crate) fn replace<E>(
        &self,
        retired: &mut Retired<K, V, S>,
        mut edit: impl FnMut(&mut Root<K, V, S>) -> Result<(), E>,
    ) -> Result<Arc<Root<K, V, S>>, E> {
        let backoff = Backoff::new();
        loop {
            let current = self.load();
            let mut next = (self.successor)(&current);
            let edited = edit(&mut next);
            let next = Arc::new(next);
            retired.push(current);
            let swapped = edited.is_ok() && self.compare_and_swap(&retired[retired.len() - 1], &next);
            if swapped {
                return Ok(next);
            }
            retired.push(next);
            edited?;
            backoff.spin();
        }
    }

    /// Ends all changes. Whether it was this call that did.
    pub(crate) fn freeze(&self) -> bool {
        let mut retired = Retired::new();
        let frozen = self.replace(&mut retired, |root| {
            if root.frozen {
                return Err(());
            }
            root.frozen = true;
            Ok(())
        });
        if frozen.is_ok() {
            self.wakeups.notify_everyone();
        }
        frozen.is_ok()
    }
}

impl<K, V, S> Drop for Published<K, V, S> {
    fn drop(&mut self) {
        self.clock.let_sleep(&self.wakeups);
    }
}
