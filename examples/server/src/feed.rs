//! What all clients are sent, made once for all of them: thirty times a second what has changed, and which locks came and
//! went.

use crate::protocol::{Reply, Revised};
use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use state_dictionary::{Broadcast, BufferOptions, JsonDelivery, ReadHandle};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub(crate) type Key = Arc<str>;
/// This server's replica of the board, to read and to follow. Clients are known to it by their ids.
pub(crate) type Board = ReadHandle<Key, Value, Key>;
/// What writes to the board of all servers.
pub(crate) type Node = state_dictionary_cluster::Node<Key, Value, Key>;
/// A client's session, until another connection takes it over, on this server or another one.
pub(crate) type Session = state_dictionary_cluster::NodeSession<Key, Value, Key>;
pub(crate) type Delivery = JsonDelivery;
pub(crate) type LockDelivery = state_dictionary::LockDelivery<Key, Key>;
/// Changes of the board, as messages.
pub(crate) type Frames = Broadcast<Key, Value, Utf8Bytes>;
/// The messages about locks.
pub(crate) type LockMessages = broadcast::Sender<Utf8Bytes>;

const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);

/// How many messages about locks a connection may be behind. One that is further behind is given all locks.
const KEPT: usize = 32;

/// What the servers keep for themselves begins with this.
const SERVERS: &str = "server.";

/// Whether clients are shown this key.
pub(crate) fn is_shown(key: &str) -> bool {
    !key.starts_with(SERVERS)
}

pub(crate) fn frames(board: &Board) -> Frames {
    board.broadcast(BufferOptions::new().filter(|key: &Key| is_shown(key)), changes)
}

pub(crate) fn lock_messages() -> LockMessages {
    broadcast::Sender::new(KEPT)
}

/// A delivery as a message.
pub(crate) fn changes(delivery: &Delivery) -> Utf8Bytes {
    Reply::Changes { position: delivery.position(), delivery: Revised(delivery) }.text()
}

/// Publishes until the node stops. What is left then is published by those who follow.
pub(crate) async fn publish(board: Board, frames: Arc<Frames>) {
    let mut due = interval(INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !board.is_frozen() {
        due.tick().await;
        frames.publish();
    }
}

/// Sends what happens to locks until the node stops.
pub(crate) async fn follow_locks(board: Board, messages: LockMessages) {
    let feed = board.lock_feed();
    while let Ok(delivery) = feed.flush_async().await {
        let _nobody_is_here = messages.send(Reply::Locks { delivery: &delivery }.text());
        sleep(INTERVAL).await;
    }
}
