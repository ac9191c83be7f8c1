//! The state machine: an ordinary dictionary, and what an entry of the log does to it.
//!
//! No input or output, no clock, no randomness: two replicas that read the same records have the same state and give the
//! same answers.

use crate::checkpoint::{Counts, Fresh, Live};
use crate::data::{Key, Token, Value};
use crate::error::Failure;
use crate::log::NodeId;
use crate::operation::{Nanos, Operation, Owner, SessionKey, Update, form, lock_request, split};
use crate::session::TakenOver;
use state_dictionary::{
    Builder, FencingToken, LockError, LockReceipt, LockRequest, ManualClock, ReadHandle, Revision, Session,
    SessionSummary, StateDictionary, UpdateError,
};
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// What an operation returns to whoever asked for it.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer<K, V, T> {
    Updated(Result<Revision, UpdateError<K, V, T>>),
    Locks(Result<LockReceipt<K>, LockError<K, T>>),
    Keys(Vec<K>),
    Opened {
        number: u64,
        resumed: bool,
        taken_over: TakenOver,
    },
    Ended(SessionSummary<K, T>),
    Frozen(bool),
    Done,
    /// The content is not at the revision that the change was made for.
    Outdated,
    /// The session belongs to another by now, or has ended.
    TakenOver,
}

/// Why a replica does not read on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CannotApply {
    Unknown(String),
    Diverged { operations: u64 },
}

impl From<String> for CannotApply {
    fn from(what: String) -> Self {
        Self::Unknown(what)
    }
}

/// After how many operations each replica notes its hash.
pub(crate) const HASH_EVERY: u64 = 4096;

/// How many of these hashes it remembers.
const HASHES: usize = 8;

pub(crate) struct Replica<K: Key, V: Value, T: Token> {
    pub(super) dictionary: StateDictionary<K, V, T>,
    /// The time of leases and graces. Only ticks move it.
    pub(super) clock: ManualClock,
    pub(super) sessions: BTreeMap<T, Attached<K, V, T>>,
    pub(super) counts: Counts,
    /// Leases and graces that begin with the next tick.
    pub(super) fresh: Fresh<K, T>,
    /// How long until something ends, by `clock`.
    pub(super) due: Option<Duration>,
    hashes: VecDeque<(u64, u64)>,
}

/// A session that some node has.
pub(super) struct Attached<K, V, T> {
    pub(super) session: Session<K, V, T>,
    pub(super) live: Live,
    pub(super) taken_over: TakenOver,
}

/// The hash of an entry of the content, for [`Builder::content_hash`]: the same in every process and version.
pub(super) fn entry_hash<K: Key, V: Value>(key: &K, value: &V) -> u64 {
    let mut hasher = Hasher(Xxh3::new());
    // What cannot be serialised is not in the log, so it is in no content.
    let _ = rmp_serde::encode::write(&mut hasher, &(key, value));
    hasher.0.digest()
}

pub(super) struct Hasher(pub(super) Xxh3);

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<K: Key, V: Value, T: Token> Replica<K, V, T> {
    pub(super) fn of(dictionary: StateDictionary<K, V, T>, clock: ManualClock, counts: Counts) -> Self {
        let (sessions, fresh) = (BTreeMap::new(), Fresh::default());
        Self { dictionary, clock, sessions, counts, fresh, due: None, hashes: VecDeque::new() }
    }

    pub(super) fn builder(builder: Builder<K, V, T>, clock: &ManualClock) -> Builder<K, V, T> {
        builder.lease_clock(clock).content_hash(entry_hash::<K, V>)
    }

    pub(crate) fn read_handle(&self) -> ReadHandle<K, V, T> {
        self.dictionary.read_handle()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether time has to be counted, because something ends by it.
    pub(crate) fn needs_ticks(&self) -> bool {
        self.due.is_some()
    }

    /// The latest hash that it noted, and after how many operations.
    pub(crate) fn latest_hash(&self) -> Option<(u64, u64)> {
        self.hashes.back().copied()
    }

    pub(super) fn forget_hashes(&mut self) {
        self.hashes.clear();
    }

    /// Whose session an operation opened.
    #[cfg(test)]
    pub(crate) fn token_of(&self, opened: u64) -> Option<T> {
        let found = self.sessions.iter().find(|(_, attached)| attached.live.opened == opened);
        found.map(|(token, _)| token.clone())
    }

    /// Nodes that the state knows.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.counts.seen.keys().copied().collect();
        nodes.extend(self.sessions.values().map(|attached| attached.live.node));
        nodes.sort_unstable();
        nodes.dedup();
        nodes.into_iter().map(NodeId).collect()
    }

    /// Applies one entry. Returns the answers of its operations in order; `None` if its number was seen before.
    ///
    /// # Errors
    /// The state is then that after the operations before the one that cannot be applied.
    pub(crate) fn entry(
        &mut self,
        NodeId(node): NodeId,
        number: u64,
        bytes: &[u8],
    ) -> Result<Option<Vec<Answer<K, V, T>>>, CannotApply> {
        if !self.counts.seen.entry(node).or_default().is_new(number) {
            return Ok(None);
        }
        self.counts.bytes += bytes.len() as u64;
        let whole;
        let operations = match bytes.split_first() {
            Some((&form::WHOLE, rest)) => rest,
            Some((&form::FIRST, rest)) => {
                self.counts.parts.insert(node, rest.to_vec());
                return Ok(Some(Vec::new()));
            }
            Some((&form::MIDDLE, rest)) => {
                self.counts.parts.entry(node).or_default().extend_from_slice(rest);
                return Ok(Some(Vec::new()));
            }
            Some((&form::LAST, rest)) => {
                let mut all = self.counts.parts.remove(&node).unwrap_or_default();
                all.extend_from_slice(rest);
                whole = all;
                &whole[..]
            }
            // An entry without operations is how a node uses up a number.
            None => &[],
            Some((form, _)) => return Err(CannotApply::Unknown(format!("an entry of form {form}"))),
        };
        let mut answers = Vec::new();
        for operation in split(operations) {
            let operation = rmp_serde::from_slice(operation?).map_err(|error| error.to_string())?;
            self.counts.operations += 1;
            answers.push(self.apply(node, operation)?);
            if self.counts.operations % HASH_EVERY == 0 {
                let hash = self.hash();
                self.hashes.push_back((self.counts.operations, hash));
                if self.hashes.len() > HASHES {
                    self.hashes.pop_front();
                }
            }
        }
        Ok(Some(answers))
    }

    /// The node is gone: its sessions are detached, in the order of their tokens.
    pub(crate) fn gone(&mut self, NodeId(node): NodeId) {
        let of_node = |(_, attached): &(&T, &Attached<K, V, T>)| attached.live.node == node;
        let tokens: Vec<T> = self.sessions.iter().filter(of_node).map(|(token, _)| token.clone()).collect();
        for token in tokens {
            if let Some(Attached { session, live, .. }) = self.sessions.remove(&token) {
                self.detach(token, session, live.grace);
            }
        }
        self.counts.seen.remove(&node);
        self.counts.parts.remove(&node);
    }

    fn apply(&mut self, node: u64, operation: Operation<K, V, T>) -> Result<Answer<K, V, T>, CannotApply> {
        let number = self.counts.operations;
        self.dictionary.set_next_fencing_token(FencingToken::from(number));
        Ok(match operation {
            Operation::Update(update) => self.update(update),
            Operation::Locks { owner, acquire, release } => self.update_locks(&owner, acquire, release),
            Operation::ReleaseAll(token) => Answer::Keys(self.dictionary.release_all(&token)),
            Operation::ClearLocks => Answer::Keys(self.dictionary.clear_locks()),
            Operation::Open { token, grace } => {
                let live = Live { node, opened: number, grace };
                let taken_over = TakenOver::default();
                if let Some(attached) = self.sessions.get_mut(&token) {
                    attached.live = live;
                    mem::replace(&mut attached.taken_over, taken_over.clone()).set();
                    return Ok(Answer::Opened { number, resumed: true, taken_over });
                }
                let session = self.dictionary.session(token.clone());
                let resumed = session.is_resumed();
                self.fresh.sessions.retain(|(detached, _)| *detached != token);
                self.sessions.insert(token, Attached { session, live, taken_over: taken_over.clone() });
                Answer::Opened { number, resumed, taken_over }
            }
            Operation::Detach { session, grace } => match self.take(&session) {
                Some(attached) => {
                    self.detach(session.token, attached.session, grace);
                    Answer::Done
                }
                None => Answer::TakenOver,
            },
            Operation::End(session) => match self.take(&session) {
                Some(attached) => {
                    let summary = attached.session.end();
                    // What others have locked is removed when its time comes.
                    self.look_for_deadlines();
                    Answer::Ended(summary)
                }
                None => Answer::TakenOver,
            },
            Operation::Freeze => Answer::Frozen(self.dictionary.freeze()),
            Operation::Tick { after, passed } => {
                if after == self.counts.ticks {
                    self.tick(node, passed);
                }
                Answer::Done
            }
            Operation::Read => Answer::Done,
            Operation::Hash { operations, hash } => {
                let own = self.hashes.iter().find(|(after, _)| *after == operations);
                if own.is_some_and(|(_, own)| *own != hash) {
                    return Err(CannotApply::Diverged { operations });
                }
                Answer::Done
            }
        })
    }

    fn update(&mut self, update: Update<K, V, T>) -> Answer<K, V, T> {
        let (owner, ephemeral, content, change) = update.into_parts();
        if content.is_some_and(|revision| revision != self.dictionary.revision().get()) {
            return Answer::Outdated;
        }
        Answer::Updated(match &owner {
            Owner::Token(token) => self.dictionary.update_state(token, change),
            Owner::Session(session) => match self.session(session) {
                Some(session) if ephemeral => session.update_ephemeral(change),
                Some(session) => session.update_state(change),
                None => return Answer::TakenOver,
            },
        })
    }

    fn update_locks(&mut self, owner: &Owner<T>, acquire: Vec<(K, Option<Nanos>)>, release: Vec<K>) -> Answer<K, V, T> {
        let leases: Vec<_> = acquire.iter().filter_map(|(key, lease)| Some((key.clone(), (*lease)?))).collect();
        let request: LockRequest<K> = lock_request(acquire, release);
        let (token, answer) = match owner {
            Owner::Token(token) => (token, self.dictionary.update_locks(token, request)),
            Owner::Session(session) => match self.session(session) {
                Some(found) => (&session.token, found.update_locks(request)),
                None => return Answer::TakenOver,
            },
        };
        if let Ok(receipt) = &answer {
            if !leases.is_empty() {
                self.fresh.add_locks(token, &leases, receipt);
                self.look_for_deadlines();
            }
        }
        Answer::Locks(answer)
    }

    fn session(&mut self, key: &SessionKey<T>) -> Option<&mut Session<K, V, T>> {
        let attached = self.sessions.get_mut(&key.token)?;
        (attached.live.opened == key.opened).then_some(&mut attached.session)
    }

    fn take(&mut self, key: &SessionKey<T>) -> Option<Attached<K, V, T>> {
        self.session(key)?;
        self.sessions.remove(&key.token)
    }

    fn detach(&mut self, token: T, session: Session<K, V, T>, grace: Nanos) {
        session.detach(Duration::from_nanos(grace));
        self.fresh.sessions.push((token, grace));
        self.look_for_deadlines();
    }

    /// Whether something has a deadline, if nothing had one before. Nothing is due: that is left to ticks.
    fn look_for_deadlines(&mut self) {
        if self.due.is_none() {
            self.due = self.dictionary.next_deadline();
        }
    }

    /// Time has passed at `node` since the last tick was applied there. A lease or a grace that began after that tick does
    /// not count it: it begins now, or it could end early.
    fn tick(&mut self, node: u64, passed: Nanos) {
        (self.counts.ticks, self.counts.ticker) = (self.counts.ticks + 1, node);
        let fresh = mem::take(&mut self.fresh);
        for lock in fresh.locks {
            let is_same = self
                .dictionary
                .lock_info(&lock.key)
                .is_some_and(|found| found.owner == lock.owner && found.fencing_token.get() == lock.fencing_token);
            if is_same {
                let lease = Duration::from_nanos(lock.lease.saturating_add(passed));
                // Its owner renews it, which succeeds.
                let _ = self.dictionary.update_locks(&lock.owner, LockRequest::new().acquire(lock.key, lease));
            }
        }
        for (token, grace) in fresh.sessions {
            let session = self.dictionary.session(token);
            session.detach(Duration::from_nanos(grace.saturating_add(passed)));
        }
        self.clock.advance(Duration::from_nanos(passed));
        // In the same step, so that no reader finds anything that is due.
        self.due = self.dictionary.expire().next;
    }
}

impl<K: Key, V: Value, T: Token> Drop for Replica<K, V, T> {
    /// The sessions go on, on other nodes, so readers of this one must not see them end.
    fn drop(&mut self) {
        for attached in mem::take(&mut self.sessions).into_values() {
            attached.session.detach(Duration::MAX);
            attached.taken_over.set();
        }
    }
}

impl<K, V, T> Answer<K, V, T> {
    /// The answer to a change.
    pub(crate) fn updated(self) -> Result<Result<Revision, UpdateError<K, V, T>>, Failure> {
        match self {
            Self::Updated(result) => Ok(result),
            _ => Err(Failure::TakenOver),
        }
    }
}
