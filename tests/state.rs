//! Changing and reading the content.

mod common;

use common::{Dictionary, SECOND, content, within_a_minute};
use state_dictionary::{Change, Condition, LockRequest, Refusal, Revision, StateDictionary, UpdateError};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::thread;

#[test]
fn a_change_of_several_keys_is_one_commit() {
    let dictionary = Dictionary::new();
    let first = dictionary.update_state(&"alice", Change::new().set("a", 1).set("b", 2)).unwrap();
    let second = dictionary.update_state(&"alice", Change::new().set("b", 3).remove("a").set("c", 4)).unwrap();
    assert_eq!((first.get(), second.get()), (1, 2));
    assert_eq!(content(&dictionary.snapshot()), [("b", 3), ("c", 4)].into());
    assert_eq!(dictionary.get("b").unwrap().revision(), second);
}

#[test]
fn an_entry_keeps_the_revision_of_the_commit_that_set_it() {
    let dictionary = Dictionary::new();
    let set = dictionary.update_state(&"", Change::new().set("a", 1)).unwrap();
    let other = dictionary.update_state(&"", Change::new().set("b", 1)).unwrap();
    assert_eq!(dictionary.get("a").unwrap().revision(), set);
    assert_eq!(dictionary.revision(), other);
    assert_eq!(dictionary.snapshot().revision(), other);
}

#[test]
fn a_refused_change_uses_up_no_revision() {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"", Change::new().set("a", 1).if_present("a")).unwrap_err();
    assert_eq!(dictionary.revision(), Revision::ZERO);
    assert_eq!(dictionary.update_state(&"", Change::new().set("a", 1)).unwrap().get(), 1);
}

#[test]
fn a_key_both_set_and_removed_in_one_change_the_later_call_wins() {
    let dictionary = Dictionary::new();
    let change = Change::new().set("a", 1).remove("a").remove("b").set("b", 1).set("c", 1).set("c", 2);
    dictionary.update_state(&"", change).unwrap();
    assert_eq!(content(&dictionary.snapshot()), [("b", 1), ("c", 2)].into());
}

#[test]
fn a_key_in_both_parts_of_a_change_from_parts_is_removed() {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"", Change::from_parts([("a", 1), ("b", 1)], ["a", "c"])).unwrap();
    assert_eq!(content(&dictionary.snapshot()), [("b", 1)].into());
}

#[test]
fn removing_a_key_that_is_not_there_is_allowed_and_a_commit() {
    let dictionary = Dictionary::new();
    assert_eq!(dictionary.update_state(&"", Change::new().remove("a")).unwrap().get(), 1);
    assert!(dictionary.snapshot().is_empty());
}

#[test]
fn setting_the_same_value_again_is_a_change_with_a_new_revision() {
    let dictionary = Dictionary::new();
    for revision in 1..=3 {
        dictionary.update_state(&"", Change::new().set("a", 1)).unwrap();
        assert_eq!(dictionary.get("a").unwrap().revision().get(), revision);
    }
}

#[test]
fn an_empty_change_returns_the_current_revision_and_is_no_commit() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    assert_eq!(dictionary.update_state(&"", Change::new()).unwrap(), Revision::ZERO);
    let set = dictionary.update_state(&"", Change::new().set("a", 1)).unwrap();
    buffer.try_flush().unwrap();
    assert_eq!(dictionary.update_state(&"", Change::new()).unwrap(), set);
    assert_eq!(dictionary.try_update_state(&"", Change::new()).unwrap(), set);
    assert_eq!(dictionary.revision(), set);
    assert!(buffer.try_flush().is_err());
}

#[test]
fn an_empty_change_is_an_error_if_frozen() {
    let dictionary = Dictionary::new();
    dictionary.freeze();
    assert!(matches!(dictionary.update_state(&"", Change::new()), Err(UpdateError { reason: Refusal::Frozen, .. })));
}

#[test]
fn an_empty_change_is_refused_by_its_conditions() {
    let dictionary = Dictionary::new();
    assert!(dictionary.update_state(&"", Change::new().if_absent("a")).is_ok());
    let refused = dictionary.update_state(&"", Change::new().if_present("a"));
    assert!(matches!(refused, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })));
}

#[test]
fn of_several_reasons_to_refuse_frozen_comes_first_then_locked_then_condition() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    let change = Change::new().set("a", 1).if_present("a");
    let refused = |change: &Change<_, _>| dictionary.update_state(&"bob", change.clone()).unwrap_err();
    assert!(matches!(refused(&change), UpdateError { reason: Refusal::Locked { .. }, .. }));
    dictionary.clear_locks();
    assert!(matches!(refused(&change), UpdateError { reason: Refusal::ConditionFailed { .. }, .. }));
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    dictionary.freeze();
    assert!(matches!(refused(&change), UpdateError { reason: Refusal::Frozen, .. }));
}

#[test]
fn a_change_applies_only_if_all_its_conditions_hold() {
    let dictionary = Dictionary::new();
    let a = dictionary.update_state(&"", Change::new().set("a", 1)).unwrap();
    let b = dictionary.update_state(&"", Change::new().set("b", 1)).unwrap();
    let holding = [
        Change::new().if_present("a").if_absent("c").if_revision("a", a).if_revision("b", b),
        Change::new().if_present("b").if_present("b"),
    ];
    for change in holding {
        assert!(dictionary.update_state(&"", change.set("x", 1)).is_ok());
    }
    let failing = [
        Change::new().if_absent("a"),
        Change::new().if_present("c"),
        Change::new().if_revision("a", b),
        Change::new().if_revision("c", a),
        Change::new().if_revision("c", Revision::ZERO),
        Change::new().if_present("a").if_absent("b"),
    ];
    for change in failing {
        let refused = dictionary.update_state(&"", change.set("y", 1).remove("x"));
        assert!(matches!(refused, Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. })), "{refused:?}");
    }
    assert_eq!(content(&dictionary.snapshot()), [("a", 1), ("b", 1), ("x", 1)].into());
}

#[test]
fn conditions_are_judged_on_the_content_before_the_change() {
    let dictionary = Dictionary::new();
    assert!(dictionary.update_state(&"", Change::new().set("a", 1).if_absent("a")).is_ok());
    assert!(dictionary.update_state(&"", Change::new().remove("a").if_present("a")).is_ok());
    let composed = Change::new().set("a", 1).then(Change::new().set("b", 1).if_present("a"));
    assert!(dictionary.update_state(&"", composed).is_err());
}

#[test]
fn a_condition_may_ask_about_a_key_that_another_has_locked() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    assert!(dictionary.update_state(&"bob", Change::new().set("b", 1).if_absent("a")).is_ok());
}

#[test]
fn an_updated_entry_no_longer_has_the_revision_that_was_read() {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"", Change::new().set("a", 1)).unwrap();
    let read = dictionary.get("a").unwrap();
    let replace = || dictionary.update_state(&"", Change::new().set("a", *read + 1).if_revision("a", read.revision()));
    assert!(replace().is_ok());
    assert!(replace().is_err());
    assert_eq!(dictionary.snapshot()["a"], 2);
}

#[test]
fn update_state_with_commits_what_the_closure_makes_of_the_content() {
    let dictionary = Dictionary::new();
    for expected in 1..=3 {
        let increment = dictionary.update_state_with(&"", |content| {
            Change::new().set("n", content.get("n").copied().unwrap_or_default() + 1)
        });
        assert_eq!(increment.unwrap().get(), expected);
    }
    assert_eq!(dictionary.snapshot()["n"], 3);
    assert_eq!(dictionary.update_state_with(&"", |_| Change::new()).unwrap().get(), 3);
}

fn commit_from_another_thread(dictionary: &Dictionary) {
    let commit = || dictionary.update_state(&"another", Change::new().set("other", 0)).map(|_| ());
    thread::scope(|scope| assert!(matches!(scope.spawn(commit).join(), Ok(Ok(())))));
}

#[test]
fn update_state_with_runs_its_closure_again_if_something_was_committed_meanwhile() {
    let dictionary = Dictionary::new();
    let mut seen = Vec::new();
    let committed = dictionary.update_state_with(&"", |content| {
        seen.push(content.revision().get());
        if seen.len() < 3 {
            commit_from_another_thread(&dictionary);
        }
        Change::new().set("runs", i32::try_from(seen.len()).unwrap())
    });
    assert_eq!(committed.unwrap().get(), 3);
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(dictionary.snapshot()["runs"], 3);
}

#[test]
fn update_state_with_does_not_run_its_closure_again_because_of_a_grant() {
    let dictionary = Dictionary::new();
    let mut runs = 0;
    let committed = dictionary.update_state_with(&"alice", |_| {
        runs += 1;
        dictionary.update_locks(&"bob", LockRequest::new().acquire("b", SECOND)).unwrap();
        Change::new().set("a", runs)
    });
    assert_eq!((committed.unwrap().get(), runs), (1, 1));
}

#[test]
fn update_state_with_honours_locks_taken_meanwhile() {
    let dictionary = Dictionary::new();
    let refused = dictionary.update_state_with(&"alice", |_| {
        dictionary.update_locks(&"bob", LockRequest::new().acquire("a", None)).unwrap();
        Change::new().set("a", 1)
    });
    assert!(matches!(refused, Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
}

#[test]
fn update_state_with_limit_returns_the_last_change_after_its_attempts() {
    let dictionary = Dictionary::new();
    let mut runs = 0;
    let exhausted = dictionary.update_state_with_limit(&"", 3, |_| {
        commit_from_another_thread(&dictionary);
        runs += 1;
        Change::new().set("runs", runs)
    });
    let Err(UpdateError { change, reason: Refusal::RetriesExhausted { attempts: 3 }, .. }) = exhausted else {
        panic!("{exhausted:?}")
    };
    assert_eq!(change, Change::new().set("runs", 3));
    assert_eq!((dictionary.revision().get(), runs), (3, 3));
}

#[test]
fn update_state_with_limit_succeeds_at_the_last_attempt() {
    let dictionary = Dictionary::new();
    let mut runs = 0;
    let committed = dictionary.update_state_with_limit(&"", 2, |_| {
        runs += 1;
        if runs == 1 {
            commit_from_another_thread(&dictionary);
        }
        Change::new().set("runs", runs)
    });
    assert_eq!(committed.unwrap().get(), 2);
}

#[test]
fn a_limit_of_zero_attempts_runs_nothing() {
    let exhausted = Dictionary::new().update_state_with_limit(&"", 0, |_| -> Change<_, _> { unreachable!() });
    assert!(matches!(exhausted, Err(UpdateError { reason: Refusal::RetriesExhausted { attempts: 0 }, .. })));
}

#[test]
fn update_state_with_on_a_frozen_dictionary_runs_nothing() {
    let dictionary = Dictionary::new();
    dictionary.freeze();
    let frozen = dictionary.update_state_with(&"", |_| -> Change<_, _> { unreachable!() });
    assert!(matches!(frozen, Err(UpdateError { reason: Refusal::Frozen, .. })));
}

#[test]
fn writing_to_the_same_dictionary_from_inside_the_closure_is_an_error() {
    within_a_minute(|| {
        let dictionary = Dictionary::new();
        let committed = dictionary.update_state_with(&"", |_| {
            let change = Change::new().set("b", 1);
            let mut guard = dictionary.lock_content().unwrap();
            let nested = [
                dictionary.update_state(&"", change.clone()),
                dictionary.try_update_state(&"", change.clone()),
                dictionary.update_state_with(&"", |_| -> Change<_, _> { unreachable!() }),
                guard.update_state(&"", change.clone()),
            ];
            for (index, refused) in nested.into_iter().enumerate() {
                let Err(UpdateError { change: returned, reason: Refusal::InsideUpdate, .. }) = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!(returned, if index == 2 { Change::new() } else { change.clone() });
            }
            Change::new().set("a", 1)
        });
        assert_eq!(committed.unwrap().get(), 1);
        assert_eq!(content(&dictionary.snapshot()), [("a", 1)].into());
        assert!(dictionary.update_state(&"", Change::new().set("b", 1)).is_ok(), "outside again");
    });
}

#[test]
fn writing_to_another_dictionary_from_inside_the_closure_is_allowed() {
    let (one, other) = (Dictionary::new(), Dictionary::new());
    one.update_state_with(&"", |_| {
        other
            .update_state_with(&"", |_| {
                assert!(matches!(
                    one.update_state(&"", Change::new()),
                    Err(UpdateError { reason: Refusal::InsideUpdate, .. })
                ));
                Change::new().set("a", 1)
            })
            .unwrap();
        Change::new().set("a", 2)
    })
    .unwrap();
    assert_eq!((one.snapshot()["a"], other.snapshot()["a"]), (2, 1));
}

#[test]
fn initial_content_is_commit_one_and_the_later_of_two_values_is_taken() {
    let dictionary: Dictionary =
        StateDictionary::builder().content([("a", 1), ("b", 1), ("a", 2)]).content([("b", 2)]).build();
    assert_eq!(content(&dictionary.snapshot()), [("a", 2), ("b", 2)].into());
    assert_eq!(dictionary.revision().get(), 1);
    assert_eq!(dictionary.get("a").unwrap().revision().get(), 1);
    let empty: Dictionary = StateDictionary::builder().content([]).build();
    assert_eq!(empty.revision(), Revision::ZERO);
}

#[test]
fn values_are_shared_and_never_cloned() {
    struct NotCloned(u8);
    let dictionary: StateDictionary<u8, NotCloned, u8> = StateDictionary::new();
    let value = Arc::new(NotCloned(1));
    dictionary.update_state(&0, Change::new().set_arc(0, Arc::clone(&value))).unwrap();
    dictionary.update_state_with(&0, |content| Change::new().set(1, NotCloned(content[&0].0 + 1))).unwrap();
    assert!(Arc::ptr_eq(dictionary.get(&0).unwrap().value(), &value));
    assert!(Arc::ptr_eq(&dictionary.get(&0).unwrap().into_value(), &value));
    assert_eq!(dictionary.get(&1).unwrap().0, 2);
}

#[derive(Default)]
struct Constant;

impl Hasher for Constant {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, _: &[u8]) {}
}

#[test]
fn keys_that_all_have_the_same_hash_are_distinguished() {
    let builder =
        StateDictionary::builder().hasher(BuildHasherDefault::<Constant>::default()).shards(0).history_limit(4);
    let dictionary: StateDictionary<u32, u32, u8, _> = builder.build();
    let buffer = dictionary.change_buffer();
    dictionary.update_state(&0, (0..40).map(|key| (key, key)).collect()).unwrap();
    let request = (0..40).step_by(2).fold(LockRequest::new(), |request, key: u32| request.acquire(key, None));
    assert_eq!(dictionary.update_locks(&1, request).unwrap().granted.len(), 20);
    for key in 0..40 {
        assert_eq!(dictionary.update_state(&0, Change::new().set(key, key + 1)).is_ok(), key % 2 == 1);
        assert_eq!(dictionary.lock_info(&key).is_some(), key % 2 == 0);
    }
    assert_eq!(buffer.try_flush().unwrap().updates().count(), 40);
    assert_eq!(dictionary.release_all(&1).len(), 20);
}

#[test]
fn builder_options_at_their_extremes_give_a_dictionary_that_works() {
    for (shards, history_limit) in [(0, 0), (1, 1), (3, usize::MAX), (usize::MAX, 2)] {
        let dictionary: Dictionary = StateDictionary::builder().shards(shards).history_limit(history_limit).build();
        dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
        assert!(dictionary.update_state(&"bob", Change::new().set("a", 1)).is_err());
        assert!(dictionary.update_state(&"alice", Change::new().set("a", 1)).is_ok());
    }
}

#[test]
fn the_empty_string_is_a_key_and_a_token_like_any_other() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"", LockRequest::new().acquire("", None)).unwrap();
    assert!(dictionary.update_state(&"alice", Change::new().set("", 1)).is_err());
    assert!(dictionary.update_state(&"", Change::new().set("", 1)).is_ok());
    assert_eq!(*dictionary.get("").unwrap(), 1);
}

#[test]
fn a_change_lists_its_operations_and_conditions_in_order() {
    let mut change: Change<&str, i32> = [("a", 1)].into_iter().collect();
    change.extend([("b", 2)]);
    let change = change.remove("a").if_absent("a").if_present("b").if_revision("c", Revision::from(7));
    let operations: Vec<_> = change.operations().map(|(key, value)| (*key, value.map(|value| **value))).collect();
    assert_eq!(operations, [("a", Some(1)), ("b", Some(2)), ("a", None)]);
    let conditions: Vec<_> = change.conditions().map(|(key, condition)| (*key, condition)).collect();
    let at_seven = Condition::At(Revision::from(7));
    assert_eq!(conditions, [("a", Condition::Absent), ("b", Condition::Present), ("c", at_seven)]);
    assert_eq!((change.len(), change.is_empty()), (3, false));
    assert!(Change::<&str, i32>::default().if_absent("a").is_empty());
}

#[test]
fn debug_output_shows_no_values() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 4711)]).build();
    let change = Change::<&str, i32>::new().set("k", 4711).remove("r").if_absent("c");
    assert_eq!(format!("{change:?}"), r#"Change { set: ["k"], remove: ["r"], conditions: [("c", Absent)] }"#);
    let shown = format!("{dictionary:?} {:?}", StateDictionary::<_, _, ()>::builder().content([("a", 4711)]));
    assert!(shown.contains("keys: 1") && !shown.contains("4711"), "{shown}");
}

#[test]
fn what_is_shared_between_threads_is_send_and_sync() {
    fn shared<T: Send + Sync>(_: &T) {}
    let dictionary = Dictionary::new();
    shared(&dictionary);
    shared(&dictionary.snapshot());
    shared(&dictionary.change_buffer());
    shared(&dictionary.change_buffer().subscribe(SECOND));
}

#[test]
fn a_destructor_that_writes_after_a_closure_is_not_inside_it() {
    struct Writes(Option<Arc<dyn Fn() + Send + Sync>>);
    impl Drop for Writes {
        fn drop(&mut self) {
            if let Some(write) = self.0.take() {
                write();
            }
        }
    }
    let dictionary: Arc<StateDictionary<&str, Writes, u8>> = Arc::new(StateDictionary::new());
    let write = {
        let dictionary = Arc::downgrade(&dictionary);
        move || {
            let dictionary = dictionary.upgrade().unwrap();
            dictionary.update_state(&0, Change::new().set("written", Writes(None))).unwrap();
        }
    };
    dictionary.update_state(&0, Change::new().set("a", Writes(Some(Arc::new(write))))).unwrap();
    let mut runs = 0;
    dictionary
        .update_state_with(&0, |_| {
            runs += 1;
            if runs == 1 {
                // The closure's snapshot is the last that has the value.
                let replace = || dictionary.update_state(&1, Change::new().set("a", Writes(None))).is_ok();
                assert!(thread::scope(|scope| scope.spawn(replace).join().unwrap()));
            }
            Change::new().set("b", Writes(None))
        })
        .unwrap();
    assert!(dictionary.get("written").is_some());
}
