//! This crate.

use super::{Feed, LEASE, Locks, MultiKey, Snapshots, Store, WRITER};
use crate::{Key, Pair, Value};
use state_dictionary::{Change, ChangeBuffer, LockReceipt, LockRequest, Snapshot, StateDictionary};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

pub struct Ours<V>(Arc<StateDictionary<Key, V, u32>>);

impl<V> Clone for Ours<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Value> Ours<V> {
    /// With a history that forgets everything at once, so that every flush compares contents.
    pub fn without_trail(content: Vec<Pair<V>>) -> Self {
        Self::build(content, 0)
    }

    pub(super) fn dictionary(&self) -> &StateDictionary<Key, V, u32> {
        &self.0
    }

    fn build(content: Vec<Pair<V>>, history_limit: usize) -> Self {
        let store = Self(Arc::new(StateDictionary::builder().history_limit(history_limit).build()));
        store.commit(Self::many_keys(content));
        store
    }
}

impl<V: Value> Store<V> for Ours<V> {
    const NAME: &'static str = "state-dictionary";
    type Change = Change<Key, V>;

    fn with(content: Vec<Pair<V>>) -> Self {
        Self::build(content, 4096)
    }

    fn one_key((key, value): Pair<V>) -> Self::Change {
        Change::new().set_arc(key, value)
    }

    fn commit(&self, change: Self::Change) {
        assert!(self.0.update_state(&WRITER, change).is_ok(), "nobody else has a lock on what is written");
    }

    fn get(&self, key: &str) -> Option<Arc<V>> {
        self.0.get(key).map(state_dictionary::Versioned::into_value)
    }
}

impl<V: Value> MultiKey<V> for Ours<V> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change {
        pairs.into_iter().fold(Change::new(), |change, (key, value)| change.set_arc(key, value))
    }

    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>) {
        let snapshot = self.0.snapshot();
        found.extend(keys.iter().filter_map(|key| snapshot.entry(key)).map(|entry| Arc::clone(entry.value())));
    }
}

impl<V: Value> Snapshots<V> for Ours<V> {
    type Snapshot<'s> = Snapshot<Key, V, RandomState>;

    fn snapshot(&self) -> Self::Snapshot<'_> {
        self.0.snapshot()
    }

    fn look_up<'s>(snapshot: &'s Self::Snapshot<'_>, key: &str) -> Option<&'s Arc<V>> {
        snapshot.entry(key).map(state_dictionary::Versioned::value)
    }
}

impl<V: Value> Feed<V> for Ours<V> {
    type Buffer = ChangeBuffer<Key, V, RandomState>;

    fn buffer(&self) -> Self::Buffer {
        self.0.change_buffer()
    }

    fn flush(buffer: &Self::Buffer, mut deliver: impl FnMut(&Arc<V>)) {
        if let Ok(delivery) = buffer.try_flush() {
            delivery.updates().for_each(|(_, entry)| deliver(entry.value()));
        }
    }

    fn follow(buffer: &Self::Buffer, interval: Duration, mut delivered: impl FnMut(usize)) {
        buffer.subscribe(interval).for_each(|delivery| delivered(delivery.count()));
    }

    fn end(&self) {
        self.0.freeze();
    }
}

impl<V: Value> Locks<V> for Ours<V> {
    type Request = LockRequest<Key>;

    fn acquire(key: Key) -> Self::Request {
        LockRequest::new().acquire(key, LEASE)
    }

    fn release(key: Key) -> Self::Request {
        LockRequest::new().release(key)
    }

    fn ask(&self, client: u32, request: Self::Request) -> bool {
        let lost = |receipt: LockReceipt<Key>| receipt.not_held.len() + receipt.expired.len();
        self.0.update_locks(&client, request).is_ok_and(|receipt| lost(receipt) == 0)
    }
}
