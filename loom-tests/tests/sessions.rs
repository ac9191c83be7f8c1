//! The end of a session against commits, other sessions, feeds, locked content and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, acquire, actor, explore, join, keys_of_two_shards, shared};
use state_dictionary::{BufferOptions, Change, Delivery, NotRemoved, Refusal, Session, UpdateError};

/// A session of 's' that has set these keys, in one commit.
fn owning(dictionary: &Dictionary, keys: &[u8]) -> Session<u8, u32, char> {
    let mut session = dictionary.session('s');
    session.update_ephemeral(keys.iter().fold(Change::new(), |change, key| change.set(*key, 0))).unwrap();
    session
}

/// Invariant: another writer's commit comes before the end of the session, and then the locks refuse all of it, or after
/// it, and then the keys are that writer's. A snapshot has all of the session's keys or none.
#[test]
fn session_end_against_commit_and_snapshot() {
    let [first, second] = keys_of_two_shards();
    explore("session_end_against_commit_and_snapshot", 3500, move || {
        let dictionary = shared();
        let session = owning(&dictionary, &[first, second]);
        session.update_locks(acquire(&[first, second])).unwrap();
        let writer = actor(&dictionary, move |d| d.update_state(&'a', Change::new().set(first, 1).set(second, 1)));
        let reader = actor(&dictionary, move |d| {
            let snapshot = d.snapshot();
            let of_one = snapshot.entry(&first).map(|entry| (**entry, entry.revision()));
            let of_other = snapshot.entry(&second).map(|entry| (**entry, entry.revision()));
            assert_eq!(of_one, of_other, "half of the session's keys were seen");
            assert_eq!(of_one.is_none(), snapshot.revision().get() == 2);
        });
        let ender = actor(&dictionary, move |_| session.end());
        let committed = join(writer);
        join(reader);
        let end = join(ender);
        assert_eq!((end.removed.len(), end.released.len(), end.not_removed.len(), end.revision.get()), (2, 2, 0, 2));
        match committed {
            Ok(revision) => assert_eq!((revision.get(), dictionary.snapshot().len()), (3, 2)),
            Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) => {
                assert_eq!((conflicts.len(), dictionary.snapshot().len()), (2, 0), "half of the locks were seen");
            }
            Err(other) => panic!("{other}"),
        }
        assert!(dictionary.locks().is_empty());
    });
}

/// Invariant: a lasting write of another client comes before the end of a session, and then the key is not the session's any
/// more, or after it; either way its value stays.
#[test]
fn session_end_against_lasting_write() {
    explore("session_end_against_lasting_write", 92, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        let ender = actor(&dictionary, move |_| session.end());
        let written = join(writer);
        let end = join(ender);
        assert_eq!((end.removed.len(), end.not_removed.len()), (usize::from(end.revision < written), 0));
        assert_eq!(dictionary.get(&0).map(|entry| (*entry, entry.revision())), Some((1, written)));
    });
}

/// Invariant: a key that another client has removed and set again is not the session's any more.
#[test]
fn session_end_against_removal_and_lasting_write() {
    explore("session_end_against_removal_and_lasting_write", 170, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        let writer = actor(&dictionary, |d| {
            d.update_state(&'a', Change::new().remove(0)).unwrap();
            d.update_state(&'a', Change::new().set(0, 1)).unwrap()
        });
        let ender = actor(&dictionary, move |_| session.end());
        let written = join(writer);
        let end = join(ender);
        assert_eq!(dictionary.get(&0).map(|entry| entry.revision()), Some(written), "another client's key was removed");
        assert_eq!(end.removed.len(), usize::from(end.revision.get() == 2 && written.get() == 4));
        assert!(end.not_removed.is_empty());
    });
}

/// Invariant: a key that another session has written last is that session's: the end of the first does not touch it, and it
/// goes with the second.
#[test]
fn session_end_against_takeover() {
    let takeovers: [fn() -> Change<u8, u32>; 2] = [|| Change::new().set(0, 1), || Change::new().remove(0).set(0, 1)];
    let names = ["session_end_against_takeover", "session_end_against_takeover_by_removal"];
    for (name, change) in names.into_iter().zip(takeovers) {
        explore(name, 90, move || {
            let dictionary = shared();
            let (first, mut second) = (owning(&dictionary, &[0]), dictionary.session('t'));
            let writer = actor(&dictionary, move |_| {
                let written = second.update_ephemeral(change()).unwrap();
                (second, written)
            });
            let ender = actor(&dictionary, move |_| first.end());
            let (second, written) = join(writer);
            let end = join(ender);
            assert_eq!((end.removed.len(), end.not_removed.len()), (usize::from(end.revision < written), 0));
            assert_eq!(
                dictionary.get(&0).map(|entry| entry.revision()),
                Some(written),
                "the key of a live session went"
            );
            assert_eq!((second.ephemeral_keys(), second.end().removed), (vec![0], vec![0]));
            assert!(dictionary.snapshot().is_empty());
        });
    }
}

/// Invariant: of two sessions of one token each owns the keys that it has written last, whenever the other ends.
#[test]
fn session_end_against_another_of_its_token() {
    let [first, second] = keys_of_two_shards();
    explore("session_end_against_another_of_its_token", 130, move || {
        let dictionary = shared();
        let old = owning(&dictionary, &[first, second]);
        let mut new = dictionary.session('s');
        let writer = actor(&dictionary, move |_| {
            let written = new.update_ephemeral(Change::new().set(first, 1)).unwrap();
            (new, written)
        });
        let ender = actor(&dictionary, move |_| old.end());
        let (new, written) = join(writer);
        let end = join(ender);
        assert_eq!(end.removed.len(), if end.revision < written { 2 } else { 1 });
        assert_eq!(
            dictionary.get(&first).map(|entry| entry.revision()),
            Some(written),
            "the key of a live session went"
        );
        assert!(dictionary.get(&second).is_none());
        assert_eq!(new.end().removed, [first]);
    });
}

/// Invariant: a session that writes a key for good beside another that takes it over: the later of the two decides.
#[test]
fn takeover_against_lasting_write() {
    explore("takeover_against_lasting_write", 190, || {
        let dictionary = shared();
        let (first, mut second) = (owning(&dictionary, &[0]), dictionary.session('t'));
        let keeper = actor(&dictionary, move |_| {
            let written = first.update_state(Change::new().set(0, 1)).unwrap();
            (first.end(), written)
        });
        let other = actor(&dictionary, move |_| {
            let written = second.update_ephemeral(Change::new().set(0, 2)).unwrap();
            (second, written)
        });
        let (end, lasting) = join(keeper);
        let (second, taken) = join(other);
        assert!(end.removed.is_empty() && end.not_removed.is_empty(), "it had written the key for good");
        assert_eq!(dictionary.get(&0).map(|entry| entry.revision()), Some(lasting.max(taken)));
        assert_eq!(second.end().removed.len(), usize::from(taken > lasting));
        assert_eq!(dictionary.get(&0).is_some(), lasting > taken);
    });
}

/// Invariant: the history keeps the end of a session whose keys are as many as its limit: a client resumes across it.
#[test]
fn session_end_of_as_many_keys_as_the_limit_against_resume() {
    explore("session_end_of_as_many_keys_as_the_limit_against_resume", 24, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0, 1]);
        let seen = dictionary.position();
        let ender = actor(&dictionary, move |_| session.end());
        let client = actor(&dictionary, move |d| {
            let resumed = d.change_buffer_with(BufferOptions::new().resume(seen));
            let removed = |delivery: &Delivery<u8, u32>| {
                assert!(!delivery.is_full() && delivery.updates().next().is_none());
                delivery.removals().len()
            };
            let first = resumed.try_flush().map_or(0, |delivery| removed(&delivery));
            (resumed, first)
        });
        let (resumed, first) = join(client);
        assert_eq!(join(ender).removed.len(), 2);
        let rest = resumed.try_flush().map_or(0, |delivery| delivery.removals().len());
        assert_eq!((first + rest, resumed.position()), (2, dictionary.position()));
    });
}

/// Invariant: a buffer, and a client that resumes, have all removals of a session's end whose keys are more than the history
/// keeps.
#[test]
fn session_end_beyond_the_history_against_flush_and_resume() {
    explore("session_end_beyond_the_history_against_flush_and_resume", 75, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0, 1, 2]);
        let (buffer, seen) = (dictionary.change_buffer(), dictionary.position());
        assert_eq!(buffer.try_flush().unwrap().revision(), seen.revision);
        let ender = actor(&dictionary, move |_| session.end());
        let follower = actor(&dictionary, move |d| {
            let gone = |delivery: &Delivery<u8, u32>| delivery.removals().len();
            let mut removed = buffer.try_flush().map_or(0, |delivery| gone(&delivery));
            assert_eq!(buffer.position().revision.get(), if removed == 3 { 2 } else { 1 });
            let resumed = d.change_buffer_with(BufferOptions::new().resume(seen));
            match resumed.try_flush() {
                Ok(delivery) if delivery.is_full() => assert!(delivery.count() == 0 && delivery.revision().get() == 2),
                Ok(delivery) => panic!("the history does not reach back so far, but there is {delivery:?}"),
                Err(_) => assert_eq!((removed, resumed.position().revision.get()), (0, 1)),
            }
            removed += buffer.try_flush().map_or(0, |delivery| gone(&delivery));
            (buffer, removed)
        });
        let (buffer, mut removed) = join(follower);
        join(ender);
        removed += buffer.try_flush().map_or(0, |delivery| delivery.removals().len());
        assert_eq!((removed, buffer.position()), (3, dictionary.position()));
    });
}

/// Invariant: the end of a session waits for locked content with no shard locked, and nothing of it is done meanwhile.
#[test]
fn session_end_against_locked_content() {
    let [first, second] = keys_of_two_shards();
    explore("session_end_against_locked_content", 2300, move || {
        let dictionary = shared();
        let session = owning(&dictionary, &[first]);
        session.update_locks(acquire(&[second])).unwrap();
        let owner = actor(&dictionary, move |d| {
            let mut guard = d.lock_content().unwrap();
            let (there, locked) = (guard.contains_key(&first), d.lock_info(&second).is_some());
            d.update_locks(&'b', acquire(&[100, 101, 102])).unwrap();
            guard.update_state(&'b', Change::new().set(200, 1)).unwrap();
            assert_eq!(
                (guard.contains_key(&first), d.lock_info(&second).is_some()),
                (there, locked),
                "ended past the guard"
            );
            assert_eq!(d.revision(), guard.revision());
            assert_eq!(there, locked);
        });
        let ender = actor(&dictionary, move |_| session.end());
        join(owner);
        let end = join(ender);
        assert_eq!((end.removed, end.released), (vec![first], vec![second]));
        assert_eq!(dictionary.snapshot().len(), 1);
    });
}

/// Invariant: once `freeze` has returned no key is removed. It wakes the end of a session that waits for locked
/// content; locks are released all the same.
#[test]
fn session_end_against_freeze_while_locked() {
    explore("session_end_against_freeze_while_locked", 750, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        session.update_locks(acquire(&[0])).unwrap();
        let guard = dictionary.lock_content().unwrap();
        let ender = actor(&dictionary, move |_| session.end());
        let freezer = actor(&dictionary, Dictionary::freeze);
        assert!(join(freezer));
        let end = join(ender);
        assert_eq!((end.not_removed, end.released), (vec![(0, NotRemoved::Frozen)], vec![0]));
        drop(guard);
        assert!(dictionary.get(&0).is_some() && dictionary.locks().is_empty());
    });
}

/// Invariant: the end of a session is before a freeze as a whole, or its keys stay.
#[test]
fn session_end_against_freeze() {
    explore("session_end_against_freeze", 230, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        session.update_locks(acquire(&[0])).unwrap();
        let ender = actor(&dictionary, move |_| session.end());
        let freezer = actor(&dictionary, |d| {
            d.freeze();
            d.get(&0).is_some()
        });
        let stays = join(freezer);
        let end = join(ender);
        assert_eq!(dictionary.get(&0).is_some(), stays, "a key went after the freeze");
        assert_eq!((end.removed.len(), end.not_removed.len()), if stays { (0, 1) } else { (1, 0) });
        assert_eq!(end.released, [0]);
    });
}

/// Invariant: two sessions that end at once both end, each in a commit of its own.
#[test]
fn two_sessions_that_end_at_once() {
    let [first, second] = keys_of_two_shards();
    explore("two_sessions_that_end_at_once", 1000, move || {
        let dictionary = shared();
        let sessions = [('s', first), ('t', second)].map(|(token, key)| {
            let mut session = dictionary.session(token);
            session.update_ephemeral(Change::new().set(key, 0)).unwrap();
            session.update_locks(acquire(&[key])).unwrap();
            session
        });
        let ends = sessions.map(|session| actor(&dictionary, move |_| session.end())).map(join);
        assert_eq!(ends[0].revision.get() + ends[1].revision.get(), 3 + 4);
        for (end, key) in ends.iter().zip([first, second]) {
            assert_eq!((&end.removed[..], &end.released[..], end.not_removed.len()), (&[key][..], &[key][..], 0));
        }
        assert!(dictionary.snapshot().is_empty() && dictionary.locks().is_empty());
    });
}
