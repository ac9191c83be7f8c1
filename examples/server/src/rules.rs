//! What a client may write and lock: its own user and cursor, and the cards.

use crate::feed::{Board, Key};
use crate::text;
use serde_json::{Map, Value};
use state_dictionary::{Condition, JsonChange};
use std::sync::Arc;

/// How many keys and conditions one message may have, and how many numbers a value may have.
const MANY: usize = 16;
/// Cards have numbers from 1 to this.
pub(crate) const CARDS: u32 = 100;

/// A client's change in the two parts in which it is committed.
pub(crate) struct Parts {
    /// Cards and titles, which stay, with the conditions of all.
    pub(crate) shared: JsonChange,
    /// The client's user and cursor, which are removed when its session ends.
    pub(crate) own: JsonChange,
}

/// Why a change is not to be committed.
pub(crate) enum Objection {
    /// It is not allowed.
    NotAllowed(String),
    /// The content or the locks do not permit it now.
    Conflict(String),
}

/// The parts of a change that the client `id` may commit.
///
/// A card or a title is set or removed by the owner of the card's lock, or on condition of its revision. The owner's change
/// is given the condition too: read before the lock is looked at, it fails if the lock is lost before the commit.
pub(crate) fn judge(id: &str, change: JsonChange, board: &Board) -> Result<Parts, Objection> {
    if change.len() > MANY || change.conditions().len() > MANY {
        return Err(Objection::NotAllowed(format!("more than {MANY} keys or conditions in one change")));
    }
    for (key, value) in change.operations() {
        may_be(id, key, value.map(|value| &**value)).map_err(Objection::NotAllowed)?;
    }
    if !change.operations().any(|(key, _)| is_shared(key)) {
        return Ok(Parts { shared: JsonChange::new(), own: change });
    }
    let (mut shared, mut own) = (JsonChange::new(), JsonChange::new());
    for (key, value) in change.operations() {
        let key = Key::clone(key);
        let write = |part: JsonChange| match value {
            Some(value) => part.set_arc(Key::clone(&key), Arc::clone(value)),
            None => part.remove(Key::clone(&key)),
        };
        if is_shared(&key) {
            shared = with_leave(id, &key, &change, write(shared), board)?;
        } else {
            own = write(own);
        }
    }
    for (key, expected) in change.conditions() {
        let key = Key::clone(key);
        shared = match expected {
            Condition::Absent => shared.if_absent(key),
            Condition::Present => shared.if_present(key),
            Condition::At(revision) => shared.if_revision(key, revision),
            other => return Err(Objection::NotAllowed(format!("the condition {other:?}"))),
        };
    }
    Ok(Parts { shared, own })
}

/// Whether the client `id` may give the key this value, or remove it.
fn may_be(id: &str, key: &str, value: Option<&Value>) -> Result<(), String> {
    let parts: Vec<_> = key.split('.').collect();
    let owner = match parts[..] {
        ["user" | "cursor", owner] => owner,
        ["cursor", owner, part] if is_number(part, 0, 9) => owner,
        ["card" | "title", number] if is_number(number, 1, CARDS) => id,
        _ => return Err(format!("{key:?} is not a key that clients write")),
    };
    match (parts[0], value) {
        _ if owner != id => Err(format!("{key:?} is another client's")),
        ("user", None) => Err(format!("{key:?} cannot be removed")),
        (_, None) => Ok(()),
        ("user", Some(user)) => is_user(user).map_err(|why| format!("{key:?}: {why}")),
        ("title", Some(title)) => match title.as_str() {
            Some(title) => text::check(title, text::TITLE).map_err(|why| format!("{key:?}: {why}")),
            None => Err(format!("{key:?}: a title is a string")),
        },
        (_, Some(place)) if is_place(place) => Ok(()),
        _ => Err(format!("{key:?}: a place has up to {MANY} numbers, x and y from 0 to 1 among them")),
    }
}

/// The change with the operations and conditions for this key of a card; `asked` is what the client sent.
fn with_leave(
    id: &str,
    key: &Key,
    asked: &JsonChange,
    change: JsonChange,
    board: &Board,
) -> Result<JsonChange, Objection> {
    let number = key.split_once('.').map_or("", |(_, number)| number);
    let (card, title) = (format!("card.{number}"), format!("title.{number}"));
    // Whether the change sets or removes a key, if it touches it.
    let sets =
        |wanted: &str| asked.operations().rev().find(|(key, _)| ***key == *wanted).map(|(_, value)| value.is_some());
    let expects = |wanted: &str, fits: fn(Condition) -> bool| {
        asked.conditions().any(|(key, expected)| **key == *wanted && fits(expected))
    };
    let is_new = expects(&card, |expected| expected == Condition::Absent);
    let is_whole = is_new || sets(&card) == Some(false) || sets(&title) == Some(false);
    if is_whole && sets(&card) != sets(&title) {
        return Err(Objection::NotAllowed(format!("{card:?} and {title:?} are added and removed together")));
    }
    if is_new || expects(key, |expected| matches!(expected, Condition::At(_))) {
        return Ok(change);
    }
    let Some(entry) = board.get(key) else {
        return Err(Objection::NotAllowed(format!("there is no {key:?}")));
    };
    let change = change.if_revision(Key::clone(key), entry.revision());
    match board.lock_info(&*card) {
        Some(lock) if *lock.owner == *id => Ok(change),
        // Refused because of the lock, with its owner; if the lock is released first, because both conditions cannot hold.
        Some(_) => Ok(change.if_absent(Key::clone(key))),
        None => Err(Objection::Conflict(format!(
            "the lock of {card:?} is not yours, and the change is not conditional on the revision of {key:?}"
        ))),
    }
}

/// Whether this is a key of cards, which all clients write.
pub(crate) fn is_shared(key: &str) -> bool {
    key.starts_with("card.") || key.starts_with("title.")
}

/// Whether these keys may be locked by clients.
pub(crate) fn may_lock(keys: &[Key], board: &Board) -> Result<(), String> {
    if keys.len() > MANY {
        return Err(format!("more than {MANY} keys in one request"));
    }
    match keys.iter().find(|key| !key.starts_with("card.") || board.get(*key).is_none()) {
        Some(key) => Err(format!("{key:?} is not a card")),
        None => Ok(()),
    }
}

/// Whether it is a number in this range, in the one form that it has.
fn is_number(text: &str, first: u32, last: u32) -> bool {
    text.parse().is_ok_and(|number: u32| (first..=last).contains(&number) && number.to_string() == text)
}

/// `{"name": "Ada"}`, or `{}` of a guest.
fn is_user(value: &Value) -> Result<(), String> {
    match value.as_object() {
        Some(user) if user.is_empty() => Ok(()),
        Some(user) if user.len() == 1 => match user.get("name").and_then(Value::as_str) {
            Some(name) => text::check(name, text::NAME),
            None => Err("a user has a name and nothing else".to_owned()),
        },
        _ => Err("a user has a name and nothing else".to_owned()),
    }
}

/// `{"x": 0.5, "y": 0}`: fractions of the board. There may be more numbers.
fn is_place(value: &Value) -> bool {
    let fraction = |place: &Map<String, Value>, axis| {
        place.get(axis).and_then(Value::as_f64).is_some_and(|at| (0.0..=1.0).contains(&at))
    };
    value.as_object().is_some_and(|place| {
        place.len() <= MANY
            && place.iter().all(|(name, value)| name.len() <= MANY && value.is_number())
            && fraction(place, "x")
            && fraction(place, "y")
    })
}
