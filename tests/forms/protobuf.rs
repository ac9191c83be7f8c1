//! The form of Narupa.

use crate::values::{NARUPA, avatar, changes, depths, head, saturated, set};
use proptest::prelude::*;
use serde_json::{Value, json};
use state_dictionary::wire::{DecodeError, EncodeError, protobuf};
use state_dictionary::{JsonChange, JsonDictionary};

fn decode(message: &[u8]) -> Result<JsonChange, DecodeError> {
    protobuf::decode(message)
}

fn as_json(change: &JsonChange) -> Value {
    serde_json::to_value(change).unwrap()
}

/// A field of so many bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&head(number, bytes.len())[..], bytes].concat()
}

/// One entry of a `Struct`, whose value is the message `value`.
fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
}

fn is_malformed(message: &[u8], says: &str) {
    let error = decode(message).unwrap_err();
    assert!(matches!(error, DecodeError::Malformed { .. }), "{error:?}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn a_message_of_another_implementation() {
    let change: JsonChange = protobuf::decode_with(NARUPA, saturated).unwrap();
    let change = as_json(&change);
    assert_eq!(change["removals"], json!(["cursor.1f2e"]));
    let updates = change["updates"].as_object().unwrap();
    assert_eq!(updates.len(), 6);
    let mut avatar = avatar();
    // Whole numbers are read as integers.
    avatar["color"] = json!([1, 0.25, 0.5, 1]);
    for whole in [0, 2] {
        avatar["components"][0]["rotation"][whole] = json!(0);
    }
    assert_eq!(updates["avatar.1f2e"], avatar);
    assert_eq!(updates["interaction.1f2e"]["max_force"], json!(f64::MAX));
    assert_eq!(updates["scene"], json!({ "grid": null }));
    let large = 1_i64 << 53;
    assert_eq!(updates["limits"], json!([0, -1, large, -large, 1_i64 << 60, 0.5, -0.25, 1e300]));
}

#[test]
fn written_again_it_is_the_same_message() {
    let infinite = |number: f64| (number == f64::INFINITY).then(|| json!("infinite"));
    let change: JsonChange = protobuf::decode_with(NARUPA, infinite).unwrap();
    let written = protobuf::encode(&change).unwrap();
    assert_eq!(decode(&written).unwrap(), change);
    // A double is eight bytes, the string has as many, and its length.
    assert_eq!(written.len(), NARUPA.len() + 1);
}

#[test]
fn bytes_as_they_should_be() {
    let change = JsonChange::new().set("a", json!([null, true])).remove("b").set("c", json!({"d": 0.5}));
    let message = b"\x0a\x0f\x0a\x01a\x12\x0a\x32\x08\x0a\x02\x08\0\x0a\x02\x20\x01\x0a\x07\x0a\x01b\x12\x02\x08\0\x0a\x17\x0a\x01c\x12\x12\x2a\x10\x0a\x0e\x0a\x01d\x12\x09\x11\0\0\0\0\0\0\xe0\x3f";
    assert_eq!(protobuf::encode(&change).unwrap(), message);
    assert_eq!(decode(message).unwrap(), change);
    assert_eq!(protobuf::encode(&JsonChange::new()).unwrap(), b"");
    assert_eq!(decode(b"").unwrap(), JsonChange::new());
}

#[test]
fn null_cannot_be_a_value() {
    let null = JsonChange::new().set("a", json!(1)).set("b", Value::Null);
    let error = protobuf::encode(&null).unwrap_err();
    assert_eq!(error, EncodeError::Null { key: "b".to_owned() });
    assert_eq!(error.to_string(), "the value of \"b\" is null, which would remove the key");
    // What is set again later is not sent.
    assert!(protobuf::encode(&null.set("b", json!(2))).is_ok());
}

#[test]
fn what_else_cannot_be_written() {
    let conditional = JsonChange::new().if_present("a");
    assert_eq!(protobuf::encode(&conditional).unwrap_err(), EncodeError::Conditions);
    for (deep, deeper) in depths() {
        assert_eq!(decode(&protobuf::encode(&deep).unwrap()).unwrap(), deep);
        assert_eq!(protobuf::encode(&deeper).unwrap_err(), EncodeError::TooDeep { key: "key".to_owned() });
    }
}

#[test]
fn integers_are_exact_or_refused() {
    let large = 1_u64 << 53;
    for exact in
        [json!(0), json!(large), json!(-(1_i64 << 53)), json!(large * 512), json!(i64::MIN), json!(1_u64 << 63)]
    {
        assert_eq!(decode(&protobuf::encode(&set(exact.clone())).unwrap()).unwrap(), set(exact));
    }
    for inexact in [json!(large + 1), json!(-(1_i64 << 53) - 1), json!(u64::MAX), json!(i64::MAX)] {
        let error = protobuf::encode(&set(json!([inexact]))).unwrap_err();
        assert_eq!(error.to_string(), format!("{inexact} in \"key\" cannot be represented exactly"));
        assert_eq!(error, EncodeError::Inexact { key: "key".to_owned(), number: inexact.as_number().unwrap().clone() });
    }
}

#[test]
fn floats_are_what_they_were_and_whole_ones_are_integers() {
    let sent = |value: Value| decode(&protobuf::encode(&set(value)).unwrap()).unwrap();
    for float in [0.1, -0.0, 5e-324, 1e300, -1e19, 18_446_744_073_709_551_616.0, f64::MAX] {
        assert_eq!(sent(json!(float)), set(json!(float)));
    }
    assert_eq!(sent(json!(60.0)), set(json!(60)));
    assert_eq!(sent(json!(-1e18)), set(json!(-1_000_000_000_000_000_000_i64)));
}

#[test]
fn an_infinite_number_is_refused() {
    let key = "interaction.1f2e".to_owned();
    assert_eq!(decode(NARUPA).unwrap_err(), DecodeError::NonFinite { key, number: f64::INFINITY });
    let nan = entry("k", &[&[0x11][..], &f64::NAN.to_le_bytes()].concat());
    assert!(matches!(decode(&nan), Err(DecodeError::NonFinite { key, number }) if key == "k" && number.is_nan()));
}

#[test]
fn a_value_without_content() {
    for nothing in [entry("k", b""), field(1, &field(1, b"k")), entry("k", &field(6, &field(1, b"")))] {
        let error = decode(&nothing).unwrap_err();
        assert_eq!(error.to_string(), "nothing instead of a kind of value in the value of \"k\"");
        assert!(matches!(error, DecodeError::Unexpected { key: Some(key), .. } if key == "k"));
    }
}

#[test]
fn messages_of_another_kind() {
    is_malformed(b"\x82\xa7updates\x80\xa8removals\x80", "");
    is_malformed(br#"{"updates": {}}"#, "");
    is_malformed(&field(2, b"an access token"), "the message has fields, and none of them is a field of Struct");
    is_malformed(&entry("k", &field(3, b"\xff\xff")), "UTF-8");
    // What a later version might add is skipped.
    let more = [entry("k", b"\x20\x01"), field(7, b"later")].concat();
    assert_eq!(decode(&more).unwrap(), JsonChange::new().set("k", json!(true)));
    // Of two values the later counts.
    let twice = [entry("k", b"\x20\x01"), entry("k", b"\x08\0")].concat();
    assert_eq!(decode(&twice).unwrap(), JsonChange::new().remove("k"));
}

/// A part of the entries, or an error. Protobuf does not say how long a message is.
#[test]
fn a_message_that_is_cut_off() {
    let whole: JsonChange = protobuf::decode_with(NARUPA, saturated).unwrap();
    let mut parts = 0;
    for length in 0..NARUPA.len() {
        match protobuf::decode_with::<std::sync::Arc<str>>(&NARUPA[..length], saturated) {
            Ok(part) => {
                assert!(part.operations().all(|operation| whole.operations().any(|other| other == operation)));
                parts += 1;
            }
            Err(error) => assert!(matches!(error, DecodeError::Malformed { .. }), "{error:?}"),
        }
    }
    assert_eq!(parts, whole.len());
}

#[test]
fn a_delivery_is_written_as_the_change_it_is() {
    let dictionary = JsonDictionary::<u8>::new();
    let buffer = dictionary.change_buffer();
    let commit = |change| dictionary.update_state(&0, change).unwrap();
    commit(JsonChange::new().set("a", json!(1)).set("b", json!(2)));
    let first = protobuf::encode_delivery(&buffer.flush().unwrap()).unwrap();
    commit(JsonChange::new().remove("a").set("b", json!([3])));
    let second = protobuf::encode_delivery(&buffer.flush().unwrap()).unwrap();
    commit(JsonChange::new().set("a", Value::Null));
    let third = protobuf::encode_delivery(&buffer.flush().unwrap());
    assert_eq!(as_json(&decode(&first).unwrap()), json!({"updates": {"a": 1, "b": 2}, "removals": []}));
    assert_eq!(as_json(&decode(&second).unwrap()), json!({"updates": {"b": [3]}, "removals": ["a"]}));
    assert_eq!(third, Err(EncodeError::Null { key: "a".to_owned() }));
}

/// Whole floats as integers, and what cannot be sent left out.
fn sendable(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Number(number) => {
            let float = number.as_f64()?;
            // Through decimal digits, which the conversion under test does not use.
            let digits = format!("{float:.0}");
            let integer = digits.parse::<u64>().map(Value::from).or_else(|_| digits.parse::<i64>().map(Value::from));
            let integer = integer.ok().filter(|_| digits != "-0" && digits.parse() == Ok(float));
            if !number.is_f64() && integer.as_ref() != Some(value) {
                return None;
            }
            integer.unwrap_or_else(|| json!(float))
        }
        Value::Array(list) => list.iter().map(sendable).collect::<Option<Vec<_>>>()?.into(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| Some((key.clone(), sendable(value)?))).collect::<Option<_>>()?
        }
        other => other.clone(),
    })
}

proptest! {
    #[test]
    fn a_change_survives_or_is_refused(change in changes()) {
        let json = as_json(&change);
        let updates = &json["updates"];
        let null = updates.as_object().unwrap().values().any(Value::is_null);
        match (protobuf::encode(&change), sendable(updates).filter(|_| !null)) {
            (Ok(message), Some(sent)) => {
                let change = decode(&message).unwrap();
                let json = as_json(&change);
                prop_assert_eq!(&json["updates"], &sent);
                prop_assert_eq!(protobuf::encode(&change).unwrap(), message);
            }
            (Err(EncodeError::Null { .. } | EncodeError::Inexact { .. }), None) => {}
            (message, sent) => panic!("{message:?} {sent:?}"),
        }
    }
}
