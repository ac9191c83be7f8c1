//! The messages, as the README describes them.

use crate::feed::{Delivery, Key, LockDelivery};
use axum::extract::ws::Utf8Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use state_dictionary::{LockEventKind, Position};
use std::collections::BTreeMap;

/// What a client sends. A type or a member that is not known is an error.
#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    /// One more than in the message before, beginning with 1 in each connection.
    pub(crate) seq: u64,
    #[serde(flatten)]
    pub(crate) request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Hello {
        name: String,
        session: Option<Claim>,
        #[serde(default, deserialize_with = "position")]
        position: Option<Position>,
    },
    Update {
        change: Change,
    },
    Lock {
        keys: Vec<Key>,
    },
    Unlock {
        keys: Vec<Key>,
    },
    Bye,
}

/// What proves that a session is one's own: told in the welcome, and asked for when it is to be gone on with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) id: Key,
    pub(crate) secret: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Change {
    pub(crate) updates: BTreeMap<Key, Value>,
    pub(crate) removals: Vec<Key>,
}

/// What a client is sent.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Reply {
    Welcome { session: Claim, resumed: bool, lease_ms: u128 },
    Changes { fresh_start: bool, position: String, delivery: Delivered },
    Locks { version: u64, locks: Vec<Held> },
    LockEvents { events: Vec<LockEvent> },
    Granted { seq: u64, keys: Vec<Key> },
    Refused { seq: u64, locked: Vec<Held> },
    Error { code: Code, message: String, seq: Option<u64>, expected: u64 },
}

#[derive(Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) key: Key,
    pub(crate) holder: Key,
}

#[derive(Debug, Serialize)]
pub(crate) struct LockEvent {
    pub(crate) version: u64,
    pub(crate) kind: &'static str,
    pub(crate) key: Key,
    pub(crate) holder: Key,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    Malformed,
    TooLarge,
    OutOfOrder,
    NotAllowed,
}

impl Reply {
    /// As it goes over the wire.
    pub(crate) fn text(&self) -> Utf8Bytes {
        // Keys are strings and numbers finite: nothing in a reply is without a JSON form.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

impl From<LockDelivery> for Reply {
    fn from(delivery: LockDelivery) -> Self {
        match delivery {
            LockDelivery::Everything { version, locks, .. } => {
                let locks = locks.into_iter().map(|(key, lock)| Held { key, holder: lock.holder }).collect();
                Self::Locks { version, locks }
            }
            LockDelivery::Events(events) => Self::LockEvents {
                events: events
                    .into_iter()
                    .map(|event| LockEvent {
                        version: event.version,
                        kind: match event.kind {
                            LockEventKind::Granted => "granted",
                            LockEventKind::Expired => "expired",
                            _ => "released",
                        },
                        key: event.key,
                        holder: event.holder,
                    })
                    .collect(),
            },
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Delivered {
    from: u64,
    to: u64,
    updates: BTreeMap<Key, Value>,
    removals: Vec<Key>,
}

fn position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Position>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

impl From<&Delivery> for Delivered {
    fn from(delivery: &Delivery) -> Self {
        Self {
            from: delivery.from().get(),
            to: delivery.to().get(),
            updates: delivery.updates().map(|(key, entry)| (key.clone(), (**entry).clone())).collect(),
            removals: delivery.removals().cloned().collect(),
        }
    }
}

impl From<Change> for state_dictionary::Change<Key, Value> {
    fn from(change: Change) -> Self {
        Self::from_parts(change.updates, change.removals)
    }
}
