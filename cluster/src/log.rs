//! What an engine must do: keep one totally ordered log of opaque entries, and checkpoints beside it.

use bytes::Bytes;
use futures_util::Stream;
use std::fmt;
use std::time::Duration;

/// One run of one process that uses a log. A process that restarts is another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A place in the log. Places rise; there may be gaps between them. 0 is before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

/// What is at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub place: Place,
    /// Which node appended it, or which node is gone.
    pub node: NodeId,
    /// What.
    pub what: What,
}

impl Record {
    /// The bytes of its entry.
    pub(crate) fn size(&self) -> usize {
        match &self.what {
            What::Entry { bytes, .. } => bytes.len(),
            What::Gone => 0,
        }
    }
}

/// The two kinds of [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The bytes that a node appended under one of its numbers.
    Entry {
        /// The number.
        number: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The node is gone: no entry of it follows.
    Gone,
}

/// Why an entry was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The node is fenced off. The entry is not in the log and never will be, and neither will a later one of this node.
    #[error("this node is fenced off from the log")]
    Fenced,
    /// The entry is not in the log, and never will be unless it is appended again: a full disk, for example.
    #[error("the log refused an entry: {0}")]
    Refused(String),
    /// The engine has failed; whether the entry is in the log is not known.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// Why the log cannot be read on, or a checkpoint not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Records after the given place have been deleted. A later checkpoint has what they did.
    #[error("the log was truncated beyond this place")]
    Truncated,
    /// The engine has failed.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// Which checkpoint is the latest. It is written after all its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The checkpoint has the effect of every record up to here.
    pub place: Place,
    /// How many chunks it has.
    pub chunks: u32,
}

/// What a checkpoint makes unnecessary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The checkpoint.
    pub head: Head,
    /// For each node: all its entries with numbers up to this one are at or before the place of the checkpoint.
    pub numbers: Vec<(NodeId, u64)>,
    /// Nodes whose [`What::Gone`] is at or before that place: all their records are.
    pub gone: Vec<NodeId>,
}

/// An engine: it orders entries and keeps checkpoints. It knows nothing of their meaning.
///
/// Everything that a node needs of the world outside comes through this trait, time included, so that a whole cluster can
/// run in one thread in a simulation.
pub trait Log: Send + Sync + 'static {
    /// This node's own identity, which no other run of any process has had.
    fn node(&self) -> NodeId;

    /// The identity of the store, made with the log. Nodes with the same log return the same.
    fn store(&self) -> u64;

    /// The largest entry in bytes.
    fn max_entry(&self) -> usize {
        512 << 10
    }

    /// Appends an entry, at most once under this number of this node, however often it has to be sent. Numbers begin at
    /// 1. A node has a small number of appends in flight; they may take effect in any order.
    ///
    /// Waits as long as the log cannot be reached. If the returned future is dropped, the entry may be appended or not.
    ///
    /// # Errors
    /// [`AppendError`] says whether the entry can still appear.
    fn append(&self, number: u64, entry: Bytes) -> impl Future<Output = Result<(), AppendError>> + Send;

    /// All records after `after`: in the one order, without a gap, for ever. Waits while the log cannot be reached.
    ///
    /// The stream may repeat a record only if an entry was appended twice under one number, which the engine should not
    /// let happen; whoever reads it skips the second.
    ///
    /// After the first error the stream ends.
    fn follow(&self, after: Place) -> impl Stream<Item = Result<Record, LogError>> + Send;

    /// Those of these nodes that are gone get their [`What::Gone`] in the log if they have none.
    fn suspect(&self, nodes: Vec<NodeId>) -> impl Future<Output = Result<(), LogError>> + Send;

    /// The latest checkpoint whose head was written.
    fn head(&self) -> impl Future<Output = Result<Option<Head>, LogError>> + Send;

    /// One of its chunks; `None` if a later checkpoint has replaced it meanwhile.
    fn chunk(&self, place: Place, index: u32) -> impl Future<Output = Result<Option<Bytes>, LogError>> + Send;

    /// Keeps a chunk of a checkpoint of which the head is still to come.
    fn put_chunk(&self, place: Place, index: u32, chunk: Bytes) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Makes a checkpoint, all chunks of which are there, the latest one, unless there is a later one.
    fn put_head(&self, head: Head) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Deletes what a checkpoint has made unnecessary: entries, and checkpoints before it.
    fn truncate(&self, truncation: Truncation) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Time since some instant, by a clock of this machine that does not go back.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
