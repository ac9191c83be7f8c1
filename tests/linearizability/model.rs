//! What the dictionary is meant to do, one operation after another: the documented semantics, in plain maps.
//!
//! Written from the documentation, not from the code, and sharing nothing with the code. A step takes an operation with
//! the result that was observed and gives every state in which that may have left the dictionary: none if the result was
//! impossible, several where the documentation leaves a choice.

use crate::history::{Call, Delivery, Observed, Receipt};
use crate::program::{BUFFERS, How, If, Key, Lease, Op, Setup, Token, Value, modified};
use std::collections::{BTreeMap, BTreeSet};

type Content = BTreeMap<Key, (Value, u64)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Model {
    clock: u64,
    revision: u64,
    content: Content,
    locks: BTreeMap<Key, Lock>,
    /// The greatest fencing token ever granted.
    newest_token: u64,
    frozen: bool,
    /// The thread that holds the content.
    held: Option<usize>,
    buffers: [Buffer; BUFFERS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lock {
    owner: Token,
    token: u64,
    deadline: Option<u64>,
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

/// How a lock counts for one call.
#[derive(Clone, Copy, PartialEq)]
enum Counts {
    Held,
    RunOut,
    /// Run out, and forgotten: another client came by since and cleared it away.
    Gone,
}

/// For which locks that run out during a call it may count either way for that call. What decides the answer must be so when
/// it is given; where locks are looked at one after the other, or some time before the answer takes effect, the others
/// need not be so any more, or yet.
#[derive(Clone, Copy, PartialEq)]
enum Slack {
    None,
    /// They may count as held when they have just run out.
    Late,
    /// Or as run out when they are about to.
    Both,
}

/// The locks as one call may see them.
type View = BTreeMap<Key, Counts>;

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
            buffers: Default::default(),
        }
    }

    /// Every state that `call`, done now with the result it had, may lead to.
    pub(crate) fn step(&self, call: &Call) -> Vec<Self> {
        let seen = &call.observed;
        match &call.op {
            Op::Update { by, how, change, only_if } => {
                self.any_view(call, |held| self.update(*by, *how, change, only_if, held, call))
            }
            Op::Modify { by, from, to, attempts, .. } => {
                if attempts.is_some_and(|attempts| *seen == Observed::Exhausted(attempts)) {
                    return self.same_if(!self.frozen && call.others_commit);
                }
                let change = modified(self.content.get(from).map(|(value, _)| *value), *to);
                self.any_view(call, |held| self.update(*by, How::Wait, &change, &[], held, call))
            }
            Op::Locks { by, acquire, release } => self.update_locks(*by, acquire, release, call),
            Op::ReleaseAll { by } => {
                self.any_view(call, |held| self.remove_locks(|lock| lock.owner == *by, held, seen))
            }
            Op::ClearLocks => self.any_view(call, |held| self.remove_locks(|_| true, held, seen)),
            Op::Lock { key } => self.any_view(call, |held| {
                let lock = self.locks.get(key).filter(|_| held.contains(key)).map(|lock| (lock.owner, lock.token));
                self.same_if(*seen == Observed::Lock(lock))
            }),
            Op::AllLocks => self.any_view(call, |held| {
                let locks = self.locks.iter().filter(|(key, _)| held.contains(key));
                let locks = locks.map(|(key, lock)| (*key, lock.owner, lock.token)).collect();
                self.same_if(*seen == Observed::Locks(locks))
            }),
            Op::Snapshot => self.same_if(*seen == self.whole()),
            Op::Get { key } => self.same_if(*seen == Observed::Entry(self.content.get(key).copied())),
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

    // Locks.

    /// Whether a lock is held at this very moment.
    fn held_now(&self, key: Key) -> bool {
        self.locks.get(&key).is_some_and(|lock| lock.deadline.is_none_or(|deadline| self.clock < deadline))
    }

    /// How the locks on `keys` may count for a call.
    fn views(&self, keys: impl Iterator<Item = Key>, call: &Call, slack: Slack) -> Vec<View> {
        let latest_end = if slack == Slack::None { self.clock } else { call.earliest_clock };
        let earliest_end = if slack == Slack::Both { call.latest_clock } else { self.clock };
        let mut views = vec![View::new()];
        for key in keys.collect::<BTreeSet<_>>() {
            let Some(lock) = self.locks.get(&key) else { continue };
            let mut choices = Vec::new();
            if lock.deadline.is_none_or(|deadline| latest_end < deadline) {
                choices.push(Counts::Held);
            }
            if lock.deadline.is_some_and(|deadline| earliest_end >= deadline) {
                choices.push(Counts::RunOut);
                if call.touched_by_others.contains(&key) {
                    choices.push(Counts::Gone);
                }
            }
            let with = |view: &View| choices.iter().map(|counts| with(view, key, *counts)).collect::<Vec<_>>();
            views = views.iter().flat_map(with).collect();
        }
        views
    }

    /// What a step may lead to that only asks which locks are held.
    fn any_view(&self, call: &Call, step: impl Fn(&BTreeSet<Key>) -> Vec<Self>) -> Vec<Self> {
        let refused = matches!(call.observed, Observed::LockedByOthers(_));
        let slack = if refused { Slack::Both } else { Slack::None };
        let mut all = Vec::new();
        for view in self.views(self.locks.keys().copied(), call, slack) {
            let held = view.into_iter().filter(|(_, counts)| *counts == Counts::Held).map(|(key, _)| key).collect();
            add(&mut all, step(&held));
        }
        all
    }

    fn update_locks(&self, by: Token, acquire: &[(Key, Lease)], release: &[Key], call: &Call) -> Vec<Self> {
        if let Some((key, _)) = acquire.iter().find(|(_, lease)| *lease == Some(0)) {
            return self.same_if(call.observed == Observed::ZeroLease(*key));
        }
        let acquire: BTreeMap<_, _> = acquire.iter().copied().collect();
        let release: BTreeSet<_> = release.iter().copied().collect();
        let slack = match &call.observed {
            Observed::Locked(receipt) if !receipt.granted.is_empty() => Slack::Late,
            Observed::LocksLocked(..) => Slack::Both,
            _ => Slack::None,
        };
        let mut all = Vec::new();
        for view in self.views(acquire.keys().chain(&release).copied(), call, slack) {
            // A lease is counted from some moment between the grant and the return of the call.
            let moments = if acquire.values().any(Option::is_some) { self.clock..=call.latest_clock } else { 0..=0 };
            for start in moments {
                add(&mut all, self.grant(by, &acquire, &release, &view, start, &call.observed));
            }
        }
        all
    }

    fn grant(
        &self,
        by: Token,
        acquire: &BTreeMap<Key, Lease>,
        release: &BTreeSet<Key>,
        view: &View,
        start: u64,
        seen: &Observed,
    ) -> Vec<Self> {
        let mut next = self.clone();
        let mut receipt = Receipt::default();
        let counts = |key: &Key| view.get(key).copied().unwrap_or(Counts::Gone);
        let mine = |key: &Key| self.locks.get(key).is_some_and(|lock| lock.owner == by);

        // Releases happen regardless.
        for key in release {
            match (mine(key), counts(key)) {
                (true, Counts::Held) => receipt.released.push(*key),
                (true, Counts::RunOut) => receipt.expired.push(*key),
                _ => receipt.not_held.push(*key),
            }
            if mine(key) {
                next.locks.remove(key);
            }
        }

        // All locks are granted or none.
        if !acquire.is_empty() && self.frozen {
            return next.only_if(*seen == Observed::LocksFrozen(receipt));
        }
        let in_the_way = acquire.keys().filter(|key| !mine(key) && counts(key) == Counts::Held);
        let conflicts: Vec<_> = in_the_way.map(|key| (*key, self.locks[key].owner)).collect();
        if !conflicts.is_empty() {
            let decided = conflicts.iter().any(|(key, _)| self.held_now(*key));
            return next.only_if(decided && *seen == Observed::LocksLocked(receipt, conflicts));
        }

        // The fencing token is the crate's to choose, as long as it is new.
        let Observed::Locked(observed) = seen else { return Vec::new() };
        let new_token = observed.granted.first().map_or(0, |(_, token)| *token);
        for (key, lease) in acquire {
            let deadline = lease.map(|lease| start.saturating_add(lease));
            let still_held = mine(key) && counts(key) == Counts::Held && !release.contains(key);
            let token = if still_held { self.locks[key].token } else { new_token };
            if still_held {
                receipt.renewed.push((*key, token));
            } else {
                receipt.granted.push((*key, token));
                if mine(key) && counts(key) == Counts::RunOut && !release.contains(key) {
                    receipt.expired.push(*key);
                }
            }
            next.locks.insert(*key, Lock { owner: by, token, deadline });
        }
        receipt.expired.sort_unstable();
        if !receipt.granted.is_empty() {
            if new_token <= self.newest_token {
                return Vec::new();
            }
            next.newest_token = new_token;
        }
        next.only_if(*observed == receipt)
    }

    fn remove_locks(&self, unwanted: impl Fn(&Lock) -> bool, held: &BTreeSet<Key>, seen: &Observed) -> Vec<Self> {
        let mut next = self.clone();
        next.locks.retain(|_, lock| !unwanted(lock));
        let gone = self.locks.keys().filter(|key| !next.locks.contains_key(key) && held.contains(key)).copied();
        let gone = Observed::Keys(gone.collect());
        next.only_if(*seen == gone)
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
        next.revision += 1;
        for (key, value) in change {
            match value {
                Some(value) => next.content.insert(*key, (*value, next.revision)),
                None => next.content.remove(key),
            };
        }
        let revision = next.revision;
        next.only_if(*seen == Observed::Revision(revision))
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

fn with(view: &View, key: Key, counts: Counts) -> View {
    let mut view = view.clone();
    view.insert(key, counts);
    view
}

fn add(states: &mut Vec<Model>, more: Vec<Model>) {
    for state in more {
        if !states.contains(&state) {
            states.push(state);
        }
    }
}
