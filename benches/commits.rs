//! Committing, by one thread with nobody beside it: changes of 1, 5 and 100 keys, with and without locks outstanding; and
//! taking, renewing and giving back a lock. Making a change is not measured; dropping the values that it replaces is.

use benches::peers::{self, Floor, Origin, Ours, WRITER};
use benches::{Group, Keys, Large, Locks, MultiKey, Small, Store, Value};
use benches::{all_stores, stores_of_many_keys};
use criterion::{BatchSize, Criterion};
use std::cell::LazyCell;
use std::sync::Arc;

/// How many inputs are prepared at once: enough that reading the clock does not count, few enough to stay in the cache.
const BATCH: BatchSize = BatchSize::NumIterations(100);

fn main() {
    peers::check();
    let mut criterion = benches::settings();
    for size in [30, 300, 1_000, 10_000, 100_000] {
        one_key::<Small>(&mut criterion, size);
    }
    one_key::<Large>(&mut criterion, 300);
    for (changed, size) in [(5, 30), (5, 300), (5, 10_000), (100, 1_000), (100, 10_000)] {
        many_keys(&mut criterion, changed, size);
    }
    beside_locks(&mut criterion, 1_000);
    locks(&mut criterion, 1_000);
    criterion.final_summary();
}

fn one_key<V: Value>(criterion: &mut Criterion, size: usize) {
    fn of<V: Value, S: Store<V>>(group: &mut Group<'_>, keys: &Keys) {
        let (store, mut keys) = (LazyCell::new(|| S::with(keys.content())), keys.clone());
        group.bench_function(S::NAME, |b| {
            let store = &*store;
            b.iter_batched(|| S::one_key(keys.next_pair()), |change| store.commit(change), BATCH);
        });
    }
    let (mut group, keys) = (benches::group::<V>(criterion, "commit_1", size), Keys::new(size));
    of::<V, Floor<V>>(&mut group, &keys);
    all_stores!(of::<V>(&mut group, &keys));
}

fn many_keys(criterion: &mut Criterion, changed: usize, size: usize) {
    fn of<V: Value, S: MultiKey<V>>(group: &mut Group<'_>, keys: &Keys, changed: usize) {
        let (store, mut keys) = (LazyCell::new(|| S::with(keys.content())), keys.clone());
        group.bench_function(S::NAME, |b| {
            let store = &*store;
            let batch = BatchSize::NumIterations(if changed < 100 { 100 } else { 10 });
            b.iter_batched(|| S::many_keys(keys.next_pairs(changed)), |change| store.commit(change), batch);
        });
    }
    let (mut group, keys) = (benches::group::<Small>(criterion, &format!("commit_{changed}"), size), Keys::new(size));
    of::<Small, Floor<Small>>(&mut group, &keys, changed);
    stores_of_many_keys!(of::<Small>(&mut group, &keys, changed));
}

/// Commits of one key, while somebody else has locks on 1,000 other keys, and while the writer has the lock on that key.
fn beside_locks(criterion: &mut Criterion, size: usize) {
    fn beside<S: Locks<Small>>(group: &mut Group<'_>, keys: &Keys) {
        let store = LazyCell::new(|| {
            let store = S::with(keys.content());
            assert!((0..1_000).all(|number| store.ask(2, S::acquire(format!("object.{number}").into()))));
            store
        });
        let mut keys = keys.clone();
        group.bench_function(S::NAME, |b| {
            let store = &*store;
            b.iter_batched(|| S::one_key(keys.next_pair()), |change| store.commit(change), BATCH);
        });
    }
    fn own<S: Locks<Small>>(group: &mut Group<'_>, keys: &Keys) {
        let mut keys = keys.clone();
        let (key, value) = keys.next_pair::<Small>();
        let store = S::with(keys.content());
        assert!(store.ask(WRITER, S::acquire(Arc::clone(&key))));
        group.bench_function(S::NAME, |b| {
            let change = || S::one_key((Arc::clone(&key), Arc::new(*value)));
            b.iter_batched(change, |change| store.commit(change), BATCH);
        });
    }
    let keys = Keys::new(size);
    let mut group = benches::group::<Small>(criterion, "commit_1_beside_1000_locks", size);
    beside::<Ours<Small>>(&mut group, &keys);
    beside::<Origin<Small>>(&mut group, &keys);
    drop(group);
    let mut group = benches::group::<Small>(criterion, "commit_1_to_own_lock", size);
    own::<Ours<Small>>(&mut group, &keys);
    own::<Origin<Small>>(&mut group, &keys);
}

/// A lock is taken, renewed and given back; and a renewal alone.
fn locks(criterion: &mut Criterion, size: usize) {
    fn all_three<S: Locks<Small>>(group: &mut Group<'_>, keys: &Keys) {
        let (store, mut keys) = (S::with(keys.content()), keys.clone());
        group.bench_function(S::NAME, |b| {
            let requests = || {
                let key = keys.next_key();
                [S::acquire(Arc::clone(key)), S::acquire(Arc::clone(key)), S::release(Arc::clone(key))]
            };
            b.iter_batched(requests, |requests| requests.map(|request| store.ask(WRITER, request)), BATCH);
        });
    }
    fn renew<S: Locks<Small>>(group: &mut Group<'_>, keys: &Keys) {
        let (store, mut keys) = (S::with(keys.content()), keys.clone());
        let key = Arc::clone(keys.next_key());
        assert!(store.ask(WRITER, S::acquire(Arc::clone(&key))));
        group.bench_function(S::NAME, |b| {
            b.iter_batched(|| S::acquire(Arc::clone(&key)), |request| store.ask(WRITER, request), BATCH);
        });
    }
    let keys = Keys::new(size);
    let mut group = benches::group::<Small>(criterion, "lock_renew_release", size);
    all_three::<Ours<Small>>(&mut group, &keys);
    all_three::<Origin<Small>>(&mut group, &keys);
    drop(group);
    let mut group = benches::group::<Small>(criterion, "renew", size);
    renew::<Ours<Small>>(&mut group, &keys);
    renew::<Origin<Small>>(&mut group, &keys);
}
