//! The form of NanoVer.

use crate::values::{NANOVER, avatar, changes, depths, saturated, set};
use proptest::prelude::*;
use serde_json::{Value, json};
use state_dictionary::wire::{DecodeError, EncodeError, msgpack};
use state_dictionary::{JsonChange, JsonDictionary};
use std::sync::Arc;

fn decode(message: &[u8]) -> Result<JsonChange, DecodeError> {
    msgpack::decode(message)
}

/// What a change does, each key once.
fn as_json(change: &JsonChange) -> Value {
    serde_json::to_value(change).unwrap()
}

/// A message with one update, of key "k" to these bytes.
fn update(value: &[u8]) -> Vec<u8> {
    [b"\x81\xa7updates\x81\xa1k", value].concat()
}

#[track_caller]
#[allow(clippy::needless_pass_by_value)]
fn fails(message: &[u8], expected: DecodeError, says: &str) {
    let error = decode(message).unwrap_err();
    assert_eq!(error.to_string(), says);
    assert_eq!(error, expected);
}

fn unexpected(key: Option<&str>, found: &'static str, expected: &'static str) -> DecodeError {
    DecodeError::Unexpected { key: key.map(str::to_owned), found, expected }
}

#[test]
fn a_message_of_another_implementation() {
    let change: JsonChange = msgpack::decode_with(NANOVER, saturated).unwrap();
    let change = as_json(&change);
    assert_eq!(change["removals"], json!(["cursor.1f2e"]));
    let updates = change["updates"].as_object().unwrap();
    assert_eq!(updates.len(), 6);
    assert_eq!(updates["avatar.1f2e"], avatar());
    assert_eq!(updates["interaction.1f2e"]["max_force"], json!(f64::MAX));
    assert_eq!(updates["update.index.1f2e"], json!(70000));
    assert_eq!(updates["scene"], Value::Null);
    let [u32, i32] = [i64::from(u32::MAX), i64::from(i32::MIN)];
    let limits = json!([
        0,
        127,
        128,
        255,
        256,
        65535,
        65536,
        u32,
        u32 + 1,
        u64::MAX,
        -1,
        -32,
        -33,
        -128,
        -129,
        -32768,
        -32769,
        i32,
        i32 - 1,
        i64::MIN
    ]);
    assert_eq!(updates["limits"], limits);
    assert_eq!(updates["empty"], json!([{}, [], "", "x".repeat(300)]));
}

/// What it writes is as short as what the other implementation wrote.
#[test]
fn written_again_it_is_the_same_message() {
    let change: JsonChange = msgpack::decode_with(NANOVER, saturated).unwrap();
    let written = msgpack::encode(&change).unwrap();
    assert_eq!(written.len(), NANOVER.len());
    assert_eq!(decode(&written).unwrap(), change);
}

#[test]
fn an_infinite_number_is_refused() {
    let key = || "interaction.1f2e".to_owned();
    assert_eq!(decode(NANOVER).unwrap_err(), DecodeError::NonFinite { key: key(), number: f64::INFINITY });
    let nan = update(b"\xcb\x7f\xf8\0\0\0\0\0\0");
    assert!(matches!(decode(&nan), Err(DecodeError::NonFinite { key, number }) if key == "k" && number.is_nan()));
    assert!(matches!(msgpack::decode_with::<String>(&nan, saturated), Err(DecodeError::NonFinite { .. })));
    fails(
        &update(b"\xca\xff\x80\0\0"),
        DecodeError::NonFinite { key: "k".to_owned(), number: f64::NEG_INFINITY },
        "-inf in the value of \"k\" is not a JSON number",
    );
}

#[test]
fn missing_fields_are_empty_and_removal_wins() {
    assert_eq!(decode(b"\x80").unwrap(), JsonChange::new());
    assert_eq!(decode(b"\x81\xa7updates\x80").unwrap(), JsonChange::new());
    let both = decode(b"\x82\xa8removals\x92\xa1a\xa1a\xa7updates\x81\xa1a\x01").unwrap();
    assert_eq!(as_json(&both), json!({"updates": {}, "removals": ["a"]}));
    assert_eq!(msgpack::encode(&both).unwrap(), b"\x82\xa7updates\x80\xa8removals\x91\xa1a");
}

/// Also lengths and numbers that could have been written shorter.
#[test]
fn every_way_to_write_a_value() {
    for (bytes, value) in [
        (&b"\xc0"[..], Value::Null),
        (b"\xcf\0\0\0\0\0\0\0\x07", json!(7)),
        (b"\xd3\0\0\0\0\0\0\0\x07", json!(7)),
        (b"\xd0\xff", json!(-1)),
        (b"\xca\x3f\0\0\0", json!(0.5)),
        (b"\xcb\x80\0\0\0\0\0\0\0", json!(-0.0)),
        (b"\xd9\x01a", json!("a")),
        (b"\xda\0\x01a", json!("a")),
        (b"\xdb\0\0\0\x01a", json!("a")),
        (b"\xdc\0\x01\xc3", json!([true])),
        (b"\xdd\0\0\0\x01\xc2", json!([false])),
        (b"\xde\0\x01\xa1a\x90", json!({"a": []})),
        (b"\xdf\0\0\0\x01\xa1a\x80", json!({"a": {}})),
    ] {
        assert_eq!(decode(&update(bytes)).unwrap(), JsonChange::new().set("k", value), "{bytes:x?}");
    }
}

#[test]
fn a_number_keeps_its_kind() {
    for number in [json!(1), json!(1.0), json!(-0.0), json!(u64::MAX), json!(i64::MIN), json!(5e-324)] {
        let sent = decode(&msgpack::encode(&set(number.clone())).unwrap()).unwrap();
        assert_eq!(sent.operations().next().unwrap().1.unwrap().to_string(), number.to_string());
    }
}

#[test]
fn messages_of_another_shape() {
    let fields = "a map of updates and removals";
    fails(b"\x93\x01\x02\x03", unexpected(None, "a list", fields), "a list instead of a map of updates and removals");
    fails(b"\xc3", unexpected(None, "a bool", fields), "a bool instead of a map of updates and removals");
    let name = "the name of a field";
    fails(b"\x81\x01\x02", unexpected(None, "an integer", name), "an integer instead of the name of a field");
    let updates = "a map as updates";
    fails(b"\x81\xa7updates\x90", unexpected(None, "a list", updates), "a list instead of a map as updates");
    let removals = "a list as removals";
    fails(b"\x81\xa8removals\xc0", unexpected(None, "null", removals), "null instead of a list as removals");
    let removal = "a string as a removal";
    fails(
        b"\x81\xa8removals\x91\x01",
        unexpected(None, "an integer", removal),
        "an integer instead of a string as a removal",
    );
    let key = "a string as a key of updates";
    fails(
        b"\x81\xa7updates\x81\xff\x01",
        unexpected(None, "an integer", key),
        "an integer instead of a string as a key of updates",
    );
    fails(
        &update(b"\x81\xca\0\0\0\0\x01"),
        unexpected(Some("k"), "a float", "a string as a key of a map"),
        "a float instead of a string as a key of a map in the value of \"k\"",
    );
    let unknown = DecodeError::UnknownField { name: "state".to_owned() };
    fails(b"\x81\xa5state\x80", unknown, "a message has no field \"state\"");
    let duplicate = |name: &str| DecodeError::Duplicate { name: name.to_owned() };
    fails(b"\x82\xa8removals\x90\xa8removals\x90", duplicate("removals"), "\"removals\" occurs twice");
    fails(b"\x82\xa7updates\x80\xa7updates\x80", duplicate("updates"), "\"updates\" occurs twice");
    fails(b"\x81\xa7updates\x82\xa1a\x01\xa1a\x01", duplicate("a"), "\"a\" occurs twice");
    fails(&update(b"\x82\xa1x\x01\xa1x\x02"), duplicate("x"), "\"x\" occurs twice");
    fails(b"\x80\x80\x80", DecodeError::Trailing { bytes: 2 }, "the message is followed by 2 bytes of something else");
}

#[test]
fn what_json_does_not_have() {
    for binary in [&b"\xc4\x01a"[..], b"\xc5\0\x01a", b"\xc6\0\0\0\x01a"] {
        let error = unexpected(Some("k"), "binary data", "a JSON value");
        fails(&update(binary), error, "binary data instead of a JSON value in the value of \"k\"");
    }
    for extension in [0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xc7, 0xc8, 0xc9] {
        let error = unexpected(Some("k"), "an extension type", "a JSON value");
        fails(&update(&[extension]), error, "an extension type instead of a JSON value in the value of \"k\"");
    }
}

#[test]
fn bytes_that_are_not_msgpack() {
    assert!(matches!(decode(&update(b"\xc1")), Err(DecodeError::Malformed { reason }) if reason.contains("0xc1")));
    let error = decode(&update(b"\xa2\xff\xff")).unwrap_err();
    assert!(matches!(&error, DecodeError::Malformed { reason } if reason.contains("UTF-8")), "{error:?}");
}

#[test]
fn a_message_that_is_cut_off() {
    for length in 0..NANOVER.len() {
        let cut = msgpack::decode_with::<String>(&NANOVER[..length], saturated);
        assert_eq!(cut.unwrap_err(), DecodeError::Truncated, "{length}");
    }
    fails(b"", DecodeError::Truncated, "the message is not complete");
}

#[test]
fn what_cannot_be_written() {
    let conditional = JsonChange::new().set("a", json!(1)).if_absent("a");
    let error = msgpack::encode(&conditional).unwrap_err();
    assert_eq!(error, EncodeError::Conditions);
    assert_eq!(error.to_string(), "the change has conditions, which the form cannot express");
}

#[test]
fn values_of_the_greatest_depth_and_deeper() {
    for (deep, deeper) in depths() {
        assert_eq!(decode(&msgpack::encode(&deep).unwrap()).unwrap(), deep);
        let error = msgpack::encode(&deeper).unwrap_err();
        assert_eq!(error, EncodeError::TooDeep { key: "key".to_owned() });
        assert_eq!(error.to_string(), "the value of \"key\" is nested too deeply");
    }
    for open in [&b"\x91"[..], b"\x81\xa1k"] {
        let too_deep = DecodeError::TooDeep { key: "k".to_owned() };
        fails(&update(&[&open.repeat(33)[..], b"\xc0"].concat()), too_deep, "the value of \"k\" is nested too deeply");
    }
}

#[test]
fn a_delivery_is_written_as_the_change_it_is() {
    let dictionary = JsonDictionary::<u8>::new();
    let buffer = dictionary.change_buffer();
    let commit = |change| dictionary.update_state(&0, change).unwrap();
    commit(JsonChange::new().set("a", Value::Null).set("b", json!(2)));
    let first = buffer.flush().unwrap();
    commit(JsonChange::new().remove("a").set("b", json!([3])));
    let second = buffer.flush().unwrap();
    for (delivery, expected) in [
        (first, json!({"updates": {"a": null, "b": 2}, "removals": []})),
        (second, json!({"updates": {"b": [3]}, "removals": ["a"]})),
    ] {
        let message = msgpack::encode_delivery(&delivery).unwrap();
        assert_eq!(as_json(&decode(&message).unwrap()), expected);
        assert_eq!(message.len(), msgpack::encode(&delivery.to_change()).unwrap().len());
    }
}

#[test]
fn keys_of_any_string_type() {
    let message = msgpack::encode(&JsonChange::new().set("a", json!(1)).remove("b")).unwrap();
    let keys = |change: state_dictionary::Change<String, Value>| {
        change.operations().map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(msgpack::decode(&message).unwrap()), ["a", "b"]);
    let shared: state_dictionary::Change<Arc<str>, Value> = msgpack::decode(&message).unwrap();
    assert_eq!(msgpack::encode(&shared).unwrap(), message);
}

proptest! {
    #[test]
    fn a_change_survives(change in changes()) {
        let message = msgpack::encode(&change).unwrap();
        let sent = decode(&message).unwrap();
        prop_assert_eq!(as_json(&sent), as_json(&change));
        prop_assert_eq!(msgpack::encode(&sent).unwrap(), message);
    }

    /// Another implementation agrees on what is in the message.
    #[test]
    fn others_can_read_it(change in changes()) {
        let message = msgpack::encode(&change).unwrap();
        let read: Value = rmp_serde::from_slice(&message).unwrap();
        prop_assert_eq!(read, as_json(&change));
    }
}
