//! The board in a file, with a server that is killed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Client, Server, soon};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{MissedTickBehavior, interval, sleep};

fn place(x: f64) -> Value {
    json!({ "x": x, "y": 0.5 })
}

/// Where step N of a drag puts the card.
fn fraction(step: u64) -> f64 {
    f64::from(u32::try_from(step).unwrap()) / 1000.0
}

/// Moves the card and the cursor thirty times a second until the connection ends. Returns the last number that was sent and
/// the last that the server has confirmed.
async fn drag(client: &mut Client, card: &str) -> (u64, u64) {
    let cursor = format!("cursor.{}", client.id);
    let mut ticks = interval(Duration::from_millis(33));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut step, mut confirmed, mut steps) = (0, 0, BTreeMap::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                step += 1;
                let at = place(fraction(step));
                client.seq += 1;
                steps.insert(client.seq, step);
                let updates = json!({ card: at, cursor.as_str(): at });
                let message = json!({ "seq": client.seq, "type": "update", "change": { "updates": updates } });
                if client.try_send(message).await.is_err() {
                    return (step, confirmed);
                }
            }
            message = client.next() => match message {
                Ok(message) if message["type"] == "done" => {
                    let done = steps[&message["seq"].as_u64().unwrap()];
                    assert!(done > confirmed, "answers are in the order of the requests");
                    confirmed = done;
                }
                Ok(message) => assert!(message["type"] != "error" && message["type"] != "refused", "{message}"),
                Err(_) => return (step, confirmed),
            }
        }
    }
}

#[tokio::test]
async fn a_killed_server_has_everything_that_it_confirmed_and_its_clients_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("board.log");
    let options = ["--store", file.to_str().unwrap(), "--grace", "3600", "--lease", "3600"];
    let mut server = Server::start(&options).await;
    let mut ids = Vec::new();
    for round in 0..3_u64 {
        let mut ada = Client::join(&server, "Ada").await;
        let bob = Client::join(&server, "Bob").await;
        ids.extend([ada.id.clone(), bob.id.clone()]);
        let card = format!("card.{}", round + 1);
        let seq = ada.lock(&card).await;
        let tokens = ada.answer(seq).await["tokens"].clone();

        let (sent, confirmed) = {
            let dragging = drag(&mut ada, &card);
            let killing = async {
                sleep(Duration::from_millis(700 + 37 * round)).await;
                server.process.kill().await.unwrap();
            };
            let (dragged, ()) = soon(async { tokio::join!(dragging, killing) }).await;
            dragged
        };
        assert!(confirmed > 0, "nothing was confirmed of {sent} moves");
        server = Server::start(&options).await;

        // The session, with its lock and its cursor, and the card: where it was confirmed or sent later.
        let (id, store) = (ada.id.clone(), ada.position.as_str().unwrap().split_once(':').unwrap().0.to_owned());
        let mut ada = ada.again(&server).await;
        assert_eq!((&ada.id, &ada.welcome["resumed"]), (&id, &json!(true)));
        let locks = ada.until(|message| message["type"] == "locks").await;
        assert_eq!(locks["delivery"]["full"]["locks"][&card]["owner"], id);
        assert!(ada.position.as_str().unwrap().starts_with(&store), "the store is the same");
        let x = ada.content[&card]["x"].as_f64().unwrap();
        let (least, most) = (fraction(confirmed), fraction(sent));
        assert!((least..=most).contains(&x), "{x} is not from {least} to {most}");
        assert!(ada.content.contains_key(&format!("cursor.{id}")));
        assert!(ada.content.keys().all(|key| !key.starts_with("server.")));

        // It goes on with the drag, and others have what it has.
        let seq = ada.send(json!({ "type": "renew", "keys": [card] })).await;
        assert_eq!(ada.answer(seq).await["tokens"], tokens);
        let seq = ada.update(json!({ card.as_str(): place(1.0) })).await;
        assert_eq!(ada.answer(seq).await["type"], "done");
        let mut bob = bob.again(&server).await;
        bob.sees_value(&card, &place(1.0)).await;
        ada.sees(|content| *content == bob.content).await;
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id was given twice");
}

#[cfg(unix)]
#[tokio::test]
async fn cards_that_were_removed_do_not_return_with_a_restart_and_the_others_stay_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("board.log");
    let options = ["--store", file.to_str().unwrap()];
    let mut server = Server::start(&options).await;
    let mut ada = Client::join(&server, "Ada").await;
    let seq = ada.change(json!({ "card.1": place(0.125) })).await;
    assert_eq!(ada.answer(seq).await["type"], "done");
    let keys = ["card.2", "title.2"];
    let at = |key| json!({ "key": key, "expected": { "at": ada.revisions[key] } });
    let removal = json!({ "removals": keys, "conditions": keys.map(at) });
    let seq = ada.send(json!({ "type": "update", "change": removal })).await;
    assert_eq!(ada.answer(seq).await["type"], "done");

    let second = Command::new(env!("CARGO_BIN_EXE_server")).args(["--listen", "127.0.0.1:0"]).args(options).output();
    let second = soon(second).await.unwrap();
    assert_eq!(second.status.code(), Some(1), "the file is in use");

    let pid = server.process.id().unwrap().to_string();
    assert!(soon(Command::new("kill").args(["-INT", &pid]).status()).await.unwrap().success());
    assert!(soon(server.process.wait()).await.unwrap().success());
    let server = Server::start(&options).await;
    let bob = Client::join(&server, "Bob").await;
    assert_eq!(bob.content["card.1"], place(0.125));
    assert!(bob.content.contains_key("card.3") && !bob.content.contains_key("card.2"));
}

#[cfg(not(feature = "etcd"))]
#[tokio::test]
async fn a_server_without_etcd_says_how_to_build_one_with_it() {
    let run = Command::new(env!("CARGO_BIN_EXE_server")).args(["--etcd", "http://127.0.0.1:2379"]).output();
    let run = soon(run).await.unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8(run.stderr).unwrap().contains("--features etcd"));
}
