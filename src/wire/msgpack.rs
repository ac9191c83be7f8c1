//! NanoVer's form: `{"updates": {key: value, ..}, "removals": [key, ..]}` in msgpack.
//!
//! In `updates` null is a value like any other. Integers of 64 bits, signed or not, and floats of 64 bits are
//! preserved. Binary data, extension types and keys that are not strings are errors, since JSON has no equivalent.

use super::{DecodeError, EncodeError, Location, MAX_BYTES, Parts, float, limited};
use crate::{Change, Delivery};
use rmp::Marker;
use rmp::decode::{read_array_len, read_f32, read_f64, read_int, read_map_len, read_str_len};
use rmp::encode::{ByteBuf, write_array_len, write_bool, write_f64, write_map_len, write_nil, write_sint};
use rmp::encode::{write_str, write_uint};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// A change as a message. Each key occurs once, with the last operation on it.
///
/// # Errors
/// [`EncodeError::Conditions`], [`EncodeError::TooDeep`], [`EncodeError::TooLarge`]; [`EncodeError::Inexact`] only if
/// `serde_json`'s feature `arbitrary_precision` is on.
///
/// ```
/// use serde_json::Value;
/// use state_dictionary::{JsonChange, wire::msgpack};
///
/// let message = msgpack::encode(&JsonChange::new().set("ball", Value::Null).remove("bat"))?;
/// assert_eq!(message, b"\x82\xa7updates\x81\xa4ball\xc0\xa8removals\x91\xa3bat");
/// # Ok::<(), state_dictionary::wire::EncodeError>(())
/// ```
pub fn encode<K: AsRef<str>>(change: &Change<K, Value>) -> Result<Vec<u8>, EncodeError> {
    encode_parts(&Parts::of_change(change)?)
}

/// A delivery as a message. The message cannot express that the delivery [is full](Delivery::is_full): a receiver that
/// applies it as a difference keeps the keys that were removed.
///
/// # Errors
/// As [`encode`], except for conditions. One value that does not fit is an error for the whole delivery, so a server
/// may [check changes](super::protobuf::encode_delivery) before it accepts them.
///
/// ```
/// use serde_json::json;
/// use state_dictionary::{JsonChange, JsonDictionary, wire::msgpack};
///
/// let room: JsonDictionary<u32> = JsonDictionary::new();
/// let buffer = room.change_buffer();
/// room.update_state(&1, JsonChange::new().set("ball", json!(1)))?;
/// let message = msgpack::encode_delivery(&buffer.flush()?)?;
/// assert_eq!(message, b"\x82\xa7updates\x81\xa4ball\x01\xa8removals\x90");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode_delivery<K: AsRef<str> + Eq, S>(delivery: &Delivery<K, Value, S>) -> Result<Vec<u8>, EncodeError> {
    encode_parts(&Parts::of_delivery(delivery))
}

/// The change that a message expresses. A key that is both updated and removed is removed; a missing field is empty.
///
/// # Errors
/// All of [`DecodeError`].
///
/// ```
/// use serde_json::json;
/// use state_dictionary::{JsonChange, wire::msgpack};
///
/// let change = msgpack::decode(b"\x81\xa7updates\x81\xa4ball\x92\x01\xc0")?;
/// assert_eq!(change, JsonChange::new().set("ball", json!([1, null])));
/// # Ok::<(), state_dictionary::wire::DecodeError>(())
/// ```
pub fn decode<K: for<'a> From<&'a str>>(message: &[u8]) -> Result<Change<K, Value>, DecodeError> {
    decode_with(message, |_| None)
}

/// [`decode`], with the result of `non_finite` in place of each number that is infinite or not a number, if it returns
/// one.
///
/// # Errors
/// As [`decode`].
///
/// ```
/// use serde_json::json;
/// use state_dictionary::wire::{DecodeError, msgpack};
///
/// let message = b"\x81\xa7updates\x81\xa9max_force\xcb\x7f\xf0\0\0\0\0\0\0";
/// let refused = msgpack::decode::<String>(message);
/// assert!(matches!(refused, Err(DecodeError::NonFinite { number: f64::INFINITY, .. })));
///
/// // The largest finite number stands for infinity; NaN is still refused.
/// let largest = |number: f64| (!number.is_nan()).then(|| json!(f64::MAX.copysign(number)));
/// let change = msgpack::decode_with::<String>(message, largest)?;
/// assert_eq!(change.operations().next().unwrap().1.unwrap().as_f64(), Some(f64::MAX));
/// # Ok::<(), DecodeError>(())
/// ```
pub fn decode_with<K: for<'a> From<&'a str>>(
    message: &[u8],
    mut non_finite: impl FnMut(f64) -> Option<Value>,
) -> Result<Change<K, Value>, DecodeError> {
    let mut input = Input(message);
    let (mut updates, mut removals) = (None, None);
    for _ in 0..input.map("a map of updates and removals")? {
        let name = input.string("the name of a field")?;
        let repeated = match name {
            "updates" => updates.replace(input.updates(&mut non_finite)?).is_some(),
            "removals" => removals.replace(input.removals()?).is_some(),
            _ => return Err(DecodeError::UnknownField { name: name.to_owned() }),
        };
        if repeated {
            return Err(DecodeError::Duplicate { name: name.to_owned() });
        }
    }
    match input.0.len() {
        0 => Ok(Change::from_parts(updates.unwrap_or_default(), removals.unwrap_or_default())),
        bytes => Err(DecodeError::Trailing { bytes }),
    }
}

fn encode_parts(parts: &Parts<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut output = Output(ByteBuf::new());
    output.map(2);
    output.string("updates");
    output.map(parts.updates.len());
    for (key, value) in &parts.updates {
        output.string(key);
        output.value(value, Location::value_of(key))?;
    }
    output.string("removals");
    output.array(parts.removals.len());
    for key in &parts.removals {
        output.string(key);
    }
    limited(output.0.into_vec(), MAX_BYTES)
}

struct Output(ByteBuf);

#[allow(clippy::cast_possible_truncation)] // with more elements it has too many bytes, which `limited` refuses
impl Output {
    fn map(&mut self, len: usize) {
        let Ok(_) = write_map_len(&mut self.0, len as u32);
    }

    fn array(&mut self, len: usize) {
        let Ok(_) = write_array_len(&mut self.0, len as u32);
    }

    fn string(&mut self, string: &str) {
        let Ok(()) = write_str(&mut self.0, string);
    }

    fn value(&mut self, value: &Value, place: Location<'_>) -> Result<(), EncodeError> {
        let inside = || place.inside().ok_or_else(|| EncodeError::TooDeep { key: place.key.to_owned() });
        match value {
            Value::Null => {
                let Ok(()) = write_nil(&mut self.0);
            }
            Value::Bool(bool) => {
                let Ok(()) = write_bool(&mut self.0, *bool);
            }
            Value::Number(number) => {
                if let Some(number) = number.as_u64() {
                    let Ok(_) = write_uint(&mut self.0, number);
                } else if let Some(number) = number.as_i64() {
                    let Ok(_) = write_sint(&mut self.0, number);
                } else if let Some(number) = number.as_f64().filter(|_| number.is_f64()) {
                    let Ok(()) = write_f64(&mut self.0, number);
                } else {
                    return Err(EncodeError::Inexact { key: place.key.to_owned(), number: number.clone() });
                }
            }
            Value::String(string) => self.string(string),
            Value::Array(list) => {
                let inside = inside()?;
                self.array(list.len());
                for value in list {
                    self.value(value, inside)?;
                }
            }
            Value::Object(map) => {
                let inside = inside()?;
                self.map(map.len());
                for (key, value) in map {
                    self.string(key);
                    self.value(value, inside)?;
                }
            }
        }
        Ok(())
    }
}

/// The unread rest of a message.
struct Input<'a>(&'a [u8]);

/// The beginning of a value: all of it, or how many elements follow.
enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    String(&'a str),
    Array(u32),
    Map(u32),
    Binary,
    Extension,
}

impl Token<'_> {
    fn is_not(&self, expected: &'static str, key: Option<&str>) -> DecodeError {
        let found = match self {
            Self::Nil => "null",
            Self::Bool(_) => "a bool",
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Float(_) => "a float",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
            Self::Binary => "binary data",
            Self::Extension => "an extension type",
        };
        DecodeError::Unexpected { key: key.map(str::to_owned), found, expected }
    }
}

impl<'a> Input<'a> {
    fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        fn complete<T, E>(read: Result<T, E>) -> Result<T, DecodeError> {
            // Its marker shows that the type is right.
            read.map_err(|_| DecodeError::Truncated)
        }
        let Some((&first, rest)) = self.0.split_first() else { return Err(DecodeError::Truncated) };
        Ok(match Marker::from_u8(first) {
            Marker::Null => self.skip_to(rest, Token::Nil),
            Marker::True => self.skip_to(rest, Token::Bool(true)),
            Marker::False => self.skip_to(rest, Token::Bool(false)),
            Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
                Token::Unsigned(complete(read_int(&mut self.0))?)
            }
            Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => {
                Token::Signed(complete(read_int(&mut self.0))?)
            }
            Marker::F32 => Token::Float(complete(read_f32(&mut self.0))?.into()),
            Marker::F64 => Token::Float(complete(read_f64(&mut self.0))?),
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let len = complete(read_str_len(&mut self.0))? as usize;
                let (string, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
                let string = std::str::from_utf8(string)
                    .map_err(|error| DecodeError::Malformed { reason: format!("a string is not UTF-8: {error}") })?;
                self.skip_to(rest, Token::String(string))
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                Token::Array(complete(read_array_len(&mut self.0))?)
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => Token::Map(complete(read_map_len(&mut self.0))?),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => Token::Binary,
            Marker::FixExt1 | Marker::FixExt2 | Marker::FixExt4 | Marker::FixExt8 | Marker::FixExt16 => {
                Token::Extension
            }
            Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => Token::Extension,
            Marker::Reserved => return Err(DecodeError::Malformed { reason: "msgpack has no byte 0xc1".to_owned() }),
        })
    }

    fn skip_to(&mut self, rest: &'a [u8], token: Token<'a>) -> Token<'a> {
        self.0 = rest;
        token
    }

    fn map(&mut self, expected: &'static str) -> Result<u32, DecodeError> {
        match self.token()? {
            Token::Map(len) => Ok(len),
            other => Err(other.is_not(expected, None)),
        }
    }

    fn string(&mut self, expected: &'static str) -> Result<&'a str, DecodeError> {
        match self.token()? {
            Token::String(string) => Ok(string),
            other => Err(other.is_not(expected, None)),
        }
    }

    fn updates<K: From<&'a str>>(
        &mut self,
        non_finite: &mut impl FnMut(f64) -> Option<Value>,
    ) -> Result<Vec<(K, Value)>, DecodeError> {
        let mut seen = HashSet::new();
        // Without reserving the capacity that the message claims.
        let mut updates = Vec::new();
        for _ in 0..self.map("a map as updates")? {
            let key = self.string("a string as a key of updates")?;
            if !seen.insert(key) {
                return Err(DecodeError::Duplicate { name: key.to_owned() });
            }
            updates.push((key.into(), self.value(Location::value_of(key), non_finite)?));
        }
        Ok(updates)
    }

    fn removals<K: From<&'a str>>(&mut self) -> Result<Vec<K>, DecodeError> {
        let len = match self.token()? {
            Token::Array(len) => len,
            other => return Err(other.is_not("a list as removals", None)),
        };
        (0..len).map(|_| self.string("a string as a removal").map(K::from)).collect()
    }

    fn value(
        &mut self,
        place: Location<'_>,
        non_finite: &mut impl FnMut(f64) -> Option<Value>,
    ) -> Result<Value, DecodeError> {
        let inside = || place.inside().ok_or_else(|| DecodeError::TooDeep { key: place.key.to_owned() });
        match self.token()? {
            Token::Nil => Ok(Value::Null),
            Token::Bool(bool) => Ok(bool.into()),
            Token::Unsigned(number) => Ok(number.into()),
            Token::Signed(number) => Ok(number.into()),
            Token::Float(number) => float(number, place.key, non_finite),
            Token::String(string) => Ok(string.into()),
            Token::Array(len) => {
                let inside = inside()?;
                let mut list = Vec::new();
                for _ in 0..len {
                    list.push(self.value(inside, non_finite)?);
                }
                Ok(list.into())
            }
            Token::Map(len) => {
                let inside = inside()?;
                let mut map = Map::new();
                for _ in 0..len {
                    let key = match self.token()? {
                        Token::String(key) => key,
                        other => return Err(other.is_not("a string as a key of a map", Some(place.key))),
                    };
                    if map.insert(key.to_owned(), self.value(inside, non_finite)?).is_some() {
                        return Err(DecodeError::Duplicate { name: key.to_owned() });
                    }
                }
                Ok(map.into())
            }
            other @ (Token::Binary | Token::Extension) => Err(other.is_not("a JSON value", Some(place.key))),
        }
    }
}
