//! What keys, values and tokens must be, so that they can be written into a log and read again by every node.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;

/// A key of a replicated dictionary. Implemented for every type that can be one: `Arc<str>`, `String`, integers.
///
/// Two nodes must read the same key from the same bytes, and `Eq` and `Hash` must not depend on the process.
pub trait Key: Clone + Eq + Hash + Debug + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<K: Clone + Eq + Hash + Debug + Serialize + DeserializeOwned + Send + Sync + 'static> Key for K {}

/// A value of a replicated dictionary. Implemented for every type that can be one.
///
/// It is serialised in a self-describing form, so `serde_json::Value` is one; its map keys must have one order.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Value for V {}

/// A token of a replicated dictionary: whoever has it may do what its owner may. Implemented for every type that can be
/// one.
pub trait Token: Clone + Ord + Debug + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Clone + Ord + Debug + Serialize + DeserializeOwned + Send + Sync + 'static> Token for T {}
