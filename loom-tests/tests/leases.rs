//! Renewal and expiry, on the manual clock, against commits.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, actor, explore, join};
use state_dictionary::{Change, LockRequest, ManualClock, Refusal, StateDictionary, UpdateError};
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);

/// Key 0 is locked by 'b' for one tick of the clock.
fn leased() -> (Arc<Dictionary>, ManualClock) {
    let clock = ManualClock::new();
    let dictionary: Dictionary = StateDictionary::builder().clock(&clock).build();
    dictionary.update_locks(&'b', LockRequest::new().acquire(0, TICK)).unwrap();
    (Arc::new(dictionary), clock)
}

/// Invariant: two writers who meet an expired lock both get past it, and it is gone.
#[test]
fn two_commits_against_an_expired_lock() {
    explore("two_commits_against_an_expired_lock", 880, || {
        let (dictionary, clock) = leased();
        clock.advance(TICK);
        let writers = ['a', 'c']
            .map(|token| actor(&dictionary, move |d| d.update_state(&token, Change::new().set(0, 1)).unwrap()));
        let revisions = writers.map(|writer| join(writer).get());
        assert_eq!(revisions[0] + revisions[1], 3);
        assert!(dictionary.locks().is_empty());
    });
}

/// Invariant: a lock that was renewed in time was never lost; one that expired is granted anew, and from then on no
/// other client changes the key.
#[test]
fn renewal_against_expiry_and_commit() {
    explore("renewal_against_expiry_and_commit", 6000, || {
        let (dictionary, clock) = leased();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)));
        let ticker = actor(&Arc::new(clock), |clock| clock.advance(TICK));
        let owner = actor(&dictionary, |d| {
            let receipt = d.update_locks(&'b', LockRequest::new().acquire(0, TICK * 10)).unwrap();
            let seen = d.revision();
            assert_eq!(receipt.renewed.len() + receipt.granted.len(), 1);
            (receipt.renewed.len() == 1, seen)
        });
        let committed = join(writer);
        join(ticker);
        let (renewed, seen) = join(owner);
        assert_eq!(dictionary.revision(), seen, "a commit came after the lock was granted or renewed");
        assert!(!(renewed && committed.is_ok()), "a commit came past a lock that never expired");
        assert!(matches!(committed, Ok(_) | Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    });
}

/// Invariant: of an expired lock, either its owner finds that it has expired, or the thread that removed it reports it.
#[test]
fn regrant_of_an_expired_lock_against_commit() {
    explore("regrant_of_an_expired_lock_against_commit", 400, || {
        let (dictionary, clock) = leased();
        let first_token = dictionary.lock_info(&0).unwrap().fencing_token;
        clock.advance(TICK);
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).is_ok());
        let owner = actor(&dictionary, move |d| {
            let receipt = d.update_locks(&'b', LockRequest::new().acquire(0, None)).unwrap();
            assert!(receipt.renewed.is_empty(), "an expired lock was renewed");
            assert!(receipt.granted[0].1 > first_token);
            d.revision()
        });
        let committed = join(writer);
        assert_eq!(join(owner), dictionary.revision(), "a commit came after the grant");
        assert_eq!(dictionary.get(&0).is_some(), committed);
        assert_eq!(dictionary.lock_info(&0).unwrap().owner, 'b');
    });
}
