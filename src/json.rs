//! The usual instance: string keys and JSON values.

use crate::{Change, Delivery, Snapshot, StateDictionary};
use serde_json::Value;
use std::sync::Arc;

/// A dictionary of JSON values under string keys. Tokens are strings too, unless another type is given.
///
/// Keys and tokens are `Arc<str>`, since they are cloned often, not `String`. So the types that have no short name here are
/// `Sessions<Arc<str>, Value, Arc<str>>`, `Broadcast<Arc<str>, Value, M>` and so on. To read one key, a `&str` will do.
///
/// ```
/// use serde_json::json;
/// use state_dictionary::{JsonChange, JsonDictionary};
/// use std::sync::Arc;
///
/// let dictionary: JsonDictionary = JsonDictionary::new();
/// let buffer = dictionary.change_buffer();
/// let alice: Arc<str> = "alice".into();
///
/// // What a client sent.
/// let change: JsonChange = serde_json::from_str(r#"{"updates": {"ball": {"x": 0.5}}, "removals": ["bat"]}"#)?;
/// dictionary.update_state(&alice, change)?;
/// assert_eq!(dictionary.snapshot()["ball"]["x"], 0.5);
///
/// // What the other clients receive.
/// let message = serde_json::to_value(buffer.flush()?)?;
/// assert_eq!(message["updates"], json!({"ball": {"x": 0.5}}));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type JsonDictionary<T = Arc<str>> = StateDictionary<Arc<str>, Value, T>;

/// A change of a [`JsonDictionary`].
pub type JsonChange = Change<Arc<str>, Value>;

/// A snapshot of a [`JsonDictionary`].
pub type JsonSnapshot = Snapshot<Arc<str>, Value>;

/// A delivery of a buffer of a [`JsonDictionary`].
pub type JsonDelivery = Delivery<Arc<str>, Value>;
