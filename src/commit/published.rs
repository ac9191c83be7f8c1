//! The published root, the one word on which everything linearizes, and waking the waiters for its changes.

use super::spare::Spare;
use crate::clock::Clock;
use crate::commit::Turn;
use crate::content::{Root, Shared, Snapshot};
use crate::deferred_drops::{Deferred, defer_drops};
use crate::error::WaitError;
use crate::event::{LockChange, Origin};
use crate::revision::{FencingToken, Revision};
use crate::sync::Wakeups;
use crate::sync::{self, AtomicUsize, Backoff, Ordering, RootCell};
use crossbeam_utils::CachePadded;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub(crate) struct Published<K, V, S> {
    cell: CachePadded<RootCell<Root<K, V, S>>>,
    spare: CachePadded<Spare<K, V, S>>,
    shared: Arc<Shared<K, V, S>>,
    /// `Root::successor`, stored because a `Drop`, which cannot require `K: Clone`, replaces the root.
    successor: fn(&Root<K, V, S>) -> Root<K, V, S>,
    pub(crate) wakeups: sync::Arc<Wakeups>,
    /// The clock of timeouts and intervals.
    pub(crate) clock: Clock,
    /// The clock of leases and graces, if it is another one.
    lease_clock: Option<Clock>,
    /// What the next number of a lock is at least, if numbers are given from outside; 0 if they are not.
    next_fencing_token: AtomicU64,
    /// How many readers may still ask for kept commits or lock events: the dictionary, and feeds of them.
    readers: AtomicUsize,
}

/// While one of these lives, kept commits and lock events are kept.
pub(crate) struct Reader<K, V, S>(sync::Arc<Published<K, V, S>>);

impl<K: Clone + Eq, V, S> Published<K, V, S> {
    pub(crate) fn new(root: Root<K, V, S>, clock: Clock, lease_clock: Option<Clock>) -> Self {
        let wakeups = sync::Arc::new(Wakeups::new());
        clock.register(&wakeups);
        let next_fencing_token = AtomicU64::new(0);
        let shared = Arc::clone(&root.shared);
        let cell = CachePadded::new(RootCell::new(Arc::new(root)));
        let spare = CachePadded::new(Spare::none());
        let readers = AtomicUsize::new(0);
        let successor = Root::successor;
        Self { cell, spare, shared, successor, wakeups, clock, lease_clock, next_fencing_token, readers }
    }
}

impl<K, V, S> Published<K, V, S> {
    pub(crate) fn shared(&self) -> &Shared<K, V, S> {
        &self.shared
    }

    /// The clock of leases and graces.
    pub(crate) fn leases(&self) -> &Clock {
        self.lease_clock.as_ref().unwrap_or(&self.clock)
    }

    /// Whether leases end only when `expire` is called: they have a clock of their own.
    pub(crate) fn expires_on_request(&self) -> bool {
        self.lease_clock.is_some()
    }

    /// See [`StateDictionary::set_next_fencing_token`](crate::StateDictionary::set_next_fencing_token).
    pub(crate) fn set_next_fencing_token(&self, FencingToken(token): FencingToken) {
        // ORDERING: Relaxed, for it is the caller who orders this before the operations that it is meant for.
        self.next_fencing_token.fetch_max(token, Ordering::Relaxed);
    }

    /// Notes in a root that is to be published that locks were granted or ended.
    pub(crate) fn locks_changed(
        &self,
        root: &mut Root<K, V, S>,
        changes: Option<&Arc<[LockChange<K, Origin>]>>,
        limit: usize,
    ) {
        // ORDERING: Relaxed, see `set_next_fencing_token`.
        let number = match self.next_fencing_token.load(Ordering::Relaxed) {
            0 => root.version,
            given => given.max(root.lock_version + 1),
        };
        root.locks_changed(number, changes, limit);
    }

    /// The turn to commit. Waits for at most a few milliseconds if other threads have it.
    pub(crate) fn turn(&self) -> Turn<'_, K, V, S> {
        self.spare.turn()
    }

    /// The turn, or the right to commit without it. Does not wait.
    pub(crate) fn turn_or_none(&self) -> Turn<'_, K, V, S> {
        self.spare.turn_or_none()
    }

    /// The spare root, unless another thread has the turn: for a caller that has removed values, some of which it may
    /// own.
    pub(crate) fn take_spare(&self) -> Option<Arc<Root<K, V, S>>> {
        self.spare.take()
    }

    pub(crate) fn load(&self) -> Arc<Root<K, V, S>> {
        self.cell.load_full()
    }

    /// A short look at the present root, cheaper than [`load`](Self::load). `look` must be quick.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&Root<K, V, S>) -> R) -> R {
        look(&self.cell.load())
    }

    /// The content, if this revision has been reached, or an error if it can no longer be. `None` if the caller has to
    /// wait.
    pub(crate) fn reached(&self, revision: Revision) -> Option<Result<Snapshot<K, V, S>, WaitError>> {
        let root = self.load();
        if root.revision >= revision {
            Some(Ok(Snapshot::new(root)))
        } else {
            root.frozen.then_some(Err(WaitError::Frozen))
        }
    }

    /// Looks for content for which the condition returns a value, once at each revision.
    pub(crate) fn looking<R>(
        &self,
        mut condition: impl FnMut(&Snapshot<K, V, S>) -> Option<R>,
    ) -> impl FnMut() -> Option<Result<R, WaitError>> {
        let mut looked = None;
        move || {
            let root = self.load();
            let (revision, frozen) = (root.revision, root.frozen);
            if looked != Some(revision) {
                if let Some(found) = condition(&Snapshot::lent(root)) {
                    return Some(Ok(found));
                }
                looked = Some(revision);
            }
            frozen.then_some(Err(WaitError::Frozen))
        }
    }

    pub(crate) fn is_current(&self, root: &Arc<Root<K, V, S>>) -> bool {
        Arc::ptr_eq(&self.cell.load(), root)
    }

    /// The linearization point of every commit, grant, release, expiry and freeze, and of locking and unlocking the
    /// content.
    pub(crate) fn compare_and_swap(&self, current: &Arc<Root<K, V, S>>, next: &Arc<Root<K, V, S>>) -> (bool, Deferred) {
        defer_drops(|| self.cell.compare_and_swap(current, Arc::clone(next)))
    }

    /// Replaces the root by its successor as `edit` leaves it, or not at all if `edit` returns an error. Returns what
    /// `read` returns of the published root.
    ///
    /// Lock-free: an attempt is repeated only because another thread replaced the root. Runs no code of the
    /// user's.
    pub(crate) fn replace<R, E>(
        &self,
        mut edit: impl FnMut(&mut Root<K, V, S>) -> Result<(), E>,
        replaced: impl FnOnce(&Arc<Root<K, V, S>>) -> R,
    ) -> (Result<R, E>, Deferred) {
        let backoff = Backoff::new();
        defer_drops(|| {
            loop {
                let current = self.load();
                let mut next = (self.successor)(&current);
                edit(&mut next)?;
                let next = Arc::new(next);
                if self.cell.compare_and_swap(&current, Arc::clone(&next)) {
                    return Ok(replaced(&next));
                }
                backoff.spin();
            }
        })
    }

    /// [`Shared::settle`].
    pub(crate) fn settle(&self, deferred: Deferred) {
        self.shared.settle(deferred);
    }

    /// Ends all changes. Returns whether this call did. Lock-free: the owner of the turn drops the spare root.
    pub(crate) fn freeze(&self) -> bool {
        let freeze = |root: &mut Root<K, V, S>| {
            let thawed = !std::mem::replace(&mut root.frozen, true);
            thawed.then_some(()).ok_or(())
        };
        let (frozen, deferred) = self.replace(freeze, |_| ());
        let settling = self.shared.settle_later(deferred);
        if frozen.is_ok() {
            self.wakeups.notify_everyone();
            self.spare.close();
        }
        drop(settling);
        if frozen.is_ok() {
            self.shared.observed.frozen(self.peek(|root| root.revision));
        }
        frozen.is_ok()
    }

    /// What follows when a root that is frozen was published by other means.
    pub(crate) fn announce_freeze(&self) {
        self.wakeups.notify_everyone();
        self.spare.close();
        self.shared.observed.frozen(self.peek(|root| root.revision));
    }
}

impl<K, V, S> Reader<K, V, S> {
    pub(crate) fn new(published: sync::Arc<Published<K, V, S>>) -> Self {
        // ORDERING: Relaxed, for a reader is made only from another one.
        published.readers.fetch_add(1, Ordering::Relaxed);
        Self(published)
    }
}

impl<K, V, S> Clone for Reader<K, V, S> {
    fn clone(&self) -> Self {
        Self::new(sync::Arc::clone(&self.0))
    }
}

impl<K, V, S> Deref for Reader<K, V, S> {
    type Target = sync::Arc<Published<K, V, S>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K, V, S> Drop for Reader<K, V, S> {
    fn drop(&mut self) {
        // ORDERING: AcqRel, so that the last one comes after all that the others did, the freeze by the dictionary among it.
        if self.0.readers.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.peek(Root::has_history) {
            let forget = |root: &mut Root<K, V, S>| {
                (root.commits, root.lock_history) = (None, None);
                Ok::<_, Infallible>(())
            };
            let (_, deferred) = self.0.replace(forget, |_| ());
            self.0.settle(deferred);
        }
    }
}

impl<K, V, S> Drop for Published<K, V, S> {
    fn drop(&mut self) {
        self.clock.unregister(&self.wakeups);
    }
}
