//! Subscribers: what a commit costs with ever more of them, and what a flush costs.
//!
//! Every subscriber is a thread that follows the store. `asleep`: they sleep in an interval that does not end, so that
//! a commit need not wake anybody. `at_30_hz`: they flush thirty times a second, and share the cores with the writer.
//! `waking`: they are asleep in a flush, all of them, and the commit wakes them all; only the commit is measured, but with
//! few cores those who have been woken may get in before it returns.

use benches::crew::pause;
use benches::peers::{self, Origin, Ours};
use benches::{Feed, Group, Keys, Small, Store};
use criterion::{BatchSize, SamplingMode};
use std::cell::LazyCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const CROWDS: [usize; 5] = [0, 1, 10, 100, 1_000];
/// How many keys there are where it is not the number of keys that matters.
const SIZE: usize = 300;
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);

fn main() {
    peers::check();
    let mut criterion = benches::settings();
    for crowd in CROWDS {
        for (job, interval) in [("commit_asleep", Duration::MAX), ("commit_at_30_hz", FRAME)] {
            let mut group = benches::group::<Small>(&mut criterion, job, crowd);
            commit::<Ours<Small>>(&mut group, crowd, interval);
            commit::<Origin<Small>>(&mut group, crowd, interval);
        }
        let mut group = benches::group::<Small>(&mut criterion, "commit_waking", crowd);
        group.sampling_mode(SamplingMode::Flat);
        commit_waking::<Ours<Small>>(&mut group, crowd);
        commit_waking::<Origin<Small>>(&mut group, crowd);
    }
    for pending in [1, 10, 100, 1_000] {
        let mut group = benches::group::<Small>(&mut criterion, "flush_by_backlog", pending);
        flush(&mut group, &Ours::with, 10_000, pending);
        flush(&mut group, &Origin::with, 10_000, pending);
    }
    for size in [30, 300, 1_000, 10_000, 100_000] {
        let mut group = benches::group::<Small>(&mut criterion, "flush_10", size);
        flush(&mut group, &Ours::with, size, 10);
        flush(&mut group, &Origin::with, size, 10);
        drop(group);
        flush(
            &mut benches::group::<Small>(&mut criterion, "flush_10_off_the_trail", size),
            &Ours::without_trail,
            size,
            10,
        );
    }
    criterion.final_summary();
}

fn commit<S: Feed<Small>>(group: &mut Group<'_>, crowd: usize, interval: Duration) {
    let mut keys = Keys::new(SIZE);
    let content = keys.content();
    let crowd = LazyCell::new(|| Crowd::gather(S::with(content), crowd, interval));
    group.bench_function(S::NAME, |b| {
        let crowd = &*crowd;
        let change = || S::one_key(keys.next_pair());
        b.iter_batched(change, |change| crowd.store.commit(change), BatchSize::NumIterations(100));
    });
}

fn commit_waking<S: Feed<Small>>(group: &mut Group<'_>, crowd: usize) {
    let mut keys = Keys::new(SIZE);
    let content = keys.content();
    let crowd = LazyCell::new(|| Crowd::gather(S::with(content), crowd, Duration::ZERO));
    group.bench_function(S::NAME, |b| {
        let crowd = &*crowd;
        b.iter_custom(|iterations| {
            let commit = |_| {
                let change = S::one_key(keys.next_pair());
                crowd.fall_asleep();
                let start = Instant::now();
                crowd.store.commit(change);
                let taken = start.elapsed();
                crowd.commits.fetch_add(1, Ordering::Relaxed);
                taken
            };
            (0..iterations).map(commit).sum()
        });
    });
}

/// Flushing a buffer that has so many keys pending, each from a commit of its own, and dropping what was delivered.
fn flush<S: Feed<Small>>(
    group: &mut Group<'_>,
    make: &dyn Fn(Vec<benches::Pair<Small>>) -> S,
    size: usize,
    pending: usize,
) {
    let mut keys = Keys::new(size);
    let content = keys.content();
    let flushed = LazyCell::new(|| {
        let store = make(content);
        let buffer = store.buffer();
        assert_eq!(delivered::<S>(&buffer), size);
        (store, buffer)
    });
    group.bench_function(S::NAME, |b| {
        let (store, buffer) = &*flushed;
        let write = || (0..pending).for_each(|_| store.commit(S::one_key(keys.next_pair())));
        // One input at a time: a second one would be merged with the first. So the clock is read around every flush.
        b.iter_batched(write, |()| assert_eq!(delivered::<S>(buffer), pending), BatchSize::PerIteration);
    });
}

/// Flushes, and says how many keys that delivered.
fn delivered<S: Feed<Small>>(buffer: &S::Buffer) -> usize {
    let mut delivered = 0;
    S::flush(buffer, |_| delivered += 1);
    delivered
}

/// Subscribers that follow a store until this is dropped.
struct Crowd<S: Feed<Small>> {
    store: S,
    threads: Vec<JoinHandle<()>>,
    delivered: Arc<AtomicUsize>,
    /// How many commits everybody has to deliver, the first content included.
    commits: AtomicUsize,
}

impl<S: Feed<Small>> Crowd<S> {
    /// Everybody has delivered the first content.
    fn gather(store: S, size: usize, interval: Duration) -> Self {
        let delivered = Arc::new(AtomicUsize::new(0));
        let subscriber = |_| {
            let (buffer, delivered) = (store.buffer(), Arc::clone(&delivered));
            let follow = move || {
                // ORDERING: Relaxed here and below, mere counts.
                S::follow(&buffer, interval, |_| {
                    delivered.fetch_add(1, Ordering::Relaxed);
                });
            };
            let thread = thread::Builder::new().stack_size(64 << 10).spawn(follow);
            thread.unwrap_or_else(|error| panic!("no thread for a subscriber: {error}"))
        };
        let threads = (0..size).map(subscriber).collect();
        let crowd = Self { store, threads, delivered, commits: AtomicUsize::new(1) };
        crowd.fall_asleep();
        crowd
    }

    /// Waits until everybody has delivered everything, and a little longer.
    fn fall_asleep(&self) {
        let all = self.threads.len() * self.commits.load(Ordering::Relaxed);
        while self.delivered.load(Ordering::Relaxed) < all {
            pause(Duration::from_micros(20));
        }
        if all > 0 {
            pause(Duration::from_micros(100));
        }
    }
}

impl<S: Feed<Small>> Drop for Crowd<S> {
    fn drop(&mut self) {
        self.store.end();
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking(), "a subscriber panicked");
        }
    }
}
