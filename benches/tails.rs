//! The slowest commits where many threads commit, side by side with a map behind a mutex; and commits beside readers of
//! snapshots, side by side with a map in an `ArcSwap`.
//!
//! `--seconds N` says how long each store is measured in each table, by default two seconds, in slices of a tenth of a second.

use benches::peers::{self, ArcSwapIm, MutexIm, Ours};
use benches::tails::{Contender, Crew, compare};
use benches::{Keys, Options};
use std::time::Duration;

/// How many keys there are.
const SIZE: usize = 1_000;
const SLICE: Duration = Duration::from_millis(100);

fn main() {
    let Some(options) = Options::parse() else { return };
    peers::check();
    let keys = Keys::new(SIZE);
    let slice = SLICE.min(options.time(SLICE));
    let rounds =
        usize::try_from(options.time(Duration::from_secs(2)).as_nanos() / slice.as_nanos()).unwrap_or(1).max(1);
    let contenders = [Contender::new::<Ours<_>>(&keys), Contender::new::<MutexIm<_>>(&keys)];
    for writers in [1, 2, 4, 8, 16] {
        compare(&contenders, Crew { writers, readers: 0 }, rounds, slice);
    }
    let contenders = [Contender::new::<Ours<_>>(&keys), Contender::new::<ArcSwapIm<_>>(&keys)];
    for (writers, readers) in [(2, 1), (4, 4)] {
        compare(&contenders, Crew { writers, readers }, rounds, slice);
    }
}
