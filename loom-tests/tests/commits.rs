//! Commits against each other, snapshots and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, actor, explore, join, shared};
use state_dictionary::{Change, Refusal, UpdateError};

/// Invariant: a snapshot has all of a multi-key commit or nothing of it.
#[test]
fn multi_key_commit_against_snapshot() {
    explore("multi_key_commit_against_snapshot", 17, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(1, 1).set(2, 1)).unwrap());
        let reader = actor(&dictionary, |d| {
            let snapshot = d.snapshot();
            assert_eq!(snapshot.get(&1), snapshot.get(&2));
            assert_eq!(snapshot.revision().get(), snapshot.len() as u64 / 2);
        });
        join(writer);
        join(reader);
    });
}

/// Invariant: of two commits neither is lost, and they have different revisions.
#[test]
fn commit_against_commit() {
    explore("commit_against_commit", 75, || {
        let dictionary = shared();
        let writers = ['a', 'b'].map(|token| {
            actor(&dictionary, move |d| d.update_state(&token, Change::new().set(token as u8, 1).set(0, 0)).unwrap())
        });
        let [first, second] = writers.map(|writer| join(writer).get());
        assert_eq!(first + second, 3);
        let content = dictionary.snapshot();
        assert_eq!((content.len(), content.revision().get()), (3, 2));
    });
}

/// Invariant: a read-modify-write is based on the content it replaces.
#[test]
fn read_modify_write_against_itself() {
    explore("read_modify_write_against_itself", 120, || {
        let dictionary = shared();
        let writers = ['a', 'b'].map(|token| {
            actor(&dictionary, move |d| {
                let one_more = |content: Option<&u32>| content.copied().unwrap_or(0) + 1;
                d.update_state_with(&token, |content| Change::new().set(0, one_more(content.get(&0)))).unwrap()
            })
        });
        let _: [_; 2] = writers.map(join);
        assert_eq!(dictionary.snapshot()[&0], 2);
    });
}

/// Invariant: of two changes on the condition that a key is absent, exactly one is committed.
#[test]
fn conditional_change_against_itself() {
    explore("conditional_change_against_itself", 51, || {
        let dictionary = shared();
        let writers = [1, 2].map(|value| {
            actor(&dictionary, move |d| d.update_state(&'a', Change::new().set(0, value).if_absent(0)).is_ok())
        });
        let committed = writers.map(join);
        assert_ne!(committed[0], committed[1]);
        assert_eq!(dictionary.snapshot()[&0], if committed[0] { 1 } else { 2 });
    });
}

/// Invariant: once `freeze` has returned nothing is committed; a commit is in the frozen content or is refused.
#[test]
fn commit_against_freeze() {
    explore("commit_against_freeze", 63, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)));
        let freezer = actor(&dictionary, |d| {
            assert!(d.freeze());
            d.revision()
        });
        let committed = join(writer);
        let frozen_at = join(freezer);
        assert_eq!(dictionary.revision(), frozen_at);
        match committed {
            Ok(revision) => assert_eq!(revision, frozen_at),
            Err(UpdateError { change, reason: Refusal::Frozen, .. }) => {
                assert_eq!((change.len(), frozen_at.get()), (1, 0));
            }
            Err(other) => panic!("{other}"),
        }
    });
}

/// Invariant: of two calls that freeze, one says that it did.
#[test]
fn freeze_against_freeze() {
    explore("freeze_against_freeze", 57, || {
        let dictionary = shared();
        let froze = [(); 2].map(|()| actor(&dictionary, Dictionary::freeze)).map(join);
        assert_ne!(froze[0], froze[1]);
    });
}
