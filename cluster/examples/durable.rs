//! A counter that survives: each run of this program adds to what the runs before it have left, also if they were killed.
//!
//! `cargo run --release -p state-dictionary-cluster --example durable [FILE]`
use state_dictionary_cluster::{FileLog, Node, Options};
use std::error::Error;
use std::{env, thread};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).map_or_else(|| env::temp_dir().join("durable-counter"), Into::into);
    let log = FileLog::open(&path)?;
    let (counter, driver) = futures_executor::block_on(Node::<String, u64>::join(log, Options::new()))?;
    let running = thread::spawn(move || futures_executor::block_on(driver.run()));

    for _ in 0..1000 {
        let added = counter.update("count", |count| Some(count.copied().unwrap_or(0) + 1));
        futures_executor::block_on(added)?; // it is on the disk
    }
    let count = counter.get("count").map_or(0, |count| *count);
    println!("{count} in {}; run this again, or kill it: it goes on from there", path.display());

    counter.stop();
    let _ = running.join();
    Ok(())
}
