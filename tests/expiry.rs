//! Sessions that end later: after their grace, or when what was in the way of their end is gone.

mod common;

use common::{
    ALMOST_A_SECOND, Dictionary, NANOSECOND, SECOND, acquire, content, owning, removed, set, sorted, spawn_waiting,
    with_manual_clock, within_a_minute,
};
use state_dictionary::{Change, LockDelivery, LockRequest, ManualClock, NotRemoved, Revision, StateDictionary};
use std::sync::mpsc;
use std::time::Duration;
use std::{panic, thread};

/// Alice's session has ended while Bob had her key locked.
fn with_a_locked_key(lease: Option<Duration>) -> (Dictionary, ManualClock) {
    let (dictionary, clock) = with_manual_clock();
    let session = owning(&dictionary, "alice", &["a", "b"]);
    assert!(dictionary.update_locks(&"bob", acquire("a", lease)).is_ok());
    let end = session.end();
    assert_eq!((end.removed, end.not_removed.len()), (vec!["b"], 1));
    let expiry = dictionary.expire();
    assert!(expiry.sessions.is_empty(), "nothing has happened since: {expiry:?}");
    assert!(expiry.next.is_some_and(|next| next > Duration::ZERO && next <= SECOND), "{expiry:?}");
    (dictionary, clock)
}

#[test]
fn a_locked_key_of_a_session_that_has_ended_is_removed_when_the_lock_has_ended() {
    type Way = fn(&Dictionary, &ManualClock);
    let ways: [Way; 5] = [
        |dictionary, _| drop(dictionary.update_locks(&"bob", LockRequest::new().release("a"))),
        |dictionary, _| drop(dictionary.release_all(&"bob")),
        |dictionary, _| drop(dictionary.clear_locks()),
        |dictionary, _| drop(dictionary.session("bob").end()),
        |_, clock| clock.advance(SECOND * 9),
    ];
    for way in ways {
        let (dictionary, clock) = with_a_locked_key(Some(SECOND * 9));
        way(&dictionary, &clock);
        let expiry = dictionary.expire();
        let [(token, end)] = &expiry.sessions[..] else { panic!("{expiry:?}") };
        assert_eq!((*token, &end.removed[..], end.not_removed.len()), ("alice", &["a"][..], 0));
        assert_eq!(end.revision, dictionary.revision());
        assert!(dictionary.snapshot().is_empty());
        clock.advance(SECOND * 9);
        let expiry = dictionary.expire();
        assert!(expiry.sessions.is_empty() && expiry.next.is_none(), "that was all: {expiry:?}");
    }
}

#[test]
fn a_locked_key_that_was_set_since_is_not_removed() {
    let (dictionary, _clock) = with_a_locked_key(None);
    dictionary.update_state(&"bob", set("a", 2)).unwrap();
    dictionary.release_all(&"bob");
    let expiry = dictionary.expire();
    assert!(expiry.sessions.is_empty() && expiry.next.is_none(), "{expiry:?}");
    assert_eq!(dictionary.snapshot()["a"], 2);
}

#[test]
fn an_ended_session_with_a_deferred_locked_key_can_be_resumed() {
    let (dictionary, _clock) = with_a_locked_key(None);
    let session = dictionary.session("alice");
    assert!(session.is_resumed());
    assert_eq!(session.ephemeral_keys(), ["a"]);
    dictionary.release_all(&"bob");
    assert!(dictionary.expire().sessions.is_empty() && dictionary.get("a").is_some(), "it has not ended any more");
    assert_eq!(removed(session.end()), ["a"]);
}

#[test]
fn a_locked_key_of_a_session_whose_grace_is_over_is_removed_when_the_lock_has_ended() {
    let (dictionary, clock) = with_manual_clock();
    let session = owning(&dictionary, "alice", &["a", "b"]);
    session.update_locks(acquire("c", None)).unwrap();
    dictionary.update_locks(&"bob", acquire("a", SECOND * 9)).unwrap();
    session.detach(SECOND);
    clock.advance(SECOND);
    let (_, end) = dictionary.expire().sessions.remove(0);
    assert_eq!((end.removed, end.released), (vec!["b"], vec!["c"]));
    assert_eq!(end.not_removed, [("a", NotRemoved::Locked { owner: "bob", remaining: Some(SECOND * 8) })]);
    for _ in 0..7 {
        clock.advance(SECOND);
        assert!(dictionary.expire().sessions.is_empty());
    }
    clock.advance(SECOND);
    let expiry = dictionary.expire();
    assert_eq!(expiry.locks, [("a", "bob")]);
    assert_eq!(expiry.sessions[0].1.removed, ["a"]);
}

#[test]
fn a_locked_key_of_an_ended_session_stays_when_the_dictionary_is_frozen() {
    let (dictionary, _clock) = with_a_locked_key(None);
    dictionary.freeze();
    dictionary.clear_locks();
    let expiry = dictionary.expire();
    assert!(expiry.sessions.is_empty() && expiry.next.is_none(), "{expiry:?}");
    assert_eq!(dictionary.snapshot()["a"], 1);
}

#[test]
fn many_sessions_end_in_one_expiry_each_in_its_own_commit() {
    let clock = ManualClock::new();
    let dictionary: StateDictionary<u32, u32, u32> =
        StateDictionary::builder().clock(&clock).commit_history(true).lock_history_limit(10_000).build();
    let (commits, locks) = (dictionary.commit_feed(), dictionary.lock_feed());
    locks.flush().unwrap();
    for client in 0..1000 {
        let mut session = dictionary.session(client);
        session.update_ephemeral(Change::new().set(client, 1).set(client + 1000, 1)).unwrap();
        session.update_locks(LockRequest::new().acquire(client, None)).unwrap();
        session.detach(SECOND);
    }
    drop((commits.flush(), locks.flush()));
    clock.advance(SECOND);
    let expiry = dictionary.expire();
    assert_eq!((expiry.sessions.len(), expiry.next), (1000, None));
    assert!(dictionary.snapshot().is_empty() && dictionary.locks().is_empty());
    let delivery = commits.flush().unwrap();
    let Ok(LockDelivery::Events(events)) = locks.flush() else { panic!() };
    assert_eq!((delivery.commits.len(), events.len()), (1000, 1000));
    let mut ended = expiry.sessions;
    ended.sort_by_key(|(_, end)| end.revision);
    for (((token, end), commit), event) in ended.iter().zip(&delivery.commits).zip(&events) {
        assert_eq!((commit.token, commit.revision, commit.change.len()), (*token, end.revision, 2));
        assert_eq!((event.owner, event.revision, &end.released[..]), (*token, end.revision, &[*token][..]));
        assert_eq!(sorted(end.removed.clone()), [*token, *token + 1000]);
    }
}

#[test]
fn a_detached_session_is_resumed_with_its_keys_and_locks() {
    let (dictionary, clock) = with_manual_clock();
    let session = owning(&dictionary, "alice", &["a"]);
    assert!(!session.is_resumed());
    session.update_locks(acquire("b", None)).unwrap();
    session.detach(SECOND);
    assert_eq!(dictionary.expire().next, Some(SECOND));
    assert!(!dictionary.session("bob").is_resumed());
    clock.advance(SECOND / 2);

    let session = dictionary.session("alice");
    assert!(session.is_resumed());
    assert_eq!((*session.token(), session.ephemeral_keys()), ("alice", vec!["a"]));
    clock.advance(SECOND);
    let expiry = dictionary.expire();
    assert!(expiry.sessions.is_empty() && expiry.next.is_none(), "its time does not run while it is not left");
    let end = session.end();
    assert_eq!((end.removed, end.released), (vec!["a"], vec!["b"]));
}

#[test]
fn a_session_ends_when_its_grace_is_over_and_not_before() {
    let (dictionary, clock) = with_manual_clock();
    owning(&dictionary, "alice", &["a"]).detach(SECOND);
    owning(&dictionary, "bob", &["b"]).detach(SECOND * 2);
    owning(&dictionary, "carol", &["c"]).detach(Duration::MAX);
    clock.advance(ALMOST_A_SECOND);
    assert!(dictionary.expire().sessions.is_empty());
    clock.advance(NANOSECOND);
    let expiry = dictionary.expire();
    assert_eq!(expiry.next, Some(SECOND));
    let [(token, end)] = &expiry.sessions[..] else { panic!("{expiry:?}") };
    assert_eq!((*token, &end.removed[..]), ("alice", &["a"][..]));
    clock.advance(SECOND * 1000);
    let expiry = dictionary.expire();
    assert_eq!((expiry.sessions[0].0, expiry.sessions.len(), expiry.next), ("bob", 1, None));
    assert_eq!(content(&dictionary.snapshot()).into_keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn expire_removes_expired_locks_and_returns_the_next_deadline() {
    let (dictionary, clock) = with_manual_clock();
    assert_eq!(dictionary.expire().next, None);
    dictionary.update_locks(&"alice", acquire("a", SECOND).acquire("b", SECOND * 3).acquire("c", None)).unwrap();
    assert_eq!(dictionary.expire().next, Some(SECOND));
    clock.advance(SECOND);
    let expiry = dictionary.expire();
    assert_eq!((expiry.locks, expiry.next), (vec![("a", "alice")], Some(SECOND * 2)));
    // Renewed for longer, `next` is too early and not too late; the call then finds out.
    dictionary.update_locks(&"alice", acquire("b", SECOND * 10)).unwrap();
    clock.advance(SECOND * 2);
    let expiry = dictionary.expire();
    assert_eq!((expiry.locks, expiry.next), (vec![], Some(SECOND * 8)));
    // Renewed for a shorter time, it says so at once.
    dictionary.update_locks(&"alice", acquire("b", SECOND)).unwrap();
    assert_eq!(dictionary.expire().next, Some(SECOND));
}

#[test]
fn ending_waits_while_the_content_is_locked_and_delays_no_other_thread() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let session = owning(&dictionary, "alice", &["a"]);
        session.update_locks(acquire("a", None)).unwrap();
        let guard = dictionary.lock_content().unwrap();
        thread::scope(|scope| {
            let ending = spawn_waiting(scope, || session.end());
            // With no shard locked.
            dictionary.update_locks(&"bob", acquire("b", None)).unwrap();
            assert!(guard.contains_key("a"));
            assert_eq!(dictionary.lock_info("a").unwrap().owner, "alice", "locks and keys go together");
            drop(guard);
            let end = ending.join().unwrap();
            assert_eq!((end.removed, end.released), (vec!["a"], vec!["a"]));
        });
    });
}

#[test]
fn a_session_dropped_while_the_content_is_locked_releases_its_locks_and_is_deferred() {
    let (dictionary, clock) = with_manual_clock();
    let session = owning(&dictionary, "alice", &["a"]);
    session.update_locks(acquire("a", None)).unwrap();
    let guard = dictionary.lock_content().unwrap();
    drop(session);
    assert!(dictionary.locks().is_empty());
    assert!(guard.contains_key("a"));
    clock.advance(SECOND);
    let expiry = dictionary.expire();
    assert!(expiry.sessions.is_empty() && guard.contains_key("a"), "still locked, and reported when it is over");
    let next = expiry.next.unwrap();
    assert!(next > Duration::ZERO, "a server that sleeps so long must not spin");
    drop(guard);
    clock.advance(next);
    assert_eq!(dictionary.expire().sessions[0].1.removed, ["a"]);
    assert!(dictionary.snapshot().is_empty());
}

#[test]
fn a_session_whose_grace_is_over_while_the_content_is_locked_ends_as_a_whole_when_it_is_unlocked() {
    let (dictionary, clock) = with_manual_clock();
    let session = owning(&dictionary, "alice", &["a"]);
    session.update_locks(acquire("b", None)).unwrap();
    session.detach(SECOND);
    clock.advance(SECOND);
    let guard = dictionary.lock_content().unwrap();
    let expiry = dictionary.expire();
    assert!(expiry.sessions.is_empty() && expiry.next.is_some());
    assert!(dictionary.get("a").is_some() && dictionary.lock_info("b").is_some(), "half of it");
    drop(guard);
    clock.advance(expiry.next.unwrap());
    let (token, end) = dictionary.expire().sessions.remove(0);
    assert_eq!((token, end.released, end.removed), ("alice", vec!["b"], vec!["a"]));
}

#[test]
fn a_session_ended_by_the_thread_that_locks_the_content_is_deferred() {
    let (dictionary, clock) = with_manual_clock();
    let session = owning(&dictionary, "alice", &["a"]);
    let guard = dictionary.lock_content().unwrap();
    assert_eq!(session.end().not_removed, [("a", NotRemoved::Deferred)]);
    drop(guard);
    clock.advance(SECOND);
    assert_eq!(dictionary.expire().sessions[0].1.removed, ["a"]);
}

#[test]
fn a_session_ended_inside_a_closure_of_an_update_is_deferred() {
    let (dictionary, clock) = with_manual_clock();
    let mut session = Some(owning(&dictionary, "alice", &["a"]));
    let revision = dictionary.update_state_with(&"bob", |_| {
        if let Some(session) = session.take() {
            assert_eq!(session.end().not_removed, [("a", NotRemoved::Deferred)]);
        }
        set("b", 1)
    });
    assert_eq!(revision.unwrap(), Revision::from(2));
    clock.advance(SECOND);
    assert_eq!(dictionary.expire().sessions[0].1.removed, ["a"]);
}

#[test]
fn a_key_locked_by_a_session_that_ends_too_is_removed() {
    for reversed in [false, true] {
        let (dictionary, clock) = with_manual_clock();
        let (mut one, mut other) = (dictionary.session("one"), dictionary.session("other"));
        if reversed {
            (one, other) = (other, one);
        }
        assert!(one.update_ephemeral(set("a", 1)).is_ok());
        assert!(other.update_locks(acquire("a", None)).is_ok());
        one.detach(SECOND);
        other.detach(SECOND);
        clock.advance(SECOND);
        let expiry = dictionary.expire();
        assert_eq!(expiry.sessions.len(), 2);
        assert!(expiry.sessions.iter().all(|(_, end)| end.not_removed.is_empty()), "{expiry:?}");
        assert!(dictionary.snapshot().is_empty() && dictionary.locks().is_empty());
    }
}

#[test]
fn a_session_ended_inside_a_closure_while_another_thread_locks_the_content_does_not_wait() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let mut session = Some(owning(&dictionary, "alice", &["a"]));
        let (is_held, held) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel();
        thread::scope(|scope| {
            let dictionary = &dictionary;
            scope.spawn(move || {
                let guard = dictionary.lock_content().unwrap();
                is_held.send(()).unwrap();
                has_ended.recv().unwrap();
                drop(guard);
            });
            held.recv().unwrap();
            let committed = dictionary.update_state_with(&"bob", |_| {
                if let Some(session) = session.take() {
                    assert_eq!(session.end().not_removed, [("a", NotRemoved::Deferred)]);
                    ended.send(()).unwrap();
                }
                set("b", 1)
            });
            assert!(committed.is_ok());
        });
        clock.advance(SECOND);
        assert_eq!(dictionary.expire().sessions[0].1.removed, ["a"]);
    });
}

#[test]
fn the_end_of_a_session_wakes_waiters_for_its_keys_or_its_locks() {
    within_a_minute(|| {
        let dictionary: Dictionary = StateDictionary::builder().lock_history_limit(100).build();
        let buffer = dictionary.change_buffer();
        let feed = dictionary.lock_feed();
        let with_key = owning(&dictionary, "alice", &["a"]);
        let with_lock = dictionary.session("bob");
        assert!(with_lock.update_locks(acquire("b", None)).is_ok());
        assert!(buffer.flush().is_ok() && feed.flush().is_ok());
        thread::scope(|scope| {
            let flushed = spawn_waiting(scope, || buffer.flush().unwrap().removals().copied().collect::<Vec<_>>());
            assert_eq!(with_key.end().removed, ["a"]);
            assert_eq!(flushed.join().unwrap(), ["a"]);
            let flushed = spawn_waiting(scope, || feed.flush());
            assert_eq!(with_lock.end().released, ["b"]);
            assert!(matches!(flushed.join().unwrap(), Ok(LockDelivery::Events(events)) if events[0].key == "b"));
        });
    });
}

#[test]
fn a_lock_acquired_without_a_session_goes_with_the_one_that_ends_also_if_another_has_to_wait() {
    for first_has_the_key in [true, false] {
        let (dictionary, clock) = with_manual_clock();
        let (mut one, mut other) = (dictionary.session("alice"), dictionary.session("alice"));
        let with_key = if first_has_the_key { &mut one } else { &mut other };
        assert!(with_key.update_ephemeral(set("a", 1)).is_ok());
        dictionary.update_locks(&"alice", acquire("b", None)).unwrap();
        one.detach(SECOND);
        other.detach(SECOND);
        clock.advance(SECOND);
        let guard = dictionary.lock_content().unwrap();
        let expiry = dictionary.expire();
        assert_eq!(expiry.sessions.len(), 1, "the one with the key waits");
        assert_eq!(expiry.sessions[0].1.released, ["b"]);
        drop(guard);
        assert_eq!(dictionary.expire().sessions[0].1.removed, ["a"]);
    }
}
