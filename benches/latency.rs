//! How long single operations take under contention, and whether threads get equal shares.
//!
//! Prints a table for each number of writers, one of two writers beside a reader, and two of readers beside a writer. The last
//! column is what the thread beside them gets done: a lock may serve one side well and the other not at all. Each operation is timed by itself, which
//! adds some tens of nanoseconds to it. `--seconds N` says how long each line is measured, by default one second.

use benches::crew::pause;
use benches::{Keys, Options, Small, Snapshots, Store, Value, peers};
use benches::{all_stores, stores_with_snapshots};
use hdrhistogram::Histogram;
use std::panic;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// How many keys there are.
const SIZE: usize = 1_000;
const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

fn main() {
    let Some(options) = Options::parse() else { return };
    peers::check();
    let (time, keys) = (options.time(Duration::from_secs(1)), Keys::new(SIZE));
    let writing = |writers| {
        title(&format!("Commits of one key, {writers} writing"));
        all_stores!(commits::<Small>(&keys, writers, time));
    };
    // Ever more threads: arc-swap's swap looks at every thread that there has been at the same time, gone ones too.
    [1, 2].into_iter().for_each(writing);
    title("Getting one key beside one writer");
    all_stores!(gets::<Small>(&keys, time));
    title("Snapshots beside one writer");
    stores_with_snapshots!(snapshots::<Small>(&keys, time));
    title("Commits of one key, 2 writing, beside one that takes snapshots and looks up ten keys in each");
    stores_with_snapshots!(commits_beside_reader::<Small>(&keys, time));
    [4, 8, 16].into_iter().for_each(writing);
}

fn title(title: &str) {
    println!("\n{title}, {SIZE} keys:\n");
    println!("| | p50 | p99 | p99.9 | max | slowest thread's share | per second | beside, per second |");
    println!("|---|---|---|---|---|---|---|---|");
}

fn commits<V: Value, S: Store<V>>(keys: &Keys, writers: usize, time: Duration) {
    let store = S::with(keys.content());
    measure(S::NAME, time, (0..writers).map(|thread| writer(&store, keys, thread)).collect(), None::<fn()>);
}

fn commits_beside_reader<V: Value, S: Snapshots<V>>(keys: &Keys, time: Duration) {
    let store = S::with(keys.content());
    let reader = || {
        let (store, mut keys) = (store.clone(), keys.of_thread(2));
        move || {
            let snapshot = store.snapshot();
            assert!(keys.next_keys(10).iter().all(|key| S::look_up(&snapshot, key).is_some()));
        }
    };
    measure(S::NAME, time, (0..2).map(|thread| writer(&store, keys, thread)).collect(), Some(reader()));
}

fn gets<V: Value, S: Store<V>>(keys: &Keys, time: Duration) {
    let store = S::with(keys.content());
    let reader = || {
        let (store, mut keys) = (store.clone(), keys.of_thread(1));
        move || drop(store.get(keys.next_key()))
    };
    measure(S::NAME, time, vec![reader()], Some(writer(&store, keys, 0)));
}

fn snapshots<V: Value, S: Snapshots<V>>(keys: &Keys, time: Duration) {
    let store = S::with(keys.content());
    let reader = || {
        let store = store.clone();
        move || drop(store.snapshot())
    };
    measure(S::NAME, time, vec![reader()], Some(writer(&store, keys, 0)));
}

fn writer<V: Value, S: Store<V>>(store: &S, keys: &Keys, thread: usize) -> impl FnMut() + Send + use<V, S> {
    let (store, mut keys) = (store.clone(), keys.of_thread(thread));
    move || store.commit(S::one_key(keys.next_pair()))
}

/// Calls each of `measured` for so long, in a thread of its own, while `beside` goes on in another.
fn measure<M, B>(name: &str, time: Duration, measured: Vec<M>, beside: Option<B>)
where
    M: FnMut() + Send,
    B: FnMut() + Send,
{
    let start = &Barrier::new(measured.len() + usize::from(beside.is_some()) + 1);
    let phase = &AtomicU8::new(WARMING_UP);
    // ORDERING: Relaxed throughout, a mere signal.
    let (histograms, beside): (Vec<Histogram<u64>>, Option<u64>) = thread::scope(|scope| {
        let beside = beside.map(|mut work| {
            scope.spawn(move || {
                let mut count = 0;
                start.wait();
                loop {
                    work();
                    match phase.load(Ordering::Relaxed) {
                        WARMING_UP => {}
                        MEASURING => count += 1,
                        _ => return count,
                    }
                }
            })
        });
        let timed = |mut work: M| {
            move || {
                let mut histogram = new_histogram();
                start.wait();
                loop {
                    let begun = Instant::now();
                    work();
                    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    match phase.load(Ordering::Relaxed) {
                        WARMING_UP => {}
                        MEASURING => histogram.saturating_record(nanos),
                        _ => return histogram,
                    }
                }
            }
        };
        let threads: Vec<_> = measured.into_iter().map(|work| scope.spawn(timed(work))).collect();
        start.wait();
        pause(time / 10);
        phase.store(MEASURING, Ordering::Relaxed);
        pause(time);
        phase.store(OVER, Ordering::Relaxed);
        let ended: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
        let beside = beside.map(ScopedJoinHandle::join);
        (ended.into_iter().map(or_panic).collect(), beside.map(or_panic))
    });
    line(name, time, &histograms, beside);
}

fn or_panic<R>(ended: thread::Result<R>) -> R {
    ended.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

fn new_histogram() -> Histogram<u64> {
    let longest = 100_000_000_000;
    Histogram::new_with_bounds(1, longest, 3).unwrap_or_else(|error| unreachable!("the bounds are right: {error}"))
}

#[allow(clippy::cast_precision_loss)] // figures to be read
fn line(name: &str, time: Duration, histograms: &[Histogram<u64>], beside: Option<u64>) {
    let mut all = new_histogram();
    for histogram in histograms {
        all += histogram;
    }
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| benches::duration(all.value_at_quantile(quantile) as f64));
    let max = benches::duration(all.max() as f64);
    let least = histograms.iter().map(Histogram::len).min().unwrap_or_default() as f64;
    let share = least * histograms.len() as f64 / all.len().max(1) as f64;
    let [rate, beside] = [Some(all.len()), beside]
        .map(|count| count.map_or_else(String::new, |count| format!("{:.0}", count as f64 / time.as_secs_f64())));
    println!("| `{name}` | {p50} | {p99} | {p999} | {max} | {share:.2} | {rate} | {beside} |");
}
