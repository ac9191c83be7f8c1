//! The feature `serde`, with nothing of `json`: keys, values and tokens that are shared, as most are.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{SECOND, sorted};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use state_dictionary::{
    Change, CommitDelivery, Conflict, Expired, FailedCondition, LockDelivery, LockError, LockInfo, LockReceipt,
    LockRequest, ManualClock, Position, Refusal, Revision, SessionSummary, StateDictionary, StoreId, UpdateError,
};
use std::collections::BTreeMap;
use std::sync::Arc;

type Text = Arc<str>;
/// Values that are shared once more, and have a form of their own.
type Value = Arc<Shape>;
type Dictionary = StateDictionary<Text, Value, Text>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shape {
    corners: u8,
    name: Text,
}

/// Of a delivery, what the test looks at.
#[derive(Deserialize)]
struct Told {
    position: Position,
    updates: BTreeMap<Text, Value>,
    removals: Vec<Text>,
}

/// Of an entry.
#[derive(Deserialize)]
struct Set {
    value: Value,
    revision: Revision,
}

fn shape(corners: u8) -> Value {
    Arc::new(Shape { corners, name: "a shape".into() })
}

fn back<R: DeserializeOwned>(what: &impl Serialize) -> R {
    rmp_serde::from_slice(&rmp_serde::to_vec_named(what).unwrap()).unwrap()
}

fn token() -> Text {
    "ada".into()
}

#[test]
fn snapshots_and_deliveries_of_shared_keys_and_values_are_serialised() {
    let dictionary = Dictionary::new();
    let buffer = dictionary.change_buffer();
    dictionary.update_state(&token(), Change::new().set("a", shape(3)).set("b", shape(4))).unwrap();
    let content: BTreeMap<Text, Value> = back(&dictionary.snapshot());
    assert_eq!(content, BTreeMap::from([("a".into(), shape(3)), ("b".into(), shape(4))]));

    drop(buffer.flush());
    dictionary.update_state(&token(), Change::new().remove("a").set("b", shape(5))).unwrap();
    let told: Told = back(&buffer.flush().unwrap());
    assert_eq!(told.updates, BTreeMap::from([("b".into(), shape(5))]));
    assert_eq!((told.removals, told.position), (vec!["a".into()], dictionary.position()));

    let entry = dictionary.get("b").unwrap();
    let set: Set = back(&entry);
    assert_eq!((&set.value, set.revision), (&**entry.value(), entry.revision()));
}

#[test]
fn changes_and_requests_of_shared_keys_are_read_back() {
    let change: Change<Text, Value> = Change::new().set("a", shape(3)).remove("b").if_absent("a");
    assert_eq!(back::<Change<Text, Value>>(&change), change);
    let request: LockRequest<Text> = LockRequest::new().acquire("a", SECOND).acquire("b", None).release("c");
    assert_eq!(back::<LockRequest<Text>>(&request), request);
    let id = StoreId::from(7);
    assert_eq!(back::<StoreId>(&id), id);
}

#[test]
fn what_is_reported_of_locks_commits_and_sessions_of_shared_tokens_is_read_back() {
    let clock = ManualClock::new();
    let dictionary: Dictionary =
        StateDictionary::builder().clock(&clock).commit_history(true).lock_history_limit(100).build();
    let (commits, locks) = (dictionary.commit_feed(), dictionary.lock_feed());
    let everything = locks.try_flush().unwrap();
    assert_eq!(back::<LockDelivery<Text, Text>>(&everything), everything);
    let receipt = dictionary.update_locks(&token(), LockRequest::new().acquire("a", SECOND)).unwrap();
    assert_eq!(back::<LockReceipt<Text>>(&receipt), receipt);
    let events = locks.try_flush().unwrap();
    assert_eq!(back::<LockDelivery<Text, Text>>(&events), events);
    let info = dictionary.lock_info("a").unwrap();
    assert_eq!(back::<LockInfo<Text>>(&info), info);

    match dictionary.update_state(&"ben".into(), Change::new().set("a", shape(3))).unwrap_err() {
        UpdateError { reason: Refusal::Locked { conflicts }, .. } => {
            assert_eq!(back::<Vec<Conflict<Text, Text>>>(&conflicts), conflicts);
        }
        other => panic!("{other:?}"),
    }
    match dictionary.update_locks(&"ben".into(), LockRequest::new().acquire("a", None)).unwrap_err() {
        LockError::Locked { conflicts, .. } => assert_eq!(back::<Vec<Conflict<Text, Text>>>(&conflicts), conflicts),
        other => panic!("{other:?}"),
    }
    match dictionary.update_state(&token(), Change::new().remove("a").if_present("a")).unwrap_err() {
        UpdateError { reason: Refusal::ConditionFailed { failed }, .. } => {
            assert_eq!(back::<Vec<FailedCondition<Text>>>(&failed), failed);
        }
        other => panic!("{other:?}"),
    }

    dictionary.update_state(&token(), Change::new().set("a", shape(3))).unwrap();
    let delivery = commits.try_flush().unwrap();
    let told: CommitDelivery<Text, Value, Text> = back(&delivery);
    assert_eq!((&told.commits[0].token, &told.commits[0].change), (&token(), &delivery.commits[0].change));

    let mut session = dictionary.session(token());
    session.update_ephemeral(Change::new().set("c", shape(6))).unwrap();
    let end = session.end();
    assert_eq!(sorted(end.removed.clone()), ["c".into()]);
    assert_eq!(back::<SessionSummary<Text, Text>>(&end), end);
    dictionary.update_locks(&token(), LockRequest::new().acquire("a", SECOND)).unwrap();
    clock.advance(SECOND);
    let expiry = dictionary.expire();
    assert_eq!(expiry.locks.len(), 1);
    assert_eq!(back::<Expired<Text, Text>>(&expiry), expiry);
}

#[test]
fn a_text_that_is_no_id_or_no_position_is_an_error_that_states_which() {
    let wrong = rmp_serde::to_vec("yesterday").unwrap();
    let id = rmp_serde::from_slice::<StoreId>(&wrong).unwrap_err().to_string();
    let position = rmp_serde::from_slice::<Position>(&wrong).unwrap_err().to_string();
    assert!(id.contains("not the id of a dictionary") && !id.contains("position"), "{id}");
    assert!(position.contains("not a position"), "{position}");
}
