//! A feed of the content: each delivery has what changed since the one before, merged to the latest value of every key.
//!
//! ```text
//! cargo run --example change_feed
//! ```
//!
//! A thermometer is read about every millisecond. A display follows it, at most every 100 ms; a logger flushes once, at the
//! end. Neither costs the thermometer anything, and both end up with the content.

use state_dictionary::{Change, Delivery, FlushError, Revision, StateDictionary, UpdateError};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

const READINGS: i32 = 500;

type Dictionary = StateDictionary<String, i32, &'static str>;
type Replica = BTreeMap<String, i32>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let house = Dictionary::new();
    let (for_display, for_logger) = (house.change_buffer(), house.change_buffer());

    // The watcher owns its buffer, and needs no reference to the dictionary.
    let display = thread::spawn(move || {
        let mut replica = Replica::new();
        let mut deliveries = 0;
        let mut seen = Revision::ZERO;
        // Waits for something to deliver, then for the interval; ends when nothing more can come.
        for delivery in for_display.subscribe(Duration::from_millis(100)) {
            assert_eq!(delivery.since(), seen, "deliveries join without a gap");
            seen = delivery.revision();
            deliveries += 1;
            apply(&delivery, &mut replica);
            println!("The display has revisions {} to {}: {}.", delivery.since(), seen, describe(&delivery));
        }
        println!("The feed has ended.");
        (replica, deliveries)
    });

    measure(&house)?;
    let content: Replica = house.snapshot().iter().map(|(key, value)| (key.clone(), *value)).collect();
    let last = house.revision();
    drop(house); // ends all feeds, as `freeze` does; buffers deliver what is pending first

    let (replica, deliveries) = display.join().map_err(|_| "the display panicked")?;
    println!("The display followed {last} commits in {deliveries} deliveries.");
    assert_eq!(replica, content);
    assert!(deliveries <= last.get());

    // A slow watcher misses no key: it gets everything in one delivery, and the feed ends only after that.
    let delivery = for_logger.flush()?;
    println!("The logger has revisions {} to {}: {}.", delivery.since(), delivery.revision(), describe(&delivery));
    let mut replica = Replica::new();
    apply(&delivery, &mut replica);
    assert_eq!((delivery.since(), delivery.revision()), (Revision::ZERO, last));
    assert_eq!(replica, content);
    assert_eq!(delivery.removals().len(), 0, "it never had a warning that could be removed");
    assert!(matches!(for_logger.flush(), Err(FlushError)));
    Ok(())
}

/// Heats the house from 150 to 250 tenths of a degree and lets it cool down, with a warning while it is too hot.
fn measure(house: &Dictionary) -> Result<(), UpdateError<String, i32, &'static str>> {
    house.update_state(&"thermometer", Change::new().set("warning", 0).set("floor", 1))?;
    for reading in 0..=READINGS {
        let tenths = 250 - (reading - READINGS / 2).abs() * 100 / (READINGS / 2);
        let change = Change::new().set("temperature", tenths).set("reading", reading);
        let change = if tenths > 200 { change.set("warning", tenths) } else { change.remove("warning") };
        house.update_state(&"thermometer", change)?;
        thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}

fn apply(delivery: &Delivery<String, i32>, replica: &mut Replica) {
    replica.extend(delivery.updates().map(|(key, entry)| (key.clone(), **entry)));
    for key in delivery.removals() {
        replica.remove(key);
    }
}

fn describe(delivery: &Delivery<String, i32>) -> String {
    let updates = delivery.updates().map(|(key, entry)| format!("{key} = {}", **entry));
    let mut all: Vec<_> = updates.chain(delivery.removals().map(|key| format!("no {key}"))).collect();
    all.sort();
    all.join(", ")
}
