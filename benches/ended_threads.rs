//! What threads cost that have ended: many that each did one `get` at the same time. arc-swap's list of threads is as long as
//! the most there ever were at once, in the whole process and for good.
//!
//! Once as it is and once with `--features rwlock-strategy`, the tables side by side. What is measured is the CPU time of one
//! thread, so that others who use the machine matter little.

use benches::peers::Ours;
use benches::{Keys, Options, Small, Store, duration, tails::quantile};
use cpu_time::ThreadTime;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How many keys there are.
const SIZE: usize = 1_000;
const SLICES: usize = 15;

fn main() {
    let Some(options) = Options::parse() else { return };
    let (keys, slice) = (Keys::new(SIZE), options.time(Duration::from_millis(100)));
    let strategy = if cfg!(feature = "rwlock-strategy") { "`rwlock-strategy`" } else { "the default strategy" };
    println!("\nOne thread, after others have ended that did one `get` each at the same time, with {strategy}:\n");
    println!(
        "| ended threads | a commit of one key | (quartiles) | a `get` | a `get` beside another thread that gets |"
    );
    println!("|---|---|---|---|---|");
    let store = Ours::<Small>::with(keys.content());
    // Ever more of them, for the list does not become shorter.
    for threads in [0, 10, 30, 100, 300, 1_000, 2_000, 4_000] {
        let threads = if options.brief { threads / 50 } else { threads };
        end_at_once(&store, &keys, threads);
        let [mut commits, mut gets, mut beside] = [const { Vec::new() }; 3];
        let mut own = keys.clone();
        for _ in 0..SLICES {
            commits.push(time_of_one(slice / 3, || store.commit(Ours::one_key(own.next_pair()))));
            let mut get = || drop(black_box(store.get(own.next_key())));
            gets.push(time_of_one(slice / 3, &mut get));
            let (mut theirs, over) = (keys.of_thread(1), &AtomicBool::new(false));
            thread::scope(|scope| {
                // ORDERING: Relaxed, a mere signal.
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        drop(black_box(store.get(theirs.next_key())));
                    }
                });
                beside.push(time_of_one(slice / 3, &mut get));
                over.store(true, Ordering::Relaxed);
            });
        }
        let [low, median, high] = [0.25, 0.5, 0.75].map(|place| duration(quantile(commits.clone(), place)));
        let [get, beside] = [gets, beside].map(|times| duration(quantile(times, 0.5)));
        println!("| {threads} | {median} | {low} to {high} | {get} | {beside} |");
    }
}

fn end_at_once(store: &Ours<Small>, keys: &Keys, threads: usize) {
    let all_have_got = &Barrier::new(threads);
    thread::scope(|scope| {
        for number in 0..threads {
            let key = &keys.all()[number % keys.all().len()];
            let spawned = thread::Builder::new().stack_size(1 << 16).spawn_scoped(scope, move || {
                assert!(store.get(key).is_some());
                all_have_got.wait();
            });
            assert!(spawned.is_ok(), "no thread number {number} to be had");
        }
    });
}

#[allow(clippy::cast_precision_loss)] // figures to be read
fn time_of_one(time: Duration, mut act: impl FnMut()) -> f64 {
    let (begun, mut acts) = (ThreadTime::now(), 0_u32);
    loop {
        for _ in 0..16 {
            act();
        }
        acts += 16;
        let elapsed = begun.elapsed();
        if elapsed >= time {
            return elapsed.as_nanos() as f64 / f64::from(acts);
        }
    }
}
