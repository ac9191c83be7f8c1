//! Stands in for what the crate is about to have.
#![allow(missing_docs, clippy::pedantic, clippy::unwrap_used)]
use parking_lot::Mutex;
use serde_json::Value;
use state_dictionary::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub(crate) type Key = Arc<str>;
type Dict = StateDictionary<Key, Value, Key>;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position(u64);
impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{:016x}:{}", 7, self.0))
    }
}
impl<'de> serde::Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        s.split_once(':').and_then(|(_, r)| r.parse().ok()).map(Position).ok_or_else(|| serde::de::Error::custom("position"))
    }
}
#[derive(Debug)]
pub(crate) struct Board {
    d: Dict,
    lingering: Mutex<HashMap<Key, (Instant, Vec<Key>)>>,
}
impl std::ops::Deref for Board {
    type Target = Dict;
    fn deref(&self) -> &Dict {
        &self.d
    }
}
impl Board {
    pub(crate) fn new(content: impl IntoIterator<Item = (Key, Value)>) -> Self {
        Self { d: Dict::builder().content(content).build(), lingering: Mutex::default() }
    }
    pub(crate) fn change_buffer(&self) -> Buffer {
        Buffer { b: self.d.change_buffer(), p: Mutex::new(Position(0)) }
    }
    pub(crate) fn lock_feed(self: &Arc<Self>) -> LockFeed {
        LockFeed { d: self.clone(), seen: None }
    }
    pub(crate) fn session(self: &Arc<Self>, token: Key) -> Session {
        let keys = self.lingering.lock().remove(&token);
        Session { d: self.clone(), token, resumed: keys.is_some(), keys: keys.map(|k| k.1).unwrap_or_default(), over: false }
    }
    pub(crate) fn expire(self: &Arc<Self>) -> Option<Duration> {
        let now = Instant::now();
        let over: Vec<_> = self.lingering.lock().extract_if(|_, (at, _)| *at <= now).collect();
        for (token, (_, keys)) in over {
            Session { d: self.clone(), token, resumed: false, keys, over: false }.end();
        }
        None
    }
}
pub(crate) struct Buffer {
    b: ChangeBuffer<Key, Value>,
    p: Mutex<Position>,
}
impl Buffer {
    pub(crate) async fn flush_async(&self) -> Result<Delivery<Key, Value>, FlushError> {
        loop {
            match self.try_flush() {
                Err(FlushError::NothingPending) => tokio::time::sleep(Duration::from_millis(2)).await,
                other => return other,
            }
        }
    }
    pub(crate) fn try_flush(&self) -> Result<Delivery<Key, Value>, FlushError> {
        let d = self.b.try_flush()?;
        *self.p.lock() = Position(d.to().get());
        Ok(d)
    }
    pub(crate) fn position(&self) -> Position {
        *self.p.lock()
    }
}
pub(crate) struct LockFeed {
    d: Arc<Board>,
    seen: Option<HashMap<Key, (Key, u64)>>,
}
#[derive(Debug)]
pub(crate) enum LockDelivery {
    Everything { version: u64, locks: Vec<(Key, LockInfo<Key>)> },
    Events(Vec<LockEvent>),
}
#[derive(Debug)]
pub(crate) struct LockEvent {
    pub(crate) version: u64,
    pub(crate) kind: &'static str,
    pub(crate) key: Key,
    pub(crate) holder: Key,
}
static V: AtomicU64 = AtomicU64::new(1);
impl LockFeed {
    pub(crate) fn try_flush(&mut self) -> Result<LockDelivery, FlushError> {
        let now: HashMap<Key, (Key, u64)> =
            self.d.locks().into_iter().map(|(k, i)| (k, (i.holder, i.fencing_token.get()))).collect();
        let mut events = vec![];
        let Some(seen) = &self.seen else {
            self.seen = Some(now);
            return Ok(LockDelivery::Everything { version: V.load(SeqCst), locks: self.d.locks() });
        };
        for (k, (h, t)) in seen {
            if now.get(k).is_none_or(|n| n.1 != *t) {
                events.push(LockEvent { version: V.fetch_add(1, SeqCst) + 1, kind: "released", key: k.clone(), holder: h.clone() });
            }
        }
        for (k, (h, t)) in &now {
            if seen.get(k).is_none_or(|n| n.1 != *t) {
                events.push(LockEvent { version: V.fetch_add(1, SeqCst) + 1, kind: "granted", key: k.clone(), holder: h.clone() });
            }
        }
        self.seen = Some(now);
        if events.is_empty() { Err(FlushError::NothingPending) } else { Ok(LockDelivery::Events(events)) }
    }
    pub(crate) async fn flush_async(&mut self) -> Result<LockDelivery, FlushError> {
        loop {
            match self.try_flush() {
                Err(FlushError::NothingPending) => tokio::time::sleep(Duration::from_millis(2)).await,
                other => return other,
            }
        }
    }
}
pub(crate) struct Session {
    d: Arc<Board>,
    token: Key,
    resumed: bool,
    keys: Vec<Key>,
    over: bool,
}
impl Session {
    pub(crate) fn token(&self) -> &Key {
        &self.token
    }
    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }
    pub(crate) async fn update_ephemeral_async(&mut self, c: Change<Key, Value>) -> Result<Revision, UpdateError<Key, Value, Key>> {
        for (k, v) in c.operations() {
            if v.is_some() && self.d.get(k).is_none() {
                self.keys.push(k.clone());
            }
        }
        self.d.update_state(&self.token, c)
    }
    pub(crate) fn update_locks(&self, r: LockRequest<Key>) -> Result<LockReceipt<Key>, LockError<Key, Key>> {
        self.d.update_locks(&self.token, r)
    }
    pub(crate) fn end(mut self) {
        self.over = true;
        self.d.release_all(&self.token);
        let c = Change::from_parts([], self.keys.drain(..));
        let _ = self.d.update_state(&self.token, c);
    }
    pub(crate) fn leave(mut self, grace: Duration) {
        self.over = true;
        let keys = std::mem::take(&mut self.keys);
        self.d.lingering.lock().insert(self.token.clone(), (Instant::now() + grace, keys));
    }
}
impl Drop for Session {
    fn drop(&mut self) {
        if !self.over {
            self.d.release_all(&self.token);
        }
    }
}
