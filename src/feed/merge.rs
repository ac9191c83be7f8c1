//! Merging everything between a buffer's cursor and a root into one delivery.

use super::Tombstones;
use crate::content::{Content, Entry, Revision, Root};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

type Merged<K, V> = (Vec<(K, Entry<V>)>, Vec<K>);

/// The whole content, for a buffer that has delivered nothing yet. With tombstones, also every key that was removed
/// after `made`, the revision at which the buffer was made.
pub(super) fn everything<K, V, S>(root: &Root<K, V, S>, made: Revision, tombstones: Tombstones) -> Merged<K, V>
where
    K: Clone + Eq + Hash,
    S: BuildHasher + Clone,
{
    let updates = root.content.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
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
    seen: &Content<K, V, S>,
    tombstones: Tombstones,
) -> Merged<K, V>
where
    K: Clone + Eq + Hash,
    S: BuildHasher + Clone,
{
    from_trail(root, cursor, tombstones).unwrap_or_else(|| by_comparing(root, seen))
}

fn from_trail<K, V, S>(root: &Root<K, V, S>, cursor: Revision, tombstones: Tombstones) -> Option<Merged<K, V>>
where
    K: Clone + Eq + Hash,
    S: BuildHasher + Clone,
{
    let records = root.trail.after(cursor)?;
    let mut existed_at_cursor = HashMap::with_hasher(root.content.hasher().clone());
    for record in records {
        for touched in record.touched.iter().rev() {
            // Newest first, so that the oldest operation after the cursor has the last word.
            existed_at_cursor.insert(&touched.key, touched.existed);
        }
    }
    let (mut updates, mut removals) = (Vec::new(), Vec::new());
    for (key, existed) in existed_at_cursor {
        match root.content.get(key) {
            Some(entry) => updates.push((key.clone(), entry.clone())),
            None if existed || tombstones == Tombstones::Always => removals.push(key.clone()),
            None => {}
        }
    }
    Some((updates, removals))
}

fn by_comparing<K, V, S>(root: &Root<K, V, S>, seen: &Content<K, V, S>) -> Merged<K, V>
where
    K: Clone + Eq + Hash,
    S: BuildHasher + Clone,
{
    let changed = |(key, entry): &(&K, &Entry<V>)| seen.get(*key).map(Entry::revision) != Some(entry.revision());
    let updates = root.content.iter().filter(changed).map(|(key, entry)| (key.clone(), entry.clone())).collect();
    let removals = seen.keys().filter(|key| !root.content.contains_key(*key)).cloned().collect();
    (updates, removals)
}
