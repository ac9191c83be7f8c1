//! A server process, and clients of it.
#![allow(dead_code)] // each test binary uses its own part

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Whatever has not come by then never will.
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("nothing came for a long time")
}

/// The server of this package, on a free port. It is killed when this is dropped.
pub(crate) struct Server {
    pub(crate) process: Child,
    /// As `127.0.0.1:4711`.
    pub(crate) address: String,
}

impl Server {
    pub(crate) async fn start(options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_server"))
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        soon(BufReader::new(process.stdout.take().unwrap()).read_line(&mut line)).await.unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("an address").to_owned();
        Self { process, address }
    }

    /// What it answers.
    pub(crate) async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}

/// A client that applies every change to its replica.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    pub(crate) seq: u64,
    pub(crate) id: String,
    /// What the welcome said.
    pub(crate) welcome: Value,
    pub(crate) content: BTreeMap<String, Value>,
    /// Of cards and titles.
    pub(crate) revisions: BTreeMap<String, Value>,
    pub(crate) position: Value,
}

impl Client {
    /// A connection that has said nothing.
    pub(crate) async fn silent(server: &Server) -> Self {
        Self::on(TcpStream::connect(&server.address).await.unwrap()).await
    }

    /// A new client for which the system keeps little that it has not read.
    pub(crate) async fn narrow(server: &Server, name: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(128 << 10).unwrap();
        let mut client = Self::on(socket.connect(server.address.parse().unwrap()).await.unwrap()).await;
        client.send(json!({ "type": "hello", "name": name })).await;
        client.until(|message| message["delivery"]["full"] == true).await;
        client
    }

    async fn on(stream: TcpStream) -> Self {
        let address = stream.peer_addr().unwrap();
        let (socket, _) = soon(client_async(format!("ws://{address}/ws"), stream)).await.unwrap();
        Self {
            socket,
            seq: 0,
            id: String::new(),
            welcome: Value::Null,
            content: BTreeMap::new(),
            revisions: BTreeMap::new(),
            position: Value::Null,
        }
    }

    /// A new client, which has the whole content.
    pub(crate) async fn join(server: &Server, name: &str) -> Self {
        let mut client = Self::hello(server, json!({ "name": name })).await;
        client.until(|message| message["delivery"]["full"] == true).await;
        client
    }

    /// Another connection of this client, which has what this one had.
    pub(crate) async fn again(self, server: &Server) -> Self {
        let session = &self.welcome["session"];
        let hello = json!({ "name": "again", "session": session, "position": self.position });
        let client = Self::hello(server, hello).await;
        Self { content: self.content, revisions: self.revisions, position: self.position, ..client }
    }

    pub(crate) async fn hello(server: &Server, mut hello: Value) -> Self {
        let mut client = Self::silent(server).await;
        hello["type"] = "hello".into();
        client.send(hello).await;
        client.welcome = client.until(|message| message["type"] == "welcome").await;
        client.id = client.welcome["session"]["id"].as_str().unwrap().to_owned();
        client
    }

    /// Sends with the next number, and returns that.
    pub(crate) async fn send(&mut self, mut message: Value) -> u64 {
        self.seq += 1;
        message["seq"] = self.seq.into();
        self.send_text(message.to_string()).await;
        self.seq
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        soon(self.socket.send(Message::Text(text.into()))).await.unwrap();
    }

    /// Sends this, unless the connection has ended.
    pub(crate) async fn try_send(&mut self, message: Value) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        soon(self.socket.send(Message::Text(message.to_string().into()))).await
    }

    pub(crate) async fn update(&mut self, updates: Value) -> u64 {
        self.send(json!({ "type": "update", "change": { "updates": updates } })).await
    }

    /// Sets cards or titles, on condition that they are as this client has seen them.
    pub(crate) async fn change(&mut self, updates: Value) -> u64 {
        let at = |key: &String| json!({ "key": key, "expected": { "at": self.revisions[key] } });
        let conditions: Vec<_> = updates.as_object().unwrap().keys().map(at).collect();
        self.send(json!({ "type": "update", "change": { "updates": updates, "conditions": conditions } })).await
    }

    pub(crate) async fn lock(&mut self, card: &str) -> u64 {
        self.send(json!({ "type": "lock", "keys": [card] })).await
    }

    /// The next message, or how the connection ended.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            let message: Value = match self.socket.next().await {
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return Err(None),
            };
            if message["type"] == "changes" {
                self.apply(&message);
            }
            return Ok(message);
        }
    }

    fn apply(&mut self, message: &Value) {
        if message["delivery"]["full"] == true {
            self.content.clear();
            self.revisions.clear();
        } else {
            let known = self.position.as_str().and_then(|position| position.split_once(':')?.1.parse::<u64>().ok());
            assert!(message["delivery"]["since"].as_u64() <= known, "something is missing before {message}");
        }
        for (key, value) in message["delivery"]["updates"].as_object().unwrap() {
            self.content.insert(key.clone(), value.clone());
            let revision = &message["delivery"]["revisions"][key];
            assert_eq!(revision.is_u64(), key.starts_with("card.") || key.starts_with("title."), "{message}");
            self.revisions.insert(key.clone(), revision.clone());
        }
        for key in message["delivery"]["removals"].as_array().unwrap() {
            self.content.remove(key.as_str().unwrap());
        }
        self.position = message["position"].clone();
    }

    /// The first message that is wanted; passes over the others.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        soon(async {
            loop {
                let message = self.next().await.expect("a message, not the end");
                if wanted(&message) {
                    return message;
                }
            }
        })
        .await
    }

    /// How the server ends the connection.
    pub(crate) async fn end(&mut self) -> Option<CloseFrame> {
        soon(async {
            loop {
                if let Err(end) = self.next().await {
                    return end;
                }
            }
        })
        .await
    }

    /// The answer to the message with this number.
    pub(crate) async fn answer(&mut self, seq: u64) -> Value {
        self.until(|message| message["seq"] == seq).await
    }

    /// Waits until the content is as wanted.
    pub(crate) async fn sees(&mut self, wanted: impl Fn(&BTreeMap<String, Value>) -> bool) {
        soon(async {
            while !wanted(&self.content) {
                self.next().await.expect("a message, not the end");
            }
        })
        .await;
    }

    /// Waits until the key has this value.
    pub(crate) async fn sees_value(&mut self, key: &str, value: &Value) {
        self.sees(|content| content.get(key) == Some(value)).await;
    }
}
