//! Laws that hold for every history. In them, `content(c)` is the map that a change `c` makes of a map.
//!
//! 1. Changes compose: `a.then(b).then(c) == a.then(b.then(c))`, `Change::new()` is the unit on both sides, and applying
//!    `a.then(b)` leaves what applying `a` and then `b` leaves, as for a plain map.
//! 2. Flushes compose: a buffer's deliveries, applied in order to an empty map, give the content at each flush, however
//!    far the buffer had lagged. Each begins where the one before ended; it mentions exactly the keys that were set
//!    since then and are there, and those that had been delivered and are gone; none of them twice.
//! 3. With tombstones, and on the history, it mentions in addition every key that was touched and is not there.
//! 4. A snapshot never changes.
//! 5. Locks, receipts, refusals and inspection are those of a plain map of leases, and fencing tokens rise.

mod common;

use common::{content, replay, sorted};
use proptest::collection::vec;
use proptest::prelude::*;
use state_dictionary::{
    BufferOptions, Change, ChangeBuffer, LockError, LockReceipt, LockRequest, ManualClock, Refusal, Revision,
    StateDictionary, Tombstones, UpdateError,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Dictionary = StateDictionary<u8, u32, u8>;
type Map = BTreeMap<u8, u32>;
/// A key and the value to set, or `None` to remove it.
type Operations = Vec<(u8, Option<u32>)>;

fn operations() -> impl Strategy<Value = Operations> {
    vec((0..6_u8, prop::option::weighted(0.6, 0..100_u32)), 0..5)
}

fn change(operations: &Operations) -> Change<u8, u32> {
    operations.iter().fold(Change::new(), |change, &(key, value)| match value {
        Some(value) => change.set(key, value),
        None => change.remove(key),
    })
}

fn apply(operations: &Operations, map: &mut Map) {
    for &(key, value) in operations {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

fn commit(dictionary: &Dictionary, change: Change<u8, u32>) -> Map {
    assert!(dictionary.update_state(&0, change).is_ok());
    content(&dictionary.snapshot())
}

proptest! {
    #[test]
    fn changes_compose(a in operations(), b in operations(), c in operations(), initial in operations()) {
        let [one, two, three] = [&a, &b, &c].map(change);
        prop_assert_eq!(one.clone().then(two.clone()).then(three.clone()), one.clone().then(two.clone().then(three)));
        prop_assert_eq!(Change::new().then(one.clone()), one.clone());
        prop_assert_eq!(one.clone().then(Change::new()), one.clone());

        let (together, apart) = (Dictionary::new(), Dictionary::new());
        let mut model = Map::new();
        for operations in [&initial, &a, &b] {
            apply(operations, &mut model);
        }
        commit(&together, change(&initial));
        commit(&apart, change(&initial));
        commit(&apart, one.clone());
        prop_assert_eq!(&commit(&together, one.then(two.clone())), &model);
        prop_assert_eq!(&commit(&apart, two), &model);
    }

    #[test]
    fn a_snapshot_never_changes(commits in vec(operations(), 1..30), history_limit in 0..5_usize) {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
        let mut model = Map::new();
        let mut taken = Vec::new();
        for operations in &commits {
            apply(operations, &mut model);
            commit(&dictionary, change(operations));
            taken.push((dictionary.snapshot(), dictionary.revision(), model.clone()));
        }
        drop(dictionary);
        for (snapshot, revision, then) in taken {
            prop_assert_eq!((snapshot.revision(), content(&snapshot), snapshot.len()), (revision, then.clone(), then.len()));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Operations),
    Flush(usize),
}

const BUFFERS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![3 => operations().prop_map(Step::Commit), 2 => (0..BUFFERS).prop_map(Step::Flush)];
    vec(step, 0..60)
}

fn history_limits() -> impl Strategy<Value = usize> {
    prop_oneof![5 => 0..=4_usize, 1 => Just(1_000)]
}

/// What a buffer has delivered, and what a delivery of it must say next.
struct Follower {
    buffer: ChangeBuffer<u8, u32>,
    tombstones: bool,
    replica: Map,
    reached: Revision,
    touched: BTreeSet<u8>,
}

impl Follower {
    fn new(dictionary: &Dictionary, tombstones: bool) -> Self {
        let options = BufferOptions::new();
        let options = if tombstones { options.tombstones(Tombstones::Always) } else { options };
        let buffer = dictionary.change_buffer_with(options);
        Self { buffer, tombstones, replica: Map::new(), reached: Revision::ZERO, touched: BTreeSet::new() }
    }

    fn flush(&mut self, model: &Map, now: Revision) -> Result<(), TestCaseError> {
        let touched = std::mem::take(&mut self.touched);
        let first = self.reached == Revision::ZERO;
        let updates: Vec<_> = model.keys().copied().filter(|key| first || touched.contains(key)).collect();
        let gone = |key: &u8| !model.contains_key(key) && (self.tombstones || self.replica.contains_key(key));
        let removals: Vec<_> = touched.into_iter().filter(gone).collect();

        let Ok(delivery) = self.buffer.try_flush() else {
            prop_assert!(updates.is_empty() && removals.is_empty(), "nothing came of {:?} {:?}", updates, removals);
            return Ok(());
        };
        prop_assert_eq!((delivery.since(), delivery.revision()), (self.reached, now));
        prop_assert_eq!(sorted(delivery.updates().map(|(key, _)| *key)), updates);
        prop_assert_eq!(sorted(delivery.removals().copied()), removals);
        for (_, entry) in delivery.updates() {
            prop_assert!(self.reached < entry.revision() && entry.revision() <= now);
        }
        self.reached = now;
        replay(&delivery, &mut self.replica);
        prop_assert_eq!(&self.replica, model);
        Ok(())
    }
}

fn follow(
    steps: Vec<Step>,
    history_limit: usize,
    initial: Map,
    tombstones: bool,
    freeze: bool,
) -> Result<(), TestCaseError> {
    let dictionary: Dictionary =
        StateDictionary::builder().history_limit(history_limit).content(initial.clone()).build();
    let mut model = initial;
    let mut followers: Vec<_> = (0..BUFFERS).map(|_| Follower::new(&dictionary, tombstones)).collect();
    for step in steps {
        match step {
            Step::Commit(operations) => {
                apply(&operations, &mut model);
                commit(&dictionary, change(&operations));
                for follower in &mut followers {
                    follower.touched.extend(operations.iter().map(|(key, _)| key));
                }
            }
            Step::Flush(index) => followers[index].flush(&model, dictionary.revision())?,
        }
    }
    if freeze {
        dictionary.freeze();
    }
    for mut follower in followers {
        follower.flush(&model, dictionary.revision())?;
        prop_assert_eq!(follower.replica, content(&dictionary.snapshot()));
        prop_assert!(follower.buffer.try_flush().is_err());
    }
    Ok(())
}

proptest! {
    #[test]
    fn flushes_compose(
        steps in steps(),
        history_limit in history_limits(),
        initial in prop::collection::btree_map(0..6_u8, 0..9_u32, 0..4),
        freeze: bool,
    ) {
        follow(steps, history_limit, initial, false, freeze)?;
    }

    #[test]
    fn with_tombstones_and_within_the_history_every_removal_is_delivered(steps in steps(), freeze: bool) {
        follow(steps, 1_000, Map::new(), true, freeze)?;
    }
}

#[derive(Clone, Debug)]
enum LockStep {
    Update { token: u8, acquire: Vec<(u8, Option<u64>)>, release: Vec<u8> },
    Write { token: u8, keys: BTreeSet<u8> },
    Advance(u64),
    ReleaseAll(u8),
    Clear,
}

fn lock_steps() -> impl Strategy<Value = Vec<LockStep>> {
    let token = || 0..3_u8;
    let key = || 0..4_u8;
    let leases = vec((key(), prop::option::weighted(0.7, 1..6_u64)), 0..4);
    let update = (token(), leases, vec(key(), 0..3));
    let step = prop_oneof![
        6 => update.prop_map(|(token, acquire, release)| LockStep::Update { token, acquire, release }),
        4 => (token(), prop::collection::btree_set(key(), 1..3))
            .prop_map(|(token, keys)| LockStep::Write { token, keys }),
        3 => (1..4_u64).prop_map(LockStep::Advance),
        1 => token().prop_map(LockStep::ReleaseAll),
        1 => Just(LockStep::Clear),
    ];
    vec(step, 0..40)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Lease {
    owner: u8,
    deadline: Option<u64>,
    fencing_token: u64,
}

#[derive(Default)]
struct LockModel {
    now: u64,
    leases: BTreeMap<u8, Lease>,
    last_grant: u64,
}

type Conflicts = Vec<(u8, u8, Option<Duration>)>;

impl LockModel {
    fn live(&self, key: u8) -> Option<Lease> {
        self.leases.get(&key).copied().filter(|lease| lease.deadline.is_none_or(|deadline| self.now < deadline))
    }

    fn remaining(&self, lease: Lease) -> Option<Duration> {
        lease.deadline.map(|deadline| Duration::from_secs(deadline - self.now))
    }

    fn conflicts(&self, token: u8, keys: impl IntoIterator<Item = u8>) -> Conflicts {
        let live = keys.into_iter().filter_map(|key| Some((key, self.live(key)?)));
        let of_others = live.filter(|(_, lease)| lease.owner != token);
        of_others.map(|(key, lease)| (key, lease.owner, self.remaining(lease))).collect()
    }

    /// What a request does, told by what the dictionary answered only as far as the number of its fencing token goes.
    fn update(
        &mut self,
        token: u8,
        acquire: &BTreeMap<u8, Option<u64>>,
        release: &BTreeSet<u8>,
        answer: Result<LockReceipt<u8>, LockError<u8, u8>>,
    ) -> Result<(), TestCaseError> {
        let conflicts = self.conflicts(token, acquire.keys().copied());
        let granting = conflicts.is_empty();
        let receipt = match answer {
            Ok(receipt) => {
                prop_assert!(granting, "granted in spite of {:?}", conflicts);
                receipt
            }
            Err(LockError::Locked { receipt, conflicts: told, .. }) => {
                let told = sorted(told.into_iter().map(|told| (told.key, told.owner, told.remaining)));
                prop_assert_eq!(told, conflicts);
                receipt
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        let (mut released, mut not_held, mut expired) = (Vec::new(), Vec::new(), BTreeSet::new());
        let (mut granted, mut renewed) = (Vec::new(), Vec::new());
        let seen_expired = |model: &Self, key| {
            model.live(key).is_none() && model.leases.get(&key).is_some_and(|lease| lease.owner == token)
        };
        for &key in release {
            if self.live(key).is_some_and(|lease| lease.owner == token) {
                released.push(key);
                self.leases.remove(&key);
            } else if seen_expired(self, key) {
                expired.insert(key);
                self.leases.remove(&key);
            } else {
                not_held.push(key);
            }
        }
        for (&key, seconds) in acquire.iter().filter(|_| granting) {
            let deadline = seconds.map(|seconds| self.now + seconds);
            if let Some(mut lease) = self.live(key) {
                lease.deadline = deadline;
                renewed.push((key, lease.fencing_token));
                self.leases.insert(key, lease);
            } else {
                if seen_expired(self, key) {
                    expired.insert(key);
                }
                let fencing_token = receipt.granted.first().map_or(0, |(_, token)| token.get());
                prop_assert!(fencing_token > self.last_grant);
                granted.push((key, fencing_token));
                self.leases.insert(key, Lease { owner: token, deadline, fencing_token });
            }
        }
        self.last_grant = receipt.granted.first().map_or(self.last_grant, |(_, token)| token.get());
        let number = |(key, token): (u8, state_dictionary::FencingToken)| (key, token.get());
        prop_assert_eq!(sorted(receipt.granted.into_iter().map(number)), granted);
        prop_assert_eq!(sorted(receipt.renewed.into_iter().map(number)), renewed);
        prop_assert_eq!(sorted(receipt.released), released);
        prop_assert_eq!(sorted(receipt.not_held), not_held);
        prop_assert_eq!(sorted(receipt.expired), sorted(expired));
        Ok(())
    }

    fn remove(&mut self, unwanted: impl Fn(u8) -> bool) -> Vec<u8> {
        let keys: Vec<_> = self.leases.keys().copied().filter(|key| unwanted(self.leases[key].owner)).collect();
        let live = keys.iter().copied().filter(|key| self.live(*key).is_some()).collect();
        self.leases.retain(|key, _| !keys.contains(key));
        live
    }
}

proptest! {
    #[test]
    fn locks_are_what_a_map_of_leases_says(steps in lock_steps(), shards in 0..9_usize) {
        let clock = ManualClock::new();
        let dictionary: Dictionary = StateDictionary::builder().clock(&clock).shards(shards).build();
        let mut model = LockModel::default();
        for step in steps {
            match step {
                LockStep::Update { token, acquire, release } => {
                    let request = release.iter().fold(LockRequest::new(), |request, key| request.release(*key));
                    let request = acquire.iter().fold(request, |request, (key, seconds)| {
                        request.acquire(*key, seconds.map(Duration::from_secs))
                    });
                    let answer = dictionary.update_locks(&token, request);
                    let (acquire, release) = (acquire.into_iter().collect(), release.into_iter().collect());
                    model.update(token, &acquire, &release, answer)?;
                }
                LockStep::Write { token, keys } => {
                    let change = keys.iter().map(|key| (*key, 0)).collect();
                    let conflicts = match dictionary.update_state(&token, change) {
                        Ok(_) => Vec::new(),
                        Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) => {
                            sorted(conflicts.into_iter().map(|told| (told.key, told.owner, told.remaining)))
                        }
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    };
                    prop_assert_eq!(&conflicts, &model.conflicts(token, keys.iter().copied()));
                    if conflicts.is_empty() {
                        // The writer removed the expired locks of others; their owners see no event of that.
                        let others = |key: &u8, lease: &Lease| keys.contains(key) && lease.owner != token;
                        model.leases.retain(|key, lease| !others(key, lease));
                    }
                }
                LockStep::Advance(seconds) => {
                    clock.advance(Duration::from_secs(seconds));
                    model.now += seconds;
                }
                LockStep::ReleaseAll(token) => {
                    prop_assert_eq!(sorted(dictionary.release_all(&token)), model.remove(|owner| owner == token));
                }
                LockStep::Clear => prop_assert_eq!(sorted(dictionary.clear_locks()), model.remove(|_| true)),
            }
            let locks = dictionary.locks().into_iter();
            let locks = locks.map(|(key, lock)| (key, lock.owner, lock.remaining, lock.fencing_token.get()));
            let live = (0..4).filter_map(|key| Some((key, model.live(key)?)));
            let live = live.map(|(key, lease)| (key, lease.owner, model.remaining(lease), lease.fencing_token));
            prop_assert_eq!(sorted(locks), live.collect::<Vec<_>>());
            for key in 0..4 {
                prop_assert_eq!(dictionary.lock_info(&key).map(|lock| lock.owner), model.live(key).map(|lease| lease.owner));
            }
        }
    }
}
