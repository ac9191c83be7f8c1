//! The clock that tests move by hand.

mod common;

use common::{Dictionary, NANOSECOND, SECOND, with_manual_clock};
use state_dictionary::{LockRequest, ManualClock, StateDictionary};
use std::panic;
use std::time::Duration;

#[test]
fn a_clock_stands_still_until_it_is_moved_and_its_clones_are_the_same_clock() {
    let clock = ManualClock::default();
    let clone = clock.clone();
    assert_eq!(clone.elapsed(), Duration::ZERO);
    clock.advance(SECOND);
    clone.advance(NANOSECOND);
    assert_eq!(clock.elapsed(), SECOND + NANOSECOND);
    assert_eq!(format!("{clock:?}"), "ManualClock { elapsed: 1.000000001s }");
}

#[test]
fn a_clock_that_would_go_too_far_panics_and_stands_where_it_stood() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", Duration::MAX)).unwrap();
    assert!(panic::catch_unwind(|| clock.advance(Duration::MAX)).is_err());
    assert_eq!(clock.elapsed(), Duration::ZERO);
    clock.advance(Duration::from_nanos(u64::MAX));
    assert!(panic::catch_unwind(|| clock.advance(NANOSECOND)).is_err());
    assert_eq!(clock.elapsed(), Duration::from_nanos(u64::MAX));
    assert!(dictionary.lock_info("a").is_some(), "a lease without end outlasts the clock");
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", SECOND)).unwrap();
    assert_eq!(dictionary.lock_info("a").unwrap().remaining, Some(SECOND));
}

#[test]
fn one_clock_can_serve_several_dictionaries_and_outlive_them() {
    let (one, clock) = with_manual_clock();
    let other: Dictionary = StateDictionary::builder().clock(&clock).build();
    for dictionary in [&one, &other] {
        dictionary.update_locks(&"alice", LockRequest::new().acquire("a", SECOND)).unwrap();
    }
    clock.advance(SECOND);
    assert!(one.lock_info("a").is_none() && other.lock_info("a").is_none());
    drop((one, other));
    clock.advance(SECOND);
}
