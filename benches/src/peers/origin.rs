//! The origin's algorithm: one lock around everything, and a buffer for each subscriber into which every writer puts what
//! it has changed while it has the lock.
//!
//! As in `nanover-server-py`, whose `StateDictionary`, `KeyLockableMap` and `DictionaryChangeBuffer` it follows, but for the
//! removal of keys, which no benchmark asks for.

use super::{Feed, LEASE, Locks, MultiKey, Snapshots, Store, WRITER};
use crate::{Key, Pair, Value};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Origin<V>(Arc<Mutex<State<V>>>);

struct State<V> {
    content: HashMap<Key, Arc<V>>,
    locks: HashMap<Key, Lock>,
    buffers: Vec<Arc<Buffer<V>>>,
}

struct Lock {
    owner: u32,
    until: Instant,
}

pub struct Buffer<V> {
    pending: Mutex<Pending<V>>,
    changed: Condvar,
    /// For those that sleep in their interval.
    ended: Condvar,
}

struct Pending<V> {
    changes: HashMap<Key, Arc<V>>,
    ended: bool,
}

impl<V> Clone for Origin<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> State<V> {
    fn is_locked_for(&self, key: &str, client: u32) -> bool {
        self.locks.get(key).is_some_and(|lock| lock.owner != client && Instant::now() < lock.until)
    }
}

impl<V: Value> Store<V> for Origin<V> {
    const NAME: &'static str = "origin";
    type Change = Vec<Pair<V>>;

    fn with(content: Vec<Pair<V>>) -> Self {
        let (locks, buffers) = (HashMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { content: content.into_iter().collect(), locks, buffers })))
    }

    fn one_key(pair: Pair<V>) -> Self::Change {
        vec![pair]
    }

    fn commit(&self, change: Self::Change) {
        let mut state = self.0.lock();
        assert!(!change.iter().any(|(key, _)| state.is_locked_for(key, WRITER)), "nobody else has a lock on it");
        for buffer in &state.buffers {
            buffer.pending.lock().changes.extend(change.iter().cloned());
            buffer.changed.notify_all();
        }
        state.content.extend(change);
    }

    fn get(&self, key: &str) -> Option<Arc<V>> {
        self.0.lock().content.get(key).cloned()
    }
}

impl<V: Value> MultiKey<V> for Origin<V> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change {
        pairs
    }

    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>) {
        let state = self.0.lock();
        found.extend(keys.iter().filter_map(|key| state.content.get(key)).cloned());
    }
}

impl<V: Value> Snapshots<V> for Origin<V> {
    type Snapshot<'s> = HashMap<Key, Arc<V>>;

    fn snapshot(&self) -> Self::Snapshot<'_> {
        self.0.lock().content.clone()
    }

    fn look_up<'s>(snapshot: &'s Self::Snapshot<'_>, key: &str) -> Option<&'s Arc<V>> {
        snapshot.get(key)
    }
}

impl<V: Value> Feed<V> for Origin<V> {
    type Buffer = Arc<Buffer<V>>;

    fn buffer(&self) -> Self::Buffer {
        let mut state = self.0.lock();
        let pending = Mutex::new(Pending { changes: state.content.clone(), ended: false });
        let buffer = Arc::new(Buffer { pending, changed: Condvar::new(), ended: Condvar::new() });
        state.buffers.push(Arc::clone(&buffer));
        buffer
    }

    fn flush(buffer: &Self::Buffer, deliver: impl FnMut(&Arc<V>)) {
        let changes = mem::take(&mut buffer.pending.lock().changes);
        changes.values().for_each(deliver);
    }

    fn follow(buffer: &Self::Buffer, interval: Duration, mut delivered: impl FnMut(usize)) {
        loop {
            let mut pending = buffer.pending.lock();
            buffer.changed.wait_while(&mut pending, |pending| pending.changes.is_empty() && !pending.ended);
            let changes = mem::take(&mut pending.changes);
            drop(pending);
            if changes.is_empty() {
                return;
            }
            delivered(changes.len());
            drop(changes);
            let mut pending = buffer.pending.lock();
            buffer.ended.wait_while_for(&mut pending, |pending| !pending.ended, interval);
        }
    }

    fn end(&self) {
        for buffer in &self.0.lock().buffers {
            buffer.pending.lock().ended = true;
            buffer.changed.notify_all();
            buffer.ended.notify_all();
        }
    }
}

/// Of one lock.
pub enum Request {
    Acquire(Key),
    Release(Key),
}

impl<V: Value> Locks<V> for Origin<V> {
    type Request = Request;

    fn acquire(key: Key) -> Self::Request {
        Request::Acquire(key)
    }

    fn release(key: Key) -> Self::Request {
        Request::Release(key)
    }

    fn ask(&self, client: u32, request: Self::Request) -> bool {
        let mut state = self.0.lock();
        match request {
            Request::Acquire(key) if state.is_locked_for(&key, client) => false,
            Request::Acquire(key) => {
                state.locks.insert(key, Lock { owner: client, until: Instant::now() + LEASE });
                true
            }
            Request::Release(key) if state.is_locked_for(&key, client) => false,
            Request::Release(key) => state.locks.remove(&key).is_some(),
        }
    }
}
