//! What was seen: every call with its result, the time of its beginning and of its end.

use crate::program::{If, Key, LAST_KEY, Op, Token, Value};
use std::collections::BTreeSet;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) thread: usize,
    pub(crate) op: Op,
    pub(crate) began: u64,
    /// `u64::MAX` as long as it has not.
    pub(crate) ended: u64,
    pub(crate) observed: Observed,
    /// The clock stood no lower when the call began.
    pub(crate) earliest_clock: u64,
    /// The clock stood no higher when the call ended.
    pub(crate) latest_clock: u64,
    /// The keys whose locks may have been cleared away by other clients before the call ended.
    pub(crate) touched_by_others: BTreeSet<Key>,
    /// No revision was lower than this when the call began.
    pub(crate) earliest_revision: u64,
    /// Something else was committed, perhaps while this call was under way.
    pub(crate) others_commit: bool,
}

/// The result of a call. Lists are sorted where the crate promises no order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Observed {
    /// The call has not returned.
    Nothing,
    Done,
    Is(bool),
    Revision(u64),
    /// With the revision that set it.
    Versioned(Option<(Value, u64)>),
    Content(u64, Vec<(Key, Value, u64)>),
    Frozen,
    LockedByOthers(Vec<(Key, Token)>),
    ConditionFailed(Vec<(Key, If, Option<u64>)>),
    ContentLocked,
    ContentLockedByThisThread,
    Exhausted(usize),
    Locked(Receipt),
    LocksFrozen(Receipt),
    LocksLocked(Receipt, Vec<(Key, Token)>),
    ZeroLease(Key),
    Keys(Vec<Key>),
    Lock(Option<(Token, u64)>),
    Locks(Vec<(Key, Token, u64)>),
    Delivered(Delivery),
    Empty,
    Closed,
    SessionSummary(SessionSummary),
    /// The locks that had expired and the sessions that were ended, until these are made steps of their own.
    Expired(Vec<(Key, Token)>, Vec<(Token, SessionSummary)>),
    /// The owner of the lock that an expiry removed.
    ExpiredLock(Option<Token>),
    LockEvents(Vec<Event>),
    /// All locks, and the revision at that instant.
    EveryLock(u64, Vec<(Key, Token, u64)>),
    Position(u64),
    Looked(Looked),
    /// What a follower of the broadcast was given.
    Next {
        frame: bool,
        looked: Looked,
    },
    Commits(Commits),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionSummary {
    pub(crate) revision: u64,
    pub(crate) released: Vec<Key>,
    pub(crate) removed: Vec<Key>,
    pub(crate) not_removed: Vec<(Key, NotRemoved)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NotRemoved {
    Locked(Token),
    Frozen,
    Deferred,
}

/// Something that happened to a lock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) version: u64,
    pub(crate) revision: u64,
    pub(crate) told: LockChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LockChange {
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) owner: Token,
    pub(crate) token: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Granted,
    Released,
    Expired,
    Cleared,
}

/// What a client was given by one flush of its own buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Looked {
    pub(crate) delivery: Option<Delivery>,
    pub(crate) ended: bool,
    /// Where the client is then.
    pub(crate) position: u64,
}

/// What a feed of commits delivered that had got as far as `after`, and then as far as `to`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commits {
    pub(crate) after: u64,
    pub(crate) to: u64,
    pub(crate) lagged: Option<(u64, u64)>,
    pub(crate) kept: Vec<Commit>,
    pub(crate) ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commit {
    pub(crate) revision: u64,
    pub(crate) token: Token,
    pub(crate) change: Vec<(Key, Option<Value>)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Receipt {
    pub(crate) granted: Vec<(Key, u64)>,
    pub(crate) renewed: Vec<(Key, u64)>,
    pub(crate) released: Vec<Key>,
    pub(crate) not_held: Vec<Key>,
    pub(crate) expired: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivery {
    /// Whether it is the whole content.
    pub(crate) fresh: bool,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) updates: Vec<(Key, Value, u64)>,
    pub(crate) removals: Vec<Key>,
}

impl Call {
    pub(crate) fn begun(thread: usize, op: Op, began: u64) -> Self {
        Self {
            thread,
            op,
            began,
            ended: u64::MAX,
            observed: Observed::Nothing,
            earliest_clock: 0,
            latest_clock: 0,
            touched_by_others: BTreeSet::new(),
            earliest_revision: 0,
            others_commit: false,
        }
    }

    fn by(&self) -> Option<Token> {
        match self.op {
            Op::Update { by, .. }
            | Op::Modify { by, .. }
            | Op::Locks { by, .. }
            | Op::ReleaseAll { by }
            | Op::Ephemeral { by, .. }
            | Op::EndSession { by }
            | Op::DropSession { by }
            | Op::ExpiredSession { by, .. } => Some(by),
            _ => None,
        }
    }

    /// The keys whose run-out locks this may clear away.
    fn touches(&self) -> Vec<Key> {
        match &self.op {
            Op::Update { change, .. } | Op::Ephemeral { change, .. } => change.iter().map(|(key, _)| *key).collect(),
            Op::Modify { to, .. } => vec![*to],
            Op::Locks { acquire, .. } => acquire.iter().map(|(key, _)| *key).collect(),
            Op::ExpiredLock { key } if self.observed != Observed::ExpiredLock(None) => vec![*key],
            Op::FlushLocks | Op::EndSession { .. } | Op::DropSession { .. } | Op::ExpiredSession { .. } => {
                (0..LAST_KEY).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a call with this result changes nothing, whenever it happens.
    pub(crate) fn only_looks(&self) -> bool {
        match (&self.op, &self.observed) {
            (Op::Update { change, .. } | Op::Ephemeral { change, .. }, Observed::Revision(_)) => change.is_empty(),
            (Op::Modify { .. }, observed) => !matches!(observed, Observed::Revision(_)),
            // Else, and when it ends, it moves on, whether or not there is anything.
            (Op::Flush { .. }, observed) => *observed == Observed::Closed,
            (Op::FlushCommits, Observed::Commits(seen)) => seen.after == seen.to,
            (Op::FlushLocks, observed) => matches!(observed, Observed::Empty | Observed::Closed),
            (Op::Locks { .. }, observed) => matches!(observed, Observed::ZeroLease(_)),
            (Op::ExpiredLock { .. }, observed) => *observed == Observed::ExpiredLock(None),
            (Op::Freeze | Op::CloseBuffer { .. }, observed) => *observed == Observed::Is(false),
            (Op::Hold { .. }, observed) => !matches!(observed, Observed::Content(..)),
            (op, _) => matches!(
                op,
                Op::Update { .. }
                    | Op::Ephemeral { .. }
                    | Op::Locks { .. }
                    | Op::Lock { .. }
                    | Op::AllLocks
                    | Op::Snapshot
                    | Op::Get { .. }
                    | Op::Revision
                    | Op::IsFrozen
                    | Op::IsClosed { .. }
                    | Op::Read
                    | Op::NothingDue { .. }
                    | Op::Position { .. }
                    | Op::CommitsAfter
            ),
        }
    }

    /// A revision that there was when the call ended.
    fn revision(&self) -> u64 {
        match &self.observed {
            Observed::Revision(revision) | Observed::Content(revision, _) | Observed::EveryLock(revision, _) => {
                *revision
            }
            Observed::Delivered(delivery) => delivery.to,
            Observed::SessionSummary(end) => end.revision,
            Observed::Looked(looked) | Observed::Next { looked, .. } => looked.position,
            Observed::Commits(commits) => commits.to,
            _ => 0,
        }
    }

    fn may_commit(&self) -> bool {
        match (&self.op, &self.observed) {
            (Op::Update { .. } | Op::Modify { .. } | Op::Ephemeral { .. }, Observed::Revision(_))
            | (Op::DropSession { .. }, _) => true,
            (_, Observed::SessionSummary(end)) => !end.removed.is_empty(),
            _ => false,
        }
    }
}

/// Puts a history in the order of its beginnings, with a call for each step of those that have several, and notes at each
/// call what was going on around it.
pub(crate) fn complete(calls: &mut Vec<Call>) {
    let mut steps = Vec::new();
    calls.retain_mut(|call| {
        if let Observed::Expired(locks, ended) = &mut call.observed {
            let step = |op| Call { ended: call.ended, ..Call::begun(call.thread, op, call.began) };
            steps.extend((0..LAST_KEY).map(|key| {
                let owner = locks.iter().find(|(expired, _)| *expired == key).map(|(_, owner)| *owner);
                Call { observed: Observed::ExpiredLock(owner), ..step(Op::ExpiredLock { key }) }
            }));
            let removing = ended.iter().filter(|(_, end)| !end.removed.is_empty());
            let latest = removing.map(|(_, end)| end.revision).max().unwrap_or(0);
            let freed: Vec<_> = ended.iter().flat_map(|(_, end)| end.released.iter().copied()).collect();
            steps.extend(std::mem::take(ended).into_iter().map(|(by, end)| Call {
                observed: Observed::SessionSummary(end),
                ..step(Op::ExpiredSession { by, latest, freed: freed.clone() })
            }));
            let by = Token::try_from(call.began % 3).unwrap_or(0);
            steps.push(Call { observed: Observed::Done, ..step(Op::NothingDue { by }) });
            return false;
        }
        true
    });
    calls.append(&mut steps);
    calls.sort_by_key(|call| call.began);
    let ticks: Vec<_> = calls
        .iter()
        .filter_map(|call| if let Op::Tick { by } = call.op { Some((call.began, call.ended, by)) } else { None })
        .collect();
    let revisions: Vec<_> = calls.iter().map(|call| (call.ended, call.revision())).collect();
    let seen: Vec<_> =
        calls.iter().map(|call| (call.began, call.ended, call.by(), call.touches(), call.may_commit())).collect();
    for (index, call) in calls.iter_mut().enumerate() {
        let sum = |before: &dyn Fn(u64, u64) -> bool| {
            ticks.iter().filter(|(began, ended, _)| before(*began, *ended)).map(|(.., by)| by).sum()
        };
        let before = revisions.iter().filter(|(ended, _)| *ended < call.began);
        call.earliest_revision = before.map(|(_, revision)| *revision).max().unwrap_or(0);
        call.earliest_clock = sum(&|_, ended| ended < call.began);
        call.latest_clock = sum(&|began, _| began < call.ended);
        let by = call.by();
        for (other, (began, ended, whose, keys, commits)) in seen.iter().enumerate() {
            if other == index || *began > call.ended {
                continue;
            }
            if whose.is_none() || *whose != by {
                call.touched_by_others.extend(keys);
            }
            call.others_commit |= *commits && *ended > call.began;
        }
    }
}

/// A history as a table in the order of time, with the calls pointed out that could not be explained.
pub(crate) fn table(calls: &[Call], unexplained: impl Fn(usize) -> bool) -> String {
    use std::fmt::Write as _;
    let mut text = format!("  {:>11}  {:^6}  {:<52}  result\n", "time", "thread", "operation");
    for (index, call) in calls.iter().enumerate() {
        let mark = if unexplained(index) { '!' } else { ' ' };
        let ended = if call.ended == u64::MAX { "never".to_owned() } else { call.ended.to_string() };
        let (op, time) = (call.op.to_string(), format!("{}-{ended}", call.began));
        let _ = writeln!(text, "{mark} {time:>11}  {:^6}  {op:<52}  {}", call.thread, call.observed);
    }
    text
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(revision, entries) => {
                write!(f, "revision {revision}:")?;
                entries.iter().try_for_each(|(key, value, revision)| write!(f, " {key}={value}@{revision}"))
            }
            Self::Locked(receipt) => write!(f, "Ok{receipt}"),
            Self::LocksFrozen(receipt) => write!(f, "Frozen{receipt}"),
            Self::LocksLocked(receipt, conflicts) => write!(f, "Locked {conflicts:?}{receipt}"),
            Self::Delivered(Delivery { fresh, from, to, updates, removals }) => {
                write!(f, "({from}, {to}]{}:", if *fresh { " anew" } else { "" })?;
                updates.iter().try_for_each(|(key, value, revision)| write!(f, " {key}={value}@{revision}"))?;
                removals.iter().try_for_each(|key| write!(f, " -{key}"))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, keys) in [("granted", &self.granted), ("renewed", &self.renewed)] {
            if !keys.is_empty() {
                write!(f, " {what}")?;
                keys.iter().try_for_each(|(key, token)| write!(f, " {key}#{token}"))?;
            }
        }
        for (what, keys) in [("released", &self.released), ("not held", &self.not_held), ("expired", &self.expired)] {
            if !keys.is_empty() {
                write!(f, " {what} {keys:?}")?;
            }
        }
        Ok(())
    }
}
