//! The board, and the clients that are connected to this server.

use crate::feed::{
    Board, Frames, Key, LockMessages, Node, Session, follow_locks, frames, is_shown, lock_messages, publish,
};
use crate::options::Options;
use crate::protocol::Claim;
use crate::store;
use serde_json::{Value, json};
use state_dictionary_cluster::{Failure, Stopped};
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How many can be connected at a time.
const PLACES: u32 = 1000;
/// How many ids are taken from the board at a time.
const IDS: u64 = 16;
/// How long the connections may take to say goodbye, and then the node to finish.
const FAREWELL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) node: Node,
    pub(crate) frames: Arc<Frames>,
    pub(crate) locks: LockMessages,
    pub(crate) options: Options,
    /// One permit for each connection there may be.
    pub(crate) places: Arc<Semaphore>,
    /// How often a connection had fallen behind and was given a merged change.
    pub(crate) catch_ups: AtomicU64,
    is_closing: watch::Sender<bool>,
    /// Taken, and not given to a client yet.
    ids: Mutex<Range<u64>>,
    /// What secrets are made with: the same on all servers.
    seal: [u8; 32],
}

impl Room {
    /// A node of the board, which has a few cards at first, and the tasks that send what becomes of it. The task that is
    /// returned drives the node.
    pub(crate) async fn open(options: Options) -> Result<(Arc<Self>, JoinHandle<Stopped>), Box<dyn Error>> {
        let (node, driver) = store::open(&options.log).await?;
        let seal = store::begin(&node).await?;
        let board = node.local();
        let (frames, locks) = (Arc::new(frames(board)), lock_messages());
        tokio::spawn(publish(board.clone(), Arc::clone(&frames)));
        tokio::spawn(follow_locks(board.clone(), locks.clone()));
        let room = Self {
            node,
            frames,
            locks,
            options,
            places: Arc::new(Semaphore::new(PLACES as usize)),
            catch_ups: AtomicU64::new(0),
            is_closing: watch::Sender::new(false),
            ids: Mutex::default(),
            seal,
        };
        Ok((Arc::new(room), driver))
    }

    pub(crate) fn board(&self) -> &Board {
        self.node.local()
    }

    /// Takes up the session that the claim proves to be the client's own, wherever it is, also from a connection that still
    /// has it; without one, begins a new session.
    pub(crate) async fn enter(&self, claim: Option<&Claim>) -> Result<Session, Failure> {
        let own = claim.filter(|claim| self.is_proof(claim));
        let id = match own {
            Some(claim) => Key::clone(&claim.id),
            None => self.new_id().await?.to_string().into(),
        };
        self.node.open_session(id, self.options.grace).await
    }

    async fn new_id(&self) -> Result<u64, Failure> {
        let mut ids = self.ids.lock().await;
        if ids.is_empty() {
            let first = store::take_ids(&self.node, IDS).await?;
            *ids = first..first + IDS;
        }
        // There are some now.
        Ok(ids.next().unwrap_or_default())
    }

    /// What proves that a session is the client's own: only a server can make it, for it needs the seal.
    pub(crate) fn secret(&self, id: &str) -> String {
        self.proof(id).to_hex().to_string()
    }

    fn proof(&self, id: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.seal, id.as_bytes())
    }

    fn is_proof(&self, claim: &Claim) -> bool {
        // Hashes are compared in constant time.
        blake3::Hash::from_hex(&claim.secret).is_ok_and(|secret| secret == self.proof(&claim.id))
    }

    /// Returns when the server is stopped.
    pub(crate) async fn closing(&self) {
        // It fails only if the sender is dropped, which is here.
        let _ = self.is_closing.subscribe().wait_for(|is_closing| *is_closing).await;
    }

    /// Tells all clients, waits until they have been told, and stops the node. The board goes on, on other servers or after a
    /// restart.
    pub(crate) async fn close(&self, driver: &mut JoinHandle<Stopped>) {
        self.is_closing.send_replace(true);
        let _ = timeout(FAREWELL, self.places.acquire_many(PLACES)).await;
        self.node.stop();
        if !driver.is_finished() {
            let _ = timeout(FAREWELL, driver).await;
        }
    }

    /// What the load script, and whoever is curious, wants to know.
    pub(crate) fn status(&self) -> Value {
        let board = self.board();
        json!({
            "clients": PLACES as usize - self.places.available_permits(),
            "keys": board.snapshot().iter().filter(|(key, _)| is_shown(key)).count(),
            "revision": board.revision().get(),
            // ORDERING: a figure to look at.
            "catch_ups": self.catch_ups.load(Ordering::Relaxed),
            "memory_kib": memory_kib(),
        })
    }
}

/// The memory this process occupies, where the system tells.
fn memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
}
