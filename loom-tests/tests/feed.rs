//! Buffers against commits and freezing.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Dictionary, explore, shared};
use state_dictionary::{Change, ChangeBuffer, Delivery, FlushError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a follower knows: built from nothing but deliveries.
#[derive(Default)]
struct Replica {
    content: BTreeMap<u8, u32>,
    revision: u64,
}

impl Replica {
    fn apply(&mut self, delivery: &Delivery<u8, u32>) {
        assert_eq!(delivery.from().get(), self.revision, "deliveries do not join");
        assert!(delivery.to() > delivery.from());
        self.revision = delivery.to().get();
        for (key, entry) in delivery.updates() {
            self.content.insert(*key, **entry);
        }
        for key in delivery.removals() {
            assert!(self.content.remove(key).is_some(), "the removal of a key never delivered");
        }
    }

    fn follow<S: std::hash::BuildHasher + Clone>(&mut self, buffer: &ChangeBuffer<u8, u32, S>) -> FlushError {
        loop {
            match buffer.try_flush() {
                Ok(delivery) => self.apply(&delivery),
                Err(reason) => return reason,
            }
        }
    }

    fn assert_equals(&self, dictionary: &Dictionary) {
        let content: BTreeMap<_, _> = dictionary.snapshot().iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(self.content, content);
    }
}

/// Invariant: whenever a buffer is made and flushed, its deliveries add up to the content.
#[test]
fn buffer_creation_against_commit() {
    explore("buffer_creation_against_commit", 20, || {
        let dictionary = shared();
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap();
                dictionary.update_state(&'a', Change::new().set(1, 1).remove(0)).unwrap();
            }
        });
        let follower = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                let buffer = dictionary.change_buffer();
                let mut replica = Replica::default();
                replica.follow(&buffer);
                (buffer, replica)
            }
        });
        writer.join().unwrap();
        let (buffer, mut replica) = follower.join().unwrap();
        replica.follow(&buffer);
        replica.assert_equals(&dictionary);
    });
}

/// Invariant: a flush that waits is woken by the commit it waits for.
#[test]
fn waiting_flush_against_commit() {
    explore("waiting_flush_against_commit", 80, || {
        let dictionary = shared();
        let buffer = dictionary.change_buffer();
        let follower = thread::spawn(move || buffer.flush().unwrap().to().get());
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap()
        });
        writer.join().unwrap();
        assert_eq!(follower.join().unwrap(), 1);
    });
}

/// Invariant: a flush that waits is woken by the freezing of the dictionary.
#[test]
fn waiting_flush_against_freeze() {
    explore("waiting_flush_against_freeze", 80, || {
        let dictionary = shared();
        let buffer = dictionary.change_buffer();
        let follower = thread::spawn(move || buffer.flush().unwrap_err());
        let freezer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || dictionary.freeze()
        });
        assert!(freezer.join().unwrap());
        assert_eq!(follower.join().unwrap(), FlushError::Ended);
    });
}

/// Invariant: a flush that waits is woken by the end of the dictionary.
#[test]
fn waiting_flush_against_drop() {
    explore("waiting_flush_against_drop", 95, || {
        let dictionary = Dictionary::new();
        let buffer = dictionary.change_buffer();
        let follower = thread::spawn(move || buffer.flush().unwrap_err());
        let owner = thread::spawn(move || drop(dictionary));
        owner.join().unwrap();
        assert_eq!(follower.join().unwrap(), FlushError::Ended);
    });
}

/// Invariant: freezing one buffer ends it with exactly what was committed before, and wakes its flush.
#[test]
fn buffer_freeze_against_commit_and_flush() {
    explore("buffer_freeze_against_commit_and_flush", 340, || {
        let dictionary = shared();
        let buffer = Arc::new(dictionary.change_buffer());
        let follower = thread::spawn({
            let buffer = Arc::clone(&buffer);
            move || {
                let mut replica = Replica::default();
                loop {
                    match buffer.flush() {
                        Ok(delivery) => replica.apply(&delivery),
                        Err(_) => return replica.revision,
                    }
                }
            }
        });
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                let before = dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap().get();
                assert!(buffer.freeze());
                dictionary.update_state(&'a', Change::new().set(0, 2)).unwrap();
                before
            }
        });
        assert_eq!(writer.join().unwrap(), follower.join().unwrap());
    });
}
