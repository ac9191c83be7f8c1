//! Which keys the latest commits touched, so that a buffer need not compare whole snapshots.
//!
//! The trail hangs on the root and is as immutable as the rest of it: a list, newest commit first, that shares its tail
//! with the trails of older roots. It is bounded in keys by two generations. When the newer one has no room for a commit
//! it becomes the older one, and what was the older one is forgotten.

use super::Revision;
use crate::key::Hashed;
use smallvec::SmallVec;
use std::sync::Arc;

/// What one commit touched: each key once, in no particular order. Most commits of one key need no second allocation.
pub(crate) type Keys<K> = SmallVec<[Touched<K>; 1]>;

/// What one commit touched.
#[derive(Debug)]
pub(crate) struct Record<K> {
    pub(crate) revision: Revision,
    pub(crate) touched: Keys<K>,
    older: Option<Arc<Record<K>>>,
}

#[derive(Debug)]
pub(crate) struct Touched<K> {
    pub(crate) key: Hashed<K>,
    /// Whether the key had a value before this commit.
    pub(crate) existed: bool,
    /// Whether this commit removed it.
    pub(crate) removed: bool,
}

impl<K> Drop for Record<K> {
    /// Without recursion, however long the list. `into_inner` and not `try_unwrap`: of two threads that drop the last
    /// two references at once, exactly one gets the record.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut record) = next.and_then(Arc::into_inner) {
            next = record.older.take();
        }
    }
}

#[derive(Debug)]
struct Generation<K> {
    newest: Option<Arc<Record<K>>>,
    keys: usize,
    /// The generation holds every commit after this one, up to where the next generation begins.
    floor: Revision,
}

impl<K> Clone for Generation<K> {
    fn clone(&self) -> Self {
        Self { newest: self.newest.clone(), keys: self.keys, floor: self.floor }
    }
}

impl<K> Generation<K> {
    const fn empty(floor: Revision) -> Self {
        Self { newest: None, keys: 0, floor }
    }
}

#[derive(Debug)]
pub(crate) struct Trail<K> {
    newer: Generation<K>,
    older: Generation<K>,
}

impl<K> Clone for Trail<K> {
    fn clone(&self) -> Self {
        Self { newer: self.newer.clone(), older: self.older.clone() }
    }
}

impl<K> Trail<K> {
    /// A trail that knows of no commit up to and including `floor`.
    pub(crate) const fn starting_after(floor: Revision) -> Self {
        Self { newer: Generation::empty(floor), older: Generation::empty(floor) }
    }

    /// The trail after one more commit. Keeps at least the commits whose keys sum up to `limit`, and at most twice that.
    /// A commit larger than the limit is not kept, and nothing before it then is.
    pub(crate) fn with(&self, revision: Revision, touched: Keys<K>, limit: usize) -> Self {
        if touched.len() > limit {
            return Self::starting_after(revision);
        }
        let mut next = self.clone();
        if next.newer.keys + touched.len() > limit {
            let floor = next.newer.newest.as_ref().map_or(next.newer.floor, |record| record.revision);
            next.older = std::mem::replace(&mut next.newer, Generation::empty(floor));
        }
        next.newer.keys += touched.len();
        next.newer.newest = Some(Arc::new(Record { revision, touched, older: next.newer.newest.take() }));
        next
    }

    /// The commits after `cursor`, newest first, or `None` if the trail does not reach back that far.
    pub(crate) fn after(&self, cursor: Revision) -> Option<Records<'_, K>> {
        let (next, older) = (self.newer.newest.as_deref(), self.older.newest.as_deref());
        (cursor >= self.older.floor).then_some(Records { next, older, cursor })
    }
}

/// Commits after a revision, newest first.
pub(crate) struct Records<'a, K> {
    next: Option<&'a Record<K>>,
    /// Where to go on when `next` has come to its end.
    older: Option<&'a Record<K>>,
    cursor: Revision,
}

impl<'a, K> Iterator for Records<'a, K> {
    type Item = &'a Record<K>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.next.or_else(|| self.older.take()).filter(|record| record.revision > self.cursor)?;
        self.next = record.older.as_deref();
        Some(record)
    }
}

impl<K> Clone for Records<'_, K> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(trail: &Trail<u64>, cursor: u64) -> Option<Vec<u64>> {
        Some(trail.after(Revision(cursor))?.map(|record| record.revision.0).collect())
    }

    fn commits(limit: usize, sizes: &[usize]) -> Trail<u64> {
        let mut trail = Trail::starting_after(Revision::ZERO);
        for (&size, revision) in sizes.iter().zip(1..) {
            let touched = (0..size)
                .map(|_| Touched { key: Hashed { hash: 0, key: revision }, existed: false, removed: false })
                .collect();
            trail = trail.with(Revision(revision), touched, limit);
        }
        trail
    }

    #[test]
    fn reaches_back_as_far_as_two_generations() {
        let trail = commits(2, &[1, 1, 1, 1]);
        assert_eq!(keys(&trail, 0), Some(vec![4, 3, 2, 1]));
        let trail = commits(2, &[1, 1, 1, 1, 1]);
        assert_eq!(keys(&trail, 1), None);
        assert_eq!(keys(&trail, 2), Some(vec![5, 4, 3]));
        assert_eq!(keys(&trail, 5), Some(vec![]));
    }

    #[test]
    fn a_commit_larger_than_the_limit_raises_the_floor() {
        let trail = commits(2, &[1, 3]);
        assert_eq!(keys(&trail, 1), None);
        assert_eq!(keys(&trail, 2), Some(vec![]));
        assert_eq!(keys(&commits(2, &[1, 3, 1]), 2), Some(vec![3]));
    }

    #[test]
    fn a_limit_of_zero_keeps_nothing() {
        let trail = commits(0, &[1, 1]);
        assert_eq!(keys(&trail, 1), None);
        assert_eq!(keys(&trail, 2), Some(vec![]));
    }

    #[test]
    fn a_long_trail_is_dropped_without_recursion() {
        drop(commits(usize::MAX, &vec![1; 1_000_000]));
    }
}
