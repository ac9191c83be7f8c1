//! Reading: a snapshot of everything, and one key without a snapshot. Dropping what was read is measured too.

mod common;

use common::{Keys, SIZES};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("snapshot");
    for size in SIZES {
        let dictionary = Keys::new(size).dictionary();
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| dictionary.snapshot()));
    }
    group.finish();
}

fn get(c: &mut Criterion) {
    let mut group = c.benchmark_group("get");
    for size in SIZES {
        let mut keys = Keys::new(size);
        let dictionary = keys.dictionary();
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| dictionary.get(black_box(&**keys.next())));
        });
    }
    group.finish();
}

criterion_group!(reads, snapshot, get);
criterion_main!(reads);
