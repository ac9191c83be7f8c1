//! Concurrent maps of other crates.

use super::{MultiKey, Snapshots, Store};
use crate::{Key, Pair, Value};
use concread::hashmap::{HashMap as ConcreadMap, HashMapReadTxn};
use left_right::{Absorb, ReadHandle, WriteHandle};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

/// `concread`'s hash map. A read transaction is a snapshot.
pub struct Concread<V: Value>(Arc<ConcreadMap<Key, Arc<V>>>);

impl<V: Value> Clone for Concread<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Value> Store<V> for Concread<V> {
    const NAME: &'static str = "concread";
    type Change = Vec<Pair<V>>;

    fn with(content: Vec<Pair<V>>) -> Self {
        Self(Arc::new(content.into_iter().collect()))
    }

    fn one_key(pair: Pair<V>) -> Self::Change {
        vec![pair]
    }

    fn commit(&self, change: Self::Change) {
        let mut transaction = self.0.write();
        transaction.extend(change);
        transaction.commit();
    }

    fn get(&self, key: &str) -> Option<Arc<V>> {
        self.0.read().get(key).cloned()
    }
}

impl<V: Value> MultiKey<V> for Concread<V> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change {
        pairs
    }

    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>) {
        let transaction = self.0.read();
        found.extend(keys.iter().filter_map(|key| transaction.get(key)).cloned());
    }
}

impl<V: Value> Snapshots<V> for Concread<V> {
    type Snapshot<'s> = HashMapReadTxn<'s, Key, Arc<V>>;

    fn snapshot(&self) -> Self::Snapshot<'_> {
        self.0.read()
    }

    fn look_up<'s>(snapshot: &'s Self::Snapshot<'_>, key: &str) -> Option<&'s Arc<V>> {
        snapshot.get(key)
    }
}

/// `left-right` with std's map, which is what `evmap` is too. Readers see one instant while they read, but the next write
/// but one waits for them, so that is no snapshot to keep.
pub struct LeftRight<V: Value> {
    read: ReadHandle<Both<V>>,
    write: Arc<Mutex<WriteHandle<Both<V>, Vec<Pair<V>>>>>,
}

/// Either copy.
struct Both<V>(HashMap<Key, Arc<V>>);

impl<V> Clone for Both<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Value> Absorb<Vec<Pair<V>>> for Both<V> {
    fn absorb_first(&mut self, change: &mut Vec<Pair<V>>, _: &Self) {
        self.0.extend(change.iter().cloned());
    }

    fn absorb_second(&mut self, change: Vec<Pair<V>>, _: &Self) {
        self.0.extend(change);
    }

    fn sync_with(&mut self, first: &Self) {
        self.0.clone_from(&first.0);
    }
}

impl<V: Value> Clone for LeftRight<V> {
    fn clone(&self) -> Self {
        Self { read: self.read.clone(), write: Arc::clone(&self.write) }
    }
}

impl<V: Value> LeftRight<V> {
    fn read<R>(&self, look: impl FnOnce(&HashMap<Key, Arc<V>>) -> R) -> Option<R> {
        self.read.enter().map(|both| look(&both.0))
    }
}

impl<V: Value> Store<V> for LeftRight<V> {
    const NAME: &'static str = "left-right";
    type Change = Vec<Pair<V>>;

    fn with(content: Vec<Pair<V>>) -> Self {
        let (mut write, read) = left_right::new_from_empty(Both(content.into_iter().collect()));
        write.publish();
        Self { read, write: Arc::new(Mutex::new(write)) }
    }

    fn one_key(pair: Pair<V>) -> Self::Change {
        vec![pair]
    }

    fn commit(&self, change: Self::Change) {
        let mut write = self.write.lock();
        write.append(change);
        write.publish();
    }

    fn get(&self, key: &str) -> Option<Arc<V>> {
        self.read(|map| map.get(key).cloned()).flatten()
    }
}

impl<V: Value> MultiKey<V> for LeftRight<V> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change {
        pairs
    }

    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>) {
        self.read(|map| found.extend(keys.iter().filter_map(|key| map.get(key)).cloned()));
    }
}

/// What the stores have in common that change one key at a time.
macro_rules! one_key_at_a_time {
    ($store:ident, $name:literal, $map:ty, |$self:ident, $key:ident, $value:ident| $set:expr, |$asked:ident| $get:expr) => {
        pub struct $store<V: Value>(Arc<$map>);

        impl<V: Value> Clone for $store<V> {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0))
            }
        }

        impl<V: Value> Store<V> for $store<V> {
            const NAME: &'static str = $name;
            type Change = Pair<V>;

            fn with(content: Vec<Pair<V>>) -> Self {
                Self(Arc::new(content.into_iter().collect()))
            }

            fn one_key(pair: Pair<V>) -> Self::Change {
                pair
            }

            fn commit(&$self, ($key, $value): Self::Change) {
                $set;
            }

            fn get(&$self, $asked: &str) -> Option<Arc<V>> {
                $get
            }
        }
    };
}

one_key_at_a_time!(
    DashMap,
    "dashmap",
    dashmap::DashMap<Key, Arc<V>, RandomState>,
    |self, key, value| self.0.insert(key, value),
    |key| self.0.get(key).map(|found| Arc::clone(found.value()))
);

one_key_at_a_time!(
    Papaya,
    "papaya",
    papaya::HashMap<Key, Arc<V>, RandomState>,
    |self, key, value| self.0.pin().insert(key, value),
    |key| self.0.pin().get(key).cloned()
);

one_key_at_a_time!(
    Scc,
    "scc",
    scc::HashMap<Key, Arc<V>, RandomState>,
    |self, key, value| self.0.upsert_sync(key, value),
    |key| self.0.read_sync(key, |_, value| Arc::clone(value))
);
