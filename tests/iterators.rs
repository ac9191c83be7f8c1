//! Cloned iterators continue exactly where the original is.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{Dictionary, sorted};
use state_dictionary::{BufferOptions, Change, Delivery, StateDictionary};
use std::fmt::Debug;

/// Asserts that at every point a clone yields what the original still does, in the same order, and that neither disturbs the
/// other.
fn clones_continue_where_they_are<I: Iterator + Clone>(iterator: &I) -> usize
where
    I::Item: PartialEq + Debug,
{
    let all: Vec<_> = iterator.clone().collect();
    for at in 0..=all.len() {
        let mut original = iterator.clone();
        for expected in &all[..at] {
            assert_eq!(original.next().as_ref(), Some(expected));
        }
        let (copy, copy_of_the_copy) = (original.clone(), original.clone().clone());
        assert_eq!(copy.collect::<Vec<_>>(), all[at..], "a clone after {at} of {}", all.len());
        assert_eq!(original.collect::<Vec<_>>(), all[at..], "the original after {at}, when the clone has ended");
        assert_eq!(copy_of_the_copy.collect::<Vec<_>>(), all[at..]);
        let mut ended = iterator.clone();
        assert_eq!(ended.by_ref().count(), all.len());
        assert!(ended.next().is_none() && ended.clone().next().is_none());
    }
    all.len()
}

const KEYS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// Commits of many keys each, which overlap, so that of most commits only some keys have the latest value.
fn commit_many(dictionary: &Dictionary) {
    for (number, keys) in [&KEYS[..], &KEYS[2..7], &KEYS[1..2], &KEYS[4..], &KEYS[..0], &KEYS[3..6]].iter().enumerate()
    {
        let change = keys.iter().fold(Change::new(), |change, key| change.set(*key, i32::try_from(number).unwrap()));
        assert!(dictionary.update_state(&"", change).is_ok());
    }
    assert!(dictionary.update_state(&"", Change::new().remove("i").remove("none")).is_ok());
}

fn updates_go_on(delivery: &Delivery<&'static str, i32>) -> usize {
    assert_eq!(format!("{:?}", delivery.updates()), format!("{:?}", delivery.updates().collect::<Vec<_>>()));
    clones_continue_where_they_are(&delivery.updates().map(|(key, entry)| (*key, **entry, entry.revision())))
}

#[test]
fn clones_of_updates_continue_in_the_middle_of_a_commit() {
    for followed in [KEYS.len(), 4, 1] {
        let dictionary = Dictionary::new();
        let options = move || BufferOptions::new().filter(move |key| KEYS[..followed].contains(key));
        let resumed = dictionary.change_buffer_with(options().resume(dictionary.position()));
        commit_many(&dictionary);
        let delivery = resumed.try_flush().unwrap();
        assert!(!delivery.is_full());
        assert_eq!(updates_go_on(&delivery), followed.min(8), "of the history");
        assert_eq!(updates_go_on(&delivery.clone()), followed.min(8));
    }
}

#[test]
fn clones_of_updates_continue_where_two_generations_of_the_history_meet() {
    for history_limit in 9..30 {
        let dictionary: Dictionary = StateDictionary::builder().history_limit(history_limit).build();
        let resumed = dictionary.change_buffer_with(BufferOptions::new().resume(dictionary.position()));
        commit_many(&dictionary);
        let delivery = resumed.try_flush().unwrap();
        assert_eq!(updates_go_on(&delivery), 8);
    }
}

#[test]
fn clones_of_the_updates_of_everything_and_of_a_comparison_continue_where_they_are() {
    let dictionary: Dictionary = StateDictionary::builder().history_limit(0).content([("a", 0), ("z", 0)]).build();
    let buffer = dictionary.change_buffer();
    assert_eq!(updates_go_on(&buffer.try_flush().unwrap()), 2, "everything");
    commit_many(&dictionary);
    let compared = buffer.try_flush().unwrap();
    assert_eq!(updates_go_on(&compared), 8, "compared");
    assert_eq!(compared.count(), 8);
}

#[test]
fn clones_of_the_pairs_of_a_snapshot_continue_where_they_are() {
    let content = (0..200).map(|number| (number, 2 * number));
    let dictionary: StateDictionary<u32, u32, ()> = StateDictionary::builder().content(content.clone()).build();
    let snapshot = dictionary.snapshot();
    assert_eq!(clones_continue_where_they_are(&snapshot.iter()), 200);
    assert_eq!(sorted(snapshot.iter().map(|(key, value)| (*key, *value))), content.collect::<Vec<_>>());
    let mut pairs = snapshot.iter();
    assert_eq!((pairs.len(), pairs.by_ref().take(7).count(), pairs.len(), pairs.clone().len()), (200, 7, 193, 193));
}
