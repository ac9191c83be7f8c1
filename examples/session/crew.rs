//! Running the threads of a session, and watching over them.

use crate::Dictionary;
use crate::replica::{Flushes, Replica};
use crate::report::Memory;
use crate::writer::{Ledger, Tally};
use indicatif::{ProgressBar, ProgressStyle};
use std::convert::Infallible;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the progress bar moves and the memory is looked at.
const TICK: Duration = Duration::from_millis(100);

/// One thread to be.
pub(crate) struct Job<'a> {
    pub(crate) name: String,
    /// Whether the session goes on until this one is done, at least.
    pub(crate) awaited: bool,
    pub(crate) run: Box<dyn FnOnce() -> Part + Send + 'a>,
}

/// What a thread leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) written: Option<(Tally, Ledger)>,
    pub(crate) followed: Option<(String, Replica, Flushes)>,
}

/// What all of them leave behind.
pub(crate) struct Outcome {
    pub(crate) parts: Vec<Part>,
    pub(crate) panicked: Vec<String>,
    pub(crate) took: Duration,
    pub(crate) memory: Memory,
}

/// Runs the jobs, until the awaited ones are done or the time is over; then freezes the dictionary, which ends the rest.
pub(crate) fn run(
    dictionary: &Dictionary,
    jobs: Vec<Job<'_>>,
    time: Option<Duration>,
    bar: &ProgressBar,
    progress: impl Fn(Duration) -> u64,
) -> Result<Outcome, String> {
    let mut memory = Memory::new();
    // Nothing is ever sent: it disconnects when the last sender is dropped.
    let (awaited, done) = mpsc::channel::<Infallible>();
    thread::scope(|scope| {
        let begin = Instant::now();
        let mut threads = Vec::new();
        for Job { name, awaited: is_awaited, run } in jobs {
            let awaited = is_awaited.then(|| awaited.clone());
            let spawned = thread::Builder::new().name(name.clone()).spawn_scoped(scope, move || {
                let _until_this_ends = awaited;
                run()
            });
            match spawned {
                Ok(thread) => threads.push((name, thread)),
                Err(error) => {
                    dictionary.freeze();
                    return Err(format!("cannot start a thread for {name}: {error}"));
                }
            }
        }
        drop(awaited);

        loop {
            let elapsed = begin.elapsed();
            let left = time.map_or(TICK, |time| time.saturating_sub(elapsed).min(TICK));
            memory.look();
            bar.set_position(progress(elapsed));
            bar.set_message(format!("{} changes, {} keys", dictionary.revision(), dictionary.snapshot().len()));
            match done.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                _ => break,
            }
        }
        dictionary.freeze();
        let took = begin.elapsed();
        memory.look();
        bar.finish_and_clear();

        let (mut parts, mut panicked) = (Vec::new(), Vec::new());
        for (name, thread) in threads {
            match thread.join() {
                Ok(part) => parts.push(part),
                Err(_) => panicked.push(format!("{name} panicked")),
            }
        }
        Ok(Outcome { parts, panicked, took, memory })
    })
}

pub(crate) fn progress_bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:40} {percent:>3} %  {msg}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
