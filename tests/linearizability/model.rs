//! What the dictionary is meant to do, one operation after another: the documented semantics, in plain maps.
//!
//! Written from the documentation, not from the code, and sharing nothing with the code. A step takes an operation with
//! the result that was observed and gives every state in which that may have left the dictionary: none if the result was
//! impossible, several where the documentation leaves a choice.

use crate::history::{Call, Delivery, Kind, Observed};
use crate::program::{BUFFERS, How, If, Key, Op, Setup, Token, Value, modified};
use std::collections::{BTreeMap, BTreeSet};

mod clients;
mod lock_feed;
mod locks;

use clients::Session;
use lock_feed::LockFeed;
use locks::{Lock, Slack};

type Content = BTreeMap<Key, (Value, u64)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Model {
    clock: u64,
    revision: u64,
    content: Content,
    /// The commit since which a key has had a value.
    created: BTreeMap<Key, u64>,
    locks: BTreeMap<Key, Lock>,
    /// The greatest fencing token ever granted.
    newest_token: u64,
    frozen: bool,
    /// The thread that holds the content.
    held: Option<usize>,
    buffers: [Buffer; BUFFERS],
    /// What the client of a thread has seen, if it has ever connected.
    clients: BTreeMap<usize, (u64, BTreeSet<Key>)>,
    trail_limit: usize,
    /// Those of threads.
    sessions: BTreeMap<usize, Session>,
    /// Those that nobody has, sorted, and when they end; never, if they were put off, for the clock does not get so far.
    lingering: Vec<(Session, Option<u64>)>,
    followers: Option<LockFeed>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Buffer {
    /// Where the last delivery ended, and which keys had a value there.
    delivered: u64,
    keys: BTreeSet<Key>,
    end: End,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum End {
    #[default]
    Open,
    /// Frozen when the revision and the content were these.
    At(u64, Content),
    Past,
}

impl Model {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            clock: 0,
            revision: u64::from(!setup.initial.is_empty()),
            content: setup.initial.iter().map(|&(key, value)| (key, (value, 1))).collect(),
            locks: BTreeMap::new(),
            newest_token: 0,
            frozen: false,
            held: None,
            created: setup.initial.iter().map(|&(key, _)| (key, 1)).collect(),
            buffers: Default::default(),
            clients: BTreeMap::new(),
            trail_limit: setup.trail_limit,
            sessions: BTreeMap::new(),
            lingering: Vec::new(),
            followers: setup.lock_events.map(LockFeed::new),
        }
    }

    /// Every state that `call`, done now with the result it had, may lead to.
    pub(crate) fn step(&self, call: &Call) -> Vec<Self> {
        let seen = &call.observed;
        match &call.op {
            Op::Update { by, how, change, only_if } => {
                self.any_view(call, Slack::None, |held| self.update(*by, *how, change, only_if, held, call))
            }
            Op::Modify { by, from, to, attempts, .. } => {
                if attempts.is_some_and(|attempts| *seen == Observed::Exhausted(attempts)) {
                    return self.same_if(!self.frozen && call.others_commit);
                }
                let change = modified(self.content.get(from).map(|(value, _)| *value), *to);
                self.any_view(call, Slack::None, |held| self.update(*by, How::Wait, &change, &[], held, call))
            }
            Op::Locks { by, acquire, release } => self.update_locks(*by, acquire, release, call),
            Op::ReleaseAll { by } => self.any_view(call, self.removing(), |held| {
                self.remove_locks(|lock| lock.owner == *by, Kind::Released, held, seen)
            }),
            Op::ClearLocks => {
                self.any_view(call, self.removing(), |held| self.remove_locks(|_| true, Kind::Cleared, held, seen))
            }
            Op::Lock { key } => self.any_view(call, Slack::None, |held| {
                let lock = self.locks.get(key).filter(|_| held.contains(key)).map(|lock| (lock.owner, lock.token));
                self.same_if(*seen == Observed::Lock(lock))
            }),
            Op::AllLocks => self.any_view(call, Slack::None, |held| {
                let locks = self.locks.iter().filter(|(key, _)| held.contains(key));
                let locks = locks.map(|(key, lock)| (*key, lock.owner, lock.token)).collect();
                self.same_if(*seen == Observed::Locks(locks))
            }),
            Op::Snapshot => self.same_if(*seen == self.whole()),
            Op::Get { key } => {
                let entry = self.content.get(key).map(|(value, revision)| (*value, *revision, self.created[key]));
                self.same_if(*seen == Observed::Entry(entry))
            }
            Op::Revision => self.same_if(*seen == Observed::Revision(self.revision)),
            Op::IsFrozen => self.same_if(*seen == Observed::Is(self.frozen)),
            Op::Freeze => Self { frozen: true, ..self.clone() }.only_if(*seen == Observed::Is(!self.frozen)),
            Op::Flush { buffer, wait } => self.flush(*buffer, *wait, seen),
            Op::FreezeBuffer { buffer } => self.freeze_buffer(*buffer, seen),
            Op::IsEnded { buffer } => {
                let ended = self.frozen || self.buffers[*buffer].end != End::Open;
                self.same_if(*seen == Observed::Is(ended))
            }
            Op::Hold { wait } => self.hold(*wait, call),
            Op::Read => self.same_if(self.held == Some(call.thread) && *seen == self.whole()),
            Op::LetGo => Self { held: None, ..self.clone() }.only_if(self.held == Some(call.thread)),
            Op::Tick { by } => vec![Self { clock: self.clock + by, ..self.clone() }],
            Op::Session { by } => self.begin_session(*by, call),
            Op::Ephemeral { by, change } => {
                self.any_view(call, Slack::None, |held| self.update(*by, How::Wait, change, &[], held, call))
            }
            Op::EndSession { .. } => self.end_session(call),
            Op::LeaveSession { grace, .. } => self.leave_session(*grace, call),
            Op::Expire => self.expire(call),
            Op::ExpiredSession { by } => self.end_lingering(*by, call),
            Op::FlushLocks => self.flush_locks(call),
            Op::Reconnect => self.reconnect(call),
        }
    }

    fn only_if(self, possible: bool) -> Vec<Self> {
        if possible { vec![self] } else { Vec::new() }
    }

    fn same_if(&self, possible: bool) -> Vec<Self> {
        if possible { vec![self.clone()] } else { Vec::new() }
    }

    fn whole(&self) -> Observed {
        let entries = self.content.iter().map(|(key, (value, revision))| (*key, *value, *revision));
        Observed::Content(self.revision, entries.collect())
    }

    // Content.

    fn update(
        &self,
        by: Token,
        how: How,
        change: &[(Key, Option<Value>)],
        only_if: &[(Key, If)],
        held: &BTreeSet<Key>,
        call: &Call,
    ) -> Vec<Self> {
        let seen = &call.observed;
        if self.frozen {
            return self.same_if(*seen == Observed::Frozen);
        }
        let touched: BTreeSet<_> = change.iter().map(|(key, _)| *key).filter(|key| held.contains(key)).collect();
        let owners = touched.iter().map(|key| (*key, self.locks[key].owner));
        let conflicts: Vec<_> = owners.filter(|(_, owner)| *owner != by).collect();
        if !conflicts.is_empty() {
            let decided = conflicts.iter().any(|(key, _)| self.held_now(*key));
            return self.same_if(decided && *seen == Observed::LockedByOthers(conflicts));
        }
        let found = |key: &Key| self.content.get(key).map(|(_, revision)| *revision);
        let mut failed: Vec<_> = only_if
            .iter()
            .map(|(key, condition)| (*key, *condition, found(key)))
            .filter(|(_, condition, found)| match condition {
                If::Absent => found.is_some(),
                If::Present => found.is_none(),
                If::At(revision) => *found != Some(*revision),
                If::AtLast => true,
            })
            .collect();
        if !failed.is_empty() {
            failed.sort_by_key(|(key, ..)| *key);
            return self.same_if(*seen == Observed::ConditionFailed(failed));
        }
        if change.is_empty() {
            return self.same_if(*seen == Observed::Revision(self.revision));
        }
        let through_guard = how == How::Guard;
        match self.held {
            Some(thread) if thread == call.thread && !through_guard => {
                return self.same_if(*seen == Observed::HeldByThisThread);
            }
            Some(thread) if thread != call.thread => {
                // Whoever does not wait is told; whoever waits is not done yet.
                return self.same_if(how == How::Try && *seen == Observed::ContentHeld);
            }
            None if through_guard => return Vec::new(),
            _ => {}
        }
        let mut next = self.clone();
        next.commit(change, matches!(call.op, Op::Ephemeral { .. }).then_some(call.thread));
        let revision = next.revision;
        next.only_if(*seen == Observed::Revision(revision))
    }

    /// A commit; what it creates belongs to the session of this thread, and what it removes to nobody's.
    fn commit(&mut self, change: &[(Key, Option<Value>)], session: Option<usize>) {
        let before = self.content.clone();
        self.revision += 1;
        for (key, value) in change {
            match value {
                Some(value) => self.content.insert(*key, (*value, self.revision)),
                None => self.content.remove(key),
            };
        }
        for (key, _) in change {
            match (before.contains_key(key), self.content.contains_key(key)) {
                (false, true) => {
                    self.created.insert(*key, self.revision);
                    if let Some(session) = session.and_then(|thread| self.sessions.get_mut(&thread)) {
                        session.keys.insert(*key);
                    }
                }
                (true, false) => {
                    self.created.remove(key);
                    let lingering = self.lingering.iter_mut().map(|(session, _)| session);
                    for session in self.sessions.values_mut().chain(lingering) {
                        session.keys.remove(key);
                    }
                    self.lingering.sort_unstable();
                }
                _ => {}
            }
        }
    }

    fn hold(&self, wait: bool, call: &Call) -> Vec<Self> {
        match self.held {
            None => Self { held: Some(call.thread), ..self.clone() }.only_if(call.observed == self.whole()),
            Some(thread) if thread == call.thread => self.same_if(call.observed == Observed::HeldByThisThread),
            Some(_) => self.same_if(!wait && call.observed == Observed::ContentHeld),
        }
    }

    // The feed.

    fn flush(&self, buffer: usize, wait: bool, seen: &Observed) -> Vec<Self> {
        let Buffer { delivered: from, keys, end } = &self.buffers[buffer];
        let (to, content, last) = match end {
            End::Open => (self.revision, &self.content, self.frozen),
            End::At(revision, content) => (*revision, content, true),
            End::Past => return self.same_if(*seen == Observed::Ended),
        };
        let newer = content.iter().filter(|(_, (_, revision))| revision > from);
        let updates: Vec<_> = newer.map(|(key, (value, revision))| (*key, *value, *revision)).collect();
        let removals: Vec<_> = keys.iter().filter(|key| !content.contains_key(key)).copied().collect();

        let end = if last { End::Past } else { End::Open };
        let mut next = self.clone();
        if updates.is_empty() && removals.is_empty() {
            next.buffers[buffer].end = end;
            let possible = if last { *seen == Observed::Ended } else { !wait && *seen == Observed::NothingPending };
            return next.only_if(possible);
        }
        next.buffers[buffer] = Buffer { delivered: to, keys: content.keys().copied().collect(), end };
        next.only_if(*seen == Observed::Delivered(Delivery { from: *from, to, updates, removals }))
    }

    fn freeze_buffer(&self, buffer: usize, seen: &Observed) -> Vec<Self> {
        if self.frozen || self.buffers[buffer].end != End::Open {
            return self.same_if(*seen == Observed::Is(false));
        }
        let mut next = self.clone();
        next.buffers[buffer].end = End::At(self.revision, self.content.clone());
        next.only_if(*seen == Observed::Is(true))
    }
}

fn add(states: &mut Vec<Model>, more: Vec<Model>) {
    for state in more {
        if !states.contains(&state) {
            states.push(state);
        }
    }
}
