//! One writer: what it commits, and its own record of that.

use crate::{Content, Dictionary, Key, Value};
use state_dictionary::{Change, LockError, LockRequest, Refusal, Revision, UpdateError};
use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

/// What a writer knows to be true of the keys it wrote: the revision of its last commit to each, and what it set, or
/// `None` if it removed the key. The latest of what all writers know is what the content must be.
pub(crate) type Ledger = HashMap<Key, (Revision, Option<Arc<Value>>)>;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) committed: u64,
    pub(crate) changes_refused: u64,
    pub(crate) locks_refused: u64,
    pub(crate) locks_granted: u64,
    pub(crate) retries: u64,
    pub(crate) joined: u64,
    pub(crate) left: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.committed += other.committed;
        self.changes_refused += other.changes_refused;
        self.locks_refused += other.locks_refused;
        self.locks_granted += other.locks_granted;
        self.retries += other.retries;
        self.joined += other.joined;
        self.left += other.left;
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// Others hold locks on it.
    Refused,
    /// The dictionary is frozen: the session is over.
    Over,
}

#[derive(Debug)]
pub(crate) struct Writer<'a> {
    dictionary: &'a Dictionary,
    pub(crate) tally: Tally,
    pub(crate) ledger: Ledger,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(dictionary: &'a Dictionary) -> Self {
        Self { dictionary, tally: Tally::default(), ledger: Ledger::new() }
    }

    /// Commits a change.
    ///
    /// `update_state` would do, and is what one would use, but it does not tell how often it had to try.
    pub(crate) fn commit(&mut self, token: &Key, change: &Change<Key, Value>) -> Answer {
        self.commit_with(token, |_| change.clone())
    }

    pub(crate) fn commit_with(
        &mut self,
        token: &Key,
        mut modify: impl FnMut(&Content) -> Change<Key, Value>,
    ) -> Answer {
        let mut runs = 0;
        let mut change = Change::new();
        let result = self.dictionary.update_state_with(token, |content| {
            runs += 1;
            change = modify(content);
            change.clone()
        });
        self.tally.retries += u64::saturating_sub(runs, 1);
        match result {
            Ok(revision) => {
                self.tally.committed += u64::from(!change.is_empty());
                for (key, value) in change.operations() {
                    self.ledger.insert(Arc::clone(key), (revision, value.cloned()));
                }
                Answer::Done
            }
            Err(UpdateError { reason: Refusal::Locked { .. }, .. }) => {
                self.tally.changes_refused += 1;
                Answer::Refused
            }
            Err(UpdateError { reason: Refusal::Frozen, .. }) => Answer::Over,
            Err(other) => unreachable!("no writer asks for anything that could end so: {other}"),
        }
    }

    /// Takes locks, renews them or gives them back.
    pub(crate) fn update_locks(&mut self, token: &Key, request: LockRequest<Key>) -> Answer {
        match self.dictionary.update_locks(token, request) {
            Ok(receipt) => {
                self.tally.locks_granted += receipt.granted.len() as u64;
                Answer::Done
            }
            Err(LockError::Locked { .. }) => {
                self.tally.locks_refused += 1;
                Answer::Refused
            }
            Err(LockError::Frozen { .. }) => Answer::Over,
            Err(other) => unreachable!("no writer asks for anything that could end so: {other}"),
        }
    }

    pub(crate) fn release_all(&self, token: &Key) {
        self.dictionary.release_all(token);
    }

    /// Drops a removed key, which no user will write any more, from the record.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.ledger.remove(key);
    }
}
