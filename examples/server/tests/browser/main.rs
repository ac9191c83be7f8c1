//! Two pages in headless Chromium, end to end. Ignored where nobody asks for it, since it needs a Chromium: `.ci/server`
//! does. The screenshots are in `tmp/browser/board` of cargo's target folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod chromium;
mod faults;
mod proxy;

use chromium::Page;
use common::{Client, Server};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const CARD: &str = "document.querySelector('[data-key=\"card.2\"]')";

/// The element of a card.
fn card(number: u32) -> String {
    format!("document.querySelector('[data-key=\"card.{number}\"]')")
}

/// Whether a notice has this text.
fn is_said(text: &str) -> String {
    format!("[...document.querySelectorAll('#notices p')].some(notice => notice.textContent.includes({text:?}))")
}

/// An empty folder for profiles and screenshots.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

async fn open(folder: &Path, address: &str, name: &str) -> Page {
    let mut page = Page::open(&folder.join(name), &format!("http://{address}/?name={name}")).await;
    page.until("document.readyState == 'complete' && document.querySelectorAll('.card').length == 6").await;
    page
}

/// Presses the mouse on a card, waits until it is held, and moves it a little. The mouse is where this returns.
async fn drag(page: &mut Page, number: u32) -> (f64, f64) {
    let from = page.middle(&card(number)).await;
    page.mouse("mouseMoved", from).await;
    page.mouse("mousePressed", from).await;
    page.until(&format!("document.querySelector('#holding').textContent && state.holding == 'card.{number}'")).await;
    let to = (from.0 + 40.0, from.1 + 40.0);
    page.mouse("mouseMoved", to).await;
    to
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn two_pages_share_a_board() {
    let folder = folder("board");
    let server = Server::start(&["--grace", "1"]).await;
    let mut ada = open(&folder, &server.address, "Ada").await;
    let mut bob = open(&folder, &server.address, "Bob").await;

    // Who is here.
    for page in [&mut ada, &mut bob] {
        page.until(
            "[...document.querySelectorAll('#people li')].map(item => item.textContent).sort().join() == 'Ada,Bob'",
        )
        .await;
        page.until("document.querySelectorAll('#people li[data-me]').length == 1").await;
    }

    // Ada drags a card, and does not let go of it. Bob sees card, cursor and owner.
    let before = bob.middle(CARD).await;
    let from = ada.middle(CARD).await;
    drag(&mut ada, 2).await;
    for step in 1..=10 {
        let step = f64::from(step);
        ada.mouse("mouseMoved", (from.0 - 15.0 * step, from.1 + 8.0 * step)).await;
    }
    bob.until(&format!("{CARD}.querySelector('.owner').textContent == 'Ada'")).await;
    let named = "[...document.querySelectorAll('#board bdi')].filter(name => name.checkVisibility() && name.textContent == 'Ada')";
    assert_eq!(bob.eval(&format!("{named}.length")).await, 1, "the owner's name is there once");
    bob.until(&format!("document.querySelectorAll('.cursor').length == 1 && {CARD}.dataset.held == 'theirs'")).await;
    let there = ada.eval("JSON.stringify(state.place('card.2'))").await;
    bob.until(&format!("JSON.stringify(state.place('card.2')) == {there:?}", there = there.as_str().unwrap())).await;
    let after = bob.middle(CARD).await;
    assert!(
        (before.0 - after.0 - 150.0).abs() < 2.0 && (after.1 - before.1 - 80.0).abs() < 2.0,
        "{before:?} {after:?}"
    );

    // Bob may not.
    bob.mouse("mousePressed", after).await;
    bob.until(&is_said("You cannot move “Sketch the layout”: Ada holds it.")).await;
    bob.mouse("mouseMoved", (after.0 + 50.0, after.1)).await;
    bob.mouse("mouseReleased", (after.0 + 50.0, after.1)).await;
    bob.until(&format!("!{CARD}.classList.contains('shake')")).await;
    assert_eq!(bob.middle(CARD).await, after);
    assert_eq!(bob.eval("document.querySelector('#holding').textContent").await, "");
    for (page, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
        for (device, width) in [("desktop", 1100), ("phone", 375)] {
            page.resize(width, 700).await;
            page.screenshot(&folder.join(format!("{name}-{device}.png"))).await;
            assert_eq!(page.eval("document.documentElement.scrollWidth").await, width, "nothing is too wide");
        }
    }
    ada.resize(1100, 700).await;

    // Ada's browser is killed. Her lock and her cursor go, and Bob can have the card, with the keyboard too.
    let mut eve = Client::join(&server, "Eve").await;
    ada.kill().await;
    bob.until(
        "document.querySelectorAll('.cursor').length == 0 && document.querySelectorAll('#people li').length == 2",
    )
    .await;
    bob.until(&format!("!{CARD}.dataset.held")).await;
    bob.eval(&format!("{CARD}.querySelector('.grip').focus()")).await;
    let start = bob.eval("state.place('card.2').x").await.as_f64().unwrap();
    for _ in 0..5 {
        bob.press("ArrowRight").await;
    }
    let moved = |card: &Value| card["x"].as_f64().is_some_and(|x| (x - start - 0.1).abs() < 0.001);
    eve.sees(|content| moved(&content["card.2"])).await;
    bob.until("state.drag == null && state.held.size == 0").await;
    eve.sees(|content| content.keys().filter(|key| key.starts_with("user.")).count() == 2).await;

    // On a phone, with a finger.
    let (x, y) = bob.middle(&card(1)).await;
    bob.drag_by_finger(&[(x, y), (x + 10.0, y + 40.0), (x + 20.0, y + 80.0)]).await;
    let moved = |card: &Value| card["x"].as_f64() > Some(0.15) && card["y"].as_f64() > Some(0.2);
    eve.sees(|content| moved(&content["card.1"])).await;

    // What people are called is shown as it is, whatever it is.
    eve.update(json!({ format!("user.{}", eve.id): { "name": "<b>Eve</b>" } })).await;
    bob.until("[...document.querySelectorAll('#people bdi')].some(item => item.textContent == '<b>Eve</b>')").await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_page_that_is_left_says_goodbye() {
    let server = Server::start(&["--grace", "3600"]).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("goodbye"), &server.address, "Ada").await;
    eve.sees(|content| content.keys().filter(|key| key.starts_with("user.")).count() == 2).await;
    ada.call("Page.navigate", json!({ "url": "about:blank" })).await;
    eve.sees(|content| content.keys().filter(|key| key.starts_with("user.")).count() == 1).await;
}
