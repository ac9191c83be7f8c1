//! Very large, very small, very deep, very late, and what is never released.

mod common;

use common::{ALMOST_A_SECOND, Dictionary, NANOSECOND, SECOND, set, with_manual_clock, within_a_minute};
use common::{parts, replay, sorted, spawn_waiting};
use state_dictionary::{
    Change, ChangeBuffer, FlushError, LockRequest, ManualClock, Refusal, StateDictionary, TryFlushError, UpdateError,
};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{mem, thread};

const YEAR: Duration = Duration::from_secs(24 * 365 * 3600);
const MILLION: u32 = 1_000_000;

type Numbers<V = u32> = StateDictionary<u32, V, u8>;

fn acquire_all(keys: impl IntoIterator<Item = u32>, lease: impl Into<Option<Duration>>) -> LockRequest<u32> {
    let lease = lease.into();
    keys.into_iter().fold(LockRequest::new(), |request, key| request.acquire(key, lease))
}

/// On a stack that no recursion over many would fit on.
fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().stack_size(128 << 10).spawn(body);
    assert!(spawned.is_ok_and(|thread| thread.join().is_ok()));
}

#[test]
fn leaked_buffers_and_snapshots_affect_no_other_client() {
    within_a_minute(|| {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(4).content([("a", 0)]).build();
        let buffer = dictionary.change_buffer();
        let mut replica = BTreeMap::new();
        for value in 1..100 {
            let (never, once) = (dictionary.change_buffer(), dictionary.change_buffer());
            mem::forget(once.flush().unwrap());
            mem::forget((never, once, dictionary.snapshot(), dictionary.get("a")));
            thread::scope(|scope| {
                for key in ["a", "b"] {
                    scope.spawn(|| dictionary.update_state(&"", set(key, value)).unwrap());
                }
            });
            dictionary.lock_content().unwrap().update_state(&"", Change::new().remove("a")).unwrap();
            replay(&buffer.flush().unwrap(), &mut replica);
            assert_eq!(replica, [("b", value)].into());
        }
        drop(dictionary);
        assert_eq!(buffer.flush().unwrap_err(), FlushError);
    });
}

#[test]
fn the_locks_of_a_thread_that_died_can_be_acquired_when_their_lease_has_expired() {
    let (dictionary, clock) = with_manual_clock();
    let request = || LockRequest::new().acquire("a", SECOND).acquire("b", SECOND);
    let died = thread::scope(|scope| {
        let dying = scope.spawn(|| {
            dictionary.update_locks(&"alice", request()).unwrap();
            dictionary.update_state_with(&"alice", |_| -> Change<_, _> { panic!("on purpose") })
        });
        dying.join().is_err()
    });
    assert!(died);
    let alices = dictionary.lock_info("a").unwrap().fencing_token;
    clock.advance(ALMOST_A_SECOND);
    assert!(dictionary.update_locks(&"bob", request()).is_err());
    assert!(matches!(
        dictionary.update_state(&"bob", set("a", 1)),
        Err(UpdateError { reason: Refusal::Locked { .. }, .. })
    ));
    clock.advance(NANOSECOND);
    let receipt = dictionary.update_locks(&"bob", request()).unwrap();
    assert!(receipt.granted.len() == 2 && receipt.granted.iter().all(|(_, bobs)| *bobs > alices));
    dictionary.update_state(&"bob", set("a", 1)).unwrap();
    assert!(matches!(
        dictionary.update_state(&"alice", set("b", 1)),
        Err(UpdateError { reason: Refusal::Locked { .. }, .. })
    ));
}

#[test]
fn a_suspended_thread_that_has_the_turn_does_not_delay_others_for_long() {
    common::within(SECOND * 20, || {
        let dictionary = Dictionary::new();
        let mut runs = 0;
        let committed = dictionary.update_state_with(&"slow", |_| {
            runs += 1;
            let commit = || dictionary.update_state(&"other", Change::new().set("a", runs)).unwrap();
            // From its second run on, the closure has the turn.
            if runs < 4 {
                thread::scope(|scope| scope.spawn(commit).join().unwrap());
            }
            Change::new().set("b", runs)
        });
        assert_eq!((committed.unwrap().get(), runs), (4, 4));
    });
}

#[test]
fn when_the_clock_jumps_years_leases_with_an_end_expire_and_those_without_do_not() {
    let (dictionary, clock) = with_manual_clock();
    let leases = [("a", NANOSECOND), ("b", SECOND), ("c", YEAR * 100), ("d", YEAR * 100 + NANOSECOND)];
    let request = leases.into_iter().fold(LockRequest::new(), |request, (key, lease)| request.acquire(key, lease));
    dictionary.update_locks(&"alice", request.acquire("e", Duration::MAX).acquire("f", None)).unwrap();
    clock.advance(YEAR * 100);
    let left = sorted(dictionary.locks().into_iter().map(|(key, lock)| (key, lock.remaining)));
    assert_eq!(left, [("d", Some(NANOSECOND)), ("e", None), ("f", None)]);
    let request = LockRequest::new().acquire("a", SECOND).acquire("b", None).acquire("c", YEAR);
    assert_eq!(dictionary.update_locks(&"bob", request).unwrap().granted.len(), 3);
    clock.advance(YEAR * 400);
    assert_eq!(sorted(dictionary.release_all(&"alice")), ["e", "f"]);
}

#[test]
fn a_lease_of_a_nanosecond_lasts_one() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", NANOSECOND)).unwrap();
    assert!(dictionary.update_state(&"bob", set("a", 1)).is_err());
    clock.advance(NANOSECOND);
    dictionary.update_state(&"bob", set("a", 1)).unwrap();
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        dictionary.update_locks(&"alice", LockRequest::new().acquire("a", NANOSECOND)).unwrap();
        while dictionary.update_locks(&"bob", LockRequest::new().acquire("a", Duration::MAX)).is_err() {}
        assert_eq!(dictionary.lock_info("a").map(|lock| lock.remaining), Some(None));
    });
}

#[test]
fn when_the_clock_jumps_years_subscriptions_do_not_burst() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let buffer = dictionary.change_buffer();
        let update = |value| dictionary.update_state(&"", set("a", value)).unwrap();
        update(0);
        let (deliver, deliveries) = mpsc::channel();
        let next = || deliveries.recv().unwrap();
        thread::scope(|scope| {
            spawn_waiting(scope, || buffer.subscribe(SECOND).try_for_each(|delivery| deliver.send(parts(&delivery).0)));
            assert_eq!(next(), [("a", 0)]);
            for value in 1..50 {
                update(-value);
                update(value);
                clock.advance(ALMOST_A_SECOND);
                assert!(deliveries.try_recv().is_err());
                clock.advance(YEAR * 10);
                assert_eq!(next(), [("a", value)]);
            }
            update(50);
            dictionary.freeze();
        });
        assert_eq!(deliveries.try_iter().collect::<Vec<_>>(), [[("a", 50)]]);
    });
}

#[test]
fn when_the_clock_jumps_years_timed_waits_end() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let buffer = dictionary.change_buffer();
        let _guard = dictionary.lock_content().unwrap();
        thread::scope(|scope| {
            let flush = spawn_waiting(scope, || buffer.flush_timeout(YEAR).is_err());
            let lock = spawn_waiting(scope, || dictionary.lock_content_timeout(SECOND).is_err());
            clock.advance(YEAR * 100);
            while !(flush.is_finished() && lock.is_finished()) {
                // They may have begun only now.
                clock.advance(YEAR / 1000);
                thread::yield_now();
            }
            assert!(flush.join().unwrap() && lock.join().unwrap());
        });
    });
}

#[test]
fn a_subscriber_asleep_in_a_flush_is_woken_by_the_end() {
    within_a_minute(|| {
        let ends: [fn(Dictionary, &ChangeBuffer<_, _>); 3] = [
            |dictionary, _| drop(dictionary),
            |dictionary, _| assert!(dictionary.freeze()),
            |_, buffer| assert!(buffer.close()),
        ];
        for end in ends {
            let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
            let buffer = dictionary.change_buffer();
            let mut subscription = buffer.subscribe(Duration::ZERO);
            subscription.next().unwrap();
            thread::scope(|scope| {
                let asleep = spawn_waiting(scope, move || subscription.next().is_none());
                end(dictionary, &buffer);
                assert!(asleep.join().unwrap());
            });
        }
    });
}

#[test]
fn a_change_of_a_million_keys_is_one_commit_and_one_delivery() {
    for (keys, history_limit) in [(MILLION, 4096), (MILLION / 5, usize::MAX)] {
        let dictionary: Numbers = StateDictionary::builder().history_limit(history_limit).build();
        let buffer = dictionary.change_buffer();
        assert_eq!(dictionary.update_state(&0, (0..keys).map(|key| (key, key)).collect()).unwrap().get(), 1);
        let delivery = buffer.flush().unwrap();
        assert_eq!((delivery.updates().count(), delivery.revision().get()), (keys as usize, 1));
        assert!(delivery.updates().all(|(key, entry)| *key == **entry && entry.revision() == delivery.revision()));
        dictionary.update_state(&0, Change::from_parts([], 0..keys)).unwrap();
        assert!(dictionary.snapshot().is_empty());
        let (updates, removals) = buffer.flush().unwrap().to_parts();
        assert_eq!((updates.len(), removals.len()), (0, keys as usize));
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
    }
}

#[test]
fn a_change_may_have_a_million_conditions() {
    let dictionary = Numbers::new();
    let change = || (0..MILLION).fold(Change::new(), Change::if_absent).set(MILLION - 1, 1);
    dictionary.update_state(&0, change()).unwrap();
    let Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. }) = dictionary.update_state(&0, change())
    else {
        panic!()
    };
    assert_eq!((failed.len(), failed[0].key), (1, MILLION - 1));
    let others = (0..MILLION).fold(Change::new(), Change::if_present).remove(0_u32);
    let Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. }) = dictionary.update_state(&0, others)
    else {
        panic!()
    };
    assert_eq!(failed.len(), MILLION as usize - 1);
}

#[test]
fn a_hundred_thousand_locks_are_acquired_met_and_released_in_one_step() {
    const LOCKS: u32 = 100_000;
    let (dictionary, request) = (Numbers::new(), acquire_all(0..LOCKS, YEAR));
    let receipt = dictionary.update_locks(&1, request.clone()).unwrap();
    assert_eq!((receipt.granted.len(), dictionary.locks().len()), (LOCKS as usize, LOCKS as usize));
    assert!(receipt.granted.iter().all(|(_, token)| *token == receipt.granted[0].1));
    let refused = dictionary.update_locks(&2, request.clone()).unwrap_err();
    assert!(format!("{refused}").len() < 10_000);
    let Err(UpdateError { change, reason: Refusal::Locked { conflicts }, .. }) =
        dictionary.update_state(&2, (0..=LOCKS).map(|key| (key, key)).collect())
    else {
        panic!()
    };
    assert_eq!(conflicts.len(), LOCKS as usize);
    assert_eq!(dictionary.update_state(&1, change).unwrap().get(), 1);
    assert_eq!(dictionary.update_locks(&1, request).unwrap().renewed.len(), LOCKS as usize);
    let release = (0..LOCKS / 2).fold(LockRequest::new(), LockRequest::release);
    assert_eq!(dictionary.update_locks(&1, release).unwrap().released.len(), LOCKS as usize / 2);
    assert_eq!(dictionary.release_all(&1).len(), LOCKS as usize / 2);
}

#[test]
fn expired_locks_do_not_pile_up_beside_a_hundred_that_have_no_end() {
    let clock = ManualClock::new();
    let dictionary: StateDictionary<Arc<u32>, (), u8> = StateDictionary::builder().clock(&clock).build();
    let endless = (0..100_u32).fold(LockRequest::new(), |request, key| request.acquire(key, None));
    dictionary.update_locks(&1, endless).unwrap();
    let keys: Vec<_> = (100..10_000_u32).map(Arc::new).collect();
    for key in &keys {
        dictionary.update_locks(&2, LockRequest::new().acquire(Arc::clone(key), SECOND)).unwrap();
        clock.advance(SECOND);
    }
    let kept = keys.iter().filter(|key| Arc::strong_count(key) > 1).count();
    assert!(kept <= 200, "{kept} keys are kept");
}

#[test]
fn a_request_that_names_its_keys_a_hundred_times_gets_each_once_with_the_last_lease() {
    let dictionary: Numbers = StateDictionary::new();
    let often = || (0..10_000).map(|call| call % 100);
    let request = often().fold(acquire_all(often(), SECOND), LockRequest::release);
    let request = (0..100_u32).fold(request, |request, key| request.acquire(key, None));
    let receipt = dictionary.update_locks(&1, request.clone()).unwrap();
    assert_eq!(sorted(receipt.granted.iter().map(|(key, _)| *key)), sorted(0..100));
    assert_eq!(sorted(receipt.not_held), sorted(0..100));
    assert!(dictionary.locks().iter().all(|(_, lock)| lock.remaining.is_none()));
    let again = dictionary.update_locks(&1, request).unwrap();
    assert_eq!((again.released.len(), again.granted.len(), again.renewed.len()), (100, 100, 0));
    let receipt = dictionary.update_locks(&1, often().fold(LockRequest::new(), LockRequest::release)).unwrap();
    assert_eq!((receipt.released.len(), receipt.not_held.len()), (100, 0));
    assert!(dictionary.locks().is_empty());
}

#[test]
fn keys_and_values_may_be_of_no_size() {
    let dictionary: StateDictionary<(), (), ()> = StateDictionary::new();
    let buffer = dictionary.change_buffer();
    dictionary.update_locks(&(), LockRequest::new().acquire((), None)).unwrap();
    dictionary.update_state(&(), Change::new().set((), ()).remove(()).set((), ()).if_absent(())).unwrap();
    assert_eq!(parts(&buffer.flush().unwrap()), (vec![((), ())], vec![]));
    dictionary.update_state(&(), Change::new().remove(())).unwrap();
    assert_eq!(parts(&buffer.flush().unwrap()), (vec![], vec![()]));
    assert_eq!(dictionary.clear_locks(), [()]);
}

#[test]
fn keys_of_a_megabyte_that_differ_in_their_last_byte_are_distinguished() {
    let dictionary: StateDictionary<String, u32, String> = StateDictionary::new();
    let buffer = dictionary.change_buffer();
    let key = |last: char| "k".repeat(1 << 20) + &last.to_string();
    dictionary.update_state(&key('t'), Change::new().set(key('a'), 1).set(key('b'), 2).set("", 3)).unwrap();
    dictionary.update_locks(&key('t'), LockRequest::new().acquire(key('a'), None)).unwrap();
    let others = |last| dictionary.update_state(&key('u'), Change::new().remove(key(last)));
    assert!(others('a').is_err() && others('b').is_ok());
    let expected = sorted([(key('a'), 1), (String::new(), 3)]);
    assert!(parts(&buffer.flush().unwrap()) == (expected, vec![]));
    assert!(dictionary.lock_info(&key('a')).is_some_and(|lock| lock.owner == key('t')));
    assert!(dictionary.release_all(&key('t')) == [key('a')]);
}

struct Nested(Option<Box<Nested>>);

impl Nested {
    fn deep() -> Self {
        (0..100_000).fold(Self(None), |inner, _| Self(Some(Box::new(inner))))
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut inner) = next {
            next = inner.0.take();
        }
    }
}

#[test]
fn a_value_nested_100_000_deep_can_be_stored_if_its_type_drops_without_recursion() {
    on_a_small_stack(|| {
        let dictionary = Numbers::new();
        let buffer = dictionary.change_buffer();
        let update = |change| dictionary.update_state(&0, change).unwrap();
        for key in (0..3).chain(0..3_u32) {
            update(Change::new().set(key, Nested::deep()));
        }
        let snapshot = dictionary.snapshot();
        drop(buffer.flush().unwrap());
        update(Change::from_parts([], 0..2));
        drop(buffer.flush().unwrap());
        drop(snapshot);
        let refused = dictionary.update_state(&0, Change::new().set(2_u32, Nested::deep()).if_absent(2_u32));
        assert!(matches!(refused, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
        drop((refused, buffer));
        drop(dictionary);
    });
}

#[test]
fn a_history_of_a_million_commits_is_dropped_on_a_small_stack() {
    on_a_small_stack(|| {
        let dictionary: Numbers = StateDictionary::builder().history_limit(usize::MAX).build();
        let buffer = dictionary.change_buffer();
        for commit in 0..MILLION {
            dictionary.update_state(&0, Change::new().set(commit % 8, commit)).unwrap();
            if commit == 0 {
                buffer.flush().unwrap();
            }
        }
        let delivery = buffer.flush().unwrap();
        assert_eq!((delivery.since().get(), delivery.revision().get(), delivery.count()), (1, u64::from(MILLION), 8));
        drop(dictionary);
        assert_eq!(buffer.flush().unwrap_err(), FlushError);
    });
}

#[test]
fn a_chain_of_many_snapshots_is_dropped_on_a_small_stack_from_either_end() {
    const SNAPSHOTS: u32 = 200_000;
    on_a_small_stack(|| {
        for newest_first in [false, true] {
            let dictionary: Numbers = StateDictionary::builder().history_limit(usize::MAX).build();
            let commit = |commit| {
                dictionary.update_state(&0, Change::new().set(0_u32, commit)).unwrap();
                dictionary.snapshot()
            };
            let mut snapshots: Vec<_> = (0..SNAPSHOTS).map(commit).collect();
            drop(dictionary);
            assert!(snapshots.iter().zip(0..SNAPSHOTS).all(|(snapshot, commit)| snapshot[&0] == commit));
            if newest_first {
                snapshots.reverse();
            }
            drop(snapshots);
        }
    });
}

#[test]
fn whatever_the_history_limit_buffers_that_flush_often_or_seldom_deliver_the_same() {
    for history_limit in [0, 1, usize::MAX] {
        let dictionary: Numbers = StateDictionary::builder().history_limit(history_limit).build();
        let mut followers = [1, 2, 7, 500].map(|period| (period, dictionary.change_buffer(), BTreeMap::new()));
        for commit in 1..=2_000_u32 {
            let removals = (commit % 5 == 0).then_some(commit % 7);
            let change = Change::from_parts((0..commit % 4).map(|key| (commit * key % 11, commit)), removals);
            dictionary.update_state(&0, change).unwrap();
            for (period, buffer, replica) in &mut followers {
                if commit % *period == 0 {
                    let _ = buffer.try_flush().map(|delivery| replay(&delivery, replica));
                    assert_eq!(*replica, common::content(&dictionary.snapshot()));
                }
            }
        }
    }
}

#[test]
fn whatever_the_number_of_shards_locks_are_found_and_all_released() {
    within_a_minute(|| {
        for shards in [0, 1, 3, 100_000] {
            let dictionary: Numbers = StateDictionary::builder().shards(shards).build();
            assert_eq!(dictionary.update_locks(&1, acquire_all(0..500, None)).unwrap().granted.len(), 500);
            assert_eq!(dictionary.update_locks(&2, acquire_all(500..1_000, None)).unwrap().granted.len(), 500);
            assert!((0..1_000).all(|key| dictionary.lock_info(&key).unwrap().owner == if key < 500 { 1 } else { 2 }));
            assert_eq!(dictionary.locks().len(), 1_000);
            let Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) =
                dictionary.update_state(&1, (0..1_001).map(|key| (key, key)).collect())
            else {
                panic!()
            };
            assert_eq!(conflicts.len(), 500);
            assert_eq!((dictionary.release_all(&1).len(), dictionary.clear_locks().len()), (500, 500));
            assert!(dictionary.locks().is_empty());
        }
    });
}
