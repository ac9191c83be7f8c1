//! Bytes that are meant to do harm, or are wrong by chance: an error or a change, never a panic. (What they make the
//! decoders allocate is measured in `tests/wire_memory.rs`.)

use crate::values::{NANOVER, NARUPA, head, saturated};
use fastrand::Rng;
use state_dictionary::JsonChange;
use state_dictionary::wire::{DecodeError, msgpack, protobuf};
use std::thread;

type Decoder = fn(&[u8]) -> Result<JsonChange, DecodeError>;
type Encoder = fn(&JsonChange) -> Vec<u8>;

/// Each form: how it is read, how it is written, and a good message.
const FORMS: [(Decoder, Encoder, &[u8]); 2] = [
    (|bytes| msgpack::decode_with(bytes, saturated), |change| msgpack::encode(change).unwrap(), NANOVER),
    (|bytes| protobuf::decode_with(bytes, saturated), |change| protobuf::encode(change).unwrap(), NARUPA),
];

/// What was read can be written, and is then read as the same.
fn try_to_read((decode, encode, _): (Decoder, Encoder, &[u8]), bytes: &[u8]) -> bool {
    match decode(bytes) {
        Ok(change) => {
            let written = encode(&change);
            assert_eq!(encode(&decode(&written).unwrap()), written, "{bytes:x?}");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

#[test]
fn arbitrary_bytes() {
    for form in FORMS {
        let mut rng = Rng::with_seed(1);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(..60)).map(|_| rng.u8(..)).collect();
            try_to_read(form, &bytes);
        }
    }
}

/// Bits flipped, bytes replaced, pieces cut out, doubled or moved.
#[test]
fn mutated_messages() {
    for form in FORMS {
        let mut rng = Rng::with_seed(2);
        let mut changes = 0;
        for _ in 0..5_000 {
            let mut bytes = form.2.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                let end = rng.usize(at..bytes.len().min(at + 20));
                match rng.u8(..5) {
                    0 => bytes[at] ^= 1 << rng.u8(..8),
                    1 => bytes[at] = rng.u8(..),
                    2 => bytes[at..end].fill(0xff),
                    3 => drop(bytes.drain(at..end)),
                    _ => {
                        let piece = bytes[at..end].to_vec();
                        let to = rng.usize(..bytes.len());
                        bytes.splice(to..to, piece);
                    }
                }
            }
            changes += usize::from(try_to_read(form, &bytes));
        }
        assert!((500..4_500).contains(&changes), "some are still messages and some are not: {changes} are");
    }
}

/// Every bit, one at a time.
#[test]
fn one_wrong_bit() {
    for form in FORMS {
        for bit in 0..form.2.len() * 8 {
            let mut bytes = form.2.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            try_to_read(form, &bytes);
        }
    }
}

/// On a stack on which no recursion over many would fit.
#[test]
fn hundreds_of_thousands_of_lists_and_maps_in_each_other() {
    let msgpack = |open: &[u8]| [b"\x81\xa7updates\x81\xa1k", &open.repeat(300_000)[..]].concat();
    // From the inside out: the field's number, and the length of all that is in it.
    let protobuf = |fields: &[u8]| {
        let mut reversed = Vec::new();
        for field in [2_u8, 1].into_iter().chain(fields.iter().copied().cycle().take(100_000)) {
            let head = head(field, reversed.len());
            reversed.extend(head.iter().rev());
        }
        reversed.reverse();
        reversed
    };
    let messages = [
        (FORMS[0], msgpack(b"\x91")),
        (FORMS[0], msgpack(b"\x81\xa1k")),
        (FORMS[0], b"\x91".repeat(300_000)),
        (FORMS[0], b"\x81".repeat(300_000)),
        (FORMS[1], protobuf(&[1, 6, 2, 1])),
        (FORMS[1], protobuf(&[5, 2, 1])),
        // Groups, which are skipped.
        (FORMS[1], b"\x3b".repeat(300_000)),
    ];
    for (form, message) in messages {
        assert!(message.len() >= 200_000);
        let body = move || assert!(!try_to_read(form, &message));
        let spawned = thread::Builder::new().stack_size(256 << 10).spawn(body);
        assert!(spawned.is_ok_and(|thread| thread.join().is_ok()));
    }
}
