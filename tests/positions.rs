//! Where a feed is: every look moves it, whether or not there was anything to deliver.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{Dictionary, commit, content, parts, remove, replay, set};
use state_dictionary::{
    BufferOptions, Change, ChangeBuffer, FeedOptions, FlushError, FlushTimeoutError, LockDelivery, LockRequest,
    Position, Revision, StateDictionary, Tombstones, TryFlushError,
};
use std::collections::BTreeMap;
use std::time::Duration;

type Options = BufferOptions<&'static str>;
type Buffer = ChangeBuffer<&'static str, i32>;

fn cursors() -> Options {
    BufferOptions::new().prefixes(["cursor."])
}

/// Some ways to look without waiting.
const LOOKS: [fn(&Buffer) -> bool; 2] = [
    |buffer| buffer.try_flush().is_err_and(|error| error == TryFlushError::Empty),
    |buffer| buffer.flush_timeout(Duration::ZERO).is_err_and(|error| error == FlushTimeoutError::TimedOut),
];

/// Dictionaries with no key that begins with `cursor.`, whose history has moved on or not.
fn dictionaries() -> Vec<Dictionary> {
    let mut all = Vec::new();
    for history_limit in [0, 2, 100] {
        let builder = || StateDictionary::builder().history_limit(history_limit);
        all.push(builder().build());
        all.push(builder().content([("drawing", 1)]).build());
        let moved_on: Dictionary = builder().build();
        commit(&moved_on, (0..9).map(|number| set("drawing", number)));
        all.push(moved_on);
        let emptied: Dictionary = builder().content([("drawing", 1)]).build();
        commit(&emptied, [remove("drawing"), set("cursor.x", 1), remove("cursor.x")]);
        all.push(emptied);
    }
    all
}

/// Asserts that the buffer and a buffer that resumes from where it is are at the same place as the dictionary, and that both
/// deliver what comes next and nothing else.
fn is_up_to_date(dictionary: &Dictionary, buffer: &Buffer, options: &Options, what: &str) {
    let position = buffer.position();
    assert_eq!(position, dictionary.position(), "{what}");
    let resumed = dictionary.change_buffer_with(options.clone().resume(position));
    assert_eq!(resumed.position(), position);
    assert_eq!(resumed.try_flush().unwrap_err(), TryFlushError::Empty, "{what}: nothing has happened in between");
    assert_eq!(resumed.position(), position);
    commit(dictionary, [set("cursor.new", 1)]);
    for buffer in [buffer, &resumed] {
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![("cursor.new", 1)], vec![]), "{what}");
        assert_eq!(buffer.position(), dictionary.position());
    }
}

#[test]
fn a_first_flush_that_finds_nothing_moves_the_position_to_the_dictionarys() {
    for look in LOOKS {
        for dictionary in dictionaries() {
            let options = cursors();
            let buffer = dictionary.change_buffer_with(options.clone());
            assert_eq!(buffer.position().revision, Revision::ZERO, "it has not looked");
            assert!(look(&buffer));
            is_up_to_date(&dictionary, &buffer, &options, "filtered");
        }
    }
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
    is_up_to_date(&dictionary, &buffer, &BufferOptions::new(), "nothing was ever committed");
    let dictionary = Dictionary::new();
    commit(&dictionary, [set("a", 1), remove("a")]);
    let buffer = dictionary.change_buffer();
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
    is_up_to_date(&dictionary, &buffer, &BufferOptions::new(), "empty again");
}

#[test]
fn every_later_flush_that_finds_nothing_moves_the_position_too() {
    for look in LOOKS {
        for dictionary in dictionaries() {
            for delivered_before in [false, true] {
                let options = cursors();
                let buffer = dictionary.change_buffer_with(options.clone());
                if delivered_before {
                    commit(&dictionary, [set("cursor.old", 1)]);
                    assert!(buffer.try_flush().is_ok());
                }
                for number in 0..5 {
                    commit(&dictionary, [set("drawing", number), remove("cursor.none")]);
                    assert!(look(&buffer));
                    assert_eq!(buffer.position(), dictionary.position());
                }
                is_up_to_date(&dictionary, &buffer, &options, "later");
                commit(&dictionary, [remove("cursor.old"), remove("cursor.new")]);
            }
        }
    }
}

#[test]
fn a_flush_of_a_resumed_buffer_moves_the_position_whether_it_can_resume_or_not() {
    for look in LOOKS {
        for dictionary in dictionaries() {
            let earlier = dictionary.position();
            commit(&dictionary, [set("drawing", 7)]);
            let resumed = dictionary.change_buffer_with(cursors().resume(earlier));
            assert_eq!(resumed.position(), earlier, "it has not looked");
            let refused = !look(&resumed);
            assert_eq!(resumed.position(), dictionary.position());
            assert!(!refused || dictionary.change_buffer_with(cursors().resume(earlier)).flush().unwrap().is_full());
            is_up_to_date(&dictionary, &resumed, &cursors(), "resumed");

            commit(&dictionary, [remove("cursor.new")]);
            let future = Position { store: dictionary.id(), revision: Revision::from(1_000) };
            for position in [Dictionary::new().position(), future] {
                let refused = dictionary.change_buffer_with(cursors().resume(position));
                assert_eq!(refused.position().revision, Revision::ZERO, "what the client has is of no use");
                assert!(!look(&refused), "it is delivered at once that the client must begin anew");
                is_up_to_date(&dictionary, &refused, &cursors(), "refused");
                commit(&dictionary, [remove("cursor.new")]);
            }
        }
    }
}

#[test]
fn a_buffer_with_all_tombstones_is_where_it_looked_as_well() {
    for dictionary in dictionaries() {
        let options = cursors().tombstones(Tombstones::Always);
        let buffer = dictionary.change_buffer_with(options.clone());
        assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty, "what was removed before it was made");
        assert_eq!(buffer.position(), dictionary.position());
        is_up_to_date(&dictionary, &buffer, &options, "all tombstones");
    }
}

#[test]
fn the_first_delivery_after_flushes_that_found_nothing_is_full_and_the_next_is_not() {
    for dictionary in dictionaries() {
        let buffer = dictionary.change_buffer_with(cursors());
        for number in 0..4 {
            assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty);
            commit(&dictionary, [set("drawing", number)]);
        }
        commit(&dictionary, [set("cursor.a", 1), set("cursor.b", 1), remove("cursor.b")]);
        let delivery = buffer.try_flush().unwrap();
        assert_eq!((delivery.is_full(), delivery.since()), (true, Revision::ZERO));
        assert_eq!(parts(&delivery), (vec![("cursor.a", 1)], vec![]));
        commit(&dictionary, [remove("cursor.a")]);
        let next = buffer.try_flush().unwrap();
        assert_eq!((next.is_full(), next.since()), (false, delivery.revision()));
        assert_eq!(parts(&next), (vec![], vec!["cursor.a"]));
    }
}

#[test]
fn a_client_that_cannot_resume_receives_everything_once() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer_with(BufferOptions::new().resume(Dictionary::new().position()));
    assert!(buffer.try_flush().unwrap().is_full(), "there is nothing yet");
    commit(&dictionary, [set("a", 1)]);
    let delivery = buffer.try_flush().unwrap();
    assert!(!delivery.is_full(), "the client has begun anew, with nothing");
    assert_eq!(parts(&delivery), (vec![("a", 1)], vec![]));
}

#[test]
fn after_a_refused_resume_all_tombstones_are_those_since_the_buffer_was_made() {
    let always = || BufferOptions::new().tombstones(Tombstones::Always);
    let dictionary: Dictionary = StateDictionary::builder().history_limit(4).content([("a", 1), ("b", 1)]).build();
    let earlier = dictionary.position();
    commit(&dictionary, (0..20).map(|number| set("c", number)));
    commit(&dictionary, [remove("a")]);
    let future = Position { revision: Revision::from(1_000), ..earlier };
    for position in [earlier, Dictionary::new().position(), future] {
        let buffer = dictionary.change_buffer_with(always().resume(position));
        let usual = dictionary.change_buffer_with(BufferOptions::new().resume(position));
        commit(&dictionary, [remove("b"), remove("none"), set("b", 2), remove("b")]);
        let delivery = buffer.try_flush().unwrap();
        assert!(delivery.is_full());
        assert_eq!(parts(&delivery), (vec![("c", 19)], vec!["b", "none"]), "after {position}");
        assert_eq!(
            parts(&usual.try_flush().unwrap()),
            (vec![("c", 19)], vec![]),
            "a fresh start has nothing to remove"
        );
        commit(&dictionary, [remove("none")]);
        assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["none"]));
        assert_eq!(usual.try_flush().unwrap_err(), TryFlushError::Empty);
        commit(&dictionary, [set("b", 1)]);
    }
}

#[test]
fn after_a_refused_resume_tombstones_are_those_of_the_next_flush_on() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(2).content([("a", 1)]).build();
    let options = BufferOptions::new().tombstones(Tombstones::Always);
    let buffer = dictionary.change_buffer_with(options.resume(dictionary.position()));
    commit(&dictionary, [remove("a"), remove("none")]);
    commit(&dictionary, (0..20).map(|number| set("c", number)));
    let delivery = buffer.try_flush().unwrap();
    assert!(delivery.is_full());
    assert_eq!(parts(&delivery), (vec![("c", 19)], vec![]));
    commit(&dictionary, [remove("none")]);
    assert_eq!(parts(&buffer.try_flush().unwrap()), (vec![], vec!["none"]));
}

#[test]
fn a_frozen_buffer_ends_where_it_was_frozen() {
    let dictionary: Dictionary = StateDictionary::builder().content([("drawing", 1)]).build();
    let buffers = [dictionary.change_buffer(), dictionary.change_buffer_with(cursors())];
    let end = dictionary.position();
    for buffer in &buffers {
        assert!(buffer.close());
    }
    commit(&dictionary, [set("drawing", 2), set("cursor.a", 1)]);
    assert_eq!(buffers[0].flush().unwrap().revision(), end.revision);
    assert_eq!(buffers[1].flush().unwrap_err(), FlushError);
    for buffer in buffers {
        assert_eq!(buffer.position(), end);
        assert_eq!(buffer.flush().unwrap_err(), FlushError);
        assert_eq!(buffer.position(), end, "also when it has ended");
    }
    let last = dictionary.change_buffer_with(BufferOptions::new().filter(|_| false));
    let end = dictionary.position();
    drop(dictionary);
    assert_eq!(last.flush().unwrap_err(), FlushError);
    assert_eq!(last.position(), end);
}

#[test]
fn a_feed_of_commits_is_where_it_looked() {
    for history_limit in [0, 2, 100] {
        let dictionary: Dictionary =
            StateDictionary::builder().history_limit(history_limit).commit_history(true).build();
        let feed = dictionary.commit_feed();
        for number in 0..9 {
            assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Empty);
            assert_eq!(feed.position(), dictionary.position());
            let resumed = dictionary.commit_feed_with(FeedOptions::new().resume(feed.position()));
            assert_eq!(resumed.flush_timeout(Duration::ZERO).unwrap_err(), FlushTimeoutError::TimedOut);
            commit(&dictionary, [set("a", number)]);
            assert!(feed.try_flush().is_ok());
            assert_eq!(feed.position(), dictionary.position());
        }
        let elsewhere = dictionary.commit_feed_with(FeedOptions::new().resume(Dictionary::new().position()));
        assert!(elsewhere.try_flush().unwrap().full);
        assert_eq!(elsewhere.position(), dictionary.position());
        let end = dictionary.position();
        drop(dictionary);
        assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Closed);
        assert_eq!(feed.position(), end);
    }
}

#[test]
fn a_feed_of_locks_that_found_nothing_delivers_only_what_comes_next() {
    for events in [0, 2, 100] {
        let dictionary: Dictionary = StateDictionary::builder().lock_history_limit(events).build();
        let feed = dictionary.lock_feed();
        assert!(matches!(feed.try_flush(), Ok(LockDelivery::Full { .. })));
        for number in 0..9 {
            commit(&dictionary, [set("a", number), set("b", number)]);
            assert!(dictionary.update_locks(&"ada", LockRequest::new().release("none")).is_ok());
            assert_eq!(feed.try_flush(), Err(TryFlushError::Empty), "no lock was granted or ended");
            assert_eq!(feed.flush_timeout(Duration::ZERO), Err(FlushTimeoutError::TimedOut));
        }
        assert!(dictionary.update_locks(&"ada", LockRequest::new().acquire("a", None)).is_ok());
        match feed.try_flush().unwrap() {
            LockDelivery::Events(told) => assert!(events > 0 && told.len() == 1),
            LockDelivery::Full { locks, .. } => assert!(events == 0 && locks.len() == 1),
        }
        assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    }
}

#[test]
fn clients_that_find_nothing_and_reconnect_have_what_the_dictionary_has() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut in_vain = 0;
    for _ in 0..200 {
        let dictionary: StateDictionary<u8, u32, u8> =
            StateDictionary::builder().history_limit(random.usize(0..6)).build();
        let rare = |key: &u8| *key == 0;
        let options = || BufferOptions::new().filter(rare);
        let (mut replica, mut buffer) = (BTreeMap::new(), dictionary.change_buffer_with(options()));
        for value in 0..60 {
            let key = random.u8(0..8);
            let change = if random.bool() { Change::new().set(key, value) } else { Change::new().remove(key) };
            dictionary.update_state(&0, change).unwrap();
            match buffer.try_flush() {
                Ok(delivery) => {
                    if delivery.is_full() {
                        replica.clear();
                    }
                    replay(&delivery, &mut replica);
                }
                Err(_) => in_vain += 1,
            }
            assert_eq!(buffer.position(), dictionary.position());
            if random.u8(0..3) == 0 {
                buffer = dictionary.change_buffer_with(options().resume(buffer.position()));
                if random.bool() {
                    assert!(buffer.try_flush().is_err(), "nothing has happened since");
                }
            }
            let mut expected = content(&dictionary.snapshot());
            expected.retain(|key, _| rare(key));
            assert_eq!(replica, expected);
        }
    }
    assert!(in_vain > 5_000, "{in_vain}");
}
