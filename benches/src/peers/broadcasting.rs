//! This crate, with one broadcast for all who follow.

use super::{Feed, MultiKey, Ours, Store};
use crate::{Key, Pair, Value};
use parking_lot::Mutex;
use state_dictionary::{Broadcast, BufferOptions, Follower, Message};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

/// The values that were set.
type Set<V> = Vec<Arc<V>>;

pub struct Broadcasting<V> {
    store: Ours<V>,
    frames: Arc<Broadcast<Key, V, Set<V>, RandomState>>,
}

impl<V> Clone for Broadcasting<V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), frames: Arc::clone(&self.frames) }
    }
}

impl<V: Value> Store<V> for Broadcasting<V> {
    const NAME: &'static str = "state-dictionary, one broadcast";
    type Change = <Ours<V> as Store<V>>::Change;

    fn with(content: Vec<Pair<V>>) -> Self {
        let store = Ours::with(content);
        let frames = store.dictionary().broadcast(BufferOptions::new(), |delivery| {
            delivery.updates().map(|(_, entry)| Arc::clone(entry.value())).collect()
        });
        Self { store, frames: Arc::new(frames) }
    }

    fn one_key(pair: Pair<V>) -> Self::Change {
        Ours::one_key(pair)
    }

    fn commit(&self, change: Self::Change) {
        self.store.commit(change);
    }

    fn get(&self, key: &str) -> Option<Arc<V>> {
        self.store.get(key)
    }
}

impl<V: Value> MultiKey<V> for Broadcasting<V> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change {
        Ours::many_keys(pairs)
    }

    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>) {
        self.store.get_all(keys, found);
    }
}

impl<V: Value> Feed<V> for Broadcasting<V> {
    type Buffer = Mutex<Follower<Key, V, Set<V>, RandomState>>;

    fn buffer(&self) -> Self::Buffer {
        Mutex::new(self.frames.join(None))
    }

    fn publish(&self) {
        self.frames.publish();
    }

    fn flush(buffer: &Self::Buffer, mut deliver: impl FnMut(&Arc<V>)) {
        let mut follower = buffer.lock();
        while let Ok(message) = follower.try_next() {
            match message {
                Message::Frame(frame) => frame.encoded().iter().for_each(&mut deliver),
                Message::CatchUp(delivery) => delivery.updates().for_each(|(_, entry)| deliver(entry.value())),
            }
        }
    }

    fn follow(buffer: &Self::Buffer, _interval: Duration, mut delivered: impl FnMut(usize)) {
        let mut follower = buffer.lock();
        while let Ok(message) = follower.next() {
            delivered(match message {
                Message::Frame(frame) => frame.encoded().len(),
                Message::CatchUp(delivery) => delivery.count(),
            });
        }
    }

    fn end(&self) {
        self.store.end();
    }
}
