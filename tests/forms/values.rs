//! Values and changes, and what several of the files here do with them.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use state_dictionary::JsonChange;
use state_dictionary::wire::MAX_DEPTH;
use std::f64::consts::FRAC_1_SQRT_2;

/// A message as Python's msgpack 1.2.4 writes it, of the kinds of values that NanoVer's clients send; it has an infinite
/// number in it.
pub(crate) const NANOVER: &[u8] = include_bytes!("nanover.msgpack");
/// The like from Python's protobuf 7.36.2.
pub(crate) const NARUPA: &[u8] = include_bytes!("narupa.struct");

/// What is in both messages.
pub(crate) fn avatar() -> Value {
    let headset = json!({
        "name": "headset",
        "position": [0.125, 1.75, -0.5],
        "rotation": [0.0, FRAC_1_SQRT_2, 0.0, FRAC_1_SQRT_2],
    });
    json!({"playerid": "1f2e", "components": [headset], "color": [1.0, 0.25, 0.5, 1.0], "name": "Zoë"})
}

/// The largest numbers for infinite ones.
pub(crate) fn saturated(number: f64) -> Option<Value> {
    (!number.is_nan()).then(|| json!(f64::MAX.copysign(number)))
}

/// What comes before a protobuf field of so many bytes.
pub(crate) fn head(field: u8, mut len: usize) -> Vec<u8> {
    let mut head = vec![field << 3 | 2];
    while len > 0x7f {
        head.push(0x80 | u8::try_from(len & 0x7f).unwrap());
        len >>= 7;
    }
    head.push(u8::try_from(len).unwrap());
    head
}

/// So many lists in each other.
pub(crate) fn lists(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

/// So many maps in each other.
pub(crate) fn maps(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!({ "k": inner }))
}

/// As deep as can be sent, and one deeper.
pub(crate) fn depths() -> [(JsonChange, JsonChange); 2] {
    [lists, maps].map(|nest| (set(nest(MAX_DEPTH)), set(nest(MAX_DEPTH + 1))))
}

pub(crate) fn set(value: Value) -> JsonChange {
    JsonChange::new().set("key", value)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        ".{0,5}".prop_map(Value::from),
        "[a-z]{30,300}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 18, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..18).prop_map(Value::from),
            btree_map(".{0,3}", inner, 0..18).prop_map(|map| map.into_iter().collect())
        ]
    })
}

/// Some with several operations on one key.
pub(crate) fn changes() -> impl Strategy<Value = JsonChange> {
    vec(("[a-e]", prop::option::weighted(0.7, values())), 0..8).prop_map(|operations| {
        operations.into_iter().fold(JsonChange::new(), |change, (key, value)| match value {
            Some(value) => change.set(key, value),
            None => change.remove(key),
        })
    })
}
