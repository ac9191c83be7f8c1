//! Long histories of real threads, checked exactly.
//!
//! Every operation that changes or shows the content returns its revision, so no order has to be searched for: the
//! commits are replayed in the order of their revisions, and everything else that was seen is looked for where it must
//! have been. Checked are:
//!
//! * revisions have no gap and no duplicate, and follow real time, as fencing tokens do;
//! * snapshots, guards and single reads show the content of one revision, of the time of the call;
//! * what a change was based on or conditional upon was so directly before it; a condition that failed did not hold;
//! * the deliveries of a buffer join, and each has exactly what was pending at the revision it ends with;
//! * while a lock certainly exists, no other client has it and no other client's change of its key is committed; a
//!   refused call meets a lock.
//!
//! The run is cut into rounds that are checked one after the other, so that memory stays small however long it is.
#![allow(clippy::unwrap_used)]

mod client;
mod locks;
mod replay;

use client::Client;
use replay::Model;
use state_dictionary::{ChangeBuffer, Condition, Delivery, FlushError, ManualClock, Snapshot, StateDictionary};
use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{env, thread};

type Dictionary = StateDictionary<u8, u64, usize>;
type Buffer = ChangeBuffer<u8, u64, RandomState>;
/// Of a key: its value and the revision that set it.
type Versioned = Option<(u64, u64)>;
/// Of a change: that a key is there, is not, or is at a revision.
type Given = (u8, Condition);

const THREADS: usize = 4;
const KEYS: u8 = 24;
/// How many operations of each thread are checked at once.
const ROUND: usize = 25_000;
/// Small, so that buffers lag behind it.
const HISTORY_LIMIT: usize = 16;

#[derive(Debug)]
struct Record {
    began: u64,
    ended: u64,
    seen: Seen,
}

/// Lists are sorted.
#[derive(Debug)]
enum Seen {
    Committed { revision: u64, change: Vec<(u8, Option<u64>)>, given: Option<Given> },
    LockedByOthers(Vec<(u8, usize)>),
    ConditionFailed { given: Given, found: Option<u64> },
    Content { revision: u64, fingerprint: u64 },
    Versioned(u8, Versioned),
    Delivered { buffer: usize, from: u64, to: u64, updates: Vec<(u8, u64, u64)>, removals: Vec<u8> },
    NothingPending { buffer: usize },
    Locks { acquired: Vec<(u8, bool)>, granted: Vec<u64>, released: Vec<u8> },
    ReleasedAll,
    ClearedAll,
    Ticked,
}

impl Seen {
    fn name(&self) -> &'static str {
        match self {
            Self::Committed { given: None, .. } => "committed",
            Self::Committed { given: Some(_), .. } => "committed on a condition",
            Self::LockedByOthers(_) => "locked by others",
            Self::ConditionFailed { .. } => "condition failed",
            Self::Content { .. } => "content",
            Self::Versioned(..) => "entry",
            Self::Delivered { from, to, .. } if to - from > 2 * HISTORY_LIMIT as u64 => "delivered beyond the history",
            Self::Delivered { .. } => "delivered",
            Self::NothingPending { .. } => "nothing pending",
            Self::Locks { granted, .. } if granted.is_empty() => "no locks granted",
            Self::Locks { .. } => "locks granted",
            Self::ReleasedAll => "all of one's locks released",
            Self::ClearedAll => "all locks cleared",
            Self::Ticked => "clock moved",
        }
    }

    /// The revision at which this was so, and whether it made it.
    fn revision(&self) -> Option<(u64, bool)> {
        match self {
            Self::Committed { revision, .. } => Some((*revision, true)),
            Self::Content { revision, .. } | Self::Delivered { to: revision, .. } => Some((*revision, false)),
            _ => None,
        }
    }
}

fn fingerprint(entries: impl Iterator<Item = (u8, u64, u64)>) -> u64 {
    let one = |(key, value, revision): (u8, u64, u64)| {
        let mixed =
            (value ^ revision.rotate_left(24) ^ u64::from(key).rotate_left(56)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    };
    entries.map(one).fold(0, u64::wrapping_add)
}

fn content(snapshot: &Snapshot<u8, u64, RandomState>) -> Seen {
    let entries = snapshot.entries().map(|(key, entry)| (*key, **entry, entry.revision().get()));
    Seen::Content { revision: snapshot.revision().get(), fingerprint: fingerprint(entries) }
}

fn delivered(buffer: usize, delivery: &Delivery<u8, u64>) -> Seen {
    let (from, to) = (delivery.since().get(), delivery.revision().get());
    let mut updates: Vec<_> = delivery.updates().map(|(key, entry)| (*key, **entry, entry.revision().get())).collect();
    updates.sort_unstable();
    let mut removals = delivery.removals().copied().collect::<Vec<_>>();
    removals.sort_unstable();
    Seen::Delivered { buffer, from, to, updates, removals }
}

#[test]
fn a_long_history_replays() {
    let operations = env::var("LONG_HISTORY_OPERATIONS").map_or(200_000, |text| text.parse().unwrap());
    let began = Instant::now();
    let clock = ManualClock::new();
    let dictionary: Dictionary =
        StateDictionary::<u8, u64, _>::builder().clock(&clock).history_limit(HISTORY_LIMIT).build();
    let buffers: Vec<_> = (0..=THREADS).map(|_| dictionary.change_buffer()).collect();
    let mut model = Model::new(buffers.len());
    let time = AtomicU64::new(1);
    let (mut done, mut happened) = (0, BTreeMap::<_, usize>::new());
    let together = Barrier::new(THREADS);
    for round in 0u64.. {
        if done >= operations {
            break;
        }
        let start = time.load(Ordering::Relaxed);
        let threads: Vec<Vec<Record>> = thread::scope(|scope| {
            let run = |token: usize| {
                let rng = fastrand::Rng::with_seed(round * THREADS as u64 + token as u64);
                let (dictionary, buffers, clock, time) = (&dictionary, &buffers[..], &clock, &time);
                let records = Vec::with_capacity(ROUND);
                let mut client = Client { token, dictionary, buffers, clock, time, rng, last: None, records };
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    while client.records.len() < ROUND {
                        client.operate();
                    }
                    client.records
                })
            };
            let running: Vec<_> = (0..THREADS).map(run).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        threads.iter().flatten().for_each(|record| *happened.entry(record.seen.name()).or_default() += 1);
        done += threads.iter().map(Vec::len).sum::<usize>();
        locks::check_locks(&threads);
        model.replay(start, &threads);
        dictionary.clear_locks();
    }

    dictionary.freeze();
    for (number, buffer) in buffers.iter().enumerate() {
        if model.pending(number) != (Vec::new(), Vec::new()) {
            assert!(model.explains(&delivered(number, &buffer.flush().unwrap())), "the last delivery is incomplete");
        }
        assert_eq!(buffer.flush().unwrap_err(), FlushError);
    }
    assert_eq!(dictionary.revision().get(), model.revision);
    println!("{done} operations, {} commits in {:.1} s", model.revision, began.elapsed().as_secs_f64());
    for (what, times) in &happened {
        println!("{times:>10}  {what}");
    }
    assert!(happened.len() == 14 && happened.values().all(|times| *times > operations / 5_000), "too little happened");
}
