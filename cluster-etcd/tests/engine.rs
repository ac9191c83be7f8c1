//! Each promise of a log, on one real member.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // a test fails by panicking

mod members;

use bytes::Bytes;
use futures_util::StreamExt;
use members::{Members, is_there};
use state_dictionary_cluster::{AppendError, Head, Log, LogError, NodeId, Place, Record, Truncation, What};
use state_dictionary_etcd::{EtcdLog, EtcdOptions};
use std::time::Duration;

fn entry(number: u64) -> Bytes {
    Bytes::from(format!("entry {number}"))
}

async fn records(log: &EtcdLog, after: Place, count: usize) -> Vec<Record> {
    let reading = log.follow(after).take(count).map(Result::unwrap).collect();
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the records come")
}

fn numbers(records: &[Record]) -> Vec<u64> {
    let number = |record: &Record| if let What::Entry { number, .. } = record.what { number } else { 0 };
    records.iter().map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_appended_once_and_all_followers_see_one_order() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &[]).await;
    let logs = [members.join().await, members.join().await, members.join().await];
    assert!(logs[0].node() != logs[1].node() && Log::store(&logs[0]) == Log::store(&logs[1]));
    for number in 1..=50 {
        for log in &logs {
            log.append(number, entry(number)).await.unwrap();
        }
        logs[0].append(number, entry(number)).await.unwrap();
    }
    let mut seen = Vec::new();
    for log in &logs {
        seen.push(records(log, Place(0), 150).await);
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
    assert!(seen[0].is_sorted_by_key(|record| record.place));
    let of_first: Vec<_> = seen[0].iter().filter(|record| record.node == logs[0].node()).cloned().collect();
    assert_eq!(numbers(&of_first), (1..=50).collect::<Vec<_>>());
    assert_eq!(records(&logs[1], seen[0][99].place, 50).await, seen[0][100..], "from the middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_lease_has_ended_is_fenced_off_and_gone_once_and_last() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &[]).await;
    let (lost, others) = (members.join().await, [members.join().await, members.join().await]);
    lost.append(1, entry(1)).await.unwrap();
    let place = records(&lost, Place(0), 1).await[0].place;
    let mut following: Vec<_> = others.iter().map(|log| log.follow(place).boxed()).collect();
    // Each follows, so that each sees the lease end.
    for (index, log) in others.iter().enumerate() {
        log.append(1, entry(1)).await.unwrap();
        for follower in &mut following {
            assert_eq!(follower.next().await.unwrap().unwrap().node, others[index].node());
        }
    }
    let lease = i64::try_from(lost.node().0).unwrap();
    members.client(0).await.lease_revoke(lease).await.unwrap();
    assert_eq!(lost.append(2, entry(2)).await, Err(AppendError::Fenced));
    assert_eq!(lost.append(1, entry(1)).await, Ok(()), "it was appended before");
    for follower in &mut following {
        let gone = tokio::time::timeout(Duration::from_secs(10), follower.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((gone.node, gone.what), (lost.node(), What::Gone));
    }
    others[0].suspect(vec![lost.node(), others[1].node()]).await.unwrap();
    others[0].append(2, entry(2)).await.unwrap();
    for follower in &mut following {
        assert_eq!(follower.next().await.unwrap().unwrap().node, others[0].node(), "once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_history_is_no_gap_and_a_truncated_log_is_an_error() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &[]).await;
    let log = EtcdLog::join(members.options().compact(true)).await.unwrap();
    for number in 1..=100 {
        log.append(number, entry(number)).await.unwrap();
    }
    let all = records(&log, Place(0), 100).await;
    let latest = i64::try_from(all[99].place.0).unwrap();
    members.client(0).await.compact(latest, None).await.unwrap();
    assert_eq!(records(&log, Place(0), 100).await, all, "from the beginning");
    assert_eq!(records(&log, all[39].place, 60).await, all[40..], "from the middle");

    let head = Head { place: all[69].place, chunks: 2 };
    for index in 0..2 {
        log.put_chunk(head.place, index, Bytes::from(vec![7; 500 << 10])).await.unwrap();
    }
    assert_eq!(log.head().await, Ok(None), "without its head it is no checkpoint");
    log.put_head(head).await.unwrap();
    log.put_head(Head { place: all[9].place, chunks: 1 }).await.unwrap();
    assert_eq!(log.head().await, Ok(Some(head)), "an older one does not replace it");
    let numbers_of = |up_to| vec![(log.node(), up_to), (NodeId(1), 1)];
    log.truncate(Truncation { head, numbers: numbers_of(70), gone: vec![NodeId(1)] }).await.unwrap();
    assert_eq!(log.chunk(head.place, 1).await.unwrap().unwrap().len(), 500 << 10);
    let first = log.follow(Place(0)).boxed().next().await.unwrap();
    assert_eq!(first, Err(LogError::Truncated));
    assert_eq!(records(&log, head.place, 30).await, all[70..]);

    let later = Head { place: all[99].place, chunks: 0 };
    log.put_head(later).await.unwrap();
    log.truncate(Truncation { head: later, numbers: numbers_of(100), gone: Vec::new() }).await.unwrap();
    assert_eq!(log.chunk(head.place, 1).await, Ok(None), "the older checkpoint is deleted");
    let stale = log.follow(all[50].place).boxed().next().await.unwrap();
    assert_eq!(stale, Err(LogError::Truncated), "also where the history does not reach");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_refuses_and_takes_entries_again_when_it_is_relieved() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &["--quota-backend-bytes", "4000000"]).await;
    let log = members.join().await;
    let large = Bytes::from(vec![7; 300 << 10]);
    let mut number = 0;
    let refused = loop {
        number += 1;
        assert!(number < 100, "the quota is never reached");
        if let Err(error) = log.append(number, large.clone()).await {
            break error;
        }
    };
    assert!(matches!(&refused, AppendError::Refused(why) if why.contains("space")), "{refused}");
    let before = records(&log, Place(0), usize::try_from(number - 1).unwrap()).await;
    assert_eq!(before.len() as u64, number - 1, "nothing acknowledged is lost");
    // Relieved: the log is truncated, history compacted, the file defragmented and the alarm taken back.
    let mut client = members.client(0).await;
    client.delete("test/live/log/", Some(etcd_client::DeleteOptions::new().with_prefix())).await.unwrap();
    let revision = client.get("x", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, Some(etcd_client::CompactionOptions::new().with_physical())).await.unwrap();
    client.defragment().await.unwrap();
    let member = client.status().await.unwrap().header().unwrap().member_id();
    let mut options = etcd_client::AlarmOptions::new();
    options.with_member(member);
    let (action, kind) = (etcd_client::AlarmAction::Deactivate, etcd_client::AlarmType::Nospace);
    client.alarm(action, kind, Some(options)).await.unwrap();
    log.append(number, large).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_used_and_a_wrong_one_is_an_error() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &[]).await;
    let mut client = members.client(0).await;
    client.user_add("root", "secret", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
    let log = EtcdLog::join(members.options().login("root", "secret")).await.unwrap();
    log.append(1, entry(1)).await.unwrap();
    assert_eq!(numbers(&records(&log, Place(0), 1).await), [1]);
    let error = EtcdLog::join(members.options().login("root", "wrong")).await.unwrap_err().to_string();
    assert!(error.contains("authentication failed"), "{error}");
    assert!(EtcdLog::join(members.options()).await.is_err(), "without a login");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_is_passed_over_and_nobody_there_is_an_error() {
    if !is_there() {
        return;
    }
    let members = Members::start(1, &[]).await;
    for _ in 0..4 {
        let endpoints = ["http://127.0.0.1:1".to_owned(), members.endpoint(0)];
        let options = EtcdOptions::new(endpoints, "test").attempt(Duration::from_secs(1));
        let log = EtcdLog::join(options).await.unwrap();
        log.append(1, entry(1)).await.unwrap();
    }
    let error = EtcdLog::join(EtcdOptions::new(["http://127.0.0.1:1"], "test")).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot join test"), "{error}");
    assert!(EtcdLog::join(EtcdOptions::new(Vec::<String>::new(), "test")).await.is_err());
}
