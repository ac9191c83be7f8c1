//! The work: keys, values and changes.

use fastrand::Rng;
use std::sync::Arc;

pub type Key = Arc<str>;

/// A key and what it is set to.
pub type Pair<V> = (Key, Arc<V>);

/// What is stored under a key, in an `Arc`, in every store.
pub trait Value: Send + Sync + 'static {
    const NAME: &'static str;

    /// A value that remembers a number.
    fn new(number: u64) -> Self;

    fn number(&self) -> u64;
}

pub type Small = u64;

/// About an avatar's size.
pub type Large = [u64; 50];

impl Value for Small {
    const NAME: &'static str = "small";

    fn new(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl Value for Large {
    const NAME: &'static str = "400_bytes";

    fn new(number: u64) -> Self {
        [number; 50]
    }

    fn number(&self) -> u64 {
        self[0]
    }
}

/// The keys of a store, for ever, each as often as every other, in an order that caches cannot guess.
#[derive(Clone)]
pub struct Keys {
    all: Arc<[Key]>,
    next: usize,
    written: u64,
}

impl Keys {
    pub fn new(count: usize) -> Self {
        let mut keys: Vec<Key> = (0..count).map(|number| format!("avatar.{number:06}").into()).collect();
        Rng::with_seed(1).shuffle(&mut keys);
        Self { all: keys.into(), next: 0, written: 0 }
    }

    /// The same keys in the same order, for another thread that begins elsewhere.
    #[must_use]
    pub fn of_thread(&self, thread: usize) -> Self {
        let next = Rng::with_seed(thread as u64).usize(..self.all.len());
        Self { all: Arc::clone(&self.all), next, written: 0 }
    }

    pub fn all(&self) -> &[Key] {
        &self.all
    }

    /// The next keys, all different.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn next_keys(&mut self, count: usize) -> &[Key] {
        let start = if self.next + count > self.all.len() { 0 } else { self.next };
        self.next = start + count;
        &self.all[start..self.next]
    }

    pub fn next_key(&mut self) -> &Key {
        &self.next_keys(1)[0]
    }

    /// The next key with a new value.
    pub fn next_pair<V: Value>(&mut self) -> Pair<V> {
        self.written += 1;
        let value = Arc::new(V::new(self.written));
        (Arc::clone(self.next_key()), value)
    }

    /// The next keys with new values, all different.
    pub fn next_pairs<V: Value>(&mut self, count: usize) -> Vec<Pair<V>> {
        self.written += 1;
        let number = self.written;
        self.next_keys(count).iter().map(|key| (Arc::clone(key), Arc::new(V::new(number)))).collect()
    }

    /// Each key with a value, in an order that has nothing to do with that of the keys.
    pub fn content<V: Value>(&self) -> Vec<Pair<V>> {
        let mut keys = self.all.to_vec();
        keys.sort_unstable();
        keys.into_iter().map(|key| (key, Arc::new(V::new(0)))).collect()
    }
}
