//! Resuming from a position, and waiting for a revision, against commits and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, actor, explore, explore_bounded, join, shared};
use state_dictionary::{BufferOptions, Change, ChangeBuffer, Delivery, Revision, WaitError};
use std::collections::BTreeMap;
use std::sync::Arc;

type Replica = BTreeMap<u8, u32>;

/// The content at each revision of the models.
fn content_at(revision: Revision) -> Replica {
    let entries: &[(u8, u32)] = match revision.get() {
        1 => &[(0, 1), (1, 1)],
        2 => &[(1, 2), (2, 2)],
        3 => &[(1, 2), (2, 2), (3, 3)],
        4 => &[(0, 4), (2, 2), (3, 3)],
        other => panic!("there is no revision {other}"),
    };
    entries.iter().copied().collect()
}

/// The commits that come after the first.
fn commit_the_others(dictionary: &Dictionary) {
    let changes =
        [Change::new().remove(0).set(1, 2).set(2, 2), Change::new().set(3, 3), Change::new().set(0, 4).remove(1)];
    for change in changes {
        dictionary.update_state(&'a', change).unwrap();
    }
}

fn begun() -> Arc<Dictionary> {
    let dictionary = shared();
    dictionary.update_state(&'a', Change::new().set(0, 1).set(1, 1)).unwrap();
    dictionary
}

/// What a client that has this knows after a delivery: only what is delivered, if the delivery is full.
fn apply(replica: &mut Replica, delivery: &Delivery<u8, u32>) {
    if delivery.is_full() {
        replica.clear();
    }
    for key in delivery.removals() {
        assert!(replica.remove(key).is_some(), "the removal of a key that the client does not have");
    }
    replica.extend(delivery.updates().map(|(key, entry)| (*key, **entry)));
    assert_eq!(*replica, content_at(delivery.revision()), "after {delivery:?}");
}

/// Invariant: a client that resumes receives exactly what has changed, or everything, also while commits push its
/// position off the history.
#[test]
fn resume_against_commits_beyond_the_history() {
    explore("resume_against_commits_beyond_the_history", 95, || {
        let dictionary = begun();
        let seen = dictionary.position();
        let writer = actor(&dictionary, commit_the_others);
        let client = actor(&dictionary, move |d| {
            let buffer = d.change_buffer_with(BufferOptions::new().resume(seen));
            let mut replica = content_at(seen.revision);
            if let Ok(delivery) = buffer.try_flush() {
                apply(&mut replica, &delivery);
            }
            let again = buffer.position();
            (buffer, again, replica)
        });
        join(writer);
        let (buffer, again, mut replica) = join(client);
        assert_eq!(replica, content_at(again.revision), "the position is not that of what was delivered");
        // Both ways of going on: with the same buffer, and from the position.
        let resumed = dictionary.change_buffer_with(BufferOptions::new().resume(again));
        for buffer in [&resumed, &buffer] {
            let mut replica = replica.clone();
            follow(buffer, &mut replica);
            assert_eq!(replica, content_at(Revision::from(4)));
        }
        follow(&buffer, &mut replica);
    });
}

fn follow(buffer: &ChangeBuffer<u8, u32>, replica: &mut Replica) {
    while let Ok(delivery) = buffer.try_flush() {
        apply(replica, &delivery);
    }
}

/// Invariant: a resumed buffer that waits is woken by a commit.
#[test]
fn waiting_resumed_flush_against_commit() {
    explore("waiting_resumed_flush_against_commit", 380, || {
        let dictionary = begun();
        let buffer = Arc::new(dictionary.change_buffer_with(BufferOptions::new().resume(dictionary.position())));
        let client = actor(&buffer, |b| {
            let delivery = b.flush().unwrap();
            assert!(!delivery.is_full());
            (delivery.since().get(), delivery.revision().get())
        });
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(1, 2)).unwrap());
        join(writer);
        assert_eq!(join(client), (1, 2));
    });
}

/// Invariant: a waiter for a revision is woken by the commit that reaches it, and not by an earlier one.
#[test]
fn wait_for_against_commits() {
    explore_bounded("wait_for_against_commits", 2, 2400, || {
        let dictionary = shared();
        let waiting = actor(&dictionary, |d| d.wait_for_revision(Revision::from(2)).unwrap());
        let writers = [('a', 1), ('b', 2)].map(|(token, key)| {
            actor(&dictionary, move |d| d.update_state(&token, Change::new().set(key, 0)).unwrap())
        });
        let _: [_; 2] = writers.map(join);
        let content = join(waiting);
        assert_eq!((content.revision().get(), content.len()), (2, 2));
    });
}

/// Invariant: a wait for a revision returns that it was reached, or that it can no longer be.
#[test]
fn wait_for_against_commit_and_freeze() {
    explore_bounded("wait_for_against_commit_and_freeze", 2, 1200, || {
        let dictionary = shared();
        let waiting = actor(&dictionary, |d| d.wait_for_revision(Revision::from(1)).map(|content| content.len()));
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).is_ok());
        let freezer = actor(&dictionary, Dictionary::freeze);
        let committed = join(writer);
        assert!(join(freezer));
        match join(waiting) {
            Ok(keys) => assert!(committed && keys == 1),
            Err(reason) => assert!(!committed && reason == WaitError::Frozen),
        }
    });
}
