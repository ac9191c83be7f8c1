//! What a node promises, on the log in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use bytes::Bytes;
use futures_executor::block_on;
use futures_util::future::join_all;
use state_dictionary::{BufferOptions, Change, LockDelivery, LockEventKind, LockRequest, Refusal, StateDictionary};
use state_dictionary_cluster::{
    Error, Failure, Faults, Log, Memory, MemoryLog, Node, NodeSession, Options, Stopped, dump,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

type Text = String;
type Board = Node<Text, u64, Text>;

const LEASE: Duration = Duration::from_millis(200);

fn start(log: MemoryLog, options: Options) -> (Board, JoinHandle<Stopped>) {
    let builder = StateDictionary::builder().commit_history(true).lock_history_limit(100);
    let (node, driver) = block_on(Board::join_with(log, builder, options)).unwrap();
    (node, thread::spawn(move || block_on(driver.run())))
}

fn join(memory: &Memory) -> Board {
    start(memory.join(), Options::new()).0
}

fn two() -> (Memory, Board, Board) {
    let memory = Memory::new();
    let (one, other) = (join(&memory), join(&memory));
    (memory, one, other)
}

fn alice() -> Text {
    "alice".into()
}

fn bob() -> Text {
    "bob".into()
}

fn set(node: &Board, key: &str, value: u64) {
    block_on(node.writer(&alice()).set(key, value)).unwrap();
}

fn open(node: &Board, grace: Duration) -> NodeSession<Text, u64, Text> {
    block_on(node.open_session(alice(), grace)).unwrap()
}

/// Waits until a condition holds on a node, for ten seconds at most.
fn until(node: &Board, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} on {node:?}");
        block_on(node.linearizable()).unwrap();
    }
}

#[test]
fn what_one_node_writes_all_nodes_have_at_the_same_revision() {
    let (_memory, one, other) = two();
    let revision = block_on(one.update_state(&alice(), Change::new().set("a", 1).set("b", 2))).unwrap();
    assert_eq!(one.local().revision(), revision, "one's own write is there when the call returns");
    let there = block_on(other.linearizable()).unwrap();
    assert_eq!((there["a"], there["b"], there.revision()), (1, 2, revision));
    assert_eq!(one.local().id(), other.local().id());
}

#[test]
fn a_refusal_says_why_and_changes_nothing_anywhere() {
    let (_memory, one, other) = two();
    block_on(one.update_locks(&alice(), LockRequest::new().acquire("ball", None))).unwrap();
    let refused = block_on(other.writer(&bob()).set("ball", 1)).unwrap_err().refusal().unwrap();
    assert!(matches!(refused.reason, Refusal::Locked { ref conflicts } if conflicts[0].owner == "alice"));
    let refused = block_on(other.update_locks(&bob(), LockRequest::new().acquire("ball", None)));
    assert!(matches!(refused, Err(Error::Refused(_))));
    let refused = block_on(other.update_state(&bob(), Change::new().set("a", 1).if_present("a")));
    assert!(matches!(refused, Err(Error::Refused(_))));
    assert!(block_on(one.linearizable()).unwrap().is_empty());
}

#[test]
fn fencing_tokens_and_lock_events_are_the_same_on_all_nodes() {
    let (_memory, one, other) = two();
    let feeds = [one.local().lock_feed(), other.local().lock_feed()];
    for feed in &feeds {
        assert!(feed.flush_timeout(Duration::from_secs(5)).is_ok());
    }
    // A feed that ends replaces the root of this node alone.
    drop(one.local().commit_feed());
    for round in 0..3 {
        let node = if round % 2 == 0 { &one } else { &other };
        block_on(node.update_locks(&alice(), LockRequest::new().acquire(format!("{round}"), None))).unwrap();
    }
    block_on(one.clear_locks()).unwrap();
    block_on(other.linearizable()).unwrap();
    let events = feeds.map(|feed| match feed.flush() {
        Ok(LockDelivery::Events(events)) => (events, feed.position()),
        other => panic!("{other:?}"),
    });
    assert_eq!(events[0], events[1]);
    let kinds: Vec<_> = events[0].0.iter().map(|event| event.kind).collect();
    let (granted, cleared) = (LockEventKind::Granted, LockEventKind::Cleared);
    assert_eq!(kinds, [granted, granted, granted, cleared, cleared, cleared]);
}

#[test]
fn a_lease_ends_on_all_nodes_and_not_before_its_time() {
    let (_memory, one, other) = two();
    let feed = other.local().lock_feed();
    assert!(feed.flush_timeout(Duration::from_secs(5)).is_ok_and(|all| matches!(all, LockDelivery::Full { .. })));
    let start = Instant::now();
    block_on(one.update_locks(&alice(), LockRequest::new().acquire("ball", LEASE))).unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        match feed.flush_timeout(Duration::from_secs(5)).unwrap() {
            LockDelivery::Events(events) => kinds.extend(events.into_iter().map(|event| event.kind)),
            LockDelivery::Full { .. } => panic!("it has not lagged"),
        }
    }
    assert!(start.elapsed() >= LEASE);
    assert_eq!(kinds, [LockEventKind::Granted, LockEventKind::Expired]);
    until(&one, "the lock ends", || one.local().lock_info("ball").is_none());
}

#[test]
fn a_session_goes_where_its_client_goes() {
    let (_memory, one, other) = two();
    let first = open(&one, Duration::from_secs(60));
    block_on(first.update_ephemeral(Change::new().set("cursor", 1))).unwrap();
    block_on(first.update_locks(LockRequest::new().acquire("ball", None))).unwrap();
    let second = open(&other, Duration::from_secs(60));
    assert!(!first.is_resumed() && second.is_resumed());
    block_on(first.taken_over());
    let late = block_on(first.update_ephemeral(Change::new().set("cursor", 2)));
    assert_eq!(late.unwrap_err(), Error::Failed(Failure::TakenOver));
    drop(first); // detaches nothing, for it has nothing any more
    let summary = block_on(second.end()).unwrap();
    assert_eq!((summary.removed, summary.released), (vec!["cursor".to_owned()], vec!["ball".to_owned()]));
    assert!(block_on(one.linearizable()).unwrap().is_empty());
}

#[test]
fn a_session_whose_handle_is_dropped_ends_after_its_grace_and_not_before() {
    let (_memory, one, other) = two();
    let session = open(&one, LEASE);
    block_on(session.update_ephemeral(Change::new().set("cursor", 1))).unwrap();
    assert!(block_on(other.linearizable()).unwrap().contains_key("cursor"));
    let start = Instant::now();
    drop(session);
    until(&other, "the key is removed", || other.get("cursor").is_none());
    assert!(start.elapsed() >= LEASE);
}

#[test]
fn the_sessions_of_a_node_that_is_gone_stay_for_their_grace_and_then_end() {
    let memory = Memory::new();
    let ((lost, driver), other) = (start(memory.join(), Options::new()), join(&memory));
    let session = open(&lost, LEASE);
    block_on(session.update_ephemeral(Change::new().set("cursor", 1))).unwrap();
    assert!(block_on(other.linearizable()).unwrap().contains_key("cursor"));
    let start = Instant::now();
    memory.declare_gone(lost.id());
    assert_eq!(driver.join().unwrap(), Stopped::Fenced);
    assert!(other.get("cursor").is_some() || start.elapsed() >= LEASE);
    until(&other, "the key is removed", || other.get("cursor").is_none());
    assert!(start.elapsed() >= LEASE);
    let late = block_on(lost.writer(&alice()).set("late", 1)).unwrap_err();
    assert_eq!(late, Error::Failed(Failure::Stopped(Stopped::Fenced)));
}

#[test]
fn what_was_read_is_the_condition_of_what_is_written() {
    let (_memory, one, other) = two();
    set(&one, "count", 0);
    let runs = AtomicUsize::new(0);
    thread::scope(|scope| {
        for node in [&one, &other, &one, &other] {
            scope.spawn(|| {
                for _ in 0..50 {
                    let added = block_on(node.update_state_with(&alice(), |now| {
                        runs.fetch_add(1, Ordering::Relaxed);
                        let count = now.get("count").map_or(0, |count| *count);
                        (Change::new().set("count", count + 1), count + 1)
                    }));
                    assert!(added.unwrap().1 > 0);
                }
            });
        }
    });
    assert_eq!(block_on(one.linearizable()).unwrap()["count"], 200);
    assert!(runs.into_inner() > 200, "they met");
    // A condition of the caller's own is an error, and is not tried again.
    let own = |_: &state_dictionary_cluster::Reading<Text, u64>| Change::new().set("x", 1).if_present("x");
    assert!(matches!(block_on(one.update_state_with(&alice(), own)), Err(Error::Refused(_))));
    // The whole content, if it was read.
    block_on(one.writer(&alice()).clear()).unwrap();
    assert!(block_on(other.linearizable()).unwrap().is_empty());
}

#[test]
fn the_short_forms_are_those_of_the_dictionary() {
    let (_memory, one, other) = two();
    let (alice, bob) = (alice(), bob());
    let (alice, bob) = (one.writer(&alice), other.writer(&bob));
    let first = block_on(alice.compare_and_set("a", None, 1)).unwrap();
    assert!(block_on(bob.compare_and_set("a", None, 2)).is_err());
    let second = block_on(bob.compare_and_set("a", first, 2)).unwrap();
    assert!(second > first);
    block_on(alice.update("a", |value| value.map(|value| value + 1))).unwrap();
    assert_eq!(one.get("a").as_deref(), Some(&3));
    block_on(bob.set("b", 1)).unwrap();
    block_on(alice.retain(|key, _| key == "a")).unwrap();
    block_on(bob.remove("a")).unwrap();
    assert!(other.snapshot().is_empty());
}

#[test]
fn a_client_resumes_on_another_node_which_waits_until_it_has_come_so_far() {
    let (memory, one, other) = two();
    set(&one, "a", 1);
    block_on(other.linearizable()).unwrap();
    let mut cut_off = Faults::default();
    cut_off.cut_off = true;
    memory.set_faults(other.id(), cut_off);
    set(&one, "b", 2);
    let seen = one.local().position();
    assert!(other.local().revision() < seen.revision);
    let id = other.id();
    let healing = thread::spawn(move || memory.set_faults(id, Faults::default()));
    let buffer = block_on(other.resume(seen, BufferOptions::new())).unwrap();
    healing.join().unwrap();
    assert!(buffer.try_flush().is_err(), "there is nothing new");
    set(&one, "c", 3);
    let delivery = buffer.flush().unwrap();
    assert!(!delivery.is_full());
    assert_eq!(delivery.updates().map(|(key, _)| key.clone()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn an_operation_that_is_larger_than_an_entry_is_written_in_parts_and_one_beyond_the_limit_is_an_error() {
    type Large = Node<u32, Vec<u8>, Text>;
    let memory = Memory::new();
    let options = Options::new().max_operation(4 << 20);
    let (node, driver) = block_on(Large::join(memory.join(), options)).unwrap();
    thread::spawn(move || block_on(driver.run()));
    let change = |size: usize| (0..2000).fold(Change::new(), |change, key: u32| change.set(key, vec![7; size]));
    thread::scope(|scope| {
        // Beside others, whose entries come in between.
        scope.spawn(|| {
            for _ in 0..50 {
                block_on(node.writer(&bob()).set(9999_u32, vec![])).unwrap();
            }
        });
        block_on(node.update_state(&alice(), change(500))).unwrap();
    });
    assert_eq!(node.snapshot().len(), 2001);
    let error = block_on(node.update_state(&alice(), change(5000))).unwrap_err();
    assert!(matches!(error, Error::Failed(Failure::TooLarge { limit, .. }) if limit == 4 << 20), "{error}");
    let (fresh, driver) = block_on(Large::join(memory.join(), Options::new())).unwrap();
    thread::spawn(move || block_on(driver.run()));
    assert_eq!(block_on(fresh.linearizable()).unwrap().len(), 2001);
}

#[test]
fn a_log_that_cannot_be_reached_fills_the_queue_and_answers_end_with_the_time_limit() {
    let memory = Memory::new();
    let (node, _driver) = start(memory.join(), Options::new().queue_limit(10_000));
    set(&node, "before", 1);
    let mut cut_off = Faults::default();
    cut_off.cut_off = true;
    memory.set_faults(node.id(), cut_off);
    let hasty = node.with_time_limit(Duration::from_millis(50));
    let error = block_on(hasty.writer(&alice()).set("late", 1)).unwrap_err();
    assert_eq!(error, Error::Failed(Failure::Unanswered));
    let token = alice();
    let many = (0..300).map(|number| hasty.update_state(&token, Change::new().set(format!("{number}"), 1)));
    let failed: Vec<_> = block_on(join_all(many)).into_iter().map(Result::unwrap_err).collect();
    assert!(failed.contains(&Error::Failed(Failure::QueueFull)), "it is bounded");
    assert_eq!(node.get("before").as_deref(), Some(&1), "reading goes on");
    memory.set_faults(node.id(), Faults::default());
    set(&node, "after", 1);
}

#[test]
fn a_full_log_refuses_and_takes_operations_again_later() {
    let (memory, one, other) = two();
    let mut full = Faults::default();
    full.full = true;
    memory.set_faults(one.id(), full);
    let error = block_on(one.writer(&alice()).set("a", 1)).unwrap_err();
    assert!(matches!(error, Error::Failed(Failure::LogRefused(_))), "{error}");
    memory.set_faults(one.id(), Faults::default());
    set(&one, "b", 1);
    let content = block_on(other.linearizable()).unwrap();
    assert!(!content.contains_key("a") && content.contains_key("b"));
}

#[test]
fn a_frozen_dictionary_is_frozen_on_all_nodes() {
    let (_memory, one, other) = two();
    let buffer = other.local().change_buffer();
    set(&one, "a", 1);
    assert!(block_on(one.freeze()).unwrap());
    assert!(!block_on(other.freeze()).unwrap());
    let refused = block_on(other.writer(&bob()).set("b", 1)).unwrap_err().refusal().unwrap();
    assert_eq!(refused.reason, Refusal::Frozen);
    assert_eq!(buffer.flush().unwrap().count(), 1);
    assert!(buffer.flush().is_err());
}

#[test]
fn a_stopped_node_has_finished_what_it_was_asked_and_takes_nothing_more() {
    let memory = Memory::new();
    let (node, driver) = start(memory.join(), Options::new());
    let session = open(&node, Duration::ZERO);
    block_on(session.update_ephemeral(Change::new().set("cursor", 1))).unwrap();
    drop(session);
    drop(node);
    assert_eq!(driver.join().unwrap(), Stopped::Closed, "when the last handle is dropped");
    let other = join(&memory);
    until(&other, "the session is detached, and ends", || other.get("cursor").is_none());
}

#[test]
fn a_node_that_reads_what_it_does_not_know_stops_and_says_where() {
    let memory = Memory::new();
    let (node, driver) = start(memory.join(), Options::new());
    set(&node, "a", 1);
    let stranger = memory.join();
    block_on(stranger.append(1, Bytes::from_static(&[99, 1, 2, 3]))).unwrap();
    match driver.join().unwrap() {
        Stopped::Unknown { place, what } => assert!(place > 0 && what.contains("form 99"), "{what}"),
        other => panic!("{other}"),
    }
    assert!(block_on(node.writer(&alice()).set("b", 1)).is_err());
    assert_eq!(node.get("a").as_deref(), Some(&1), "it still can be read");
    // A newcomer stops there too: it does not skip.
    let (_node, driver) = start(memory.join(), Options::new());
    assert!(matches!(driver.join().unwrap(), Stopped::Unknown { .. }));
}

#[test]
fn an_operation_whose_future_is_dropped_is_carried_out_or_not_and_never_in_part() {
    let (_memory, one, other) = two();
    for round in 0..100 {
        let change = Change::new().set(format!("left {round}"), 1).set(format!("right {round}"), 1);
        let token = alice();
        let update = one.update_state(&token, change);
        let mut update = Box::pin(update);
        let _ = futures_util::FutureExt::now_or_never(&mut update);
        drop(update);
    }
    let content = block_on(other.linearizable()).unwrap();
    for round in 0..100 {
        assert_eq!(content.contains_key(&format!("left {round}")), content.contains_key(&format!("right {round}")));
    }
}

#[test]
fn a_node_is_counted_and_its_records_can_be_shown() {
    let (_memory, one, _other) = two();
    set(&one, "a", 1);
    let metrics = one.metrics();
    assert!(metrics.entries >= 1 && metrics.operations >= 1 && metrics.place.0 >= 1 && metrics.queued == 0);
    let shared = Arc::new(one);
    assert!(format!("{shared:?}").starts_with("Node"));
    let _ = dump;
}
