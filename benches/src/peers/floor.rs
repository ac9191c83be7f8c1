//! The floor: what the tree and the pointer under this crate cost by themselves, without locks, feeds or a second writer.
//! Two who write would lose changes.

use super::{MultiKey, Snapshots, Store};
use crate::{Key, Pair, Value};
use arc_swap::ArcSwap;
use std::sync::Arc;

pub struct Floor<V>(Arc<ArcSwap<Root<V>>>);

/// A value and a revision. Ours have one revision more, which this does without.
type Content<V> = im::HashMap<Key, (Arc<V>, u64)>;

pub struct Root<V> {
    revision: u64,
    content: Content<V>,
}

impl<V> Clone for Floor<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Value> Store<V> for Floor<V> {
    const NAME: &'static str = "floor";
    type Change = Vec<Pair<V>>;

    fn with(content: Vec<Pair<V>>) -> Self {
        let content = content.into_iter().map(|(key, value)| (key, (value, 1))).collect();
        Self(Arc::new(ArcSwap::from_pointee(Root { revision: 1, content })))
    }

    fn one_key(pair: Pair<V>) -> Self::Change {
        vec![pair]
    }

    /// Copies a path, allocates a root, swaps it in, drops the old one.
    fn commit(&self, change: Self::Change) {
        let current = self.0.load();
        let revision = current.revision + 1;
        let mut content = current.content.clone();
        drop(current);
        for (key, value) in change {
            content.insert(key, (value, revision));
        }
        drop(self.0.swap(Arc::new(Root { revision, content })));
    }

    fn get(&self, key: &str) -> Option<Arc<V>> {
        self.0.load().content.get(key).map(|(value, _)| Arc::clone(value))
    }
}

impl<V: Value> MultiKey<V> for Floor<V> {
    fn many_keys(pairs: Vec<Pair<V>>) -> Self::Change {
        pairs
    }

    fn get_all(&self, keys: &[Key], found: &mut Vec<Arc<V>>) {
        let root = self.0.load();
        found.extend(keys.iter().filter_map(|key| root.content.get(key)).map(|(value, _)| Arc::clone(value)));
    }
}

impl<V: Value> Snapshots<V> for Floor<V> {
    type Snapshot<'s> = Arc<Root<V>>;

    fn snapshot(&self) -> Self::Snapshot<'_> {
        self.0.load_full()
    }

    fn look_up<'s>(snapshot: &'s Self::Snapshot<'_>, key: &str) -> Option<&'s Arc<V>> {
        snapshot.content.get(key).map(|(value, _)| value)
    }
}
