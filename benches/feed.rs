//! Flushing a buffer that has exactly ten keys pending: from the trail, which is the rule, and by comparing contents, which
//! is how a buffer that has fallen off the trail catches up.

#![allow(clippy::unwrap_used)]

mod common;

use common::{ALICE, Dictionary, Keys, SIZES};
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement};

const PENDING: usize = 10;

fn flush(c: &mut Criterion) {
    let mut group = c.benchmark_group("flush/ten_pending");
    for size in SIZES {
        let keys = Keys::new(size);
        let dictionary = keys.dictionary();
        measure(&mut group, keys, &dictionary);
    }
    group.finish();
}

fn flush_off_the_trail(c: &mut Criterion) {
    let mut group = c.benchmark_group("flush/ten_pending_off_the_trail");
    for size in SIZES {
        let keys = Keys::new(size);
        let dictionary = keys.builder().trail_limit(0).build();
        measure(&mut group, keys, &dictionary);
    }
    group.finish();
}

fn measure(group: &mut BenchmarkGroup<'_, measurement::WallTime>, mut keys: Keys, dictionary: &Dictionary) {
    let buffer = dictionary.change_buffer();
    assert_eq!(buffer.try_flush().unwrap().len(), dictionary.snapshot().len());
    let mut write_ten = || dictionary.update_state(&ALICE, keys.change(PENDING)).unwrap();
    write_ten();
    assert_eq!(buffer.try_flush().unwrap().len(), PENDING);
    // One input at a time: a second commit would be merged with the first. So the clock is read around every flush, which
    // adds some tens of nanoseconds. Criterion drops the delivery after the clock has stopped.
    group.bench_function(BenchmarkId::from_parameter(dictionary.snapshot().len()), |b| {
        b.iter_batched(&mut write_ten, |_| buffer.try_flush().unwrap(), BatchSize::PerIteration);
    });
}

criterion_group!(feed, flush, flush_off_the_trail);
criterion_main!(feed);
