//! What all benchmarks share: a dictionary like a session's, and keys in an order that caches cannot guess.

// Each benchmark is a program of its own and uses its part.
#![allow(dead_code)]

use state_dictionary::{Builder, Change, StateDictionary};
use std::sync::Arc;

pub(crate) type Key = Arc<str>;

/// About what a user of a session writes under one key.
pub(crate) type Value = [u8; 200];

pub(crate) type Token = u32;

pub(crate) type Dictionary = StateDictionary<Key, Value, Token>;

/// The writer.
pub(crate) const ALICE: Token = 1;

/// How many keys the dictionary has: a session, and a large application.
pub(crate) const SIZES: [usize; 2] = [100, 10_000];

/// How many inputs are prepared at once: enough that reading the clock does not count, few enough to stay in the cache.
pub(crate) const BATCH: criterion::BatchSize = criterion::BatchSize::NumIterations(100);

/// The keys of a dictionary, for ever, each as often as every other.
pub(crate) struct Keys {
    keys: Vec<Key>,
    next: usize,
}

impl Keys {
    pub(crate) fn new(count: usize) -> Self {
        Self { keys: (0..count).map(|number| format!("avatar.{number:05}").into()).collect(), next: 0 }
    }

    /// The next key. Any `SIZES[0]` in a row are different, and never neighbours in memory.
    pub(crate) fn next(&mut self) -> &Key {
        // A prime that divides none of the sizes.
        self.next = (self.next + 7919) % self.keys.len();
        &self.keys[self.next]
    }

    /// A change that sets the next `count` keys.
    pub(crate) fn change(&mut self, count: usize) -> Change<Key, Value> {
        (0..count).map(|_| (Arc::clone(self.next()), [0; 200])).collect()
    }

    /// A dictionary in which each key has a value, with the default settings.
    pub(crate) fn dictionary(&self) -> Dictionary {
        self.builder().build()
    }

    /// The settings of that dictionary, to be changed.
    pub(crate) fn builder(&self) -> Builder<Key, Value, Token> {
        StateDictionary::builder().content(self.keys.iter().map(|key| (Arc::clone(key), [0; 200])))
    }
}
