//! What bytes from anywhere make the decoders allocate.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use state_dictionary::JsonChange;
use state_dictionary::wire::{DecodeError, msgpack, protobuf};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Decoder = fn(&[u8]) -> Result<JsonChange, DecodeError>;

/// All that was allocated while a message was read, given back or not, and whether it was a change.
fn allocated(decode: Decoder, message: &[u8]) -> (usize, bool) {
    let region = Region::new(ALLOCATOR);
    let is_change = decode(message).is_ok();
    (region.change().bytes_allocated, is_change)
}

/// One test, since two at a time would count each other's memory.
#[test]
fn memory_is_in_proportion_to_the_bytes_and_not_to_what_they_claim() {
    claimed_lengths();
    real_lengths();
}

/// Four billion elements, of which one is there.
fn claimed_lengths() {
    let mut messages: Vec<(Decoder, Vec<u8>)> = Vec::new();
    for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
        for before in [&b""[..], b"\x81\xa7updates", b"\x81\xa8removals", b"\x81\xa7updates\x81\xa1k"] {
            messages.push((msgpack::decode, [before, &[marker, 0xff, 0xff, 0xff, 0xff, 0xa0]].concat()));
        }
    }
    // An entry of a Struct, its key, a string and a list.
    for before in [&b"\x0a"[..], b"\x0a\x0b\x0a", b"\x0a\x0f\x0a\x01k\x12\x0a\x1a", b"\x0a\x0f\x0a\x01k\x12\x0a\x32"] {
        messages.push((protobuf::decode, [before, b"\xff\xff\xff\xff\x0f", &[0; 5]].concat()));
    }
    for (decode, message) in messages {
        let (bytes, is_change) = allocated(decode, &message);
        assert!(!is_change, "{message:x?}");
        assert!(bytes < 4 << 10, "{bytes} for {message:x?}");
    }
}

/// Another one for each number.
fn key(number: u16) -> Vec<u8> {
    [&b"\xa3"[..], &[number >> 14, number >> 7 & 0x7f, number & 0x7f].map(|part| u8::try_from(part).unwrap())].concat()
}

fn real_lengths() {
    const COUNT: u16 = 1_000;
    let filled = |head: &[u8], element: fn(u16) -> Vec<u8>| {
        let elements: Vec<u8> = (0..COUNT).flat_map(element).collect();
        [head, &COUNT.to_be_bytes(), &elements].concat()
    };
    let pair = |number| [key(number), vec![0xc0]].concat();
    let update = |elements: fn(u16) -> Vec<u8>| filled(b"\x81\xa7updates\x81\xa1k\xdc", elements);
    let in_protobuf = |value: serde_json::Value| {
        let list = vec![value; usize::from(COUNT)].into();
        protobuf::encode(&JsonChange::new().set("k", list)).unwrap()
    };
    let maps = (0..30).fold(json!(true), |inner, _| json!({ "": inner }));
    let messages: [(&str, Decoder, Vec<u8>); 8] = [
        ("nulls", msgpack::decode, update(|_| vec![0xc0])),
        ("lists in each other", msgpack::decode, update(|_| [&[0x91; 30][..], b"\xc0"].concat())),
        ("maps in each other", msgpack::decode, update(|_| [&b"\x81\xa0".repeat(30)[..], b"\xc0"].concat())),
        ("a large map", msgpack::decode, filled(b"\x81\xa7updates\x81\xa1k\xde", pair)),
        ("updates", msgpack::decode, filled(b"\x81\xa7updates\xde", pair)),
        ("removals", msgpack::decode, filled(b"\x81\xa8removals\xdc", key)),
        ("protobuf: bools", protobuf::decode, in_protobuf(json!(true))),
        ("protobuf: maps in each other", protobuf::decode, in_protobuf(maps)),
    ];
    for (what, decode, message) in messages {
        let (bytes, is_change) = allocated(decode, &message);
        assert!(is_change, "{what}");
        let each = bytes / message.len();
        println!("{what}: {each} bytes allocated for each byte of {}", message.len());
        assert!(each <= 400, "{what}: {each}");
    }
}
