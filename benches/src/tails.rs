//! Commits under contention: how long the slowest of them take.
//!
//! A machine that others share, or that changes its speed, makes one long run after the other incomparable. So the stores
//! take turns in short slices, and what is compared is a slice of one store with the slice of another beside it.

use crate::crew::pause;
use crate::{Keys, Small, Snapshots, duration};
use hdrhistogram::Histogram;
use std::panic;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// One slice: times in nanoseconds, rates per second.
struct Slice {
    p50: f64,
    p99: f64,
    p999: f64,
    longest: f64,
    commits: f64,
    reads: f64,
}

/// How many threads commit one key after the other, and how many take a snapshot and look up ten keys in it.
#[derive(Clone, Copy)]
pub struct Crew {
    pub writers: usize,
    pub readers: usize,
}

/// A store with its content.
pub struct Contender {
    name: &'static str,
    run: Box<dyn Fn(Crew, Duration) -> Slice>,
}

impl Contender {
    pub fn new<S: Snapshots<Small> + Sync>(keys: &Keys) -> Self {
        let (store, keys) = (S::with(keys.content()), keys.clone());
        Self { name: S::NAME, run: Box::new(move |crew, time| run(&store, &keys, crew, time)) }
    }
}

/// Prints a table. In it is the median of all slices, with the quartiles of the 99.9th percentile and of the rate. The ratios
/// are medians too, of each slice divided by the reference's in the same round; the reference is the last of the contenders.
pub fn compare(contenders: &[Contender], crew: Crew, rounds: usize, time: Duration) {
    let slices: Vec<Vec<Slice>> = (0..rounds)
        .map(|round| {
            // Each begins a round in turn, or one would always come after the same other.
            let mut slices: Vec<_> = (0..contenders.len())
                .map(|place| (place + round) % contenders.len())
                .map(|index| (index, (contenders[index].run)(crew, time)))
                .collect();
            slices.sort_by_key(|(index, _)| *index);
            slices.into_iter().map(|(_, slice)| slice).collect()
        })
        .collect();
    let Crew { writers, readers } = crew;
    println!("\nCommits of one key, {writers} writing, {readers} reading, {rounds} slices of {time:?}:\n");
    println!(
        "| | p50 | p99 | p99.9 | (quartiles) | longest, median | longest of all | commits/s | (quartiles) | reads/s | p99.9, \
         ratio | commits, ratio (quartiles) | reads, ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let reference = contenders.len() - 1;
    for (index, Contender { name, .. }) in contenders.iter().enumerate() {
        let all =
            |figure: fn(&Slice) -> f64| -> Vec<f64> { slices.iter().map(|round| figure(&round[index])).collect() };
        let ratios = |figure: fn(&Slice) -> f64| -> Vec<f64> {
            slices.iter().map(|round| figure(&round[index]) / figure(&round[reference])).collect()
        };
        let time = |figure| duration(quantile(all(figure), 0.5));
        let [p999_low, p999_high] = [0.25, 0.75].map(|place| duration(quantile(all(|slice| slice.p999), place)));
        let [low, median, high] = [0.25, 0.5, 0.75].map(|place| quantile(all(|slice| slice.commits), place));
        let [ratio_low, ratio, ratio_high] =
            [0.25, 0.5, 0.75].map(|place| quantile(ratios(|slice| slice.commits), place));
        let (reads, reads_ratio) = if readers == 0 {
            (String::new(), String::new())
        } else {
            let ratio = quantile(ratios(|slice| slice.reads), 0.5);
            (format!("{:.0}", quantile(all(|slice| slice.reads), 0.5)), format!("{ratio:.2}"))
        };
        println!(
            "| `{name}` | {} | {} | {} | {p999_low} to {p999_high} | {} | {} | {median:.0} | {low:.0} to {high:.0} | {reads} | \
             {:.2} | {ratio:.2} ({ratio_low:.2} to {ratio_high:.2}) | {reads_ratio} |",
            time(|slice| slice.p50),
            time(|slice| slice.p99),
            time(|slice| slice.p999),
            time(|slice| slice.longest),
            duration(quantile(all(|slice| slice.longest), 1.0)),
            quantile(ratios(|slice| slice.p999), 0.5),
        );
    }
}

/// The value at this place in order, from 0 to 1.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // there are few
pub fn quantile(mut values: Vec<f64>, place: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * place).round() as usize]
}

#[allow(clippy::cast_precision_loss)] // figures to be read
fn run<S: Snapshots<Small> + Sync>(store: &S, keys: &Keys, crew: Crew, time: Duration) -> Slice {
    let (start, phase) = (&Barrier::new(crew.writers + crew.readers + 1), &AtomicU8::new(WARMING_UP));
    // ORDERING: Relaxed throughout, a mere signal.
    let (histograms, reads): (Vec<Histogram<u64>>, Vec<u64>) = thread::scope(|scope| {
        let writer = |thread| {
            let mut keys = keys.of_thread(thread);
            move || {
                let mut histogram = new_histogram();
                start.wait();
                loop {
                    let begun = Instant::now();
                    store.commit(S::one_key(keys.next_pair()));
                    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    match phase.load(Ordering::Relaxed) {
                        WARMING_UP => {}
                        MEASURING => histogram.saturating_record(nanos),
                        _ => {
                            // What was begun in time counts, or the longest would be missing.
                            histogram.saturating_record(nanos);
                            return histogram;
                        }
                    }
                }
            }
        };
        let reader = |thread| {
            let mut keys = keys.of_thread(thread);
            move || {
                let mut count = 0;
                start.wait();
                loop {
                    let snapshot = store.snapshot();
                    assert!(keys.next_keys(10).iter().all(|key| S::look_up(&snapshot, key).is_some()));
                    drop(snapshot);
                    match phase.load(Ordering::Relaxed) {
                        WARMING_UP => {}
                        MEASURING => count += 1,
                        _ => return count,
                    }
                }
            }
        };
        let readers: Vec<_> = (0..crew.readers).map(|thread| scope.spawn(reader(crew.writers + thread))).collect();
        let writers: Vec<_> = (0..crew.writers).map(|thread| scope.spawn(writer(thread))).collect();
        start.wait();
        pause(time / 10);
        phase.store(MEASURING, Ordering::Relaxed);
        pause(time);
        phase.store(OVER, Ordering::Relaxed);
        (join_all(writers), join_all(readers))
    });
    let mut all = new_histogram();
    for histogram in &histograms {
        all += histogram;
    }
    let seconds = time.as_secs_f64();
    Slice {
        p50: all.value_at_quantile(0.5) as f64,
        p99: all.value_at_quantile(0.99) as f64,
        p999: all.value_at_quantile(0.999) as f64,
        longest: all.max() as f64,
        commits: all.len() as f64 / seconds,
        reads: reads.iter().sum::<u64>() as f64 / seconds,
    }
}

fn join_all<R>(threads: Vec<ScopedJoinHandle<'_, R>>) -> Vec<R> {
    threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))).collect()
}

fn new_histogram() -> Histogram<u64> {
    let longest = 100_000_000_000;
    Histogram::new_with_bounds(1, longest, 3).unwrap_or_else(|error| unreachable!("the bounds are right: {error}"))
}
