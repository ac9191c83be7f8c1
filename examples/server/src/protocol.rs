//! The messages, as the README describes them.

use crate::feed::{Delivery, Key, LockDelivery};
use crate::rules;
use axum::extract::ws::Utf8Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use state_dictionary::{Conflict, FencingToken, JsonChange, Position, Revision};
use std::collections::HashMap;

/// What a client sends.
#[derive(Debug)]
pub(crate) struct Message {
    /// One more than in the message before, beginning with 1 in each connection.
    pub(crate) seq: u64,
    pub(crate) request: Request,
}

#[derive(Debug)]
pub(crate) enum Request {
    Hello { name: Option<String>, session: Option<Claim>, position: Option<Position> },
    Update { change: JsonChange },
    Lock { keys: Vec<Key> },
    Renew { keys: Vec<Key> },
    Unlock { keys: Vec<Key> },
    Bye,
}

/// The proof that a session is the client's own: sent in the welcome, and required when the session is resumed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) id: Key,
    pub(crate) secret: String,
}

/// A message with the members of all types, so that it is parsed in one pass: serde reads an enum that is tagged inside
/// into a buffer first, and the buffer again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    seq: u64,
    r#type: Type,
    name: Option<String>,
    session: Option<Claim>,
    position: Option<Position>,
    change: Option<JsonChange>,
    keys: Option<Vec<Key>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    Hello,
    Update,
    Lock,
    Renew,
    Unlock,
    Bye,
}

const MEMBERS: &str = "besides type and seq: hello may have name, session, position; update has change; \
    lock, renew and unlock have keys; bye has nothing";

impl Message {
    /// Reads a message. An unknown type, or a member that is unknown or not of this type, is an error.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        // serde would take a list of the members' values too.
        if !text.trim_start().starts_with('{') {
            return Err("a message is a JSON object".to_owned());
        }
        let form: Form = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Form { seq, r#type, name, session, position, change, keys } = form;
        let greets = name.is_some() || session.is_some() || position.is_some();
        let request = match (r#type, greets, change, keys) {
            (Type::Hello, _, None, None) => Request::Hello { name, session, position },
            (Type::Update, false, Some(change), None) => Request::Update { change },
            (Type::Lock, false, None, Some(keys)) => Request::Lock { keys },
            (Type::Renew, false, None, Some(keys)) => Request::Renew { keys },
            (Type::Unlock, false, None, Some(keys)) => Request::Unlock { keys },
            (Type::Bye, false, None, None) => Request::Bye,
            _ => return Err(MEMBERS.to_owned()),
        };
        Ok(Self { seq, request })
    }
}

/// What the server sends.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Reply<'a> {
    Welcome { session: Claim, resumed: bool, lease_ms: u128 },
    Changes { position: Position, delivery: Revised<'a> },
    Locks { delivery: &'a LockDelivery },
    Granted { seq: u64, keys: &'a [Key], tokens: HashMap<Key, FencingToken> },
    Done { seq: u64, revision: Revision },
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
    Conflict,
    Unavailable,
}

impl Reply<'_> {
    /// The text of the message.
    pub(crate) fn text(&self) -> Utf8Bytes {
        // Keys are strings and numbers finite: nothing in a reply is without a JSON form.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// A delivery in the crate's form, with the revisions of the cards and titles that it sets: a change of those may be
/// conditional on them. Users and cursors have one writer each, which needs none.
pub(crate) struct Revised<'a>(pub(crate) &'a Delivery);

impl Serialize for Revised<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(delivery) = self;
        // Iterating looks each key up, so it is done once.
        let updates: Vec<_> = delivery.updates().collect();
        let values = updates.iter().map(|(key, entry)| (*key, entry.value())).collect();
        let shared = updates.iter().filter(|(key, _)| rules::is_shared(key));
        let revisions = shared.map(|(key, entry)| (*key, entry.revision())).collect();
        let mut form = serializer.serialize_struct("Delivery", 7)?;
        form.serialize_field("since", &delivery.since())?;
        form.serialize_field("revision", &delivery.revision())?;
        form.serialize_field("position", &delivery.position())?;
        form.serialize_field("full", &delivery.is_full())?;
        form.serialize_field("updates", &Map(values))?;
        form.serialize_field("revisions", &Map(revisions))?;
        form.serialize_field("removals", &delivery.removals().collect::<Vec<_>>())?;
        form.end()
    }
}

/// Serialised as a map.
struct Map<'a, V>(Vec<(&'a Key, V)>);

impl<V: Serialize> Serialize for Map<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}
