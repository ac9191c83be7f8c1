//! What an entry of the log says: operations, in the form in which all nodes read them.
//!
//! An entry is one byte for its form, then operations, each with its length before it. An operation is msgpack, which
//! names its variant and describes its values, so that an unknown one is recognised and a log can be shown by a program
//! that does not know the types.

use crate::data::{Key, Token, Value};
use serde::{Deserialize, Serialize};
use state_dictionary::{Change, Condition, LockRequest};
use std::sync::Arc;
use std::time::Duration;

/// The forms of an entry. A node that reads another one stops.
pub(crate) mod form {
    /// Operations.
    pub(crate) const WHOLE: u8 = 1;
    /// The first part of an operation that is too large for one entry. What was begun before is given up.
    pub(crate) const FIRST: u8 = 2;
    /// A part that is neither the first nor the last.
    pub(crate) const MIDDLE: u8 = 3;
    pub(crate) const LAST: u8 = 4;
}

/// One operation. New variants are added at will, and none is changed: older nodes stop at a new one.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize, V: Serialize, T: Serialize",
    deserialize = "K: Deserialize<'de>, V: Deserialize<'de>, T: Deserialize<'de>"
))]
pub(crate) enum Operation<K, V, T> {
    Update(Update<K, V, T>),
    Locks {
        owner: Owner<T>,
        acquire: Vec<(K, Option<Nanos>)>,
        release: Vec<K>,
    },
    ReleaseAll(T),
    ClearLocks,
    /// Opens the session of this token, wherever it is. It is detached with this grace when its node is gone.
    Open {
        token: T,
        grace: Nanos,
    },
    Detach {
        session: SessionKey<T>,
        grace: Nanos,
    },
    End(SessionKey<T>),
    Freeze,
    /// So much time has passed since tick `after` was applied at the node that says so. Only the first that says so
    /// counts: a compare-and-swap of the time.
    Tick {
        after: u64,
        passed: Nanos,
    },
    /// Does nothing. Who has its answer has seen everything before it.
    Read,
    /// The hash of the state of the node that says so, after it applied this many operations.
    Hash {
        operations: u64,
        hash: u64,
    },
}

/// A change of the content.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize, V: Serialize, T: Serialize",
    deserialize = "K: Deserialize<'de>, V: Deserialize<'de>, T: Deserialize<'de>"
))]
pub(crate) struct Update<K, V, T> {
    owner: Owner<T>,
    /// Whether the keys that are set become ephemeral keys of the session.
    ephemeral: bool,
    operations: Vec<(K, Option<Arc<V>>)>,
    conditions: Vec<(K, Condition)>,
    /// The revision that the whole content must have.
    content: Option<u64>,
}

pub(crate) type Nanos = u64;

/// In whose name an operation is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Owner<T> {
    Token(T),
    Session(SessionKey<T>),
}

/// Which session: the one of a token that was opened by the operation with this number. If it has been opened again
/// since, it belongs to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionKey<T> {
    pub(crate) token: T,
    pub(crate) opened: u64,
}

pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<K: Key, V: Value, T: Token> Operation<K, V, T> {
    pub(crate) fn update(owner: Owner<T>, ephemeral: bool, change: &Change<K, V>, content: Option<u64>) -> Self {
        let operations = change.operations().map(|(key, value)| (key.clone(), value.cloned())).collect();
        let conditions = change.conditions().map(|(key, condition)| (key.clone(), condition)).collect();
        Self::Update(Update { owner, ephemeral, operations, conditions, content })
    }

    pub(crate) fn locks(owner: Owner<T>, request: &LockRequest<K>) -> Self {
        let acquire = request.acquires().map(|(key, lease)| (key.clone(), lease.map(nanos))).collect();
        Self::Locks { owner, acquire, release: request.releases().cloned().collect() }
    }

    /// With its length before it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        let mut bytes = vec![0; LENGTH];
        rmp_serde::encode::write(&mut bytes, self)?;
        let length = u32::try_from(bytes.len() - LENGTH).unwrap_or(u32::MAX);
        bytes[..LENGTH].copy_from_slice(&length.to_be_bytes());
        Ok(bytes)
    }
}

/// The bytes of a length.
const LENGTH: usize = 4;

/// The operations of an entry, still encoded.
pub(crate) fn split(mut bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], String>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let found = bytes.split_first_chunk::<LENGTH>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        Some(if let Some((operation, rest)) = found {
            bytes = rest;
            Ok(operation)
        } else {
            bytes = &[];
            Err("an operation is cut off".into())
        })
    })
}

impl<K: Key, V: Value, T: Token> Update<K, V, T> {
    pub(crate) fn into_parts(self) -> (Owner<T>, bool, Option<u64>, Change<K, V>) {
        let Self { owner, ephemeral, operations, conditions, content } = self;
        let mut change = Change::new();
        for (key, value) in operations {
            change = match value {
                Some(value) => change.set_arc(key, value),
                None => change.remove(key),
            };
        }
        for (key, condition) in conditions {
            change = match condition {
                Condition::Absent => change.if_absent(key),
                Condition::At(revision) => change.if_revision(key, revision),
                _ => change.if_present(key),
            };
        }
        (owner, ephemeral, content, change)
    }
}

/// A request of the crate from its encoded form.
pub(crate) fn lock_request<K>(acquire: Vec<(K, Option<Nanos>)>, release: Vec<K>) -> LockRequest<K> {
    let acquires = |request: LockRequest<K>, (key, lease): (K, Option<Nanos>)| {
        request.acquire(key, lease.map(Duration::from_nanos))
    };
    let request = acquire.into_iter().fold(LockRequest::new(), acquires);
    release.into_iter().fold(request, LockRequest::release)
}
