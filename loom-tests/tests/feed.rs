//! Buffers against commits and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, actor, explore, explore_bounded, join, shared};
use state_dictionary::{Change, ChangeBuffer, Delivery, FlushError, ManualClock, StateDictionary, TryFlushError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a follower knows: built from nothing but deliveries.
#[derive(Default)]
struct Replica {
    content: BTreeMap<u8, u32>,
    revision: u64,
}

impl Replica {
    fn apply(&mut self, delivery: &Delivery<u8, u32>) {
        assert_eq!(delivery.since().get(), self.revision, "deliveries do not join");
        assert!(delivery.revision() > delivery.since());
        self.revision = delivery.revision().get();
        for (key, entry) in delivery.updates() {
            self.content.insert(*key, **entry);
        }
        for key in delivery.removals() {
            assert!(self.content.remove(key).is_some(), "the removal of a key never delivered");
        }
    }

    fn follow(&mut self, buffer: &ChangeBuffer<u8, u32>) -> TryFlushError {
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
    explore("buffer_creation_against_commit", 53, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| {
            d.update_state(&'a', Change::new().set(0, 1)).unwrap();
            d.update_state(&'a', Change::new().set(1, 1).remove(0)).unwrap();
        });
        let follower = actor(&dictionary, |d| {
            let buffer = d.change_buffer();
            let mut replica = Replica::default();
            replica.follow(&buffer);
            (buffer, replica)
        });
        join(writer);
        let (buffer, mut replica) = join(follower);
        replica.follow(&buffer);
        replica.assert_equals(&dictionary);
    });
}

/// Invariant: a delivery has all of a multi-key commit or nothing of it, also when the buffer has left the history.
#[test]
fn flush_against_commits_beyond_the_history() {
    explore("flush_against_commits_beyond_the_history", 89, || {
        let dictionary = shared();
        dictionary.update_state(&'a', Change::new().set(0, 0).set(1, 0)).unwrap();
        let writer = actor(&dictionary, |d| {
            d.update_state(&'a', Change::new().set(2, 1).set(3, 1).remove(0)).unwrap();
            d.update_state(&'a', Change::new().set(1, 2).remove(2).remove(3)).unwrap();
        });
        let follower = actor(&dictionary, |d| {
            let buffer = d.change_buffer();
            let mut replica = Replica::default();
            for _ in 0..2 {
                if let Ok(delivery) = buffer.try_flush() {
                    replica.apply(&delivery);
                }
                let one_instant = [vec![0, 1], vec![1, 2, 3], vec![1]];
                assert!(one_instant.contains(&replica.content.keys().copied().collect()));
            }
            (buffer, replica)
        });
        join(writer);
        let (buffer, mut replica) = join(follower);
        replica.follow(&buffer);
        replica.assert_equals(&dictionary);
    });
}

/// Invariant: of two threads that flush one buffer each change goes to one.
#[test]
fn two_threads_on_one_buffer() {
    explore("two_threads_on_one_buffer", 940, || {
        let dictionary = shared();
        let buffer = Arc::new(dictionary.change_buffer());
        dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(1, 1)).unwrap());
        let followers = [(); 2].map(|()| actor(&buffer, |b| b.try_flush().ok()));
        join(writer);
        let mut deliveries: Vec<_> = followers.map(join).into_iter().flatten().collect();
        deliveries.sort_by_key(Delivery::since);
        let mut replica = Replica::default();
        for delivery in &deliveries {
            replica.apply(delivery);
        }
        replica.follow(&buffer);
        replica.assert_equals(&dictionary);
    });
}

/// Invariant: a flush that waits is woken by the commit it waits for.
#[test]
fn waiting_flush_against_commit() {
    explore("waiting_flush_against_commit", 380, || {
        let dictionary = shared();
        let follower = actor(&Arc::new(dictionary.change_buffer()), |b| b.flush().unwrap().revision().get());
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        join(writer);
        assert_eq!(join(follower), 1);
    });
}

/// Invariant: a flush that waits is woken by the freezing of the dictionary.
#[test]
fn waiting_flush_against_freeze() {
    explore("waiting_flush_against_freeze", 380, || {
        let dictionary = shared();
        let follower = actor(&Arc::new(dictionary.change_buffer()), |b| b.flush().unwrap_err());
        let freezer = actor(&dictionary, Dictionary::freeze);
        assert!(join(freezer));
        assert_eq!(join(follower), FlushError);
    });
}

/// Invariant: a flush that waits is woken by the end of the dictionary.
#[test]
fn waiting_flush_against_drop() {
    explore("waiting_flush_against_drop", 500, || {
        let dictionary = Dictionary::new();
        let follower = actor(&Arc::new(dictionary.change_buffer()), |b| b.flush().unwrap_err());
        let owner = loom::thread::spawn(move || drop(dictionary));
        join(owner);
        assert_eq!(join(follower), FlushError);
    });
}

/// Invariant: all threads that wait on one buffer are woken by its end.
#[test]
fn two_waiting_flushes_against_buffer_freeze() {
    explore("two_waiting_flushes_against_buffer_freeze", 110_000, || {
        let dictionary = shared();
        let buffer = Arc::new(dictionary.change_buffer());
        let followers = [(); 2].map(|()| actor(&buffer, |b| b.flush().unwrap_err()));
        let freezer = actor(&buffer, ChangeBuffer::close);
        assert!(join(freezer));
        assert_eq!(followers.map(join), [FlushError; 2]);
    });
}

/// Invariant: freezing one buffer ends it with exactly what was committed before, and wakes its flush.
#[test]
fn buffer_freeze_against_commit_and_flush() {
    explore("buffer_freeze_against_commit_and_flush", 3100, || {
        let dictionary = shared();
        let buffer = Arc::new(dictionary.change_buffer());
        let follower = actor(&buffer, |b| {
            let mut replica = Replica::default();
            while let Ok(delivery) = b.flush() {
                replica.apply(&delivery);
            }
            replica.revision
        });
        let writer = actor(&dictionary, move |d| {
            let before = d.update_state(&'a', Change::new().set(0, 1)).unwrap().get();
            assert!(buffer.close());
            d.update_state(&'a', Change::new().set(0, 2)).unwrap();
            before
        });
        assert_eq!(join(writer), join(follower));
    });
}

/// Invariant: a subscriber asleep in its interval is woken by the end of the feed, and by its time.
#[test]
fn sleeping_subscriber_against_clock_and_freeze() {
    explore_bounded("sleeping_subscriber_against_clock_and_freeze", 2, 9600, || {
        let clock = ManualClock::new();
        let dictionary: Dictionary = StateDictionary::builder().clock(&clock).content([(0, 0)]).build();
        let dictionary = Arc::new(dictionary);
        let subscriber = actor(&Arc::new(dictionary.change_buffer()), |b| {
            b.subscribe(Duration::from_secs(1)).map(|delivery| delivery.revision().get()).last()
        });
        let ticker = actor(&Arc::new(clock), |clock| clock.advance(Duration::from_secs(1)));
        let writer = actor(&dictionary, |d| {
            d.update_state(&'a', Change::new().set(0, 1)).unwrap();
            d.freeze();
        });
        join(ticker);
        join(writer);
        assert_eq!(join(subscriber), Some(2));
    });
}

/// Invariant: a subscriber asleep in an interval without end is woken by the freezing of its buffer.
#[test]
fn sleeping_subscriber_against_buffer_freeze() {
    explore("sleeping_subscriber_against_buffer_freeze", 420, || {
        let dictionary: Dictionary = StateDictionary::builder().content([(0, 0)]).build();
        let buffer = Arc::new(dictionary.change_buffer());
        let subscriber = actor(&buffer, |b| b.subscribe(Duration::MAX).count());
        let freezer = actor(&buffer, ChangeBuffer::close);
        assert!(join(freezer));
        assert_eq!(join(subscriber), 1);
    });
}

#[test]
#[should_panic(expected = "ManualClock")]
fn a_timed_wait_on_the_systems_clock_panics_and_names_the_manual_clock() {
    loom::model(|| {
        let dictionary = Dictionary::new();
        let _ = dictionary.change_buffer().flush_timeout(Duration::from_secs(1));
    });
}
