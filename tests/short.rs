//! Writing one key in one line, closures that return a value, and what newcomers write.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{Dictionary, acquire, sorted, within_a_minute};
use state_dictionary::{Change, Condition, Refusal, Replaced, Revision, StateDictionary, UpdateError};
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

type Flags = StateDictionary<String, bool>;
type Numbers = StateDictionary<&'static str, u32>;

/// The value and the revision of what was replaced, and the revision of the commit.
fn parts(was: Replaced<u32>) -> (Option<(u32, u64)>, u64) {
    (was.value.map(|value| (*value, value.revision().get())), was.revision.get())
}

static SETTINGS: LazyLock<StateDictionary<&str, Arc<str>>> = LazyLock::new(StateDictionary::new);

#[test]
fn what_newcomers_write_about_flags() {
    let flags: StateDictionary<String, bool> = StateDictionary::from([("dark".into(), true)]);
    flags.set("beta", true).unwrap();
    let was = flags.update("dark", |now| now.map(|on| !on)).unwrap();
    assert_eq!(was.value.as_deref(), Some(&true));
    let on = flags.wait_until(|all| all.get("beta").copied().filter(|on| *on));
    assert_eq!(on, Ok(true));
    let mut deliveries = 0;
    for delivery in flags.change_buffer().subscribe(Duration::ZERO) {
        assert_eq!(sorted(delivery.updates().map(|(key, on)| (key.as_str(), **on))), [("beta", true), ("dark", false)]);
        deliveries += 1;
        flags.freeze();
    }
    assert_eq!(deliveries, 1);
}

#[test]
fn what_newcomers_write_about_a_stock() {
    let stock: StateDictionary<u64, u32, &str> = (0..10).map(|id| (id, 5)).collect();
    let (revision, left) = stock
        .update_state_with(&"till 1", |now| {
            let left = now[&3] - 1;
            (Change::new().set(3_u64, left), left)
        })
        .unwrap();
    assert_eq!((revision.get(), left), (2, 4));
    assert_eq!((stock.len(), stock.snapshot()[&3]), (10, 4));
}

#[test]
fn a_dictionary_can_be_a_static() {
    SETTINGS.set("name", Arc::from("board")).unwrap();
    assert_eq!(&*SETTINGS.snapshot()["name"], "board");
}

#[test]
fn a_dictionary_is_made_from_pairs_whatever_its_token_and_hasher() {
    let of_pairs: StateDictionary<&str, u32, u8> = [("a", 1), ("a", 2)].into();
    assert_eq!((of_pairs.len(), of_pairs.snapshot()["a"], of_pairs.revision().get()), (1, 2, 1));
    let collected: Numbers = HashMap::from([("a", 1), ("b", 2)]).into_iter().collect();
    assert!(collected.contains_key("a") && collected.contains_key("b") && !collected.contains_key("c"));
    let none: Numbers = std::iter::empty().collect();
    assert!(none.is_empty() && none.revision() == Revision::ZERO);
}

#[test]
fn set_and_remove_return_what_they_replaced() {
    let numbers = Numbers::new();
    assert_eq!(parts(numbers.set("a", 1).unwrap()), (None, 1));
    assert_eq!(parts(numbers.set("a", 2).unwrap()), (Some((1, 1)), 2));
    assert_eq!(parts(numbers.set("b", 7).unwrap()), (None, 3));
    assert_eq!(parts(numbers.remove("a").unwrap()), (Some((2, 2)), 4));
    assert_eq!(parts(numbers.remove("a").unwrap()), (None, 5));
    assert_eq!(numbers.snapshot().sorted(), [(&"b", &7)]);
}

#[test]
fn what_was_replaced_is_of_the_content_that_the_commit_replaced() {
    let numbers = Numbers::new();
    let write =
        |writer: u32| (0..200).map(|count| numbers.set("a", 1_000 * writer + count).unwrap()).collect::<Vec<_>>();
    let written = within_a_minute(|| {
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        })
    });
    assert_eq!(written.len(), 800);
    for was in written {
        // All write the one key, so what a commit replaces is what the commit before it has set.
        let replaced = was.value.map_or(0, |value| value.revision().get());
        assert_eq!(replaced, was.revision.get() - 1);
    }
}

#[test]
fn update_counts_exactly() {
    let numbers = Numbers::new();
    within_a_minute(|| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        numbers.update("count", |now| Some(now.copied().unwrap_or(0) + 1)).unwrap();
                        numbers.set("other", 0).unwrap();
                    }
                });
            }
        });
    });
    assert_eq!(numbers.snapshot()["count"], 800);
}

#[test]
fn update_is_repeated_by_commits_of_its_key_alone() {
    let numbers = Numbers::from([("a", 1)]);
    let runs = Cell::new(0);
    let update_beside = |key: &'static str| {
        runs.set(0);
        numbers.update("a", |now| {
            runs.set(runs.get() + 1);
            if runs.get() == 1 {
                thread::scope(|scope| assert!(scope.spawn(|| numbers.set(key, 10)).join().unwrap().is_ok()));
            }
            now.map(|now| now + 1)
        })
    };
    assert_eq!(parts(update_beside("b").unwrap()), (Some((1, 1)), 3));
    assert_eq!(runs.get(), 1);
    assert_eq!(parts(update_beside("a").unwrap()), (Some((10, 4)), 5));
    assert_eq!(runs.get(), 2);
    assert_eq!(numbers.snapshot()["a"], 11);
}

#[test]
fn update_sees_that_its_key_was_removed_or_set_again() {
    let numbers = Numbers::from([("a", 1)]);
    let mut seen = Vec::new();
    let was = numbers.update("a", |now| {
        seen.push(now.copied());
        match seen.len() {
            1 => thread::scope(|scope| assert!(scope.spawn(|| numbers.remove("a")).join().unwrap().is_ok())),
            2 => thread::scope(|scope| assert!(scope.spawn(|| numbers.set("a", 1)).join().unwrap().is_ok())),
            _ => {}
        }
        Some(7)
    });
    assert_eq!(parts(was.unwrap()), (Some((1, 3)), 4));
    assert_eq!(seen, [Some(1), None, Some(1)]);
}

#[test]
fn update_removes_a_key_and_leaves_one_that_is_not_there() {
    let numbers = Numbers::from([("a", 1)]);
    assert_eq!(parts(numbers.update("b", |_| None).unwrap()), (None, 1));
    assert_eq!(parts(numbers.update("a", |_| None).unwrap()), (Some((1, 1)), 2));
    assert_eq!(parts(numbers.update("a", |now| Some(*now?)).unwrap()), (None, 2));
    assert!(numbers.is_empty());
}

#[test]
fn update_is_refused_as_update_state_with_is() {
    let numbers = Numbers::from([("a", 1)]);
    let nested = numbers.update("a", |_| {
        assert!(matches!(numbers.set("b", 1), Err(UpdateError { reason: Refusal::InsideUpdate, .. })));
        assert!(matches!(numbers.update("b", |_| Some(1)), Err(UpdateError { reason: Refusal::InsideUpdate, .. })));
        Some(2)
    });
    assert!(nested.is_ok());
    let panicked = catch_unwind(AssertUnwindSafe(|| numbers.update("a", |_| panic!("on purpose"))));
    assert!(panicked.is_err());
    assert_eq!((numbers.snapshot()["a"], numbers.revision().get()), (2, 2));
    numbers.freeze();
    let frozen = numbers.update("a", |_| unreachable!("a frozen dictionary runs no closure"));
    assert!(matches!(frozen, Err(UpdateError { change, reason: Refusal::Frozen, .. }) if change.is_empty()));
}

#[test]
fn a_writer_honours_the_locks_of_others() {
    let dictionary = Dictionary::from([("a", 1), ("b", 2)]);
    dictionary.update_locks(&"bob", acquire("a", None)).unwrap();
    let (alice, bob) = (dictionary.writer(&"alice"), dictionary.writer(&"bob"));
    assert_eq!(*alice.token(), "alice");
    assert!(
        matches!(alice.set("a", 3), Err(UpdateError { change, reason: Refusal::Locked { .. }, .. }) if change.len() == 1)
    );
    assert!(matches!(alice.remove("a"), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    assert!(matches!(alice.update("a", |_| Some(3)), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    assert!(matches!(alice.compare_and_set("a", None, 3), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    assert!(matches!(alice.retain(|_, value| *value > 1), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    assert!(matches!(alice.clear(), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    assert_eq!((dictionary.len(), dictionary.revision().get()), (2, 1));
    assert!(bob.set("a", 3).is_ok());
    assert!(alice.retain(|key, _| *key == "a").is_ok());
    assert_eq!(dictionary.snapshot().sorted(), [(&"a", &3)]);
}

#[test]
fn compare_and_set_asks_for_a_revision_or_for_absence() {
    let numbers = Numbers::new();
    let first = numbers.compare_and_set("a", None, 1).unwrap();
    let Err(UpdateError { change, reason: Refusal::ConditionFailed { failed }, .. }) =
        numbers.compare_and_set("a", None, 2)
    else {
        panic!()
    };
    assert_eq!((failed[0].expected, failed[0].found), (Condition::Absent, Some(first.revision)));
    assert_eq!(change.operations().count(), 1);
    let second = numbers.compare_and_set("a", first.revision, 2).unwrap();
    assert_eq!(parts(second.clone()), (Some((1, 1)), 2));
    assert!(numbers.compare_and_set("a", first.revision, 3).is_err());
    assert!(numbers.compare_and_set("b", Some(second.revision), 3).is_err());
    assert_eq!(numbers.snapshot().sorted(), [(&"a", &2)]);
}

#[test]
fn retain_and_clear_are_one_commit_each() {
    let numbers = Numbers::from([("a", 1), ("b", 2), ("c", 3)]);
    assert_eq!(numbers.retain(|_, _| true).unwrap().get(), 1);
    assert_eq!(numbers.retain(|key, value| *key == "a" || *value == 3).unwrap().get(), 2);
    assert_eq!(numbers.snapshot().sorted(), [(&"a", &1), (&"c", &3)]);
    assert_eq!(numbers.clear().unwrap().get(), 3);
    assert!(numbers.is_empty());
    assert_eq!(numbers.clear().unwrap().get(), 3);
}

#[test]
fn a_session_sets_ephemeral_values_and_its_writer_lasting_ones() {
    let dictionary = Dictionary::from([("board", 1), ("seat", 1)]);
    let mut alice = dictionary.session("alice");
    assert!(alice.set("cursor", 1).unwrap().value.is_none());
    assert_eq!(alice.update("board", |now| now.map(|now| now + 1)).unwrap().value.as_deref(), Some(&1));
    assert!(alice.compare_and_set("seat", None, 2).is_err());
    assert!(alice.compare_and_set("seat", Revision::from(1), 2).is_ok());
    alice.set("draft", 1).unwrap();
    assert_eq!(sorted(alice.ephemeral_keys()), ["board", "cursor", "draft", "seat"]);

    assert_eq!(alice.writer().set("draft", 2).unwrap().value.as_deref(), Some(&1));
    assert_eq!(alice.writer().update("board", |now| Some(*now?)).unwrap().value.as_deref(), Some(&2));
    assert!(alice.remove("seat").unwrap().value.is_some());
    assert!(alice.update("gone", |_| None).unwrap().value.is_none());
    assert_eq!(alice.ephemeral_keys(), ["cursor"]);
    assert!(alice.update("cursor", |_| None).unwrap().value.is_some());
    assert!(alice.ephemeral_keys().is_empty());
    alice.set("cursor", 3).unwrap();
    assert_eq!(common::removed(alice.end()), ["cursor"]);
    assert_eq!(dictionary.snapshot().sorted(), [(&"board", &2), (&"draft", &2)]);
}

#[test]
fn a_key_of_a_session_that_another_client_updates_is_that_ones() {
    let dictionary = Dictionary::new();
    let (mut alice, mut bob) = (dictionary.session("alice"), dictionary.session("bob"));
    alice.set("ball", 1).unwrap();
    bob.update("ball", |now| now.map(|now| now + 1)).unwrap();
    assert!(alice.end().removed.is_empty());
    assert_eq!(dictionary.snapshot()["ball"], 2);
    assert_eq!(bob.end().removed, ["ball"]);
}

#[test]
fn a_closure_returns_a_change_or_a_change_and_a_value() {
    let numbers = Numbers::from([("a", 1)]);
    let revision = numbers.update_state_with(&(), |now| Change::new().set("a", now["a"] + 1)).unwrap();
    assert_eq!(revision.get(), 2);
    let (revision, seen) = numbers.update_state_with(&(), |now| (Change::new(), now.len())).unwrap();
    assert_eq!((revision.get(), seen), (2, 1));
    let mut runs = 0;
    let (revision, run) = numbers
        .update_state_with_limit(&(), 2, |now| {
            runs += 1;
            if runs == 1 {
                thread::scope(|scope| assert!(scope.spawn(|| numbers.set("b", 1)).join().unwrap().is_ok()));
            }
            (Change::from([("a", now["a"] + 1)]), format!("run {runs}"))
        })
        .unwrap();
    assert_eq!((revision.get(), run.as_str()), (4, "run 2"));
    let exhausted = numbers.update_state_with_limit(&(), 0, |_| (Change::new(), 0));
    assert!(matches!(exhausted, Err(UpdateError { reason: Refusal::RetriesExhausted { .. }, .. })));
}

#[cfg(feature = "async")]
#[test]
fn a_closure_that_is_awaited_returns_a_value_too() {
    let numbers = Numbers::from([("a", 1)]);
    futures_lite::future::block_on(async {
        let revision = numbers.update_state_with_async(&(), |_| Change::new().set("b", 1)).await.unwrap();
        let (later, left) =
            numbers.update_state_with_async(&(), |now| (Change::new().set("a", 0), now["a"])).await.unwrap();
        assert_eq!((revision.get(), later.get(), left), (2, 3, 1));
    });
}

#[test]
fn a_change_is_built_by_calls_in_place_and_from_pairs() {
    let built: Change<&str, i32> = Change::new().set("a", 1).set("b", 2).remove("c");
    let mut in_place = Change::new();
    in_place.insert("a", 1);
    in_place.insert("b", 2);
    in_place.delete("c");
    assert_eq!(in_place, built);
    let mut extended = Change::from([("a", 1)]);
    extended.extend([("b", 2)]);
    extended.delete("c");
    assert_eq!(extended, built);
    let collected: Change<&str, i32> = [("a", 1), ("b", 2)].into_iter().collect();
    assert_eq!(collected.remove("c"), built);
}

#[test]
fn short_forms_convert_keys() {
    let flags = Flags::new();
    flags.set("a", true).unwrap();
    flags.set(String::from("b"), true).unwrap();
    flags.set('c', true).unwrap();
    assert_eq!(sorted(flags.snapshot().keys().cloned()), ["a", "b", "c"]);
}
