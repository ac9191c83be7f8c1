//! Many threads on one store: the time per operation of all measured threads together, so that half the time is twice the
//! throughput. Making changes is measured here, being a part of each thread's work.
//!
//! With more threads than cores this measures the scheduler as well. A lock-based store may then profit: while a thread
//! that has the lock is not held up, nobody gets into its way.

use benches::crew::{NOBODY, share};
use benches::peers::{self, Origin, Ours};
use benches::{Group, Keys, Locks, MultiKey, Small, Snapshots, Store, Value};
use benches::{all_stores, stores_of_many_keys, stores_with_snapshots};
use criterion::{Criterion, SamplingMode, Throughput};
use std::sync::Arc;
use std::time::Duration;

/// How many keys there are.
const SIZE: usize = 1_000;

fn main() {
    peers::check();
    let mut criterion = benches::settings();
    let keys = Keys::new(SIZE);
    // Ever more of them: arc-swap's swap looks at every thread that there has been at the same time, gone ones too.
    for threads in [1, 2, 4, 8, 16] {
        let mut group = group_of(&mut criterion, "all_write", threads);
        all_stores!(all_write::<Small>(&mut group, &keys, threads));
        drop(group);
        let mut group = group_of(&mut criterion, "one_in_ten_writes", threads);
        all_stores!(one_in_ten_writes::<Small>(&mut group, &keys, threads));
        drop(group);
        let mut group = group_of(&mut criterion, "write_with_snapshot", threads);
        stores_with_snapshots!(write_with_snapshot::<Small>(&mut group, &keys, threads));
        drop(group);
        for changed in [5, 100] {
            let mut group = group_of(&mut criterion, &format!("all_write_{changed}"), threads);
            stores_of_many_keys!(all_write_many::<Small>(&mut group, &keys, threads, changed));
        }
        let mut group = group_of(&mut criterion, "all_get_ten", threads);
        stores_of_many_keys!(all_get_ten::<Small>(&mut group, &keys, threads));
        drop(group);
        let mut group = group_of(&mut criterion, "all_lock", threads);
        all_lock::<Ours<Small>>(&mut group, &keys, threads);
        all_lock::<Origin<Small>>(&mut group, &keys, threads);
        drop(group);
        let readers = threads - 1;
        if readers > 0 {
            let mut group = group_of(&mut criterion, "get_beside_writer", readers);
            all_stores!(get_beside_writer::<Small>(&mut group, &keys, readers));
            drop(group);
            let mut group = group_of(&mut criterion, "snapshot_beside_writer", readers);
            stores_with_snapshots!(snapshot_beside_writer::<Small>(&mut group, &keys, readers));
        }
    }
    criterion.final_summary();
}

/// The number is that of the threads that are measured.
fn group_of<'c>(criterion: &'c mut Criterion, job: &str, threads: usize) -> Group<'c> {
    let mut group = benches::group::<Small>(criterion, job, threads);
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    group
}

fn measure(group: &mut Group<'_>, name: &str, mut run: impl FnMut(u64) -> Duration) {
    group.bench_function(name, |b| b.iter_custom(&mut run));
}

fn all_write<V: Value, S: Store<V>>(group: &mut Group<'_>, keys: &Keys, threads: usize) {
    let store = S::with(keys.content());
    measure(group, S::NAME, |iterations| share(iterations, writers(&store, keys, threads), NOBODY));
}

fn one_in_ten_writes<V: Value, S: Store<V>>(group: &mut Group<'_>, keys: &Keys, threads: usize) {
    let store = S::with(keys.content());
    let worker = |thread| {
        let (store, mut keys, mut turn) = (store.clone(), keys.of_thread(thread), thread);
        move || {
            turn += 1;
            if turn.is_multiple_of(10) {
                store.commit(S::one_key(keys.next_pair()));
            } else {
                drop(store.get(keys.next_key()));
            }
        }
    };
    measure(group, S::NAME, |iterations| share(iterations, (0..threads).map(worker).collect(), NOBODY));
}

/// Each commits so many keys at once.
fn all_write_many<V: Value, S: MultiKey<V>>(group: &mut Group<'_>, keys: &Keys, threads: usize, changed: usize) {
    let store = S::with(keys.content());
    let worker = |thread| {
        let (store, mut keys) = (store.clone(), keys.of_thread(thread));
        move || store.commit(S::many_keys(keys.next_pairs(changed)))
    };
    measure(group, S::NAME, |iterations| share(iterations, (0..threads).map(worker).collect(), NOBODY));
}

/// Each gets ten keys of one instant.
fn all_get_ten<V: Value, S: MultiKey<V>>(group: &mut Group<'_>, keys: &Keys, threads: usize) {
    let store = S::with(keys.content());
    let worker = |thread| {
        let (store, mut keys, mut found) = (store.clone(), keys.of_thread(thread), Vec::new());
        move || {
            store.get_all(keys.next_keys(10), &mut found);
            found.clear();
        }
    };
    measure(group, S::NAME, |iterations| share(iterations, (0..threads).map(worker).collect(), NOBODY));
}

/// Each takes a lock, renews it and gives it back, on a key of its own.
fn all_lock<S: Locks<Small>>(group: &mut Group<'_>, keys: &Keys, threads: usize) {
    let store = S::with(keys.content());
    let worker = |thread| {
        let (store, client) = (store.clone(), u32::try_from(thread).unwrap_or_default());
        let key = Arc::clone(&keys.all()[thread]);
        move || {
            let key = || Arc::clone(&key);
            for request in [S::acquire(key()), S::acquire(key()), S::release(key())] {
                assert!(store.ask(client, request), "nobody else wants it");
            }
        }
    };
    measure(group, S::NAME, |iterations| share(iterations, (0..threads).map(worker).collect(), NOBODY));
}

/// Each takes a snapshot, looks up ten keys in it and commits one key while it still has the snapshot. So everybody gets as
/// many snapshots as commits; and a tree that is written in place while nobody shares it has to be copied as well.
fn write_with_snapshot<V: Value, S: Snapshots<V>>(group: &mut Group<'_>, keys: &Keys, threads: usize) {
    let store = S::with(keys.content());
    let worker = |thread| {
        let (store, mut keys) = (store.clone(), keys.of_thread(thread));
        move || {
            let snapshot = store.snapshot();
            assert!(keys.next_keys(10).iter().all(|key| S::look_up(&snapshot, key).is_some()));
            store.commit(S::one_key(keys.next_pair()));
        }
    };
    measure(group, S::NAME, |iterations| share(iterations, (0..threads).map(worker).collect(), NOBODY));
}

/// Whether a reader can wait for ever while a writer goes on and on. Criterion would wait with it; `latency.rs` shows it.
fn starves<V: Value, S: Store<V>>() -> bool {
    S::NAME == "concread"
}

fn get_beside_writer<V: Value, S: Store<V>>(group: &mut Group<'_>, keys: &Keys, threads: usize) {
    if starves::<V, S>() {
        return;
    }
    let store = S::with(keys.content());
    let reader = |thread| {
        let (store, mut keys) = (store.clone(), keys.of_thread(thread + 1));
        move || drop(store.get(keys.next_key()))
    };
    measure(group, S::NAME, |iterations| {
        share(iterations, (0..threads).map(reader).collect(), writers(&store, keys, 1))
    });
}

fn snapshot_beside_writer<V: Value, S: Snapshots<V>>(group: &mut Group<'_>, keys: &Keys, threads: usize) {
    if starves::<V, S>() {
        return;
    }
    let store = S::with(keys.content());
    let reader = |_| {
        let store = store.clone();
        move || drop(store.snapshot())
    };
    measure(group, S::NAME, |iterations| {
        share(iterations, (0..threads).map(reader).collect(), writers(&store, keys, 1))
    });
}

/// Each commits one key after the other.
fn writers<V: Value, S: Store<V>>(store: &S, keys: &Keys, threads: usize) -> Vec<impl FnMut() + Send + use<V, S>> {
    let writer = |thread| {
        let (store, mut keys) = (store.clone(), keys.of_thread(thread));
        move || store.commit(S::one_key(keys.next_pair()))
    };
    (0..threads).map(writer).collect()
}
