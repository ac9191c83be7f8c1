//! Why an operation on a node failed, and why a node stopped.

use std::convert::Infallible;
use std::error;
use std::fmt::{self, Debug, Display, Formatter};

/// Why an operation was not carried out, or is not known to have been.
#[derive(Debug, PartialEq, Eq)]
pub enum Error<E = Infallible> {
    /// The dictionary refused it: it took its place in the log, and changed nothing, on any node.
    Refused(E),
    /// It was not carried out, or, for [`Failure::Unanswered`], is not known to have been.
    Failed(Failure),
}

/// Why there is no answer of the dictionary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// More is queued than [`Options::queue_limit`](crate::Options::queue_limit) allows. Nothing was done.
    #[error("the queue of this node is full")]
    QueueFull,
    /// The operation is larger than [`Options::max_operation`](crate::Options::max_operation). Nothing was done.
    #[error("an operation of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size in bytes, as it is written to the log.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A key, a value or a token could not be serialised. Nothing was done.
    #[error("an operation could not be serialised: {0}")]
    NotSerialisable(String),
    /// The log refused the entry, for lack of space for example. Nothing was done; it may work later.
    #[error("the log refused the operation: {0}")]
    LogRefused(String),
    /// There was no answer in the time given, or the answer was lost when the node rejoined from a checkpoint. **The
    /// operation may have been carried out, or may still be.**
    #[error("no answer in time: the operation may still be carried out")]
    Unanswered,
    /// The session was opened again since, on this node or another one, or it has ended. Nothing was done.
    #[error("the session was taken over, or has ended")]
    TakenOver,
    /// The content changed during each of so many attempts. Nothing was done.
    #[error("what was read changed during each of {attempts} attempts")]
    RetriesExhausted {
        /// How many.
        attempts: usize,
    },
    /// The node has stopped. What it was asked before, and had no answer to, may have been carried out.
    #[error("the node has stopped: {0}")]
    Stopped(Stopped),
}

/// Why a node stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// All its handles were dropped, or [`Node::stop`](crate::Node::stop) was called.
    #[error("it was stopped")]
    Closed,
    /// The other nodes hold it for gone: it was unreachable for longer than its lease. It joins again as another node.
    #[error("it was fenced off")]
    Fenced,
    /// The log has something that this version does not know. A later version does.
    #[error("unknown content of the log at {place}: {what}")]
    Unknown {
        /// Where.
        place: u64,
        /// What.
        what: String,
    },
    /// Its state differs from the one that another node wrote into the log. It joins again from a checkpoint.
    #[error("its state differs from the other nodes' after {operations} operations")]
    Diverged {
        /// After how many.
        operations: u64,
    },
    /// Applying an operation panicked, in the code of a key, a value or a token.
    #[error("applying the operation at {place} panicked")]
    Panicked {
        /// Where.
        place: u64,
    },
    /// The engine of the log failed.
    #[error("{0}")]
    Log(String),
}

impl<E: Display> Display for Error<E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => Display::fmt(refusal, f),
            Self::Failed(failure) => Display::fmt(failure, f),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Refused(refusal) => refusal.source(),
            Self::Failed(failure) => failure.source(),
        }
    }
}

impl<E> From<Failure> for Error<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<E> Error<E> {
    /// The refusal of the dictionary, if it is one.
    pub fn refusal(self) -> Option<E> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Failed(_) => None,
        }
    }
}
