//! One task follows the board for everybody: thirty times a second it makes one message of what has changed, and every
//! connection sends the same bytes.

use crate::protocol::{Reply, Revised};
use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use state_dictionary::{BufferOptions, ChangeBuffer, JsonDelivery, JsonDictionary, LockContentError, Position};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

pub(crate) type Key = Arc<str>;
/// Clients are known to it by their ids.
pub(crate) type Board = JsonDictionary<Key>;
pub(crate) type Session = state_dictionary::Session<Key, Value, Key>;
pub(crate) type Delivery = JsonDelivery;
pub(crate) type LockDelivery = state_dictionary::LockDelivery<Key, Key>;

const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);

/// How many messages a connection may be behind, about a second's worth. One that is further behind is given, instead of what it
/// missed, the merged change since what it has.
const KEPT: usize = 32;

/// A message for everybody.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) text: Utf8Bytes,
    /// Where it brings a replica of the content, if it is about that.
    pub(crate) position: Option<Position>,
}

/// Asks for a place among those who follow.
#[derive(Debug)]
pub(crate) struct Join {
    /// What the replica has, if it has anything.
    pub(crate) since: Option<Position>,
    pub(crate) answer: oneshot::Sender<Joined>,
}

/// What brings a replica up to date, and the frames that follow on that without a gap or an overlap.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) catch_up: Option<Delivery>,
    pub(crate) locks: Option<LockDelivery>,
    pub(crate) frames: broadcast::Receiver<Frame>,
}

/// Follows until the board is frozen. Then those who joined find their receivers closed.
pub(crate) async fn follow(board: Arc<Board>, mut joins: mpsc::Receiver<Join>) {
    let frames = broadcast::Sender::new(KEPT);
    let buffer = board.change_buffer();
    let mut locks = board.lock_feed();
    let (mut due, mut locks_due) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            delivery = at(due, buffer.flush_async()) => {
                let Ok(delivery) = delivery else { return };
                due = after(due);
                let _ = frames.send(changes(&delivery));
            }
            Ok(delivery) = at(locks_due, locks.flush_async()) => {
                locks_due = after(locks_due);
                let text = Reply::Locks { delivery: &delivery }.text();
                let _ = frames.send(Frame { text, position: None });
            }
            Some(Join { since, answer }) = joins.recv() => {
                if let Ok(joined) = join(&board, &buffer, &frames, since) {
                    let _ = answer.send(joined);
                }
            }
        }
    }
}

/// When the next message is due.
fn after(due: Instant) -> Instant {
    let now = Instant::now();
    if due + INTERVAL > now { due + INTERVAL } else { now + INTERVAL }
}

async fn at<F: Future>(due: Instant, future: F) -> F::Output {
    sleep_until(due).await;
    future.await
}

/// Nothing is committed while this flushes the common buffer and the joining client's own, so both end at one revision:
/// the next frame begins where the client's replica is then.
fn join(
    board: &Board,
    common: &ChangeBuffer<Key, Value>,
    frames: &broadcast::Sender<Frame>,
    since: Option<Position>,
) -> Result<Joined, LockContentError> {
    // Nobody else ever holds the content, so it never waits.
    let _held = board.lock_content()?;
    if let Ok(delivery) = common.try_flush() {
        let _ = frames.send(changes(&delivery));
    }
    let options = since.map_or_else(BufferOptions::new, |since| BufferOptions::new().resume(since));
    let catch_up = board.change_buffer_with(options).try_flush().ok();
    let frames = frames.subscribe();
    // After the subscription, so that no event is in neither; those in both are told by their version.
    let locks = board.lock_feed().try_flush().ok();
    Ok(Joined { catch_up, locks, frames })
}

/// A delivery as a message.
pub(crate) fn changes(delivery: &Delivery) -> Frame {
    let position = delivery.position();
    Frame { text: Reply::Changes { position, delivery: Revised(delivery) }.text(), position: Some(position) }
}
