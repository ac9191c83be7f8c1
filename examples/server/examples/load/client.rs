//! One client: writes at its rate, and applies what it receives.

use crate::Outcome;
use crate::replica::{self, Changes, Delays, Replica, number};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How many messages are remembered, so that each is read only once.
const REMEMBERED: usize = 64;

/// What the clients share, to save the machine work.
pub(crate) struct Shared {
    epoch: Instant,
    hasher: RandomState,
    keys: Mutex<HashMap<String, usize>>,
    recent: Mutex<VecDeque<(Utf8Bytes, Arc<Changes>)>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), hasher: RandomState::new(), keys: Mutex::default(), recent: Mutex::default() }
    }

    /// The number of a key.
    pub(crate) fn key(&self, name: &str) -> usize {
        let mut keys = self.keys.lock();
        let next = keys.len();
        keys.get(name).copied().unwrap_or_else(|| *keys.entry(name.to_owned()).or_insert(next))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// `None` if the message is not about the content.
    fn read(&self, text: &Utf8Bytes) -> Outcome<Option<Arc<Changes>>> {
        #[derive(Deserialize)]
        struct Incoming<'a> {
            #[serde(borrow)]
            delivery: Delivery<'a>,
        }
        #[derive(Deserialize)]
        struct Delivery<'a> {
            since: u64,
            revision: u64,
            full: bool,
            #[serde(borrow)]
            updates: HashMap<&'a str, &'a RawValue>,
            removals: Vec<&'a str>,
        }
        if !text.starts_with(r#"{"type":"changes""#) {
            return if text.starts_with(r#"{"type":"error""#) { Err(text.as_str().into()) } else { Ok(None) };
        }
        let mut recent = self.recent.lock();
        if let Some((_, changes)) = recent.iter().find(|(other, _)| other == text) {
            return Ok(Some(Arc::clone(changes)));
        }
        let Incoming { delivery } = serde_json::from_str(text)?;
        let mut changes =
            Changes { full: delivery.full, since: delivery.since, revision: delivery.revision, ..Changes::default() };
        for (key, value) in delivery.updates {
            changes.sent.extend(number(value.get(), "t"));
            let count = number(value.get(), "n").unwrap_or_default();
            changes.updates.push((self.key(key), replica::Written { hash: self.hasher.hash_one(value.get()), count }));
        }
        changes.removals.extend(delivery.removals.into_iter().map(|key| self.key(key)));
        let changes = Arc::new(changes);
        recent.push_front((text.clone(), Arc::clone(&changes)));
        recent.truncate(REMEMBERED);
        Ok(Some(changes))
    }
}

pub(crate) struct Client {
    socket: Socket,
    id: String,
    number: usize,
    pub(crate) replica: Replica,
    shared: Arc<Shared>,
}

/// What a client has written when it is done.
pub(crate) struct Written {
    pub(crate) cursor: String,
    pub(crate) updates: u64,
    pub(crate) bytes: u64,
    /// The connection stays open until this is dropped.
    pub(crate) sink: SplitSink<Socket, Message>,
}

/// What a client has seen.
pub(crate) struct Seen {
    pub(crate) replica: Replica,
    pub(crate) delays: Delays,
    pub(crate) stream: SplitStream<Socket>,
}

/// A connection that has said hello and is welcome.
async fn connect(address: &str, name: &str) -> Outcome<(Socket, String)> {
    // Small messages go out at once.
    let (mut socket, _) = connect_async_with_config(format!("ws://{address}/ws"), None, true).await?;
    socket.send(Message::text(json!({ "seq": 1, "type": "hello", "name": name }).to_string())).await?;
    let text = next(&mut socket).await?;
    let welcome: Value = serde_json::from_str(&text)?;
    let id = welcome["session"]["id"].as_str().ok_or_else(|| format!("not a welcome: {text}"))?;
    Ok((socket, id.to_owned()))
}

impl Client {
    /// A client that has the whole content.
    pub(crate) async fn join(address: &str, number: usize, shared: Arc<Shared>) -> Outcome<Self> {
        let (mut socket, id) = connect(address, &format!("client {number}")).await?;
        let mut replica = Replica::default();
        while replica.revision == 0 {
            if let Some(changes) = shared.read(&next(&mut socket).await?)? {
                replica.apply(&changes)?;
            }
        }
        Ok(Self { socket, id, number, replica, shared })
    }

    /// Sends `bye`.
    pub(crate) async fn leave(mut self) -> Outcome<()> {
        self.socket.send(Message::text(r#"{"seq":2,"type":"bye"}"#)).await?;
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }

    /// Writes from `beginning` to `end`, and reads until it has seen the revision in `goal`.
    pub(crate) fn run(
        self,
        beginning: Instant,
        period: Duration,
        end: Instant,
        goal: watch::Receiver<Option<u64>>,
    ) -> (JoinHandle<Outcome<Written>>, JoinHandle<Outcome<Seen>>) {
        let Self { socket, id, number, replica, shared } = self;
        let (sink, stream) = socket.split();
        let ticks = (beginning, period, end);
        let writer = tokio::spawn(write(sink, id, 3 + number % 5, ticks, Arc::clone(&shared)));
        (writer, tokio::spawn(read(stream, replica, goal, shared)))
    }
}

/// One change at each tick, of so many keys.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    id: String,
    keys: usize,
    (beginning, period, end): (Instant, Duration, Instant),
    shared: Arc<Shared>,
) -> Outcome<Written> {
    let mut ticks = interval_at(beginning, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut updates, mut bytes) = (0_u64, 0);
    while ticks.tick().await < end {
        updates += 1;
        let angle = f64::from(u32::try_from(updates % 1000)?) / 100.0;
        let (x, y) = (angle.sin().abs(), angle.cos().abs());
        let mut text = format!(r#"{{"seq":{},"type":"update","change":{{"updates":{{"#, updates + 1);
        write!(text, r#""cursor.{id}":{{"x":{x:.6},"y":{y:.6},"n":{updates},"t":{}}}"#, shared.now())?;
        for part in 1..keys {
            write!(
                text,
                r#","cursor.{id}.{part}":{{"x":{y:.6},"y":{x:.6},"z":{angle:.6},"turn":{angle:.6},"n":{updates}}}"#
            )?;
        }
        text.push_str("}}}");
        bytes += text.len() as u64;
        sink.send(Message::text(text)).await?;
    }
    Ok(Written { cursor: format!("cursor.{id}"), updates, bytes, sink })
}

async fn read(
    mut stream: SplitStream<Socket>,
    mut replica: Replica,
    mut goal: watch::Receiver<Option<u64>>,
    shared: Arc<Shared>,
) -> Outcome<Seen> {
    let mut delays = Delays::new()?;
    loop {
        if goal.borrow().is_some_and(|revision| replica.revision >= revision) {
            return Ok(Seen { replica, delays, stream });
        }
        let text = tokio::select! {
            text = next(&mut stream) => text?,
            Ok(()) = goal.changed() => continue,
        };
        let now = shared.now();
        if let Some(changes) = shared.read(&text)? {
            replica.apply(&changes)?;
            delays.record(&changes.sent, now);
        }
    }
}

async fn next<S>(stream: &mut S) -> Outcome<Utf8Bytes>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match stream.next().await.ok_or("the server has closed the connection")?? {
            Message::Text(text) => return Ok(text),
            Message::Close(frame) => return Err(format!("the server has closed the connection: {frame:?}").into()),
            _ => {}
        }
    }
}
