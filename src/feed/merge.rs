//! Merging everything between a buffer's cursor and a root into one delivery.

use super::Tombstones;
use crate::content::{Content, Entry, Revision, Root};
use crate::key::{BuildPassThrough, Hashed};
use std::collections::HashMap;

type Merged<K, V> = (Vec<(K, Entry<V>)>, Vec<K>);

/// The whole content, for a buffer that has delivered nothing yet. With tombstones, also every key that was removed
/// after `made`, the revision at which the buffer was made.
pub(super) fn everything<K, V, S>(root: &Root<K, V, S>, made: Revision, tombstones: Tombstones) -> Merged<K, V>
where
    K: Clone + Eq,
{
    let updates = root.content.iter().map(owned).collect();
    let removals = match tombstones {
        Tombstones::Always => from_trail(root, made, tombstones).map_or_else(Vec::new, |(_, removals)| removals),
        Tombstones::Delivered => Vec::new(),
    };
    (updates, removals)
}

/// What changed after `cursor`, when `seen` was the content: from the trail if it reaches back so far, in the time of
/// what was touched; otherwise by comparing, in the time of both contents.
pub(super) fn since<K, V, S>(
    root: &Root<K, V, S>,
    cursor: Revision,
    seen: &Content<K, V>,
    tombstones: Tombstones,
) -> Merged<K, V>
where
    K: Clone + Eq,
{
    from_trail(root, cursor, tombstones).unwrap_or_else(|| by_comparing(root, seen))
}

fn from_trail<K, V, S>(root: &Root<K, V, S>, cursor: Revision, tombstones: Tombstones) -> Option<Merged<K, V>>
where
    K: Clone + Eq,
{
    let records = root.trail.after(cursor)?;
    let mut updates = Vec::new();
    let mut absent = HashMap::with_hasher(BuildPassThrough::default());
    for record in records {
        for touched in &record.touched {
            match root.content.get(&touched.key) {
                // Of the commits that touched it, the one that set its value mentions the key.
                Some(entry) if entry.revision() == record.revision => {
                    updates.push((touched.key.key.clone(), entry.clone()));
                }
                Some(_) => {}
                // Newest first, so that the oldest commit after the cursor has the last word.
                None => drop(absent.insert(&touched.key, touched.existed)),
            }
        }
    }
    let mentioned = |existed: &bool| *existed || tombstones == Tombstones::Always;
    let removals = absent.into_iter().filter(|(_, existed)| mentioned(existed)).map(|(key, _)| key.key.clone());
    Some((updates, removals.collect()))
}

fn by_comparing<K, V, S>(root: &Root<K, V, S>, seen: &Content<K, V>) -> Merged<K, V>
where
    K: Clone + Eq,
{
    let changed = |(key, entry): &(&Hashed<K>, &Entry<V>)| {
        seen.get(*key).map(Entry::revision) != Some(entry.revision())
    };
    let updates = root.content.iter().filter(changed).map(owned).collect();
    let removals = seen.keys().filter(|key| !root.content.contains_key(*key)).map(|key| key.key.clone()).collect();
    (updates, removals)
}

fn owned<K: Clone, V>((key, entry): (&Hashed<K>, &Entry<V>)) -> (K, Entry<V>) {
    (key.key.clone(), entry.clone())
}
