//! Replaying a recording, several times at once.

use crate::crew::{self, Job, Outcome, Part};
use crate::options::Speed;
use crate::recording::{Recording, Step};
use crate::replica::{Flushes, Replica};
use crate::writer::{Answer, Writer};
use crate::{Dictionary, FRAME, Key, Value};
use state_dictionary::{Change, StateDictionary};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Replays so many copies of the recording, each followed by one more thread, and leaves the dictionary frozen.
pub(crate) fn session(recording: &Recording, users: usize, speed: Speed) -> Result<(Dictionary, Outcome), String> {
    let dictionary: Dictionary = StateDictionary::builder().build();
    let ids = ids(recording);
    let mut jobs = Vec::new();
    // The followers first, that they see it all.
    for user in 0..users {
        let dictionary = &dictionary;
        let name = format!("follower {user}");
        jobs.push(Job { name: name.clone(), awaited: false, run: Box::new(|| follow(dictionary, name)) });
    }
    for user in 0..users {
        let (dictionary, copy) = (&dictionary, Copy { ids: &ids, suffix: format!("#{user}") });
        let run = Box::new(move || replay(dictionary, recording, &copy, speed));
        jobs.push(Job { name: format!("writer {user}"), awaited: true, run });
    }
    let changes = recording.steps.iter().filter(|step| !(step.updates.is_empty() && step.removals.is_empty())).count();
    let bar = crew::progress_bar((changes * users) as u64);
    let outcome = crew::run(&dictionary, jobs, None, &bar, |_| dictionary.revision().get())?;
    Ok((dictionary, outcome))
}

fn follow(dictionary: &Dictionary, name: String) -> Part {
    let buffer = dictionary.change_buffer();
    let (mut replica, mut flushes) = (Replica::default(), Flushes::new());
    for delivery in buffer.subscribe(FRAME) {
        flushes.apply(&delivery, &mut replica);
    }
    Part { written: None, followed: Some((name, replica, flushes)) }
}

fn replay(dictionary: &Dictionary, recording: &Recording, copy: &Copy<'_>, speed: Speed) -> Part {
    let token = Key::from(copy.suffix.as_str());
    let mut writer = Writer::new(dictionary);
    let begin = Instant::now();
    for step in &recording.steps {
        if speed == Speed::Real {
            pause(step.at.saturating_sub(begin.elapsed()));
        }
        if writer.commit(&token, &copy.change(step)) == Answer::Over {
            break;
        }
    }
    Part { written: Some((writer.tally, writer.ledger)), followed: None }
}

#[allow(clippy::disallowed_methods, reason = "a recording is replayed in real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The ids of users and of their interactions: what in a key looks like one.
fn ids(recording: &Recording) -> HashSet<&str> {
    let keys = recording.steps.iter().flat_map(|step| step.updates.iter().map(|(key, _)| key).chain(&step.removals));
    keys.flat_map(|key| key.split('.')).filter(|part| is_id(part)).collect()
}

fn is_id(part: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    let fits = |(at, byte): (usize, u8)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    part.len() == 36 && part.bytes().enumerate().all(fits)
}

/// One of several copies of a recording, which share no key: ids are renamed in keys and values, and so are keys without
/// an id.
struct Copy<'a> {
    ids: &'a HashSet<&'a str>,
    suffix: String,
}

impl Copy<'_> {
    fn change(&self, step: &Step) -> Change<Key, Value> {
        let updates = step.updates.iter().map(|(key, value)| (self.key(key), Value::new(self.value(value))));
        Change::from_parts(updates, step.removals.iter().map(|key| self.key(key)))
    }

    fn key(&self, key: &str) -> Key {
        let parts: Vec<_> = key.split('.').map(|part| self.text(part)).collect();
        let renamed = parts.join(".");
        if renamed.len() == key.len() { (renamed + &self.suffix).into() } else { renamed.into() }
    }

    fn value(&self, value: &rmpv::Value) -> rmpv::Value {
        match value {
            rmpv::Value::String(text) => match text.as_str() {
                Some(text) => self.text(text).into(),
                None => value.clone(),
            },
            rmpv::Value::Array(values) => values.iter().map(|value| self.value(value)).collect::<Vec<_>>().into(),
            rmpv::Value::Map(pairs) => {
                pairs.iter().map(|(key, value)| (self.value(key), self.value(value))).collect::<Vec<_>>().into()
            }
            other => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        if self.ids.contains(text) { format!("{text}{}", self.suffix) } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_no_key() {
        let id = "929680e7-b96d-4ead-9878-1f56462ab669";
        let keys = ["scene".to_owned(), format!("avatar.{id}"), format!("cursor.{id}.left"), "a.b".to_owned()];
        let owner =
            |id: &str| rmpv::Value::Map(vec![("ownerid".into(), rmpv::Value::Array(vec![id.into(), "x".into()]))]);
        let updates = keys.iter().map(|key| (key.clone(), owner(id))).collect();
        let recording = Recording { steps: vec![Step { at: Duration::ZERO, updates, removals: vec!["gone".into()] }] };
        let ids = ids(&recording);
        assert_eq!(ids, HashSet::from([id]));
        let copy = Copy { ids: &ids, suffix: "#7".to_owned() };
        let renamed: Vec<_> = keys.iter().map(|key| copy.key(key).to_string()).collect();
        let new_id = format!("{id}#7");
        assert_eq!(renamed, ["scene#7", &format!("avatar.{new_id}"), &format!("cursor.{new_id}.left"), "a.b#7"]);
        assert_eq!(copy.value(&owner(id)), owner(&new_id));
        assert_eq!(copy.change(&recording.steps[0]).len(), 5);
    }
}
