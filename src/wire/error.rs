//! Errors of encoding and decoding.

use serde_json::Number;
use std::error::Error;
use std::fmt::{self, Display, Formatter};

/// Why a change cannot be encoded in a form.
///
/// ```
/// use serde_json::json;
/// use state_dictionary::JsonChange;
/// use state_dictionary::wire::{EncodeError, protobuf};
///
/// let refused = protobuf::encode(&JsonChange::new().set("id", json!(9_007_199_254_740_993_u64))).unwrap_err();
/// assert!(matches!(&refused, EncodeError::Inexact { key, .. } if key == "id"));
/// assert_eq!(refused.to_string(), "9007199254740993 in \"id\" cannot be represented exactly");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The change has conditions, which neither form can express.
    Conditions,
    /// The value of this key is null, which in a protobuf `Struct` would remove the key.
    Null {
        /// The key.
        key: String,
    },
    /// A number that the form cannot represent exactly. In a protobuf `Struct` every number is an `f64`.
    Inexact {
        /// The key whose value has it.
        key: String,
        /// The number.
        number: Number,
    },
    /// The value of this key is nested in more than [`MAX_DEPTH`](super::MAX_DEPTH) levels of lists and maps.
    TooDeep {
        /// The key.
        key: String,
    },
    /// The message would have more than 2³¹ − 1 bytes.
    TooLarge {
        /// How many bytes it would have.
        bytes: usize,
    },
}

impl Display for EncodeError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conditions => f.write_str("the change has conditions, which the form cannot express"),
            Self::Null { key } => write!(f, "the value of {key:?} is null, which would remove the key"),
            Self::Inexact { key, number } => write!(f, "{number} in {key:?} cannot be represented exactly"),
            Self::TooDeep { key } => too_deep(f, key),
            Self::TooLarge { bytes } => write!(f, "the message is too large: {bytes} bytes"),
        }
    }
}

impl Error for EncodeError {}

/// Why bytes are not a change.
///
/// ```
/// use state_dictionary::wire::{DecodeError, msgpack};
///
/// let decode = msgpack::decode::<String>;
/// assert_eq!(decode(b"\x81\xa7upd"), Err(DecodeError::Truncated));
/// assert_eq!(decode(b"\x80\x80"), Err(DecodeError::Trailing { bytes: 1 }));
/// assert_eq!(decode(b"\x90").unwrap_err().to_string(), "a list instead of a map of updates and removals");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the message does. (Of protobuf, that is [`Malformed`](Self::Malformed).)
    Truncated,
    /// The message ends before the bytes do.
    Trailing {
        /// How many bytes follow it.
        bytes: usize,
    },
    /// The bytes are not msgpack, or not protobuf.
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Something has a type that is not allowed at its place.
    Unexpected {
        /// The key whose value has it, if it is in a value.
        key: Option<String>,
        /// What was found.
        found: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The message has a field that is not allowed.
    UnknownField {
        /// Its name.
        name: String,
    },
    /// The message has a field twice, or a map has a key twice.
    Duplicate {
        /// The name of the field, or the key.
        name: String,
    },
    /// A number is infinite or not a number, which JSON cannot represent.
    NonFinite {
        /// The key whose value has it.
        key: String,
        /// The number.
        number: f64,
    },
    /// The value of this key is nested in more than [`MAX_DEPTH`](super::MAX_DEPTH) levels of lists and maps. (In
    /// protobuf, many more levels are [`Malformed`](Self::Malformed).)
    TooDeep {
        /// The key.
        key: String,
    },
}

impl Display for DecodeError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message is not complete"),
            Self::Trailing { bytes } => write!(f, "the message is followed by {bytes} bytes of something else"),
            Self::Malformed { reason } => f.write_str(reason),
            Self::Unexpected { key: None, found, expected } => write!(f, "{found} instead of {expected}"),
            Self::Unexpected { key: Some(key), found, expected } => {
                write!(f, "{found} instead of {expected} in the value of {key:?}")
            }
            Self::UnknownField { name } => write!(f, "a message has no field {name:?}"),
            Self::Duplicate { name } => write!(f, "{name:?} occurs twice"),
            Self::NonFinite { key, number } => write!(f, "{number} in the value of {key:?} is not a JSON number"),
            Self::TooDeep { key } => too_deep(f, key),
        }
    }
}

impl Error for DecodeError {}

fn too_deep(f: &mut Formatter<'_>, key: &str) -> fmt::Result {
    write!(f, "the value of {key:?} is nested too deeply")
}
