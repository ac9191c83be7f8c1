//! The same contracts on a model checker's primitives. Loom's and shuttle's have std's interface, so one text serves
//! both. A value behind a `RwLock` rather than an `AtomicPtr`: loom explores a load followed by a compare-and-swap
//! incompletely (loom #392).

use super::{Hashed, Ordering, Shard};
#[cfg(all(loom, feature = "loom"))]
use loom as checker;
#[cfg(not(all(loom, feature = "loom")))]
use shuttle as checker;

use checker::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{self, PoisonError, TryLockError};

pub(crate) use checker::sync::{Arc, MutexGuard};
pub(crate) use checker::thread::ThreadId;
pub(crate) use checker::thread_local;

/// An execution must be a function of its schedule alone.
pub(crate) type DefaultHashBuilder = BuildHasherDefault<DefaultHasher>;
pub(crate) const DEFAULT_HISTORY_LIMIT: usize = 2;
pub(crate) const FRAMES_KEPT: usize = 2;
/// Few, so that in a model one step ends two sessions, and one expiry takes two steps.
pub(crate) const SESSIONS_AT_ONCE: usize = 4;
/// One, so that loom's models see the content locked. In shuttle's histories a `try_` operation would be refused by a
/// lock on the content that no operation of the history explains.
pub(crate) const ATTEMPTS_TO_END: usize = if cfg!(loom) { 1 } else { 1_000_000 };

pub(crate) fn current_thread() -> ThreadId {
    checker::thread::current().id()
}

pub(crate) fn default_shards() -> usize {
    2
}

/// Does nothing: an attempt is repeated only because another thread succeeded, so no model can spin for ever.
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

/// Loads as [`AtomicUsize`] does.
#[derive(Debug)]
pub(crate) struct AtomicU64(checker::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(checker::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, _: Ordering) -> u64 {
        // ORDERING: AcqRel, as above.
        self.0.fetch_add(0, Ordering::AcqRel)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    pub(crate) fn fetch_min(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_min(value, order)
    }

    pub(crate) fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        update: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        self.0.fetch_update(set, fetch, update)
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
}

pub(crate) struct TurnLock<T>(checker::sync::Mutex<T>);

impl<T> TurnLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checker::sync::Mutex::new(value))
    }

    /// A checker has no time, so waiting for a while is the same as not waiting.
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

/// What it owns is counted by std: arc-swap guarantees that reclamation is right, and its own tests check that.
pub(crate) struct RootCell<T>(RwLock<sync::Arc<T>>);

impl<T> RootCell<T> {
    pub(crate) fn new(value: sync::Arc<T>) -> Self {
        Self(RwLock::new(value))
    }

    /// Not a guard, unlike the shipped one: a thread of a model must not lock the `RwLock` twice.
    pub(crate) fn load(&self) -> sync::Arc<T> {
        self.load_full()
    }

    pub(crate) fn load_full(&self) -> sync::Arc<T> {
        sync::Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn compare_and_swap(&self, current: &sync::Arc<T>, new: sync::Arc<T>) -> bool {
        let mut value = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let swapped = sync::Arc::ptr_eq(&value, current);
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
    fn look_up(&self, hash: u64, mut wanted: impl FnMut(&K, &L) -> bool) -> Option<(&K, &L)> {
        self.iter().find(|(k, lock)| k.hash == hash && wanted(&k.key, lock)).map(|(k, lock)| (&k.key, lock))
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
