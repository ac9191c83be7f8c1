//! What a client may write and lock: its own user and cursor, and the cards.

use crate::feed::{Board, Key};
use serde_json::{Map, Value};
use state_dictionary::JsonChange;

/// How many keys one message may name, and how many numbers a value may have.
const MANY: usize = 16;

/// Whether the client `id` may commit the change; if not, why.
pub(crate) fn may_write(id: &str, change: &JsonChange, board: &Board) -> Result<(), String> {
    if change.len() > MANY {
        return Err(format!("more than {MANY} keys in one change"));
    }
    for (key, value) in change.operations() {
        let parts: Vec<_> = key.split('.').collect();
        let (owner, fits): (_, fn(&Value) -> bool) = match parts[..] {
            ["user", owner] => (owner, is_user),
            ["cursor", owner] => (owner, is_place),
            ["cursor", owner, part] if is_digit(part) => (owner, is_place),
            ["card", _] if board.get(key).is_some() => (id, is_place),
            _ => return Err(format!("{key:?} is nobody's to write")),
        };
        match value {
            _ if owner != id => return Err(format!("{key:?} is not yours")),
            Some(value) if !fits(value) => return Err(format!("not what {key:?} can be")),
            None if parts[0] != "cursor" => return Err(format!("{key:?} cannot be removed")),
            _ => {}
        }
    }
    Ok(())
}

/// Of each cursor there may be ten parts, and not as many as somebody likes to make.
fn is_digit(part: &str) -> bool {
    part.len() == 1 && part.as_bytes()[0].is_ascii_digit()
}

/// Whether these keys may be locked by anybody.
pub(crate) fn may_lock(keys: &[Key], board: &Board) -> Result<(), String> {
    if keys.len() > MANY {
        return Err(format!("more than {MANY} keys in one request"));
    }
    match keys.iter().find(|key| !key.starts_with("card.") || board.get(*key).is_none()) {
        Some(key) => Err(format!("{key:?} is not a card")),
        None => Ok(()),
    }
}

/// Whether it is a name that can be shown.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// `{"name": "Ada"}`
fn is_user(value: &Value) -> bool {
    let name = |user: &Map<String, Value>| user.get("name").and_then(Value::as_str).is_some_and(is_name);
    value.as_object().is_some_and(|user| user.len() == 1 && name(user))
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
