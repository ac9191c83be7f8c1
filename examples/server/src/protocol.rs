//! The messages, as the README describes them.

use crate::feed::{Delivery, Key, LockDelivery};
use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use state_dictionary::{Conflict, JsonChange, Position};

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
    Hello { name: String, session: Option<Claim>, position: Option<Position> },
    Update { change: JsonChange },
    Lock { keys: Vec<Key> },
    Unlock { keys: Vec<Key> },
    Bye,
}

/// What proves that a session is one's own: told in the welcome, and asked for when it is to be gone on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) id: Key,
    pub(crate) secret: String,
}

/// What a client is sent.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Reply<'a> {
    Welcome { session: Claim, resumed: bool, lease_ms: u128 },
    Changes { position: Position, delivery: &'a Delivery },
    Locks { delivery: &'a LockDelivery },
    Granted { seq: u64, keys: Vec<Key> },
    Refused { seq: u64, locked: Vec<Conflict<Key, Key>> },
    Error { code: Code, message: String, seq: Option<u64>, expected: u64 },
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    Malformed,
    TooLarge,
    OutOfOrder,
    NotAllowed,
}

impl Reply<'_> {
    /// As it goes over the wire.
    pub(crate) fn text(&self) -> Utf8Bytes {
        // Keys are strings and numbers finite: nothing in a reply is without a JSON form.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}
