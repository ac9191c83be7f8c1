//! How criterion measures.

use crate::Value;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use std::time::Duration;

pub type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// Short times, since there is much to compare; the command line can ask for longer ones.
pub fn settings() -> Criterion {
    let times = |criterion: Criterion| {
        criterion.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(700))
    };
    times(Criterion::default()).sample_size(15).nresamples(10_000).without_plots().configure_from_args()
}

/// The stores at one job, on so many keys. `JOB/VALUES/KEYS` is what `src/bin/plots.rs` looks for.
pub fn group<'c, V: Value>(criterion: &'c mut Criterion, job: &str, keys: usize) -> Group<'c> {
    criterion.benchmark_group(format!("{job}/{}/{keys}", V::NAME))
}
