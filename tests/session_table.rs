//! The table of sessions by client.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{Dictionary, SECOND, acquire, set, spawn_waiting, with_manual_clock, within_a_minute};
use state_dictionary::{ClientSession, Refusal, StateDictionary, UpdateError};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

type Connection = ClientSession<&'static str, i32, &'static str>;

const GRACE: std::time::Duration = SECOND;

fn write(connection: &Connection, key: &'static str, value: i32) -> bool {
    connection.with(|session| session.update_ephemeral(set(key, value)).unwrap()).is_some()
}

fn is_resumed(connection: &Connection) -> bool {
    connection.with(|session| session.is_resumed()).unwrap()
}

/// The keys of the sessions that end with an expiry, session by session.
fn expired(dictionary: &Dictionary) -> Vec<Vec<&'static str>> {
    dictionary.expire().sessions.into_iter().map(|(_, end)| common::removed(end)).collect()
}

#[test]
fn a_newer_connection_takes_keys_and_locks_over() {
    let dictionary = Dictionary::new();
    let sessions = dictionary.sessions(GRACE);
    let old = sessions.open("alice");
    assert!(!is_resumed(&old) && write(&old, "cursor", 1));
    old.with(|session| session.update_locks(acquire("ball", None)).unwrap()).unwrap();

    let new = sessions.open("alice");
    assert!(is_resumed(&new) && old.is_taken_over() && !new.is_taken_over());
    assert_eq!(new.with(|session| session.ephemeral_keys()).unwrap(), ["cursor"]);
    assert!(!write(&old, "cursor", 7) && write(&new, "avatar", 1));
    let end = new.end().unwrap();
    assert_eq!((common::sorted(end.removed), end.released), (vec!["avatar", "cursor"], vec!["ball"]));
}

#[test]
fn what_a_connection_does_that_was_taken_over_has_no_effect() {
    let (dictionary, clock) = with_manual_clock();
    let sessions = dictionary.sessions(GRACE);
    let (first, second, third) = (sessions.open("alice"), sessions.open("alice"), sessions.open("alice"));
    assert!(write(&third, "cursor", 1));
    assert_eq!(first.end(), None);
    drop(second);
    clock.advance(GRACE);
    assert!(expired(&dictionary).is_empty() && write(&third, "cursor", 2));

    let fourth = sessions.open("alice");
    assert!(third.is_taken_over(), "the end of the older ones has not removed the latest from the table");
    assert_eq!(fourth.end().unwrap().removed, ["cursor"]);
}

#[test]
fn a_lost_connection_leaves_its_session_for_the_grace_period() {
    let (dictionary, clock) = with_manual_clock();
    let sessions = dictionary.sessions(GRACE);
    let alice = sessions.open("alice");
    assert!(write(&alice, "cursor", 1));
    drop(alice);
    assert!(expired(&dictionary).is_empty());

    let alice = sessions.open("alice");
    assert!(is_resumed(&alice));
    clock.advance(GRACE);
    assert!(expired(&dictionary).is_empty(), "she is back");
    drop(alice);
    clock.advance(GRACE);
    assert_eq!(expired(&dictionary), [["cursor"]]);
    assert!(!is_resumed(&sessions.open("alice")));
}

#[test]
fn a_client_that_leaves_ends_its_session_at_once() {
    let dictionary = Dictionary::new();
    let sessions = dictionary.sessions(GRACE);
    let alice = sessions.open("alice");
    assert!(write(&alice, "cursor", 1));
    assert_eq!(alice.end().unwrap().removed, ["cursor"]);
    let alice = sessions.open("alice");
    assert!(!is_resumed(&alice));
    assert_eq!(
        format!("{sessions:?} {alice:?}"),
        r#"Sessions { clients: 1, .. } ClientSession { token: "alice", .. }"#
    );
}

#[test]
fn clients_have_a_session_each() {
    let dictionary = Dictionary::new();
    let sessions = dictionary.sessions(GRACE);
    let (alice, bob) = (sessions.open("alice"), sessions.open("bob"));
    assert!(write(&alice, "a", 1) && write(&bob, "b", 1));
    assert!(!alice.is_taken_over() && !is_resumed(&bob));
    assert_eq!((*alice.token(), *bob.token()), ("alice", "bob"));
    assert_eq!(alice.end().unwrap().removed, ["a"]);
    assert!(write(&bob, "b", 2));
}

#[test]
fn a_takeover_waits_for_what_the_older_connection_does_and_other_clients_do_not() {
    let dictionary = Dictionary::new();
    let sessions = dictionary.sessions(GRACE);
    let old = sessions.open("alice");
    let done = AtomicBool::new(false);
    within_a_minute(|| {
        thread::scope(|scope| {
            let new = old
                .with(|session| {
                    // ORDERING: Relaxed, the session's mutex orders it.
                    let opening = spawn_waiting(scope, || (sessions.open("alice"), done.load(Ordering::Relaxed)));
                    drop(sessions.open("bob"));
                    session.update_ephemeral(set("cursor", 1)).unwrap();
                    done.store(true, Ordering::Relaxed);
                    opening
                })
                .unwrap();
            let (new, was_done) = new.join().unwrap();
            assert!(was_done);
            assert_eq!(new.end().unwrap().removed, ["cursor"]);
        });
    });
}

/// Connections of one client come and are lost, some late, in several threads.
#[test]
fn of_connections_that_race_one_has_the_session_and_all_have_the_same() {
    let (dictionary, clock) = with_manual_clock();
    let sessions = dictionary.sessions(GRACE);
    let first = sessions.open("alice");
    assert!(write(&first, "avatar", 1));
    let connections: Vec<_> = within_a_minute(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let sessions = &sessions;
                    scope.spawn(move || {
                        let mut kept = Vec::new();
                        for round in 0..200 {
                            let connection = sessions.open("alice");
                            assert!(connection.with(|session| session.is_resumed()).is_none_or(|resumed| resumed));
                            if round % 3 != thread % 3 {
                                kept.push(connection);
                            }
                        }
                        kept
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    });
    let latest = sessions.open("alice");
    assert!(is_resumed(&latest) && first.is_taken_over() && connections.iter().all(Connection::is_taken_over));
    drop((latest, first, connections));
    clock.advance(GRACE);
    assert_eq!(expired(&dictionary), [["avatar"]], "one session");
}

#[test]
fn a_panic_leaves_the_session_to_its_connection() {
    let dictionary = Dictionary::new();
    let sessions = dictionary.sessions(GRACE);
    let alice = sessions.open("alice");
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        alice.with(|session| {
            session.update_ephemeral(set("cursor", 1)).unwrap();
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err() && write(&alice, "avatar", 1));
    let end = alice.end().unwrap();
    assert_eq!(common::sorted(end.removed), ["avatar", "cursor"]);
}

#[test]
fn a_token_that_panics_when_it_is_compared_leaves_the_table_as_it_was() {
    #[derive(Clone)]
    struct Token(u8);
    impl PartialEq for Token {
        fn eq(&self, other: &Self) -> bool {
            assert!(self.0 != 0 && other.0 != 0, "on purpose");
            self.0 == other.0
        }
    }
    let dictionary: StateDictionary<&str, i32, Token> = StateDictionary::new();
    let sessions = dictionary.sessions(GRACE);
    let one = sessions.open(Token(1));
    assert!(panic::catch_unwind(AssertUnwindSafe(|| sessions.open(Token(0)))).is_err());
    assert!(!one.is_taken_over());
    drop(one);
    // Now the token is compared with that of the detached session, when its place is in the table already.
    assert!(panic::catch_unwind(AssertUnwindSafe(|| sessions.open(Token(0)))).is_err());
    assert!(sessions.open(Token(1)).with(|session| session.is_resumed()).unwrap());
}

#[test]
fn a_table_may_outlive_the_dictionary() {
    let dictionary = Dictionary::new();
    let sessions = dictionary.sessions(GRACE);
    let old = sessions.open("alice");
    drop(dictionary);
    let new = sessions.open("alice");
    assert!(old.is_taken_over() && is_resumed(&new));
    let refused = new.with(|session| session.update_ephemeral(set("cursor", 1))).unwrap();
    assert!(matches!(refused, Err(UpdateError { reason: Refusal::Frozen, .. })));
}
