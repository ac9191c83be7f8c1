//! The hash of a content, kept up with every commit.

use crate::content::{Content, Root, Touched, Versioned};
use crate::key::Hashed;
use crate::revision::Revision;

/// The hash of a content: the sum over its entries, so that it can be kept up entry by entry.
pub(crate) fn sum_of_hashes<K: Clone + Eq, V>(content: &Content<K, V>, hash: Option<fn(&K, &V) -> u64>) -> u64 {
    let Some(hash) = hash else { return 0 };
    let of = |(key, entry): (&Hashed<K>, &Versioned<V>)| mixed(hash(&key.key, entry.value()), entry.revision());
    content.iter().map(of).fold(0, u64::wrapping_add)
}

/// The hash of an entry and its revision, mixed so that sums of such do not collide more often than chance: the last
/// steps of `MurmurHash3`, <https://github.com/aappleby/smhasher>.
fn mixed(hash: u64, Revision(revision): Revision) -> u64 {
    let mut mixed = hash ^ revision.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 33)
}

impl<K: Clone + Eq, V, S> Root<K, V, S> {
    pub(super) fn subtract_hash(&mut self, key: &K, entry: &Versioned<V>) {
        if let Some(hash) = self.shared.entry_hash {
            self.content_hash = self.content_hash.wrapping_sub(mixed(hash(key, entry.value()), entry.revision()));
        }
    }

    /// The hash of this root's content, if it differs from that of `base`, of which `hash` is the hash, by these keys.
    #[cold]
    pub(super) fn hash_after(&self, base: &Self, touched: &[Touched<K>], hash: fn(&K, &V) -> u64) -> u64 {
        let of = |root: &Self, key: &Hashed<K>| {
            root.content.get(key).map_or(0, |entry| mixed(hash(&key.key, entry.value()), entry.revision()))
        };
        let changed =
            |sum: u64, Touched { key, .. }: &Touched<K>| sum.wrapping_sub(of(base, key)).wrapping_add(of(self, key));
        touched.iter().fold(base.content_hash, changed)
    }
}
