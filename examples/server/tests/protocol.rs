//! What the README promises of the messages, over real connections to a real server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Client, Server, soon};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::task::{JoinSet, yield_now};
use tokio::time::interval;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest};

fn place(x: f64) -> Value {
    json!({ "x": x, "y": 0.5 })
}

/// The one key that was refused, and who holds it.
fn refusal(message: &Value) -> (&str, &str) {
    let [lock] = &message["locked"].as_array().expect("a refusal")[..] else { panic!("not one lock: {message}") };
    (lock["key"].as_str().unwrap(), lock["owner"].as_str().unwrap())
}

#[tokio::test]
async fn a_card_is_moved_by_the_owner_of_its_lock_and_by_no_other() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let mut bob = Client::join(&server, "Bob").await;
    ada.sees(|content| content.get(&format!("user.{}", bob.id)) == Some(&json!({ "name": "Bob" }))).await;

    let seq = ada.lock("card.1").await;
    let granted = ada.answer(seq).await;
    let token = &granted["tokens"]["card.1"];
    assert_eq!(granted, json!({ "type": "granted", "seq": seq, "keys": ["card.1"], "tokens": { "card.1": token } }));
    let events = bob.until(|message| message["delivery"]["events"][0]["kind"] == "granted").await;
    let event = &events["delivery"]["events"][0];
    assert_eq!((event["owner"].as_str(), &event["fencing_token"]), (Some(&*ada.id), token));

    let seq = bob.lock("card.1").await;
    assert_eq!(refusal(&bob.answer(seq).await), ("card.1", ada.id.as_str()));
    // All of a change or nothing.
    let cursor = format!("cursor.{}", bob.id);
    let seq = bob.update(json!({ "card.1": place(0.9), cursor.as_str(): place(0.9) })).await;
    assert_eq!(refusal(&bob.answer(seq).await), ("card.1", ada.id.as_str()));

    let seq = ada.update(json!({ "card.1": place(0.25) })).await;
    let done = ada.answer(seq).await;
    bob.sees_value("card.1", &place(0.25)).await;
    assert_eq!(done, json!({ "type": "done", "seq": seq, "revision": bob.revisions["card.1"] }));
    assert!(!bob.content.contains_key(&cursor));

    ada.send(json!({ "type": "unlock", "keys": ["card.1"] })).await;
    bob.until(|message| message["delivery"]["events"][0]["kind"] == "released").await;
    let seq = bob.lock("card.1").await;
    assert_eq!(bob.answer(seq).await["type"], "granted");
    bob.update(json!({ "card.1": place(0.75) })).await;
    ada.sees_value("card.1", &place(0.75)).await;
}

#[tokio::test]
async fn what_a_killed_client_had_is_gone_after_the_grace_period() {
    let server = Server::start(&["--grace", "0.2", "--lease", "3600"]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let mut bob = Client::join(&server, "Bob").await;
    let [user, cursor] = ["user", "cursor"].map(|kind| format!("{kind}.{}", ada.id));
    ada.lock("card.1").await;
    ada.update(json!({ cursor.as_str(): place(0.5), "card.1": place(0.5) })).await;
    bob.sees(|content| content.contains_key(&cursor) && content.contains_key(&user)).await;

    drop(ada); // without a word
    bob.until(|message| message["delivery"]["events"][0]["kind"] == "released").await;
    bob.sees(|content| !content.contains_key(&cursor) && !content.contains_key(&user)).await;
    assert_eq!(bob.content["card.1"], place(0.5));
    let seq = bob.lock("card.1").await;
    assert_eq!(bob.answer(seq).await["type"], "granted");
}

#[tokio::test]
async fn a_client_that_says_goodbye_is_gone_at_once() {
    let server = Server::start(&["--grace", "3600"]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let mut bob = Client::join(&server, "Bob").await;
    let user = format!("user.{}", ada.id);
    bob.sees(|content| content.contains_key(&user)).await;
    ada.send(json!({ "type": "bye" })).await;
    assert_eq!(ada.end().await.map(|end| u16::from(end.code)), Some(1000));
    bob.sees(|content| !content.contains_key(&user)).await;
}

#[tokio::test]
async fn a_lease_that_expires_is_reported_although_no_client_touches_the_card() {
    let server = Server::start(&["--lease", "0.2"]).await;
    let mut ada = Client::join(&server, "Ada").await;
    ada.lock("card.2").await;
    let event = ada.until(|message| message["delivery"]["events"][0]["kind"] == "expired").await;
    assert_eq!(event["delivery"]["events"][0]["key"], "card.2");
}

#[tokio::test]
async fn what_is_wrong_is_answered_with_an_error_and_harms_nothing() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let seq = ada.lock("card.1").await;
    assert_eq!(ada.answer(seq).await["type"], "granted");
    let expected = ada.seq + 1;

    let update = |seq: u64, updates: Value| json!({ "seq": seq, "type": "update", "change": { "updates": updates } });
    let unread = [
        ("malformed", "{".to_owned()),
        ("malformed", "[]".to_owned()),
        ("malformed", json!({ "type": "bye" }).to_string()),
        ("malformed", json!([expected, "bye", null, null, null, null, null]).to_string()),
        ("malformed", json!({ "seq": expected, "type": "bye", "keys": [] }).to_string()),
        ("malformed", json!({ "seq": expected, "type": "lock" }).to_string()),
        ("malformed", json!({ "seq": expected, "type": "update", "change": {}, "name": "Ada" }).to_string()),
        ("malformed", format!(r#"{{"seq":{expected},"seq":{expected},"type":"bye"}}"#)),
        ("malformed", json!({ "seq": -1, "type": "bye" }).to_string()),
        ("malformed", json!({ "seq": expected, "type": "shutdown" }).to_string()),
        ("malformed", json!({ "seq": expected, "type": "lock", "keys": "card.1" }).to_string()),
        ("malformed", json!({ "seq": expected, "type": "lock", "keys": ["card.2"], "for": "ever" }).to_string()),
        ("malformed", format!("{}{}", "[".repeat(5000), "]".repeat(5000))),
        ("too_large", update(expected, json!({ "card.1": "x".repeat(20_000) })).to_string()),
        ("out_of_order", update(expected - 1, json!({ "card.1": place(0.0) })).to_string()),
        ("out_of_order", update(expected + 1, json!({ "card.1": place(0.0) })).to_string()),
        ("out_of_order", json!({ "seq": u64::MAX, "type": "bye" }).to_string()),
    ];
    for (code, text) in unread {
        ada.send_text(text.clone()).await;
        let error = ada.until(|message| message["type"] == "error").await;
        assert_eq!((&error["code"], &error["expected"]), (&json!(code), &json!(expected)), "{text}: {error}");
    }
    let many: serde_json::Map<_, _> = (0..17).map(|part| (format!("cursor.{}.{part}", ada.id), place(0.5))).collect();
    let forbidden = [
        json!({ "type": "hello", "name": "Eve" }),
        json!({ "type": "lock", "keys": ["title.1"] }),
        json!({ "type": "lock", "keys": ["card.99"] }),
        json!({ "type": "update", "change": { "removals": ["card.1"] } }),
        json!({ "type": "update", "change": { "removals": [format!("user.{}", ada.id)] } }),
        json!({ "type": "update", "change": { "updates": { "card.99": place(0.5) } } }),
        json!({ "type": "update", "change": { "updates": { "card.101": place(0.5) } } }),
        json!({ "type": "update", "change": { "updates": { "card.01": place(0.5) } } }),
        json!({ "type": "update", "change": { "updates": { "title.1": 7 } } }),
        json!({ "type": "update", "change": { "updates": { format!("user.{}", ada.id): { "name": "\t" } } } }),
        json!({ "type": "update", "change": { "updates": { format!("user.{}", ada.id): { "nick": "Ada" } } } }),
        json!({ "type": "update", "change": { "updates": { "user.0": { "name": "Eve" } } } }),
        json!({ "type": "update", "change": { "updates": { "card.1": { "x": 0.5 } } } }),
        json!({ "type": "update", "change": { "updates": { "card.1": place(1.01) } } }),
        json!({ "type": "update", "change": { "updates": { "card.1": { "x": 0, "y": 0, "z": [] } } } }),
        json!({ "type": "update", "change": { "updates": many } }),
    ];
    for message in forbidden {
        let seq = ada.send(message.clone()).await;
        let error = ada.answer(seq).await;
        assert_eq!((&error["code"], &error["expected"]), (&json!("not_allowed"), &json!(seq + 1)), "{message}");
    }

    // The connection, the lock and the content are as they were.
    let before = ada.content["card.1"].clone();
    let mut bob = Client::join(&server, "Bob").await;
    assert_eq!(bob.content["card.1"], before);
    let seq = bob.lock("card.1").await;
    assert_eq!(bob.answer(seq).await["type"], "refused");
    ada.update(json!({ "card.1": place(1.0) })).await;
    bob.sees_value("card.1", &place(1.0)).await;
    ada.sees(|content| *content == bob.content).await;
}

#[tokio::test]
async fn nothing_goes_before_the_hello() {
    let server = Server::start(&[]).await;
    let mut eve = Client::silent(&server).await;
    let seq = eve.lock("card.1").await;
    assert_eq!(eve.answer(seq).await["code"], "not_allowed");
    let seq = eve.send(json!({ "type": "hello", "name": "" })).await;
    assert_eq!(eve.answer(seq).await["code"], "not_allowed");
    eve.send(json!({ "type": "hello", "name": "Eve" })).await;
    eve.until(|message| message["type"] == "welcome").await;
}

#[tokio::test]
async fn a_message_too_long_to_be_read_ends_the_connection_and_not_the_session() {
    let server = Server::start(&["--grace", "3600"]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let seq = ada.lock("card.1").await;
    assert_eq!(ada.answer(seq).await["type"], "granted");
    let id = ada.id.clone();

    ada.send_text("x".repeat(300_000)).await;
    let end = ada.end().await;
    // The code gets lost if the system finds that the server has not read everything.
    assert!(end.is_none_or(|end| u16::from(end.code) == 1009));
    let ada = ada.again(&server).await;
    assert_eq!((ada.id, &ada.welcome["resumed"]), (id.clone(), &json!(true)));
    let mut bob = Client::join(&server, "Bob").await;
    let seq = bob.lock("card.1").await;
    assert_eq!(refusal(&bob.answer(seq).await), ("card.1", id.as_str()));
}

#[tokio::test]
async fn a_client_that_returns_gets_exactly_what_has_changed() {
    let server = Server::start(&["--grace", "3600", "--lease", "3600"]).await;
    let mut bob = Client::join(&server, "Bob").await;
    let cursor = format!("cursor.{}", bob.id);
    bob.lock("card.3").await;
    bob.update(json!({ "card.3": place(0.1), cursor.as_str(): place(0.1) })).await;
    bob.sees(|content| content.contains_key(&cursor)).await;
    let mut ada = Client::join(&server, "Ada").await;
    let seq = ada.lock("card.1").await;
    assert_eq!(ada.answer(seq).await["type"], "granted");
    ada.sees_value("card.3", &place(0.1)).await;
    let (id, user) = (ada.id.clone(), format!("user.{}", ada.id));
    ada.socket.close(None).await.unwrap();

    bob.update(json!({ "card.3": place(0.2) })).await;
    bob.update(json!({ "card.3": place(0.3) })).await;
    bob.send(json!({ "type": "update", "change": { "removals": [&cursor] } })).await;
    bob.sees(|content| !content.contains_key(&cursor)).await;

    let mut ada = ada.again(&server).await;
    assert_eq!((&ada.id, &ada.welcome["resumed"]), (&id, &json!(true)));
    // The messages that all clients were sent meanwhile.
    let (mut updates, mut removals) = (Map::new(), Vec::new());
    let locks = loop {
        let message = ada.until(|message| message["type"] == "changes" || message["type"] == "locks").await;
        if message["type"] == "locks" {
            break message;
        }
        assert_eq!(message["delivery"]["full"], false);
        updates.extend(message["delivery"]["updates"].as_object().unwrap().clone());
        removals.extend(message["delivery"]["removals"].as_array().unwrap().clone());
    };
    // Besides what Bob did: the name that the hello has set.
    let missed = json!({ "card.3": place(0.3), user.as_str(): { "name": "again" } });
    assert_eq!((Value::from(updates), removals), (missed, vec![json!(cursor)]));
    assert_eq!(locks["delivery"]["full"]["locks"]["card.1"]["owner"], id);
    bob.sees_value(&user, &json!({ "name": "again" })).await;
    assert_eq!(ada.content, bob.content);
}

#[tokio::test]
async fn a_client_that_cannot_resume_gets_the_whole_content() {
    let server = Server::start(&[]).await;
    let first = Client::join(&server, "Ada").await;
    let (store, revision) = first.position.as_str().unwrap().split_once(':').unwrap();
    let foreign = format!("{:016x}:{revision}", !u64::from_str_radix(store, 16).unwrap());
    for position in [foreign, format!("{store}:999999")] {
        let mut client = Client::hello(&server, json!({ "name": "Bob", "position": position })).await;
        let changes = client.until(|message| message["type"] == "changes").await;
        assert_eq!(changes["delivery"]["full"], true);
        assert!(first.content.keys().all(|key| client.content.contains_key(key)));
    }
    let mut client = Client::silent(&server).await;
    client.send_text(json!({ "seq": 1, "type": "hello", "name": "Bob", "position": "yesterday" }).to_string()).await;
    let error = client.until(|_| true).await;
    assert_eq!(error["code"], "malformed");
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_gets_what_it_missed_merged() {
    let server = Server::start(&[]).await;
    let mut slow = Client::narrow(&server, "slow").await;
    let mut watcher = Client::join(&server, "watcher").await;
    let mut writers = JoinSet::new();
    for _ in 0..12 {
        let mut writer = Client::join(&server, "writer").await;
        let value: Map<_, _> =
            ('a'..='n').map(|name| (name.to_string().repeat(16), json!(0.123_456_789_012_345))).collect();
        let mut update = Map::new();
        for part in 0..10 {
            let mut value = value.clone();
            value.extend([("x".to_owned(), json!(0)), ("y".to_owned(), json!(0))]);
            update.insert(format!("cursor.{}.{part}", writer.id), value.into());
        }
        writers.spawn(async move {
            let mut ticks = interval(Duration::from_millis(20));
            loop {
                tokio::select! {
                    _ = ticks.tick() => drop(writer.update(update.clone().into()).await),
                    _ = writer.socket.next() => {}
                }
            }
        });
    }
    // It reads nothing while the other gets more messages than can be kept for it. Then one comes that is several of those.
    soon(async {
        let mut steps = BTreeSet::new();
        let is_merged = |steps: &BTreeSet<u64>, message: &Value| {
            let [from, to] = ["since", "revision"].map(|end| message["delivery"][end].as_u64().unwrap_or_default());
            steps.range(from + 1..).next().is_some_and(|step| *step < to)
        };
        for number in 1.. {
            steps.extend(watcher.next().await.unwrap()["delivery"]["revision"].as_u64());
            if number > 80 && is_merged(&steps, &slow.next().await.unwrap()) {
                break;
            }
        }
    })
    .await;
    drop(writers);
    // Reading on, it comes to what the other has.
    soon(async {
        while slow.position != watcher.position {
            tokio::select! {
                message = slow.next() => message.unwrap(),
                message = watcher.next() => message.unwrap(),
            };
        }
    })
    .await;
    assert_eq!(slow.content, watcher.content);
}

#[tokio::test]
async fn a_client_that_joins_while_others_write_begins_where_the_next_common_message_does() {
    let server = Server::start(&[]).await;
    let mut writers = JoinSet::new();
    for _ in 0..2 {
        let mut writer = Client::join(&server, "writer").await;
        let (cursor, value) = (format!("cursor.{}", writer.id), place(0.5));
        writers.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _ = writer.socket.next() => {}
                    () = yield_now() => drop(writer.update(json!({ cursor.as_str(): value })).await),
                }
            }
        });
    }
    for _ in 0..100 {
        let mut client = Client::join(&server, "Ada").await;
        let reached = client.position.clone();
        let changes = client.until(|message| message["type"] == "changes").await;
        let from = changes["delivery"]["since"].as_u64().unwrap();
        assert_eq!(reached.as_str().unwrap().split_once(':').unwrap().1, from.to_string());
        client.send(json!({ "type": "bye" })).await;
    }
}

#[tokio::test]
async fn a_session_goes_on_in_its_latest_connection_and_with_its_secret_only() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let session = ada.welcome["session"].clone();
    let again = Client::hello(&server, json!({ "name": "Ada", "session": session })).await;
    assert_eq!((&again.id, &again.welcome["resumed"]), (&ada.id, &json!(true)));
    assert_eq!(ada.end().await.map(|end| u16::from(end.code)), Some(4001));

    let forged = json!({ "id": session["id"], "secret": "0123456789abcdef" });
    let eve = Client::hello(&server, json!({ "name": "Eve", "session": forged })).await;
    assert_ne!(eve.id, again.id);
    assert_eq!(eve.welcome["resumed"], false);
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    let server = Server::start(&[]).await;
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", "http://elsewhere.example".parse().unwrap());
    match soon(connect_async(request)).await.unwrap_err() {
        Error::Http(answer) => assert_eq!(answer.status(), 403),
        other => panic!("{other}"),
    }
    assert!(server.get("/").await.contains("<title>Shared board</title>"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let server = Server::start(&[]).await;
    let second = Command::new(env!("CARGO_BIN_EXE_server")).args(["--listen", &server.address]).output();
    let second = soon(second).await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.starts_with(&format!("error: cannot listen on {}: ", server.address)), "{error}");

    let wrong = Command::new(env!("CARGO_BIN_EXE_server")).args(["--lease", "0"]).stderr(Stdio::null()).status();
    assert_eq!(soon(wrong).await.unwrap().code(), Some(2));
}

#[cfg(unix)]
#[tokio::test]
async fn on_ctrl_c_every_client_is_told() {
    let mut server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    ada.change(json!({ "card.1": place(0.125) })).await;
    let pid = server.process.id().unwrap().to_string();
    assert!(soon(Command::new("kill").args(["-INT", &pid]).status()).await.unwrap().success());
    assert_eq!(ada.end().await.map(|end| u16::from(end.code)), Some(1001));
    assert!(soon(server.process.wait()).await.unwrap().success());
}
