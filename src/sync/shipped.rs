//! As shipped: the cell is arc-swap's, the shards are dashmap's.

use super::{Hashed, Shard};
use arc_swap::{ArcSwapAny, Guard};
use dashmap::{DashMap, SharedValue};
use hashbrown::raw::RawTable;
use std::hash::BuildHasherDefault;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use crossbeam_utils::Backoff;
pub(crate) use parking_lot::MutexGuard;
pub(crate) use std::hash::RandomState as DefaultHashBuilder;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize};
pub(crate) use std::thread::ThreadId;
pub(crate) use std::thread_local;

pub(crate) const DEFAULT_HISTORY_LIMIT: usize = 4096;
/// How many frames a broadcast keeps: about a second's at 30 Hz.
pub(crate) const FRAMES_KEPT: usize = 32;
/// How many keys and locks one step ends, if they are of several sessions: less than a millisecond's work.
pub(crate) const SESSIONS_AT_ONCE: usize = 512;
/// After this many lost swaps the end of a session locks the content while it removes its keys.
pub(crate) const ATTEMPTS_TO_END: usize = 4;

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
}

/// For how long a commit waits for its turn at most.
const LONGEST_WAIT: Duration = Duration::from_millis(3);

/// How long a waiter sleeps before it parks: alone, and with others, by their number. A longer sleep lets the owner
/// make more commits in a row, with the tree in its core's cache, but makes the others wait longer. Chosen by the
/// benchmark `tails`: with a quarter of a millisecond for all, 16 writers got a third less done; with half a
/// millisecond for all, the slowest of 4 and 8 waited for too long.
const SLEEP_ALONE: Duration = Duration::from_millis(1);
const SLEEP: Duration = Duration::from_micros(200);
const SLEEP_FOR_EACH: Duration = Duration::from_micros(18);

/// The lock behind the turn. Waiting for it is limited, and once a wait for one owner has timed out, no other thread
/// waits for that owner.
pub(crate) struct TurnLock<T> {
    mutex: parking_lot::Mutex<T>,
    /// The number of the owner, present or last: how often the lock has been acquired.
    owner: AtomicU64,
    /// The owner for which a wait has timed out.
    timed_out: AtomicU64,
    /// How many threads sleep or are parked.
    waiting: AtomicUsize,
}

impl<T> TurnLock<T> {
    pub(crate) fn new(value: T) -> Self {
        let (owner, timed_out, waiting) = (AtomicU64::new(1), AtomicU64::new(0), AtomicUsize::new(0));
        Self { mutex: parking_lot::Mutex::new(value), owner, timed_out, waiting }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.mutex.try_lock().map(|guard| self.owned(guard))
    }

    /// The lock, unless others keep it for [`LONGEST_WAIT`] by the system's clock, or a wait for its present owner has
    /// timed out before.
    ///
    /// A waiter sleeps and then parks. A thread that spins beside the owner takes away the cache lines that the next
    /// commit needs; while the others sleep, one thread makes many commits in a row. A parked waiter costs the owner a
    /// system call at each unlock, so a waiter parks only after it has slept. Then it soon gets the lock: the next
    /// unlock wakes it, and `parking_lot` hands the lock over every half a millisecond.
    pub(crate) fn lock_for_a_while(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.try_lock();
        if guard.is_some() || self.has_timed_out(self.present_owner()) {
            return guard;
        }
        // ORDERING: Relaxed, twice. Only the length of a sleep depends on the count.
        let guard = self.wait(match self.waiting.fetch_add(1, Ordering::Relaxed) {
            0 => SLEEP_ALONE,
            others => SLEEP + SLEEP_FOR_EACH * u32::try_from(others).unwrap_or(u32::MAX).min(100),
        });
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    #[allow(clippy::disallowed_methods)] // real time, also with a manual clock
    fn wait(&self, sleep: Duration) -> Option<MutexGuard<'_, T>> {
        let deadline = Instant::now() + LONGEST_WAIT;
        thread::sleep(sleep);
        // There may be another owner by now.
        if self.has_timed_out(self.present_owner()) {
            return self.try_lock();
        }
        let guard = self.mutex.try_lock_until(deadline);
        if guard.is_none() {
            // The present owner, even if it has only just acquired the lock: then others lose no more than the spare
            // root.
            // ORDERING: Relaxed, it only saves others the wait.
            self.timed_out.store(self.present_owner(), Ordering::Relaxed);
        }
        guard.map(|guard| self.owned(guard))
    }

    fn owned<'a>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        // ORDERING: Relaxed. Only the owner stores, and waiters merely compare.
        self.owner.store(self.owner.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        guard
    }

    fn present_owner(&self) -> u64 {
        // ORDERING: Relaxed. An outdated value costs a wait.
        self.owner.load(Ordering::Relaxed)
    }

    fn has_timed_out(&self, owner: u64) -> bool {
        // ORDERING: Relaxed, as in `lock_for_a_while`.
        self.timed_out.load(Ordering::Relaxed) == owner
    }
}

#[cfg(not(feature = "rwlock-strategy"))]
type Strategy = arc_swap::DefaultStrategy;
#[cfg(feature = "rwlock-strategy")]
#[allow(clippy::disallowed_types)] // of arc-swap, which no model checker runs
type Strategy = std::sync::RwLock<()>;

pub(crate) struct RootCell<T>(ArcSwapAny<Arc<T>, Strategy>);

impl<T> RootCell<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwapAny::with_strategy(value, Strategy::default()))
    }

    /// For a short look: cheaper than `load_full`, but a thread can have only few guards at once.
    pub(crate) fn load(&self) -> Guard<Arc<T>, Strategy> {
        #[cfg(test)]
        others::drop_when_due();
        self.0.load()
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        #[cfg(test)]
        others::drop_when_due();
        self.0.load_full()
    }

    pub(crate) fn compare_and_swap(&self, current: &Arc<T>, new: Arc<T>) -> bool {
        #[cfg(test)]
        others::drop_when_due();
        Arc::ptr_eq(&self.0.compare_and_swap(current, new), current)
    }
}

/// Never hashes: every call to a raw table passes the hash.
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
        // On a 32-bit machine the upper half is lost, as in dashmap itself.
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
    fn look_up(&self, hash: u64, mut wanted: impl FnMut(&K, &L) -> bool) -> Option<(&K, &L)> {
        self.get(hash, |(k, lock)| wanted(&k.key, lock.get())).map(|(k, lock)| (&k.key, lock.get()))
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

/// arc-swap drops values that other threads have replaced inside its own `load` and `compare_and_swap`, if a writer
/// comes in between. This makes it do so at an instant that a test chooses.
#[cfg(test)]
pub(crate) mod others {
    use std::any::Any;
    use std::cell::RefCell;

    thread_local! {
        static OTHERS: RefCell<Option<(usize, Box<dyn Any>)>> = const { RefCell::new(None) };
    }

    /// Drops `value` inside this thread's use of a cell after `uses` others.
    pub(crate) fn drop_after(uses: usize, value: impl Any) {
        OTHERS.set(Some((uses, Box::new(value))));
    }

    /// The value, if there were too few uses to drop it.
    pub(crate) fn take() -> Option<Box<dyn Any>> {
        OTHERS.take().map(|(_, value)| value)
    }

    pub(super) fn drop_when_due() {
        let due = OTHERS.with_borrow_mut(|others| match others {
            Some((0, _)) => others.take(),
            Some((uses, _)) => {
                *uses -= 1;
                None
            }
            None => None,
        });
        drop(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// The times, at best, of a wait that times out and of the next one for the same owner.
    fn waits(lock: &TurnLock<u8>) -> [Duration; 2] {
        let ((owned, is_owned), (over, is_over)) = (channel(), channel::<()>());
        thread::scope(|scope| {
            scope.spawn(move || {
                let guard = lock.try_lock();
                let _ = owned.send(guard.is_some());
                let _ = is_over.recv();
            });
            assert_eq!(is_owned.recv(), Ok(true));
            let waits = [(); 2].map(|()| {
                let begun = Instant::now();
                assert!(lock.lock_for_a_while().is_none());
                begun.elapsed()
            });
            drop(over);
            waits
        })
    }

    #[test]
    fn each_owner_is_waited_for_once_and_by_the_clock() {
        let lock = TurnLock::new(0);
        // On a busy machine both may take longer, but not in all of the runs.
        let in_time = |[first, again]: [Duration; 2]| {
            assert!(first >= LONGEST_WAIT, "{first:?}");
            first < 3 * LONGEST_WAIT && again < LONGEST_WAIT / 3
        };
        assert!((0..1_000).any(|_| in_time(waits(&lock))));
        assert!(lock.lock_for_a_while().is_some());
    }
}
