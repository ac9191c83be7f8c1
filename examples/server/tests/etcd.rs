//! Two servers with one board, in etcd.
#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Client, Server, soon};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// One member of etcd, on ports that were free, killed when it is dropped.
struct Etcd {
    folder: TempDir,
    ports: [u16; 2],
    process: Option<Child>,
}

impl Etcd {
    /// `None` if etcd is not installed.
    async fn start() -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().await.is_err() {
            println!("skipped: the program etcd is not installed (Debian: apt-get install etcd-server)");
            return None;
        }
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut etcd = Self { folder: tempfile::tempdir().unwrap(), ports: [port(), port()], process: None };
        etcd.run().await;
        Some(etcd)
    }

    async fn run(&mut self) {
        let [client, peer] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let process = Command::new("etcd")
            .args(["--name", "one", "--data-dir", self.folder.path().to_str().unwrap()])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}"), "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.unwrap());
        soon(async {
            while TcpStream::connect(("127.0.0.1", self.ports[0])).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    async fn server(&self) -> Server {
        let endpoint = format!("http://127.0.0.1:{}", self.ports[0]);
        Server::start(&["--etcd", &endpoint, "--grace", "60", "--lease", "60"]).await
    }
}

fn place(x: f64) -> Value {
    json!({ "x": x, "y": 0.5 })
}

#[tokio::test]
async fn a_client_goes_on_at_another_server_with_its_session_its_lock_and_its_position() {
    let Some(etcd) = Etcd::start().await else { return };
    let (mut first, second) = (etcd.server().await, etcd.server().await);
    let mut ada = Client::join(&first, "Ada").await;
    let mut bob = Client::join(&second, "Bob").await;
    assert_ne!(ada.id, bob.id);
    let seq = ada.lock("card.1").await;
    let tokens = ada.answer(seq).await["tokens"].clone();
    let seq = bob.lock("card.1").await;
    assert_eq!(bob.answer(seq).await["locked"][0]["owner"], ada.id.as_str());

    // A second of a drag, at once: none of it waits for the answers to what was before.
    let cursor = format!("cursor.{}", ada.id);
    let mut last = 0;
    for step in 1..=30_u32 {
        let at = place(f64::from(step) / 100.0);
        ada.update(json!({ cursor.as_str(): at })).await;
        last = ada.update(json!({ "card.1": at })).await;
    }
    assert_eq!(ada.answer(last).await["type"], "done");
    bob.sees_value("card.1", &place(0.3)).await;
    bob.sees_value(&cursor, &place(0.3)).await;
    ada.sees_value("card.1", &place(0.3)).await;

    // The server dies. The other one sends only what the client does not have yet.
    first.process.kill().await.unwrap();
    let seq = bob.change(json!({ "card.2": place(0.2) })).await;
    assert_eq!(bob.answer(seq).await["type"], "done");
    let id = ada.id.clone();
    let mut ada = ada.again(&second).await;
    assert_eq!((&ada.id, &ada.welcome["resumed"]), (&id, &json!(true)));
    let changes = ada.until(|message| message["type"] == "changes").await;
    assert_eq!(changes["delivery"]["full"], false, "{changes}");
    ada.sees_value("card.2", &place(0.2)).await;
    let seq = ada.send(json!({ "type": "renew", "keys": ["card.1"] })).await;
    assert_eq!(ada.answer(seq).await["tokens"], tokens);
    bob.sees_value(&format!("user.{id}"), &json!({ "name": "again" })).await;
    ada.sees(|content| *content == bob.content).await;
}

#[tokio::test]
async fn while_etcd_is_away_clients_stay_and_read_that_their_changes_are_not_confirmed() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let server = etcd.server().await;
    let mut ada = Client::join(&server, "Ada").await;
    etcd.kill().await;
    let start = Instant::now();
    let seq = ada.change(json!({ "card.1": place(0.125) })).await;
    let error = ada.answer(seq).await;
    assert_eq!((&error["code"], &error["expected"]), (&json!("unavailable"), &json!(seq + 1)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let mut eve = Client::silent(&server).await;
    let seq = eve.send(json!({ "type": "hello", "name": "Eve" })).await;
    etcd.run().await;
    // The hello is accepted as soon as etcd is back; until then it is refused, and can be repeated.
    let answer = eve.until(|message| message["type"] == "welcome" || message["seq"] == seq).await;
    assert!(answer["type"] == "welcome" || answer["code"] == "unavailable", "{answer}");

    let seq = ada.change(json!({ "card.2": place(0.25) })).await;
    assert_eq!(ada.answer(seq).await["type"], "done");
    let bob = Client::join(&server, "Bob").await;
    assert_eq!(bob.content["card.2"], place(0.25));
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_that_was_out_of_touch_for_too_long_tells_its_clients_and_ends_with_an_error() {
    let Some(etcd) = Etcd::start().await else { return };
    let (mut paused, other) = (etcd.server().await, etcd.server().await);
    let mut ada = Client::join(&paused, "Ada").await;
    let mut bob = Client::join(&other, "Bob").await;
    let pid = paused.process.id().unwrap().to_string();
    let signal = async |name: &str| assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
    signal("-STOP").await;
    sleep(Duration::from_secs(8)).await;
    let seq = bob.change(json!({ "card.1": place(0.5) })).await;
    assert_eq!(bob.answer(seq).await["type"], "done");
    signal("-CONT").await;
    assert_eq!(ada.end().await.map(|end| u16::from(end.code)), Some(1001));
    assert_eq!(soon(paused.process.wait()).await.unwrap().code(), Some(1));
    let ada = ada.again(&other).await;
    assert_eq!(ada.welcome["resumed"], true);
}
