//! What a call met with, as the rest of the history shows: whose keys it wrote, how far the history reached.

use crate::batch::History;
use crate::history::{Call, Delivery, Looked, NotRemoved, Observed, SessionSummary};
use crate::program::{Key, Op, Program, Token};
use std::collections::{BTreeMap, BTreeSet};

/// A commit as far as its call shows it.
struct Commit {
    call: usize,
    keys: BTreeSet<Key>,
    size: usize,
    ends_sessions: bool,
}

pub(super) struct Around<'a> {
    program: &'a Program,
    commits: BTreeMap<u64, Commit>,
    details: BTreeMap<usize, Vec<&'static str>>,
}

impl<'a> Around<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut around = Self { program: &history.program, commits: BTreeMap::new(), details: BTreeMap::new() };
        let (modify, others): (Vec<_>, Vec<_>) =
            history.calls.iter().enumerate().partition(|(_, call)| matches!(call.op, Op::Modify { .. }));
        // One that had nothing to change reports the revision of another.
        for (revision, commit) in others.into_iter().chain(modify).flat_map(|(index, call)| commits(index, call)) {
            around.commits.entry(revision).or_insert(commit);
        }
        if around.program.setup.commit_history {
            around.commits.values_mut().for_each(|commit| commit.size = commit.size.max(commit.keys.len()));
        } else {
            around.commits.values_mut().for_each(|commit| commit.size = commit.keys.len());
        }
        around.ownership(&history.calls);
        around.sessions(&history.calls);
        around.feeds(&history.calls);
        around
    }

    pub(super) fn details(&self, call: usize) -> impl Iterator<Item = &'static str> {
        self.details.get(&call).into_iter().flatten().copied()
    }

    fn detail(&mut self, call: usize, found: bool, what: &'static str) {
        if found {
            self.details.entry(call).or_default().push(what);
        }
    }

    /// Whose keys a commit writes. A session goes by its thread here.
    fn ownership(&mut self, calls: &[Call]) {
        let mut owners = BTreeMap::<Key, usize>::new();
        let mut found = Vec::new();
        for commit in self.commits.values() {
            let call = &calls[commit.call];
            let owned: Vec<_> = commit.keys.iter().filter_map(|key| owners.remove(key)).collect();
            let of_another = owned.iter().any(|owner| *owner != call.thread);
            match &call.op {
                Op::Ephemeral { change, .. } => {
                    for (key, _) in change.iter().filter(|(_, value)| value.is_some()) {
                        owners.insert(*key, call.thread);
                    }
                    found.push((commit.call, of_another, "takes a key over from another session"));
                    let gone_and_back = change.iter().enumerate().any(|(number, (key, value))| {
                        value.is_none() && change[number..].iter().any(|(of, value)| of == key && value.is_some())
                    });
                    found.push((commit.call, of_another && gone_and_back, "takes a key over, removed and set"));
                }
                Op::Update { .. } | Op::Modify { .. } => {
                    found.push((commit.call, of_another, "writes a key of a session"));
                    found.push((
                        commit.call,
                        owned.contains(&call.thread),
                        "writes an ephemeral key of its own session",
                    ));
                }
                _ => {}
            }
        }
        for (call, found, what) in found {
            self.detail(call, found, what);
        }
    }

    /// Sessions of one token, and what becomes of keys that were deferred.
    fn sessions(&mut self, calls: &[Call]) {
        let mut open = BTreeMap::<usize, Token>::new();
        let mut deferred = BTreeMap::<(Token, Key), (u64, NotRemoved)>::new();
        for (index, call) in calls.iter().enumerate() {
            match (&call.op, &call.observed) {
                (Op::Session { by }, Observed::Is(resumed)) => {
                    let ended = deferred.keys().any(|(token, _)| token == by);
                    self.detail(index, *resumed && ended, "of one that had ended, perhaps");
                    open.insert(call.thread, *by);
                }
                (Op::LeaveSession { .. }, _) => drop(open.remove(&call.thread)),
                (Op::EndSession { by } | Op::DropSession { by }, observed) => {
                    open.remove(&call.thread);
                    self.detail(index, open.values().any(|token| token == by), "beside another of its token");
                    if let Observed::SessionSummary(end) = observed {
                        note(&mut deferred, *by, end);
                    }
                }
                (Op::ExpiredSession { by, .. }, Observed::SessionSummary(end)) => {
                    for key in &end.removed {
                        let Some((revision, left)) = deferred.remove(&(*by, *key)) else { continue };
                        let locked = matches!(left, NotRemoved::Locked(_));
                        self.detail(index, locked, "removes a key that was locked");
                        self.detail(index, !locked, "removes a key that was deferred");
                        self.detail(index, revision + 1 < end.revision, "removes a deferred key after other commits");
                    }
                    note(&mut deferred, *by, end);
                    let same_expiry = |other: &&Call| (other.began, other.thread) == (call.began, call.thread);
                    let removes = |other: &Call| matches!(&other.observed, Observed::SessionSummary(end) if !end.removed.is_empty());
                    let several = calls.iter().filter(same_expiry).filter(|other| removes(other)).count() > 1;
                    self.detail(index, several, "with others, all removing keys");
                }
                (Op::Update { .. } | Op::Ephemeral { .. } | Op::Modify { .. }, Observed::Revision(revision)) => {
                    let Some(commit) = self.commits.get(revision) else { continue };
                    let writes = deferred.iter().any(|((_, key), (at, _))| commit.keys.contains(key) && at < revision);
                    let keys = commit.keys.clone();
                    deferred.retain(|(_, key), _| !keys.contains(key));
                    self.detail(index, writes, "writes a deferred key");
                }
                _ => {}
            }
        }
    }

    fn feeds(&mut self, calls: &[Call]) {
        let mut delivered = BTreeMap::<usize, u64>::new();
        // Of each client: whether it came with a position, and whether that was refused.
        let mut clients = BTreeMap::<usize, (bool, bool)>::new();
        for (index, call) in calls.iter().enumerate() {
            match (&call.op, &call.observed) {
                (Op::Flush { buffer, .. }, Observed::Delivered(delivery)) => {
                    let to = delivered.entry(*buffer).or_default();
                    *to = delivery.to.max(*to);
                    self.delivery(index, delivery);
                }
                (Op::Position { buffer }, Observed::Position(position)) => {
                    let last = delivered.get(buffer).copied().unwrap_or(0);
                    self.detail(index, *position > last, "after a flush that found nothing");
                }
                (Op::Connect { lost }, Observed::Position(position)) => {
                    clients.insert(call.thread, (*lost || *position > 0, false));
                }
                (Op::FlushConnection, Observed::Looked(Looked { delivery: Some(delivery), .. })) => {
                    self.delivery(index, delivery);
                    let (resumes, refused) = clients.entry(call.thread).or_default();
                    let always = self.program.setup.clients.always && !delivery.removals.is_empty();
                    let again = *refused;
                    let now = std::mem::take(resumes) && delivery.fresh;
                    *refused |= now;
                    self.detail(index, now, "refused");
                    self.detail(index, again, "after it was refused");
                    self.detail(index, again && always, "after it was refused, all tombstones");
                }
                (Op::FlushConnection, _) => clients.entry(call.thread).or_default().0 = false,
                (_, Observed::Commits(seen)) => {
                    let session = seen
                        .kept
                        .iter()
                        .any(|commit| self.commits.get(&commit.revision).is_some_and(|commit| commit.ends_sessions));
                    self.detail(index, session, "of the end of a session");
                }
                _ => {}
            }
        }
    }

    fn delivery(&mut self, call: usize, delivery: &Delivery) {
        if delivery.from == 0 {
            return;
        }
        let limit = self.program.setup.history_limit;
        let between = || self.commits.range(delivery.from + 1..=delivery.to).map(|(_, commit)| commit);
        let size: usize = between().map(|commit| commit.size).sum();
        let exactly = limit > 0 && size == limit;
        let one = exactly && between().count() == 1;
        let by_session = size > limit && between().any(|commit| commit.ends_sessions);
        self.detail(call, exactly, "exactly the limit");
        self.detail(call, one && limit > 1, "a change of exactly the limit");
        self.detail(call, by_session, "beyond the limit by the end of a session");
    }
}

fn note(deferred: &mut BTreeMap<(Token, Key), (u64, NotRemoved)>, token: Token, end: &SessionSummary) {
    for (key, left) in end.not_removed.iter().filter(|(_, left)| *left != NotRemoved::Frozen) {
        deferred.insert((token, *key), (end.revision, *left));
    }
}

fn commits(index: usize, call: &Call) -> Vec<(u64, Commit)> {
    let commit = |revision, keys: Vec<Key>, ends_sessions| {
        let size = keys.len();
        (revision, Commit { call: index, keys: keys.into_iter().collect(), size, ends_sessions })
    };
    match (&call.op, &call.observed) {
        (Op::Update { change, .. } | Op::Ephemeral { change, .. }, Observed::Revision(revision))
            if !change.is_empty() =>
        {
            vec![commit(*revision, change.iter().map(|(key, _)| *key).collect(), false)]
        }
        (Op::Modify { to, .. }, Observed::Revision(revision)) => vec![commit(*revision, vec![*to], false)],
        (_, Observed::SessionSummary(end)) if !end.removed.is_empty() => {
            vec![commit(end.revision, end.removed.clone(), true)]
        }
        _ => Vec::new(),
    }
}
