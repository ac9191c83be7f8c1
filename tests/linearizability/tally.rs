//! What has happened in the histories, so that a check of nothing cannot pass for a check.

use crate::batch::History;
use crate::history::{Call, Commits, Delivery, Kind, Looked, NotRemoved, Observed, SessionSummary};
use crate::program::{Follow, How, Op, Setup};
use around::Around;
use expected::EXPECTED;
use std::collections::BTreeMap;
use std::fmt;

mod around;
mod expected;

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) histories: usize,
    pub(crate) calls: usize,
    /// The most states that a search went through.
    pub(crate) hardest: usize,
    happened: BTreeMap<(&'static str, &'static str), usize>,
}

impl Tally {
    pub(crate) fn count(&mut self, history: &History, visited: usize) {
        self.histories += 1;
        self.calls += history.calls.len();
        self.hardest = self.hardest.max(visited);
        let setup = &history.program.setup;
        let around = Around::of(history);
        for (index, call) in history.calls.iter().enumerate() {
            let operation = operation(&call.op);
            let what = [result(&call.observed)].into_iter().chain(details(call, setup)).chain(around.details(index));
            for result in what {
                *self.happened.entry((operation, result)).or_default() += 1;
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.calls += other.calls;
        self.hardest = self.hardest.max(other.hardest);
        for (what, times) in other.happened {
            *self.happened.entry(what).or_default() += times;
        }
    }

    /// What should have happened more often: each line of the list with what there was of it.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (operation, results) in EXPECTED {
            for (result, per_hundred_thousand) in *results {
                let times = self.happened.get(&(*operation, *result)).copied().unwrap_or(0);
                let least = self.histories * per_hundred_thousand / 100_000;
                if times < least {
                    missing.push(format!("{operation}: {result}: {times} times, expected {least}"));
                }
            }
        }
        missing
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} histories, {} calls; the hardest took {} states", self.histories, self.calls, self.hardest)?;
        for ((operation, result), times) in &self.happened {
            writeln!(f, "{times:>12}  {operation}: {result}")?;
        }
        Ok(())
    }
}

fn operation(op: &Op) -> &'static str {
    match op {
        Op::Update { how: How::Wait, .. } => "update_state",
        Op::Update { how: How::Try, .. } => "try_update_state",
        Op::Update { how: How::Guard, .. } => "guard.update_state",
        Op::Modify { .. } => "update_state_with",
        Op::Locks { .. } => "update_locks",
        Op::ReleaseAll { .. } => "release_all",
        Op::ClearLocks => "clear_locks",
        Op::Lock { .. } => "lock",
        Op::AllLocks => "locks",
        Op::Snapshot => "snapshot",
        Op::Get { .. } => "get",
        Op::Revision => "revision",
        Op::IsFrozen => "is_frozen",
        Op::Freeze => "freeze",
        Op::Flush { wait: true, .. } => "flush",
        Op::Flush { wait: false, .. } => "try_flush",
        Op::CloseBuffer { .. } => "buffer.close",
        Op::IsClosed { .. } => "is_closed",
        Op::Hold { wait: true } => "lock_content",
        Op::Hold { wait: false } => "try_lock_content",
        Op::Read => "guard",
        Op::LetGo => "drop(guard)",
        Op::Tick { .. } => "advance",
        Op::Session { .. } => "session",
        Op::Ephemeral { .. } => "update_ephemeral",
        Op::EndSession { .. } => "session.end",
        Op::LeaveSession { .. } => "session.leave",
        Op::Expire => "expire",
        Op::ExpiredLock { .. } => "a lock that expire looked at",
        Op::DropSession { .. } => "drop(session)",
        Op::ExpiredSession { .. } => "a session that expire ended",
        Op::NothingDue { .. } => "nothing due",
        Op::FlushLocks => "lock_feed.try_flush",
        Op::Connect { lost: false } => "resume",
        Op::Connect { lost: true } => "resume from elsewhere",
        Op::FlushConnection => "flush of a client",
        Op::Publish => "publish",
        Op::Join { lost: false } => "join",
        Op::Join { lost: true } => "join from elsewhere",
        Op::Next => "follower.try_next",
        Op::Position { .. } => "position",
        Op::FlushCommits => "commit_feed.try_flush",
        Op::CommitsAfter => "commit_feed_with",
    }
}

fn result(observed: &Observed) -> &'static str {
    match observed {
        Observed::Nothing => "has not returned",
        Observed::Done => "done",
        Observed::Is(true) => "true",
        Observed::Is(false) => "false",
        Observed::Revision(_) => "revision",
        Observed::Versioned(Some(_)) | Observed::Lock(Some(_)) => "some",
        Observed::Versioned(None) | Observed::Lock(None) => "none",
        Observed::Content(..) => "content",
        Observed::Frozen | Observed::LocksFrozen(_) => "Frozen",
        Observed::LockedByOthers(_) | Observed::LocksLocked(..) => "Locked",
        Observed::ConditionFailed(_) => "ConditionFailed",
        Observed::ContentLocked => "ContentLocked",
        Observed::ContentLockedByThisThread => "ContentLockedByThisThread",
        Observed::Exhausted(_) => "RetriesExhausted",
        Observed::Locked(_) => "Ok",
        Observed::ZeroLease(_) => "ZeroLease",
        Observed::Keys(keys) if keys.is_empty() => "no keys",
        Observed::Keys(_) => "keys",
        Observed::Locks(locks) if locks.is_empty() => "no locks",
        Observed::Locks(_) => "locks",
        Observed::Expired(..) => "locks and sessions",
        Observed::ExpiredLock(None) => "not expired",
        Observed::ExpiredLock(Some(_)) => "removed",
        Observed::Delivered(_) => "delivery",
        Observed::SessionSummary(_) => "end",
        Observed::LockEvents(_) => "events",
        Observed::EveryLock(..) => "everything",
        Observed::Position(0) => "the beginning",
        Observed::Position(_) => "position",
        Observed::Looked(Looked { delivery: Some(delivery), .. }) if delivery.fresh => "fresh start",
        Observed::Looked(Looked { delivery: Some(_), .. }) => "difference",
        Observed::Next { frame: true, .. } => "frame",
        Observed::Next { looked: Looked { delivery: Some(delivery), .. }, .. } if delivery.fresh => "anew",
        Observed::Next { looked: Looked { delivery: Some(_), .. }, .. } => "caught up",
        Observed::Closed
        | Observed::Next { looked: Looked { ended: true, .. }, .. }
        | Observed::Looked(Looked { ended: true, .. })
        | Observed::Commits(Commits { ended: true, .. }) => "Closed",
        Observed::Commits(Commits { lagged: Some(_), .. }) => "lagged",
        Observed::Commits(Commits { kept, .. }) if !kept.is_empty() => "commits",
        Observed::Empty | Observed::Next { .. } | Observed::Looked(_) | Observed::Commits(_) => "Empty",
    }
}

/// What else is worth counting about a call.
fn details(call: &Call, setup: &Setup) -> Vec<&'static str> {
    let mut details = Vec::new();
    let mut detail = |found: bool, what| details.extend(found.then_some(what));
    match (&call.op, &call.observed) {
        (Op::Flush { .. }, Observed::Delivered(delivery)) => {
            // The history remembers no more than twice its limit, and a commit is at least one key.
            let beyond = delivery.from > 0 && delivery.to - delivery.from > 2 * setup.history_limit as u64;
            detail(delivery.from == 0, "the first delivery");
            detail(!delivery.removals.is_empty(), "with removals");
            detail(beyond, "beyond the history");
            detail(beyond && setup.history_limit == 2, "beyond a history of 2");
            detail(beyond && !delivery.removals.is_empty(), "beyond the history, with removals");
            details.extend(of_delivery(delivery, followed(&call.op, setup)));
        }
        (_, Observed::Locked(receipt) | Observed::LocksFrozen(receipt) | Observed::LocksLocked(receipt, _)) => {
            detail(!receipt.granted.is_empty(), "granted");
            detail(receipt.granted.len() > 1, "several granted");
            detail(!receipt.renewed.is_empty(), "renewed");
            detail(!receipt.released.is_empty(), "released");
            detail(!receipt.not_held.is_empty(), "not held");
            detail(!receipt.expired.is_empty(), "expired");
            detail(receipt.granted.iter().any(|(key, _)| receipt.released.contains(key)), "released and granted anew");
            detail(receipt.granted.iter().any(|(key, _)| receipt.expired.contains(key)), "expired and granted anew");
            let refused = !matches!(call.observed, Observed::Locked(_));
            detail(refused && !receipt.released.is_empty(), "refused, but released");
        }
        (Op::Update { change, .. }, Observed::Revision(_)) => {
            detail(change.is_empty(), "nothing to commit");
            detail(change.len() > 1, "several keys");
            detail(change.iter().any(|(_, value)| value.is_none()), "a removal");
        }
        (Op::Update { .. }, Observed::LockedByOthers(conflicts)) => detail(conflicts.len() > 1, "several conflicts"),
        (_, Observed::SessionSummary(end)) => details.extend(of_end(end)),
        (_, Observed::LockEvents(events)) => {
            for (kind, what) in [
                (Kind::Granted, "Granted"),
                (Kind::Released, "Released"),
                (Kind::Expired, "Expired"),
                (Kind::Cleared, "Cleared"),
            ] {
                detail(events.iter().any(|event| event.told.kind == kind), what);
            }
            detail(events.iter().any(|event| event.version != events[0].version), "of several calls");
        }
        (_, Observed::Looked(Looked { delivery: Some(delivery), .. })) => {
            detail(delivery.fresh && delivery.updates.is_empty(), "a fresh start with nothing");
            details.extend(of_delivery(delivery, setup.clients));
        }
        (_, Observed::Next { frame, looked: Looked { delivery: Some(delivery), .. } }) => {
            detail(*frame && !delivery.removals.is_empty(), "frame with removals");
            detail(!frame && !delivery.removals.is_empty(), "caught up, with removals");
            detail(*frame && setup.clients.filters(), "frame, filtered");
        }
        (_, Observed::Commits(Commits { kept: commits, lagged, .. })) => {
            detail(commits.len() > 1, "several");
            detail(lagged.is_some() && !commits.is_empty(), "lagged some");
        }
        (Op::Modify { nested: true, .. }, Observed::Revision(_)) => detail(true, "InsideUpdate"),
        _ => {}
    }
    details
}

fn followed(op: &Op, setup: &Setup) -> Follow {
    match op {
        Op::Flush { buffer, .. } => setup.buffers[*buffer],
        _ => setup.clients,
    }
}

fn of_delivery(delivery: &Delivery, follow: Follow) -> Vec<&'static str> {
    let removes = !delivery.removals.is_empty();
    let together = |number: usize| delivery.updates.iter().filter(|(.., of)| *of == delivery.updates[number].2).count();
    [
        (follow.filters(), "filtered"),
        (follow.filters() && removes, "filtered, with removals"),
        (follow.always && removes, "all tombstones"),
        (follow.always && removes && delivery.from == 0, "all tombstones, at first"),
        (removes, "removals"),
        ((0..delivery.updates.len()).any(|number| together(number) > 1), "cloned in the middle of a commit"),
    ]
    .into_iter()
    .filter_map(|(found, what)| found.then_some(what))
    .collect()
}

fn of_end(end: &SessionSummary) -> Vec<&'static str> {
    let left = |kind: fn(&NotRemoved) -> bool| end.not_removed.iter().any(|(_, left)| kind(left));
    let locked = left(|left| matches!(left, NotRemoved::Locked(_)));
    [
        (!end.released.is_empty(), "released"),
        (!end.removed.is_empty(), "removed"),
        (!end.released.is_empty() && !end.removed.is_empty(), "released and removed"),
        (locked, "not removed: Locked"),
        (locked && !end.removed.is_empty(), "not removed: Locked, others removed"),
        (left(|left| *left == NotRemoved::Frozen), "not removed: Frozen"),
        (left(|left| *left == NotRemoved::Deferred), "not removed: Deferred"),
    ]
    .into_iter()
    .filter_map(|(found, what)| found.then_some(what))
    .collect()
}
