//! Why a change could not be written, or bytes not be read.

use serde_json::Number;
use std::error::Error;
use std::fmt::{self, Display, Formatter};

/// Why a change cannot be written in a form.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The change has conditions, for which neither form has a place.
    Conditions,
    /// The value of this key is null, which in a protobuf `Struct` would remove the key.
    Null {
        /// The key.
        key: String,
    },
    /// A number that the form cannot hold exactly. In a protobuf `Struct` every number is an `f64`.
    Inexact {
        /// The key in whose value it is.
        key: String,
        /// The number.
        number: Number,
    },
    /// The value of this key has more than [`MAX_DEPTH`](super::MAX_DEPTH) lists and maps in each other.
    TooDeep {
        /// The key.
        key: String,
    },
    /// The message would have more than 2³¹ − 1 bytes.
    TooLarge {
        /// How many it would have.
        bytes: usize,
    },
}

impl Display for EncodeError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conditions => f.write_str("the change has conditions, which the form cannot carry"),
            Self::Null { key } => write!(f, "{key:?} is to be null, which would remove it"),
            Self::Inexact { key, number } => write!(f, "{number} in {key:?} cannot be held exactly"),
            Self::TooDeep { key } => too_deep(f, key),
            Self::TooLarge { bytes } => write!(f, "a message of {bytes} bytes is too large"),
        }
    }
}

impl Error for EncodeError {}

/// Why bytes are not a change.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end before the message does. (Of protobuf, that is [`Malformed`](Self::Malformed).)
    Truncated,
    /// The message ends before they do.
    Trailing {
        /// How many bytes follow it.
        bytes: usize,
    },
    /// They are not msgpack, or not protobuf.
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Something is of a type that cannot stand where it is.
    Unexpected {
        /// The key in whose value it is, if it is in one.
        key: Option<String>,
        /// What there is.
        found: &'static str,
        /// What there must be.
        expected: &'static str,
    },
    /// The message has a field that it should not have.
    UnknownField {
        /// Its name.
        name: String,
    },
    /// The message has a field twice, or a map has a key twice.
    Duplicate {
        /// The name of the field, or the key.
        name: String,
    },
    /// A number is infinite or not a number, which JSON cannot hold.
    NonFinite {
        /// The key in whose value it is.
        key: String,
        /// The number.
        number: f64,
    },
    /// The value of this key has more than [`MAX_DEPTH`](super::MAX_DEPTH) lists and maps in each other. (Much more of
    /// them in protobuf is [`Malformed`](Self::Malformed).)
    TooDeep {
        /// The key.
        key: String,
    },
}

impl Display for DecodeError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message is not complete"),
            Self::Trailing { bytes } => write!(f, "the message is followed by {bytes} bytes that do not belong to it"),
            Self::Malformed { reason } => f.write_str(reason),
            Self::Unexpected { key: None, found, expected } => write!(f, "{found} instead of {expected}"),
            Self::Unexpected { key: Some(key), found, expected } => {
                write!(f, "{found} instead of {expected} in the value of {key:?}")
            }
            Self::UnknownField { name } => write!(f, "a message has no field {name:?}"),
            Self::Duplicate { name } => write!(f, "{name:?} is there twice"),
            Self::NonFinite { key, number } => write!(f, "{number} in the value of {key:?} is no number of JSON"),
            Self::TooDeep { key } => too_deep(f, key),
        }
    }
}

impl Error for DecodeError {}

fn too_deep(f: &mut Formatter<'_>, key: &str) -> fmt::Result {
    write!(f, "the value of {key:?} is nested too deep")
}
