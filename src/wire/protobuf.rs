//! The form of Narupa and of older NanoVer: a message `google.protobuf.Struct` with the value of every key that was
//! set, and null for every key that was removed.
//!
//! So a key cannot be set to null; deeper inside a value null is allowed. All numbers are floats of 64 bits: an integer
//! that such a float cannot represent exactly is an error, and a float that is whole is decoded as an integer, since
//! JSON does not distinguish them. As always in protobuf, fields that a `Struct` does not have are skipped (but if
//! there are fields, one must be a `Struct`'s), and of two values for one key the later counts.
//!
//! In Narupa's services the `Struct` is a field of another message. In protobuf a field of type `bytes` and an embedded
//! message are encoded alike, so in your own schema the field's type can be `bytes`.

use super::{DecodeError, EncodeError, Location, MAX_BYTES, Parts, float, limited};
use crate::{Change, Delivery};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, NullValue, Struct};
use serde_json::{Number, Value};

/// A change as a message.
///
/// # Errors
/// All of [`EncodeError`].
///
/// ```
/// use serde_json::{Value, json};
/// use state_dictionary::JsonChange;
/// use state_dictionary::wire::{EncodeError, protobuf};
///
/// let message = protobuf::encode(&JsonChange::new().set("ball", json!([0.5])).remove("bat"))?;
/// assert_eq!(protobuf::decode::<String>(&message)?.len(), 2);
///
/// let refused = protobuf::encode(&JsonChange::new().set("ball", Value::Null));
/// assert_eq!(refused, Err(EncodeError::Null { key: "ball".to_owned() }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode<K: AsRef<str>>(change: &Change<K, Value>) -> Result<Vec<u8>, EncodeError> {
    encode_parts(&Parts::of_change(change)?)
}

/// A delivery as a message. The message cannot express that the delivery [is full](Delivery::is_full): a receiver that
/// applies it as a difference keeps the keys that were removed.
///
/// One value that does not fit, whichever client has set it, is an error for the whole delivery, and the buffer has
/// already moved past it. So a server whose clients use this form, and that can get values from elsewhere too, checks
/// that it can [`encode`] a change before it accepts it (and before it adds conditions).
///
/// # Errors
/// As [`encode`], except for conditions.
///
/// ```
/// use serde_json::{Value, json};
/// use state_dictionary::wire::{EncodeError, protobuf};
/// use state_dictionary::{JsonChange, JsonDictionary};
///
/// let room: JsonDictionary<u32> = JsonDictionary::new();
/// let accept = |client: u32, change: JsonChange| -> Result<(), Box<dyn std::error::Error>> {
///     protobuf::encode(&change)?; // otherwise the error goes to the client
///     room.update_state(&client, change)?;
///     Ok(())
/// };
/// accept(1, JsonChange::new().set("ball", json!(0.5)))?;
/// assert!(accept(2, JsonChange::new().set("bat", Value::Null)).is_err());
/// assert!(accept(2, JsonChange::new().set("id", json!(u64::MAX))).is_err());
/// let buffer = room.change_buffer();
/// protobuf::encode_delivery(&buffer.flush()?)?;
///
/// // Without that check the error is in the delivery to all clients, and the next delivery begins after it.
/// room.update_state(&2, JsonChange::new().set("bat", Value::Null).set("ball", json!(1)))?;
/// let lost = protobuf::encode_delivery(&buffer.flush()?);
/// assert_eq!(lost, Err(EncodeError::Null { key: "bat".to_owned() }));
/// assert!(buffer.try_flush().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode_delivery<K: AsRef<str> + Eq, S>(delivery: &Delivery<K, Value, S>) -> Result<Vec<u8>, EncodeError> {
    encode_parts(&Parts::of_delivery(delivery))
}

/// The change that a message expresses, with the keys in alphabetical order.
///
/// # Errors
/// [`DecodeError::Malformed`], [`DecodeError::Unexpected`] for a value without content, [`DecodeError::NonFinite`],
/// [`DecodeError::TooDeep`].
///
/// ```
/// use serde_json::json;
/// use state_dictionary::JsonChange;
/// use state_dictionary::wire::protobuf;
///
/// let message = b"\x0a\x0b\x0a\x04ball\x12\x03\x1a\x01x\x0a\x09\x0a\x03bat\x12\x02\x08\x00";
/// let change = protobuf::decode(message)?;
/// assert_eq!(change, JsonChange::new().set("ball", json!("x")).remove("bat"), "a null removes");
/// # Ok::<(), state_dictionary::wire::DecodeError>(())
/// ```
pub fn decode<K: for<'a> From<&'a str>>(message: &[u8]) -> Result<Change<K, Value>, DecodeError> {
    decode_with(message, |_| None)
}

/// [`decode`], with the result of `non_finite` in place of each number that is infinite or not a number, if it returns
/// one. See [`msgpack::decode_with`](super::msgpack::decode_with).
///
/// # Errors
/// As [`decode`].
///
/// ```
/// use serde_json::Value;
/// use state_dictionary::JsonChange;
/// use state_dictionary::wire::protobuf;
///
/// let message = b"\x0a\x0e\x0a\x01f\x12\x09\x11\0\0\0\0\0\0\xf0\x7f"; // "f" is infinite
/// assert!(protobuf::decode::<String>(message).is_err());
/// let change = protobuf::decode_with(message, |_| Some(Value::Null))?;
/// assert_eq!(change, JsonChange::new().set("f", Value::Null));
/// # Ok::<(), state_dictionary::wire::DecodeError>(())
/// ```
pub fn decode_with<K: for<'a> From<&'a str>>(
    message: &[u8],
    mut non_finite: impl FnMut(f64) -> Option<Value>,
) -> Result<Change<K, Value>, DecodeError> {
    let malformed = |reason| DecodeError::Malformed { reason };
    let Struct { fields } = Struct::decode(message).map_err(|error| malformed(error.to_string()))?;
    if fields.is_empty() && !message.is_empty() {
        return Err(malformed("the message has fields, and none of them is a field of Struct".to_owned()));
    }
    let mut change = Change::new();
    for (key, value) in fields {
        change = match value.kind {
            Some(Kind::NullValue(_)) => change.remove(&*key),
            kind => change.set(&*key, from_kind(kind, Location::value_of(&key), &mut non_finite)?),
        };
    }
    Ok(change)
}

fn encode_parts(parts: &Parts<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut message = Struct::default();
    for (key, value) in &parts.updates {
        if value.is_null() {
            return Err(EncodeError::Null { key: (*key).to_owned() });
        }
        message.fields.insert((*key).to_owned(), to_value(value, Location::value_of(key))?);
    }
    let null = || prost_types::Value::from(Kind::NullValue(NullValue::NullValue.into()));
    message.fields.extend(parts.removals.iter().map(|key| ((*key).to_owned(), null())));
    limited(message.encode_to_vec(), MAX_BYTES)
}

fn to_value(value: &Value, place: Location<'_>) -> Result<prost_types::Value, EncodeError> {
    let inside = || place.inside().ok_or_else(|| EncodeError::TooDeep { key: place.key.to_owned() });
    let kind = match value {
        Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        Value::Bool(bool) => Kind::BoolValue(*bool),
        Value::Number(number) => Kind::NumberValue(
            exact(number).ok_or_else(|| EncodeError::Inexact { key: place.key.to_owned(), number: number.clone() })?,
        ),
        Value::String(string) => Kind::StringValue(string.clone()),
        Value::Array(list) => {
            let inside = inside()?;
            let values = list.iter().map(|value| to_value(value, inside)).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        Value::Object(map) => {
            let inside = inside()?;
            let fields = map.iter().map(|(key, value)| Ok((key.clone(), to_value(value, inside)?)));
            Kind::StructValue(Struct { fields: fields.collect::<Result<_, _>>()? })
        }
    };
    Ok(kind.into())
}

fn from_kind(
    kind: Option<Kind>,
    place: Location<'_>,
    non_finite: &mut impl FnMut(f64) -> Option<Value>,
) -> Result<Value, DecodeError> {
    let inside = || place.inside().ok_or_else(|| DecodeError::TooDeep { key: place.key.to_owned() });
    match kind {
        Some(Kind::NullValue(_)) => Ok(Value::Null),
        Some(Kind::BoolValue(bool)) => Ok(bool.into()),
        Some(Kind::NumberValue(number)) => match whole(number) {
            Some(whole) => Ok(whole.into()),
            None => float(number, place.key, non_finite),
        },
        Some(Kind::StringValue(string)) => Ok(string.into()),
        Some(Kind::ListValue(ListValue { values })) => {
            let inside = inside()?;
            values.into_iter().map(|value| from_kind(value.kind, inside, non_finite)).collect()
        }
        Some(Kind::StructValue(Struct { fields })) => {
            let inside = inside()?;
            fields.into_iter().map(|(key, value)| Ok((key, from_kind(value.kind, inside, non_finite)?))).collect()
        }
        None => Err(DecodeError::Unexpected {
            key: Some(place.key.to_owned()),
            found: "nothing",
            expected: "a kind of value",
        }),
    }
}

/// The float that is exactly this number, if there is one.
fn exact(number: &Number) -> Option<f64> {
    let float = number.as_f64()?;
    (number.is_f64() || whole(float).as_ref() == Some(number)).then_some(float)
}

/// The integer of 64 bits that is exactly this float, if there is one. Of minus zero there is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked before
fn whole(float: f64) -> Option<Number> {
    const BEYOND_I64: f64 = 9_223_372_036_854_775_808.0;
    const BEYOND_U64: f64 = 2.0 * BEYOND_I64;
    if float.fract() != 0.0 || (float == 0.0 && float.is_sign_negative()) {
        None
    } else if (0.0..BEYOND_U64).contains(&float) {
        Some((float as u64).into())
    } else if (-BEYOND_I64..0.0).contains(&float) {
        Some((float as i64).into())
    } else {
        None
    }
}
