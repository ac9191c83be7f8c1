//! Model checks the worker, dictionary and all:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p model-checked-worker
//! ```
#![cfg(loom)]

use model_checked_worker::{JOB, Jobs, LEASE, Record, record, record_trusting_the_heartbeat, step};
use state_dictionary::{ManualClock, StateDictionary};
use std::panic;
use std::sync::Arc;

/// Two workers each try a step, while the time of one lease passes at any moment. Every step that a worker believes it has
/// done must be in the progress.
fn no_step_is_lost(record: Record) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        // Under loom time passes only when a thread moves it; a wait with a time limit needs a manual clock too.
        let clock = ManualClock::new();
        let jobs: Jobs = StateDictionary::builder().clock(&clock).build();
        let jobs = Arc::new(jobs);
        let workers = ["alice", "bob"].map(|worker| {
            let jobs = Arc::clone(&jobs);
            loom::thread::spawn(move || step(&jobs, worker, record))
        });
        let time = loom::thread::spawn(move || clock.advance(LEASE));
        let done = workers.map(|worker| worker.join().is_ok_and(|done| done));
        assert!(time.join().is_ok());
        let believed = u32::from(done[0]) + u32::from(done[1]);
        assert_eq!(jobs.get(JOB).map_or(0, |progress| *progress), believed, "a step was lost");
    });
}

#[test]
fn a_worker_that_records_on_a_condition_loses_no_step() {
    no_step_is_lost(record);
}

#[test]
fn loom_finds_the_step_that_is_lost_by_trusting_the_heartbeat() {
    let found = panic::catch_unwind(|| no_step_is_lost(record_trusting_the_heartbeat));
    let message = found.expect_err("the bug was not found").downcast::<String>();
    assert!(message.is_ok_and(|message| message.contains("a step was lost")));
}
