//! Two workers share a job. The owner of the lease on it works; if that worker falls silent, the other takes over.
//!
//! This is an example of a program that embeds `state-dictionary` and is model checked: see `tests/loom.rs`.

use state_dictionary::{Change, LockRequest, StateDictionary, Versioned};
use std::time::Duration;

/// What the workers share: a job's progress under its name.
pub type Jobs = StateDictionary<&'static str, u32, &'static str>;

/// The job.
pub const JOB: &str = "job";

/// For how long a worker may be silent.
pub const LEASE: Duration = Duration::from_secs(1);

/// Records a worker's progress, if the job is still its own.
pub type Record = fn(&Jobs, &'static str, Option<&Versioned<u32>>) -> bool;

/// Locks the job if it is free, does one step of it, records it and releases the job. Returns whether the step was recorded.
#[must_use]
pub fn step(jobs: &Jobs, worker: &'static str, record: Record) -> bool {
    if jobs.update_locks(&worker, LockRequest::new().acquire(JOB, LEASE)).is_err() {
        return false;
    }
    let before = jobs.get(JOB);
    // Here the work is done, for so long that the lease may end.
    let recorded = record(jobs, worker, before.as_ref());
    jobs.release_all(&worker);
    recorded
}

/// Renews the lease. Returns whether it had not expired: if it had, the lock is granted anew, but the other worker may have
/// had the job in between.
#[must_use]
pub fn heartbeat(jobs: &Jobs, worker: &'static str) -> bool {
    let receipt = jobs.update_locks(&worker, LockRequest::new().acquire(JOB, LEASE));
    receipt.is_ok_and(|receipt| !receipt.renewed.is_empty())
}

/// Records the step if the job is as the worker found it.
#[must_use]
pub fn record(jobs: &Jobs, worker: &'static str, before: Option<&Versioned<u32>>) -> bool {
    let change = match before {
        Some(before) => Change::new().set(JOB, **before + 1).if_revision(JOB, before.revision()),
        None => Change::new().set(JOB, 1).if_absent(JOB),
    };
    heartbeat(jobs, worker) && jobs.update_state(&worker, change).is_ok()
}

/// Records the step after a heartbeat, without a condition. This is wrong: the lease can end between the heartbeat and the
/// write, the other worker can do its step and release the job, and then nothing refuses this write.
#[must_use]
pub fn record_trusting_the_heartbeat(jobs: &Jobs, worker: &'static str, before: Option<&Versioned<u32>>) -> bool {
    let progress = before.map_or(0, |before| **before);
    heartbeat(jobs, worker) && jobs.update_state(&worker, Change::new().set(JOB, progress + 1)).is_ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn steps_add_up() {
        let jobs = Jobs::new();
        assert!(step(&jobs, "alice", record) && step(&jobs, "bob", record));
        assert_eq!(jobs.snapshot()[JOB], 2);
        assert!(jobs.update_locks(&"alice", LockRequest::new().acquire(JOB, LEASE)).is_ok());
        assert!(!step(&jobs, "bob", record));
    }
}
