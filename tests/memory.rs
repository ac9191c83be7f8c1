//! What is kept in memory, counted byte by byte.
//!
//! `STATE_DICTIONARY_COMMITS` says how many commits a slow buffer sleeps through.

mod common;

use common::{parts, replay};
use parking_lot::Mutex;
use state_dictionary::{Change, ManualClock, StateDictionary, TryFlushError};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::collections::BTreeMap;
use std::env;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test at a time, or each would count the other's memory.
static ALONE: Mutex<()> = Mutex::new(());

/// What the test harness and this crate's dependencies may keep on the side, whatever is measured.
const SLACK: usize = 16 << 10;
/// What the history keeps of a commit of one small key: a record, counted, and in it a list of one.
const RECORD: usize = 72;

type Dictionary = StateDictionary<u32, u64, u8>;

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn held_since(before: usize) -> usize {
    held().saturating_sub(before)
}

#[test]
fn buffers_that_never_flush_keep_one_old_content_and_the_history_at_most_twice_its_limit() {
    const KEYS: u32 = 100;
    const HISTORY_LIMIT: usize = 500;
    let commits = env::var("STATE_DICTIONARY_COMMITS").map_or(200_000, |commits| commits.parse().unwrap());
    let _alone = ALONE.lock();
    let start = held();
    let dictionary: Dictionary =
        StateDictionary::builder().history_limit(HISTORY_LIMIT).content((0..KEYS).map(|key| (key, 0))).build();
    let content = held_since(start);
    // The content delivered last, the present one, and the spare root's.
    let bound = 3 * content + 2 * HISTORY_LIMIT * RECORD + SLACK;

    let (never, once) = (dictionary.change_buffer(), dictionary.change_buffer());
    let mut replica = BTreeMap::new();
    let mut most = 0;
    for commit in 0..commits {
        let key = fastrand::u32(..KEYS);
        let change = if fastrand::u8(..) == 0 { Change::new().remove(key) } else { Change::new().set(key, commit) };
        dictionary.update_state(&0, change).unwrap();
        if commit == commits / 2 {
            // The history is at its longest, and must not be kept with the content.
            replay(&once.flush().unwrap(), &mut replica);
        }
        if commit % 101 == 0 {
            most = most.max(held_since(start));
        }
    }
    println!("{commits} commits over {KEYS} keys: at most {most} bytes, {content} at first, {bound} allowed");
    assert!(most <= bound);

    let everything = never.flush().unwrap();
    replay(&once.flush().unwrap(), &mut replica);
    assert_eq!(replica, common::content(&dictionary.snapshot()));
    assert_eq!(replica.len(), everything.updates().count());
    drop((dictionary, never, once, replica, everything));
    let left = held_since(start);
    println!("{left} bytes when everything is dropped");
    assert!(left <= SLACK);
}

/// How many allocations so many commits make, each with what `beside` does.
fn allocations<B>(dictionary: &Dictionary, beside: impl Fn() -> B) -> usize {
    let before = ALLOCATOR.stats().allocations;
    for key in 0..COMMITS {
        let _beside = beside();
        assert!(dictionary.update_state(&0, Change::new().set(key % 1_000, 1)).is_ok());
    }
    ALLOCATOR.stats().allocations - before
}

const COMMITS: u32 = 1_000;
/// The value, and the record in the history.
const IN_PLACE: usize = 2 * COMMITS as usize;
/// What the test harness may allocate meanwhile.
const A_FEW: usize = 20;

#[test]
fn commits_are_made_in_place_while_the_content_has_no_other_owner() {
    let _alone = ALONE.lock();
    let dictionary: Dictionary = StateDictionary::builder().content((0..1_000).map(|key| (key, 0))).build();
    let nothing = || ();
    // The two trees have still much in common at first.
    let _ = [allocations(&dictionary, nothing), allocations(&dictionary, nothing)];
    assert!(allocations(&dictionary, nothing) <= IN_PLACE + A_FEW);
    let copied = allocations(&dictionary, || dictionary.snapshot());
    assert!(copied > IN_PLACE + COMMITS as usize, "each copies a path: {copied}");
    let _ = [allocations(&dictionary, nothing), allocations(&dictionary, nothing)];
    assert!(allocations(&dictionary, nothing) <= IN_PLACE + A_FEW, "and then no more");
}

#[test]
fn what_only_looks_allocates_nothing() {
    let _alone = ALONE.lock();
    let dictionary: Dictionary = StateDictionary::builder().content((0..1_000).map(|key| (key, 0))).build();
    let buffer = dictionary.change_buffer();
    assert!(buffer.flush().is_ok());
    let before = ALLOCATOR.stats().allocations;
    for key in 0..COMMITS {
        let (entry, snapshot, another) = (dictionary.get(&key), dictionary.snapshot(), dictionary.change_buffer());
        assert!(entry.is_some_and(|entry| Some(&*entry) == snapshot.get(&key)));
        assert!(another.try_flush().is_ok_and(|delivery| delivery.updates().count() == 1_000));
        assert!(buffer.try_flush().is_err());
        assert!(dictionary.lock_info(&key).is_none() && !dictionary.is_frozen() && dictionary.revision().get() == 1);
    }
    // A buffer that is counted has its cursor where the counters find it.
    let made = if cfg!(feature = "counters") { COMMITS as usize } else { 0 };
    assert!(ALLOCATOR.stats().allocations - before <= made + A_FEW);
}

#[test]
fn with_very_many_keys_commits_copy_paths_so_that_dropping_a_snapshot_stays_cheap() {
    let _alone = ALONE.lock();
    let dictionary: Dictionary = StateDictionary::builder().content((0..140_000).map(|key| (key, 0))).build();
    let _ = [allocations(&dictionary, || ()), allocations(&dictionary, || ())];
    assert!(allocations(&dictionary, || ()) > IN_PLACE + COMMITS as usize);
}

#[test]
fn ten_thousand_idle_buffers_are_small_and_all_deliver_the_same() {
    const BUFFERS: usize = 10_000;
    /// Of one buffer, whatever it has delivered.
    const BOUND: usize = 256;
    let _alone = ALONE.lock();
    let dictionary: Dictionary = StateDictionary::builder().content((0..10).map(|key| (key, 0))).build();
    let start = held();
    let buffers: Vec<_> = (0..BUFFERS).map(|_| dictionary.change_buffer()).collect();
    let made = held_since(start);

    let flush_all = || {
        let mut deliveries = buffers.iter().map(|buffer| {
            let delivery = buffer.try_flush().unwrap();
            (delivery.since(), delivery.revision(), parts(&delivery))
        });
        let first = deliveries.next().unwrap();
        assert!(deliveries.all(|delivery| delivery == first));
        first.2
    };
    assert_eq!(flush_all(), ((0..10).map(|key| (key, 0)).collect(), vec![]));
    let change = (0..9).map(|key| (key, 1)).collect::<Change<_, _>>().remove(9_u32);
    assert_eq!(dictionary.update_state(&0, change).unwrap().get(), 2);
    let behind = held_since(start);
    assert_eq!(flush_all(), ((0..9).map(|key| (key, 1)).collect(), vec![9]));
    assert!(buffers.iter().all(|buffer| buffer.try_flush().unwrap_err() == TryFlushError::Empty));
    let idle = held_since(start);

    let [made, behind, idle] = [made, behind, idle].map(|bytes| bytes / BUFFERS);
    println!("{BUFFERS} buffers: {made} bytes each when made, {behind} when behind, {idle} when idle, {BOUND} allowed");
    assert!(made <= BOUND && behind <= BOUND && idle <= BOUND);
    drop(buffers);
    let left = held_since(start);
    println!("{left} bytes when they are dropped");
    assert!(left <= SLACK);
}

#[test]
fn a_manual_clock_keeps_nothing_of_dictionaries_that_are_gone() {
    let _alone = ALONE.lock();
    let clock = ManualClock::new();
    let start = held();
    for _ in 0..10_000 {
        let dictionary: Dictionary = StateDictionary::builder().clock(&clock).build();
        drop(dictionary);
    }
    let left = held_since(start);
    println!("{left} bytes after 10000 dictionaries on one clock");
    assert!(left <= SLACK);
}
