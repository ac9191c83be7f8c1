//! The stores that are compared, behind traits that say what each can do. One that cannot do a job does not get a
//! substitute for it: it is not among those that are measured.

mod broadcasting;
mod floor;
mod maps;
mod origin;
mod others;
mod ours;

pub use broadcasting::Broadcasting;
pub use floor::Floor;
pub use maps::{ArcSwapIm, MutexIm, RwLockIm, RwLockStd, WatchStd};
pub use origin::Origin;
pub use others::{Concread, DashMap, LeftRight, Papaya, Scc};
pub use ours::Ours;

use crate::{Key, Keys, Pair, Value};
use std::sync::Arc;
use std::time::Duration;

/// A map of keys to shared values. Each thread has a clone of its own, all of the same map.
pub trait Store<V: Value>: Clone + Send + 'static {
    const NAME: &'static str;

    /// What is committed at once.
    type Change: Send;

    fn with(content: Vec<Pair<V>>) -> Self;

    /// Makes a change of one key.
    fn one_key(pair: Pair<V>) -> Self::Change;

    fn commit(&self, change: Self::Change);

    fn get(&self, key: &str) -> Option<Arc<V>>;
}

/// Changes of several keys that are seen together or not at all, and reads that see several keys of one instant.
pub trait MultiKey<V: Value>: Store<V> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change;

    /// The values of the keys, all of one instant, in the way that costs this store least.
    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>);
}

/// Contents of one instant that can be kept while others write.
pub trait Snapshots<V: Value>: MultiKey<V> {
    type Snapshot<'s>;

    fn snapshot(&self) -> Self::Snapshot<'_>;

    fn look_up<'s>(snapshot: &'s Self::Snapshot<'_>, key: &str) -> Option<&'s Arc<V>>;
}

/// Buffers that merge what has changed.
pub trait Feed<V: Value>: MultiKey<V> {
    type Buffer: Send + Sync + 'static;

    fn buffer(&self) -> Self::Buffer;

    /// Done once for all buffers before they are flushed, by stores that need it.
    fn publish(&self) {}

    /// Delivers what is pending, one value after the other, without waiting.
    fn flush(buffer: &Self::Buffer, deliver: impl FnMut(&Arc<V>));

    /// Waits for something to deliver, tells of how many keys it was, sleeps for the interval, and so on until the end.
    fn follow(buffer: &Self::Buffer, interval: Duration, delivered: impl FnMut(usize));

    /// Ends all feeds.
    fn end(&self);
}

/// Exclusive write access to keys, with leases.
pub trait Locks<V: Value>: Store<V> {
    type Request: Send;

    /// To take a lock for a minute, or for another minute.
    fn acquire(key: Key) -> Self::Request;

    fn release(key: Key) -> Self::Request;

    /// Whether everything was as it was asked for.
    fn ask(&self, client: u32, request: Self::Request) -> bool;
}

/// Who commits.
pub const WRITER: u32 = 1;

/// How long locks are taken for.
const LEASE: Duration = Duration::from_mins(1);

/// Calls `job::<V, S>(arguments...)` for each store `S` that gives snapshots.
#[macro_export]
macro_rules! stores_with_snapshots {
    ($job:ident::<$value:ty>($($argument:expr),* $(,)?)) => {
        $job::<$value, $crate::peers::Ours<$value>>($($argument),*);
        $job::<$value, $crate::peers::Concread<$value>>($($argument),*);
        $job::<$value, $crate::peers::ArcSwapIm<$value>>($($argument),*);
        $job::<$value, $crate::peers::MutexIm<$value>>($($argument),*);
        $job::<$value, $crate::peers::RwLockIm<$value>>($($argument),*);
        $job::<$value, $crate::peers::RwLockStd<$value>>($($argument),*);
        $job::<$value, $crate::peers::WatchStd<$value>>($($argument),*);
        $job::<$value, $crate::peers::Origin<$value>>($($argument),*);
    };
}

/// The same for each store that can change and read several keys at once.
#[macro_export]
macro_rules! stores_of_many_keys {
    ($job:ident::<$value:ty>($($argument:expr),* $(,)?)) => {
        $crate::stores_with_snapshots!($job::<$value>($($argument),*));
        $job::<$value, $crate::peers::LeftRight<$value>>($($argument),*);
    };
}

/// The same for every store.
#[macro_export]
macro_rules! all_stores {
    ($job:ident::<$value:ty>($($argument:expr),* $(,)?)) => {
        $crate::stores_of_many_keys!($job::<$value>($($argument),*));
        $job::<$value, $crate::peers::DashMap<$value>>($($argument),*);
        $job::<$value, $crate::peers::Papaya<$value>>($($argument),*);
        $job::<$value, $crate::peers::Scc<$value>>($($argument),*);
    };
}

/// Sees to it that every store does what it is measured for.
///
/// # Panics
/// If one does not.
pub fn check() {
    all_stores!(check_one_key::<u64>());
    check_one_key::<u64, Floor<u64>>();
    stores_of_many_keys!(check_many_keys::<u64>());
    stores_with_snapshots!(check_snapshots::<u64>());
    check_snapshots::<u64, Floor<u64>>();
    check_feed::<Ours<u64>>();
    check_feed::<Broadcasting<u64>>();
    check_feed::<Origin<u64>>();
    check_locks::<Ours<u64>>();
    check_locks::<Origin<u64>>();
}

fn check_one_key<V: Value, S: Store<V>>() {
    let keys = Keys::new(30);
    let store = S::with(keys.content());
    let other = store.clone();
    for (number, key) in (1..).zip(keys.all()) {
        assert_eq!(other.get(key).map(|value| value.number()), Some(0), "{}", S::NAME);
        store.commit(S::one_key((Arc::clone(key), Arc::new(V::new(number)))));
        assert_eq!(other.get(key).map(|value| value.number()), Some(number), "{}", S::NAME);
    }
    assert!(store.get("nobody's").is_none(), "{}", S::NAME);
}

fn check_many_keys<V: Value, S: MultiKey<V>>() {
    let mut keys = Keys::new(30);
    let store = S::with(keys.content());
    store.commit(S::many_keys(keys.next_pairs(20)));
    let mut found = Vec::new();
    store.get_all(keys.all(), &mut found);
    assert_eq!(found.len(), 30, "{}", S::NAME);
    assert_eq!(found.iter().filter(|value| value.number() > 0).count(), 20, "{}", S::NAME);
}

fn check_snapshots<V: Value, S: Snapshots<V>>() {
    let mut keys = Keys::new(30);
    let store = S::with(keys.content());
    let before = store.snapshot();
    store.commit(S::many_keys(keys.next_pairs(30)));
    let after = store.snapshot();
    for key in keys.all() {
        assert_eq!(S::look_up(&before, key).map(|value| value.number()), Some(0), "{}", S::NAME);
        assert!(S::look_up(&after, key).is_some_and(|value| value.number() > 0), "{}", S::NAME);
    }
}

fn check_feed<S: Feed<u64>>() {
    let mut keys = Keys::new(30);
    let store = S::with(keys.content());
    let buffer = store.buffer();
    let pending = || {
        let (mut count, mut latest) = (0, 0);
        store.publish();
        S::flush(&buffer, |value| {
            count += 1;
            latest = latest.max(**value);
        });
        (count, latest)
    };
    assert_eq!(pending(), (30, 0), "{}", S::NAME);
    for number in 1..=10 {
        store.commit(S::one_key((Arc::clone(&keys.all()[0]), Arc::new(number))));
        store.commit(S::one_key((Arc::clone(&keys.all()[1]), Arc::new(number))));
    }
    assert_eq!(pending(), (2, 10), "{}", S::NAME);
    assert_eq!(pending(), (0, 0), "{}", S::NAME);
    store.commit(S::many_keys(keys.next_pairs(3)));
    store.end();
    let mut delivered = 0;
    S::follow(&buffer, Duration::from_hours(1), |keys| delivered += keys);
    assert_eq!(delivered, 3, "{}", S::NAME);
}

fn check_locks<S: Locks<u64>>() {
    let keys = Keys::new(30);
    let store = S::with(keys.content());
    let key = &keys.all()[0];
    let acquire = |client| store.ask(client, S::acquire(Arc::clone(key)));
    assert!(acquire(WRITER) && acquire(WRITER) && !acquire(2), "{}", S::NAME);
    store.commit(S::one_key((Arc::clone(key), Arc::new(1))));
    assert_eq!(store.get(key).as_deref(), Some(&1), "{}", S::NAME);
    assert!(store.ask(WRITER, S::release(Arc::clone(key))) && acquire(2), "{}", S::NAME);
}
