//! Memory, counted by the allocator: what a store adds to keys and values that are there anyhow, what a commit of one key
//! allocates, and what is kept for subscribers who never flush again. `--commits N` says after how many commits, by
//! default a million.

use benches::peers::{self, Floor, Origin, Ours};
use benches::{Feed, Keys, Options, Small, Store, Value, all_stores};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let Some(options) = Options::parse() else { return };
    peers::check();
    for size in [1_000, 100_000] {
        println!(
            "\nBytes per key of a store of {size} keys, without key and value; then, per commit of one key, how many"
        );
        println!("allocations there are and of how many bytes, without the change and the value:\n");
        println!("| | bytes per key | allocations | bytes allocated |\n|---|---|---|---|");
        let keys = Keys::new(size);
        store::<Small, Floor<Small>>(&keys);
        all_stores!(store::<Small>(&keys));
    }
    let commits = options.commits(1_000_000);
    println!("\nBytes held after {commits} commits to 1,000 keys, beyond those of the store without a subscriber:\n");
    println!("| | one subscriber that never flushed | one that flushed once | a hundred that flushed once |");
    println!("|---|---|---|---|");
    subscribers::<Ours<Small>>(commits);
    subscribers::<Origin<Small>>(commits);
}

fn store<V: Value, S: Store<V>>(keys: &Keys) {
    /// Enough for what is allocated once in a while.
    const COMMITS: usize = 10_000;
    let content = keys.content::<V>();
    let before = held();
    let store = S::with(content.clone());
    let per_key = per(held() - before, content.len());
    let mut keys = keys.clone();
    let changes: Vec<_> = (0..COMMITS).map(|_| S::one_key(keys.next_pair())).collect();
    let before = ALLOCATOR.stats();
    for change in changes {
        store.commit(change);
    }
    let Stats { allocations, reallocations, bytes_allocated, .. } = ALLOCATOR.stats() - before;
    let allocations = per(allocations + reallocations, COMMITS);
    println!("| `{}` | {per_key:.0} | {allocations:.1} | {:.0} |", S::NAME, per(bytes_allocated, COMMITS));
}

fn subscribers<S: Feed<Small>>(commits: u64) {
    let [none, never, once, hundred] =
        [(0, false), (1, false), (1, true), (100, true)].map(|(count, flush)| kept::<S>(count, flush, commits));
    let [never, once, hundred] = [never, once, hundred].map(|kept| kept.saturating_sub(none));
    println!("| `{}` | {never} | {once} | {hundred} |", S::NAME);
}

/// The bytes held when so many commits are done, and so many subscribers are still there.
fn kept<S: Feed<Small>>(subscribers: usize, flush_once: bool, commits: u64) -> usize {
    let mut keys = Keys::new(1_000);
    let before = held();
    let store = S::with(keys.content());
    let buffers: Vec<_> = (0..subscribers).map(|_| store.buffer()).collect();
    if flush_once {
        for buffer in &buffers {
            S::flush(buffer, |_| ());
        }
    }
    for _ in 0..commits {
        store.commit(S::one_key(keys.next_pair()));
    }
    let kept = held() - before;
    drop(buffers);
    kept
}

/// The bytes that are allocated.
fn held() -> usize {
    let Stats { bytes_allocated, bytes_deallocated, .. } = ALLOCATOR.stats();
    bytes_allocated - bytes_deallocated
}

#[allow(clippy::cast_precision_loss)] // figures to be read
fn per(amount: usize, count: usize) -> f64 {
    amount as f64 / count as f64
}
