use super::*;
use std::io::{Cursor, Write};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn packed(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

fn change(updates: Vec<(&str, Value)>, removals: Vec<Value>) -> Value {
    map(vec![("state", map(vec![("updates", map(updates)), ("removals", Value::Array(removals))]))])
}

fn entry(offset: impl Into<Value>, length: impl Into<Value>, timestamp: impl Into<Value>) -> Value {
    let metadata = map(vec![("types", Value::Array(vec!["state".into()])), ("timestamp", timestamp.into())]);
    map(vec![("offset", offset.into()), ("length", length.into()), ("metadata", metadata)])
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A recording of these messages, 10 microseconds apart.
fn recording(messages: &[&[u8]]) -> Vec<u8> {
    let mut offset = 0;
    let index = messages.iter().zip(0..).map(|(message, number)| {
        let entry = entry(offset, message.len(), number * 10);
        offset += message.len();
        entry
    });
    let index = packed(&Value::Array(index.collect()));
    archive(&[(MESSAGES, &messages.concat()), (INDEX, &index)])
}

fn read(bytes: &[u8]) -> Result<Recording> {
    Recording::read(Cursor::new(bytes))
}

/// With an index of our own, over one good message of 18 bytes or so.
fn read_with_index(index: &Value) -> Result<Recording> {
    let message = packed(&change(vec![], vec![]));
    read(&archive(&[(INDEX, &packed(index)), (MESSAGES, &message)]))
}

#[track_caller]
fn fails(result: Result<Recording>, parts: &[&str]) {
    let error = result.expect_err("this is no recording");
    for part in parts {
        assert!(error.contains(part), "{error:?} should say {part:?}");
    }
    assert!(error.len() < 300, "{error}");
}

#[test]
fn changes_are_read_and_all_else_is_skipped() {
    let frame = packed(&map(vec![("frame", map(vec![("positions", Value::Binary(vec![0; 500]))]))]));
    let first = packed(&change(vec![("a", 1.into()), ("b", map(vec![("c", f64::NAN.into())]))], vec![]));
    let second = packed(&change(vec![], vec!["a".into()]));
    let bare = packed(&map(vec![("state", map(vec![]))]));
    let steps = read(&recording(&[&frame, &first, &frame, &second, &bare])).unwrap().steps;
    assert_eq!(steps.len(), 3);
    assert_eq!(steps[0].at, Duration::from_micros(10));
    assert_eq!(steps[0].updates[0], ("a".to_owned(), 1.into()));
    assert_eq!(steps[0].updates[1].0, "b");
    let removals = vec!["a".to_owned()];
    assert_eq!(steps[1], Step { at: Duration::from_micros(30), updates: vec![], removals });
    assert_eq!(steps[2], Step { at: Duration::from_micros(40), updates: vec![], removals: vec![] });
}

#[test]
fn something_else_than_an_archive() {
    fails(read(b""), &["no zip archive"]);
    fails(read(b"PK\x03\x04 and then nothing of the kind"), &["no zip archive"]);
    fails(read(&vec![0; 100_000]), &["no zip archive"]);
}

#[test]
fn something_else_than_a_file() {
    let missing = Recording::open(Path::new("no/such/file.nanover.zip"));
    fails(missing, &["no/such/file.nanover.zip", "No such file"]);
    fails(Recording::open(Path::new(".")), &["'.': it is not a file"]);
}

#[test]
fn an_archive_of_something_else() {
    fails(read(&archive(&[])), &["no recording", INDEX]);
    fails(read(&archive(&[("holiday.jpg", b"...")])), &["no recording", INDEX]);
    fails(read(&archive(&[(INDEX, b"\x90")])), &["no recording", MESSAGES]);
}

#[test]
fn nothing_to_replay() {
    fails(read(&archive(&[(INDEX, b"\x90"), (MESSAGES, b"")])), &["nothing to replay"]);
    fails(read(&recording(&[&packed(&map(vec![("frame", Value::Nil)]))])), &["nothing to replay"]);
}

/// However much is cut off and whichever bit is wrong: an error, or what was recorded.
#[test]
fn truncated_and_damaged_files() {
    let message = packed(&change(vec![("avatar", "something".into())], vec!["cursor".into()]));
    let good = recording(&[&message, &message]);
    let expected = read(&good).unwrap().steps;
    for length in 0..good.len() {
        assert!(read(&good[..length]).is_err(), "cut off after {length} of {} bytes", good.len());
    }
    for bit in 0..good.len() * 8 {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(recording) = read(&damaged) {
            assert_eq!(recording.steps, expected, "bit {bit}");
        }
    }
}

#[test]
fn a_compressed_archive_is_refused() {
    let mut bytes = archive(&[(INDEX, b"\x90"), (MESSAGES, b"")]);
    let is_header = |bytes: &[u8]| bytes == b"PK\x03\x04" || bytes == b"PK\x01\x02";
    let headers: Vec<_> = (0..bytes.len() - 4).filter(|at| is_header(&bytes[*at..at + 4])).collect();
    for at in headers {
        let method = if bytes[at + 2] == 3 { at + 8 } else { at + 10 };
        bytes[method] = 8; // deflated
    }
    fails(read(&bytes), &[INDEX]);
}

#[test]
fn an_index_that_lies() {
    let entries = |entries: Vec<Value>| read_with_index(&Value::Array(entries));
    let inside = packed(&change(vec![], vec![])).len() as u64;
    assert!(entries(vec![entry(0, inside, 0)]).is_ok());
    fails(entries(vec![entry(0, inside + 1, 0)]), &[INDEX, "entry 0", "not inside", MESSAGES]);
    fails(entries(vec![entry(0, inside - 1, 0)]), &[MESSAGES, "message 0", "ends inside a value"]);
    fails(entries(vec![entry(0, inside, 0), entry(0, inside, 0)]), &["entry 1", "inside the message before"]);
    fails(entries(vec![entry(inside, 0, 0)]), &["message 0", "ends inside a value"]);
    for far in [u64::MAX, u64::MAX / 2, 1 << 40] {
        fails(entries(vec![entry(far, far, 0)]), &["entry 0", "not inside"]);
        fails(entries(vec![entry(0, far, 0)]), &["entry 0", "not inside"]);
        fails(entries(vec![entry(far, 1, 0)]), &["entry 0", "not inside"]);
    }
}

#[test]
fn an_index_of_wrong_types() {
    let entries = |entry: Value| read_with_index(&Value::Array(vec![entry]));
    fails(read_with_index(&map(vec![])), &[INDEX, "a map, not a list"]);
    fails(entries(7.into()), &[INDEX, "entry 0", "a number, not a map"]);
    fails(entries(map(vec![])), &["entry 0", "no offset"]);
    fails(entries(entry("0", 1, 0)), &["offset is a string"]);
    fails(entries(entry(-1, 1, 0)), &["offset is a negative number"]);
    fails(entries(entry(0, 1.0, 0)), &["length is a float"]);
    fails(entries(entry(0, 1, Value::Nil)), &["timestamp is nil"]);
    let bare = map(vec![("offset", 0.into()), ("length", 1.into()), ("metadata", map(vec![]))]);
    fails(entries(bare), &["no timestamp"]);
}

#[test]
fn messages_of_wrong_types() {
    let one = |message: &Value| read(&recording(&[&packed(message)]));
    let state = |updates: Value, removals: Value| {
        one(&map(vec![("state", map(vec![("updates", updates), ("removals", removals)]))]))
    };
    let none = || Value::Array(vec![]);
    fails(one(&"hello".into()), &[MESSAGES, "message 0", "a string, not a map"]);
    fails(one(&map(vec![("state", 1.into())])), &["its state is a number"]);
    fails(state(none(), none()), &["updates is a list, not a map"]);
    fails(state(map(vec![]), map(vec![])), &["removals is a map, not a list"]);
    fails(state(Value::Map(vec![(1.into(), 1.into())]), none()), &["a key in updates is a number"]);
    fails(state(map(vec![]), Value::Array(vec![Value::Binary(vec![])])), &["a key in removals is binary data"]);
}

#[test]
fn damaged_messages() {
    let one = |message: &[u8]| read(&recording(&[message]));
    fails(one(b""), &["message 0", "ends inside a value"]);
    fails(one(b"\x80\x80"), &["message 0", "followed by 1 bytes"]);
    fails(one(b"\x81\xa5state\x81\xa7updates\x81\xa2\xff\xff\x01"), &["a key in updates is not UTF-8"]);
    // Lists, maps, strings and binary data of four billion elements, of which nothing is there.
    for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
        fails(one(&[&b"\x81\xa5state"[..], &[marker], &[0xff; 4]].concat()), &["message 0", "ends inside a value"]);
    }
    let good = packed(&change(vec![], vec![]));
    fails(read(&recording(&[&good, b"\xdf\xff\xff\xff\xff"])), &["message 1"]);
}

#[test]
fn absurd_nesting() {
    let nested = |depth: usize| [&b"\x81\xa5state\x81\xa7updates\x81\xa1k"[..], &vec![0x91; depth], b"\xc0"].concat();
    assert!(read(&recording(&[&nested(20)])).is_ok());
    for depth in [100, 2000, 1_000_000] {
        fails(read(&recording(&[&nested(depth)])), &["message 0", "nested too deep"]);
    }
    fails(read(&archive(&[(INDEX, &vec![0x91; 1_000_000]), (MESSAGES, b"")])), &[INDEX, "nested too deep"]);
}

#[test]
fn absurd_sizes_in_the_archive() {
    let good = recording(&[&packed(&change(vec![], vec![]))]);
    // The sizes and the place in every header, and the counts at the end, say four gigabytes.
    for at in 0..good.len() - 4 {
        let mut lying = good.clone();
        lying[at..at + 4].fill(0xfe);
        if let Ok(recording) = read(&lying) {
            assert_eq!(recording.steps.len(), 1);
        }
    }
}
