//! What the dictionary is meant to do, one operation after another: the documented semantics, in plain maps.
//!
//! Written from the documentation, not from the code, and sharing nothing with the code. A step takes an operation with
//! the result that was observed and gives every state in which that may have left the dictionary: none if the result was
//! impossible, several where the documentation leaves a choice.

use crate::history::{Call, Kind, Observed};
use crate::program::{BUFFERS, Follow, How, If, Key, Op, Setup, Token, Value, modified};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod broadcast;
mod feeds;
mod lock_feed;
mod locks;
mod sessions;

use broadcast::{Broadcast, Follower};
use feeds::{Buffer, Commit, End};
use lock_feed::LockFeed;
use locks::{Lock, Slack};
use sessions::{Detached, Session};

type Content = BTreeMap<Key, (Value, u64)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Model {
    clock: u64,
    revision: u64,
    content: Content,
    initial: Content,
    /// The commits, oldest first, without the initial content.
    log: Vec<Arc<Commit>>,
    /// That of the initial content, if there is any.
    first_revision: u64,
    locks: BTreeMap<Key, Lock>,
    /// The greatest fencing token ever granted.
    newest_token: u64,
    frozen: bool,
    /// The thread that holds the content.
    held: Option<usize>,
    history_limit: usize,
    buffers: [Buffer; BUFFERS],
    follow_clients: Follow,
    /// The buffers of clients, by thread, and where those are, with the keys that they know of.
    connections: BTreeMap<usize, Buffer>,
    clients: BTreeMap<usize, (u64, BTreeSet<Key>)>,
    /// It follows what the clients do.
    broadcast: Broadcast,
    /// By thread.
    clients_of_broadcast: BTreeMap<usize, Follower>,
    commit_history: bool,
    /// How far the feed of commits has got.
    recorded: u64,
    /// Those of threads.
    sessions: BTreeMap<usize, Session>,
    /// Sorted.
    detached: Vec<Detached>,
    followers: Option<LockFeed>,
}

impl Model {
    pub(crate) fn new(setup: &Setup) -> Self {
        let revision = u64::from(!setup.initial.is_empty());
        let content: Content = setup.initial.iter().map(|&(key, value)| (key, (value, 1))).collect();
        Self {
            clock: 0,
            revision,
            content: content.clone(),
            initial: content,
            log: Vec::new(),
            first_revision: revision,
            locks: BTreeMap::new(),
            newest_token: 0,
            frozen: false,
            held: None,
            history_limit: setup.history_limit,
            buffers: setup.buffers.map(|follow| Buffer::new(follow, revision)),
            follow_clients: setup.clients,
            connections: BTreeMap::new(),
            clients: BTreeMap::new(),
            broadcast: Broadcast::new(revision),
            clients_of_broadcast: BTreeMap::new(),
            commit_history: setup.commit_history,
            recorded: revision,
            sessions: BTreeMap::new(),
            detached: Vec::new(),
            followers: setup.lock_history_limit.map(LockFeed::new),
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
            Op::Locks { by, past, acquire, release } => self.update_locks(*by, *past, acquire, release, call),
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
                let entry = self.content.get(key).map(|(value, revision)| (*value, *revision));
                self.same_if(*seen == Observed::Versioned(entry))
            }
            Op::Revision => self.same_if(*seen == Observed::Revision(self.revision)),
            Op::IsFrozen => self.same_if(*seen == Observed::Is(self.frozen)),
            Op::Freeze => Self { frozen: true, ..self.clone() }.only_if(*seen == Observed::Is(!self.frozen)),
            Op::Flush { buffer, wait } => self.flush(*buffer, *wait, seen),
            Op::CloseBuffer { buffer } => self.close_buffer(*buffer, seen),
            Op::IsClosed { buffer } => {
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
            Op::EndSession { .. } => self.end_session(true, call),
            Op::DropSession { .. } => self.end_session(false, call),
            Op::LeaveSession { grace, .. } => self.leave_session(*grace, call),
            Op::Expire => Vec::new(), // its steps are calls of their own
            Op::ExpiredLock { key } => self.expire(*key, call),
            Op::ExpiredSession { by, latest, freed } => self.end_detached(*by, *latest, freed, call),
            Op::NothingDue { by } => self.nothing_due(*by, call),
            Op::FlushLocks => self.flush_locks(call),
            Op::Connect { lost } => self.connect(*lost, call),
            Op::FlushConnection => self.flush_connection(call),
            Op::Publish => self.publish(call),
            Op::Join { lost } => self.join(*lost, call),
            Op::Next => self.next(call),
            Op::Position { buffer } => self.same_if(*seen == Observed::Position(self.buffers[*buffer].position())),
            Op::FlushCommits => match seen {
                Observed::Commits(seen) => self.flush_commits(seen),
                _ => Vec::new(),
            },
            Op::CommitsAfter => self.same_if(matches!(seen, Observed::Commits(seen) if self.commits_after(seen))),
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
                return self.same_if(*seen == Observed::ContentLockedByThisThread);
            }
            Some(thread) if thread != call.thread => {
                // A call that does not wait returns the error; one that waits is not done yet.
                return self.same_if(how == How::Try && *seen == Observed::ContentLocked);
            }
            None if through_guard => return Vec::new(),
            _ => {}
        }
        let mut next = self.clone();
        next.commit(by, change, matches!(call.op, Op::Ephemeral { .. }).then_some(call.thread));
        let revision = next.revision;
        next.only_if(*seen == Observed::Revision(revision))
    }

    /// A commit: what it sets is lasting, or belongs to the session of this thread.
    fn commit(&mut self, by: Token, change: &[(Key, Option<Value>)], session: Option<usize>) {
        self.revision += 1;
        for (key, value) in change {
            match value {
                Some(value) => self.content.insert(*key, (*value, self.revision)),
                None => self.content.remove(key),
            };
            let detached = self.detached.iter_mut().map(|detached| &mut detached.session);
            for session in self.sessions.values_mut().chain(detached) {
                session.keys.remove(key);
            }
            if let Some(session) = session.and_then(|thread| self.sessions.get_mut(&thread)).filter(|_| value.is_some())
            {
                session.keys.insert(*key);
            }
        }
        self.detached.sort_unstable();
        self.log.push(Arc::new(Commit { by, change: change.to_vec() }));
    }

    fn hold(&self, wait: bool, call: &Call) -> Vec<Self> {
        match self.held {
            None => Self { held: Some(call.thread), ..self.clone() }.only_if(call.observed == self.whole()),
            Some(thread) if thread == call.thread => self.same_if(call.observed == Observed::ContentLockedByThisThread),
            Some(_) => self.same_if(!wait && call.observed == Observed::ContentLocked),
        }
    }
}

fn add(states: &mut Vec<Model>, more: Vec<Model>) {
    for state in more {
        if !states.contains(&state) {
            states.push(state);
        }
    }
}
