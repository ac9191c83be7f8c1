//! Commits against commits, snapshots and freezing.
#![cfg(loom)]

use loom::thread;
use loom_tests::{explore, shared};
use state_dictionary::{Change, UpdateError};
use std::sync::Arc;

/// Invariant: a snapshot has all of a multi-key commit or nothing of it.
#[test]
fn multi_key_commit_against_snapshot() {
    explore("multi_key_commit_against_snapshot", 10, || {
        let dictionary = shared();
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || dictionary.update_state(&'a', Change::new().set(1, 1).set(2, 1)).unwrap()
        });
        let reader = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                let snapshot = dictionary.snapshot();
                assert_eq!(snapshot.get(&1), snapshot.get(&2));
                assert_eq!(snapshot.revision().get(), snapshot.len() as u64 / 2);
            }
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

/// Invariant: of two commits neither is lost, and they have different revisions.
#[test]
fn commit_against_commit() {
    explore("commit_against_commit", 50, || {
        let dictionary = shared();
        let writers = ['a', 'b'].map(|token| {
            let dictionary = Arc::clone(&dictionary);
            thread::spawn(move || dictionary.update_state(&token, Change::new().set(token as u8, 1).set(0, 0)).unwrap())
        });
        let [first, second] = writers.map(|writer| writer.join().unwrap().get());
        assert_eq!(first + second, 3);
        let content = dictionary.snapshot();
        assert_eq!((content.len(), content.revision().get()), (3, 2));
    });
}

/// Invariant: a read-modify-write is based on the content it replaces.
#[test]
fn read_modify_write_against_itself() {
    explore("read_modify_write_against_itself", 50, || {
        let dictionary = shared();
        let writers = ['a', 'b'].map(|token| {
            let dictionary = Arc::clone(&dictionary);
            thread::spawn(move || {
                dictionary
                    .update_state_with(&token, |content| {
                        Change::new().set(0, content.get(&0).copied().unwrap_or(0) + 1)
                    })
                    .unwrap()
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(dictionary.snapshot()[&0], 2);
    });
}

/// Invariant: of two changes on the condition that a key is absent, exactly one is committed.
#[test]
fn conditional_change_against_itself() {
    explore("conditional_change_against_itself", 12, || {
        let dictionary = shared();
        let writers = [1, 2].map(|value| {
            let dictionary = Arc::clone(&dictionary);
            thread::spawn(move || dictionary.update_state(&'a', Change::new().set(0, value).if_absent(0)))
        });
        let results = writers.map(|writer| writer.join().unwrap());
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        let winner = results.iter().position(Result::is_ok).unwrap();
        assert_eq!(dictionary.snapshot()[&0] as usize, winner + 1);
    });
}

/// Invariant: once `freeze` has returned nothing is committed; a commit is in the frozen content or is refused.
#[test]
fn commit_against_freeze() {
    explore("commit_against_freeze", 35, || {
        let dictionary = shared();
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || dictionary.update_state(&'a', Change::new().set(0, 1))
        });
        let freezer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                assert!(dictionary.freeze());
                dictionary.revision()
            }
        });
        let committed = writer.join().unwrap();
        let frozen_at = freezer.join().unwrap();
        assert_eq!(dictionary.revision(), frozen_at);
        match committed {
            Ok(revision) => assert_eq!(revision, frozen_at),
            Err(UpdateError::Frozen { change }) => assert_eq!((change.len(), frozen_at.get()), (1, 0)),
            Err(other) => panic!("{other}"),
        }
    });
}
