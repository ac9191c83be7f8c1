//! What has happened in the histories, so that a check of nothing cannot pass for a check.

use crate::batch::History;
use crate::history::{Call, Kind, Left, Observed, Reconnected};
use crate::program::{How, Op, Setup};
use std::collections::BTreeMap;
use std::fmt;

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
        for call in &history.calls {
            let operation = operation(&call.op);
            for result in [result(&call.observed)].into_iter().chain(details(call, &history.program.setup)) {
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
        Op::FreezeBuffer { .. } => "buffer.freeze",
        Op::IsEnded { .. } => "is_ended",
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
        Op::ExpiredSession { .. } => "a session that expire ended",
        Op::FlushLocks => "lock_feed.try_flush",
        Op::Reconnect => "resume",
    }
}

fn result(observed: &Observed) -> &'static str {
    match observed {
        Observed::Nothing => "has not returned",
        Observed::Done => "done",
        Observed::Is(true) => "true",
        Observed::Is(false) => "false",
        Observed::Revision(_) => "revision",
        Observed::Entry(Some(_)) | Observed::Lock(Some(_)) => "some",
        Observed::Entry(None) | Observed::Lock(None) => "none",
        Observed::Content(..) => "content",
        Observed::Frozen | Observed::LocksFrozen(_) => "Frozen",
        Observed::LockedByOthers(_) | Observed::LocksLocked(..) => "Locked",
        Observed::ConditionFailed(_) => "ConditionFailed",
        Observed::ContentHeld => "Held",
        Observed::HeldByThisThread => "HeldByThisThread",
        Observed::Exhausted(_) => "RetriesExhausted",
        Observed::Locked(_) => "Ok",
        Observed::ZeroLease(_) => "ZeroLease",
        Observed::Keys(keys) if keys.is_empty() => "no keys",
        Observed::Keys(_) => "keys",
        Observed::Locks(locks) if locks.is_empty() => "no locks",
        Observed::Expired(locks, _) if locks.is_empty() => "no locks",
        Observed::Locks(_) | Observed::Expired(..) => "locks",
        Observed::Delivered(_) => "delivery",
        Observed::NothingPending => "NothingPending",
        Observed::Ended => "Ended",
        Observed::SessionEnd(_) => "end",
        Observed::LockEvents(_) => "events",
        Observed::EveryLock(..) => "everything",
        Observed::Reconnected(Reconnected { fresh: true, .. }) => "fresh start",
        Observed::Reconnected(Reconnected { delivery: Some(_), .. }) => "difference",
        Observed::Reconnected(Reconnected { ended, .. }) => {
            if *ended {
                "Ended"
            } else {
                "NothingPending"
            }
        }
    }
}

/// What else is worth counting about a call.
fn details(call: &Call, setup: &Setup) -> Vec<&'static str> {
    let mut details = Vec::new();
    let mut detail = |found: bool, what| details.extend(found.then_some(what));
    match (&call.op, &call.observed) {
        (Op::Flush { .. }, Observed::Delivered(delivery)) => {
            // The trail remembers no more than twice its limit, and a commit is at least one key.
            let beyond = delivery.from > 0 && delivery.to - delivery.from > 2 * setup.trail_limit as u64;
            detail(delivery.from == 0, "the first delivery");
            detail(!delivery.removals.is_empty(), "with removals");
            detail(beyond, "beyond the trail");
            detail(beyond && setup.trail_limit == 2, "beyond a trail of 2");
            detail(beyond && !delivery.removals.is_empty(), "beyond the trail, with removals");
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
        (_, Observed::SessionEnd(end)) => {
            detail(!end.released.is_empty(), "released");
            detail(!end.removed.is_empty(), "removed");
            detail(!end.released.is_empty() && !end.removed.is_empty(), "released and removed");
            for (kind, what) in [(Left::Frozen, "left: Frozen"), (Left::PutOff, "left: PutOff")] {
                detail(end.left.iter().any(|(_, left)| *left == kind), what);
            }
            detail(end.left.iter().any(|(_, left)| matches!(left, Left::Locked(_))), "left: Locked");
        }
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
        (_, Observed::Reconnected(Reconnected { delivery: Some(delivery), fresh, .. })) => {
            detail(!delivery.removals.is_empty(), "with removals");
            detail(*fresh && delivery.updates.is_empty(), "a fresh start with nothing");
        }
        (Op::Modify { nested: true, .. }, Observed::Revision(_)) => detail(true, "InsideUpdate"),
        _ => {}
    }
    details
}

/// The least that must have happened in 100,000 histories: about a third of what does.
type Expected = &'static [(&'static str, &'static [(&'static str, usize)])];
const EXPECTED: Expected = &[
    ("a session that expire ended", &[("end", 500), ("released", 100), ("removed", 30)]),
    ("advance", &[("done", 40_000)]),
    ("buffer.freeze", &[("false", 2_000), ("true", 10_000)]),
    ("clear_locks", &[("keys", 6_000), ("no keys", 8_000)]),
    ("drop(guard)", &[("done", 30_000)]),
    (
        "flush",
        &[
            ("Ended", 3_000),
            ("beyond a trail of 2", 10),
            ("beyond the trail", 100),
            ("beyond the trail, with removals", 40),
            ("delivery", 3_000),
            ("the first delivery", 3_000),
            ("with removals", 100),
        ],
    ),
    ("expire", &[("locks", 160), ("no locks", 13_000)]),
    ("freeze", &[("false", 1_000), ("true", 6_000)]),
    ("get", &[("none", 10_000), ("some", 10_000)]),
    ("guard", &[("content", 6_000)]),
    (
        "guard.update_state",
        &[
            ("ConditionFailed", 2_000),
            ("Frozen", 1_000),
            ("Locked", 2_000),
            ("a removal", 3_000),
            ("nothing to commit", 600),
            ("revision", 6_000),
            ("several conflicts", 200),
            ("several keys", 3_000),
        ],
    ),
    ("is_ended", &[("false", 5_000), ("true", 1_000)]),
    ("is_frozen", &[("false", 8_000), ("true", 900)]),
    ("lock", &[("none", 10_000), ("some", 6_000)]),
    ("lock_content", &[("HeldByThisThread", 1_000), ("content", 10_000)]),
    (
        "lock_feed.try_flush",
        &[
            ("Cleared", 350),
            ("Ended", 1_400),
            ("Expired", 350),
            ("Granted", 4_000),
            ("NothingPending", 10_000),
            ("Released", 1_500),
            ("events", 4_000),
            ("everything", 1_800),
            ("of several calls", 2_000),
        ],
    ),
    ("locks", &[("locks", 9_000), ("no locks", 10_000)]),
    ("release_all", &[("keys", 6_000), ("no keys", 20_000)]),
    (
        "resume",
        &[
            ("Ended", 1_000),
            ("NothingPending", 8_000),
            ("a fresh start with nothing", 100),
            ("difference", 500),
            ("fresh start", 8_000),
            ("with removals", 120),
        ],
    ),
    ("revision", &[("revision", 9_000)]),
    ("session", &[("false", 24_000), ("true", 1_000)]),
    (
        "session.end",
        &[
            ("end", 22_000),
            ("left: Frozen", 70),
            ("left: Locked", 80),
            ("released", 5_500),
            ("released and removed", 650),
            ("removed", 2_300),
        ],
    ),
    ("session.leave", &[("done", 2_700)]),
    ("snapshot", &[("content", 20_000)]),
    (
        "try_flush",
        &[
            ("Ended", 10_000),
            ("NothingPending", 50_000),
            ("beyond a trail of 2", 400),
            ("beyond the trail", 2_000),
            ("beyond the trail, with removals", 800),
            ("delivery", 30_000),
            ("the first delivery", 20_000),
            ("with removals", 3_000),
        ],
    ),
    ("try_lock_content", &[("Held", 3_000), ("HeldByThisThread", 1_000), ("content", 10_000)]),
    (
        "try_update_state",
        &[
            ("ConditionFailed", 8_000),
            ("Frozen", 4_000),
            ("Held", 1_000),
            ("HeldByThisThread", 800),
            ("Locked", 6_000),
            ("a removal", 9_000),
            ("nothing to commit", 2_000),
            ("revision", 20_000),
            ("several conflicts", 900),
            ("several keys", 10_000),
        ],
    ),
    ("update_ephemeral", &[("Frozen", 1_100), ("HeldByThisThread", 200), ("Locked", 1_200), ("revision", 8_000)]),
    (
        "update_locks",
        &[
            ("Frozen", 10_000),
            ("Locked", 30_000),
            ("Ok", 100_000),
            ("ZeroLease", 6_000),
            ("expired", 1_000),
            ("expired and granted anew", 1_000),
            ("granted", 70_000),
            ("not held", 70_000),
            ("refused, but released", 2_000),
            ("released", 20_000),
            ("released and granted anew", 10_000),
            ("renewed", 20_000),
            ("several granted", 10_000),
        ],
    ),
    (
        "update_state",
        &[
            ("ConditionFailed", 20_000),
            ("Frozen", 10_000),
            ("HeldByThisThread", 2_000),
            ("Locked", 20_000),
            ("a removal", 30_000),
            ("nothing to commit", 7_000),
            ("revision", 70_000),
            ("several conflicts", 2_000),
            ("several keys", 30_000),
        ],
    ),
    (
        "update_state_with",
        &[
            ("Frozen", 4_000),
            ("HeldByThisThread", 500),
            ("InsideUpdate", 4_000),
            ("Locked", 2_000),
            ("RetriesExhausted", 1_000),
            ("revision", 30_000),
        ],
    ),
];
