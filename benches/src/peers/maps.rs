//! A map in a cell: what one would write in ten lines.

use super::{MultiKey, Snapshots, Store};
use crate::{Key, Pair, Value};
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::watch;

type Std<V> = HashMap<Key, Arc<V>>;
type Im<V> = im::HashMap<Key, Arc<V>>;

/// Writes are in place; a snapshot is a copy, O(n).
pub type RwLockStd<V> = InCell<V, Std<V>, RwLock<Std<V>>>;
/// Writes are in place as far as no snapshot shares the tree; a snapshot is O(1). Readers wait for each other.
pub type MutexIm<V> = InCell<V, Im<V>, Mutex<Im<V>>>;
/// As [`MutexIm`], but readers read at the same time.
pub type RwLockIm<V> = InCell<V, Im<V>, RwLock<Im<V>>>;
/// Every write copies a path, and again for each time another writer was faster; readers wait for nobody.
pub type ArcSwapIm<V> = InCell<V, Im<V>, ArcSwap<Im<V>>>;
/// A snapshot is O(1), and the first write after it copies everything; others are in place.
pub type WatchStd<V> = InCell<V, Std<V>, watch::Sender<Arc<Std<V>>>>;

/// A map that can be cloned: std's in O(n), im's in O(1).
pub trait Map<V>: Clone + FromIterator<Pair<V>> + Send + Sync + 'static {
    fn set_all(&mut self, pairs: Vec<Pair<V>>);
    fn look_up(&self, key: &str) -> Option<&Arc<V>>;
}

impl<V: Value> Map<V> for Std<V> {
    fn set_all(&mut self, pairs: Vec<Pair<V>>) {
        self.extend(pairs);
    }

    fn look_up(&self, key: &str) -> Option<&Arc<V>> {
        self.get(key)
    }
}

impl<V: Value> Map<V> for Im<V> {
    fn set_all(&mut self, pairs: Vec<Pair<V>>) {
        self.extend(pairs);
    }

    fn look_up(&self, key: &str) -> Option<&Arc<V>> {
        self.get(key)
    }
}

/// Where threads meet on a map.
pub trait Cell<V, M>: Send + Sync + 'static {
    const NAME: &'static str;
    type Snapshot: Borrow<M>;

    fn new(map: M) -> Self;
    fn commit(&self, pairs: Vec<Pair<V>>);
    fn read<R>(&self, look: impl FnOnce(&M) -> R) -> R;
    fn snapshot(&self) -> Self::Snapshot;
}

impl<V: Value> Cell<V, Im<V>> for Mutex<Im<V>> {
    const NAME: &'static str = "Mutex<im>";
    type Snapshot = Im<V>;

    fn new(map: Im<V>) -> Self {
        Self::new(map)
    }

    fn commit(&self, pairs: Vec<Pair<V>>) {
        self.lock().set_all(pairs);
    }

    fn read<R>(&self, look: impl FnOnce(&Im<V>) -> R) -> R {
        look(&self.lock())
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.lock().clone()
    }
}

/// What an `RwLock` does with either map.
macro_rules! read_write_lock {
    ($map:ident, $name:literal) => {
        impl<V: Value> Cell<V, $map<V>> for RwLock<$map<V>> {
            const NAME: &'static str = $name;
            type Snapshot = $map<V>;

            fn new(map: $map<V>) -> Self {
                Self::new(map)
            }

            fn commit(&self, pairs: Vec<Pair<V>>) {
                self.write().set_all(pairs);
            }

            fn read<R>(&self, look: impl FnOnce(&$map<V>) -> R) -> R {
                look(&self.read())
            }

            fn snapshot(&self) -> Self::Snapshot {
                self.read().clone()
            }
        }
    };
}

read_write_lock!(Std, "RwLock<HashMap>");
read_write_lock!(Im, "RwLock<im>");

impl<V: Value> Cell<V, Im<V>> for ArcSwap<Im<V>> {
    const NAME: &'static str = "ArcSwap<im>";
    type Snapshot = Arc<Im<V>>;

    fn new(map: Im<V>) -> Self {
        Self::from_pointee(map)
    }

    fn commit(&self, pairs: Vec<Pair<V>>) {
        self.rcu(|map| {
            let mut map = Im::clone(map);
            map.set_all(pairs.clone());
            map
        });
    }

    fn read<R>(&self, look: impl FnOnce(&Im<V>) -> R) -> R {
        look(&self.load())
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.load_full()
    }
}

impl<V: Value> Cell<V, Std<V>> for watch::Sender<Arc<Std<V>>> {
    const NAME: &'static str = "watch<Arc<HashMap>>";
    type Snapshot = Arc<Std<V>>;

    fn new(map: Std<V>) -> Self {
        Self::new(Arc::new(map))
    }

    fn commit(&self, pairs: Vec<Pair<V>>) {
        self.send_modify(|map| Arc::make_mut(map).set_all(pairs));
    }

    fn read<R>(&self, look: impl FnOnce(&Std<V>) -> R) -> R {
        look(&self.borrow())
    }

    fn snapshot(&self) -> Self::Snapshot {
        Arc::clone(&self.borrow())
    }
}

pub struct InCell<V, M, C>(Arc<C>, PhantomData<fn() -> (V, M)>);

impl<V, M, C> Clone for InCell<V, M, C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<V: Value, M: Map<V>, C: Cell<V, M>> Store<V> for InCell<V, M, C> {
    const NAME: &'static str = C::NAME;
    type Change = Vec<Pair<V>>;

    fn with(content: Vec<Pair<V>>) -> Self {
        Self(Arc::new(C::new(content.into_iter().collect())), PhantomData)
    }

    fn one_key(pair: Pair<V>) -> Self::Change {
        vec![pair]
    }

    fn commit(&self, change: Self::Change) {
        self.0.commit(change);
    }

    fn get(&self, key: &str) -> Option<Arc<V>> {
        self.0.read(|map| map.look_up(key).cloned())
    }
}

impl<V: Value, M: Map<V>, C: Cell<V, M>> MultiKey<V> for InCell<V, M, C> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change {
        pairs
    }

    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>) {
        self.0.read(|map| found.extend(keys.iter().filter_map(|key| map.look_up(key)).cloned()));
    }
}

impl<V: Value, M: Map<V>, C: Cell<V, M>> Snapshots<V> for InCell<V, M, C> {
    type Snapshot<'s> = C::Snapshot;

    fn snapshot(&self) -> Self::Snapshot<'_> {
        self.0.snapshot()
    }

    fn look_up<'s>(snapshot: &'s Self::Snapshot<'_>, key: &str) -> Option<&'s Arc<V>> {
        snapshot.borrow().look_up(key)
    }
}
