//! README's first example, pasted into a function whose names and keys are parameters.
#![allow(clippy::unwrap_used, clippy::float_cmp)] // as in the example

use state_dictionary::{Change, LockRequest, StateDictionary};
use std::{sync::Arc, thread, time::Duration};

fn example(one: &str, other: &str, key: &str) -> Result<(), Box<dyn std::error::Error>> {
    // Keys are strings, values numbers, and writers are known by name. A refused change comes back in the error, so for `?`
    // in `main` keys and names must own their text: `Arc<str>` or `String`, not a borrowed `&str`.
    let room: StateDictionary<Arc<str>, f64, String> = StateDictionary::new();
    let (alice, bob) = (one.to_owned(), other.to_owned());
    let feed = room.change_buffer();
    let watcher = thread::spawn(move || {
        for delivery in feed.subscribe(Duration::from_millis(33)) {
            println!("{delivery:?}"); // what was set and what was removed
        }
    });
    room.update_locks(&alice, LockRequest::new().acquire(key, Duration::from_secs(5)))?;
    room.update_state(&alice, Change::new().set(key, 1.5).set("score", 1.0))?;
    let refused = room.update_state(&bob, Change::new().set(key, 0.0).set("score", 9.0));
    println!("{}", refused.unwrap_err()); // alice has locked the ball, so nothing of bob's was written
    assert_eq!(room.snapshot()["score"], 1.0);
    drop(room); // the feed delivers what is pending, then ends
    watcher.join().unwrap();
    Ok(())
}

#[test]
fn the_first_example_works_where_names_and_keys_are_parameters() {
    assert!(example("alice", "bob", "ball").is_ok());
}

#[test]
fn the_example_above_is_the_one_in_the_readme() {
    let lines = |text: &str, end: &str| -> Vec<String> {
        let (_, body) = text.split_once("-> Result<(), Box<dyn std::error::Error>> {\n").unwrap();
        let (body, _) = body.split_once(end).unwrap();
        body.lines().map(|line| line.trim().to_owned()).collect()
    };
    let readme = include_str!("../README.md").replace("\"alice\"", "one").replace("\"bob\"", "other");
    assert_eq!(lines(&readme.replace("\"ball\"", "key"), "\n}\n```"), lines(include_str!("readme.rs"), "\n}\n"));
}
