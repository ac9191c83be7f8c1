//! The engine: appending, checkpoints, truncation.

use crate::follow::follow;
use crate::keys::Keys;
use crate::members::{Meaning, Member, Members, meaning};
use crate::options::EtcdOptions;
use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, Error, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use futures_util::{Stream, stream};
use state_dictionary_cluster::{AppendError, Head, Log, LogError, NodeId, Place, Record, Truncation};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long after a failed attempt the next one is made.
const PAUSE: Duration = Duration::from_millis(50);

/// How many records are read ahead of who follows.
const AHEAD: usize = 64;

/// A node's end of a log in etcd. It needs tokio.
///
/// While it lives, it keeps a lease with etcd. If it cannot for as long as the lease lasts, it is fenced off.
pub struct EtcdLog {
    shared: Arc<Shared>,
    store: u64,
    keeping: JoinHandle<()>,
    start: Instant,
}

pub(crate) struct Shared {
    pub(crate) keys: Keys,
    pub(crate) members: Members,
    pub(crate) node: NodeId,
    compact: bool,
    /// The place of the checkpoint before this node's latest one.
    before: AtomicU64,
}

/// Why a node cannot join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot join {name}: {why}")]
pub struct JoinError {
    name: String,
    why: String,
}

impl EtcdLog {
    /// Joins as a new node. Tries each member once.
    ///
    /// # Errors
    /// If no member can be reached, or etcd refuses the login.
    pub async fn join(options: EtcdOptions) -> Result<Self, JoinError> {
        let name = options.name.clone();
        let failed = |why: String| JoinError { name: name.clone(), why };
        if options.endpoints.is_empty() {
            return Err(failed("no endpoints".into()));
        }
        let (lease, compact, keys) = (options.lease, options.compact, Keys::new(options.name.clone()));
        let members = Members::new(options);
        let mut why = String::new();
        for _ in 0..members.len() {
            match timeout(members.attempt(), enter(&members, &keys, lease)).await {
                Ok(Ok((store, id))) => {
                    let node = NodeId(id.unsigned_abs());
                    let before = AtomicU64::new(0);
                    let shared = Arc::new(Shared { keys, members, node, compact, before });
                    let keeping = tokio::spawn(keep_alive(Arc::clone(&shared), id, lease));
                    return Ok(Self { shared, store, keeping, start: Instant::now() });
                }
                Ok(Err((index, error))) => {
                    members.failed(index, &error);
                    why = error;
                }
                Err(_) => "no answer in time".clone_into(&mut why),
            }
        }
        Err(failed(why))
    }
}

/// Gets a lease, and makes the identity of the store if there is none. Returns it and the lease.
async fn enter(members: &Members, keys: &Keys, lease: Duration) -> Result<(u64, i64), (usize, String)> {
    let Member { mut client, index } = members.current().await.map_err(|error| (0, error))?;
    let failed = |error: Error| (index, error.to_string());
    let seconds = i64::try_from(lease.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    let id = client.lease_grant(seconds, None).await.map_err(failed)?.id();
    let node = keys.node(NodeId(id.unsigned_abs()));
    client.put(node, "", Some(PutOptions::new().with_lease(id))).await.map_err(failed)?;
    let is_new = Compare::version(keys.store(), CompareOp::Equal, 0);
    let make = TxnOp::put(keys.store(), fastrand::u64(1..).to_string(), None);
    let read = || TxnOp::get(keys.store(), None);
    let answer =
        client.txn(Txn::new().when([is_new]).and_then([make, read()]).or_else([read()])).await.map_err(failed)?;
    let store = found(&answer).and_then(|value| String::from_utf8(value).ok()?.parse().ok());
    let store = store.ok_or((index, format!("{} is not the identity of a store", keys.store())))?;
    Ok((store, id))
}

/// The value of the last `get` of a transaction.
fn found(response: &TxnResponse) -> Option<Vec<u8>> {
    match response.op_responses().pop()? {
        TxnOpResponse::Get(get) => get.kvs().first().map(|pair| pair.value().to_vec()),
        _ => None,
    }
}

/// Keeps the lease, with whichever member answers: a slow one must not cost it.
async fn keep_alive(shared: Arc<Shared>, lease: i64, duration: Duration) {
    let members = &shared.members;
    let patience = duration / 6;
    for index in (0..members.len()).cycle() {
        let opening = async { members.to(index).await.ok()?.lease_keep_alive(lease).await.ok() };
        if let Ok(Some((mut keeper, mut answers))) = timeout(patience, opening).await {
            while keeper.keep_alive().await.is_ok() {
                match timeout(patience, answers.message()).await {
                    Ok(Ok(Some(answer))) if answer.ttl() > 0 => {}
                    Ok(Ok(Some(_))) => {
                        tracing::warn!(node = %shared.node, "the lease is lost");
                        return;
                    }
                    _ => break,
                }
                sleep(duration / 5).await;
            }
        }
        sleep(PAUSE).await;
    }
}

impl Shared {
    /// Sends a request until a member answers it, or it is clear that none will carry it out.
    async fn until_answered(&self, transaction: &Txn) -> Result<TxnResponse, LogError> {
        loop {
            match self.attempt(transaction.clone()).await {
                Ok(response) => return Ok(response),
                Err(Meaning::NoSpace(why) | Meaning::Impossible(why)) => return Err(LogError::Failed(why)),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// One attempt, with the member in use.
    pub(crate) async fn attempt(&self, transaction: Txn) -> Result<TxnResponse, Meaning> {
        let Member { client, index } = match self.members.current().await {
            Ok(member) => member,
            Err(why) => {
                self.next_member(&why);
                return Err(Meaning::Unsure(why));
            }
        };
        // Chunks are read in transactions too.
        let mut client = client.kv_client().max_decoding_message_size(LARGE);
        let result = match timeout(self.members.attempt(), client.txn(transaction)).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => meaning(&error),
            Err(_) => Meaning::Unsure("no answer in time".into()),
        };
        match &result {
            Meaning::LoginAgain(_) => self.members.forget(index),
            Meaning::Unsure(why) => self.members.failed(index, why),
            _ => {}
        }
        Err(result)
    }

    fn next_member(&self, why: &str) {
        for index in 0..self.members.len() {
            self.members.failed(index, why);
        }
    }

    /// Writes that a node is gone, if its lease has ended and nobody has written it yet.
    pub(crate) async fn declare_gone(&self, node: NodeId) -> Result<(), LogError> {
        let absent = |key: String| Compare::version(key, CompareOp::Equal, 0);
        let (lease, gone) = (self.keys.node(node), self.keys.gone(node));
        let write = TxnOp::put(gone.clone(), "", None);
        self.until_answered(&Txn::new().when([absent(lease), absent(gone)]).and_then([write])).await.map(drop)
    }

    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, LogError> {
        self.until_answered(&Txn::new().and_then([TxnOp::get(key, None)])).await.map(|response| found(&response))
    }

    pub(crate) async fn head(&self) -> Result<Option<Head>, LogError> {
        let Some(value) = self.get(self.keys.head()).await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&value).into_owned();
        let head = text
            .split_once(' ')
            .and_then(|(place, chunks)| Some(Head { place: Place(place.parse().ok()?), chunks: chunks.parse().ok()? }));
        head.map(Some).ok_or_else(|| LogError::Failed(format!("{text:?} is no head of a checkpoint")))
    }
}

/// The largest message that is read.
pub(crate) const LARGE: usize = 256 << 20;

impl Log for EtcdLog {
    fn node(&self) -> NodeId {
        self.shared.node
    }

    fn store(&self) -> u64 {
        self.store
    }

    async fn append(&self, number: u64, entry: Bytes) -> Result<(), AppendError> {
        let Shared { keys, node, .. } = &*self.shared;
        let key = keys.entry(*node, number);
        let may = Compare::version(keys.node(*node), CompareOp::Greater, 0);
        let is_new = Compare::version(key.clone(), CompareOp::Equal, 0);
        let write = TxnOp::put(key.clone(), entry.to_vec(), None);
        let look = TxnOp::get(key, Some(GetOptions::new().with_keys_only()));
        let transaction = Txn::new().when([may, is_new]).and_then([write]).or_else([look]);
        // Whether an attempt may have been carried out without an answer.
        let mut unsure = false;
        loop {
            match self.shared.attempt(transaction.clone()).await {
                Ok(response) if response.succeeded() => return Ok(()),
                // An earlier attempt was carried out, or the lease has ended.
                Ok(response) => return if found(&response).is_some() { Ok(()) } else { Err(AppendError::Fenced) },
                Err(Meaning::Impossible(why) | Meaning::NoSpace(why)) if !unsure => {
                    return Err(AppendError::Refused(why));
                }
                Err(Meaning::Impossible(why)) => return Err(AppendError::Failed(why)),
                Err(Meaning::Unsure(why)) => {
                    unsure = true;
                    tracing::debug!(%node, number, why, "appends again");
                }
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    fn follow(&self, after: Place) -> impl Stream<Item = Result<Record, LogError>> + Send {
        let (sender, receiver) = mpsc::channel(AHEAD);
        // It ends when the receiver is dropped.
        tokio::spawn(follow(Arc::clone(&self.shared), after, sender));
        stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
    }

    async fn suspect(&self, nodes: Vec<NodeId>) -> Result<(), LogError> {
        for node in nodes {
            if node != self.shared.node {
                self.shared.declare_gone(node).await?;
            }
        }
        Ok(())
    }

    async fn head(&self) -> Result<Option<Head>, LogError> {
        self.shared.head().await
    }

    async fn chunk(&self, place: Place, index: u32) -> Result<Option<Bytes>, LogError> {
        Ok(self.shared.get(self.shared.keys.chunk(place, index)).await?.map(Bytes::from))
    }

    async fn put_chunk(&self, place: Place, index: u32, chunk: Bytes) -> Result<(), LogError> {
        let put = TxnOp::put(self.shared.keys.chunk(place, index), chunk.to_vec(), None);
        self.shared.until_answered(&Txn::new().and_then([put])).await.map(drop)
    }

    async fn put_head(&self, head: Head) -> Result<(), LogError> {
        loop {
            let latest = self.shared.get(self.shared.keys.head()).await?;
            let is_later = match self.shared.head().await? {
                Some(latest) => latest.place < head.place,
                None => true,
            };
            if !is_later {
                return Ok(());
            }
            let key = self.shared.keys.head();
            let same = match latest {
                None => Compare::version(key.clone(), CompareOp::Equal, 0),
                Some(latest) => Compare::value(key.clone(), CompareOp::Equal, latest),
            };
            let put = TxnOp::put(key, format!("{} {}", head.place.0, head.chunks), None);
            if self.shared.until_answered(&Txn::new().when([same]).and_then([put])).await?.succeeded() {
                return Ok(());
            }
        }
    }

    async fn truncate(&self, Truncation { head, numbers, gone }: Truncation) -> Result<(), LogError> {
        let Shared { keys, .. } = &*self.shared;
        let delete = |from: String, to: String| TxnOp::delete(from, Some(DeleteOptions::new().with_range(to)));
        let mut deletes: Vec<_> = Vec::new();
        for (node, up_to) in numbers {
            deletes.push(delete(keys.entry(node, 0), keys.entry(node, up_to.saturating_add(1))));
        }
        for node in gone {
            deletes.push(TxnOp::delete(keys.log_of(node), Some(DeleteOptions::new().with_prefix())));
        }
        let (from, to) = keys.chunks_before(head.place);
        deletes.push(delete(from, to));
        for delete in deletes {
            self.shared.until_answered(&Txn::new().and_then([delete])).await?;
        }
        // ORDERING: Relaxed, for one checkpoint of a node is written after the other.
        let before = self.shared.before.swap(head.place.0, Ordering::Relaxed);
        if self.shared.compact && before > 0 {
            if let Ok(Member { mut client, .. }) = self.shared.members.current().await {
                let compacting = client.compact(i64::try_from(before).unwrap_or(i64::MAX), None);
                match timeout(self.shared.members.attempt(), compacting).await {
                    Ok(Ok(_)) => {}
                    // The next checkpoint compacts this too, or another node has.
                    Ok(Err(error)) => tracing::debug!(%error, "did not compact"),
                    Err(_) => tracing::debug!("did not compact in time"),
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

impl Drop for EtcdLog {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl fmt::Debug for EtcdLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLog").field("node", &self.shared.node).finish_non_exhaustive()
    }
}
