//! Who may change cards, and when: over real connections to a real server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Client, Server};
use serde_json::{Value, json};

fn place(x: f64) -> Value {
    json!({ "x": x, "y": 0.5 })
}

/// A change of a whole card that has not been there.
fn new(number: u32, title: &str) -> Value {
    let [card, title_key] = ["card", "title"].map(|kind| format!("{kind}.{number}"));
    let conditions = [json!({ "key": card, "expected": "absent" })];
    let updates = json!({ card.as_str(): place(0.5), title_key.as_str(): title });
    json!({ "type": "update", "change": { "updates": updates, "conditions": conditions } })
}

/// The removal of a card, on condition that it is as the client has seen it.
fn removal(client: &Client, number: u32) -> Value {
    let keys = ["card", "title"].map(|kind| format!("{kind}.{number}"));
    let at = |key: &String| json!({ "key": key, "expected": { "at": client.revisions[key] } });
    json!({ "type": "update", "change": { "removals": keys, "conditions": keys.iter().map(at).collect::<Vec<_>>() } })
}

/// What the answer to this message is: its type, or the code of an error.
async fn outcome(client: &mut Client, message: Value) -> String {
    let seq = client.send(message).await;
    let answer = client.answer(seq).await;
    answer["code"].as_str().or(answer["type"].as_str()).unwrap().to_owned()
}

#[tokio::test]
async fn a_card_cannot_be_moved_without_its_lock_or_its_revision() {
    let server = Server::start(&["--lease", "0.3"]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let mut bob = Client::join(&server, "Bob").await;
    let unlocked = json!({ "type": "update", "change": { "updates": { "card.1": place(0.1) } } });
    let present = json!({ "type": "update", "change": { "updates": { "card.1": place(0.1) },
        "conditions": [{ "key": "card.1", "expected": "present" }, { "key": "card.2", "expected": { "at": 0 } }] } });
    assert_eq!(outcome(&mut ada, unlocked.clone()).await, "conflict");
    assert_eq!(outcome(&mut ada, present).await, "conflict");

    // A lease that has run out, and another who has moved the card since.
    ada.lock("card.1").await;
    ada.until(|message| message["delivery"]["events"][0]["kind"] == "expired").await;
    assert_eq!(outcome(&mut ada, unlocked).await, "conflict");
    assert_eq!(outcome(&mut ada, json!({ "type": "renew", "keys": ["card.1"] })).await, "conflict");
    let before = ada.revisions.clone();
    let seq = bob.change(json!({ "card.1": place(0.9) })).await;
    assert_eq!(bob.answer(seq).await["type"], "done");
    ada.sees_value("card.1", &place(0.9)).await;
    ada.revisions = before;
    let seq = ada.change(json!({ "card.1": place(0.1) })).await;
    assert_eq!(ada.answer(seq).await["code"], "conflict");
    assert_eq!(ada.content["card.1"], place(0.9));
}

#[tokio::test]
async fn a_lease_that_is_renewed_in_time_does_not_run_out() {
    let server = Server::start(&["--lease", "1"]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let seq = ada.lock("card.1").await;
    let tokens = ada.answer(seq).await["tokens"].clone();
    for _ in 0..6 {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let seq = ada.send(json!({ "type": "renew", "keys": ["card.1"] })).await;
        let answer = ada.answer(seq).await;
        assert_eq!(answer, json!({ "type": "granted", "seq": seq, "keys": ["card.1"], "tokens": tokens }));
    }
    let seq = ada.update(json!({ "card.1": place(0.1) })).await;
    assert_eq!(ada.answer(seq).await["type"], "done");
}

#[tokio::test]
async fn a_renewal_of_nothing_is_answered_so_that_a_client_can_ask_for_a_sign_of_life() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let seq = ada.send(json!({ "type": "renew", "keys": [] })).await;
    assert_eq!(ada.answer(seq).await, json!({ "type": "granted", "seq": seq, "keys": [], "tokens": {} }));
}

#[tokio::test]
async fn a_card_that_another_holds_is_renamed_on_condition_of_its_titles_revision() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let mut bob = Client::join(&server, "Bob").await;
    let seq = ada.lock("card.1").await;
    assert_eq!(ada.answer(seq).await["type"], "granted");
    let unconditional = json!({ "type": "update", "change": { "updates": { "title.1": "Bob's" } } });
    assert_eq!(outcome(&mut bob, unconditional).await, "conflict");
    let seq = bob.change(json!({ "title.1": "Bob's" })).await;
    assert_eq!(bob.answer(seq).await["type"], "done");
    ada.sees_value("title.1", &json!("Bob's")).await;
}

#[tokio::test]
async fn cards_are_added_renamed_and_removed_and_outlive_their_authors() {
    let server = Server::start(&["--grace", "0.1"]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let mut bob = Client::join(&server, "Bob").await;
    assert_eq!(outcome(&mut ada, new(7, "Ada's")).await, "done");
    bob.sees_value("title.7", &json!("Ada's")).await;
    let seq = bob.change(json!({ "title.7": "Bob's" })).await;
    assert_eq!(bob.answer(seq).await["type"], "done");
    let seq = bob.lock("card.7").await;
    assert_eq!(bob.answer(seq).await["type"], "granted");
    let mixed = json!({ "card.7": place(0.25), format!("cursor.{}", bob.id): place(0.25) });
    let seq = bob.update(mixed).await;
    assert_eq!(bob.answer(seq).await["type"], "done");
    ada.sees_value("card.7", &place(0.25)).await;
    let removed = removal(&ada, 7);
    assert_eq!(outcome(&mut ada, removed).await, "refused", "it is locked by another");

    // Who has added it, and who has moved it, go.
    drop((ada, bob));
    let mut eve = Client::join(&server, "Eve").await;
    eve.sees(|content| content.keys().filter(|key| key.starts_with("user.")).count() == 1).await;
    assert_eq!((&eve.content["card.7"], &eve.content["title.7"]), (&place(0.25), &json!("Bob's")));
    let removed = removal(&eve, 7);
    assert_eq!(outcome(&mut eve, removed).await, "done");
    eve.sees(|content| !content.contains_key("card.7") && !content.contains_key("title.7")).await;
    assert_eq!(outcome(&mut eve, new(7, "another")).await, "done", "its number is free again");
}

#[tokio::test]
async fn the_owner_of_a_lock_renames_and_removes_without_conditions() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    ada.lock("card.1").await;
    let renamed = json!({ "type": "update", "change": { "updates": { "title.1": "mine" } } });
    assert_eq!(outcome(&mut ada, renamed).await, "done");
    let removed = json!({ "type": "update", "change": { "removals": ["card.1", "title.1"] } });
    assert_eq!(outcome(&mut ada, removed).await, "done");
    let moved = json!({ "type": "update", "change": { "updates": { "card.1": place(0.5) } } });
    assert_eq!(outcome(&mut ada, moved).await, "not_allowed", "it is not there any more");
}

#[tokio::test]
async fn a_card_and_its_title_come_and_go_together() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    ada.lock("card.1").await;
    let change = |change: Value| json!({ "type": "update", "change": change });
    let absent = |key: &str| json!([{ "key": key, "expected": "absent" }]);
    for (half, answer) in [
        (json!({ "removals": ["card.1"] }), "not_allowed"),
        (json!({ "removals": ["title.1"] }), "not_allowed"),
        (json!({ "updates": { "title.1": "x" }, "removals": ["card.1"] }), "not_allowed"),
        (json!({ "updates": { "card.9": place(0.5) }, "conditions": absent("card.9") }), "not_allowed"),
        (json!({ "updates": { "title.9": "x" }, "conditions": absent("card.9") }), "not_allowed"),
        (json!({ "updates": { "title.9": "x" }, "conditions": absent("title.9") }), "not_allowed"),
        (json!({ "updates": { "card.9": place(0.5), "title.9": "x" } }), "not_allowed"),
        (json!({ "updates": { "title.2": "x" } }), "conflict"),
        (json!({ "removals": ["card.2", "title.2"] }), "conflict"),
    ] {
        assert_eq!(outcome(&mut ada, change(half.clone())).await, answer, "{half}");
    }
    let mut bob = Client::join(&server, "Bob").await;
    assert_eq!(outcome(&mut bob, new(2, "taken")).await, "conflict");
    assert_eq!(bob.content["title.2"], "Sketch the layout");
}

#[tokio::test]
async fn names_and_titles_keep_to_the_rule() {
    let server = Server::start(&[]).await;
    let mut ada = Client::join(&server, "Ada").await;
    let texts: Vec<Value> = serde_json::from_str(include_str!("texts.json")).unwrap();
    for case in texts {
        let text = &case["text"];
        let good = case["good"] == true;
        let is_name = case["longest"] == 32;
        if is_name {
            let mut client = Client::silent(&server).await;
            client.send(json!({ "type": "hello", "name": text })).await;
            let answer = client.until(|message| message["type"] != "changes").await;
            assert_eq!(answer["type"], if good { "welcome" } else { "error" }, "{case}: {answer}");
            if !good {
                assert_eq!(answer["code"], "not_allowed", "{case}");
                assert!(
                    answer["message"].as_str().unwrap().starts_with("the name cannot be used: it has ")
                        || answer["message"].as_str().unwrap().starts_with("the name cannot be used: U+")
                        || answer["message"].as_str().unwrap().starts_with("the name cannot be used: a space "),
                    "{answer}"
                );
                // And then with a name that can, or without one.
                let hello = if case["cleaned"] == "" {
                    json!({ "type": "hello" })
                } else {
                    json!({ "type": "hello", "name": case["cleaned"] })
                };
                client.send(hello).await;
                client.until(|message| message["type"] == "welcome").await;
            }
            client.send(json!({ "type": "bye" })).await;
        } else {
            let seq = ada.change(json!({ "title.1": text })).await;
            let answer = ada.answer(seq).await;
            assert_eq!(answer["type"], if good { "done" } else { "error" }, "{case}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_guest_has_no_name() {
    let server = Server::start(&[]).await;
    let guest = Client::hello(&server, json!({})).await;
    let mut ada = Client::join(&server, "Ada").await;
    ada.sees_value(&format!("user.{}", guest.id), &json!({})).await;
    ada.update(json!({ format!("user.{}", ada.id): {} })).await;
    let user = format!("user.{}", ada.id);
    ada.sees_value(&user, &json!({})).await;
}
