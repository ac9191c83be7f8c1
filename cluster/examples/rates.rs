//! How many operations a second a node acknowledges, on the log in memory and in a file, beside the store written directly with a
//! transaction for each, and what reading costs beside a dictionary without a log.
//!
//! `cargo run --release -p state-dictionary-cluster --example rates`
use state_dictionary::StateDictionary;
use state_dictionary_cluster::{FileLog, Log, Memory, Node, Options};
use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const TABLE: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("table");

type Board = Node<String, String>;

fn node(log: impl Log) -> Result<Board, Box<dyn Error>> {
    let (node, driver) = futures_executor::block_on(Board::join(log, Options::new()))?;
    thread::spawn(move || futures_executor::block_on(driver.run()));
    Ok(node)
}

/// Commits a second, of so many writers for two seconds.
fn rate(writers: usize, write: impl Fn(usize, u64) + Sync) -> u64 {
    let (done, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    thread::scope(|scope| {
        for writer in 0..writers {
            let (write, done, is_over) = (&write, &done, &is_over);
            scope.spawn(move || {
                // ORDERING: Relaxed, for these are mere numbers.
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    write(writer, number);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::park_timeout(Duration::from_secs(2));
        is_over.store(true, Ordering::Relaxed);
    });
    // ORDERING: as above.
    u64::try_from(u128::from(done.into_inner()) * 1000 / start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn nanoseconds(mut act: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..200_000 {
            act();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / 200_000.0);
    }
    best
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(".")?;
    println!("one-key commits a second, acknowledged");
    println!("{:>8} {:>12} {:>18} {:>22}", "writers", "in memory", "in a file, synced", "redb, one commit each");
    for writers in [1, 8, 64, 256] {
        let memory = node(Memory::new().join())?;
        let file = node(FileLog::open(folder.path().join(format!("log {writers}")))?)?;
        let direct = redb::Database::create(folder.path().join(format!("direct {writers}")))?;
        let set = |node: &Board, writer: usize, number: u64| {
            let written = futures_executor::block_on(node.set(format!("key {writer}"), number.to_string()));
            written.unwrap_or_else(|error| panic!("{error}"));
        };
        let in_memory = rate(writers, |writer, number| set(&memory, writer, number));
        let in_file = rate(writers, |writer, number| set(&file, writer, number));
        let directly = rate(writers, |writer, number| {
            let write = || -> Result<(), redb::Error> {
                let transaction = direct.begin_write()?;
                transaction.open_table(TABLE)?.insert(&*format!("key {writer}"), &*number.to_string())?;
                transaction.commit()?;
                Ok(())
            };
            write().unwrap_or_else(|error| panic!("{error}"));
        });
        println!("{writers:>8} {in_memory:>12} {in_file:>18} {directly:>22}");
    }

    let node = node(Memory::new().join())?;
    let alone: StateDictionary<String, String> = StateDictionary::new();
    for key in 0..1000 {
        futures_executor::block_on(node.set(format!("{key}"), "value".to_owned()))?;
        alone.set(format!("{key}"), "value".to_owned())?;
    }
    let (there, here) =
        (nanoseconds(|| drop(black_box(node.snapshot()))), nanoseconds(|| drop(black_box(alone.snapshot()))));
    println!("snapshot: {there:.1} ns on a node, {here:.1} ns without a log, {:.2} times", there / here);
    let (there, here) =
        (nanoseconds(|| drop(black_box(node.get("17")))), nanoseconds(|| drop(black_box(alone.get("17")))));
    println!("get: {there:.1} ns on a node, {here:.1} ns without a log, {:.2} times", there / here);
    Ok(())
}
