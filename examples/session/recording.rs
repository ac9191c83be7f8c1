//! Reading recordings of sessions.
//!
//! A recording is a zip archive of two stored files. `index.msgpack` is a list of `{offset, length, metadata: {timestamp,
//! ..}}`, with timestamps in microseconds; `messages.msgpack` is the messages, one after the other, each a map. Those with
//! a `state` key hold `{updates: {key: value}, removals: [key]}`; the others are of no interest here.
//!
//! A file can be damaged, or not be a recording at all. Nothing in it is trusted: what is read stays below a limit,
//! allocations follow the bytes that are there, and every error names the place and the fault.

use rmpv::decode::{Error, read_value_ref_with_max_depth};
use rmpv::{Value, ValueRef};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use zip::ZipArchive;
use zip::result::ZipError;

const INDEX: &str = "index.msgpack";
const MESSAGES: &str = "messages.msgpack";

/// The most that is read of either file: hours of a session.
const MAX_BYTES: u64 = 1 << 30;

/// In the decoder's count, in which a list or a map is two levels.
const MAX_DEPTH: usize = 64;

/// The changes of a recorded session. There is at least one.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) steps: Vec<Step>,
}

/// One recorded change. The first of a recording may well be empty.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    /// When it was made, from the beginning of the recording.
    pub(crate) at: Duration,
    pub(crate) updates: Vec<(String, Value)>,
    pub(crate) removals: Vec<String>,
}

type Result<T> = std::result::Result<T, String>;
type Map<'a> = Vec<(ValueRef<'a>, ValueRef<'a>)>;

impl Recording {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let read = || {
            // Asked before it is opened: opening a pipe would wait.
            if !path.metadata().map_err(|error| error.to_string())?.is_file() {
                return Err("it is not a file".to_owned());
            }
            let file = File::open(path).map_err(|error| error.to_string())?;
            Self::read(BufReader::new(file))
        };
        read().map_err(|error| format!("'{}': {error}", path.display()))
    }

    pub(crate) fn read(archive: impl Read + Seek) -> Result<Self> {
        let mut archive =
            ZipArchive::new(archive).map_err(|error| format!("it is no zip archive, or a damaged one: {error}"))?;
        let index = contents(&mut archive, INDEX)?;
        let messages = contents(&mut archive, MESSAGES)?;
        let entries =
            unpack(&index).and_then(|index| list(index, "it")).map_err(|error| format!("{INDEX}: {error}"))?;

        let mut steps = Vec::new();
        let mut end = 0;
        for (number, entry) in entries.into_iter().enumerate() {
            let (at, range) =
                locate(entry, end, messages.len()).map_err(|error| format!("{INDEX}: entry {number}: {error}"))?;
            end = range.end;
            let step = step(&messages[range], at);
            steps.extend(step.map_err(|error| format!("{MESSAGES}: message {number}, up to byte {end}: {error}"))?);
        }
        if steps.is_empty() {
            return Err("none of its messages has a state: there is nothing to replay".to_owned());
        }
        Ok(Self { steps })
    }
}

fn contents(archive: &mut ZipArchive<impl Read + Seek>, name: &str) -> Result<Vec<u8>> {
    let file = archive.by_name(name).map_err(|error| match error {
        ZipError::FileNotFound => format!("it is no recording: there is no {name} in it"),
        error => format!("{name}: {error}"),
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{name}: it is larger than {MAX_BYTES} bytes, more than is read here"));
    }
    Ok(bytes)
}

/// When a message was recorded and where it is: after `end`, where the one before it ended.
fn locate(entry: ValueRef<'_>, end: usize, size: usize) -> Result<(Duration, Range<usize>)> {
    let mut entry = map(entry, "it")?;
    let offset = number(&mut entry, "offset")?;
    let length = number(&mut entry, "length")?;
    let mut metadata = map(required(&mut entry, "metadata")?, "metadata")?;
    let at = Duration::from_micros(number(&mut metadata, "timestamp")?);

    let outside = || format!("{length} bytes from {offset} are not inside {MESSAGES}, which has {size}");
    let last = offset.checked_add(length).ok_or_else(outside)?;
    let range = usize::try_from(offset).map_err(|_| outside())?..usize::try_from(last).map_err(|_| outside())?;
    if range.end > size {
        return Err(outside());
    }
    if range.start < end {
        return Err(format!("it begins at {offset}, inside the message before it, which ends at {end}"));
    }
    Ok((at, range))
}

/// The change that a message is, if it is one.
fn step(message: &[u8], at: Duration) -> Result<Option<Step>> {
    let mut message = map(unpack(message)?, "it")?;
    let Some(state) = take(&mut message, "state") else { return Ok(None) };
    let mut state = map(state, "its state")?;
    let updates = take(&mut state, "updates").map_or(Ok(Vec::new()), |updates| map(updates, "updates"))?;
    let removals = take(&mut state, "removals").map_or(Ok(Vec::new()), |removals| list(removals, "removals"))?;
    let updates = updates.into_iter().map(|(key, value)| Ok((text(&key, "updates")?, value.to_owned())));
    let removals = removals.iter().map(|key| text(key, "removals"));
    Ok(Some(Step { at, updates: updates.collect::<Result<_>>()?, removals: removals.collect::<Result<_>>()? }))
}

/// The one value that the bytes are.
fn unpack(mut bytes: &[u8]) -> Result<ValueRef<'_>> {
    let value = read_value_ref_with_max_depth(&mut bytes, MAX_DEPTH).map_err(|error| match error {
        Error::DepthLimitExceeded => "its msgpack is nested too deep".to_owned(),
        error if error.kind() == ErrorKind::UnexpectedEof => "its msgpack ends inside a value".to_owned(),
        error => format!("its msgpack is damaged: {error}"),
    })?;
    match bytes.len() {
        0 => Ok(value),
        left => Err(format!("its msgpack is followed by {left} bytes that do not belong to it")),
    }
}

fn take<'a>(map: &mut Map<'a>, name: &str) -> Option<ValueRef<'a>> {
    let found = map.iter().position(|(key, _)| matches!(key, ValueRef::String(key) if key.as_str() == Some(name)))?;
    Some(map.swap_remove(found).1)
}

fn required<'a>(map: &mut Map<'a>, name: &str) -> Result<ValueRef<'a>> {
    take(map, name).ok_or_else(|| format!("it has no {name}"))
}

fn number(map: &mut Map<'_>, name: &str) -> Result<u64> {
    let value = required(map, name)?;
    value.as_u64().ok_or_else(|| format!("{name} is {}, not a whole number", kind(&value)))
}

fn map<'a>(value: ValueRef<'a>, what: &str) -> Result<Map<'a>> {
    match value {
        ValueRef::Map(map) => Ok(map),
        other => Err(format!("{what} is {}, not a map", kind(&other))),
    }
}

fn list<'a>(value: ValueRef<'a>, what: &str) -> Result<Vec<ValueRef<'a>>> {
    match value {
        ValueRef::Array(list) => Ok(list),
        other => Err(format!("{what} is {}, not a list", kind(&other))),
    }
}

fn text(key: &ValueRef<'_>, what: &str) -> Result<String> {
    match key {
        ValueRef::String(text) => {
            text.as_str().map(str::to_owned).ok_or_else(|| format!("a key in {what} is not UTF-8"))
        }
        other => Err(format!("a key in {what} is {}, not a string", kind(other))),
    }
}

fn kind(value: &ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Nil => "nil",
        ValueRef::Boolean(_) => "a boolean",
        ValueRef::Integer(number) if number.as_u64().is_none() => "a negative number",
        ValueRef::Integer(_) => "a number",
        ValueRef::F32(_) | ValueRef::F64(_) => "a float",
        ValueRef::String(_) => "a string",
        ValueRef::Binary(_) => "binary data",
        ValueRef::Array(_) => "a list",
        ValueRef::Map(_) => "a map",
        ValueRef::Ext(..) => "an extension type",
    }
}

#[cfg(test)]
mod tests;
