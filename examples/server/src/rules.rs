//! What a client may write and lock: its own user and cursor, and the cards.

use crate::feed::{Board, Key};
use crate::protocol::Change;
use serde_json::{Map, Value};

/// How many keys one message may name, and how many numbers a value may have.
const MANY: usize = 16;

/// Whether the client `id` may commit the change; if not, why.
pub(crate) fn may_write(id: &str, change: &Change, board: &Board) -> Result<(), String> {
    let Change { updates, removals } = change;
    if updates.len() + removals.len() > MANY {
        return Err(format!("more than {MANY} keys in one change"));
    }
    for (key, value) in updates {
        let fits = match key.split('.').collect::<Vec<_>>()[..] {
            ["user", owner] if owner == id => is_user(value),
            ["cursor", owner] if owner == id => is_place(value),
            ["cursor", owner, part] if owner == id && is_digit(part) => is_place(value),
            ["card", _] if board.get(key).is_some() => is_place(value),
            _ => return Err(format!("{key:?} is not yours to write")),
        };
        if !fits {
            return Err(format!("not what {key:?} can be"));
        }
    }
    match removals
        .iter()
        .find(|key| !matches!(key.split('.').collect::<Vec<_>>()[..], ["cursor", owner, ..] if owner == id))
    {
        Some(key) => Err(format!("{key:?} is not yours to remove")),
        None => Ok(()),
    }
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
