//! Going on from a position, waiting for a revision, and following only some keys.

mod common;

use common::{Dictionary, commit, content, parts, remove, replay, set, spawn_waiting, within_a_minute};
use state_dictionary::{
    BufferOptions, Change, ChangeBuffer, FlushError, ParsePositionError, Position, Revision, StateDictionary, StoreId,
    Tombstones, TryFlushError, WaitError,
};
use std::collections::BTreeMap;
use std::time::Duration;
use std::{panic, thread};

type Buffer = ChangeBuffer<&'static str, i32>;

fn resumed(dictionary: &Dictionary, position: Position) -> Buffer {
    dictionary.change_buffer_with(BufferOptions::new().resume(position))
}

fn following(dictionary: &Dictionary, prefix: &str) -> Buffer {
    dictionary.change_buffer_with(BufferOptions::new().prefixes([prefix]))
}

#[test]
fn a_resumed_buffer_gives_exactly_what_changed_since() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1), ("b", 1), ("c", 1)]).build();
    let buffer = dictionary.change_buffer();
    let seen = buffer.try_flush().unwrap().position();
    assert_eq!(seen, buffer.position());
    commit(&dictionary, [set("a", 2), remove("b"), set("d", 1), set("e", 1), remove("e")]);
    let buffer = resumed(&dictionary, seen);
    assert_eq!(buffer.position(), seen, "nothing was delivered yet");
    let delivery = buffer.try_flush().unwrap();
    assert!(!delivery.is_full());
    assert_eq!((delivery.since(), delivery.revision()), (seen.revision, dictionary.revision()));
    assert_eq!(parts(&delivery), (vec![("a", 2), ("d", 1)], vec!["b"]));
    assert_eq!(buffer.position(), dictionary.position());
    commit(&dictionary, [set("a", 3)]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("a", 3)], vec![]));
}

#[test]
fn a_resumed_buffer_waits_if_nothing_changed() {
    within_a_minute(|| {
        let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
        let buffer = resumed(&dictionary, dictionary.position());
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || parts(&buffer.flush().unwrap()));
            commit(&dictionary, [remove("a")]);
            assert_eq!(waiting.join().unwrap(), (vec![], vec!["a"]));
        });
        let last = resumed(&dictionary, dictionary.position());
        dictionary.freeze();
        assert_eq!(last.flush().unwrap_err(), FlushError);
    });
}

#[test]
fn a_resumed_buffer_that_found_nothing_does_not_need_the_history_any_more() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).content([("a", 1), ("b", 1)]).build();
    let buffer = resumed(&dictionary, dictionary.position());
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
    commit(&dictionary, [set("a", 2), set("c", 1), set("c", 2), remove("b"), set("c", 3)]);
    let delivery = buffer.try_flush().unwrap();
    assert!(!delivery.is_full(), "it has the content of then to compare with");
    assert_eq!(parts(&delivery), (vec![("a", 2), ("c", 3)], vec!["b"]));
}

#[test]
fn a_position_that_cannot_be_resumed_from_gives_a_full_delivery() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).content([("a", 1)]).build();
    let Position { store, revision } = dictionary.position();
    let another = Dictionary::new().position().store;
    assert_ne!(another, store);
    commit(&dictionary, [set("b", 1), set("b", 2), set("b", 3)]);
    let future = Revision::from(100);
    for position in [
        Position { store, revision },
        Position { store: another, revision: future },
        Position { store: another, revision: dictionary.revision() },
        Position { store, revision: future },
    ] {
        let buffer = resumed(&dictionary, position);
        let delivery = buffer.try_flush().unwrap();
        assert!(delivery.is_full(), "{position}");
        assert_eq!((delivery.since(), parts(&delivery).0), (Revision::ZERO, vec![("a", 1), ("b", 3)]));
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
        commit(&dictionary, [set("b", 3)]);
        assert!(!buffer.try_flush().unwrap().is_full());
    }
}

#[test]
fn a_full_delivery_comes_at_once_also_if_there_is_nothing() {
    let dictionary = Dictionary::new();
    let foreign = Dictionary::new().position();
    let buffer = resumed(&dictionary, foreign);
    assert_eq!(buffer.position().revision, Revision::ZERO);
    let delivery = buffer.try_flush().unwrap();
    assert!(delivery.is_full());
    assert_eq!(delivery.count(), 0);
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty, "once");

    let buffer = resumed(&dictionary, foreign);
    dictionary.freeze();
    assert!(buffer.flush().unwrap().is_full());
    assert_eq!(buffer.flush().unwrap_err(), FlushError);
}

#[test]
fn a_buffer_that_lags_behind_the_history_before_its_first_flush_delivers_everything() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(1).build();
    commit(&dictionary, [set("a", 1)]);
    let buffer = resumed(&dictionary, dictionary.position());
    commit(&dictionary, [remove("a"), set("b", 1), set("b", 2)]);
    let delivery = buffer.try_flush().unwrap();
    assert!(delivery.is_full());
    assert_eq!(parts(&delivery), (vec![("b", 2)], vec![]));
}

#[test]
fn an_ordinary_buffer_begins_with_a_full_delivery_and_has_none_later() {
    for history_limit in [0, 100] {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
        let buffer = dictionary.change_buffer();
        commit(&dictionary, [set("a", 1)]);
        assert!(buffer.try_flush().unwrap().is_full());
        commit(&dictionary, [set("a", 2)]);
        assert!(!buffer.try_flush().unwrap().is_full(), "history limit {history_limit}");
    }
}

#[test]
fn a_buffer_that_looked_before_there_was_anything_still_begins_with_a_full_delivery() {
    for history_limit in [0, 100] {
        let builder = StateDictionary::builder().history_limit(history_limit);
        let dictionary: Dictionary = builder.content([("b.1", 1)]).build();
        let (whole, filtered) = (Dictionary::new(), following(&dictionary, "a."));
        let unfiltered = whole.change_buffer();
        commit(&whole, [set("a.0", 1), remove("a.0")]);
        commit(&dictionary, [set("b.1", 2), set("b.2", 1)]);
        for (dictionary, buffer) in [(&whole, unfiltered), (&dictionary, filtered)] {
            assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
            commit(dictionary, [set("a.1", 1)]);
            // What a client has from before, it must forget.
            let mut replica = BTreeMap::from([("a.old", 7)]);
            let delivery = buffer.try_flush().unwrap();
            assert_eq!((delivery.is_full(), delivery.since()), (true, Revision::ZERO), "history limit {history_limit}");
            replica.clear();
            replay(&delivery, &mut replica);
            assert_eq!(replica, BTreeMap::from([("a.1", 1)]));
            commit(dictionary, [set("a.2", 1)]);
            assert!(!buffer.try_flush().unwrap().is_full());
        }
    }
}

#[test]
fn a_buffer_resumed_at_the_very_beginning_does_not_deliver_in_full() {
    let dictionary = Dictionary::new();
    let buffer = resumed(&dictionary, dictionary.position());
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
    commit(&dictionary, [set("a", 1)]);
    assert!(!buffer.try_flush().unwrap().is_full());
}

#[test]
fn a_position_includes_commits_that_delivered_nothing() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let buffer = dictionary.change_buffer();
    assert_eq!(buffer.position(), Position { store: dictionary.id(), revision: Revision::ZERO });
    buffer.try_flush().unwrap();
    commit(&dictionary, [remove("b")]);
    assert_eq!(buffer.position().revision, Revision::from(1));
    buffer.try_flush().unwrap_err();
    assert_eq!(buffer.position(), dictionary.position());
}

#[test]
fn positions_are_texts_and_back() {
    let position = Position { store: StoreId::from(0xab), revision: Revision::from(42) };
    assert_eq!(position.to_string(), "00000000000000ab:42");
    assert_eq!("00000000000000ab:42".parse(), Ok(position));
    assert_eq!(u64::from(position.store), 0xab);
    for wrong in [
        "",
        ":",
        "ab:42",
        "00000000000000ab",
        "00000000000000ab:",
        "00000000000000ab:+1",
        "+0000000000000ab:1",
        "00000000000000ab:18446744073709551616",
        "00000000000000ab:1 ",
        "0000000000000\u{e4}b:1",
    ] {
        let error: ParsePositionError = wrong.parse::<Position>().expect_err(wrong);
        assert!(error.to_string().starts_with("not a position"));
    }
}

#[test]
fn waiting_for_a_revision_ends_when_it_has_come() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        assert_eq!(dictionary.wait_for_revision(Revision::ZERO).unwrap().len(), 0);
        assert_eq!(
            dictionary.wait_for_revision_timeout(Revision::from(1), Duration::ZERO).unwrap_err(),
            WaitError::TimedOut
        );
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || dictionary.wait_for_revision(Revision::from(3)).unwrap().revision());
            commit(&dictionary, [set("a", 1), set("a", 2), set("a", 3)]);
            assert_eq!(waiting.join().unwrap(), Revision::from(3));
        });
        assert_eq!(dictionary.wait_for_revision_timeout(Revision::from(2), Duration::ZERO).unwrap()["a"], 3);
    });
}

#[test]
fn waiting_for_a_revision_that_can_no_longer_come_is_an_error() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || dictionary.wait_for_revision(Revision::from(2)).unwrap_err());
            commit(&dictionary, [set("a", 1)]);
            dictionary.freeze();
            assert_eq!(waiting.join().unwrap(), WaitError::Frozen);
        });
        assert_eq!(
            dictionary.wait_for_revision(Revision::from(1)).unwrap().len(),
            1,
            "one that has come still can be had"
        );
        assert_eq!(
            dictionary.wait_for_revision_timeout(Revision::from(2), Duration::MAX).unwrap_err(),
            WaitError::Frozen
        );
    });
}

#[test]
fn a_filter_applies_to_first_content_changes_removals_and_catching_up() {
    for history_limit in [0, 1, 100] {
        let dictionary: Dictionary = StateDictionary::builder()
            .history_limit(history_limit)
            .content([("a.1", 1), ("a.2", 1), ("b.1", 1)])
            .build();
        let buffer = following(&dictionary, "a.");
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("a.1", 1), ("a.2", 1)], vec![]));
        commit(&dictionary, [set("a.1", 2), set("b.1", 2), remove("a.2"), set("b.2", 1), remove("b.1"), set("a.3", 1)]);
        let delivery = buffer.try_flush().unwrap();
        assert_eq!(parts(&delivery), (vec![("a.1", 2), ("a.3", 1)], vec!["a.2"]), "history limit {history_limit}");
        assert_eq!(delivery.count(), 3);
        assert_eq!(parts(&delivery.clone()), parts(&delivery));
        commit(&dictionary, [set("b.1", 3), remove("b.2")]);
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
        assert_eq!(buffer.position(), dictionary.position());
        commit(&dictionary, [remove("a.1")]);
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["a.1"]));
    }
}

#[test]
fn a_filtered_buffer_keeps_waiting_while_other_keys_are_written() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let buffer = following(&dictionary, "a.");
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || parts(&buffer.flush().unwrap()));
            commit(&dictionary, [set("b.1", 1), set("b.2", 1), set("a.1", 1)]);
            assert_eq!(waiting.join().unwrap(), (vec![("a.1", 1)], vec![]));
        });
    });
}

#[test]
fn filters_add_up_and_prefixes_are_alternatives() {
    let dictionary: Dictionary =
        StateDictionary::builder().content([("a.1", 1), ("a.22", 1), ("b.1", 1), ("c.1", 1), ("", 1)]).build();
    let first = |options| parts(&dictionary.change_buffer_with(options).try_flush().unwrap()).0;
    assert_eq!(first(BufferOptions::new().prefixes(["a.", "c."])), [("a.1", 1), ("a.22", 1), ("c.1", 1)]);
    let short = BufferOptions::new().prefixes(["a.", "c."]).filter(|key: &&str| key.len() == 3);
    assert_eq!(first(short.clone()), [("a.1", 1), ("c.1", 1)]);
    assert_eq!(first(short.filter(|key| key.ends_with('9')).filter(|_| true).resume(Dictionary::new().position())), []);
    let none: [&str; 0] = [];
    let buffer = dictionary.change_buffer_with(BufferOptions::new().prefixes(none));
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
}

#[test]
fn a_filter_works_with_resuming_and_with_tombstones() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a.1", 1), ("b.1", 1)]).build();
    let seen = dictionary.position();
    commit(&dictionary, [remove("a.1"), remove("b.1"), remove("a.9"), remove("b.9")]);
    let options = BufferOptions::new().prefixes(["a."]).resume(seen);
    let delivery = dictionary.change_buffer_with(options.clone()).try_flush().unwrap();
    assert_eq!(parts(&delivery), (vec![], vec!["a.1"]));
    let delivery = dictionary.change_buffer_with(options.tombstones(Tombstones::Always)).try_flush().unwrap();
    assert_eq!(parts(&delivery), (vec![], vec!["a.1", "a.9"]));
}

#[test]
fn a_filter_that_panics_leaves_the_buffer_as_it_was() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let panics = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let filter = {
        let panics = std::sync::Arc::clone(&panics);
        move |_: &&'static str| !panics.load(std::sync::atomic::Ordering::Relaxed) || panic!("on purpose")
    };
    let buffer = dictionary.change_buffer_with(BufferOptions::new().filter(filter));
    assert!(panic::catch_unwind(|| buffer.try_flush().is_ok()).is_err());
    panics.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(parts(&buffer.try_flush().unwrap()).0, [("a", 1)]);
}

#[test]
fn replicas_that_reconnect_at_random_are_equal_at_the_end() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut resumptions, mut fresh_starts) = (0, 0);
    for _ in 0..100 {
        let dictionary: StateDictionary<u8, u32, u8> =
            StateDictionary::builder().history_limit(random.usize(0..8)).build();
        let odd = |key: &u8| key % 2 == 1;
        let options = || BufferOptions::new().filter(odd);
        let (mut replica, mut buffer) = (BTreeMap::new(), dictionary.change_buffer_with(options()));
        for value in 0..100 {
            let key = random.u8(0..6);
            let change = if random.bool() { Change::new().set(key, value) } else { Change::new().remove(key) };
            dictionary.update_state(&0, change).unwrap();
            let flushed = if random.u8(0..4) == 0 { buffer.try_flush().ok() } else { None };
            if let Some(delivery) = flushed {
                if delivery.is_full() {
                    replica.clear();
                }
                replay(&delivery, &mut replica);
                assert_eq!(delivery.position(), dictionary.position());
            }
            if random.u8(0..8) == 0 {
                let seen = buffer.position().to_string().parse().unwrap();
                buffer = dictionary.change_buffer_with(options().resume(seen));
                if let Ok(delivery) = buffer.try_flush() {
                    if delivery.is_full() {
                        fresh_starts += 1;
                        replica.clear();
                    } else {
                        resumptions += 1;
                    }
                    replay(&delivery, &mut replica);
                }
                let mut expected = content(&dictionary.snapshot());
                expected.retain(|key, _| odd(key));
                assert_eq!(replica, expected);
            }
        }
    }
    assert!(resumptions > 50 && fresh_starts > 50, "both were seen: {resumptions}, {fresh_starts}");
}
