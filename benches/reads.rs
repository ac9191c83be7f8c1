//! Reading, by one thread with nobody beside it: one key, ten keys of one instant, a snapshot of everything. Letting go of
//! what was read is measured too.

use benches::peers::{self, Floor};
use benches::{Group, Keys, Large, MultiKey, Small, Snapshots, Store, Value};
use benches::{all_stores, stores_of_many_keys, stores_with_snapshots};
use criterion::Criterion;
use std::cell::LazyCell;
use std::hint::black_box;

fn main() {
    peers::check();
    let mut criterion = benches::settings();
    for size in [30, 300, 1_000, 10_000, 100_000] {
        get::<Small>(&mut criterion, size);
    }
    get::<Large>(&mut criterion, 1_000);
    for size in [30, 1_000, 100_000] {
        get_ten(&mut criterion, size);
        snapshot(&mut criterion, size);
    }
    criterion.final_summary();
}

fn get<V: Value>(criterion: &mut Criterion, size: usize) {
    fn of<V: Value, S: Store<V>>(group: &mut Group<'_>, keys: &Keys) {
        let store = LazyCell::new(|| S::with(keys.content()));
        let mut keys = keys.clone();
        group.bench_function(S::NAME, |b| {
            let store = &*store;
            b.iter(|| store.get(black_box(keys.next_key())));
        });
    }
    let (mut group, keys) = (benches::group::<V>(criterion, "get", size), Keys::new(size));
    of::<V, Floor<V>>(&mut group, &keys);
    all_stores!(of::<V>(&mut group, &keys));
}

fn get_ten(criterion: &mut Criterion, size: usize) {
    fn of<V: Value, S: MultiKey<V>>(group: &mut Group<'_>, keys: &Keys) {
        let store = LazyCell::new(|| S::with(keys.content()));
        let (mut keys, mut found) = (keys.clone(), Vec::new());
        group.bench_function(S::NAME, |b| {
            let store = &*store;
            b.iter(|| {
                store.get_all(black_box(keys.next_keys(10)), &mut found);
                found.clear();
            });
        });
    }
    let (mut group, keys) = (benches::group::<Small>(criterion, "get_ten", size), Keys::new(size));
    of::<Small, Floor<Small>>(&mut group, &keys);
    stores_of_many_keys!(of::<Small>(&mut group, &keys));
}

/// The time does not depend on the values, which are not looked at.
fn snapshot(criterion: &mut Criterion, size: usize) {
    fn of<V: Value, S: Snapshots<V>>(group: &mut Group<'_>, keys: &Keys) {
        let store = LazyCell::new(|| S::with(keys.content()));
        group.bench_function(S::NAME, |b| {
            let store = &*store;
            b.iter(|| drop(store.snapshot()));
        });
    }
    let (mut group, keys) = (benches::group::<Small>(criterion, "snapshot", size), Keys::new(size));
    of::<Small, Floor<Small>>(&mut group, &keys);
    stores_with_snapshots!(of::<Small>(&mut group, &keys));
}
