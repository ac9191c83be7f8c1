//! What goes with a client when it goes: its locks and its keys, in one commit.

mod common;

use common::{
    Dictionary, Grenade, SECOND, acquire, content, owning, parts, remove, removed, set, sorted, with_manual_clock,
    within_a_minute,
};
use state_dictionary::{
    Change, FlushError, LockRequest, ManualClock, NotRemoved, Refusal, Revision, Session, StateDictionary, UpdateError,
};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{panic, thread};

#[test]
fn ending_releases_the_locks_and_removes_the_keys_in_one_commit() {
    let dictionary = Dictionary::new();
    let mut session = dictionary.session("alice");
    session.update_ephemeral(set("a", 1).set("b", 1)).unwrap();
    session.update_state(set("c", 1)).unwrap();
    session.update_locks(acquire("a", None).acquire("d", None)).unwrap();
    dictionary.update_locks(&"bob", acquire("e", None)).unwrap();
    let buffer = dictionary.change_buffer();
    buffer.try_flush().unwrap();

    let end = session.end();
    assert_eq!(end.revision, Revision::from(3));
    assert_eq!(sorted(end.released), ["a", "d"]);
    assert_eq!(sorted(end.removed), ["a", "b"]);
    assert!(end.not_removed.is_empty());
    assert_eq!(dictionary.revision(), Revision::from(3), "one commit");
    let delivery = buffer.try_flush().unwrap();
    assert_eq!((delivery.revision(), parts(&delivery)), (Revision::from(3), (vec![], vec!["a", "b"])));
    assert_eq!(dictionary.locks().len(), 1, "that of another client stays");
    assert_eq!(content(&dictionary.snapshot()).into_keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn dropping_a_session_ends_it() {
    let dictionary = Dictionary::new();
    let session = owning(&dictionary, "alice", &["a"]);
    session.update_locks(acquire("b", None)).unwrap();
    drop(session);
    assert!(dictionary.snapshot().is_empty());
    assert!(dictionary.locks().is_empty());
}

#[test]
fn a_session_without_keys_or_locks_commits_nothing() {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"bob", set("a", 1)).unwrap();
    let end = dictionary.session("alice").end();
    assert_eq!((end.revision, end.removed.len(), end.released.len()), (Revision::from(1), 0, 0));
    let session = dictionary.session("alice");
    session.update_locks(acquire("b", None)).unwrap();
    let end = session.end();
    assert_eq!((end.revision, end.released), (Revision::from(1), vec!["b"]));
    assert_eq!(dictionary.revision(), Revision::from(1), "releasing is no commit");
}

#[test]
fn a_key_is_that_of_the_session_that_set_it_last() {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"bob", set("bob's", 1)).unwrap();
    let mut alice = owning(&dictionary, "alice", &["a", "b", "c", "d"]);
    let mut carol = owning(&dictionary, "carol", &["a"]);
    carol.update_ephemeral(remove("b").set("b", 2)).unwrap();
    carol.update_ephemeral(remove("c")).unwrap();
    carol.update_ephemeral(set("c", 2)).unwrap();
    carol.update_ephemeral(set("c", 3)).unwrap();
    alice.update_ephemeral(set("bob's", 2)).unwrap();
    assert_eq!(sorted(alice.ephemeral_keys()), ["bob's", "d"]);
    assert_eq!(sorted(carol.ephemeral_keys()), ["a", "b", "c"]);
    assert_eq!(removed(alice.end()), ["bob's", "d"]);
    assert_eq!(content(&dictionary.snapshot()).into_iter().collect::<Vec<_>>(), [("a", 1), ("b", 2), ("c", 3)]);
    assert_eq!(removed(carol.end()), ["a", "b", "c"]);
}

#[test]
fn a_key_that_is_set_without_a_session_is_lasting() {
    let dictionary = Dictionary::new();
    let session = owning(&dictionary, "alice", &["a", "b", "c", "d", "e"]);
    dictionary.update_state(&"bob", set("a", 7)).unwrap();
    session.update_state(set("b", 7)).unwrap();
    dictionary.update_state_with(&"alice", |_| set("c", 7)).unwrap();
    dictionary.lock_content().unwrap().update_state(&"alice", set("d", 7)).unwrap();
    // A change that is not committed changes nothing.
    assert!(dictionary.update_state(&"bob", set("e", 7).if_absent("e")).is_err());
    assert_eq!(session.ephemeral_keys(), ["e"]);
    assert_eq!(removed(session.end()), ["e"]);
    assert_eq!(content(&dictionary.snapshot()).into_keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[test]
fn a_refused_ephemeral_change_makes_nothing_the_sessions() {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"bob", set("a", 1)).unwrap();
    let mut session = dictionary.session("alice");
    dictionary.update_locks(&"bob", acquire("a", None)).unwrap();
    assert!(session.update_ephemeral(set("a", 2)).is_err());
    dictionary.clear_locks();
    assert!(session.update_ephemeral(set("a", 2).if_absent("a")).is_err());
    assert!(session.ephemeral_keys().is_empty());
    assert!(removed(session.end()).is_empty());
}

#[test]
fn of_two_sessions_with_one_token_each_ends_with_what_is_its_own() {
    let dictionary = Dictionary::new();
    let mut old = owning(&dictionary, "alice", &["cursor", "old"]);
    old.update_locks(acquire("ball", None).acquire("bat", None)).unwrap();
    let new = owning(&dictionary, "alice", &["cursor", "new"]);
    assert_eq!(new.update_locks(acquire("ball", None).acquire("net", None)).unwrap().renewed.len(), 1);
    old.update_ephemeral(set("older", 1)).unwrap();
    let end = old.end();
    assert_eq!((sorted(end.removed), end.released), (vec!["old", "older"], vec!["bat"]), "the rest is in use");
    let end = new.end();
    assert_eq!((sorted(end.removed), sorted(end.released)), (vec!["cursor", "new"], vec!["ball", "net"]));
}

#[test]
fn locks_that_were_acquired_without_the_session_go_with_the_first_of_its_token() {
    let dictionary = Dictionary::new();
    let (session, other) = (dictionary.session("alice"), dictionary.session("bob"));
    dictionary.update_locks(&"alice", acquire("a", None).acquire("b", None)).unwrap();
    dictionary.update_locks(&"bob", acquire("c", None)).unwrap();
    session.update_locks(acquire("d", None)).unwrap();
    assert_eq!(sorted(session.end().released), ["a", "b", "d"]);
    other.update_locks(acquire("c", None)).unwrap();
    assert_eq!(other.end().released, ["c"], "renewed through the session");
    assert!(dictionary.locks().is_empty());
}

#[test]
fn many_short_lived_locks_do_not_hide_those_that_a_session_has() {
    let dictionary: StateDictionary<u32, u32, u8> = StateDictionary::new();
    let session = dictionary.session(1);
    let acquire = |key: u32| LockRequest::new().acquire(key, None);
    for key in 0..1000 {
        session.update_locks(acquire(key)).unwrap();
        // By another caller, so that the session does not note it.
        if key % 10 != 0 {
            dictionary.update_locks(&1, LockRequest::new().release(key)).unwrap();
        }
    }
    assert_eq!(session.end().released.len(), 100);
    assert!(dictionary.locks().is_empty());
}

#[test]
fn a_key_that_another_client_created_anew_is_not_the_sessions_any_more() {
    let dictionary = Dictionary::new();
    let session = owning(&dictionary, "alice", &["a", "b"]);
    dictionary.update_state(&"bob", remove("a")).unwrap();
    assert_eq!(session.ephemeral_keys(), ["b"]);
    dictionary.update_state(&"bob", set("a", 2)).unwrap();
    assert_eq!(session.ephemeral_keys(), ["b"]);
    assert_eq!(removed(session.end()), ["b"]);
    assert_eq!(dictionary.snapshot()["a"], 2);
}

#[test]
fn a_key_that_the_session_removed_and_created_again_is_still_its_own() {
    let dictionary = Dictionary::new();
    let mut session = owning(&dictionary, "alice", &["a", "b"]);
    session.update_ephemeral(remove("a")).unwrap();
    assert_eq!(session.ephemeral_keys(), ["b"]);
    session.update_ephemeral(set("a", 2)).unwrap();
    // Set and removed within one change, in either order: the later counts.
    session.update_ephemeral(remove("b").set("b", 3)).unwrap();
    session.update_ephemeral(set("c", 1).remove("c")).unwrap();
    assert_eq!(sorted(session.ephemeral_keys()), ["a", "b"]);
    // Set again without the session, it is lasting.
    session.update_ephemeral(remove("b")).unwrap();
    session.update_state(set("b", 4)).unwrap();
    assert_eq!(removed(session.end()), ["a"]);
    assert_eq!(dictionary.snapshot()["b"], 4);
}

#[test]
fn keys_that_others_have_locked_stay_and_are_reported() {
    let (dictionary, clock) = with_manual_clock();
    let session = owning(&dictionary, "alice", &["a", "b", "c", "d"]);
    dictionary.update_locks(&"bob", acquire("a", None).acquire("b", SECOND * 3)).unwrap();
    dictionary.update_locks(&"carol", acquire("c", SECOND).acquire("nothing", None)).unwrap();
    session.update_locks(acquire("d", None)).unwrap();
    clock.advance(SECOND);
    let end = session.end();
    assert_eq!(sorted(end.removed), ["c", "d"], "an expired lock does not count");
    let not_removed: Vec<_> = sorted(end.not_removed.iter().map(|(key, _)| *key));
    assert_eq!(not_removed, ["a", "b"]);
    for (key, not_removed) in end.not_removed {
        let remaining = (key == "b").then_some(SECOND * 2);
        assert_eq!(not_removed, NotRemoved::Locked { owner: "bob", remaining });
    }
    assert_eq!(content(&dictionary.snapshot()).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_destructor_that_panics_does_not_keep_a_key_from_its_session() {
    let dictionary: StateDictionary<&str, Grenade, &str> = StateDictionary::new();
    dictionary.update_state(&"server", Change::new().set("scene", Grenade(true))).unwrap();
    let mut session = dictionary.session("alice");
    let change = Change::new().set("avatar", Grenade(false)).set("scene", Grenade(false));
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(|| session.update_ephemeral(change))).is_err());
    assert_eq!(sorted(session.ephemeral_keys()), ["avatar", "scene"]);
    session.end();
    assert!(dictionary.snapshot().is_empty());
}

#[test]
fn a_lock_on_a_key_that_is_not_the_sessions_any_more_is_not_reported() {
    let dictionary = Dictionary::new();
    let session = owning(&dictionary, "alice", &["a"]);
    dictionary.update_state(&"bob", remove("a")).unwrap();
    dictionary.update_locks(&"bob", acquire("a", None)).unwrap();
    assert!(session.end().not_removed.is_empty());
}

#[test]
fn expired_locks_of_the_session_are_not_reported_as_released() {
    let (dictionary, clock) = with_manual_clock();
    let session = dictionary.session("alice");
    session.update_locks(acquire("a", SECOND).acquire("b", None)).unwrap();
    clock.advance(SECOND);
    assert_eq!(session.end().released, ["b"]);
}

#[test]
fn a_frozen_dictionary_keeps_the_keys_and_releases_the_locks() {
    let dictionary = Dictionary::new();
    let session = owning(&dictionary, "alice", &["a"]);
    session.update_locks(acquire("a", None)).unwrap();
    dictionary.freeze();
    let end = session.end();
    assert_eq!((end.released, end.not_removed), (vec!["a"], vec![("a", NotRemoved::Frozen)]));
    assert!(dictionary.locks().is_empty());
    assert_eq!(dictionary.snapshot()["a"], 1);
}

#[test]
fn a_session_outlives_the_dictionary() {
    let dictionary = Dictionary::new();
    let mut session = owning(&dictionary, "alice", &["a"]);
    session.update_locks(acquire("a", None)).unwrap();
    let buffer = dictionary.change_buffer();
    drop(dictionary);
    assert!(matches!(session.update_ephemeral(set("b", 1)), Err(UpdateError { reason: Refusal::Frozen, .. })));
    assert_eq!(session.end().not_removed, [("a", NotRemoved::Frozen)]);
    assert_eq!(buffer.flush().unwrap().updates().count(), 1);
    assert_eq!(buffer.flush().unwrap_err(), FlushError);
}

#[test]
fn a_session_dropped_by_a_panic_ends_like_any_other() {
    let dictionary = Dictionary::new();
    let session = owning(&dictionary, "alice", &["a"]);
    let unwound = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let _session = session;
        panic::resume_unwind(Box::new("a handler of a connection"));
    }));
    assert!(unwound.is_err());
    assert!(dictionary.snapshot().is_empty());
}

#[test]
fn a_key_whose_eq_panics_leaves_the_session_to_the_next_expiry() {
    #[derive(Clone, Debug)]
    struct Key(&'static str, Arc<AtomicBool>);
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            assert!(!self.1.load(Ordering::Relaxed), "Eq panics on demand");
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    let armed = Arc::new(AtomicBool::new(false));
    let dictionary: StateDictionary<Key, i32, u8> = StateDictionary::new();
    let key = |name| Key(name, Arc::clone(&armed));
    let mut session = dictionary.session(1);
    session.update_ephemeral(Change::new().set(key("a"), 1)).unwrap();
    session.update_locks(LockRequest::new().acquire(key("a"), None)).unwrap();
    armed.store(true, Ordering::Relaxed);
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(|| session.end())).is_err());
    armed.store(false, Ordering::Relaxed);
    assert_eq!((dictionary.snapshot().len(), dictionary.locks().len()), (1, 1), "nothing is half done");
    within_a_minute(|| {
        while !dictionary.snapshot().is_empty() {
            dictionary.expire();
            thread::yield_now();
        }
    });
    assert!(dictionary.locks().is_empty());
}

#[test]
fn a_session_that_cannot_be_ended_while_a_panic_unwinds_is_left_to_the_next_expiry() {
    /// Equal to itself; panics on demand.
    #[derive(Clone)]
    struct Token(Arc<AtomicBool>);
    impl PartialEq for Token {
        fn eq(&self, other: &Self) -> bool {
            assert!(!self.0.load(Ordering::Relaxed), "Eq panics on demand");
            Arc::ptr_eq(&self.0, &other.0)
        }
    }
    let clock = ManualClock::new();
    let dictionary: StateDictionary<&str, i32, Token> = StateDictionary::builder().clock(&clock).build();
    let armed = Arc::new(AtomicBool::new(false));
    let mut session = dictionary.session(Token(Arc::clone(&armed)));
    assert!(session.update_ephemeral(Change::new().set("a", 1)).is_ok());
    assert!(session.update_locks(LockRequest::new().acquire("a", None)).is_ok());
    let unwound = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let _session = session;
        armed.store(true, Ordering::Relaxed);
        panic::resume_unwind(Box::new("a handler of a connection"));
    }));
    assert!(unwound.is_err(), "and the process has not ended");
    armed.store(false, Ordering::Relaxed);
    assert_eq!((dictionary.snapshot().len(), dictionary.locks().len()), (1, 1));
    clock.advance(SECOND);
    assert_eq!(dictionary.expire().sessions[0].1.removed, ["a"]);
    assert!(dictionary.locks().is_empty());
}

#[test]
fn many_short_lived_keys_do_not_pile_up_in_a_session() {
    let dictionary: StateDictionary<u32, u32, u8> = StateDictionary::new();
    let mut session = dictionary.session(1);
    for key in 0..10_000 {
        session.update_ephemeral(Change::new().set(key, key)).unwrap();
        // Removed by another client, so that the session does not note it.
        dictionary.update_state(&2, Change::new().remove(key)).unwrap();
    }
    assert!(format!("{session:?}").contains("keys: "), "{session:?}");
    let kept: usize =
        format!("{session:?}").split("keys: ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(kept < 100, "{kept}");
    assert!(session.end().removed.is_empty());
}

#[test]
fn no_writer_gets_between_the_locks_and_the_keys_of_a_session() {
    // A thread that sees the lock released sees the key removed: a writer that waits for the key to be free finds it
    // absent.
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        for _ in 0..200 {
            let session = owning(&dictionary, "alice", &["a"]);
            session.update_locks(acquire("a", None)).unwrap();
            let (begun, wait) = mpsc::channel();
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    begun.send(()).unwrap();
                    loop {
                        match dictionary.update_state(&"bob", set("a", 2).if_present("a")) {
                            Err(UpdateError { reason: Refusal::Locked { .. }, .. }) => {}
                            other => break other,
                        }
                    }
                });
                wait.recv().unwrap();
                session.end();
                let refused = writer.join().unwrap();
                assert!(
                    matches!(refused, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })),
                    "{refused:?}"
                );
            });
        }
    });
}

#[test]
fn a_session_of_many_keys_ends_beside_busy_writers() {
    type Numbers = StateDictionary<u32, u32, u32>;
    fn beside_writers(
        write: impl Fn(&Numbers, Change<u32, u32>) + Sync,
        end: impl Fn(Session<u32, u32, u32>, &Numbers),
    ) {
        let dictionary = Numbers::new();
        let mut session = dictionary.session(0);
        assert!(session.update_ephemeral(Change::from_parts((1000..21_000).map(|key| (key, 0)), [])).is_ok());
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 1..4_u32 {
                let (write, over, dictionary) = (&write, &over, &dictionary);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        write(dictionary, Change::new().set(writer, 1_u32));
                    }
                });
            }
            end(session, &dictionary);
            over.store(true, Ordering::Relaxed);
        });
        assert!(dictionary.snapshot().keys().all(|key| *key < 1000));
    }
    within_a_minute(|| {
        let plain = |dictionary: &Numbers, change| assert!(dictionary.update_state(&1, change).is_ok());
        // Refused while the keys are being removed.
        let tried = |dictionary: &Numbers, change| drop(dictionary.try_update_state(&1, change));
        beside_writers(plain, |session, _| drop(session.end()));
        beside_writers(plain, |session, _| drop(session));
        beside_writers(tried, |session, _| drop(session.end()));
        beside_writers(tried, |session, _| drop(session));
        beside_writers(tried, |session, dictionary| {
            session.detach(Duration::ZERO);
            assert_eq!(dictionary.expire().sessions.len(), 1);
        });
    });
}

#[test]
fn what_a_session_removes_is_dropped_when_it_ends() {
    let dictionary: StateDictionary<u32, Arc<()>, u32> = StateDictionary::new();
    let value = Arc::new(());
    for commits in [1, 2, 5] {
        let mut session = dictionary.session(1);
        for commit in 0..commits {
            let keys = (0..100).map(|key| (commit * 100 + key, Arc::clone(&value)));
            session.update_ephemeral(Change::from_parts(keys, [])).unwrap();
        }
        assert_eq!(session.end().removed.len(), commits as usize * 100);
        assert_eq!(Arc::strong_count(&value), 1, "after {commits} commits");
    }
}
