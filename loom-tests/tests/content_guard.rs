//! `lock_content` against commits, other guards, lock operations and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, acquire, actor, explore, join, keys_of_two_shards, shared};
use state_dictionary::{Change, Refusal, UpdateError};

/// Invariant: while the content is locked nothing is committed except through the guard; a waiting writer is woken.
#[test]
fn locked_content_against_commit() {
    explore("locked_content_against_commit", 560, || {
        let dictionary = shared();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        let owner = actor(&dictionary, |d| {
            let mut guard = d.lock_content().unwrap();
            let seen = guard.revision();
            let own = guard.update_state(&'b', Change::new().set(1, 1)).unwrap();
            assert_eq!(own.get(), seen.get() + 1, "a commit came past the guard");
            assert_eq!(d.revision(), own);
        });
        join(writer);
        join(owner);
        assert_eq!(dictionary.revision().get(), 2);
    });
}

/// Invariant: of two guards one waits for the other and is woken; what is read under a guard is what it replaces.
#[test]
fn two_guards() {
    explore("two_guards", 740, || {
        let dictionary = shared();
        let owners = ['a', 'b'].map(|token| {
            actor(&dictionary, move |d| {
                let mut guard = d.lock_content().unwrap();
                let one_more = guard.get(&0).copied().unwrap_or(0) + 1;
                guard.update_state(&token, Change::new().set(0, one_more)).unwrap();
            })
        });
        let _: [(); 2] = owners.map(join);
        assert_eq!(dictionary.snapshot()[&0], 2);
    });
}

/// Invariant: a guard's write honours locks, and holding the content does not delay a grant.
#[test]
fn guard_that_writes_against_grant() {
    explore("guard_that_writes_against_grant", 190, || {
        let dictionary = shared();
        let owner = actor(&dictionary, |d| {
            let mut guard = d.lock_content().unwrap();
            let written = guard.update_state(&'a', Change::new().set(0, 1));
            // Never unlocked: if grants waited for the content, the other actor would wait for ever.
            std::mem::forget(guard);
            written.is_ok()
        });
        let locker = actor(&dictionary, |d| {
            d.update_locks(&'b', acquire(&[0])).unwrap();
            d.revision()
        });
        let written = join(owner);
        assert_eq!(join(locker), dictionary.revision(), "a commit came after the grant");
        assert_eq!(dictionary.get(&0).is_some(), written);
    });
}

/// Invariant: a commit that waits for locked content keeps no other thread from the locks.
#[test]
fn guard_owner_takes_locks_while_a_commit_waits() {
    let [first, second] = keys_of_two_shards();
    explore("guard_owner_takes_locks_while_a_commit_waits", 580, move || {
        let dictionary = shared();
        dictionary.update_locks(&'b', acquire(&[100])).unwrap();
        let writer = actor(&dictionary, move |d| d.update_state(&'a', Change::new().set(first, 1)).is_ok());
        let owner = actor(&dictionary, move |d| {
            let guard = d.lock_content().unwrap();
            d.update_locks(&'b', acquire(&[first, second])).unwrap();
            assert_eq!(d.revision(), guard.revision());
        });
        let committed = join(writer);
        join(owner);
        assert_eq!(dictionary.get(&first).is_some(), committed);
    });
}

/// Invariant: freezing does not wait for locked content, and wakes the writer that does.
#[test]
fn freeze_while_locked_against_commit() {
    explore("freeze_while_locked_against_commit", 620, || {
        let dictionary = shared();
        let guard = dictionary.lock_content().unwrap();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)));
        let freezer = actor(&dictionary, Dictionary::freeze);
        let refused = join(writer);
        assert!(matches!(refused, Err(UpdateError { reason: Refusal::Frozen, .. })));
        assert!(join(freezer));
        drop(guard);
        assert!(dictionary.is_frozen(), "unlocking the content thawed the dictionary");
    });
}

/// Invariant: a guard that is dropped during a freeze neither thaws the dictionary nor stays.
#[test]
fn letting_go_against_freeze() {
    explore("letting_go_against_freeze", 93, || {
        let dictionary = shared();
        let owner = actor(&dictionary, |d| drop(d.lock_content().unwrap()));
        let freezer = actor(&dictionary, Dictionary::freeze);
        join(owner);
        assert!(join(freezer));
        assert!(dictionary.is_frozen());
        assert!(dictionary.try_lock_content().is_ok());
    });
}
