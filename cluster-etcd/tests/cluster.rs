//! Nodes on three members of etcd, while things break: a leader killed, a member stopped, no quorum, a node killed, a node out
//! of touch for longer than its lease. Each commit sets a key of its own, so what is lost or doubled is counted.
//!
//! `SECONDS=600` lets everything break for longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // a test fails by panicking

mod members;

use members::{Members, is_there};
use state_dictionary::{BufferOptions, Change, LockRequest};
use state_dictionary_cluster::{Error, Failure, Node, Options, Stopped};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

type TestNode = Node<String, u64, String>;

async fn join(members: &Members) -> (TestNode, JoinHandle<Stopped>) {
    let options = Options::new().checkpoint_every(50_000).time_limit(Duration::from_secs(20));
    let log = state_dictionary_etcd::EtcdLog::join(members.options().compact(true)).await.unwrap();
    let (node, driver) = TestNode::join(log, options).await.unwrap();
    (node, tokio::spawn(driver.run()))
}

/// What the writers have seen.
#[derive(Default)]
struct Seen {
    acknowledged: parking_lot::Mutex<Vec<String>>,
    unknown: parking_lot::Mutex<Vec<String>>,
    is_over: AtomicBool,
}

fn write(node: &TestNode, name: String, seen: &Arc<Seen>) -> JoinHandle<()> {
    let (node, seen) = (node.clone(), Arc::clone(seen));
    tokio::spawn(async move {
        let writer = node.writer(&name);
        for number in 0.. {
            if seen.is_over.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("{name}.{number}");
            match writer.set(key.clone(), number).await {
                Ok(_) => seen.acknowledged.lock().push(key),
                Err(Error::Failed(Failure::Unanswered)) => seen.unknown.lock().push(key),
                Err(Error::Failed(Failure::Stopped(_))) => return seen.unknown.lock().push(key),
                Err(error) => panic!("{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_different_whatever_breaks() {
    if !is_there() {
        return;
    }
    let seconds = std::env::var("SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let pause = Duration::from_secs(seconds);
    let mut members = Members::start(3, &[]).await;
    let mut nodes = vec![join(&members).await, join(&members).await, join(&members).await];
    let seen = Arc::new(Seen::default());
    let mut writers = Vec::new();
    for (index, (node, _)) in nodes.iter().enumerate() {
        for writer in 0..4 {
            writers.push(write(node, format!("{index}.{writer}"), &seen));
        }
    }
    let count = |what: &str| println!("{what}: {} acknowledged so far", seen.acknowledged.lock().len());
    sleep(pause).await;
    count("all is well");

    let leader = members.leader().await;
    members.kill(leader);
    sleep(pause).await;
    count("leader killed");
    members.run(leader);
    sleep(pause).await;

    let follower = (members.leader().await + 1) % 3;
    members.signal(follower, "STOP");
    sleep(pause).await;
    count("a follower stopped");
    members.signal(follower, "CONT");

    // Without a quorum for less than a lease nothing gets an answer, and all goes on afterwards.
    members.signal(0, "STOP");
    members.signal(1, "STOP");
    sleep(Duration::from_millis(1500)).await;
    members.signal(0, "CONT");
    members.signal(1, "CONT");
    sleep(pause).await;
    count("no quorum for 1.5 s");

    // A node is killed: what it had locked and what its session had can be taken up elsewhere.
    let (killed, driver) = nodes.pop().unwrap();
    let session = killed.open_session("client".into(), Duration::from_secs(30)).await.unwrap();
    session.update_ephemeral(Change::new().set("cursor", 1)).await.unwrap();
    session.update_locks(LockRequest::new().acquire("ball", None)).await.unwrap();
    let position = killed.local().position();
    driver.abort();
    std::mem::forget(session);
    let (survivor, _) = &nodes[0];
    let start = Instant::now();
    let buffer = survivor.resume(position, BufferOptions::new()).await.unwrap();
    let taken_up = survivor.open_session("client".into(), Duration::from_secs(30)).await.unwrap();
    println!("taken up elsewhere after {:?}", start.elapsed());
    assert!(taken_up.is_resumed() && survivor.get("cursor").is_some());
    assert_eq!(survivor.local().lock_info("ball").unwrap().owner, "client");
    assert!(buffer.try_flush().is_ok_and(|delivery| !delivery.is_full()), "it resumes exactly");
    let summary = taken_up.end().await.unwrap();
    assert_eq!((summary.released, summary.removed), (vec!["ball".to_owned()], vec!["cursor".to_owned()]));
    nodes.push(join(&members).await);
    sleep(pause).await;
    count("a node killed");

    seen.is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    nodes.push(join(&members).await);
    let (fresh, _) = nodes.last().unwrap();
    let content = fresh.linearizable().await.unwrap();
    let (acknowledged, unknown) = (seen.acknowledged.lock().clone(), seen.unknown.lock().clone());
    let lost = acknowledged.iter().filter(|key| !content.contains_key(*key)).count();
    let late = unknown.iter().filter(|key| content.contains_key(*key)).count();
    // The session's key was set and removed: two commits and no key.
    let doubled = content.revision().get() - 2 - content.len() as u64;
    println!(
        "{} acknowledged, {lost} lost, {doubled} doubled; {} of unknown fate, {late} of them there",
        acknowledged.len(),
        unknown.len()
    );
    assert_eq!((lost, doubled), (0, 0));
    assert_eq!(content.len(), acknowledged.len() + late);
    for (node, _) in &nodes {
        let theirs = node.linearizable().await.unwrap();
        assert_eq!(theirs.content_hash(), content.content_hash());
        assert_eq!(theirs.revision(), content.revision());
    }
    let checkpoints: u64 = nodes.iter().map(|(node, _)| node.metrics().checkpoints).sum();
    assert!(checkpoints > 0, "no checkpoint was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_on_another_node_and_not_early() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &[]).await;
    let (one, _driver) = join(&members).await;
    let (other, _driver) = join(&members).await;
    let lease = Duration::from_millis(300);
    let taken = Arc::new(AtomicU64::new(0));
    for round in 0..5 {
        let key = format!("ball {round}");
        let start = Instant::now();
        one.update_locks(&"alice".into(), LockRequest::new().acquire(key.clone(), lease)).await.unwrap();
        let granted = loop {
            match other.update_locks(&"bob".into(), LockRequest::new().acquire(key.clone(), None)).await {
                Ok(_) => break start.elapsed(),
                Err(Error::Refused(_)) => sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        };
        println!("a lease of {lease:?} was taken over after {granted:?}");
        assert!(granted >= lease);
        taken.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(taken.load(Ordering::Relaxed), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_out_of_touch_for_longer_than_its_lease_stops_and_says_so() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &[]).await;
    let (node, driver) = join(&members).await;
    let (other, _driver) = join(&members).await;
    node.writer(&"a".into()).set("before", 1).await.unwrap();
    members.client(0).await.lease_revoke(i64::try_from(node.id().0).unwrap()).await.unwrap();
    assert_eq!(driver.await.unwrap(), Stopped::Fenced);
    let error = node.writer(&"a".into()).set("after", 1).await.unwrap_err();
    assert_eq!(error, Error::Failed(Failure::Stopped(Stopped::Fenced)));
    let content = other.linearizable().await.unwrap();
    assert!(content.contains_key("before") && !content.contains_key("after"));
}
