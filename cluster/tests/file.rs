//! The engine in a file: killed at random points, cut at random bytes, on a full disk.
//!
//! `KILLS=200` kills more often.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use futures_executor::block_on;
use futures_util::StreamExt;
use state_dictionary_cluster::{
    Error, Failure, FileLog, Head, Log, LogError, Node, Options, Place, Record, Stopped, Truncation, What,
};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

type Board = Node<String, u64, String>;

fn entry(number: u64) -> bytes::Bytes {
    bytes::Bytes::from(format!("entry {number} ").repeat(1 + usize::try_from(number % 40).unwrap()))
}

fn append(log: &FileLog, numbers: std::ops::Range<u64>) {
    for number in numbers {
        block_on(log.append(number, entry(number))).unwrap();
    }
}

fn records(log: &FileLog, after: u64, count: usize) -> Vec<Record> {
    let all = log.follow(Place(after)).take(count).collect::<Vec<_>>();
    block_on(Box::pin(all)).into_iter().map(Result::unwrap).collect()
}

fn open(path: &Path) -> FileLog {
    FileLog::open(path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_was_appended_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let first = open(&path);
    append(&first, 1..101);
    let before = records(&first, 0, 100);
    let (node, store) = (first.node(), Log::store(&first));
    drop(first);

    let second = open(&path);
    assert_eq!(records(&second, 0, 100), before);
    assert_eq!(Log::store(&second), store, "it is the same store");
    assert!(second.node() > node, "a process that restarts is another node");
    append(&second, 1..2);
    assert_eq!(records(&second, 100, 1)[0].node, second.node());
}

#[test]
fn a_number_is_appended_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder.path().join("log"));
    for number in [1, 2, 1, 3, 2, 2] {
        block_on(log.append(number, entry(number))).unwrap();
    }
    let numbers = records(&log, 0, 3).into_iter().map(|record| match record.what {
        What::Entry { number, .. } => number,
        What::Gone => 0,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn earlier_runs_are_gone_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let earlier = open(&path).node();
    let log = open(&path);
    for _ in 0..2 {
        block_on(log.suspect(vec![earlier, log.node()])).unwrap();
    }
    append(&log, 1..2);
    let found: Vec<_> = records(&log, 0, 2).into_iter().map(|record| (record.node, record.what)).collect();
    assert_eq!(found[0], (earlier, What::Gone));
    assert!(matches!(found[1], (node, What::Entry { number: 1, .. }) if node == log.node()));
}

#[test]
fn the_log_before_a_checkpoint_is_deleted_and_the_checkpoint_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = open(&path);
    let large = bytes::Bytes::from(vec![7; 400 << 10]);
    for number in 1..=40 {
        block_on(log.append(number, large.clone())).unwrap();
    }
    let head = Head { place: Place(30), chunks: 2 };
    for index in 0..2 {
        block_on(log.put_chunk(head.place, index, entry(u64::from(index)))).unwrap();
    }
    assert_eq!(block_on(log.head()).unwrap(), None, "without a head there is no checkpoint");
    block_on(log.put_head(head)).unwrap();
    block_on(log.put_head(Head { place: Place(10), chunks: 1 })).unwrap();
    assert_eq!(block_on(log.head()).unwrap(), Some(head), "an older one does not replace it");
    block_on(log.truncate(Truncation { head, numbers: Vec::new(), gone: Vec::new() })).unwrap();

    let first = block_on(log.follow(Place(0)).boxed().next()).unwrap();
    assert_eq!(first, Err(LogError::Truncated));
    assert_eq!(records(&log, 30, 10).len(), 10);
    let size = fs::metadata(&path).unwrap().len();
    for number in 41..=70 {
        block_on(log.append(number, large.clone())).unwrap();
        if number % 10 == 0 {
            let head = Head { place: Place(number), chunks: 0 };
            block_on(log.put_head(head)).unwrap();
            block_on(log.truncate(Truncation { head, numbers: Vec::new(), gone: Vec::new() })).unwrap();
        }
    }
    let later = fs::metadata(&path).unwrap().len();
    assert!(later <= size * 2, "the space is used again: {size} and {later} bytes");
}

#[test]
fn a_second_opener_and_a_file_of_something_else_get_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = open(&path);
    let error = FileLog::open(&path).unwrap_err().to_string();
    assert!(error.contains("already open"), "{error}");
    drop(log);
    let other = folder.path().join("text");
    fs::write(&other, "this is no log".repeat(1000)).unwrap();
    let error = FileLog::open(&other).unwrap_err().to_string();
    assert!(error.contains("text"), "{error}");
    assert_eq!(fs::read(&other).unwrap().len(), 14_000, "it was left alone");
}

/// A file that was cut opens with the records of an earlier sync, or not at all.
#[test]
fn a_file_that_was_cut_or_changed_gives_an_error_or_an_earlier_state_and_no_garbage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = open(&path);
    append(&log, 1..301);
    let whole = records(&log, 0, 300);
    drop(log);
    let bytes = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut refused, mut earlier) = (0, 0);
    for round in 0..300 {
        let copy = folder.path().join(format!("copy {round}"));
        let mut damaged = bytes.clone();
        if round % 2 == 0 {
            damaged.truncate(random.usize(..bytes.len()));
        } else {
            let from = random.usize(..bytes.len());
            let to = (from + random.usize(1..5000)).min(bytes.len());
            damaged[from..to].fill_with(|| random.u8(..));
        }
        fs::write(&copy, &damaged).unwrap();
        let look = || -> Result<Vec<Record>, String> {
            let log = FileLog::open(&copy).map_err(|error| error.to_string())?;
            block_on(log.append(1, entry(0))).map_err(|error| error.to_string())?;
            let mut found = Vec::new();
            let mut all = log.follow(Place(0)).boxed();
            loop {
                let record = block_on(all.next()).unwrap().map_err(|error| error.to_string())?;
                if record.node == log.node() {
                    return Ok(found);
                }
                found.push(record);
            }
        };
        match look() {
            Ok(found) => {
                assert_eq!(found, whole[..found.len()], "round {round}");
                earlier += 1;
            }
            Err(_) => refused += 1,
        }
        fs::remove_file(&copy).unwrap();
    }
    println!("{refused} damaged files were refused, {earlier} gave an earlier state");
    assert!(refused > 0);
}

/// The test itself, run again as a child that writes until it is killed.
fn child(test: &str, path: &Path, run: u32, limit: Option<u64>) -> Child {
    let program = env::current_exe().unwrap();
    let mut command = match limit {
        None => Command::new(program),
        // Writing beyond is an error instead of a signal.
        Some(kib) => {
            let mut shell = Command::new("bash");
            let run = format!("ulimit -S -f {kib}; trap '' XFSZ; exec \"$0\" \"$@\"");
            shell.arg("-c").arg(run).arg(program);
            shell
        }
    };
    command
        .args([test, "--exact", "--nocapture", "--ignored"])
        .env("LOG", path)
        .env("RUN", run.to_string())
        .stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Writes through a node from eight threads, and prints each key that was acknowledged.
#[test]
#[ignore = "the child of the test that kills it"]
fn child_that_writes() {
    let Ok(path) = env::var("LOG") else { return };
    let options = Options::new().checkpoint_every(200_000);
    let (board, driver) = block_on(Board::join(open(path.as_ref()), options)).unwrap();
    thread::spawn(move || panic!("{}", block_on(driver.run())));
    let run = env::var("RUN").unwrap_or_default();
    thread::scope(|scope| {
        for writer in 0..8 {
            let (board, run) = (&board, &run);
            scope.spawn(move || {
                for number in 0.. {
                    let key = format!("{run}.{writer}.{number}");
                    block_on(board.writer(&"child".to_owned()).set(key.clone(), number)).unwrap();
                    println!("done {key}");
                }
            });
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let kills = env::var("KILLS").map_or(12, |kills| kills.parse().unwrap());
    let mut random = fastrand::Rng::new();
    let mut acknowledged = Vec::new();
    for run in 0..kills {
        let mut child = child("child_that_writes", &path, run, None);
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.filter_map(|line| line.split_once("done ").map(|(_, key)| key.to_owned())).collect::<Vec<_>>()
        });
        #[allow(clippy::disallowed_methods)] // a real process runs meanwhile
        thread::sleep(Duration::from_millis(random.u64(20..300)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap().into_iter().map(|key| (run, key)));
    }
    let (board, driver) = block_on(Board::join(open(&path), Options::new())).unwrap();
    let driver = thread::spawn(move || block_on(driver.run()));
    let content = block_on(board.linearizable()).unwrap();
    println!("{kills} kills, {} keys acknowledged, {} there", acknowledged.len(), content.len());
    assert!(!acknowledged.is_empty());
    for (run, key) in &acknowledged {
        assert!(content.contains_key(key), "run {run}: {key} was acknowledged, and is lost");
    }
    assert_eq!(content.revision().get(), content.len() as u64, "each commit set one key, once");
    board.stop();
    assert_eq!(driver.join().unwrap(), Stopped::Closed);
}

/// Appends until the log is full, makes space by raising its own limit, and appends again.
#[test]
#[ignore = "the child of the test with a full disk"]
fn child_with_a_full_disk() {
    let Ok(path) = env::var("LOG") else { return };
    let (board, driver) = block_on(Board::join(open(path.as_ref()), Options::new())).unwrap();
    let driver = thread::spawn(move || block_on(driver.run()));
    let writer = "child".to_owned();
    let set = |key: String| block_on(board.writer(&writer).set(key, 1));
    let full = (0..).find_map(|number| match set(format!("before {number} {}", "x".repeat(2000))) {
        Ok(_) => None,
        Err(error) => Some((number, error)),
    });
    let (written, error) = full.unwrap();
    assert!(matches!(error, Error::Failed(Failure::LogRefused(_))), "{error}");
    assert!(set("still full".to_owned() + &"x".repeat(100_000)).is_err());
    let raised = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &std::process::id().to_string()]).status();
    assert!(raised.unwrap().success());
    set("after".to_owned()).unwrap();
    println!("wrote {written}");
    board.stop();
    assert_eq!(driver.join().unwrap(), Stopped::Closed);
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let has = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has("prlimit") || !has("bash") {
        println!("skipped: it needs bash, and prlimit of util-linux");
        return;
    }
    drop(open(&path));
    let limit = fs::metadata(&path).unwrap().len() / 1024 + 600;
    let output = child("child_with_a_full_disk", &path, 0, Some(limit)).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let written: usize = text.split_once("wrote ").unwrap().1.lines().next().unwrap().parse().unwrap();
    let (board, driver) = block_on(Board::join(open(&path), Options::new())).unwrap();
    let driver = thread::spawn(move || block_on(driver.run()));
    let content = block_on(board.linearizable()).unwrap();
    assert_eq!(content.keys().filter(|key| key.starts_with("before")).count(), written);
    assert!(content.contains_key("after") && content.len() == written + 1, "what was refused is not there");
    board.stop();
    driver.join().unwrap();
}
