//! What one thread does, and what it sees.

use crate::{Buffer, Dictionary, Given, KEYS, Record, Seen, THREADS, content, delivered};
use state_dictionary::{Change, Condition, LockRequest, ManualClock, Refusal, Revision, TryFlushError, UpdateError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Answer = Result<Revision, UpdateError<u8, u64, usize>>;

pub(crate) struct Client<'a> {
    pub(crate) token: usize,
    pub(crate) dictionary: &'a Dictionary,
    /// All threads use the last; each of the others is one thread's.
    pub(crate) buffers: &'a [Buffer],
    pub(crate) clock: &'a ManualClock,
    pub(crate) time: &'a AtomicU64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) last: Option<(u8, u64)>,
    pub(crate) records: Vec<Record>,
}

impl Client<'_> {
    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::Relaxed)
    }

    fn record(&mut self, operation: impl FnOnce(&mut Self) -> Seen) {
        let began = self.now();
        let seen = operation(self);
        let ended = self.now();
        self.records.push(Record { began, ended, seen });
    }

    fn key(&mut self) -> u8 {
        // Some keys are more wanted than others.
        self.rng.u8(..KEYS).min(self.rng.u8(..KEYS))
    }

    pub(crate) fn operate(&mut self) {
        match self.rng.u8(..100) {
            0..40 => {
                self.record(|client| client.update(Dictionary::update_state));
            }
            40..50 => self.record(Self::modify),
            50..58 => self.record(|client| content(&client.dictionary.snapshot())),
            58..70 => self.record(Self::get),
            70..76 => {
                let buffer = if self.rng.bool() { self.token } else { THREADS };
                self.record(|client| match client.buffers[buffer].try_flush() {
                    Ok(delivery) => delivered(buffer, &delivery),
                    Err(TryFlushError::Empty) => Seen::NothingPending { buffer },
                    Err(error) => panic!("{error}"),
                });
            }
            76..93 => self.record(Self::locks),
            93 => self.record(|client| {
                client.dictionary.release_all(&client.token);
                Seen::ReleasedAll
            }),
            94 if self.rng.u8(..8) == 0 => self.record(|client| {
                client.dictionary.clear_locks();
                Seen::ClearedAll
            }),
            95 | 96 if self.rng.bool() => self.record(|client| {
                client.clock.advance(Duration::from_secs(1));
                Seen::Ticked
            }),
            97 => self.hold(),
            _ => {}
        }
    }

    fn change(&mut self) -> (Vec<(u8, Option<u64>)>, Option<Given>) {
        let size = self.rng.usize(1..=3);
        let change = (0..size).map(|_| (self.key(), (self.rng.u8(..3) > 0).then(|| self.rng.u64(..)))).collect();
        let given = match self.rng.u8(..8) {
            0 => Some((self.key(), Condition::Absent)),
            1 => Some((self.key(), Condition::Present)),
            2 | 3 => self.last.map(|(key, revision)| (key, Condition::At(revision.into()))),
            _ => None,
        };
        (change, given)
    }

    fn update(&mut self, commit: impl FnOnce(&Dictionary, &usize, Change<u8, u64>) -> Answer) -> Seen {
        let (operations, given) = self.change();
        let change = operations.iter().fold(Change::new(), |change, (key, value)| match value {
            Some(value) => change.set(*key, *value),
            None => change.remove(*key),
        });
        let change = match given {
            Some((key, Condition::Absent)) => change.if_absent(key),
            Some((key, Condition::Present)) => change.if_present(key),
            Some((key, Condition::At(revision))) => change.if_revision(key, revision),
            Some((_, other)) => unreachable!("no condition is {other:?}"),
            None => change,
        };
        seen(commit(self.dictionary, &self.token, change), operations, given)
    }

    fn modify(&mut self) -> Seen {
        let (from, to) = (self.key(), self.key());
        let (mut made, mut given) = (0, Condition::Absent);
        let answer = self.dictionary.update_state_with(&self.token, |content| {
            let read = content.entry(&from);
            given = read.map_or(Condition::Absent, |entry| Condition::At(entry.revision()));
            made = read.map_or(0, |entry| entry.wrapping_add(1));
            Change::new().set(to, made)
        });
        seen(answer, vec![(to, Some(made))], Some((from, given)))
    }

    fn get(&mut self) -> Seen {
        let key = self.key();
        let entry = self.dictionary.get(&key).map(|entry| (*entry, entry.revision().get()));
        self.last = entry.map(|(_, revision)| (key, revision));
        Seen::Versioned(key, entry)
    }

    fn locks(&mut self) -> Seen {
        let mut request = LockRequest::new();
        let mut acquired: Vec<(u8, bool)> = Vec::new();
        let mut released: Vec<u8> = (0..self.rng.usize(1..3)).map(|_| self.key()).collect();
        if self.rng.u8(..5) < 2 {
            let leased = self.rng.bool();
            acquired = (0..self.rng.usize(1..3)).map(|_| (self.key(), leased)).collect();
            acquired.sort_unstable();
            acquired.dedup();
            released.truncate(self.rng.usize(..2));
        }
        for (key, leased) in &acquired {
            request = request.acquire(*key, leased.then(|| Duration::from_secs(self.rng.u64(1..3))));
        }
        request = released.iter().fold(request, |request, key| request.release(*key));
        match self.dictionary.update_locks(&self.token, request) {
            Ok(receipt) => {
                let granted = receipt.granted.iter().map(|(_, token)| token.get()).collect();
                Seen::Locks { acquired, granted, released }
            }
            Err(_) => Seen::Locks { acquired: Vec::new(), granted: Vec::new(), released },
        }
    }

    /// Locks the content, and sees no other client's commit until it unlocks it.
    fn hold(&mut self) {
        let mut guard = self.dictionary.lock_content().unwrap();
        let mut revision = guard.revision().get();
        for _ in 0..self.rng.u8(..3) {
            self.record(|client| client.update(|_, token, change| guard.update_state(token, change)));
            if let Some(Record { seen: Seen::Committed { revision: next, .. }, .. }) = self.records.last() {
                assert_eq!(*next, revision + 1, "committed past the guard");
                revision += 1;
            }
            self.record(|_| content(&guard));
        }
        assert_eq!(self.dictionary.revision().get(), revision, "committed past the guard");
    }
}

fn seen(answer: Answer, change: Vec<(u8, Option<u64>)>, given: Option<Given>) -> Seen {
    match (answer, given) {
        (Ok(revision), _) => Seen::Committed { revision: revision.get(), change, given },
        (Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }), _) => {
            Seen::LockedByOthers(conflicts.iter().map(|conflict| (conflict.key, conflict.owner)).collect())
        }
        (Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. }), Some(given)) => {
            assert!(failed.len() == 1 && (failed[0].key, failed[0].expected) == given);
            Seen::ConditionFailed { given, found: failed[0].found.map(Revision::get) }
        }
        (Err(error), _) => panic!("{error}"),
    }
}
