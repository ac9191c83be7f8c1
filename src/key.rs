//! Keys with their hashes: every key is hashed once per operation, and growing tables and maps run no hasher of the
//! user's. Used by content and locks alike.

use equivalent::Equivalent;
use std::borrow::Borrow;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A key and its hash.
#[derive(Clone, Debug)]
pub(crate) struct Hashed<K> {
    pub(crate) hash: u64,
    pub(crate) key: K,
}

impl<K: PartialEq> PartialEq for Hashed<K> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl<K: Eq> Eq for Hashed<K> {}

impl<K> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A key to look up: borrowed, perhaps in another form.
#[derive(Debug)]
pub(crate) struct Lookup<'a, Q: ?Sized> {
    pub(crate) hash: u64,
    pub(crate) key: &'a Q,
}

impl<Q: ?Sized> Hash for Lookup<'_, Q> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: Borrow<Q>, Q: Eq + ?Sized> Equivalent<Hashed<K>> for Lookup<'_, Q> {
    fn equivalent(&self, other: &Hashed<K>) -> bool {
        self.hash == other.hash && self.key == other.key.borrow()
    }
}

/// The hasher of hashes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PassThrough(u64);

pub(crate) type BuildPassThrough = BuildHasherDefault<PassThrough>;

impl Hasher for PassThrough {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        unreachable!("not a hash: {bytes:?}");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
