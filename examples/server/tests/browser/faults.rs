//! What goes wrong around a page: the network, its own script, other tabs, and what people type.

use crate::chromium::Page;
use crate::common::{Client, Server, soon};
use crate::proxy::Proxy;
use crate::{card, drag, folder, is_said, open};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

const LIVE: &str = "document.querySelector('#connection').dataset.state == 'live'";
const DOWN: &str = "document.querySelector('#connection').dataset.state == 'down'";
const HOLDING: &str = "document.querySelector('#holding').textContent";

fn place(x: f64) -> Value {
    json!({ "x": x, "y": 0.5 })
}

/// The place of a card as the page shows it.
async fn shown(page: &mut Page, number: u32) -> Value {
    let script = format!(
        "(style => ({{ x: +style.getPropertyValue('--x'), y: +style.getPropertyValue('--y') }}))({}.style)",
        card(number)
    );
    page.eval(&script).await
}

/// Locks a card as soon as it is free.
async fn take(client: &mut Client, key: &str) {
    soon(async {
        loop {
            let seq = client.lock(key).await;
            if client.answer(seq).await["type"] == "granted" {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Moves a card as soon as it is free.
async fn take_and_move(client: &mut Client, key: &str, to: &Value) {
    take(client, key).await;
    let seq = client.update(json!({ key: to })).await;
    assert_eq!(client.answer(seq).await["type"], "done");
    client.send(json!({ "type": "unlock", "keys": [key] })).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_drag_that_ends_offline_is_sent_when_the_connection_is_back() {
    let server = Server::start(&["--grace", "60", "--lease", "60"]).await;
    let proxy = Proxy::to(&server).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("offline"), &proxy.address, "Ada").await;
    let (x, y) = drag(&mut ada, 1).await;
    proxy.cut();
    ada.until(DOWN).await;
    ada.mouse("mouseMoved", (x + 100.0, y + 60.0)).await;
    ada.mouse("mouseReleased", (x + 100.0, y + 60.0)).await;
    ada.until(&format!("{HOLDING}.includes('is moved when the connection is back')")).await;
    let wanted = shown(&mut ada, 1).await;
    proxy.mend();
    eve.sees(|content| content["card.1"] == wanted).await;
    take(&mut eve, "card.1").await;
    ada.until(LIVE).await;
    assert_eq!(shown(&mut ada, 1).await, wanted);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_drag_that_ends_offline_is_reported_as_lost_if_another_has_moved_the_card() {
    let server = Server::start(&["--grace", "0.3", "--lease", "0.3"]).await;
    let proxy = Proxy::to(&server).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("offline-lost"), &proxy.address, "Ada").await;
    let (x, y) = drag(&mut ada, 1).await;
    proxy.cut();
    ada.until(DOWN).await;
    ada.mouse("mouseMoved", (x + 100.0, y + 60.0)).await;
    ada.mouse("mouseReleased", (x + 100.0, y + 60.0)).await;
    take_and_move(&mut eve, "card.1", &place(0.75)).await;
    proxy.mend();
    ada.until(&is_said("“Agree on the goal” was not moved: it has changed in the meantime.")).await;
    assert_eq!(shown(&mut ada, 1).await, place(0.75));
    eve.sees_value("card.1", &place(0.75)).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_lease_that_runs_out_while_the_script_stands_still_ends_the_drag() {
    let server = Server::start(&["--lease", "0.5"]).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("standstill"), &server.address, "Ada").await;
    let (x, y) = drag(&mut ada, 1).await;
    let still = async {
        ada.eval("for (const end = performance.now() + 2500; performance.now() < end;);").await;
        // The pointer goes on, and nobody has told the page anything yet.
        ada.mouse("mouseMoved", (x + 60.0, y + 60.0)).await;
        ada.mouse("mouseMoved", (x + 90.0, y + 90.0)).await;
        assert_eq!(ada.eval(HOLDING).await, "", "what the page says right then");
    };
    let elsewhere = place(0.75);
    tokio::join!(still, take_and_move(&mut eve, "card.1", &elsewhere));
    ada.until(&is_said("You no longer hold “Agree on the goal”")).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(shown(&mut ada, 1).await, place(0.75));
    eve.sees_value("card.1", &place(0.75)).await;
    ada.mouse("mouseReleased", (x + 90.0, y + 90.0)).await;
    assert_eq!(ada.eval(HOLDING).await, "");
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_resume_after_which_the_lock_is_gone_ends_the_drag() {
    let server = Server::start(&["--grace", "60", "--lease", "1"]).await;
    let proxy = Proxy::to(&server).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("resume"), &proxy.address, "Ada").await;
    let (x, y) = drag(&mut ada, 1).await;
    proxy.cut();
    ada.until(DOWN).await;
    take_and_move(&mut eve, "card.1", &place(0.75)).await;
    proxy.mend();
    ada.until(LIVE).await;
    ada.until(&is_said("You no longer hold “Agree on the goal”")).await;
    // The mouse is still down, and moves on.
    ada.mouse("mouseMoved", (x + 60.0, y + 60.0)).await;
    ada.mouse("mouseReleased", (x + 60.0, y + 60.0)).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!((ada.eval(HOLDING).await, shown(&mut ada, 1).await), (json!(""), place(0.75)));
    eve.sees_value("card.1", &place(0.75)).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn names_that_cannot_be_shown_are_cleaned_or_reported() {
    let server = Server::start(&[]).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("names"), &server.address, "A%E2%80%8Bda%09L").await;
    ada.until(LIVE).await;
    ada.until(&is_said("The text is used as “Ada L”")).await;
    eve.sees(|content| content.values().any(|value| value["name"] == "Ada L")).await;

    // A name that was stored by whatever was here before, and sessions that are none.
    for (name, session) in [("Ada\\tL", "5"), ("\\u200b\\u00a0", "[]"), ("x", "{\"id\":1}"), ("\\ud800", "not JSON")] {
        ada.eval(&format!(
            "sessionStorage.setItem('name', '\"{name}\"'), sessionStorage.setItem('session', '{session}')"
        ))
        .await;
        ada.eval("window.isOld = true").await;
        ada.call("Page.navigate", json!({ "url": format!("http://{}/", server.address) })).await;
        ada.until(&format!("window.isOld === undefined && document.readyState == 'complete' && {LIVE}")).await;
    }

    // Typed.
    ada.eval("document.querySelector('#name').focus()").await;
    ada.write("\u{202e}\u{200b}").await;
    ada.press("Enter").await;
    ada.until(&is_said("There is nothing to be seen in that text")).await;
    ada.eval("document.activeElement.blur()").await;

    // Of another: the direction of a name does not turn what is around it.
    eve.update(json!({ format!("user.{}", eve.id): { "name": "אדה" } })).await;
    ada.until("[...document.querySelectorAll('#people bdi')].some(name => name.textContent == 'אדה')").await;
    let isolation =
        "[...document.querySelectorAll('#people bdi')].every(name => getComputedStyle(name).unicodeBidi == 'isolate')";
    assert_eq!(ada.eval(isolation).await, true);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn cards_are_added_renamed_and_removed_by_mouse_keyboard_and_finger() {
    let server = Server::start(&[]).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("cards"), &server.address, "Ada").await;
    ada.until(LIVE).await;
    ada.click("document.querySelector('#new')").await;
    ada.write("A new card").await;
    ada.press("Enter").await;
    eve.sees_value("title.7", &json!("A new card")).await;
    ada.until(&is_said("“A new card” was added.")).await;
    ada.until(&format!("{} != null", card(7))).await;

    // With the mouse.
    ada.click(&format!("{}.querySelector('.rename')", card(7))).await;
    ada.until("document.querySelector('#ask').open && document.activeElement.id == 'title'").await;
    ada.write("Another title").await;
    ada.click("document.querySelector('#yes')").await;
    eve.sees_value("title.7", &json!("Another title")).await;
    ada.until("state.titleOf('card.7') == 'Another title'").await;

    // With the keyboard.
    ada.eval(&format!("{}.querySelector('.grip').focus()", card(7))).await;
    ada.press("Enter").await;
    ada.until("document.querySelector('#ask').open").await;
    ada.write("A third title").await;
    ada.press("Enter").await;
    eve.sees_value("title.7", &json!("A third title")).await;
    ada.until("state.titleOf('card.7') == 'A third title'").await;
    ada.until(&format!("document.activeElement == {}.querySelector('.grip')", card(7))).await;
    ada.press("Delete").await;
    ada.until("document.querySelector('#ask').open && document.activeElement.id == 'no'").await;
    ada.press("Tab").await;
    ada.press("Enter").await;
    eve.sees(|content| !content.contains_key("card.7") && !content.contains_key("title.7")).await;
    ada.until(&format!("{} == null", card(7))).await;

    // With a finger, on a phone. What is cancelled is not done.
    ada.resize(375, 700).await;
    ada.tap(&format!("{}.querySelector('.remove')", card(1))).await;
    ada.until("document.querySelector('#ask').open").await;
    ada.tap("document.querySelector('#no')").await;
    ada.until("!document.querySelector('#ask').open").await;
    ada.tap(&format!("{}.querySelector('.remove')", card(2))).await;
    ada.until("document.querySelector('#ask').open").await;
    ada.tap("document.querySelector('#yes')").await;
    eve.sees(|content| !content.contains_key("card.2")).await;
    assert!(eve.content.contains_key("card.1"));

    // What another does meanwhile is not overwritten.
    ada.tap(&format!("{}.querySelector('.rename')", card(1))).await;
    ada.until("document.querySelector('#ask').open").await;
    eve.change(json!({ "title.1": "Eve's" })).await;
    ada.until("state.titleOf('card.1') == \"Eve's\"").await;
    ada.write("Ada's").await;
    ada.tap("document.querySelector('#yes')").await;
    ada.until(&is_said("“Agree on the goal” was not renamed")).await;
    eve.sees_value("title.1", &json!("Eve's")).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_cursor_is_there_again_after_a_long_absence() {
    let server = Server::start(&["--grace", "0.2"]).await;
    let proxy = Proxy::to(&server).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("absence"), &proxy.address, "Ada").await;
    let middle = ada.middle("document.querySelector('#board')").await;
    ada.mouse("mouseMoved", middle).await;
    let has_cursor =
        |content: &std::collections::BTreeMap<String, Value>| content.keys().any(|key| key.starts_with("cursor."));
    eve.sees(has_cursor).await;
    proxy.cut();
    eve.sees(|content| !has_cursor(content) && content.keys().filter(|key| key.starts_with("user.")).count() == 1)
        .await;
    proxy.mend();
    eve.sees(has_cursor).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_page_whose_session_another_takes_over_begins_a_new_one_without_an_exception() {
    let server = Server::start(&[]).await;
    let mut ada = open(&folder("takeover"), &server.address, "Ada").await;
    ada.until(LIVE).await;
    let at = drag(&mut ada, 1).await;
    let id = ada.eval("state.session.id").await;
    let session: Value =
        serde_json::from_str(ada.eval("sessionStorage.getItem('session')").await.as_str().unwrap()).unwrap();
    let other = Client::hello(&server, json!({ "name": "Other", "session": session })).await;
    assert_eq!((&json!(other.id), &other.welcome["resumed"]), (&id, &json!(true)));
    for step in 1..60 {
        ada.mouse("mouseMoved", (at.0 + f64::from(step), at.1)).await;
    }
    ada.mouse("mouseReleased", at).await;
    ada.until(&format!("{LIVE} && state.session.id != {id}")).await;
    assert_eq!(ada.eval(HOLDING).await, "");
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn after_a_message_that_does_not_count_the_page_goes_on() {
    let server = Server::start(&["--lease", "3600"]).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("numbers"), &server.address, "Ada").await;
    ada.until(LIVE).await;
    let (x, y) = drag(&mut ada, 1).await;
    ada.eval(
        "{ const send = WebSocket.prototype.send; let spoilt = 0; \
         WebSocket.prototype.send = function(text) { send.call(this, ++spoilt == 2 ? '{' : text); }; }",
    )
    .await;
    for step in 1..30 {
        ada.mouse("mouseMoved", (x + f64::from(step), y)).await;
    }
    ada.mouse("mouseReleased", (x + 30.0, y)).await;
    let wanted = shown(&mut ada, 1).await;
    eve.sees(|content| content["card.1"] == wanted).await;
    take(&mut eve, "card.1").await;
    assert_eq!(ada.eval(LIVE).await, true);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn guests_are_told_apart_and_the_arrow_keys_are_not_mentioned_on_a_touch_screen() {
    let server = Server::start(&[]).await;
    let folder = folder("guests");
    let mut first = open(&folder, &server.address, "").await;
    let mut second = open(&folder.join("second"), &server.address, "").await;
    let people = "new Set([...document.querySelectorAll('#people li')].map(item => item.textContent)).size == 2 && \
        new Set([...document.querySelectorAll('#people li')].map(item => item.style.getPropertyValue('--colour'))).size == 2";
    first.until(people).await;
    second.until(people).await;
    let hint = "document.querySelector('#hint .keys').checkVisibility()";
    assert_eq!(first.eval(hint).await, true);
    first.resize(375, 700).await;
    first.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": true })).await;
    first.until(&format!("!{hint}")).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_drag_whose_end_no_pointer_tells_ends_and_keeps_the_last_place() {
    let server = Server::start(&["--lease", "3600"]).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("unended"), &server.address, "Ada").await;
    ada.until(LIVE).await;
    let ends = [
        "dispatchEvent(new Event('blur'))",
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true }), \
         document.dispatchEvent(new Event('visibilitychange')), delete document.hidden",
        "document.activeElement.releasePointerCapture(1), 0",
        "document.dispatchEvent(new PointerEvent('pointermove', { pointerId: 1, isPrimary: true, buttons: 2 }))",
    ];
    for (end, number) in ends.iter().zip(1..) {
        let at = drag(&mut ada, number).await;
        // Another pointer is not the one that drags.
        ada.eval("document.dispatchEvent(new PointerEvent('pointerup', { pointerId: 77, isPrimary: true }))").await;
        assert_eq!(ada.eval("state.holding").await, format!("card.{number}"), "before {end}");
        let wanted = shown(&mut ada, number).await;
        ada.eval(end).await;
        // That a capture is lost is told with the next event of the pointer.
        ada.mouse("mouseMoved", at).await;
        ada.until("state.drag == null").await;
        eve.sees(|content| content[&format!("card.{number}")] == wanted).await;
        take(&mut eve, &format!("card.{number}")).await;
        ada.mouse("mouseReleased", at).await;
        assert_eq!(shown(&mut ada, number).await, wanted, "{end}");
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_page_with_what_would_be_lost_asks_before_it_is_left() {
    let server = Server::start(&["--grace", "60", "--lease", "60"]).await;
    let proxy = Proxy::to(&server).await;
    let mut ada = open(&folder("unsaved"), &proxy.address, "Ada").await;
    ada.until(LIVE).await;
    let asks = "!dispatchEvent(new Event('beforeunload', { cancelable: true }))";
    assert_eq!(ada.eval(asks).await, false);
    let (x, y) = drag(&mut ada, 1).await;
    proxy.cut();
    ada.until(DOWN).await;
    ada.mouse("mouseReleased", (x, y)).await;
    ada.mouse("mouseMoved", (x + 1.0, y)).await;
    ada.eval("state.rename(state.look('card.2'), 'typed without a connection')").await;
    assert_eq!(ada.eval(asks).await, true);
    proxy.mend();
    ada.until(&format!("{LIVE} && state.titleOf('card.2') == 'typed without a connection'")).await;
    ada.until("!state.isUnsaved").await;
    assert_eq!(ada.eval(asks).await, false);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn losses_are_not_pushed_out_by_each_other_or_by_who_comes_and_goes() {
    let server = Server::start(&[]).await;
    let mut ada = open(&folder("losses"), &server.address, "Ada").await;
    ada.until(LIVE).await;
    ada.eval(
        "[1, 2, 3, 4, 5, 6].forEach(number => state.rename({ ...state.look(`card.${number}`), titled: 0 }, 'late'))",
    )
    .await;
    let told = "[...document.querySelectorAll('#notices p')].filter(({ textContent }) => \
        textContent.includes('was not renamed')).length";
    ada.until(&format!("{told} == 6")).await;
    let others = [Client::join(&server, "Bob").await, Client::join(&server, "Eve").await];
    ada.until("document.querySelectorAll('#people li').length == 3").await;
    assert_eq!(ada.eval(told).await, 6, "with {} others", others.len());
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_card_that_another_holds_can_be_renamed_with_the_mouse_as_with_the_keyboard() {
    let server = Server::start(&["--lease", "3600"]).await;
    let mut eve = Client::join(&server, "Eve").await;
    let mut ada = open(&folder("held"), &server.address, "Ada").await;
    ada.until(LIVE).await;
    take(&mut eve, "card.1").await;
    ada.until(&format!("{}.dataset.held == 'theirs'", card(1))).await;
    ada.click(&format!("{}.querySelector('.rename')", card(1))).await;
    ada.until("document.querySelector('#ask').open").await;
    ada.write("With the mouse").await;
    ada.press("Enter").await;
    eve.sees_value("title.1", &json!("With the mouse")).await;
    ada.until("!document.querySelector('#ask').open && !state.edits.size").await;
    ada.eval(&format!("{}.querySelector('.grip').focus()", card(1))).await;
    ada.press("Enter").await;
    ada.until("document.querySelector('#ask').open").await;
    ada.write("With the keyboard").await;
    ada.press("Enter").await;
    eve.sees_value("title.1", &json!("With the keyboard")).await;
    // Whoever removes it is told who holds it.
    ada.until("!document.querySelector('#ask').open && !state.edits.size").await;
    ada.click(&format!("{}.querySelector('.remove')", card(1))).await;
    ada.until("document.querySelector('#ask').open").await;
    ada.click("document.querySelector('#yes')").await;
    ada.until(&is_said("“With the keyboard” was not removed: Eve holds it.")).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn the_pages_state_machine_keeps_its_promises() {
    let server = Server::start(&[]).await;
    let mut page = open(&folder("machine"), &server.address, "Ada").await;
    let sources = json!({
        "harness.js": include_str!("../page/harness.js"),
        "losses.js": include_str!("../page/losses.js"),
        "model.js": include_str!("../page/model.js"),
        "moves.js": include_str!("../page/moves.js"),
        "storm.js": include_str!("../page/storm.js"),
        "tests.js": include_str!("../page/tests.js"),
    });
    let texts = include_str!("../texts.json");
    let script = format!(
        "(async () => {{
            const sources = {sources}, made = {{}};
            const link = name => made[name] ??= URL.createObjectURL(new Blob(
                [sources[name].replace(/\"\\.\\/(\\w+\\.js)\"/g, (_, other) => JSON.stringify(link(other)))],
                {{ type: 'text/javascript' }}));
            const {{ tests }} = await import(link('tests.js'));
            const page = {{ ...await import('/board.js'), ...await import('/text.js') }};
            const outcomes = {{}};
            for (const [name, run] of Object.entries(tests(page, {texts}))) {{
                try {{ run(); outcomes[name] = 'ok'; }} catch (error) {{ outcomes[name] = error.stack; }}
            }}
            return outcomes;
        }})()"
    );
    let outcomes = page.resolve(&script).await;
    let outcomes = outcomes.as_object().unwrap();
    assert!(outcomes.len() >= 61, "{outcomes:?}");
    for (name, outcome) in outcomes {
        assert_eq!(outcome, "ok", "{name}");
    }
}
