//! Lock operations against commits, against each other and against freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{acquire, actor, explore, join, keys_of_two_shards, shared};
use state_dictionary::{Change, LockRequest, Refusal, UpdateError};

/// Invariant: from the return of a grant on, no other client changes the key.
#[test]
fn grant_against_commit() {
    explore("grant_against_commit", 90, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)));
        let locker = actor(&dictionary, |d| {
            d.update_locks(&'b', acquire(&[0])).unwrap();
            d.revision()
        });
        let committed = join(writer);
        assert_eq!(join(locker), dictionary.revision(), "a commit came after the grant");
        assert_eq!(committed.is_ok(), dictionary.get(&0).is_some());
        assert!(matches!(committed, Ok(_) | Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    });
}

/// Invariant: after a lock has refused one client, no other client's commit gets past it.
#[test]
fn grant_against_commit_and_a_third_party() {
    explore("grant_against_commit_and_a_third_party", 3500, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).is_ok());
        let locker = actor(&dictionary, |d| d.update_locks(&'b', acquire(&[0])).unwrap());
        let third = actor(&dictionary, |d| {
            let refused = d.update_state(&'c', Change::new().set(0, 2)).is_err();
            refused.then(|| d.revision())
        });
        join(writer);
        join(locker);
        if let Some(seen) = join(third) {
            assert_eq!(dictionary.revision(), seen, "a commit came after the lock was seen");
        }
    });
}

/// Invariant: of two overlapping lock sets exactly one is granted, and of the other nothing is left.
#[test]
fn overlapping_lock_sets() {
    let [first, second] = keys_of_two_shards();
    explore("overlapping_lock_sets", 20, move || {
        let dictionary = shared();
        let granted = [('a', [first, second, 100]), ('b', [200, second, first])]
            .map(|(token, keys)| actor(&dictionary, move |d| d.update_locks(&token, acquire(&keys)).is_ok()))
            .map(join);
        assert_ne!(granted[0], granted[1]);
        let winner = if granted[0] { 'a' } else { 'b' };
        let locks = dictionary.locks();
        assert_eq!(locks.len(), 3);
        assert!(locks.iter().all(|(_, lock)| lock.owner == winner));
    });
}

/// Invariant: a lock that is released and acquired in one step was never free.
#[test]
fn release_and_grant_in_one_step_against_commit() {
    explore("release_and_grant_in_one_step_against_commit", 170, || {
        let dictionary = shared();
        dictionary.update_locks(&'b', acquire(&[0])).unwrap();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).is_ok());
        let owner = actor(&dictionary, |d| d.update_locks(&'b', acquire(&[0]).release(0)).unwrap());
        assert!(!join(writer));
        assert_eq!(join(owner).released, [0]);
    });
}

/// Invariant: a commit that a release lets through comes after it, and no commit sees half of the locks gone.
#[test]
fn release_all_against_commit() {
    let [first, second] = keys_of_two_shards();
    explore("release_all_against_commit", 160, move || {
        let dictionary = shared();
        dictionary.update_locks(&'b', acquire(&[first, second])).unwrap();
        let writer = actor(&dictionary, move |d| d.update_state(&'a', Change::new().set(first, 1).set(second, 1)));
        let owner = actor(&dictionary, |d| {
            assert_eq!(d.revision().get(), 0, "a commit came before the release");
            d.release_all(&'b').len()
        });
        let committed = join(writer);
        assert_eq!(join(owner), 2);
        match committed {
            Ok(revision) => assert_eq!(revision.get(), 1),
            Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) => {
                assert_eq!(conflicts.len(), 2, "half of the locks were seen");
            }
            Err(other) => panic!("{other}"),
        }
        assert!(dictionary.locks().is_empty());
    });
}

/// Invariant: a release of one key releases that key and no other, whichever thread commits meanwhile.
#[test]
fn release_set_against_commits() {
    let [first, second] = keys_of_two_shards();
    explore("release_set_against_commits", 200, move || {
        let dictionary = shared();
        dictionary.update_locks(&'b', acquire(&[first, second])).unwrap();
        let writer = actor(&dictionary, move |d| {
            let released = d.update_state(&'a', Change::new().set(first, 1)).is_ok();
            let kept = d.update_state(&'a', Change::new().set(second, 1)).is_ok();
            (released, kept)
        });
        let owner = actor(&dictionary, move |d| {
            let receipt = d.update_locks(&'b', LockRequest::new().release(first).acquire(second, None)).unwrap();
            assert_eq!((receipt.released.len(), receipt.renewed.len()), (1, 1));
        });
        let (released, kept) = join(writer);
        join(owner);
        assert!(!kept, "a lock that is only renewed let a commit through");
        assert_eq!(dictionary.get(&first).is_some(), released);
        assert!(dictionary.update_state(&'a', Change::new().set(first, 2)).is_ok());
    });
}

/// Invariant: a release of several keys has given all of them back when it returns.
#[test]
fn release_of_two_shards() {
    let [first, second] = keys_of_two_shards();
    explore("release_of_two_shards", 390, move || {
        let dictionary = shared();
        dictionary.update_locks(&'b', acquire(&[first, second])).unwrap();
        let writer = actor(&dictionary, move |d| {
            drop(d.update_state(&'a', Change::new().set(first, 1)));
        });
        let owner = actor(&dictionary, move |d| {
            d.update_locks(&'b', LockRequest::new().release(first).release(second)).unwrap();
            d.update_state(&'c', Change::new().set(first, 2).set(second, 2)).unwrap();
        });
        join(writer);
        join(owner);
        assert!(dictionary.locks().is_empty());
    });
}

/// Invariant: `clear_locks` takes all of a lock set or nothing of it.
#[test]
fn clear_locks_against_grant() {
    let [first, second] = keys_of_two_shards();
    explore("clear_locks_against_grant", 63, move || {
        let dictionary = shared();
        let locker = actor(&dictionary, move |d| d.update_locks(&'b', acquire(&[first, second])).unwrap());
        let cleaner = actor(&dictionary, |d| d.clear_locks().len());
        join(locker);
        let cleared = join(cleaner);
        assert!(cleared == 0 || cleared == 2);
        assert_eq!(dictionary.locks().len(), 2 - cleared);
    });
}

/// Invariant: once `freeze` has returned no lock is granted; a release is still carried out.
#[test]
fn grant_and_release_against_freeze() {
    let [first, second] = keys_of_two_shards();
    explore("grant_and_release_against_freeze", 140, move || {
        let dictionary = shared();
        dictionary.update_locks(&'b', acquire(&[first])).unwrap();
        let locker = actor(&dictionary, move |d| d.update_locks(&'b', acquire(&[second]).release(first)).is_ok());
        let freezer = actor(&dictionary, move |d| {
            d.freeze();
            d.lock_info(&second).is_some()
        });
        let granted = join(locker);
        assert_eq!(join(freezer), granted, "a lock was granted after the freeze");
        assert_eq!(dictionary.lock_info(&second).is_some(), granted);
        assert!(dictionary.lock_info(&first).is_none());
    });
}
