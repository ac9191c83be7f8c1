//! A node: what a program calls.

use crate::data::{Key, Token, Value};
use crate::driver::Driver;
use crate::error::{Error, Failure, Stopped};
use crate::log::{Log, LogError, NodeId, Place};
use crate::operation::{Operation, Owner, nanos};
use crate::options::Options;
use crate::queue::{Answering, Queue, Request};
use crate::reading::{Reading, Written, condition};
use crate::replica::{Answer, Replica};
use crate::session::NodeSession;
use crate::writing::read_checkpoint;
use futures_channel::oneshot;
use state_dictionary::{
    BufferOptions, Builder, Change, ChangeBuffer, LockError, LockReceipt, LockRequest, Position, ReadHandle, Refusal,
    Revision, Snapshot, StateDictionary, UpdateError, Versioned,
};
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often [`Node::update_state_with`] runs its closure before it gives up.
const ATTEMPTS: usize = 1000;

/// A handle to one node of a replicated dictionary. Clones are handles to the same node.
///
/// What changes the dictionary is asynchronous: it takes its place in the log, is applied there by every node, and
/// returns what applying it returned. What reads is local and immediate: it sees all that this node has applied, which is
/// one moment of the one history, and never goes back. [`linearizable`](Self::linearizable) waits for the present one.
///
/// **If the future of an operation is dropped, the operation may or may not be carried out**; it is never half done.
///
/// The node stops when the last handle, session included, is dropped.
pub struct Node<K, V, T = ()> {
    pub(crate) shared: Arc<Shared<K, V, T>>,
    time_limit: Option<Duration>,
    handles: Arc<Handles<K, V, T>>,
}

/// What the handles and the driver of a node share.
pub(crate) struct Shared<K, V, T> {
    pub(crate) queue: Queue<Answer<K, V, T>>,
    pub(crate) metrics: Metered,
    read: ReadHandle<K, V, T>,
    node: NodeId,
    now: Box<dyn Fn() -> Duration + Send + Sync>,
    has_time_limits: AtomicBool,
}

/// Stops the node when the last handle is dropped.
struct Handles<K, V, T>(Arc<Shared<K, V, T>>);

#[derive(Default)]
pub(crate) struct Metered {
    pub(crate) entries: Count,
    pub(crate) operations: Count,
    pub(crate) duplicates: Count,
    pub(crate) checkpoints: Count,
    pub(crate) rejoined: Count,
    pub(crate) place: Count,
}

/// A number to look at. It orders nothing, and only the driver changes it.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, number: u64) {
        // ORDERING: Relaxed, for it is a number by itself.
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, number: u64) {
        // ORDERING: as in `add`.
        self.0.store(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // ORDERING: as in `add`.
        self.0.load(Ordering::Relaxed)
    }
}

/// What a node has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Entries that it has begun to append.
    pub entries: u64,
    /// Operations that it has applied, those of other nodes too.
    pub operations: u64,
    /// Entries that it skipped, because their number was applied before.
    pub duplicates: u64,
    /// Checkpoints that it has written.
    pub checkpoints: u64,
    /// How often it has rejoined from a checkpoint, because the log was truncated beyond its place.
    pub rejoined: u64,
    /// Up to where it has applied the log.
    pub place: Place,
    /// Bytes of operations that wait for their entry.
    pub queued: usize,
}

impl<K, V, T> Shared<K, V, T> {
    pub(crate) fn has_time_limits(&self) -> bool {
        // ORDERING: Relaxed, for the request that has a limit is pushed into a locked queue after this was set.
        self.has_time_limits.load(Ordering::Relaxed)
    }
}

impl<K: Key, V: Value, T: Token> Node<K, V, T> {
    /// Joins the dictionary of a log: reads the latest checkpoint, if there is one. The log after it is read, and
    /// everything else done, by the driver.
    ///
    /// # Errors
    /// If the log cannot be read, or its checkpoint is of a later version.
    pub async fn join<L: Log>(log: L, options: Options) -> Result<(Self, Driver<K, V, T, L>), Stopped> {
        Self::join_with(log, StateDictionary::builder(), options).await
    }

    /// [`join`](Self::join) with a builder for what is this node's own: histories, shards, the clock of timeouts.
    ///
    /// The builder's content, lease clock and image are replaced by those of the log.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn join_with<L: Log>(
        log: L,
        builder: Builder<K, V, T>,
        options: Options,
    ) -> Result<(Self, Driver<K, V, T, L>), Stopped> {
        let log = Arc::new(log);
        let failed = |error: LogError| Stopped::Log(error.to_string());
        let (replica, place) = match read_checkpoint(&*log).await.map_err(failed)? {
            None => (Replica::new(builder, log.store()), Place(0)),
            Some((head, bytes)) => {
                let unknown = |what| Stopped::Unknown { place: head.place.0, what };
                (Replica::restore(builder, &bytes).map_err(unknown)?, head.place)
            }
        };
        let now = Box::new({
            let log = Arc::clone(&log);
            move || log.now()
        });
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_limit, options.max_operation),
            metrics: Metered::default(),
            read: replica.read_handle(),
            node: log.node(),
            now,
            has_time_limits: AtomicBool::new(false),
        });
        let node =
            Self { time_limit: None, handles: Arc::new(Handles(Arc::clone(&shared))), shared: Arc::clone(&shared) };
        let node = node.with_time_limit(options.time_limit);
        Ok((node, Driver::new(log, shared, options, replica, place)))
    }

    /// This handle with another time limit for its operations: see [`Options::time_limit`].
    #[must_use]
    pub fn with_time_limit(&self, limit: impl Into<Option<Duration>>) -> Self {
        let time_limit = limit.into();
        if time_limit.is_some() {
            // ORDERING: as in `has_time_limits`.
            self.shared.has_time_limits.store(true, Ordering::Relaxed);
        }
        Self { time_limit, ..self.clone() }
    }

    /// Which node this is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.node
    }

    /// The local dictionary, to read and to follow: snapshots, single values, buffers, feeds, broadcasts, waits. All as
    /// cheap as on a dictionary that is not replicated.
    #[must_use]
    pub fn local(&self) -> &ReadHandle<K, V, T> {
        &self.shared.read
    }

    /// The local content. O(1); does not wait.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K, V> {
        self.local().snapshot()
    }

    /// The local value of a key. Does not wait.
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Versioned<V>>
    where
        K: Borrow<Q>,
    {
        self.local().get(key)
    }

    /// The content at an instant between the call and the return, over all nodes. Appends to the log; all that wait
    /// share an entry.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn linearizable(&self) -> Result<Snapshot<K, V>, Failure> {
        self.ask(&Operation::Read).await?;
        Ok(self.snapshot())
    }

    /// A buffer for a client that has seen a position, perhaps on another node. If this node has not come so far yet, waits
    /// until it has.
    ///
    /// A position of another dictionary is answered as by [`BufferOptions::resume`]: the first delivery is full.
    ///
    /// # Errors
    /// [`Failure::Stopped`], if the node stopped meanwhile.
    pub async fn resume(&self, position: Position, options: BufferOptions<K>) -> Result<ChangeBuffer<K, V>, Failure> {
        if position.store == self.local().id() {
            // A dictionary that was frozen gets no later revision: the buffer then says so.
            let _ = self.local().wait_for_revision_async(position.revision).await;
        }
        match self.shared.queue.stopped() {
            Some(why) if self.local().revision() < position.revision => Err(Failure::Stopped(why)),
            _ => Ok(self.local().change_buffer_with(options.resume(position))),
        }
    }

    /// Commits a change on all nodes. As [`StateDictionary::update_state`], except that it waits for the log and for
    /// nothing else.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reasons of the dictionary; [`Error::Failed`].
    pub async fn update_state(&self, token: &T, change: Change<K, V>) -> Result<Revision, Error<UpdateError<K, V, T>>> {
        let operation = Operation::update(Owner::Token(token.clone()), false, &change, None);
        self.ask(&operation).await?.updated()?.map_err(Error::Refused)
    }

    /// Read, modify, write: makes a change from what the closure reads, and commits it if nothing of that has changed
    /// meanwhile; otherwise the closure runs again.
    ///
    /// The change is conditioned on the keys that the closure reads by [`Reading::get`], or on the whole content if it
    /// asks for a [`Reading::snapshot`]. It returns a change, or a pair of a change and a value.
    ///
    /// ```
    /// # use state_dictionary::Change;
    /// # use state_dictionary_cluster::{Error, Node};
    /// # type Refused = state_dictionary::UpdateError<String, u64, String>;
    /// # async fn sell(node: &Node<String, u64, String>) -> Result<u64, Error<Refused>> {
    /// let till = "till 1".to_owned();
    /// let (revision, left) = node.update_state_with(&till, |now| {
    ///     let left = now.get("apples").map_or(0, |apples| *apples).saturating_sub(1);
    ///     (Change::new().set("apples", left), left)
    /// }).await?;
    /// # Ok(left) }
    /// ```
    ///
    /// # Errors
    /// As [`update_state`](Self::update_state), and [`Failure::RetriesExhausted`] after 1,000 attempts.
    pub async fn update_state_with<W: Written<K, V>>(
        &self,
        token: &T,
        mut modify: impl FnMut(&Reading<K, V>) -> W,
    ) -> Result<W::Output, Error<UpdateError<K, V, T>>> {
        for _ in 0..ATTEMPTS {
            let reading = Reading::new(self.snapshot());
            let (change, value) = modify(&reading).into_parts();
            let (read, content) = reading.into_read();
            let conditions = change.conditions().count();
            let own: Vec<K> = change.conditions().map(|(key, _)| key.clone()).collect();
            let change = read.iter().fold(change, |change, (key, revision)| condition(change, key.clone(), *revision));
            let operation = Operation::update(Owner::Token(token.clone()), false, &change, content);
            match self.ask(&operation).await? {
                Answer::Outdated => {}
                answer => match answer.updated()? {
                    Ok(revision) => return Ok(W::output(revision, value)),
                    Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. })
                        if conditions == 0 || failed.iter().all(|failed| !own.contains(&failed.key)) => {}
                    Err(refused) => return Err(Error::Refused(refused)),
                },
            }
        }
        Err(Error::Failed(Failure::RetriesExhausted { attempts: ATTEMPTS }))
    }

    /// Acquires and releases locks on all nodes. As [`StateDictionary::update_locks`]. A lease begins when it is granted
    /// and ends, on all nodes at once, not before its time is over and late by about 0.1 s.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reasons of the dictionary; [`Error::Failed`].
    pub async fn update_locks(
        &self,
        token: &T,
        request: LockRequest<K>,
    ) -> Result<LockReceipt<K>, Error<LockError<K, T>>> {
        locked(self.ask(&Operation::locks(Owner::Token(token.clone()), &request)).await?)
    }

    /// Releases all locks of a token, and returns their keys in the order of their granting.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn release_all(&self, token: &T) -> Result<Vec<K>, Failure> {
        self.keys(Operation::ReleaseAll(token.clone())).await
    }

    /// Releases all locks of everybody, and returns their keys in the order of their granting.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn clear_locks(&self) -> Result<Vec<K>, Failure> {
        self.keys(Operation::ClearLocks).await
    }

    async fn keys(&self, operation: Operation<K, V, T>) -> Result<Vec<K>, Failure> {
        match self.ask(&operation).await? {
            Answer::Keys(keys) => Ok(keys),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens the session of a token: takes it up, wherever it is, or begins it. On whichever node it was, its old owner
    /// can do nothing with it from then on.
    ///
    /// If this node dies, or the handle that this returns is dropped, the session is detached: whoever opens it within
    /// `grace` takes it up; otherwise it ends.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open_session(&self, token: T, grace: Duration) -> Result<NodeSession<K, V, T>, Failure> {
        let operation = Operation::Open { token: token.clone(), grace: nanos(grace) };
        match self.ask(&operation).await? {
            Answer::Opened { number, resumed, taken_over } => {
                Ok(NodeSession::new(self.clone(), token, number, resumed, grace, taken_over))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Freezes the dictionary on all nodes, for ever. Returns whether this call did.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn freeze(&self) -> Result<bool, Failure> {
        match self.ask(&Operation::Freeze).await? {
            Answer::Frozen(frozen) => Ok(frozen),
            other => Err(unexpected(&other)),
        }
    }

    /// Stops the node: it takes nothing more, finishes what it was asked, and its driver returns. To stop it at once, drop
    /// the driver.
    pub fn stop(&self) {
        self.shared.queue.stop(Stopped::Closed);
    }

    /// Why the node has stopped, or is stopping.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        self.shared.queue.stopped()
    }

    /// What it has done so far. Does not wait.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let Metered { entries, operations, duplicates, checkpoints, rejoined, place } = &self.shared.metrics;
        Metrics {
            entries: entries.get(),
            operations: operations.get(),
            duplicates: duplicates.get(),
            checkpoints: checkpoints.get(),
            rejoined: rejoined.get(),
            place: Place(place.get()),
            queued: self.shared.queue.bytes(),
        }
    }

    /// Appends an operation and waits until this node has applied it.
    pub(crate) async fn ask(&self, operation: &Operation<K, V, T>) -> Result<Answer<K, V, T>, Failure> {
        let (to, answer) = oneshot::channel();
        let deadline = self.time_limit.map(|limit| (self.shared.now)().saturating_add(limit));
        self.push(operation, Answering { to: Some(to), deadline })?;
        // The driver was dropped.
        answer.await.unwrap_or(Err(Failure::Stopped(Stopped::Closed)))
    }

    /// Appends an operation whose answer nobody wants.
    pub(crate) fn say(&self, operation: &Operation<K, V, T>) -> Result<(), Failure> {
        self.push(operation, Answering::NOBODY)
    }

    fn push(&self, operation: &Operation<K, V, T>, answer: Answering<Answer<K, V, T>>) -> Result<(), Failure> {
        let bytes = operation.encode().map_err(|error| Failure::NotSerialisable(error.to_string()))?;
        self.shared.queue.push(Request { bytes, answer })
    }
}

pub(crate) fn locked<K: Key, V, T: Token>(answer: Answer<K, V, T>) -> Result<LockReceipt<K>, Error<LockError<K, T>>> {
    match answer {
        Answer::Locks(result) => result.map_err(Error::Refused),
        other => Err(Error::Failed(unexpected(&other))),
    }
}

/// Only the owner of a session gets another answer than that of its operation.
pub(crate) fn unexpected<K, V, T>(_: &Answer<K, V, T>) -> Failure {
    Failure::TakenOver
}

impl<K, V, T> Clone for Node<K, V, T> {
    fn clone(&self) -> Self {
        let (shared, handles) = (Arc::clone(&self.shared), Arc::clone(&self.handles));
        Self { shared, time_limit: self.time_limit, handles }
    }
}

impl<K, V, T> Drop for Handles<K, V, T> {
    fn drop(&mut self) {
        self.0.queue.stop(Stopped::Closed);
    }
}

impl<K, V, T> fmt::Debug for Node<K, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.shared.node)
            .field("stopped", &self.shared.queue.stopped())
            .finish_non_exhaustive()
    }
}
