//! The messages of NanoVer and Narupa servers and clients: changes of string keys and JSON values as bytes.
//!
//! [`msgpack`] is what NanoVer sends: a map of `updates` and `removals`. [`protobuf`] is the older form, a `Struct` in
//! which a null removes its key.
//!
//! Neither form can express everything, and nothing is lost silently: what does not fit is an error. Conditions fit
//! into neither; both allow values of up to [`MAX_DEPTH`] nested lists and maps. A number that is infinite or not a
//! number fits into both, but not into JSON; [`msgpack::decode_with`] and [`protobuf::decode_with`] let the caller
//! replace it. NanoVer's own clients do send an infinite `max_force`.
//!
//! A value that does not fit is best refused when a client sends it: later it is in the deliveries to all clients. See
//! [`protobuf::encode_delivery`].
//!
//! Decoding is safe for bytes from any source. It takes time and memory in proportion to their number (up to 400 bytes
//! for each), whatever lengths they claim, and a bounded amount of stack. The caller limits how many bytes are
//! accepted.
//!
//! ```
//! use serde_json::json;
//! use state_dictionary::{JsonChange, wire};
//!
//! let change = JsonChange::new().set("ball", json!({"x": 0.5})).remove("bat");
//! let message = wire::msgpack::encode(&change)?;
//! assert_eq!(message, b"\x82\xa7updates\x81\xa4ball\x81\xa1x\xcb\x3f\xe0\0\0\0\0\0\0\xa8removals\x91\xa3bat");
//! assert_eq!(wire::msgpack::decode::<std::sync::Arc<str>>(&message)?, change);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod msgpack;
pub mod protobuf;

mod error;

pub use error::{DecodeError, EncodeError};

use crate::serde::latest;
use crate::{Change, Delivery};
use serde_json::{Number, Value};

/// How many levels of lists and maps the value of a key may have: as many as the reference implementation of protobuf
/// reads.
pub const MAX_DEPTH: usize = 32;

/// The most bytes that a message may have: protobuf's limit.
const MAX_BYTES: usize = i32::MAX as usize;

/// What both forms express. Each key occurs once.
struct Parts<'a> {
    updates: Vec<(&'a str, &'a Value)>,
    removals: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn of_change<K: AsRef<str>>(change: &'a Change<K, Value>) -> Result<Self, EncodeError> {
        if change.conditions().len() > 0 {
            return Err(EncodeError::Conditions);
        }
        let mut parts = Self { updates: Vec::new(), removals: Vec::new() };
        for (key, value) in latest(change.operations().map(|(key, value)| (key.as_ref(), value))) {
            match value {
                Some(value) => parts.updates.push((key, value)),
                None => parts.removals.push(key),
            }
        }
        Ok(parts)
    }

    fn of_delivery<K: AsRef<str> + Eq, S>(delivery: &'a Delivery<K, Value, S>) -> Self {
        Self {
            updates: delivery.updates().map(|(key, entry)| (key.as_ref(), &**entry)).collect(),
            removals: delivery.removals().map(AsRef::as_ref).collect(),
        }
    }
}

/// Where in a change an encoder or a decoder is: in the value of a key, at some depth.
#[derive(Clone, Copy)]
struct Location<'a> {
    key: &'a str,
    depth: usize,
}

impl<'a> Location<'a> {
    fn value_of(key: &'a str) -> Self {
        Self { key, depth: 0 }
    }

    /// One level deeper, or `None` if that is too deep.
    fn inside(self) -> Option<Self> {
        (self.depth < MAX_DEPTH).then(|| Self { depth: self.depth + 1, ..self })
    }
}

/// A float as JSON, or the result of `non_finite` if JSON cannot represent it.
fn float(number: f64, key: &str, non_finite: &mut impl FnMut(f64) -> Option<Value>) -> Result<Value, DecodeError> {
    match Number::from_f64(number) {
        Some(number) => Ok(Value::Number(number)),
        None => non_finite(number).ok_or_else(|| DecodeError::NonFinite { key: key.to_owned(), number }),
    }
}

fn limited(bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, EncodeError> {
    if bytes.len() > limit { Err(EncodeError::TooLarge { bytes: bytes.len() }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_so_many_bytes_and_no_more() {
        assert_eq!(limited(vec![7; 3], 3), Ok(vec![7; 3]));
        assert_eq!(limited(vec![7; 4], 3), Err(EncodeError::TooLarge { bytes: 4 }));
    }
}
