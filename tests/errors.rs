//! The messages of errors, and what errors return to the caller.

mod common;

use common::{Dictionary, SECOND, with_manual_clock};
use state_dictionary::{
    Change, Condition, FlushError, LockContentError, LockError, LockRequest, Refusal, Revision, StateDictionary,
    TryFlushError, UpdateError,
};
use std::error::Error;
use std::thread;
use std::time::Duration;

fn set(key: &'static str) -> Change<&'static str, i32> {
    Change::new().set(key, 4711)
}

#[test]
fn every_update_error_returns_the_change() {
    let dictionary = Dictionary::new();
    let change = || set("a").remove("b").if_absent("a").if_revision("c", Revision::from(9));
    let refused = dictionary.update_state(&"", change()).unwrap_err();
    assert_eq!(refused.change, change());
    assert_eq!(refused.into_change(), change());
}

#[test]
fn a_returned_change_can_be_retried() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    let change = dictionary.update_state(&"bob", set("a")).unwrap_err().into_change();
    dictionary.release_all(&"alice");
    dictionary.update_state(&"bob", change).unwrap();
    assert_eq!(dictionary.snapshot()["a"], 4711);
}

#[test]
fn a_returned_request_can_be_retried() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    let request = LockRequest::new().acquire("a", None).release("b");
    let request = dictionary.update_locks(&"bob", request).unwrap_err().into_request();
    dictionary.release_all(&"alice");
    assert_eq!(dictionary.update_locks(&"bob", request).unwrap().granted.len(), 1);
}

#[test]
fn all_failed_conditions_are_reported_with_what_was_found() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let at_nine = Revision::from(9);
    let change = set("x").if_absent("a").if_present("a").if_present("b").if_revision("a", at_nine);
    let refused = dictionary.update_state(&"", change).unwrap_err();
    let parts = [
        r#"3 conditions do not hold: expected "a" to be absent, found revision 1"#,
        r#"expected "b" to be present, found no value"#,
        r#"expected "a" to be at revision 9, found revision 1"#,
    ];
    assert_eq!(refused.to_string(), parts.join("; "));
    let UpdateError { reason: Refusal::ConditionFailed { failed }, .. } = refused else { panic!("{refused}") };
    let found: Vec<_> = failed.into_iter().map(|failed| (failed.key, failed.expected, failed.found)).collect();
    let one = Some(Revision::from(1));
    let expected = [("a", Condition::Absent, one), ("b", Condition::Present, None), ("a", Condition::At(at_nine), one)];
    assert_eq!(found, expected);
}

#[test]
fn an_update_error_states_the_reason() {
    let (dictionary, clock) = with_manual_clock();
    let failing = |change| dictionary.update_state(&"bob", change).unwrap_err().to_string();
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", SECOND * 3).acquire("b", None)).unwrap();
    clock.advance(SECOND);
    assert_eq!(
        failing(set("a").set("b", 1)),
        r#"2 keys are locked by others: "a" by "alice" for another 2 s, "b" by "alice" until released"#
    );

    let nested = dictionary.update_state_with(&"", |_| {
        assert_eq!(failing(set("c")), "a closure of update_state_with wrote to the dictionary that runs it");
        Change::new()
    });
    assert!(nested.is_ok());
    let exhausted = dictionary.update_state_with_limit(&"", 0, |_| set("c")).unwrap_err();
    assert_eq!(exhausted.to_string(), "the content changed during each of 0 attempts");

    let guard = dictionary.lock_content().unwrap();
    assert_eq!(failing(set("c")), "this thread has locked the content; write through its guard");
    thread::scope(|scope| {
        let refused = scope.spawn(|| dictionary.try_update_state(&"", set("c")).unwrap_err().to_string());
        assert_eq!(refused.join().unwrap(), "the content is locked");
    });
    drop(guard);

    dictionary.freeze();
    assert_eq!(failing(set("a")), "the dictionary is frozen");
}

#[test]
fn a_lock_error_states_the_reason() {
    let dictionary = Dictionary::new();
    let failing = |key, lease| {
        let request = LockRequest::new().acquire(key, lease);
        dictionary.update_locks(&"bob", request).unwrap_err().to_string()
    };
    dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    assert_eq!(failing("a", None), r#"1 key is locked by another owner: "a" by "alice" until released"#);
    assert_eq!(failing("b", Some(Duration::ZERO)), r#"the lease requested for "b" is zero"#);
    dictionary.freeze();
    assert_eq!(failing("b", None), "the dictionary is frozen");
}

#[test]
fn the_other_errors_state_the_reason() {
    assert_eq!(LockContentError::ContentLocked.to_string(), "the content is locked");
    assert_eq!(LockContentError::ContentLockedByThisThread.to_string(), "this thread has locked the content already");
    assert_eq!(TryFlushError::Empty.to_string(), "nothing is pending");
    assert_eq!(FlushError.to_string(), "the feed is closed");
}

#[test]
fn the_time_that_a_lock_still_lasts_is_rounded_for_people() {
    let (dictionary, _) = with_manual_clock();
    let shown = |lease| {
        dictionary.clear_locks();
        dictionary.update_locks(&"alice", LockRequest::new().acquire("a", lease)).unwrap();
        let refused = dictionary.update_state(&"bob", set("a")).unwrap_err().to_string();
        refused.rsplit_once("for another ").unwrap().1.to_owned()
    };
    let expected = [
        (Duration::from_nanos(1), "1 ms"),
        (Duration::from_millis(250), "250 ms"),
        (Duration::from_millis(901), "1 s"),
        (Duration::from_nanos(4_876_543_210), "4.9 s"),
        (SECOND * 60, "60 s"),
        (SECOND * 61, "61 s"),
        (SECOND * 601, "11 min"),
        (SECOND * 24 * 3600, "24 h"),
        (SECOND * 200_000, "3 days"),
    ];
    for (lease, text) in expected {
        assert_eq!(shown(lease), text, "{lease:?}");
    }
}

#[test]
fn an_error_about_many_keys_stays_short() {
    let dictionary: StateDictionary<u32, u32, u8> = StateDictionary::new();
    let request = (0..1000).fold(LockRequest::new(), |request, key: u32| request.acquire(key, None));
    dictionary.update_locks(&1, request).unwrap();
    let refused = dictionary.update_state(&2, (0..1000).map(|key| (key, key)).collect()).unwrap_err();
    assert!(refused.to_string().ends_with(", and 992 more"));
    let UpdateError { reason: Refusal::Locked { conflicts }, .. } = refused else { panic!("not locked") };
    assert_eq!(conflicts.len(), 1000);
}

#[test]
fn an_update_error_can_be_printed_whatever_the_values_are() {
    struct NotPrintable;
    let dictionary: StateDictionary<&str, NotPrintable, &str> = StateDictionary::new();
    dictionary.freeze();
    let refused = dictionary.update_state(&"", Change::new().set("a", NotPrintable)).unwrap_err();
    let shown = r#"UpdateError(the dictionary is frozen; Change { set: ["a"], remove: [], conditions: [] })"#;
    assert_eq!(format!("{refused:?}"), shown);
}

#[test]
fn errors_can_be_boxed_and_sent() {
    fn boxed(error: impl Error + Send + Sync + 'static) -> Box<dyn Error + Send + Sync> {
        error.into()
    }
    let dictionary = Dictionary::new();
    dictionary.freeze();
    let update = dictionary.update_state(&"", set("a")).unwrap_err();
    let lock: LockError<_, _> = dictionary.update_locks(&"", LockRequest::new().acquire("a", None)).unwrap_err();
    for error in [boxed(update), boxed(lock), boxed(FlushError), boxed(LockContentError::ContentLocked)] {
        assert!(error.source().is_none());
    }
}
