//! Is every operation linearizable? Random programs of several threads, over all operations, run on shuttle's primitives
//! under random schedules; of each execution the calls and results are recorded, and an order is looked for that explains
//! them all by a plain sequential model.
//!
//! Runs only with `--cfg shuttle` and the feature `shuttle`: see `.ci/shuttle`, which also says how to run a failing batch
//! again.
#![cfg(all(shuttle, feature = "shuttle"))]
#![allow(clippy::unwrap_used)]

mod batch;
mod check;
mod execute;
mod generator;
mod history;
mod model;
mod program;
mod report;
mod tally;

use batch::{BATCH, Batch, Scheduler};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, thread};
use tally::Tally;

fn from_env<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Checks the histories of one batch. The report of the first that is wrong, if any is.
fn check_batch(batch: Batch, histories: usize, tally: &mut Tally) -> Result<(), String> {
    for (index, history) in batch.run(histories).iter().enumerate() {
        let verdict = history.check();
        if history.panic.is_some() || !verdict.linearizable {
            return Err(report::report(batch, index, history));
        }
        tally.count(history, verdict.visited);
    }
    Ok(())
}

#[test]
fn every_history_is_linearizable() {
    if let Some(batch) = from_env::<Batch>("LINEARIZABILITY_REPLAY") {
        check_batch(batch, BATCH, &mut Tally::default()).unwrap_or_else(|report| panic!("{report}"));
        return;
    }
    let batches = from_env::<usize>("LINEARIZABILITY_HISTORIES").unwrap_or(20_000).div_ceil(BATCH);
    let seed = from_env("LINEARIZABILITY_SEED").unwrap_or(0);

    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(None);
    let total = Mutex::new(Tally::default());
    let work = || {
        let mut tally = Tally::default();
        while wrong.lock().is_none() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= batches {
                break;
            }
            let scheduler = if number % 2 == 0 { Scheduler::Random } else { Scheduler::Pct };
            let batch = Batch { scheduler, seed: seed + number as u64 };
            if let Err(report) = check_batch(batch, BATCH, &mut tally) {
                let before = number * BATCH;
                wrong.lock().get_or_insert_with(|| format!("After about {before} histories, {report}"));
            }
        }
        total.lock().add(tally);
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });

    if let Some(report) = wrong.into_inner() {
        eprintln!("{report}");
        panic!("a history is not linearizable");
    }
    let total = total.into_inner();
    println!("{total}");
    let seconds = began.elapsed().as_secs().max(1);
    println!("{seconds} s, {} histories per second", total.histories as u64 / seconds);
    let missing = total.missing();
    assert!(missing.is_empty(), "too little happened:\n{}", missing.join("\n"));
}

#[test]
fn a_batch_is_a_function_of_its_seed() {
    for scheduler in [Scheduler::Random, Scheduler::Pct] {
        let histories = |seed| Batch { scheduler, seed }.run(200);
        assert!(histories(7) == histories(7), "{scheduler:?}: the same seed gave different histories");
        assert!(histories(7) != histories(8), "{scheduler:?}: the seed has no effect");
    }
}
