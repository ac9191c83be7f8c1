//! Subscribers that are tasks: what a commit costs with ever more of them, all on one thread.
//!
//! As `commit_asleep` of `fan_out.rs`, where each is a thread: they sleep in an interval that does not end, so that a commit
//! need not wake anybody.

use async_executor::LocalExecutor;
use benches::{Keys, Pair, Small};
use criterion::BatchSize;
use futures_lite::{StreamExt, future};
use state_dictionary::{Change, ChangeBuffer, StateDictionary};
use std::cell::LazyCell;
use std::pin::pin;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

type Dictionary = StateDictionary<benches::Key, Small, u32>;

const CROWDS: [usize; 5] = [0, 1, 10, 100, 1_000];
const SIZE: usize = 300;

fn main() {
    let mut criterion = benches::settings();
    for size in CROWDS {
        let mut group = benches::group::<Small>(&mut criterion, "commit_asleep_async", size);
        let mut keys = Keys::new(SIZE);
        let content = keys.content();
        let crowd = LazyCell::new(|| Crowd::gather(content, size));
        group.bench_function("state-dictionary", |b| {
            let crowd = &*crowd;
            b.iter_batched(
                || set(vec![keys.next_pair()]),
                |change| crowd.commit(change),
                BatchSize::NumIterations(100),
            );
        });
    }
    criterion.final_summary();
}

fn set(pairs: Vec<Pair<Small>>) -> Change<benches::Key, Small> {
    pairs.into_iter().fold(Change::new(), |change, (key, value)| change.set_arc(key, value))
}

/// Tasks that follow a dictionary until this is dropped.
struct Crowd {
    dictionary: Dictionary,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Everybody has delivered the first content and sleeps.
    fn gather(content: Vec<Pair<Small>>, size: usize) -> Self {
        let mut crowd = Self { dictionary: Dictionary::new(), thread: None };
        crowd.commit(set(content));
        if size > 0 {
            let buffers: Vec<_> = (0..size).map(|_| crowd.dictionary.change_buffer()).collect();
            let (asleep, falls_asleep) = mpsc::channel();
            crowd.thread = Some(thread::spawn(move || follow(buffers, &asleep)));
            assert!(falls_asleep.recv().is_ok(), "the subscribers have ended");
        }
        crowd
    }

    fn commit(&self, change: Change<benches::Key, Small>) {
        assert!(self.dictionary.update_state(&0, change).is_ok(), "nobody has locked anything");
    }
}

fn follow(buffers: Vec<ChangeBuffer<benches::Key, Small>>, asleep: &mpsc::Sender<()>) {
    let executor = LocalExecutor::new();
    let follow = async |buffer: ChangeBuffer<_, _>| {
        let mut changes = pin!(buffer.into_stream_with(future::pending));
        while changes.next().await.is_some() {}
    };
    let tasks: Vec<_> = buffers.into_iter().map(|buffer| executor.spawn(follow(buffer))).collect();
    // When nothing is left to poll, everybody sleeps.
    while executor.try_tick() {}
    assert!(tasks.iter().all(|task| !task.is_finished()) && asleep.send(()).is_ok());
    future::block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.dictionary.freeze();
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking(), "a subscriber panicked");
        }
    }
}
