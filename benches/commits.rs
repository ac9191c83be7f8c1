//! Committing, by one writer with nobody in its way: one key, and ten keys as one change. Making the change is not
//! measured; dropping the values that it replaces is.

#![allow(clippy::unwrap_used)]

mod common;

use common::{ALICE, BATCH, Keys, SIZES};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn commit(c: &mut Criterion) {
    for (name, touched) in [("commit/one_key", 1), ("commit/ten_keys", 10)] {
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let mut keys = Keys::new(size);
            let dictionary = keys.dictionary();
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter_batched(
                    || keys.change(touched),
                    |change| dictionary.update_state(&ALICE, change).unwrap(),
                    BATCH,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(commits, commit);
criterion_main!(commits);
