//! The state messages of recorded sessions, byte by byte as NanoVer wrote them. Those are not in this repository:
//! `NANOVER_RECORDINGS` says in which folder files `*.nanover.zip` are.

use crate::values::saturated;
use rmpv::decode::read_value;
use serde_json::{Value, json};
use state_dictionary::wire::{DecodeError, msgpack, protobuf};
use state_dictionary::{JsonChange, JsonDictionary};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

#[test]
fn every_state_message_of_the_recordings() {
    let Some(folder) = std::env::var_os("NANOVER_RECORDINGS") else {
        eprintln!("skipped: NANOVER_RECORDINGS is not set");
        return;
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let recordings: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(".nanover.zip")).collect();
    assert!(!recordings.is_empty(), "no recordings there");
    for recording in recordings {
        let states = states(&recording);
        assert!(!states.is_empty());
        replay(&states);
    }
}

/// The state messages of a recording.
fn states(recording: &Path) -> Vec<Vec<u8>> {
    let mut archive = ZipArchive::new(File::open(recording).unwrap()).unwrap();
    let mut contents = |name: &str| {
        let mut bytes = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let (index, messages) = (contents("index.msgpack"), contents("messages.msgpack"));
    let index: Value = rmp_serde::from_slice(&index).unwrap();
    let mut states = Vec::new();
    for entry in index.as_array().unwrap() {
        let [offset, length] = ["offset", "length"].map(|name| usize::try_from(entry[name].as_u64().unwrap()).unwrap());
        let mut message = &messages[offset..offset + length];
        for _ in 0..rmp::decode::read_map_len(&mut message).unwrap() {
            let is_state = read_value(&mut message).unwrap().as_str() == Some("state");
            let before = message;
            read_value(&mut message).unwrap();
            if is_state {
                states.push(before[..before.len() - message.len()].to_vec());
            }
        }
    }
    states
}

/// Each is read right, written as it was, and does in a dictionary what it should; and through the older form as well.
fn replay(states: &[Vec<u8>]) {
    let dictionary = JsonDictionary::<u8>::new();
    let buffer = dictionary.change_buffer();
    let replicas = [JsonDictionary::<u8>::new(), JsonDictionary::<u8>::new()];
    let mut infinite = 0;
    for state in states {
        let change: JsonChange = msgpack::decode_with(state, saturated).unwrap();
        let original = read_value(&mut &state[..]).unwrap();
        let read = serde_json::to_value(&change).unwrap();
        assert!(is_same(&original, &read), "{original} {read}");
        assert_eq!(msgpack::encode(&change).unwrap().len(), state.len());
        match msgpack::decode::<String>(state) {
            Ok(_) => {}
            Err(DecodeError::NonFinite { .. }) => infinite += 1,
            Err(other) => panic!("{other}"),
        }

        dictionary.update_state(&0, change).unwrap();
        if let Ok(delivery) = buffer.try_flush() {
            let messages =
                [msgpack::encode_delivery(&delivery), protobuf::encode_delivery(&delivery)].map(Result::unwrap);
            let changes = [msgpack::decode(&messages[0]), protobuf::decode(&messages[1])];
            for (replica, change) in replicas.iter().zip(changes) {
                replica.update_state(&0, change.unwrap()).unwrap();
            }
        }
    }
    let [content, newer, older] = [&dictionary, &replicas[0], &replicas[1]]
        .map(|dictionary| serde_json::to_value(dictionary.snapshot()).unwrap());
    assert_eq!(newer, content);
    assert!(is_equal(&older, &content));
    eprintln!("{} messages, {infinite} of them with an infinite number", states.len());
}

fn is_same(original: &rmpv::Value, read: &Value) -> bool {
    match (original, read) {
        (rmpv::Value::Nil, Value::Null) => true,
        (rmpv::Value::Boolean(original), Value::Bool(read)) => original == read,
        (rmpv::Value::Integer(original), Value::Number(read)) => original.to_string() == read.to_string(),
        (rmpv::Value::F64(original), read @ Value::Number(_)) => saturated(*original)
            .is_some_and(|saturated| if original.is_finite() { read == &json!(original) } else { read == &saturated }),
        (rmpv::Value::String(original), Value::String(read)) => original.as_str() == Some(&**read),
        (rmpv::Value::Array(original), Value::Array(read)) => {
            original.len() == read.len() && original.iter().zip(read).all(|(original, read)| is_same(original, read))
        }
        (rmpv::Value::Map(original), Value::Object(read)) => {
            original.len() == read.len()
                && original.iter().all(|(key, value)| {
                    key.as_str().and_then(|key| read.get(key)).is_some_and(|read| is_same(value, read))
                })
        }
        _ => false,
    }
}

/// Numbers compared as floats.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| is_equal(one, other)))
        }
        _ => one == other,
    }
}
