//! Writes of one key: what they report to have replaced, and what makes an update run its closure again.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{actor, explore, join, shared};
use state_dictionary::Replaced;

/// The revision of what was replaced (0 if nothing was), and that of the commit.
fn revisions(was: Replaced<u32>) -> (u64, u64) {
    (was.value.map_or(0, |value| value.revision().get()), was.revision.get())
}

/// Invariant: what `set` and `remove` return is the value in the root that they replaced.
#[test]
fn replaced_values_of_one_key() {
    explore("replaced_values_of_one_key", 200, || {
        let dictionary = shared();
        let setter = actor(&dictionary, |d| revisions(d.writer(&'a').set(0, 1).unwrap()));
        let remover = actor(&dictionary, |d| revisions(d.writer(&'b').remove(0).unwrap()));
        let by = (join(setter), join(remover));
        assert!([((0, 1), (1, 2)), ((0, 2), (0, 1))].contains(&by), "{by:?}");
    });
}

/// Invariant: an update is based on the value that it replaces, and returns it.
#[test]
fn update_against_update() {
    explore("update_against_update", 330, || {
        let dictionary = shared();
        let count = |token| {
            actor(&dictionary, move |d| {
                let was = d.writer(&token).update(0, |now| Some(now.copied().unwrap_or(0) + 1)).unwrap();
                revisions(was)
            })
        };
        let mut updated = [count('a'), count('b')].map(join);
        updated.sort_unstable();
        assert_eq!(updated, [(0, 1), (1, 2)]);
        assert_eq!(dictionary.snapshot()[&0], 2);
    });
}

/// Invariant: a commit of another key does not make an update run its closure again.
#[test]
fn update_against_commit_of_another_key() {
    explore("update_against_commit_of_another_key", 250, || {
        let dictionary = shared();
        let updater = actor(&dictionary, |d| {
            let mut runs = 0;
            d.writer(&'a')
                .update(0, |_| {
                    Some({
                        runs += 1;
                        runs
                    })
                })
                .unwrap();
            runs
        });
        let writer = actor(&dictionary, |d| d.writer(&'b').set(1, 1).unwrap().revision);
        assert_eq!(join(updater), 1);
        join(writer);
        assert_eq!(dictionary.revision().get(), 2);
    });
}

/// Invariant: a session's ephemeral write of one key beside a lasting one of another client: the later decides.
#[test]
fn ephemeral_update_against_lasting_set() {
    explore("ephemeral_update_against_lasting_set", 780, || {
        let dictionary = shared();
        let updater = actor(&dictionary, |d| {
            let mut session = d.session('a');
            session.update(0, |now| Some(now.copied().unwrap_or(0) + 10)).unwrap();
            session.end().removed
        });
        let writer = actor(&dictionary, |d| revisions(d.writer(&'b').set(0, 1).unwrap()));
        let (removed, (replaced, _)) = (join(updater), join(writer));
        // A lasting value that the update has read is its own afterwards; one that was set later stays.
        let present = dictionary.snapshot().get(&0).copied();
        match present {
            None => assert_eq!((removed.as_slice(), replaced), (&[0][..], 0)),
            Some(value) => assert_eq!(value, 1),
        }
    });
}
