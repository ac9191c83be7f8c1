//! Threads that begin together and share the work.

use std::panic;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Shares `iterations` calls out among the `measured`, a thread each, while each of those `beside` is called again and
/// again by a thread of its own. Returns the time from the moment the first one begins until the last call is done.
///
/// Calls are handed out a few at a time, so that no thread is left with work when the others have none.
pub fn share<M, B>(iterations: u64, measured: Vec<M>, beside: Vec<B>) -> Duration
where
    M: FnMut() + Send,
    B: FnMut() + Send,
{
    let portion = (iterations / (measured.len() as u64 * 8)).clamp(1, 64);
    let (start, over) = (Barrier::new(measured.len() + beside.len()), AtomicBool::new(false));
    let given = AtomicU64::new(0);
    let (start, over, given) = (&start, &over, &given);
    // ORDERING: Relaxed throughout. Both are mere signals; the threads are joined before anything is read.
    let take = move || portion.min(iterations.saturating_sub(given.fetch_add(portion, Ordering::Relaxed)));
    thread::scope(|scope| {
        for mut work in beside {
            scope.spawn(move || {
                start.wait();
                while !over.load(Ordering::Relaxed) {
                    work();
                }
            });
        }
        let crew: Vec<_> = measured
            .into_iter()
            .map(|mut work| {
                scope.spawn(move || {
                    start.wait();
                    let begun = Instant::now();
                    loop {
                        let portion = take();
                        if portion == 0 {
                            return (begun, Instant::now());
                        }
                        for _ in 0..portion {
                            work();
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = crew.into_iter().map(ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        let times: Vec<_> =
            ended.into_iter().map(|times| times.unwrap_or_else(|panic| panic::resume_unwind(panic))).collect();
        let begun = times.iter().map(|(begun, _)| *begun).min();
        let ended = times.iter().map(|(_, ended)| *ended).max();
        begun.zip(ended).map_or(Duration::ZERO, |(begun, ended)| ended - begun)
    })
}

/// For [`share`] when nobody is beside.
pub const NOBODY: Vec<fn()> = Vec::new();

/// Lets time pass.
#[allow(clippy::disallowed_methods)] // real time is what is measured here
pub fn pause(duration: Duration) {
    thread::sleep(duration);
}
