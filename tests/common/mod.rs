//! What several test files need.
#![allow(dead_code)] // each test binary uses its own part

use state_dictionary::{
    Change, Delivery, LockRequest, ManualClock, Session, SessionSummary, Snapshot, StateDictionary,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use std::{process, thread};

pub(crate) type Dictionary = StateDictionary<&'static str, i32, &'static str>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const NANOSECOND: Duration = Duration::from_nanos(1);
pub(crate) const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);

pub(crate) fn with_manual_clock() -> (Dictionary, ManualClock) {
    let clock = ManualClock::new();
    (StateDictionary::builder().clock(&clock).build(), clock)
}

pub(crate) fn set(key: &'static str, value: i32) -> Change<&'static str, i32> {
    Change::new().set(key, value)
}

pub(crate) fn remove(key: &'static str) -> Change<&'static str, i32> {
    Change::new().remove(key)
}

pub(crate) fn commit(dictionary: &Dictionary, changes: impl IntoIterator<Item = Change<&'static str, i32>>) {
    for change in changes {
        assert!(dictionary.update_state(&"", change).is_ok());
    }
}

/// A value whose destructor panics on demand.
pub(crate) struct Grenade(pub(crate) bool);

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(!self.0 || thread::panicking(), "on purpose");
    }
}

pub(crate) type Client = Session<&'static str, i32, &'static str>;

/// A session with these ephemeral keys.
pub(crate) fn owning(dictionary: &Dictionary, token: &'static str, keys: &[&'static str]) -> Client {
    let mut session = dictionary.session(token);
    for key in keys {
        assert!(session.update_ephemeral(set(key, 1)).is_ok());
    }
    session
}

/// The keys that went with a session, of which nothing may be left.
pub(crate) fn removed(end: SessionSummary<&'static str, &'static str>) -> Vec<&'static str> {
    assert!(end.not_removed.is_empty(), "{end:?}");
    sorted(end.removed)
}

pub(crate) fn acquire(key: &'static str, lease: impl Into<Option<Duration>>) -> LockRequest<&'static str> {
    LockRequest::new().acquire(key, lease)
}

pub(crate) fn release(key: &'static str) -> LockRequest<&'static str> {
    LockRequest::new().release(key)
}

pub(crate) fn content<K: Clone + Ord, V: Clone, S>(snapshot: &Snapshot<K, V, S>) -> BTreeMap<K, V> {
    snapshot.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(crate) fn replay<K: Clone + Ord, V: Clone>(delivery: &Delivery<K, V>, replica: &mut BTreeMap<K, V>) {
    replica.extend(delivery.updates().map(|(key, entry)| (key.clone(), V::clone(entry))));
    for key in delivery.removals() {
        replica.remove(key);
    }
}

/// The updates with their values, and the removals, both sorted.
pub(crate) fn parts<K: Clone + Ord, V: Clone + Ord>(delivery: &Delivery<K, V>) -> (Vec<(K, V)>, Vec<K>) {
    let updates = delivery.updates().map(|(key, entry)| (key.clone(), V::clone(entry)));
    (sorted(updates), sorted(delivery.removals().cloned()))
}

pub(crate) fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}

/// Spawns a body that waits for something, and returns when it has probably begun to. Nothing may depend on that; it makes
/// it likely that a wake-up that never comes is missed.
pub(crate) fn spawn_waiting<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> R + Send + 'scope,
) -> ScopedJoinHandle<'scope, R> {
    let begun = Arc::new(AtomicBool::new(false));
    let waiting = scope.spawn({
        let begun = Arc::clone(&begun);
        move || {
            begun.store(true, Ordering::Release);
            body()
        }
    });
    while !begun.load(Ordering::Acquire) {
        thread::yield_now();
    }
    (0..100).for_each(|_| thread::yield_now());
    waiting
}

/// Runs a body that waits for other threads. If it is still waiting after a minute, nothing will wake it any more: the
/// process then ends with a message instead of hanging.
pub(crate) fn within_a_minute<R>(body: impl FnOnce() -> R) -> R {
    within(Duration::from_secs(60), body)
}

/// The watchdog is told by an atomic and joined by hand. What std would do instead (a channel, the end of a scope) the thread
/// sanitizer does not see, and it then reports races.
pub(crate) fn within<R>(limit: Duration, body: impl FnOnce() -> R) -> R {
    struct Finish<'scope, 'a>(&'a AtomicBool, Option<ScopedJoinHandle<'scope, ()>>);
    impl Drop for Finish<'_, '_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
            if let Some(watchdog) = self.1.take() {
                watchdog.thread().unpark();
                let _ = watchdog.join();
            }
        }
    }

    let test = thread::current().name().unwrap_or("a test").to_owned();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watchdog = scope.spawn(|| {
            let start = Instant::now();
            while !done.load(Ordering::Acquire) {
                let Some(left) = limit.checked_sub(start.elapsed()) else {
                    eprintln!("{test} still waits after {limit:?}");
                    process::abort();
                };
                thread::park_timeout(left);
            }
        });
        let _finish = Finish(&done, Some(watchdog));
        body()
    })
}
