//! The first steps: atomic changes of several keys, snapshots, conditions, locks, and the end.
//!
//! ```text
//! cargo run --example basic
//! ```

use state_dictionary::{Change, LockRequest, Refusal, StateDictionary, UpdateError};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    // Keys are strings, values are numbers, and a writer is known by a name.
    let room: StateDictionary<String, i32, &str> = StateDictionary::new();

    // A change of several keys is one commit: a reader sees all of it or nothing.
    let revision = room.update_state(&"alice", Change::new().set("ball.x", 0).set("ball.y", 1).set("score", 0))?;
    println!("Alice puts a ball into the room. That is revision {revision}.");
    assert_eq!(revision.get(), 1);

    // A snapshot is the whole content at one instant. It is O(1) and never changes.
    let before = room.snapshot();
    let revision = room.update_state(&"bob", Change::new().set("ball.x", 5).remove("score"))?;
    println!("Bob moves it and removes the score: revision {revision}.");
    println!("Before: x = {}, with {} keys. Now: x = {}.", before["ball.x"], before.len(), room.snapshot()["ball.x"]);
    assert_eq!((before["ball.x"], before.len()), (0, 3));
    assert_eq!((room.snapshot()["ball.x"], room.snapshot().len()), (5, 2));

    // Each value has the revision of the commit that set it.
    let x = room.get("ball.x").ok_or("the ball has no x")?;
    let y = room.get("ball.y").ok_or("the ball has no y")?;
    println!("x was set by revision {}, y by revision {}.", x.revision(), y.revision());
    assert_eq!((x.revision().get(), y.revision().get()), (2, 1));

    // A change can have conditions. If one does not hold, nothing is changed, and the error hands the change back.
    let first = room.update_state(&"alice", Change::new().if_absent("goal").set("goal", 3));
    let second = room.update_state(&"bob", Change::new().if_absent("goal").set("goal", 7).set("ball.x", 7));
    println!("Both want to put up the goal. Alice: {}. Bob: {}.", answer(&first), answer(&second));
    assert!(first.is_ok());
    assert!(
        matches!(&second, Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. }) if failed[0].key == "goal")
    );
    assert_eq!((room.snapshot()["goal"], room.snapshot()["ball.x"]), (3, 5));

    // A lock is the exclusive right to write a key. `None` means until it is released; `examples/leases.rs` has leases.
    room.update_locks(&"alice", LockRequest::new().acquire("ball.x", None).acquire("ball.y", None))?;
    let alice = room.update_state(&"alice", Change::new().set("ball.x", 1));
    let bob = room.update_state(&"bob", Change::new().set("ball.x", 2));
    println!("Alice locks the ball. Alice moves it: {}. Bob moves it: {}.", answer(&alice), answer(&bob));
    assert!(alice.is_ok());
    assert!(
        matches!(&bob, Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) if conflicts[0].owner == "alice")
    );

    // Reading needs no lock, and a client that leaves releases all of its locks at once.
    println!("Bob can see the ball all the same, at {}.", room.snapshot()["ball.x"]);
    let mut released = room.release_all(&"alice");
    released.sort();
    println!("Alice leaves, and releases {}.", released.join(" and "));
    assert_eq!(released, ["ball.x", "ball.y"]);
    room.update_state(&"bob", Change::new().set("ball.x", 2))?;

    // After this nothing changes any more. A buffer delivers what is pending, and then ends.
    room.freeze();
    let late = room.update_state(&"bob", Change::new().set("ball.x", 3));
    println!("The room closes. Bob moves the ball once more: {}.", answer(&late));
    assert!(matches!(late, Err(UpdateError { reason: Refusal::Frozen, .. })));
    assert_eq!(room.snapshot()["ball.x"], 2);
    Ok(())
}

fn answer<R, E: Error>(result: &Result<R, E>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}
