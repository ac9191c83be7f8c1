//! The JSON forms: every example of docs/json.md, what is refused, and that nothing is lost on the way there and back.

use crate::common::{NANOSECOND, SECOND, with_manual_clock};
use crate::values::changes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use state_dictionary::{
    Change, CommitDelivery, Condition, Conflict, Expired, FailedCondition, FencingToken, JsonChange, JsonDictionary,
    LockDelivery, LockError, LockEvent, LockEventKind, LockInfo, LockReceipt, LockRequest, ManualClock, NotRemoved,
    Position, Refusal, Revision, SessionSummary, StateDictionary, StoreId, UpdateError,
};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The JSON of docs/json.md, each block with the heading it stands under.
struct Page(std::vec::IntoIter<(String, Value)>);

impl Page {
    fn open() -> Self {
        let (mut heading, mut block, mut blocks) = (String::new(), None, Vec::new());
        for line in include_str!("../../docs/json.md").lines() {
            match (&mut block, line) {
                (None, "```json") => block = Some(String::new()),
                (Some(text), "```") => {
                    blocks.push((heading.clone(), serde_json::from_str(text).unwrap()));
                    block = None;
                }
                (Some(text), line) => text.push_str(line),
                (None, line) => heading = line.strip_prefix("# ").map_or(heading, str::to_owned),
            }
        }
        Self(blocks.into_iter())
    }

    #[track_caller]
    fn next(&mut self, heading: &str) -> Value {
        let (under, block) = self.0.next().expect("another example");
        assert_eq!(under, heading);
        block
    }

    /// The next example is what `value` is written as.
    #[track_caller]
    fn shows(&mut self, heading: &str, value: &impl Serialize) -> Value {
        let example = self.next(heading);
        assert_eq!(serde_json::to_value(value).unwrap(), example);
        example
    }

    /// The same, and it is read as `value`.
    #[track_caller]
    fn shows_both_ways<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, heading: &str, value: &T) {
        assert_eq!(&from::<T>(&self.shows(heading, value)), value);
    }
}

#[track_caller]
fn from<T: DeserializeOwned>(value: &Value) -> T {
    // From text, as it would come.
    serde_json::from_str(&value.to_string()).unwrap()
}

#[track_caller]
fn is_refused<T: DeserializeOwned + Debug>(text: &str, reason: &str) {
    let error = serde_json::from_str::<T>(text).unwrap_err().to_string();
    assert!(error.contains(reason), "{text}: {error:?} should say {reason:?}");
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn the_page_tells_the_truth() {
    let mut page = Page::open();
    let ball = json!({"x": 0.5, "y": 2});

    let change = JsonChange::new().set("ball", ball.clone()).set("score", json!(3)).remove("bat");
    page.shows_both_ways("A change", &change);
    let conditional = JsonChange::new()
        .set("ball", json!({"x": 0.7}))
        .set("goal", json!({}))
        .set("lamp", json!("on"))
        .if_revision("ball", Revision::from(17))
        .if_absent("goal")
        .if_present("lamp");
    page.shows_both_ways("A change", &conditional);
    let failed: FailedCondition<Arc<str>> = from(&page.next("A change"));
    assert_eq!(failed.key, text("ball"));
    assert_eq!((failed.expected, failed.found), (Condition::At(17.into()), Some(19.into())));

    let dictionary: JsonDictionary = StateDictionary::builder().build();
    let buffer = dictionary.change_buffer();
    let commit = |change| dictionary.update_state(&text("alice"), change).unwrap();
    commit(JsonChange::new().set("ball", ball));
    buffer.flush().unwrap();
    commit(JsonChange::new().set("score", json!(3)));
    page.shows("The content", &dictionary.snapshot());
    page.shows("The content", &dictionary.get("score").unwrap());
    commit(JsonChange::new().set("score", json!(4)).remove("ball"));
    let delivery = buffer.flush().unwrap();
    let mut written = serde_json::to_value(&delivery).unwrap();
    assert_eq!(written["position"], json!(delivery.position().to_string()));
    written["position"] = json!(Position { store: 1234.into(), revision: delivery.revision() }.to_string());
    page.shows("A delivery", &written);

    let request: LockRequest<Arc<str>> =
        LockRequest::new().acquire("ball", 5 * SECOND).acquire("goal", None).release("bat");
    page.shows_both_ways("Locks", &request);
    let receipt: LockReceipt<Arc<str>> = from(&page.next("Locks"));
    let numbers = |pairs: &[(Arc<str>, FencingToken)]| {
        pairs.iter().map(|pair| (*pair.0).len() as u64 * 100 + pair.1.get()).collect::<Vec<_>>()
    };
    assert_eq!((numbers(&receipt.granted), numbers(&receipt.renewed)), (vec![412], vec![407]));
    assert_eq!((receipt.released.len(), receipt.not_held.len() + receipt.expired.len()), (1, 0));
    let conflict: Conflict<Arc<str>, String> = from(&page.next("Locks"));
    assert_eq!((&*conflict.key, &*conflict.owner, conflict.remaining), ("ball", "alice", Some(seconds(4.25))));
    let info: LockInfo<String> = from(&page.next("Locks"));
    assert_eq!((&*info.owner, info.remaining, info.fencing_token.get()), ("alice", None, 12));
    match from(&page.next("Locks")) {
        LockDelivery::<String, String>::Full { version, revision, locks } => {
            assert_eq!((version, revision.get(), &*locks[0].0, &*locks[0].1.owner), (12, 3, "ball", "alice"));
        }
        LockDelivery::Events(_) => panic!(),
    }
    match from(&page.next("Locks")) {
        LockDelivery::<String, String>::Events(events) => {
            let LockEvent { version, kind, key, .. } = &events[0];
            assert_eq!((*version, *kind, &**key), (15, LockEventKind::Released, "ball"));
        }
        LockDelivery::Full { .. } => panic!(),
    }

    page.shows_both_ways("Positions", &Position { store: 1234.into(), revision: 17.into() });
    let commits: CommitDelivery<Arc<str>, Value, String> = from(&page.next("Commits"));
    let commit = &commits.commits[0];
    assert_eq!((commits.lagged, commit.revision.get()), (Some((3.into(), 7.into())), 8));
    assert_eq!((&*commit.token, &commit.change), ("alice", &JsonChange::new().set("score", json!(5)).remove("lamp")));
    let end: SessionSummary<String, String> = from(&page.next("Sessions"));
    let bobs = NotRemoved::Locked { owner: "bob".to_owned(), remaining: None };
    assert_eq!(end.not_removed, [("cursor.alice".to_owned(), bobs), ("marker.alice".to_owned(), NotRemoved::Deferred)]);
    assert_eq!((end.released, end.removed), (vec!["ball".to_owned()], vec!["avatar.alice".to_owned()]));
    let expiry: Expired<String, String> = from(&page.next("Sessions"));
    assert_eq!((expiry.locks, expiry.next), (vec![("goal".to_owned(), "bob".to_owned())], Some(seconds(2.5))));
    let counters = page.next("Counters");
    #[cfg(feature = "counters")]
    assert_eq!(from::<state_dictionary::Counters>(&counters).slowest_lag, 4);
    assert_eq!(counters.as_object().unwrap().len(), 6);
    assert!(page.0.next().is_none(), "an example that is not checked");
}

/// Written, it is what it was read from.
#[test]
fn answers_are_written_as_the_page_shows_them() {
    fn there_and_back<T: Serialize + DeserializeOwned>(block: &Value) {
        assert_eq!(&serde_json::to_value(from::<T>(block)).unwrap(), block);
    }
    let answers: Vec<_> = Page::open().0.map(|(_, block)| block).collect();
    there_and_back::<FailedCondition<String>>(&answers[2]);
    there_and_back::<LockReceipt<String>>(&answers[7]);
    there_and_back::<Conflict<String, String>>(&answers[8]);
    there_and_back::<LockInfo<String>>(&answers[9]);
    there_and_back::<LockDelivery<String, String>>(&answers[10]);
    there_and_back::<LockDelivery<String, String>>(&answers[11]);
    there_and_back::<CommitDelivery<String, Value, String>>(&answers[13]);
    there_and_back::<SessionSummary<String, String>>(&answers[14]);
    there_and_back::<Expired<String, String>>(&answers[15]);
    #[cfg(feature = "counters")]
    there_and_back::<state_dictionary::Counters>(&answers[16]);
}

#[test]
fn what_a_dictionary_answers_can_be_sent() {
    let (dictionary, clock) = with_manual_clock();
    let request = LockRequest::new().acquire("ball", 5 * SECOND);
    let receipt = dictionary.update_locks(&"alice", request.clone()).unwrap();
    let token = receipt.granted[0].1;
    assert_eq!(serde_json::to_value(&receipt).unwrap()["granted"], json!({ "ball": token }));
    clock.advance(SECOND / 4 * 3);
    let conflict = json!({"key": "ball", "owner": "alice", "remaining": 4.25});
    match dictionary.update_locks(&"bob", request).unwrap_err() {
        LockError::Locked { conflicts, .. } => assert_eq!(serde_json::to_value(conflicts).unwrap(), json!([conflict])),
        other => panic!("{other}"),
    }
    let info = serde_json::to_value(dictionary.lock_info("ball")).unwrap();
    assert_eq!(info, json!({"owner": "alice", "remaining": 4.25, "fencing_token": token.get()}));
    match dictionary.update_state(&"bob", Change::new().set("bat", 1).if_present("bat")).unwrap_err() {
        UpdateError { reason: Refusal::ConditionFailed { failed }, .. } => {
            let failed = serde_json::to_value(failed).unwrap();
            assert_eq!(failed, json!([{"key": "bat", "expected": "present", "found": null}]));
        }
        other => panic!("{other}"),
    }
}

/// What comes of the feeds and sessions of a dictionary is read as what it was.
#[test]
fn what_the_feeds_deliver_can_be_sent() {
    fn sent<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        // As text, in which the order of a map's keys is kept.
        assert_eq!(&serde_json::from_str::<T>(&serde_json::to_string(value).unwrap()).unwrap(), value);
    }
    let clock = ManualClock::new();
    let dictionary: StateDictionary<String, i32, String> =
        StateDictionary::builder().clock(&clock).commit_history(true).lock_history_limit(10).build();
    let (locks, commits) = (dictionary.lock_feed(), dictionary.commit_feed());
    let mut alice = dictionary.session("alice".to_owned());
    alice.update_ephemeral(Change::new().set("cursor", 1).set("avatar", 2)).unwrap();
    sent(&locks.flush().unwrap());
    alice.update_locks(LockRequest::new().acquire("avatar", SECOND)).unwrap();
    dictionary.update_locks(&"bob".to_owned(), LockRequest::new().acquire("cursor", 2 * SECOND)).unwrap();
    let (locked, at_once) = (locks.flush().unwrap(), dictionary.lock_feed());
    assert!(matches!(&locked, LockDelivery::Events(events) if events.len() == 2));
    sent(&locked);
    sent(&at_once.flush().unwrap());
    let end = alice.end();
    assert_eq!((end.removed.len(), end.not_removed.len()), (1, 1));
    sent(&end);
    clock.advance(3 * SECOND);
    let expiry = dictionary.expire();
    assert_eq!((expiry.locks.len(), expiry.sessions.len()), (1, 1));
    sent(&expiry);
    dictionary.update_state(&"bob".to_owned(), Change::new().set("score", 1)).unwrap();
    sent(&dictionary.position());

    let delivery = commits.flush().unwrap();
    assert_eq!(delivery.commits.len(), 4);
    let read: CommitDelivery<String, i32, String> =
        serde_json::from_str(&serde_json::to_string(&delivery).unwrap()).unwrap();
    for (read, commit) in read.commits.iter().zip(&delivery.commits) {
        assert_eq!((read.revision, &read.token, &read.change), (commit.revision, &commit.token, &commit.change));
    }
    let first = serde_json::to_value(dictionary.change_buffer().flush().unwrap()).unwrap();
    let position = dictionary.position().to_string();
    let expected = json!({
        "since": 0, "revision": 4, "position": position, "full": true, "updates": {"score": 1}, "removals": []
    });
    assert_eq!(first, expected);
}

#[test]
fn positions_of_another_shape_are_refused() {
    for text in ["\"\"", "\"17\"", "\"4d2:17\"", "\"00000000000004d2:\"", "\"00000000000004d2:-1\""] {
        is_refused::<Position>(text, "not a position");
    }
    is_refused::<StoreId>("\"4d2\"", "not the id of a dictionary");
    is_refused::<Position>("17", "expected a string");
}

#[test]
fn integers_are_exact_within_64_bits_and_floats_beyond() {
    let value = |text: &str| {
        let change: JsonChange = serde_json::from_str(&format!("{{\"updates\": {{\"a\": {text}}}}}")).unwrap();
        let dictionary: JsonDictionary = JsonDictionary::new();
        dictionary.update_state(&"ada".into(), change).unwrap();
        serde_json::to_string(&*dictionary.get("a").unwrap()).unwrap()
    };
    for exact in [
        "-9223372036854775808",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "9007199254740993",
    ] {
        assert_eq!(value(exact), exact);
    }
    assert_eq!(value("18446744073709551616"), "1.8446744073709552e+19");
    assert_eq!(value("-9223372036854775809"), "-9.223372036854776e+18");
    is_refused::<JsonChange>("{\"updates\": {\"a\": 1e999}}", "out of range");
}

#[test]
fn the_last_operation_on_a_key_counts() {
    let change = Change::<String, i32>::new().set("a", 1).remove("b").set("a", 2).set("b", 3).set("c", 4).remove("c");
    let written = serde_json::to_value(&change).unwrap();
    assert_eq!(written, json!({"updates": {"a": 2, "b": 3}, "removals": ["c"]}));
}

#[test]
fn missing_fields_are_empty_and_removal_wins() {
    assert_eq!(from::<JsonChange>(&json!({})), JsonChange::new());
    assert_eq!(from::<LockRequest<String>>(&json!({})), LockRequest::new());
    let both: JsonChange = from(&json!({"removals": ["a"], "updates": {"a": 1, "b": null}}));
    assert_eq!(both, JsonChange::new().set("a", json!(1)).set("b", Value::Null).remove("a"));
    let written = serde_json::to_value(both).unwrap();
    assert_eq!(written, json!({"updates": {"b": null}, "removals": ["a"]}));
}

/// Not a value that could be cloned, nor a key that is a string.
#[test]
fn values_need_not_be_cloned_and_keys_need_not_be_strings() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Once(Vec<f32>);
    let change = Change::<u32, Once>::new().set(7_u32, Once(vec![0.5])).remove(8_u32).if_absent(9_u32);
    let written = serde_json::to_value(&change).unwrap();
    let conditions = json!([{"key": 9, "expected": "absent"}]);
    assert_eq!(written, json!({"updates": {"7": [0.5]}, "removals": [8], "conditions": conditions}));
    assert_eq!(from::<Change<u32, Once>>(&written), change);
}

#[test]
fn requests_of_another_shape_are_refused() {
    for text in ["[]", "[{}, []]", "null", "7", "\"updates\""] {
        is_refused::<JsonChange>(text, "expected an object");
        is_refused::<LockRequest<String>>(text, "expected an object");
    }
    is_refused::<JsonChange>(r#"{"update": {}}"#, "unknown field `update`");
    is_refused::<JsonChange>(r#"{"updates": {}, "updates": {}}"#, "duplicate field `updates`");
    is_refused::<JsonChange>(r#"{"updates": {"a": 1, "b": 1, "a": 2}}"#, "key 3 of a map is a duplicate");
    is_refused::<JsonChange>(r#"{"updates": []}"#, "expected a map");
    is_refused::<JsonChange>(r#"{"removals": {}}"#, "expected a sequence");
    is_refused::<JsonChange>(r#"{"removals": [1]}"#, "expected a string");
    is_refused::<JsonChange>(r#"{"updates": {}"#, "EOF");
    is_refused::<JsonChange>("{} {}", "trailing characters");
    let conditions = |condition: &str| format!(r#"{{"conditions": [{{"key": "a", "expected": {condition}}}]}}"#);
    is_refused::<JsonChange>(&conditions("\"gone\""), "unknown variant `gone`");
    is_refused::<JsonChange>(&conditions("{\"at\": -1}"), "expected u64");
    is_refused::<JsonChange>(r#"{"conditions": [{"key": "a"}]}"#, "missing field `expected`");
    is_refused::<JsonChange>(r#"{"conditions": [{"key": "a", "expected": "absent", "or": 1}]}"#, "unknown field `or`");

    is_refused::<LockRequest<String>>(r#"{"acquires": {}}"#, "unknown field `acquires`");
    is_refused::<LockRequest<String>>(r#"{"acquire": {"a": 1, "a": 2}}"#, "key 2 of a map is a duplicate");
    is_refused::<LockRequest<String>>(r#"{"acquire": {"a": -0.5}}"#, "-0.5 is not a number of seconds");
    is_refused::<LockRequest<String>>(r#"{"acquire": {"a": "5"}}"#, "expected f64");
    is_refused::<LockRequest<String>>(r#"{"acquire": ["a"]}"#, "expected a map");
}

/// A hundred thousand lists in each other, and the like.
#[test]
fn deep_nesting_is_refused() {
    let deep = |open: &str| format!(r#"{{"updates": {{"a": {}"#, open.repeat(100_000));
    is_refused::<JsonChange>(&deep("["), "recursion limit");
    is_refused::<JsonChange>(&deep(r#"{"a":"#), "recursion limit");
}

#[test]
fn answers_may_have_fields_of_later_versions() {
    let conflict: Conflict<String, String> = from(&json!({"key": "a", "owner": "b", "remaining": 1, "since": 7}));
    assert_eq!(conflict.remaining, Some(SECOND));
}

#[test]
fn leases_of_any_length() {
    let lease = |lease: Value| {
        let request: LockRequest<String> = from(&json!({"acquire": { "a": lease }}));
        request.acquires().next().unwrap().1
    };
    assert_eq!(lease(json!(5)), Some(5 * SECOND));
    assert_eq!(lease(json!(0.000_000_001)), Some(NANOSECOND));
    assert_eq!(lease(json!(0)), Some(Duration::ZERO));
    assert_eq!(lease(json!(1e300)), Some(Duration::MAX));
    assert_eq!(lease(Value::Null), None);
    let longest = LockRequest::<String>::new().acquire("a", Duration::MAX);
    assert_eq!(from::<LockRequest<String>>(&serde_json::to_value(&longest).unwrap()), longest);
}

/// Also when it is sent through JSON, a request with a lease of zero is an error.
#[test]
fn a_lease_of_zero_stays_one() {
    let request = LockRequest::<String>::new().acquire("a", SECOND).acquire("a", Duration::ZERO).acquire("a", None);
    let sent: LockRequest<String> = from(&serde_json::to_value(&request).unwrap());
    let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    for request in [request, sent] {
        assert!(matches!(dictionary.update_locks(&0, request), Err(LockError::ZeroLease { .. })));
    }
}

fn conditional(change: JsonChange, conditions: Vec<(String, u64, i32)>) -> JsonChange {
    conditions.into_iter().fold(change, |change, (key, revision, kind)| match kind {
        0 => change.if_absent(key),
        1 => change.if_present(key),
        _ => change.if_revision(key, revision.into()),
    })
}

/// The content after the change, of a dictionary in which a and b have values.
fn applied(change: JsonChange) -> Value {
    let content = ["a", "b"].map(|key| (text(key), json!("before")));
    let dictionary: JsonDictionary = StateDictionary::builder().content(content).build();
    dictionary.update_state(&text("alice"), change).unwrap();
    serde_json::to_value(dictionary.snapshot()).unwrap()
}

proptest! {
    #[test]
    fn a_change_that_was_sent_does_the_same(change in changes()) {
        let sent: JsonChange = from(&serde_json::to_value(&change).unwrap());
        // Written again, it is the same: every key once.
        prop_assert_eq!(serde_json::to_value(&sent).unwrap(), serde_json::to_value(&change).unwrap());
        prop_assert_eq!(applied(sent), applied(change));
    }

    #[test]
    fn conditions_are_sent_too(change in changes(), conditions in vec(("[a-e]", any::<u64>(), 0..3), 0..4)) {
        let change = conditional(change, conditions);
        let sent: JsonChange = from(&serde_json::to_value(&change).unwrap());
        prop_assert!(sent.conditions().eq(change.conditions()));
    }

    /// In a format in which fields have no names.
    #[test]
    fn a_change_survives_a_compact_format(change in changes(), conditions in vec(("[a-e]", any::<u64>(), 0..3), 0..4)) {
        let change = conditional(change, conditions);
        let bytes = rmp_serde::to_vec(&change).unwrap();
        let sent: JsonChange = rmp_serde::from_slice(&bytes).unwrap();
        prop_assert_eq!(serde_json::to_value(&sent).unwrap(), serde_json::to_value(&change).unwrap());
    }

    #[test]
    fn leases_are_exact_up_to_fifty_days(leases in vec(0..50 * 86_400 * 1_000_000_000_u64, 1..9)) {
        let request: LockRequest<u64> = (0_u64..).zip(&leases).fold(LockRequest::new(), |request, (key, nanoseconds)| {
            request.acquire(key, Duration::from_nanos(*nanoseconds))
        });
        prop_assert_eq!(from::<LockRequest<u64>>(&serde_json::to_value(&request).unwrap()), request);
    }
}
