//! Commits that are made in the spare root, against snapshots, flushes, grants, guards and each other.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, acquire, actor, explore, join, shared};
use state_dictionary::{Change, Refusal, Snapshot, UpdateError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys, each with the value to set, or `None` to remove it.
type Operations = &'static [(u8, Option<u32>)];

/// Each key with its value and the revision that set it.
type Content = BTreeMap<u8, (u32, u64)>;

/// A dictionary that has a spare root: its first commit, of these operations, has left it one.
fn with_a_spare_root(operations: Operations) -> Arc<Dictionary> {
    let dictionary = shared();
    assert_eq!(commit(&dictionary, 'a', operations), (1, operations));
    dictionary
}

fn change(operations: Operations) -> Change<u8, u32> {
    operations.iter().fold(Change::new(), |change, &(key, value)| match value {
        Some(value) => change.set(key, value),
        None => change.remove(key),
    })
}

fn commit(dictionary: &Dictionary, token: char, operations: Operations) -> (u64, Operations) {
    (dictionary.update_state(&token, change(operations)).unwrap().get(), operations)
}

fn content(snapshot: &Snapshot<u8, u32>) -> Content {
    snapshot.entries().map(|(key, entry)| (*key, (**entry, entry.revision().get()))).collect()
}

/// What commits leave that were done in the order of their revisions, which have no gap.
fn replay(commits: impl IntoIterator<Item = (u64, Operations)>) -> Content {
    let mut commits: Vec<_> = commits.into_iter().collect();
    commits.sort_unstable();
    let mut content = Content::new();
    for ((revision, operations), expected) in commits.into_iter().zip(1..) {
        assert_eq!(revision, expected, "a revision is missing, or there twice");
        for &(key, value) in operations {
            match value {
                Some(value) => content.insert(key, (value, revision)),
                None => content.remove(&key),
            };
        }
    }
    content
}

/// Invariant: a snapshot has the content of its revision, and keeps it while commits are made in replaced roots.
#[test]
fn commits_in_the_spare_root_against_a_snapshot() {
    const COMMITS: [Operations; 3] = [&[(0, Some(1)), (1, Some(1))], &[(0, Some(2)), (1, None)], &[(2, Some(3))]];
    explore("commits_in_the_spare_root_against_a_snapshot", 61, || {
        let dictionary = with_a_spare_root(COMMITS[0]);
        let writer = actor(&dictionary, |d| {
            for operations in &COMMITS[1..] {
                commit(d, 'a', operations);
            }
        });
        let reader = actor(&dictionary, |d| {
            let snapshot = d.snapshot();
            let commits = (1..).zip(COMMITS).take(usize::try_from(snapshot.revision().get()).unwrap());
            let expected = replay(commits);
            assert_eq!(content(&snapshot), expected);
            assert!(d.revision() >= snapshot.revision());
            assert_eq!(content(&snapshot), expected, "the snapshot has changed");
        });
        join(writer);
        join(reader);
        assert_eq!(content(&dictionary.snapshot()), replay((1..).zip(COMMITS)));
    });
}

/// Invariant: of commits that use the spare root by turns, and others that go without, none is lost and none is half
/// there.
#[test]
fn two_writers_with_two_commits_each() {
    explore("two_writers_with_two_commits_each", 800, || {
        let first: Operations = &[(0, Some(0))];
        let dictionary = with_a_spare_root(first);
        let of_one: [Operations; 2] = [&[(1, Some(1))], &[(1, None)]];
        let of_other: [Operations; 2] = [&[(1, Some(2))], &[(0, None)]];
        let writers = [('a', of_one), ('b', of_other)]
            .map(|(token, both)| actor(&dictionary, move |d| both.map(|operations| commit(d, token, operations))));
        let committed = writers.map(join).into_iter().flatten();
        assert_eq!(content(&dictionary.snapshot()), replay(committed.chain([(1, first)])));
    });
}

/// Invariant: as above, with another thread that can have the turn.
#[test]
fn three_writers_with_two_commits_each() {
    explore("three_writers_with_two_commits_each", 54_000, || {
        let first: Operations = &[(0, Some(0))];
        let dictionary = with_a_spare_root(first);
        let of_each: [[Operations; 2]; 3] =
            [[&[(1, Some(1))], &[(1, None)]], [&[(1, Some(2))], &[(0, None)]], [&[(0, Some(3))], &[(2, Some(3))]]];
        let writers =
            of_each.map(|both| actor(&dictionary, move |d| both.map(|operations| commit(d, 'a', operations))));
        let committed = writers.map(join).into_iter().flatten();
        assert_eq!(content(&dictionary.snapshot()), replay(committed.chain([(1, first)])));
    });
}

/// Invariant: a commit that lost its swap to a grant, and was then refused, is in no later content; fencing tokens rise
/// whatever root a commit is made in.
#[test]
fn commits_in_the_spare_root_against_grants() {
    explore("commits_in_the_spare_root_against_grants", 380, || {
        let dictionary = with_a_spare_root(&[(0, Some(0))]);
        let earlier = dictionary.update_locks(&'c', acquire(&[100])).unwrap().granted[0].1;
        let writer = actor(&dictionary, |d| {
            let committed = d.update_state(&'a', change(&[(1, Some(1))])).is_ok();
            let (revision, _) = commit(d, 'a', &[(2, Some(2))]);
            assert_eq!(revision, 2 + u64::from(committed));
            committed
        });
        let locker = actor(&dictionary, move |d| {
            let granted = d.update_locks(&'b', acquire(&[1])).unwrap().granted[0].1;
            assert!(granted > earlier, "an earlier lock has this fencing token, or a greater one");
            d.get(&1).is_some()
        });
        let committed = join(writer);
        assert_eq!(join(locker), committed, "a commit came after the grant");
        assert_eq!(dictionary.get(&1).is_some(), committed);
        assert_eq!(dictionary.snapshot().len(), 2 + usize::from(committed));
    });
}

/// Invariant: what a buffer keeps is not changed by commits in the spare root, and the history has all of them: its
/// deliveries add up to the content of the revision where each ends.
#[test]
fn flushes_against_commits_in_the_spare_root() {
    const COMMITS: [Operations; 4] =
        [&[(0, Some(1)), (1, Some(1))], &[(0, Some(2))], &[(1, None)], &[(0, None), (2, Some(4))]];
    explore("flushes_against_commits_in_the_spare_root", 96, || {
        let dictionary = with_a_spare_root(COMMITS[0]);
        let buffer = Arc::new(dictionary.change_buffer());
        buffer.flush().unwrap();
        let writer = actor(&dictionary, |d| {
            for operations in &COMMITS[1..] {
                commit(d, 'a', operations);
            }
        });
        let follower = actor(&buffer, |b| [(); 2].map(|()| b.try_flush().ok()));
        join(writer);
        let mut replica = replay([(1, COMMITS[0])]);
        for delivery in join(follower).into_iter().chain([buffer.try_flush().ok()]).flatten() {
            replica.extend(delivery.updates().map(|(key, entry)| (*key, (**entry, entry.revision().get()))));
            for key in delivery.removals() {
                assert!(replica.remove(key).is_some(), "the removal of a key never delivered");
            }
            let commits = (1..).zip(COMMITS).take(usize::try_from(delivery.revision().get()).unwrap());
            assert_eq!(replica, replay(commits));
        }
        assert_eq!(replica, content(&dictionary.snapshot()));
    });
}

/// Invariant: a guard still locks the content when it writes in the spare root.
#[test]
fn guard_that_writes_in_the_spare_root_against_commits() {
    explore("guard_that_writes_in_the_spare_root_against_commits", 1600, || {
        let dictionary = with_a_spare_root(&[(0, Some(0))]);
        let writer = actor(&dictionary, |d| commit(d, 'a', &[(1, Some(1))]));
        let owner = actor(&dictionary, |d| {
            let mut guard = d.lock_content().unwrap();
            let seen = guard.revision().get();
            let own = [2, 3].map(|key| guard.update_state(&'b', Change::new().set(key, 1)).unwrap().get());
            assert_eq!(own, [seen + 1, seen + 2], "a commit came past the guard");
            assert_eq!(d.revision(), guard.revision());
        });
        join(writer);
        join(owner);
        let content = dictionary.snapshot();
        assert_eq!((content.len(), content.revision().get()), (4, 4));
    });
}

/// Invariant: the spare root catches up with however many commits were made while another writer had the turn.
#[test]
fn commit_with_the_turn_in_hand_against_commits_without() {
    explore("commit_with_the_turn_in_hand_against_commits_without", 770, || {
        let first: Operations = &[(0, Some(0))];
        let dictionary = with_a_spare_root(first);
        let own: Operations = &[(4, Some(4))];
        let reader = actor(&dictionary, move |d| (d.update_state_with(&'a', |_| change(own)).unwrap().get(), own));
        let writer = actor(&dictionary, |d| {
            let all: [Operations; 3] = [&[(1, Some(1))], &[(2, Some(2))], &[(3, Some(3))]];
            all.map(|operations| commit(d, 'b', operations))
        });
        let committed = join(writer).into_iter().chain([join(reader)]);
        assert_eq!(content(&dictionary.snapshot()), replay(committed.chain([(1, first)])));
    });
}

/// Invariant: a writer that has the turn, and waits for another writer in its closure, delays no other thread.
#[test]
fn closure_that_waits_for_another_writer() {
    explore("closure_that_waits_for_another_writer", 2900, || {
        let dictionary = with_a_spare_root(&[(0, Some(0))]);
        let third = actor(&dictionary, |d| commit(d, 'c', &[(3, Some(1))]));
        let shared = Arc::clone(&dictionary);
        let waiting = actor(&dictionary, move |d| {
            // The second run is the one with the turn.
            d.update_state_with_limit(&'a', 2, |_| {
                join(actor(&shared, |d| commit(d, 'b', &[(1, Some(1))])));
                Change::new().set(2, 1)
            })
        });
        assert!(matches!(join(waiting), Err(UpdateError { reason: Refusal::RetriesExhausted { attempts: 2 }, .. })));
        join(third);
        assert_eq!(dictionary.revision().get(), 4);
    });
}

/// Invariant: freezing frees the spare root, also if a commit has the turn meanwhile, and waits for no other thread.
#[test]
fn freeze_against_commits_that_leave_a_spare_root() {
    explore("freeze_against_commits_that_leave_a_spare_root", 10_000, || {
        let dictionary = shared();
        let value = Arc::new(7);
        dictionary.update_state(&'a', Change::new().set_arc(0, Arc::clone(&value))).unwrap();
        let writers = ['a', 'b'].map(|token| {
            actor(&dictionary, move |d| d.update_state(&token, Change::new().set(token as u8, 1)).is_ok())
        });
        let freezer = actor(&dictionary, Dictionary::freeze);
        let _: [bool; 2] = writers.map(join);
        assert!(join(freezer));
        assert_eq!(Arc::strong_count(&value), 2, "a tree besides that of the content has the value");
    });
}
