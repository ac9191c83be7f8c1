//! Real threads, all at once. What must hold whatever they do:
//!
//! * every follower's replica ends up equal to the content, and each of its deliveries is one instant of it;
//! * the keys of one change are seen together or not at all;
//! * no increment is lost;
//! * while a key is locked no other client's write to its key is committed, and fencing tokens rise;
//! * revisions have no gap and no duplicate;
//! * nothing of the user's is dropped while an internal lock is held.
//!
//! The threads are real and few, so these find only what is easy to find; the model checkers are for the rest.

mod common;

use common::{content, replay, sorted, within};
use state_dictionary::{
    Change, ChangeBuffer, LockRequest, ManualClock, Refusal, Revision, Snapshot, StateDictionary, UpdateError,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

type Dictionary = StateDictionary<u32, u64, u64>;

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Numbers that look random; the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 16) % u64::from(end)).unwrap_or_default()
    }
}

/// One for each thread, not 0, which stays 0.
fn random(thread: u64) -> Random {
    Random((thread + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

const PAIRS: u32 = 12;

/// A change that leaves every pair of keys `2n`, `2n + 1` equal: both set to one value, or both removed.
fn paired(random: &mut Random, value: u64) -> Change<u32, u64> {
    (0..=random.below(3)).fold(Change::new(), |change, _| {
        let key = random.below(PAIRS) * 2;
        if random.below(3) == 0 {
            change.remove(key).remove(key + 1)
        } else {
            change.set(key, value).set(key + 1, value)
        }
    })
}

fn is_paired(content: &BTreeMap<u32, u64>) -> bool {
    (0..PAIRS).all(|pair| content.get(&(pair * 2)) == content.get(&(pair * 2 + 1)))
}

fn followers_end_up_with_the_content(writers: Range<u64>, followers: u64, commits: u64, history_limit: usize) {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
    let (content, replicas) = within(LIMIT, || {
        thread::scope(|scope| {
            let dictionary = &dictionary;
            let followers: Vec<_> = (0..followers)
                .map(|number| {
                    let buffer = dictionary.change_buffer();
                    scope.spawn(move || {
                        let (mut replica, mut reached) = (BTreeMap::new(), Revision::ZERO);
                        let interval = Duration::from_micros(number * 200);
                        for delivery in buffer.subscribe(interval) {
                            assert_eq!(delivery.since(), reached);
                            reached = delivery.revision();
                            assert!(delivery.updates().all(|(_, entry)| entry.revision() <= reached));
                            assert!(delivery.removals().all(|key| replica.contains_key(key)));
                            replay(&delivery, &mut replica);
                            assert!(is_paired(&replica), "half a change was delivered");
                        }
                        replica
                    })
                })
                .collect();
            let writers: Vec<_> = writers
                .map(|token| {
                    scope.spawn(move || {
                        let mut random = random(token);
                        for value in 0..commits {
                            assert!(dictionary.update_state(&token, paired(&mut random, value)).is_ok());
                            assert!(is_paired(&content(&dictionary.snapshot())), "half a change was visible");
                        }
                    })
                })
                .collect();
            let written: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            dictionary.freeze();
            let replicas: Vec<_> = followers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            assert!(written.iter().all(Result::is_ok));
            (content(&dictionary.snapshot()), replicas)
        })
    });
    for replica in replicas {
        assert_eq!(replica.ok().as_ref(), Some(&content));
    }
}

#[test]
fn followers_of_a_long_history_end_up_with_the_content() {
    followers_end_up_with_the_content(0..3, 3, 1_500, 4096);
}

#[test]
fn followers_that_keep_lagging_behind_the_history_end_up_with_the_content() {
    for history_limit in [0, 1, 9] {
        followers_end_up_with_the_content(0..3, 2, 600, history_limit);
    }
}

#[test]
#[ignore = "takes a minute: for before a release"]
fn many_followers_end_up_with_the_content() {
    for history_limit in [0, 1, 20, 200, 4096] {
        followers_end_up_with_the_content(0..8, 8, 50_000, history_limit);
    }
}

fn no_increment_is_lost(threads: u64, increments: u64) {
    let dictionary = Dictionary::new();
    let increment = |content: &Snapshot<_, _, _>| Change::new().set(0_u32, content.get(&0).copied().unwrap_or(0) + 1);
    let by_revision = |token: &u64| {
        loop {
            let change = match dictionary.get(&0) {
                Some(entry) => Change::new().set(0_u32, *entry + 1).if_revision(0_u32, entry.revision()),
                None => Change::new().set(0_u32, 1).if_absent(0_u32),
            };
            match dictionary.update_state(token, change) {
                Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. }) => {}
                committed => return committed,
            }
        }
    };
    let under_a_guard = |token: &u64| loop {
        if let Ok(mut guard) = dictionary.lock_content() {
            let change = increment(&guard);
            return guard.update_state(token, change);
        }
    };
    within(LIMIT, || {
        thread::scope(|scope| {
            for token in 0..threads {
                let (dictionary, by_revision, under_a_guard) = (&dictionary, &by_revision, &under_a_guard);
                scope.spawn(move || {
                    for turn in 0..increments {
                        let committed = match turn % 8 {
                            0 => under_a_guard(&token),
                            1..4 => by_revision(&token),
                            _ => dictionary.update_state_with(&token, increment),
                        };
                        assert!(committed.is_ok());
                    }
                });
            }
        });
    });
    assert_eq!(dictionary.snapshot()[&0], threads * increments);
    assert_eq!(dictionary.revision().get(), threads * increments);
}

#[test]
fn no_increment_is_lost_by_any_way_to_read_modify_and_write() {
    no_increment_is_lost(3, 2_000);
}

#[test]
#[ignore = "takes a minute: for before a release"]
fn no_increment_of_many_is_lost() {
    no_increment_is_lost(8, 500_000);
}

fn no_client_writes_under_anothers_lock(threads: u64, rounds: u64) {
    let dictionary = Dictionary::new();
    let greatest = AtomicU64::new(0);
    within(LIMIT, || {
        thread::scope(|scope| {
            let turn = |token: u64, random: &mut Random| {
                let (key, other) = (random.below(2), 2 + random.below(2));
                // One that does not ask: refused, or committed before the next grant.
                let _ = dictionary.update_state(&token, Change::new().set(key, u64::MAX).set(other, token));
                let Ok(receipt) = dictionary.update_locks(&token, LockRequest::new().acquire(key, None)) else {
                    return false;
                };
                let [(_, fencing_token)] = receipt.granted[..] else { panic!("held already") };
                let entry = || dictionary.get(&key).map(|entry| (entry.revision(), *entry));
                let granted_on = entry();
                if key == 0 {
                    let before = greatest.fetch_max(fencing_token.get(), Ordering::Relaxed);
                    assert!(before < fencing_token.get(), "a later grant with a smaller token");
                }
                for _ in 0..random.below(4) {
                    thread::yield_now();
                }
                assert_eq!(entry(), granted_on, "another client wrote under this lock");
                let mine = dictionary.update_state(&token, Change::new().set(key, fencing_token.get()));
                let expected = mine.ok().map(|revision| (revision, fencing_token.get()));
                assert!(expected.is_some() && entry() == expected);
                thread::yield_now();
                assert_eq!(entry(), expected, "another client wrote under this lock");
                let released = match random.below(3) {
                    0 => dictionary.release_all(&token),
                    _ => {
                        dictionary.update_locks(&token, LockRequest::new().release(key)).map_or(vec![], |r| r.released)
                    }
                };
                assert_eq!(released, [key]);
                true
            };
            for token in 0..threads {
                scope.spawn(move || {
                    let mut random = random(token);
                    for _ in 0..rounds {
                        while !turn(token, &mut random) {
                            thread::yield_now();
                        }
                    }
                });
            }
        });
    });
    assert!(dictionary.locks().is_empty());
}

#[test]
fn no_client_writes_under_anothers_lock_and_fencing_tokens_rise() {
    no_client_writes_under_anothers_lock(3, 2_000);
}

#[test]
#[ignore = "takes a minute: for before a release"]
fn no_client_of_many_writes_under_anothers_lock() {
    no_client_writes_under_anothers_lock(8, 80_000);
}

fn revisions_have_no_gap(threads: u64, commits: u64) {
    let clock = ManualClock::new();
    let dictionary: Dictionary = StateDictionary::builder().clock(&clock).build();
    let done = AtomicBool::new(false);
    let revisions = within(LIMIT, || {
        thread::scope(|scope| {
            // Grants, renewals, expiries, clears and holds, which replace the root and are no commits.
            let disturbing = scope.spawn(|| {
                let mut random = random(threads);
                while !done.load(Ordering::Relaxed) {
                    let request = LockRequest::new().acquire(random.below(8), Duration::from_secs(1));
                    assert!(dictionary.update_locks(&u64::MAX, request).is_ok());
                    match random.below(8) {
                        0 => drop(dictionary.clear_locks()),
                        1 => drop(dictionary.lock_content()),
                        2 => clock.advance(Duration::from_millis(600)),
                        _ => thread::yield_now(),
                    }
                }
            });
            let dictionary = &dictionary;
            let writers: Vec<_> = (0..threads)
                .map(|token| {
                    scope.spawn(move || {
                        let mut random = random(token);
                        let commit = |value| {
                            let change = Change::new().set(random.below(8), value).set(8 + random.below(8), value);
                            dictionary.update_state(&token, change).ok()
                        };
                        let revisions: Vec<_> = (0..commits).filter_map(commit).collect();
                        assert!(revisions.is_sorted_by(|one, next| one < next));
                        revisions
                    })
                })
                .collect();
            let revisions: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            assert!(disturbing.join().is_ok());
            revisions
        })
    });
    let all = sorted(revisions.into_iter().flat_map(Result::unwrap_or_default));
    assert_eq!(all, (1..=dictionary.revision().get()).map(Revision::from).collect::<Vec<_>>());
    assert!(!all.is_empty());
}

#[test]
fn revisions_have_no_gap_and_no_duplicate() {
    revisions_have_no_gap(3, 5_000);
}

#[test]
#[ignore = "takes a minute: for before a release"]
fn revisions_of_many_have_no_gap_and_no_duplicate() {
    revisions_have_no_gap(8, 800_000);
}

/// A value that uses locks and feed when it is dropped, and so waits for ever if its own thread has one of them locked.
struct Inquisitive(Weak<Inquired>);

struct Inquired {
    dictionary: StateDictionary<u32, Inquisitive, u32>,
    buffer: ChangeBuffer<u32, Inquisitive>,
}

impl Drop for Inquisitive {
    fn drop(&mut self) {
        if let Some(inquired) = self.0.upgrade() {
            for key in 0..4 {
                drop(inquired.dictionary.lock_info(&key));
            }
            let _ended = inquired.buffer.is_closed();
        }
    }
}

fn nothing_is_dropped_with_anything_locked(threads: u32, rounds: u32) {
    let dictionary: StateDictionary<u32, Inquisitive, u32> = StateDictionary::builder().shards(2).build();
    let inquired = Arc::new(Inquired { buffer: dictionary.change_buffer(), dictionary });
    let Inquired { dictionary, buffer } = &*inquired;
    within(LIMIT, || {
        thread::scope(|scope| {
            for thread in 0..threads {
                let value = || Inquisitive(Arc::downgrade(&inquired));
                scope.spawn(move || {
                    for _ in 0..rounds {
                        let requests = [LockRequest::new().acquire(thread, None), LockRequest::new().release(thread)];
                        assert!(requests.map(|request| dictionary.update_locks(&thread, request).is_ok()) == [true; 2]);
                        drop(buffer.try_flush());
                    }
                });
                scope.spawn(move || {
                    for _ in 0..rounds {
                        assert!(dictionary.update_state(&thread, Change::new().set(100 + thread, value())).is_ok());
                    }
                });
            }
        });
    });
}

#[test]
fn nothing_is_dropped_with_a_lock_held() {
    nothing_is_dropped_with_anything_locked(4, 30_000);
}

#[test]
#[ignore = "takes a minute: for before a release"]
fn nothing_of_many_is_dropped_with_a_lock_held() {
    nothing_is_dropped_with_anything_locked(4, 500_000);
}
