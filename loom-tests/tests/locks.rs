//! Lock operations against commits and against each other.
#![cfg(loom)]

use loom::thread;
use loom_tests::{explore, keys_of_two_shards, shared};
use state_dictionary::{Change, LockRequest, UpdateError};
use std::sync::Arc;

/// Invariant: from the return of a grant on, nobody else changes the key.
#[test]
fn grant_against_commit() {
    explore("grant_against_commit", 70, || {
        let dictionary = shared();
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || dictionary.update_state(&'a', Change::new().set(0, 1))
        });
        let locker = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                dictionary.update_locks(&'b', LockRequest::new().acquire(0, None)).unwrap();
                let seen = dictionary.revision();
                dictionary.update_state(&'b', Change::new().set(1, 1)).unwrap();
                assert_eq!(dictionary.revision().get(), seen.get() + 1, "a commit came after the grant");
            }
        });
        let committed = writer.join().unwrap();
        locker.join().unwrap();
        assert_eq!(committed.is_ok(), dictionary.get(&0).is_some());
        assert!(matches!(committed, Ok(_) | Err(UpdateError::Locked { .. })));
    });
}

/// Invariant: of two overlapping lock sets exactly one is granted, and of the other nothing is left.
#[test]
fn overlapping_lock_sets() {
    explore("overlapping_lock_sets", 12, || {
        let dictionary = shared();
        let [first, second] = keys_of_two_shards();
        let lockers = [('a', [first, second]), ('b', [second, first])].map(|(token, keys)| {
            let dictionary = Arc::clone(&dictionary);
            thread::spawn(move || {
                let request = LockRequest::new().acquire(keys[0], None).acquire(keys[1], None);
                dictionary.update_locks(&token, request).is_ok()
            })
        });
        let granted = lockers.map(|locker| locker.join().unwrap());
        assert_ne!(granted[0], granted[1]);
        let winner = if granted[0] { 'a' } else { 'b' };
        let locks = dictionary.locks();
        assert_eq!(locks.len(), 2);
        assert!(locks.iter().all(|(_, lock)| lock.holder == winner));
    });
}

/// Invariant: a commit that is let through by a release is after it; no commit is refused by a lock that is gone.
#[test]
fn release_against_commit() {
    let [first, second] = keys_of_two_shards();
    explore("release_against_commit", 90, move || {
        let dictionary = shared();
        dictionary.update_locks(&'b', LockRequest::new().acquire(first, None).acquire(second, None)).unwrap();
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || dictionary.update_state(&'a', Change::new().set(first, 1).set(second, 1))
        });
        let holder = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                let seen = dictionary.revision();
                assert_eq!(seen.get(), 0, "a commit came before the release");
                dictionary.release_all(&'b').len()
            }
        });
        let committed = writer.join().unwrap();
        assert_eq!(holder.join().unwrap(), 2);
        match committed {
            Ok(revision) => assert_eq!(revision.get(), 1),
            Err(UpdateError::Locked { conflicts, .. }) => assert_eq!(conflicts.len(), 2, "half of a lock set was seen"),
            Err(other) => panic!("{other}"),
        }
        assert!(dictionary.locks().is_empty());
    });
}
