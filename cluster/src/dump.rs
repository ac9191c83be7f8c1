//! Showing what is in a log, without knowing the types of its keys and values.

use crate::log::{Record, What};
use crate::operation::{form, split};
use serde_json::{Value, json};

/// A record as JSON, for people to read: where it is, whose it is, and its operations. What it does not know it shows as an
/// error, in its place.
///
/// ```
/// use bytes::Bytes;
/// use state_dictionary_cluster::{NodeId, Place, Record, What, dump};
///
/// let record = Record { place: Place(17), node: NodeId(1), what: What::Gone };
/// assert_eq!(dump(&record).to_string(), r#"{"gone":true,"node":"0000000000000001","place":17}"#);
/// ```
#[must_use]
pub fn dump(Record { place, node, what }: &Record) -> Value {
    let (place, node) = (place.0, node.to_string());
    match what {
        What::Gone => json!({ "place": place, "node": node, "gone": true }),
        What::Entry { number, bytes } => match bytes.split_first() {
            Some((&form::WHOLE, operations)) => {
                let operations: Vec<_> = split(operations).map(shown).collect();
                json!({ "place": place, "node": node, "number": number, "operations": operations })
            }
            Some((&(form::FIRST | form::MIDDLE | form::LAST), part)) => {
                json!({ "place": place, "node": node, "number": number, "part_of": part.len() })
            }
            Some((form, _)) => {
                json!({ "place": place, "node": node, "number": number, "error": format!("unknown form {form}") })
            }
            None => json!({ "place": place, "node": node, "number": number, "operations": [] }),
        },
    }
}

fn shown(operation: Result<&[u8], String>) -> Value {
    let read = operation.and_then(|bytes| {
        let mut value = rmp_serde::Deserializer::from_read_ref(bytes);
        serde_transcode::transcode(&mut value, serde_json::value::Serializer).map_err(|error| error.to_string())
    });
    read.unwrap_or_else(|error| json!({ "error": error }))
}
