//! Which keys the latest commits touched, so that a buffer need not compare whole snapshots; the commits themselves, if
//! they are kept; and which locks were granted or ended.
//!
//! A history belongs to a root and is as immutable: a list, newest record first, that shares its tail with the
//! histories of older roots. Two generations bound it in keys. When the newer generation has no room for a record it
//! becomes the older one, and the previous older one is dropped.
//!
//! There are three separate histories, since snapshots and deliveries share the first alone: a record of touched keys
//! keeps clones of keys alive, at most twice the limit, while the other two also keep values and tokens alive.

use crate::change::Change;
use crate::event::Origin;
use crate::key::Hashed;
use smallvec::SmallVec;
use std::sync::Arc;

/// The keys that a commit touched, each once, in no particular order. Most commits of one key need no second allocation.
pub(crate) type Keys<K> = SmallVec<[Touched<K>; 1]>;

pub(crate) struct Touched<K> {
    pub(crate) key: Hashed<K>,
    /// Whether the key had a value before this commit.
    pub(crate) existed: bool,
    /// Whether this commit removed it.
    pub(crate) removed: bool,
}

/// A commit as it was made, if the dictionary keeps commits.
pub(crate) struct Logged<K, V> {
    pub(crate) origin: Origin,
    pub(crate) change: Change<K, V>,
}

impl<K: Clone, V> Logged<K, V> {
    /// Without conditions, which have been checked.
    pub(crate) fn new(origin: Origin, change: &Change<K, V>) -> Self {
        Self { origin, change: change.unconditional() }
    }
}

/// One record of a history of `R`s.
pub(crate) struct Record<R> {
    /// A revision in a history of commits, a version in one of locks.
    pub(crate) at: u64,
    pub(crate) what: R,
    older: Option<Arc<Record<R>>>,
}

impl<R> Drop for Record<R> {
    /// Iterative, so that a long list cannot overflow the stack. `into_inner` and not `try_unwrap`: of two threads that
    /// drop the last two references at once, exactly one gets the record.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut record) = next.and_then(Arc::into_inner) {
            next = record.older.take();
        }
    }
}

struct Generation<R> {
    newest: Option<Arc<Record<R>>>,
    keys: usize,
    /// The generation has every record after this one, up to the start of the next generation.
    floor: u64,
}

impl<R> Clone for Generation<R> {
    fn clone(&self) -> Self {
        Self { newest: self.newest.clone(), keys: self.keys, floor: self.floor }
    }
}

impl<R> Generation<R> {
    const fn empty(floor: u64) -> Self {
        Self { newest: None, keys: 0, floor }
    }
}

pub(crate) struct History<R> {
    newer: Generation<R>,
    older: Generation<R>,
}

impl<R> Clone for History<R> {
    fn clone(&self) -> Self {
        Self { newer: self.newer.clone(), older: self.older.clone() }
    }
}

impl<R> History<R> {
    /// A history without records, up to and including `floor`.
    pub(crate) const fn starting_after(floor: u64) -> Self {
        Self { newer: Generation::empty(floor), older: Generation::empty(floor) }
    }

    /// The history after one more record, of `keys` keys. It keeps at least the records whose keys sum up to `limit`,
    /// and at most twice that. A record larger than the limit is not kept, nor is any before it.
    pub(crate) fn with(&self, at: u64, what: R, keys: usize, limit: usize) -> Self {
        if keys > limit {
            return Self::starting_after(at);
        }
        let mut next = self.clone();
        if next.newer.keys + keys > limit {
            let floor = next.newer.newest.as_ref().map_or(next.newer.floor, |record| record.at);
            next.older = std::mem::replace(&mut next.newer, Generation::empty(floor));
        }
        next.newer.keys += keys;
        next.newer.newest = Some(Arc::new(Record { at, what, older: next.newer.newest.take() }));
        next
    }

    /// The records after `cursor`, newest first, or `None` if the history does not reach back to it.
    pub(crate) fn after(&self, cursor: u64) -> Option<Records<'_, R>> {
        let (next, older) = (self.newer.newest.as_deref(), self.older.newest.as_deref());
        (cursor >= self.older.floor).then_some(Records { next, older, cursor })
    }

    /// The history has every record after this.
    pub(crate) const fn floor(&self) -> u64 {
        self.older.floor
    }
}

/// The records after some point, newest first.
pub(crate) struct Records<'a, R> {
    next: Option<&'a Record<R>>,
    /// Where to continue at the end of `next`.
    older: Option<&'a Record<R>>,
    cursor: u64,
}

impl<'a, R> Iterator for Records<'a, R> {
    type Item = &'a Record<R>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.next.or_else(|| self.older.take()).filter(|record| record.at > self.cursor)?;
        self.next = record.older.as_deref();
        Some(record)
    }
}

impl<R> Clone for Records<'_, R> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(history: &History<()>, cursor: u64) -> Option<Vec<u64>> {
        Some(history.after(cursor)?.map(|record| record.at).collect())
    }

    fn commits(limit: usize, sizes: &[usize]) -> History<()> {
        let mut history = History::starting_after(0);
        for (&size, revision) in sizes.iter().zip(1..) {
            history = history.with(revision, (), size, limit);
        }
        history
    }

    #[test]
    fn reaches_back_as_far_as_two_generations() {
        let history = commits(2, &[1, 1, 1, 1]);
        assert_eq!(keys(&history, 0), Some(vec![4, 3, 2, 1]));
        let history = commits(2, &[1, 1, 1, 1, 1]);
        assert_eq!(keys(&history, 1), None);
        assert_eq!(keys(&history, 2), Some(vec![5, 4, 3]));
        assert_eq!(keys(&history, 5), Some(vec![]));
    }

    #[test]
    fn a_commit_larger_than_the_limit_raises_the_floor() {
        let history = commits(2, &[1, 3]);
        assert_eq!(keys(&history, 1), None);
        assert_eq!(keys(&history, 2), Some(vec![]));
        assert_eq!(keys(&commits(2, &[1, 3, 1]), 2), Some(vec![3]));
    }

    #[test]
    fn a_limit_of_zero_keeps_nothing() {
        let history = commits(0, &[1, 1]);
        assert_eq!(keys(&history, 1), None);
        assert_eq!(keys(&history, 2), Some(vec![]));
    }

    #[test]
    fn a_long_history_is_dropped_without_recursion() {
        drop(commits(usize::MAX, &vec![1; 1_000_000]));
    }
}
