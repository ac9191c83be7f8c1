//! Keys that the end of a session defers, sessions that were left, and what expiries do with both.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, acquire, actor, explore, explore_bounded, join, keys_of_two_shards, shared};
use state_dictionary::{
    Change, Expired, LockRequest, ManualClock, NotRemoved, Session, SessionSummary, StateDictionary,
};
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);

fn with_clock() -> (Arc<Dictionary>, ManualClock) {
    let clock = ManualClock::new();
    (Arc::new(StateDictionary::builder().clock(&clock).build()), clock)
}

/// A session that has set these keys, in one commit.
fn owning(dictionary: &Dictionary, token: char, keys: &[u8]) -> Session<u8, u32, char> {
    let mut session = dictionary.session(token);
    session.update_ephemeral(keys.iter().fold(Change::new(), |change, key| change.set(*key, 0))).unwrap();
    session
}

/// A session of 's' has ended, and its key stays: 'b' has it locked.
fn deferred(dictionary: &Dictionary, key: u8) {
    let session = owning(dictionary, 's', &[key]);
    dictionary.update_locks(&'b', acquire(&[key])).unwrap();
    assert_eq!(session.end().not_removed, [(key, NotRemoved::Locked { owner: 'b', remaining: None })]);
}

fn removed(expiry: &Expired<u8, char>) -> Vec<u8> {
    let mut keys: Vec<_> = expiry.sessions.iter().flat_map(|(_, end)| end.removed.iter().copied()).collect();
    keys.sort_unstable();
    keys
}

fn of(expiry: &Expired<u8, char>, token: char) -> Option<&SessionSummary<u8, char>> {
    expiry.sessions.iter().find(|(of, _)| *of == token).map(|(_, end)| end)
}

/// Invariant: a client that is granted a lock on a key of the session finds the key there, and then it stays as long as the
/// lock does and is reported, or finds it gone.
#[test]
fn session_end_against_grant() {
    let [first, second] = keys_of_two_shards();
    explore("session_end_against_grant", 180, move || {
        let dictionary = shared();
        let session = owning(&dictionary, 's', &[first, second]);
        let locker = actor(&dictionary, move |d| {
            d.update_locks(&'b', acquire(&[first])).unwrap();
            d.get(&first).is_some()
        });
        let ender = actor(&dictionary, move |_| session.end());
        let found = join(locker);
        let end = join(ender);
        assert_eq!(dictionary.get(&first).is_some(), found, "a key went, or came, after its lock was granted");
        assert_eq!(end.removed.len(), 2 - usize::from(found));
        let left = [(first, NotRemoved::Locked { owner: 'b', remaining: None })];
        assert_eq!(end.not_removed, left[..usize::from(found)]);
        assert!(dictionary.get(&second).is_none());
        assert!(removed(&dictionary.expire()).is_empty(), "a key went although it was locked");
        dictionary.release_all(&'b');
        assert_eq!(removed(&dictionary.expire()), [first][..usize::from(found)]);
        assert!(dictionary.snapshot().is_empty());
    });
}

/// Invariant: a deferred key goes with the first expiry after its lock, once.
#[test]
fn deferred_key_against_release_and_expiry() {
    explore("deferred_key_against_release_and_expiry", 970, || {
        let dictionary = shared();
        deferred(&dictionary, 0);
        let locker = actor(&dictionary, |d| {
            let there = d.get(&0).is_some();
            d.release_all(&'b');
            there
        });
        let keeper = actor(&dictionary, |d| {
            let expiry = d.expire();
            (removed(&expiry), d.lock_info(&0).is_some())
        });
        let (gone, still_locked) = join(keeper);
        assert!(join(locker), "a key went although it was locked");
        assert!(gone.is_empty() || !still_locked);
        assert_eq!(dictionary.get(&0).is_some(), gone.is_empty());
        assert_eq!([gone, removed(&dictionary.expire())].concat(), [0]);
        assert!(dictionary.snapshot().is_empty() && dictionary.locks().is_empty());
    });
}

/// Invariant: what the owner of the lock writes to a deferred key is there to stay, whenever an expiry comes.
#[test]
fn deferred_key_against_lasting_write_and_expiry() {
    explore("deferred_key_against_lasting_write_and_expiry", 1500, || {
        let dictionary = shared();
        deferred(&dictionary, 0);
        let locker = actor(&dictionary, |d| {
            d.update_state(&'b', Change::new().set(0, 1)).unwrap();
            d.release_all(&'b');
        });
        let keeper = actor(&dictionary, |d| removed(&d.expire()));
        join(locker);
        assert!(join(keeper).is_empty() && removed(&dictionary.expire()).is_empty());
        assert_eq!(dictionary.get(&0).map(|entry| *entry), Some(1), "another client's value was removed");
    });
}

/// Invariant: another session that writes a deferred key has it, whenever an expiry comes.
#[test]
fn deferred_key_against_takeover_and_expiry() {
    explore("deferred_key_against_takeover_and_expiry", 92, || {
        let dictionary = shared();
        deferred(&dictionary, 0);
        dictionary.release_all(&'b');
        let mut other = dictionary.session('t');
        let taker = actor(&dictionary, move |_| {
            let written = other.update_ephemeral(Change::new().set(0, 1)).unwrap();
            (other, written)
        });
        let keeper = actor(&dictionary, |d| removed(&d.expire()).len());
        let (other, written) = join(taker);
        assert_eq!(join(keeper), usize::from(written.get() == 3), "it went before it was taken over, or not at all");
        assert_eq!(dictionary.get(&0).map(|entry| entry.revision()), Some(written), "the key of a live session went");
        assert_eq!(other.end().removed, [0]);
    });
}

/// Invariant: a session that has ended can be resumed with its deferred key as long as that is there, or not at all.
#[test]
fn deferred_key_against_its_return_and_expiry() {
    explore("deferred_key_against_its_return_and_expiry", 35, || {
        let dictionary = shared();
        deferred(&dictionary, 0);
        dictionary.release_all(&'b');
        let client = actor(&dictionary, |d| {
            let session = d.session('s');
            assert_eq!(d.get(&0).is_some(), session.is_resumed(), "resumed with half of it, or gone afterwards");
            session
        });
        let keeper = actor(&dictionary, |d| removed(&d.expire()).len());
        let session = join(client);
        let gone = join(keeper);
        assert_eq!(usize::from(session.is_resumed()) + gone, 1);
        assert_eq!(session.ephemeral_keys().len(), usize::from(session.is_resumed()));
        assert_eq!(session.end().removed.len(), 1 - gone);
        assert!(dictionary.snapshot().is_empty());
    });
}

/// Invariant: once a freeze has returned no deferred key goes.
#[test]
fn deferred_key_against_expiry_and_freeze() {
    explore("deferred_key_against_expiry_and_freeze", 140, || {
        let dictionary = shared();
        deferred(&dictionary, 0);
        dictionary.release_all(&'b');
        let keeper = actor(&dictionary, |d| removed(&d.expire()).len());
        let freezer = actor(&dictionary, |d| {
            d.freeze();
            d.get(&0).is_some()
        });
        let stays = join(freezer);
        assert_eq!(join(keeper), usize::from(!stays), "a key went after the freeze");
        assert!(removed(&dictionary.expire()).is_empty());
        assert_eq!(dictionary.get(&0).is_some(), stays);
    });
}

/// Invariant: two sessions that one expiry ends leave nothing that a snapshot of that revision, or a later one, still has.
#[test]
fn two_due_sessions_against_snapshot() {
    let [first, second] = keys_of_two_shards();
    explore("two_due_sessions_against_snapshot", 24, move || {
        let (dictionary, clock) = with_clock();
        owning(&dictionary, 's', &[first]).detach(TICK);
        owning(&dictionary, 't', &[second]).detach(TICK);
        clock.advance(TICK);
        let reader = actor(&dictionary, Dictionary::snapshot);
        let keeper = actor(&dictionary, Dictionary::expire);
        let snapshot = join(reader);
        let expiry = join(keeper);
        for (token, key) in [('s', first), ('t', second)] {
            let end = of(&expiry, token).unwrap();
            assert_eq!((&end.removed[..], end.not_removed.len()), (&[key][..], 0));
            assert_eq!(snapshot.contains_key(&key), snapshot.revision() < end.revision);
        }
        assert!(dictionary.snapshot().is_empty());
    });
}

/// Invariant: a commit comes before the end of both sessions or after it: what it wrote stays, and is not theirs.
#[test]
fn two_due_sessions_against_commit() {
    let [first, second] = keys_of_two_shards();
    explore("two_due_sessions_against_commit", 340, move || {
        let (dictionary, clock) = with_clock();
        owning(&dictionary, 's', &[first, 100]).detach(TICK);
        owning(&dictionary, 't', &[second]).detach(TICK);
        clock.advance(TICK);
        let writer =
            actor(&dictionary, move |d| d.update_state(&'a', Change::new().set(first, 1).set(second, 1)).unwrap());
        let keeper = actor(&dictionary, Dictionary::expire);
        let written = join(writer);
        let expiry = join(keeper);
        assert_eq!(expiry.sessions.len(), 2);
        for (token, key) in [('s', first), ('t', second)] {
            assert_eq!(
                dictionary.get(&key).map(|entry| entry.revision()),
                Some(written),
                "another's value was removed"
            );
            let end = of(&expiry, token).unwrap();
            assert_eq!(end.removed.contains(&key), end.revision < written);
            assert!(end.not_removed.is_empty());
        }
        assert!(dictionary.get(&100).is_none());
    });
}

/// Invariant: of two sessions that are due the key that another client is granted meanwhile stays until its lock goes, the other
/// goes; locks of both are released.
#[test]
fn two_due_sessions_against_grant() {
    let [first, second] = keys_of_two_shards();
    explore("two_due_sessions_against_grant", 700, move || {
        let (dictionary, clock) = with_clock();
        let sessions = [owning(&dictionary, 's', &[first]), owning(&dictionary, 't', &[second])];
        for (session, key) in sessions.into_iter().zip([100, 101]) {
            session.update_locks(acquire(&[key])).unwrap();
            session.detach(TICK);
        }
        clock.advance(TICK);
        let locker = actor(&dictionary, move |d| {
            d.update_locks(&'b', acquire(&[first])).unwrap();
            d.get(&first).is_some()
        });
        let keeper = actor(&dictionary, Dictionary::expire);
        let found = join(locker);
        let expiry = join(keeper);
        assert_eq!(dictionary.get(&first).is_some(), found, "a key went, or came, after its lock was granted");
        assert!(dictionary.get(&second).is_none());
        assert_eq!(expiry.sessions.iter().map(|(_, end)| end.released.len()).sum::<usize>(), 2);
        assert_eq!(of(&expiry, 's').unwrap().not_removed.len(), usize::from(found));
        assert_eq!(dictionary.locks().len(), 1);
        dictionary.release_all(&'b');
        dictionary.expire();
        assert!(dictionary.snapshot().is_empty());
    });
}

/// Invariant: of two sessions that are due, one that its client resumes is that client's with its key, or has ended.
#[test]
fn two_due_sessions_against_the_return_of_one() {
    let [first, second] = keys_of_two_shards();
    explore("two_due_sessions_against_the_return_of_one", 68, move || {
        let (dictionary, clock) = with_clock();
        // So many keys that each ends in a step of its own.
        owning(&dictionary, 's', &[first, 100]).detach(TICK);
        owning(&dictionary, 't', &[second, 101]).detach(TICK);
        clock.advance(TICK);
        let client = actor(&dictionary, move |d| {
            let session = d.session('t');
            assert_eq!(d.get(&second).is_some(), session.is_resumed(), "resumed with half of it, or gone afterwards");
            session
        });
        let keeper = actor(&dictionary, Dictionary::expire);
        let session = join(client);
        let expiry = join(keeper);
        assert_eq!(expiry.sessions.len(), if session.is_resumed() { 1 } else { 2 });
        assert_eq!(of(&expiry, 's').map(|end| end.removed.len()), Some(2));
        assert_eq!(session.ephemeral_keys().len(), if session.is_resumed() { 2 } else { 0 });
        drop(session);
        assert!(dictionary.snapshot().is_empty());
    });
}

/// Invariant: a session that is due while the content is locked ends with the first expiry after that, as a whole.
#[test]
fn due_session_against_locked_content() {
    explore("due_session_against_locked_content", 97, || {
        let (dictionary, clock) = with_clock();
        let session = owning(&dictionary, 's', &[0]);
        session.update_locks(acquire(&[1])).unwrap();
        session.detach(TICK);
        clock.advance(TICK);
        let owner = actor(&dictionary, |d| {
            let guard = d.lock_content().unwrap();
            assert_eq!(d.get(&0).is_some(), guard.contains_key(&0), "ended past the guard");
        });
        let keeper = actor(&dictionary, |d| removed(&d.expire()));
        join(owner);
        let gone = join(keeper);
        assert_eq!([gone, removed(&dictionary.expire())].concat(), [0]);
        assert!(dictionary.snapshot().is_empty() && dictionary.locks().is_empty());
    });
}

/// Invariant: a session that is dropped does not wait for a guard of another thread: its locks are released at once,
/// its keys removed then or by the next expiry.
#[test]
fn dropped_session_against_locked_content() {
    explore("dropped_session_against_locked_content", 83, || {
        let (dictionary, clock) = with_clock();
        let session = owning(&dictionary, 's', &[0]);
        session.update_locks(acquire(&[1])).unwrap();
        let owner = actor(&dictionary, |d| {
            let guard = d.lock_content().unwrap();
            assert_eq!(d.get(&0).is_some(), guard.contains_key(&0), "ended past the guard");
        });
        let dropper = actor(&dictionary, move |d| {
            drop(session);
            assert!(d.locks().is_empty());
        });
        join(owner);
        join(dropper);
        let there = dictionary.get(&0).is_some();
        clock.advance(TICK);
        let ended = dictionary.expire().sessions;
        assert_eq!((ended.len(), dictionary.get(&0).is_some()), (usize::from(there), false));
    });
}

/// Invariant: a thread that sees that a session has ended, though its keys were deferred, can resume it with them.
#[test]
fn deferred_session_against_its_resume() {
    explore("deferred_session_against_its_resume", 28, || {
        let dictionary = shared();
        let session = owning(&dictionary, 's', &[0]);
        session.update_locks(acquire(&[1])).unwrap();
        let guard = dictionary.lock_content().unwrap();
        let dropper = actor(&dictionary, move |_| drop(session));
        let client = actor(&dictionary, |d| {
            let ended = d.lock_info(&1).is_none();
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

/// Invariant: a detached session is resumed with all that belongs to it, or has ended with all of it before: the client
/// that resumes keeps every lock that it is then granted.
#[test]
fn session_resume_against_expiry() {
    explore("session_resume_against_expiry", 160, || {
        let (dictionary, clock) = with_clock();
        let session = owning(&dictionary, 's', &[0]);
        session.update_locks(acquire(&[0])).unwrap();
        session.detach(TICK);
        clock.advance(TICK);
        let keeper = actor(&dictionary, |d| d.expire().sessions.len());
        let client = actor(&dictionary, |d| {
            let session = d.session('s');
            assert_eq!(d.get(&0).is_some(), session.is_resumed(), "the session ended when it was resumed, or half");
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
        assert_eq!(
            dictionary.lock_info(&0).map(|lock| lock.owner),
            Some('s'),
            "a lock of the new session was released"
        );
    });
}

/// Invariant: of two expiries, one ends a session whose time is over, and one removes a lock that has expired.
#[test]
fn two_expiries() {
    explore_bounded("two_expiries", 2, 360, || {
        let (dictionary, clock) = with_clock();
        owning(&dictionary, 's', &[0]).detach(TICK);
        dictionary.update_locks(&'b', LockRequest::new().acquire(1, TICK)).unwrap();
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
