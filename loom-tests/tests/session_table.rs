//! Connections of one client that take its session over, are lost, and end.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom::future::block_on;
use loom_tests::{Dictionary, actor, explore, join};
use state_dictionary::{Change, ClientSession, Sessions};
use std::sync::Arc;
use std::time::Duration;

type Table = Sessions<u8, u32, char>;
type Connection = ClientSession<u8, u32, char>;

/// A table, and a connection of 's' whose session has key 0.
fn connected() -> (Dictionary, Arc<Table>, Connection) {
    let dictionary = Dictionary::new();
    let sessions = Arc::new(dictionary.sessions(Duration::ZERO));
    let old = sessions.open('s');
    assert!(write(&old, 0));
    (dictionary, sessions, old)
}

fn write(connection: &Connection, key: u8) -> bool {
    connection.with(|session| session.update_ephemeral(Change::new().set(key, 1)).unwrap()).is_some()
}

/// The keys of the sessions that are detached, session by session.
fn detached(dictionary: &Dictionary) -> Vec<Vec<u8>> {
    dictionary.expire().sessions.into_iter().map(|(_, end)| end.removed).collect()
}

/// Invariant: a newer connection has the session of the older one, whether it takes it over or finds it detached, and the loss
/// of the older one does not detach it any more.
#[test]
fn takeover_against_loss() {
    explore("takeover_against_loss", 57, || {
        let (dictionary, sessions, old) = connected();
        let opener = actor(&sessions, |sessions| sessions.open('s'));
        let loser = actor(&sessions, move |_| drop(old));
        let new = join(opener);
        join(loser);
        assert_eq!(new.with(|session| (session.is_resumed(), session.ephemeral_keys())), Some((true, vec![0])));
        assert!(detached(&dictionary).is_empty());
        let newest = sessions.open('s');
        assert!(new.is_taken_over(), "the latest connection is in the table");
        drop(newest);
        assert_eq!(detached(&dictionary), [[0]]);
    });
}

/// Invariant: the session of a client that leaves either ends, and then a newer connection has a new one, or it was taken over
/// before, and then goes on.
#[test]
fn takeover_against_end() {
    explore("takeover_against_end", 90, || {
        let (dictionary, sessions, old) = connected();
        let opener = actor(&sessions, |sessions| sessions.open('s'));
        let leaver = actor(&sessions, move |_| old.end());
        let new = join(opener);
        let ended = join(leaver).map(|end| end.removed);
        let resumed = new.with(|session| session.is_resumed()).unwrap();
        assert_eq!(ended, (!resumed).then(|| vec![0]));
        assert_eq!(dictionary.snapshot().contains_key(&0), resumed);
        assert_eq!(new.end().unwrap().removed, if resumed { vec![0] } else { vec![] });
    });
}

/// Invariant: what the older connection writes comes before the take-over, and is the session's, or is refused.
#[test]
fn takeover_against_write() {
    explore("takeover_against_write", 94, || {
        let (dictionary, sessions, old) = connected();
        let opener = actor(&sessions, |sessions| {
            let new = sessions.open('s');
            let keys = new.with(|session| session.ephemeral_keys()).unwrap();
            (new, keys.len())
        });
        let writer = actor(&sessions, move |_| write(&old, 1));
        let (new, keys) = join(opener);
        let written = join(writer);
        assert_eq!((keys, dictionary.snapshot().len()), (1 + usize::from(written), keys));
        assert_eq!(new.end().unwrap().removed.len(), keys);
    });
}

/// Invariant: of two that open the session at the same time, one has it, and the other was taken over.
#[test]
fn takeover_against_takeover() {
    explore("takeover_against_takeover", 31, || {
        let (dictionary, sessions, old) = connected();
        let openers = [(); 2].map(|()| actor(&sessions, |sessions| sessions.open('s')));
        let opened = openers.map(join);
        assert!(old.is_taken_over());
        assert_ne!(opened[0].is_taken_over(), opened[1].is_taken_over());
        let keys = opened.iter().find_map(|new| new.with(|session| session.ephemeral_keys()));
        assert_eq!(keys, Some(vec![0]));
        drop((old, opened));
        assert_eq!(detached(&dictionary), [[0]], "one session");
    });
}

/// Invariant: a connection that awaits being taken over is woken.
#[test]
fn awaited_takeover_against_takeover() {
    explore("awaited_takeover_against_takeover", 380, || {
        let (_dictionary, sessions, old) = connected();
        let opener = actor(&sessions, |sessions| sessions.open('s'));
        let waiter = actor(&sessions, move |_| {
            block_on(old.taken_over());
            assert!(!write(&old, 1));
        });
        join(waiter);
        assert!(write(&join(opener), 1));
    });
}
