//! Every primitive that threads meet on, and the only file that knows loom and shuttle.
//!
//! Shipped, the root's cell is arc-swap's, the lock table's shards are dashmap's and waiting is event-listener's. None
//! of the first two can be explored by a model checker, so under `--cfg loom` with the feature `loom` (and likewise for
//! shuttle) each is replaced by a part with the same contract, made of the checker's own. All code above this file is
//! the same in both worlds.
//!
//! The contracts:
//!
//! * [`Cell`]: `load` returns the value most recently swapped in; `compare_and_swap` replaces exactly the value it was
//!   given, compared by address, and an address cannot come back while somebody holds it.
//! * [`Shards`]: each shard is a table behind a reader-writer lock; which shard a hash belongs to never changes.
//! * [`Arc`]: what outlives its makers and is shared by them; a cell's content is in a plain `std::sync::Arc`.
//! * [`Event`]: a listener sees every notification after the call that made it.

pub(crate) use imp::{
    Arc, AtomicU64, AtomicUsize, Backoff, Cell, DEFAULT_TRAIL_LIMIT, DefaultHashBuilder, Mutex, MutexGuard, Shards,
    ThreadId, WriteShard, current_thread, default_shards, thread_local,
};
pub(crate) use std::sync::atomic::Ordering;
pub(crate) use wait::Event;

use crate::key::Hashed;

/// What the lock table asks of one locked shard.
///
/// Only `look_up` runs code of the caller's; the other operations identify an entry by its value alone, so that a shard can
/// be changed without running a user's `Eq`.
pub(crate) trait Shard<K, L> {
    fn look_up(&self, hash: u64, key: impl FnMut(&K) -> bool) -> Option<(&K, &L)>;
    fn look_up_mut(&mut self, hash: u64, lock: impl FnMut(&L) -> bool) -> Option<&mut L>;
    fn put(&mut self, key: Hashed<K>, lock: L);
    fn take(&mut self, hash: u64, lock: impl FnMut(&L) -> bool) -> Option<(K, L)>;
    /// Empties the shard. Locked tables cannot be iterated in safe code; what must stay is inserted again.
    fn take_all(&mut self) -> Vec<(Hashed<K>, L)>;
}

#[cfg(not(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle"))))]
mod imp {
    use super::{Hashed, Shard};
    use arc_swap::{ArcSwapAny, Guard};
    use dashmap::{DashMap, SharedValue};
    use hashbrown::raw::RawTable;
    use std::hash::BuildHasherDefault;
    use std::thread;
    use std::time::Duration;

    pub(crate) use crossbeam_utils::Backoff;
    pub(crate) use parking_lot::MutexGuard;
    pub(crate) use std::hash::RandomState as DefaultHashBuilder;
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize};
    pub(crate) use std::thread::ThreadId;
    pub(crate) use std::thread_local;

    pub(crate) const DEFAULT_TRAIL_LIMIT: usize = 4096;

    pub(crate) fn current_thread() -> ThreadId {
        std::thread::current().id()
    }

    pub(crate) fn default_shards() -> usize {
        std::thread::available_parallelism().map_or(4, usize::from) * 4
    }

    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock()
        }

        /// The lock, unless others have it for some 3 milliseconds on end.
        ///
        /// Whoever waits sleeps almost at once. To spin beside the owner would take the cache lines away that the next
        /// commit needs; while the others sleep, one thread makes many commits in a row. And an owner that was
        /// interrupted may need this very core to go on.
        #[allow(clippy::disallowed_methods)] // it is real time that passes here, whatever clock there is
        pub(crate) fn lock_for_a_while(&self) -> Option<MutexGuard<'_, T>> {
            for sleep in [50, 100, 200, 400, 800, 1600].map(Duration::from_micros) {
                let backoff = Backoff::new();
                for _ in 0..3 {
                    if let Some(guard) = self.0.try_lock() {
                        return Some(guard);
                    }
                    backoff.spin();
                }
                thread::sleep(sleep);
            }
            self.0.try_lock()
        }
    }

    #[cfg(not(feature = "rwlock-strategy"))]
    type Strategy = arc_swap::DefaultStrategy;
    #[cfg(feature = "rwlock-strategy")]
    type Strategy = std::sync::RwLock<()>;

    pub(crate) struct Cell<T>(ArcSwapAny<Arc<T>, Strategy>);

    impl<T> Cell<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self(ArcSwapAny::with_strategy(value, Strategy::default()))
        }

        /// For a short look: cheaper than `load_full`, but few can be held at once per thread.
        pub(crate) fn load(&self) -> Guard<Arc<T>, Strategy> {
            self.0.load()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.0.load_full()
        }

        pub(crate) fn compare_and_swap(&self, current: &Arc<T>, new: Arc<T>) -> bool {
            Arc::ptr_eq(&self.0.compare_and_swap(current, new), current)
        }
    }

    /// Every call to a raw table brings its hash, so this is never asked for one.
    type NoHasher = BuildHasherDefault<std::hash::DefaultHasher>;
    type RawShard<K, L> = RawTable<(Hashed<K>, SharedValue<L>)>;
    pub(crate) type WriteShard<'a, K, L> = dashmap::RwLockWriteGuard<'a, RawShard<K, L>>;
    pub(crate) type ReadShard<'a, K, L> = dashmap::RwLockReadGuard<'a, RawShard<K, L>>;

    pub(crate) struct Shards<K, L>(DashMap<Hashed<K>, L, NoHasher>);

    impl<K: Eq, L> Shards<K, L> {
        /// `count` is a power of two above 1.
        pub(crate) fn new(count: usize) -> Self {
            Self(DashMap::with_hasher_and_shard_amount(NoHasher::default(), count))
        }

        pub(crate) fn count(&self) -> usize {
            self.0.shards().len()
        }

        pub(crate) fn index_of(&self, hash: u64) -> usize {
            // On a 32-bit machine the upper half is lost, as it is in dashmap itself.
            #[allow(clippy::cast_possible_truncation)]
            self.0.determine_shard(hash as usize)
        }

        pub(crate) fn read(&self, index: usize) -> ReadShard<'_, K, L> {
            self.0.shards()[index].read()
        }

        pub(crate) fn write(&self, index: usize) -> WriteShard<'_, K, L> {
            self.0.shards()[index].write()
        }
    }

    impl<K, L> Shard<K, L> for RawShard<K, L> {
        fn look_up(&self, hash: u64, mut key: impl FnMut(&K) -> bool) -> Option<(&K, &L)> {
            self.get(hash, |(k, _)| key(&k.key)).map(|(k, lock)| (&k.key, lock.get()))
        }

        fn look_up_mut(&mut self, hash: u64, mut lock: impl FnMut(&L) -> bool) -> Option<&mut L> {
            self.get_mut(hash, |(_, l)| lock(l.get())).map(|(_, l)| l.get_mut())
        }

        fn put(&mut self, key: Hashed<K>, lock: L) {
            let hash = key.hash;
            self.insert(hash, (key, SharedValue::new(lock)), |(k, _)| k.hash);
        }

        fn take(&mut self, hash: u64, mut lock: impl FnMut(&L) -> bool) -> Option<(K, L)> {
            self.remove_entry(hash, |(_, l)| lock(l.get())).map(|(k, l)| (k.key, l.into_inner()))
        }

        fn take_all(&mut self) -> Vec<(Hashed<K>, L)> {
            self.drain().map(|(k, l)| (k, l.into_inner())).collect()
        }
    }
}

/// The same contracts made of a model checker's own parts. Loom's and shuttle's follow std's interface, so one text
/// serves both. A value behind a `RwLock` rather than an `AtomicPtr`: loom explores a load followed by a
/// compare-and-swap incompletely (loom #392).
#[cfg(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle")))]
mod imp {
    use super::{Hashed, Ordering, Shard};
    #[cfg(all(loom, feature = "loom"))]
    use loom as checker;
    #[cfg(not(all(loom, feature = "loom")))]
    use shuttle as checker;

    use checker::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::sync::{PoisonError, TryLockError};

    pub(crate) use checker::sync::atomic::AtomicU64;
    pub(crate) use checker::sync::{Arc, MutexGuard};
    pub(crate) use checker::thread::ThreadId;
    pub(crate) use checker::thread_local;

    /// An execution must be a function of its schedule alone.
    pub(crate) type DefaultHashBuilder = BuildHasherDefault<DefaultHasher>;
    pub(crate) const DEFAULT_TRAIL_LIMIT: usize = 2;

    pub(crate) fn current_thread() -> ThreadId {
        checker::thread::current().id()
    }

    pub(crate) fn default_shards() -> usize {
        2
    }

    /// Does nothing: an attempt is repeated only because another thread got on, so no model can spin for ever.
    pub(crate) struct Backoff;

    impl Backoff {
        pub(crate) fn new() -> Self {
            Self
        }

        #[allow(clippy::unused_self)]
        pub(crate) fn spin(&self) {}
    }

    /// Loads by a read-modify-write: loom leaves out interleavings of plain loads (loom #392).
    pub(crate) struct AtomicUsize(checker::sync::atomic::AtomicUsize);

    impl AtomicUsize {
        pub(crate) fn new(value: usize) -> Self {
            Self(checker::sync::atomic::AtomicUsize::new(value))
        }

        pub(crate) fn load(&self, _: Ordering) -> usize {
            // ORDERING: AcqRel, the strongest a read-modify-write can have in place of the caller's.
            self.0.fetch_add(0, Ordering::AcqRel)
        }

        pub(crate) fn store(&self, value: usize, order: Ordering) {
            self.0.store(value, order);
        }

        pub(crate) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
            self.0.fetch_add(value, order)
        }

        pub(crate) fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
            self.0.fetch_sub(value, order)
        }
    }

    pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(checker::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Waiting a while and not at all are the same to a checker, which has no time.
        pub(crate) fn lock_for_a_while(&self) -> Option<MutexGuard<'_, T>> {
            self.try_lock()
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }

    /// What a cell holds is counted by std: that reclamation is right is arc-swap's promise, not ours to check.
    use std::sync::Arc as Root;

    pub(crate) struct Cell<T>(RwLock<Root<T>>);

    impl<T> Cell<T> {
        pub(crate) fn new(value: Root<T>) -> Self {
            Self(RwLock::new(value))
        }

        /// Not a guard, unlike the shipped one: a thread of a model must not hold a lock twice.
        pub(crate) fn load(&self) -> Root<T> {
            self.load_full()
        }

        pub(crate) fn load_full(&self) -> Root<T> {
            Root::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
        }

        pub(crate) fn compare_and_swap(&self, current: &Root<T>, new: Root<T>) -> bool {
            let mut value = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let swapped = Root::ptr_eq(&value, current);
            if swapped {
                *value = new;
            }
            swapped
        }
    }

    type RawShard<K, L> = Vec<(Hashed<K>, L)>;
    pub(crate) type WriteShard<'a, K, L> = RwLockWriteGuard<'a, RawShard<K, L>>;

    pub(crate) struct Shards<K, L>(Vec<RwLock<RawShard<K, L>>>);

    impl<K, L> Shards<K, L> {
        pub(crate) fn new(count: usize) -> Self {
            Self((0..count).map(|_| RwLock::new(Vec::new())).collect())
        }

        pub(crate) fn count(&self) -> usize {
            self.0.len()
        }

        pub(crate) fn index_of(&self, hash: u64) -> usize {
            usize::try_from(hash % self.0.len() as u64).unwrap_or(0)
        }

        pub(crate) fn read(&self, index: usize) -> RwLockReadGuard<'_, RawShard<K, L>> {
            self.0[index].read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self, index: usize) -> WriteShard<'_, K, L> {
            self.0[index].write().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl<K, L> Shard<K, L> for RawShard<K, L> {
        fn look_up(&self, hash: u64, mut key: impl FnMut(&K) -> bool) -> Option<(&K, &L)> {
            self.iter().find(|(k, _)| k.hash == hash && key(&k.key)).map(|(k, lock)| (&k.key, lock))
        }

        fn look_up_mut(&mut self, hash: u64, mut lock: impl FnMut(&L) -> bool) -> Option<&mut L> {
            self.iter_mut().find(|(k, l)| k.hash == hash && lock(l)).map(|(_, l)| l)
        }

        fn put(&mut self, key: Hashed<K>, lock: L) {
            self.push((key, lock));
        }

        fn take(&mut self, hash: u64, mut lock: impl FnMut(&L) -> bool) -> Option<(K, L)> {
            let index = self.iter().position(|(k, l)| k.hash == hash && lock(l))?;
            let (key, lock) = self.swap_remove(index);
            Some((key.key, lock))
        }

        fn take_all(&mut self) -> Vec<(Hashed<K>, L)> {
            std::mem::take(self)
        }
    }
}

/// Waiting by event-listener, which loom can explore as it is.
#[cfg(not(any(all(loom, not(feature = "loom")), all(shuttle, feature = "shuttle"))))]
mod wait {
    use super::{AtomicUsize, Ordering};
    use event_listener::Listener as _;
    use std::time::Instant;

    /// Counts its listeners itself, so that to notify nobody, which every commit does, costs next to nothing.
    pub(crate) struct Event {
        event: event_listener::Event,
        listeners: AtomicUsize,
    }

    pub(crate) struct Listener<'a> {
        listener: event_listener::EventListener,
        _counted: Counted<'a>,
    }

    struct Counted<'a>(&'a AtomicUsize);

    impl Event {
        pub(crate) fn new() -> Self {
            Self { event: event_listener::Event::new(), listeners: AtomicUsize::new(0) }
        }

        pub(crate) fn listen(&self) -> Listener<'_> {
            // ORDERING: AcqRel, like the one in `notify_all`: of two read-modify-writes one comes first. If it is that one,
            // whoever listens sees what was announced when it looks again; if it is this one, the notifier sees it, and
            // event-listener does the rest.
            self.listeners.fetch_add(1, Ordering::AcqRel);
            let counted = Counted(&self.listeners);
            Listener { listener: self.event.listen(), _counted: counted }
        }

        pub(crate) fn notify_all(&self) {
            // ORDERING: AcqRel, see `listen`; a plain load could be done before what is announced is visible.
            if self.listeners.fetch_add(0, Ordering::AcqRel) > 0 {
                self.event.notify(usize::MAX);
            }
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            // ORDERING: Relaxed, for whoever has stopped listening needs nothing more.
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Listener<'_> {
        pub(crate) fn wait(self) {
            self.listener.wait();
        }

        /// Panics under loom, which has no time.
        pub(crate) fn wait_deadline(self, deadline: Instant) {
            self.listener.wait_deadline(deadline);
        }
    }
}

/// Waiting by a counter and a condition variable: for shuttle, which event-listener does not know, and for a program's
/// own `--cfg loom` without our feature, under which event-listener would be loom's while the rest of the crate is not.
#[cfg(any(all(loom, not(feature = "loom")), all(shuttle, feature = "shuttle")))]
mod wait {
    #[cfg(all(shuttle, feature = "shuttle"))]
    use shuttle::sync::{Condvar, Mutex};
    #[cfg(not(all(shuttle, feature = "shuttle")))]
    use std::sync::{Condvar, Mutex};

    use std::sync::PoisonError;
    use std::time::Instant;

    pub(crate) struct Event {
        notifications: Mutex<u64>,
        raised: Condvar,
    }

    pub(crate) struct Listener<'a> {
        event: &'a Event,
        seen: u64,
    }

    impl Event {
        pub(crate) fn new() -> Self {
            Self { notifications: Mutex::new(0), raised: Condvar::new() }
        }

        pub(crate) fn listen(&self) -> Listener<'_> {
            let seen = *self.notifications.lock().unwrap_or_else(PoisonError::into_inner);
            Listener { event: self, seen }
        }

        pub(crate) fn notify_all(&self) {
            *self.notifications.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.raised.notify_all();
        }
    }

    impl Listener<'_> {
        pub(crate) fn wait(self) {
            let mut count = self.event.notifications.lock().unwrap_or_else(PoisonError::into_inner);
            while *count == self.seen {
                count = self.event.raised.wait(count).unwrap_or_else(PoisonError::into_inner);
            }
        }

        /// Under shuttle, whose time does not pass, this may return at any moment.
        pub(crate) fn wait_deadline(self, deadline: Instant) {
            let count = self.event.notifications.lock().unwrap_or_else(PoisonError::into_inner);
            if *count == self.seen {
                let timeout = deadline.saturating_duration_since(Instant::now());
                drop(self.event.raised.wait_timeout(count, timeout));
            }
        }
    }
}
