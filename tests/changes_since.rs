//! What changed between two snapshots, and since a position.

mod common;

use common::{Dictionary, commit, content, parts, remove, replay, set};
use state_dictionary::{BufferOptions, Change, Position, Revision, StateDictionary};
use std::collections::BTreeMap;
use std::sync::Arc;

fn begun(history_limit: usize) -> Dictionary {
    StateDictionary::builder().history_limit(history_limit).content([("a", 1), ("b", 1), ("c", 1)]).build()
}

#[test]
fn changes_since_an_older_snapshot_are_what_a_buffer_would_have_delivered() {
    for history_limit in [0, 1, 100] {
        let dictionary = begun(history_limit);
        let (older, buffer) = (dictionary.snapshot(), dictionary.change_buffer());
        buffer.try_flush().unwrap();
        commit(&dictionary, [set("a", 2), remove("b"), set("d", 1), set("e", 1), remove("e"), set("a", 3)]);
        let newer = dictionary.snapshot();
        let changed = newer.changes_since(&older);
        assert!(!changed.is_full(), "history limit {history_limit}");
        assert_eq!((changed.since(), changed.revision()), (older.revision(), newer.revision()));
        assert_eq!(changed.position(), dictionary.position());
        assert_eq!(parts(&changed), (vec![("a", 3), ("d", 1)], vec!["b"]));
        assert_eq!(parts(&changed), parts(&buffer.try_flush().unwrap()));
        let mut replica = content(&older);
        replay(&changed, &mut replica);
        assert_eq!(replica, content(&newer));
    }
}

#[test]
fn changes_since_the_same_revision_are_none() {
    let dictionary = begun(0);
    let snapshot = dictionary.snapshot();
    dictionary.freeze();
    for same in [snapshot.clone(), dictionary.snapshot()] {
        let changed = same.changes_since(&snapshot);
        assert!(!changed.is_full());
        assert_eq!((changed.count(), changed.since()), (0, changed.revision()));
    }
    let changed = snapshot.changes_since_position(dictionary.position());
    assert!(!changed.is_full() && changed.count() == 0);
    assert_eq!(Dictionary::new().snapshot().changes_since(&Dictionary::new().snapshot()).count(), 0);
}

#[test]
fn what_is_not_older_gives_the_whole_content() {
    for history_limit in [0, 100] {
        let (dictionary, another) = (begun(history_limit), begun(history_limit));
        let older = dictionary.snapshot();
        commit(&dictionary, [set("a", 2), remove("b")]);
        commit(&another, [set("a", 9), remove("c")]);
        let newer = dictionary.snapshot();
        let Position { store, revision } = dictionary.position();
        for (of, changed) in [
            (&older, older.changes_since(&newer)),
            (&newer, newer.changes_since(&another.snapshot())),
            (&newer, newer.changes_since_position(another.position())),
            (&newer, newer.changes_since_position(Position { store, revision: Revision::from(revision.get() + 1) })),
            (&older, older.changes_since_position(dictionary.position())),
            (&newer, newer.changes_since_position(Position { store, revision: Revision::ZERO })),
        ] {
            assert!(changed.is_full());
            assert_eq!((changed.since(), changed.revision()), (Revision::ZERO, of.revision()));
            let mut replica = BTreeMap::new();
            replay(&changed, &mut replica);
            assert_eq!(replica, content(of));
            assert_eq!(changed.removals().len(), 0);
        }
    }
}

#[test]
fn a_position_can_be_resumed_as_far_as_the_history_of_the_snapshot_reaches() {
    let dictionary = begun(2);
    let mut positions = vec![dictionary.position()];
    for number in 2..9 {
        commit(&dictionary, [set("a", number)]);
        positions.push(dictionary.position());
    }
    let snapshot = dictionary.snapshot();
    // What comes later is no business of the snapshot.
    commit(&dictionary, [set("a", 10), set("b", 10), set("c", 10), set("b", 11), set("c", 11)]);
    let reached: Vec<_> =
        positions.iter().map(|position| !snapshot.changes_since_position(*position).is_full()).collect();
    let expected: Vec<_> = (0..8).map(|number| number >= 4).collect();
    assert_eq!(reached, expected);
    for position in &positions[4..7] {
        assert_eq!(parts(&snapshot.changes_since_position(*position)), (vec![("a", 8)], vec![]));
    }
}

#[test]
fn a_delivery_has_the_content_of_its_instant() {
    let dictionary = begun(100);
    let buffer = dictionary.change_buffer_with(BufferOptions::new().prefixes(["b"]));
    let first = buffer.try_flush().unwrap();
    commit(&dictionary, [set("b", 2)]);
    let second = buffer.try_flush().unwrap();
    commit(&dictionary, [set("b", 3)]);
    assert_eq!(content(&first.snapshot()), BTreeMap::from([("a", 1), ("b", 1), ("c", 1)]), "not only what is followed");
    assert_eq!(content(&second.snapshot()), BTreeMap::from([("a", 1), ("b", 2), ("c", 1)]));
    assert_eq!(second.snapshot().revision(), second.revision());
    assert_eq!(parts(&second.snapshot().changes_since(&first.snapshot())), parts(&second));
}

#[test]
fn what_changed_keeps_no_more_alive_than_the_newer_snapshot_and_what_is_compared() {
    for (history_limit, compared) in [(0, true), (100, false)] {
        let dictionary: StateDictionary<&str, Arc<i32>, ()> =
            StateDictionary::builder().history_limit(history_limit).commit_history(true).build();
        let values = [1, 2, 3].map(Arc::new);
        let kept = values.each_ref().map(Arc::downgrade);
        let mut snapshots = Vec::new();
        for value in values {
            assert!(dictionary.update_state(&(), Change::new().set("a", value)).is_ok());
            snapshots.push(dictionary.snapshot());
        }
        let [first, _, last] = &snapshots[..] else { panic!("three commits") };
        let changed = last.changes_since(first);
        drop((snapshots, dictionary));
        let alive = kept.map(|value| value.strong_count() > 0);
        assert_eq!(alive, [compared, false, true], "history limit {history_limit}");
        let again = changed.snapshot();
        drop(changed);
        assert_eq!(*again["a"], 3);
    }
}

/// A snapshot that is lent to a closure has more than one that is kept.
#[test]
fn what_changed_can_be_kept_also_if_the_snapshot_was_lent() {
    let dictionary: StateDictionary<&str, Arc<i32>, ()> = StateDictionary::builder().commit_history(true).build();
    let value = Arc::new(1);
    let kept = Arc::downgrade(&value);
    let empty = dictionary.snapshot();
    assert!(dictionary.update_state(&(), Change::new().set("a", value)).is_ok());
    assert!(dictionary.update_state(&(), Change::new().set("a", Arc::new(2))).is_ok());
    let mut changed = None;
    let look = dictionary.update_state_with(&(), |content| {
        changed = Some(content.changes_since(&empty));
        Change::new()
    });
    assert!(look.is_ok());
    drop(dictionary);
    let changed = changed.unwrap();
    assert!(kept.upgrade().is_none(), "neither of the two contents has it");
    assert_eq!(changed.count(), 1);
}
