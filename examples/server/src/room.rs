//! The board, and who is connected to it.

use crate::feed::{Board, Frames, Key, LockMessages, Session, Sessions, follow_locks, frames, lock_messages, publish};
use crate::options::Options;
use crate::protocol::Claim;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many can be connected at a time.
const PLACES: u32 = 1000;
/// How soon an expired lock or session is noticed, at the latest.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// How many locks that came or went are kept for those who follow them.
const LOCK_EVENTS: usize = 1024;
/// How long the connections may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) board: Arc<Board>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) locks: LockMessages,
    pub(crate) options: Options,
    /// One permit for each connection there may be.
    pub(crate) places: Arc<Semaphore>,
    /// How often a connection had fallen behind and was given a merged change.
    pub(crate) catch_ups: AtomicU64,
    /// Each goes on in the client's latest connection.
    sessions: Sessions,
    next_id: AtomicU64,
    /// What secrets are made with.
    seal: RandomState,
}

impl Room {
    /// A board with a few cards, and the tasks that look after it.
    pub(crate) fn open(options: Options) -> Arc<Self> {
        let board = Arc::new(Board::builder().content(cards()).lock_history_limit(LOCK_EVENTS).build());
        let (frames, locks) = (Arc::new(frames(&board)), lock_messages());
        tokio::spawn(publish(Arc::clone(&board), Arc::clone(&frames)));
        tokio::spawn(follow_locks(Arc::clone(&board), locks.clone()));
        tokio::spawn(keep_house(Arc::clone(&board)));
        Arc::new(Self {
            sessions: board.sessions(options.grace),
            board,
            frames,
            locks,
            options,
            places: Arc::new(Semaphore::new(PLACES as usize)),
            catch_ups: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            seal: RandomState::new(),
        })
    }

    /// Takes up the session that the claim proves to be the client's own, also from a connection that still has it; without
    /// one, begins a new session.
    pub(crate) fn enter(&self, claim: Option<Claim>) -> Session {
        let own = claim.filter(|claim| claim.secret == self.secret(&claim.id));
        // ORDERING: only uniqueness matters.
        let id = own.map_or_else(|| self.next_id.fetch_add(1, Ordering::Relaxed).to_string().into(), |claim| claim.id);
        self.sessions.open(id)
    }

    /// What proves that a session is one's own: nobody can guess it who does not know the seal.
    pub(crate) fn secret(&self, id: &str) -> String {
        format!("{:016x}", self.seal.hash_one(id))
    }

    /// Freezes the board and waits until everybody has been told.
    pub(crate) async fn close(&self) {
        self.board.freeze();
        let _ = tokio::time::timeout(FAREWELL, self.places.acquire_many(PLACES)).await;
    }

    /// What the load script, and whoever is curious, wants to know.
    pub(crate) fn status(&self) -> Value {
        json!({
            "clients": PLACES as usize - self.places.available_permits(),
            "keys": self.board.snapshot().len(),
            "revision": self.board.revision().get(),
            // ORDERING: a figure to look at.
            "catch_ups": self.catch_ups.load(Ordering::Relaxed),
            "memory_kib": memory_kib(),
        })
    }
}

/// Ends what has run out, so that it is an event for those who follow even if nobody touches the key.
async fn keep_house(board: Arc<Board>) {
    while !board.is_frozen() {
        let next = board.expire().next.unwrap_or(HOUSEKEEPING);
        tokio::time::sleep(next.clamp(Duration::from_millis(1), HOUSEKEEPING)).await;
    }
}

/// The cards there are: where each is, and what is on it.
fn cards() -> impl Iterator<Item = (Key, Value)> {
    let titles = [
        "Agree on the goal",
        "Sketch the layout",
        "Order the parts",
        "Build the first one",
        "Try it out",
        "Write it up",
    ];
    (1_u32..).zip(titles).flat_map(|(number, title)| {
        let (column, row) = ((number - 1) % 2, (number - 1) / 2);
        let place = json!({ "x": 0.1 + 0.8 * f64::from(column), "y": 0.1 + 0.4 * f64::from(row) });
        [(format!("card.{number}").into(), place), (format!("title.{number}").into(), title.into())]
    })
}

/// The memory this process occupies, where the system tells.
fn memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
}
