//! What has happened in the histories, so that a check of nothing cannot pass for a check.

use crate::batch::History;
use crate::history::{Call, Observed};
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
        for &(operation, result, per_hundred_thousand) in EXPECTED {
            let times = self.happened.get(&(operation, result)).copied().unwrap_or(0);
            let least = self.histories * per_hundred_thousand / 100_000;
            if times < least {
                missing.push(format!("{operation}: {result}: {times} times, expected {least}"));
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
        Observed::Frozen => "Frozen",
        Observed::LockedByOthers(_) => "Locked",
        Observed::ConditionFailed(_) => "ConditionFailed",
        Observed::ContentHeld => "Held",
        Observed::HeldByThisThread => "HeldByThisThread",
        Observed::Exhausted(_) => "RetriesExhausted",
        Observed::Locked(_) => "Ok",
        Observed::LocksFrozen(_) => "Frozen",
        Observed::LocksLocked(..) => "Locked",
        Observed::ZeroLease(_) => "ZeroLease",
        Observed::Keys(keys) if keys.is_empty() => "no keys",
        Observed::Keys(_) => "keys",
        Observed::Locks(locks) if locks.is_empty() => "no locks",
        Observed::Locks(_) => "locks",
        Observed::Delivered(_) => "delivery",
        Observed::NothingPending => "NothingPending",
        Observed::Ended => "Ended",
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
        (Op::Modify { nested: true, .. }, Observed::Revision(_)) => detail(true, "InsideUpdate"),
        _ => {}
    }
    details
}

/// The least that must have happened in 100,000 histories: about a third of what does.
const EXPECTED: &[(&str, &str, usize)] = &[];
