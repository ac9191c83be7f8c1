//! The end of a session against commits, grants, held content, freezing, other sessions and its own return.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, acquire, actor, explore, explore_bounded, join, keys_of_two_shards, shared};
use state_dictionary::{Change, Left, ManualClock, Session, StateDictionary, UpdateError};
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);

/// A session of 's' that has created these keys, in one commit.
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
    explore("session_end_against_commit_and_snapshot", 3100, move || {
        let dictionary = shared();
        let session = owning(&dictionary, &[first, second]);
        session.update_locks(acquire(&[first, second])).unwrap();
        let writer = actor(&dictionary, move |d| d.update_state(&'a', Change::new().set(first, 1).set(second, 1)));
        let reader = actor(&dictionary, move |d| {
            let snapshot = d.snapshot();
            let of_one = snapshot.entry(&first).map(|entry| (**entry, entry.revision(), entry.created()));
            let of_other = snapshot.entry(&second).map(|entry| (**entry, entry.revision(), entry.created()));
            assert_eq!(of_one, of_other, "half of the session's keys were seen");
            assert_eq!(of_one.is_none(), snapshot.revision().get() == 2);
        });
        let ender = actor(&dictionary, move |_| session.end());
        let committed = join(writer);
        join(reader);
        let end = join(ender);
        assert_eq!((end.removed.len(), end.released.len(), end.left.len(), end.revision.get()), (2, 2, 0, 2));
        match committed {
            Ok(revision) => assert_eq!((revision.get(), dictionary.snapshot().len()), (3, 2)),
            Err(UpdateError::Locked { conflicts, .. }) => {
                assert_eq!((conflicts.len(), dictionary.snapshot().len()), (2, 0), "half of the locks were seen");
            }
            Err(other) => panic!("{other}"),
        }
        assert!(dictionary.locks().is_empty());
    });
}

/// Invariant: a key of the session that nobody has locked goes with it, whoever has written to it before; what is written
/// after the end stays.
#[test]
fn session_end_against_commit_to_its_key() {
    explore("session_end_against_commit_to_its_key", 99, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        let ender = actor(&dictionary, move |_| session.end());
        let written = join(writer);
        let end = join(ender);
        assert_eq!((end.removed, end.left.len()), (vec![0], 0));
        assert_eq!(dictionary.get(&0).map(|entry| entry.created()), (written > end.revision).then_some(written));
    });
}

/// Invariant: a key that was removed and created anew by somebody else is not the session's any more.
#[test]
fn session_end_against_removal_and_creation_anew() {
    explore("session_end_against_removal_and_creation_anew", 120, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        let writer = actor(&dictionary, |d| {
            d.update_state(&'a', Change::new().remove(0)).unwrap();
            d.update_state(&'a', Change::new().set(0, 1)).unwrap()
        });
        let ender = actor(&dictionary, move |_| session.end());
        let created = join(writer);
        let end = join(ender);
        assert_eq!(dictionary.get(&0).map(|entry| entry.created()), Some(created), "somebody else's key was removed");
        assert_eq!(end.removed.len(), usize::from(end.revision.get() == 2 && created.get() == 4));
        assert!(end.left.is_empty());
    });
}

/// Invariant: whoever is granted a lock on a key of the session finds the key there, and then it stays and is reported, or
/// finds it gone.
#[test]
fn session_end_against_grant() {
    let [first, second] = keys_of_two_shards();
    explore("session_end_against_grant", 140, move || {
        let dictionary = shared();
        let session = owning(&dictionary, &[first, second]);
        let locker = actor(&dictionary, move |d| {
            d.update_locks(&'b', acquire(&[first])).unwrap();
            d.get(&first).is_some()
        });
        let ender = actor(&dictionary, move |_| session.end());
        let found = join(locker);
        let end = join(ender);
        assert_eq!(dictionary.get(&first).is_some(), found, "a key went, or came, after its lock was granted");
        assert_eq!(end.removed.len(), 2 - usize::from(found));
        let left = [(first, Left::Locked { holder: 'b', remaining: None })];
        assert_eq!(end.left, left[..usize::from(found)]);
        assert!(dictionary.get(&second).is_none());
    });
}

/// Invariant: the end of a session waits for held content with no shard locked, and nothing of it is done meanwhile.
#[test]
fn session_end_against_held_content() {
    let [first, second] = keys_of_two_shards();
    explore("session_end_against_held_content", 2000, move || {
        let dictionary = shared();
        let session = owning(&dictionary, &[first]);
        session.update_locks(acquire(&[second])).unwrap();
        let holder = actor(&dictionary, move |d| {
            let mut guard = d.lock_content().unwrap();
            let (there, locked) = (guard.contains_key(&first), d.lock(&second).is_some());
            d.update_locks(&'b', acquire(&[100, 101, 102])).unwrap();
            guard.update_state(&'b', Change::new().set(200, 1)).unwrap();
            assert_eq!(
                (guard.contains_key(&first), d.lock(&second).is_some()),
                (there, locked),
                "ended past the guard"
            );
            assert_eq!(d.revision(), guard.revision());
            assert_eq!(there, locked);
        });
        let ender = actor(&dictionary, move |_| session.end());
        join(holder);
        let end = join(ender);
        assert_eq!((end.removed, end.released), (vec![first], vec![second]));
        assert_eq!(dictionary.snapshot().len(), 1);
    });
}

/// Invariant: once `freeze` has returned no key goes. The end of a session that waits for held content is set free by it;
/// locks are released all the same.
#[test]
fn session_end_against_freeze_while_held() {
    explore("session_end_against_freeze_while_held", 530, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        session.update_locks(acquire(&[0])).unwrap();
        let guard = dictionary.lock_content().unwrap();
        let ender = actor(&dictionary, move |_| session.end());
        let freezer = actor(&dictionary, Dictionary::freeze);
        assert!(join(freezer));
        let end = join(ender);
        assert_eq!((end.left, end.released), (vec![(0, Left::Frozen)], vec![0]));
        drop(guard);
        assert!(dictionary.get(&0).is_some() && dictionary.locks().is_empty());
    });
}

/// Invariant: the end of a session is before a freeze as a whole, or its keys stay.
#[test]
fn session_end_against_freeze() {
    explore("session_end_against_freeze", 200, || {
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
        assert_eq!((end.removed.len(), end.left.len()), if stays { (0, 1) } else { (1, 0) });
        assert_eq!(end.released, [0]);
    });
}

/// Invariant: a session that is dropped waits for nobody who holds the content: its locks go at once, its keys then or with
/// a later expiry, and never later than that.
#[test]
fn dropped_session_against_held_content() {
    explore("dropped_session_against_held_content", 100, || {
        let clock = ManualClock::new();
        let dictionary: Arc<Dictionary> = Arc::new(StateDictionary::builder().manual_clock(&clock).build());
        let session = owning(&dictionary, &[0]);
        session.update_locks(acquire(&[1])).unwrap();
        let holder = actor(&dictionary, |d| {
            let guard = d.lock_content().unwrap();
            assert_eq!(d.get(&0).is_some(), guard.contains_key(&0), "ended past the guard");
        });
        let dropper = actor(&dictionary, move |d| {
            drop(session);
            assert!(d.locks().is_empty());
        });
        join(holder);
        join(dropper);
        let there = dictionary.get(&0).is_some();
        clock.advance(TICK);
        let ended = dictionary.expire().sessions;
        assert_eq!((ended.len(), dictionary.get(&0).is_some()), (usize::from(there), false));
    });
}

/// Invariant: whoever sees that a session has ended, though its keys were put off, can take it up with them.
#[test]
fn session_put_off_against_its_return() {
    explore("session_put_off_against_its_return", 36, || {
        let dictionary = shared();
        let session = owning(&dictionary, &[0]);
        session.update_locks(acquire(&[1])).unwrap();
        let guard = dictionary.lock_content().unwrap();
        let dropper = actor(&dictionary, move |_| drop(session));
        let client = actor(&dictionary, |d| {
            let ended = d.lock(&1).is_none();
            let session = d.session('s');
            assert!(session.is_resumed() || !ended, "it has ended, and is nowhere");
            assert_eq!(session.ephemeral_keys().len(), usize::from(session.is_resumed()));
            session
        });
        join(dropper);
        let session = join(client);
        drop(guard);
        drop(session);
        assert!(dictionary.locks().is_empty());
    });
}

/// Invariant: two sessions that end at once both end, each in a commit of its own.
#[test]
fn two_sessions_that_end_at_once() {
    let [first, second] = keys_of_two_shards();
    explore("two_sessions_that_end_at_once", 650, move || {
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
            assert_eq!((&end.removed[..], &end.released[..], end.left.len()), (&[key][..], &[key][..], 0));
        }
        assert!(dictionary.snapshot().is_empty() && dictionary.locks().is_empty());
    });
}

/// Invariant: a session that was left is taken up with all that belongs to it, or has ended with all of it before: whoever
/// comes back keeps every lock that it is then granted.
#[test]
fn session_taken_up_against_expiry() {
    explore("session_taken_up_against_expiry", 150, || {
        let clock = ManualClock::new();
        let dictionary: Arc<Dictionary> = Arc::new(StateDictionary::builder().manual_clock(&clock).build());
        let session = owning(&dictionary, &[0]);
        session.update_locks(acquire(&[0])).unwrap();
        session.leave(TICK);
        clock.advance(TICK);
        let keeper = actor(&dictionary, |d| d.expire().sessions.len());
        let client = actor(&dictionary, |d| {
            let session = d.session('s');
            assert_eq!(d.get(&0).is_some(), session.is_resumed(), "the session ended when it was taken up, or half");
            let receipt = session.update_locks(acquire(&[0])).unwrap();
            assert_eq!(
                (receipt.renewed.len(), receipt.granted.len()),
                if session.is_resumed() { (1, 0) } else { (0, 1) }
            );
            session
        });
        let ended = join(keeper);
        let session = join(client);
        assert_eq!(ended, usize::from(!session.is_resumed()));
        assert_eq!(session.ephemeral_keys().len(), usize::from(session.is_resumed()));
        assert_eq!(dictionary.lock(&0).map(|lock| lock.holder), Some('s'), "a lock of the new session was released");
    });
}

/// Invariant: of two expiries, one ends a session whose time is over, and one takes away a lock that has run out.
#[test]
fn two_expiries() {
    explore_bounded("two_expiries", 2, 300, || {
        let clock = ManualClock::new();
        let dictionary: Arc<Dictionary> = Arc::new(StateDictionary::builder().manual_clock(&clock).build());
        owning(&dictionary, &[0]).leave(TICK);
        dictionary.update_locks(&'b', acquire(&[]).acquire(1, TICK)).unwrap();
        clock.advance(TICK);
        let expiries = [(); 2].map(|()| actor(&dictionary, Dictionary::expire)).map(join);
        let [locks, sessions] = [
            expiries.iter().map(|expiry| expiry.locks.len()).sum::<usize>(),
            expiries.iter().map(|expiry| expiry.sessions.len()).sum(),
        ];
        assert_eq!((locks, sessions), (1, 1));
        assert!(dictionary.snapshot().is_empty() && dictionary.locks().is_empty());
    });
}
