//! Locks, by one client with nobody in its way: taking one and giving it back, renewing its lease, and committing to a key
//! one has locked.

#![allow(clippy::unwrap_used)]

mod common;

use common::{ALICE, BATCH, Keys, SIZES};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use state_dictionary::{Change, LockRequest};
use std::sync::Arc;
use std::time::Duration;

const LEASE: Duration = Duration::from_mins(1);

fn lock_and_release(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock/acquire_and_release");
    for size in SIZES {
        let mut keys = Keys::new(size);
        let dictionary = keys.dictionary();
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched(
                || {
                    let key = keys.next();
                    let acquire = LockRequest::new().acquire(Arc::clone(key), LEASE);
                    (acquire, LockRequest::new().release(Arc::clone(key)))
                },
                |(acquire, release)| {
                    let granted = dictionary.update_locks(&ALICE, acquire).unwrap();
                    (granted, dictionary.update_locks(&ALICE, release).unwrap())
                },
                BATCH,
            );
        });
    }
    group.finish();
}

fn renew(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock/renew");
    for size in SIZES {
        let mut keys = Keys::new(size);
        let dictionary = keys.dictionary();
        let request = LockRequest::new().acquire(Arc::clone(keys.next()), LEASE);
        assert_eq!(dictionary.update_locks(&ALICE, request.clone()).unwrap().granted.len(), 1);
        assert_eq!(dictionary.update_locks(&ALICE, request.clone()).unwrap().renewed.len(), 1);
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched(|| request.clone(), |request| dictionary.update_locks(&ALICE, request).unwrap(), BATCH);
        });
    }
    group.finish();
}

fn commit_locked(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock/commit_to_own_key");
    for size in SIZES {
        let mut keys = Keys::new(size);
        let dictionary = keys.dictionary();
        let key = Arc::clone(keys.next());
        dictionary.update_locks(&ALICE, LockRequest::new().acquire(Arc::clone(&key), None)).unwrap();
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched(
                || Change::new().set(Arc::clone(&key), [0; 200]),
                |change| dictionary.update_state(&ALICE, change).unwrap(),
                BATCH,
            );
        });
    }
    group.finish();
}

criterion_group!(locks, lock_and_release, renew, commit_locked);
criterion_main!(locks);
