//! Reading the content of one instant.

mod common;

use common::{Dictionary, content, sorted};
use state_dictionary::{Change, Revision, StateDictionary};
use std::collections::HashMap;
use std::thread;

fn of_three() -> Dictionary {
    StateDictionary::builder().content([("a", 1), ("b", 2), ("c", 3)]).build()
}

#[test]
fn a_snapshot_never_changes() {
    let dictionary = of_three();
    let before = dictionary.snapshot();
    dictionary.update_state(&"", Change::new().set("a", 9).remove("b").set("d", 4)).unwrap();
    dictionary.freeze();
    drop(dictionary);
    assert_eq!(content(&before), [("a", 1), ("b", 2), ("c", 3)].into());
    assert_eq!(before.revision().get(), 1);
}

#[test]
fn a_snapshot_answers_for_single_keys() {
    let snapshot = of_three().snapshot();
    assert_eq!((snapshot.get("a"), snapshot.get("x")), (Some(&1), None));
    assert_eq!((snapshot.contains_key("b"), snapshot.contains_key("x")), (true, false));
    assert_eq!((snapshot["c"], **snapshot.entry("c").unwrap()), (3, 3));
    assert_eq!(snapshot.entry("c").unwrap().revision().get(), 1);
    assert!(snapshot.entry("x").is_none());
}

#[test]
fn keys_can_be_looked_up_in_borrowed_form() {
    let dictionary: StateDictionary<String, i32, u8> =
        StateDictionary::builder().content([("a".to_owned(), 1)]).build();
    assert_eq!((dictionary.snapshot()["a"], *dictionary.get("a").unwrap()), (1, 1));
    assert!(dictionary.lock_info("a").is_none());
}

#[test]
#[should_panic(expected = "no value for the key \"x\" in the snapshot at revision 1")]
fn indexing_a_key_that_is_not_there_panics() {
    let _ = of_three().snapshot()["x"];
}

#[test]
fn iterators_go_over_everything_in_the_same_order_and_know_their_length() {
    let snapshot = of_three().snapshot();
    let pairs: Vec<_> = snapshot.iter().map(|(key, value)| (*key, *value)).collect();
    assert_eq!(sorted(pairs.clone()), [("a", 1), ("b", 2), ("c", 3)]);
    assert!(snapshot.keys().zip(snapshot.values()).map(|(key, value)| (*key, *value)).eq(pairs.iter().copied()));
    assert!(snapshot.entries().map(|(key, entry)| (*key, **entry)).eq(pairs.iter().copied()));
    assert_eq!([snapshot.len(), snapshot.iter().len(), snapshot.keys().len(), snapshot.values().len()], [3; 4]);
    assert_eq!(snapshot.entries().len(), 3);

    let mut sum = 0;
    for (_, value) in &snapshot {
        sum += value;
    }
    assert_eq!(sum, 6);

    let mut iter = snapshot.iter();
    iter.next();
    assert_eq!((iter.len(), iter.clone().count()), (2, 2));
    assert!(iter.nth(1).is_some() && iter.next().is_none() && iter.next().is_none());
}

#[test]
fn an_empty_snapshot_is_empty() {
    let snapshot = Dictionary::new().snapshot();
    assert!(snapshot.is_empty() && snapshot.iter().next().is_none());
    assert_eq!(snapshot.len(), 0);
    assert!(!of_three().snapshot().is_empty());
}

#[test]
fn a_clone_is_of_the_same_instant() {
    let dictionary = of_three();
    let clone = dictionary.snapshot().clone();
    dictionary.update_state(&"", Change::new().set("a", 9)).unwrap();
    assert_eq!((clone["a"], clone.clone().revision().get()), (1, 1));
}

#[test]
fn entries_are_equal_if_the_same_commit_set_the_same_value() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1), ("b", 1), ("c", 2)]).build();
    let first = dictionary.snapshot();
    dictionary.update_state(&"", Change::new().set("a", 1)).unwrap();
    let second = dictionary.snapshot();
    assert_eq!(first.entry("a"), first.entry("b"));
    assert_ne!(first.entry("a"), first.entry("c"), "another value");
    assert_ne!(first.entry("a"), second.entry("a"), "another commit");
}

#[test]
fn a_revision_is_made_of_a_number_and_turned_into_one() {
    let revision = Revision::from(7);
    assert_eq!((revision.get(), u64::from(revision)), (7, 7));
}

#[test]
fn snapshots_entries_and_iterators_can_be_printed() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let snapshot = dictionary.snapshot();
    assert_eq!(format!("{snapshot:?} {:?}", snapshot.iter()), r#"{"a": 1} {"a": 1}"#);
    assert_eq!(format!("{:?}", dictionary.get("a").unwrap()), "1 @ 1");
    assert_eq!(dictionary.get("a").unwrap().to_string(), "1");
}

#[test]
fn a_snapshot_can_be_read_from_many_threads_and_outlives_the_dictionary() {
    let snapshot = of_three().snapshot();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(snapshot.values().sum::<i32>(), 6));
        }
    });
}

#[test]
fn many_keys_are_all_found_and_all_removed() {
    let dictionary: StateDictionary<u32, u32, u8> = StateDictionary::new();
    dictionary.update_state(&0, (0..5000).map(|key| (key, key * 2)).collect()).unwrap();
    let full = dictionary.snapshot();
    let odd = (0..5000).filter(|key| key % 2 == 1);
    dictionary.update_state(&0, Change::from_parts([], odd)).unwrap();
    let half: HashMap<_, _> = dictionary.snapshot().iter().map(|(key, value)| (*key, *value)).collect();
    assert_eq!(half, (0..5000).step_by(2).map(|key| (key, key * 2)).collect());
    assert!((0..5000).all(|key| full[&key] == key * 2));
}

#[test]
fn a_snapshot_is_iterated_by_value_and_by_reference() {
    let snapshot = of_three().snapshot();
    let mut sum = 0;
    for (_, value) in &snapshot {
        sum += value;
    }
    assert_eq!(sum, 6);
    let order: Vec<_> = snapshot.keys().copied().collect();
    let owned = snapshot.clone().into_iter();
    assert_eq!((owned.len(), owned.size_hint()), (3, (3, Some(3))));
    let owned: Vec<_> = owned.collect();
    assert_eq!(owned.iter().map(|(key, _)| *key).collect::<Vec<_>>(), order);
    let mut pairs = Vec::new();
    for (key, value) in snapshot {
        pairs.push((key, *value, value.revision().get()));
    }
    assert_eq!(sorted(pairs), [("a", 1, 1), ("b", 2, 1), ("c", 3, 1)]);
}

#[test]
fn what_a_consumed_snapshot_has_not_given_is_dropped() {
    let value = std::sync::Arc::new(());
    let all = (0..100_u32).map(|key| (key, value.clone()));
    let dictionary: StateDictionary<u32, std::sync::Arc<()>> = all.collect();
    let mut rest = dictionary.snapshot().into_iter();
    let taken: Vec<_> = rest.by_ref().take(40).collect();
    assert_eq!(rest.len(), 60);
    drop(dictionary);
    assert_eq!(std::sync::Arc::strong_count(&value), 101);
    drop(rest);
    assert_eq!(std::sync::Arc::strong_count(&value), 41);
    drop(taken);
    assert_eq!(std::sync::Arc::strong_count(&value), 1);
}

type Fixed = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

#[test]
fn snapshots_are_equal_if_their_keys_and_values_are() {
    let (one, other) = (of_three(), of_three());
    assert_eq!(one.snapshot(), other.snapshot());
    one.update_state(&"", Change::new().set("a", 1)).unwrap();
    assert_eq!(one.snapshot(), other.snapshot(), "revisions do not count");
    one.update_state(&"", Change::new().set("a", 2)).unwrap();
    assert_ne!(one.snapshot(), other.snapshot());
    one.update_state(&"", Change::new().remove("a").set("d", 1)).unwrap();
    assert_ne!(one.snapshot(), other.snapshot(), "as many keys, and another one");
    one.update_state(&"", Change::new().remove("d")).unwrap();
    assert_ne!(one.snapshot(), other.snapshot());

    let fixed: StateDictionary<&str, i32, u8, Fixed> = [("a", 1), ("b", 2), ("c", 3)].into_iter().collect();
    assert_eq!(fixed.snapshot(), other.snapshot(), "hashers do not count");

    let not_a_number: StateDictionary<&str, f64> = [("a", f64::NAN)].into();
    assert_ne!(not_a_number.snapshot(), not_a_number.snapshot(), "as everywhere");
}

#[test]
fn a_snapshot_is_sorted_by_its_keys() {
    let dictionary: StateDictionary<u32, u32> = (0..50).rev().map(|key| (key, 2 * key)).collect();
    let snapshot = dictionary.snapshot();
    let sorted = snapshot.sorted();
    assert!(sorted.iter().zip(0..).all(|((key, value), expected)| (**key, **value) == (expected, 2 * expected)));
    assert_eq!(sorted.len(), 50);
}

#[test]
fn iterators_of_a_snapshot_have_names_and_can_be_cloned() {
    struct Cursor<'a> {
        entries: state_dictionary::Entries<'a, &'static str, i32>,
        keys: state_dictionary::Keys<'a, &'static str, i32>,
        values: state_dictionary::Values<'a, &'static str, i32>,
        owned: state_dictionary::IntoIter<&'static str, i32>,
    }
    let snapshot = StateDictionary::<_, _, u8>::from([("a", 7)]).snapshot();
    let owned = snapshot.clone().into_iter();
    let mut cursor = Cursor { entries: snapshot.entries(), keys: snapshot.keys(), values: snapshot.values(), owned };
    assert_eq!(format!("{:?} {:?} {:?}", cursor.entries, cursor.keys, cursor.values), r#"[("a", 7 @ 1)] ["a"] [7]"#);
    let before = cursor.keys.clone();
    assert_eq!((cursor.keys.next(), cursor.keys.next(), before.len()), (Some(&"a"), None, 1));
    assert_eq!(cursor.entries.next().map(|(_, entry)| entry.revision().get()), Some(1));
    assert_eq!((cursor.values.next(), cursor.values.next()), (Some(&7), None));
    assert!(cursor.owned.next().is_some() && cursor.owned.next().is_none());
}

#[test]
fn numbers_and_text_stand_for_revisions_ids_and_tokens() {
    assert_eq!("17".parse(), Ok(Revision::from(17)));
    assert!("".parse::<Revision>().is_err() && "x".parse::<Revision>().is_err());
    let id = of_three().id();
    assert_eq!(state_dictionary::StoreId::from(id.get()), id);
    let token = state_dictionary::FencingToken::from(3);
    assert_eq!((token.get(), token.to_string().parse()), (3, Ok(token)));
}
