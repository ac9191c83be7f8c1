//! Everything that a dictionary is, except its content: what a replica is made from, or a program after a restart.

use crate::position::StoreId;
use crate::revision::{FencingToken, Revision};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Everything of a dictionary at one instant except its content, which is a [`Snapshot`](crate::Snapshot) of the same
/// instant. Made by [`StateDictionary::image`](crate::StateDictionary::image), and read by
/// [`Builder::image`](crate::Builder::image) and [`StateDictionary::import`](crate::StateDictionary::import).
///
/// Its fields are public, so that it can be kept in any form. With the feature `serde` it can be serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Image<K, T> {
    /// Which dictionary it is.
    pub store: StoreId,
    /// The latest commit.
    pub revision: Revision,
    /// The largest number that a lock or a lock event has had.
    pub fence: FencingToken,
    /// Whether the dictionary is frozen.
    pub frozen: bool,
    /// How many sessions it has had. Sessions that are due at the same time end in the order of their numbers.
    pub sessions_opened: u64,
    /// The locks, in the order of their granting, also those that have expired and are still there.
    pub locks: Vec<LockImage<K, T>>,
    /// The sessions, in the order of their numbers.
    pub sessions: Vec<SessionImage<K, T>>,
}

/// A lock of an [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LockImage<K, T> {
    /// What it locks.
    pub key: K,
    /// Whose it is.
    pub owner: T,
    /// How much of its lease is left; `None` if it has none.
    pub remaining: Option<Duration>,
    /// Its fencing token.
    pub fencing_token: FencingToken,
    /// The number of the session through which it was last acquired or renewed.
    pub session: Option<u64>,
}

/// A session of an [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionImage<K, T> {
    /// Its number.
    pub number: u64,
    /// Whose it is.
    pub token: T,
    /// How long it can still be taken up; `None` without limit, as for a session that was attached.
    pub remaining: Option<Duration>,
    /// Whether it has ended, except that keys are left that could not be removed yet.
    pub ended: bool,
    /// Its ephemeral keys, in the order in which they were set, with the commits that set them.
    pub keys: Vec<(K, Revision)>,
}

impl<K, T> Image<K, T> {
    /// Gives each session that was attached a time until which it can be taken up. For a program that restarts: its
    /// clients are not connected, and some will not come back.
    pub fn detach_sessions(&mut self, grace: Duration) {
        for session in &mut self.sessions {
            session.remaining.get_or_insert(grace);
        }
    }
}

/// Why an image cannot be imported. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// It is of another dictionary.
    OtherStore,
    /// It is older than the present content.
    Older {
        /// The revision of the image.
        image: Revision,
        /// The present revision.
        present: Revision,
    },
    /// The dictionary is frozen.
    Frozen,
    /// The content is locked by a guard.
    ContentLocked,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherStore => f.write_str("the image is of another dictionary"),
            Self::Older { image, present } => {
                write!(f, "the image has revision {image}, and the content is at revision {present} already")
            }
            Self::Frozen => f.write_str("the dictionary is frozen"),
            Self::ContentLocked => f.write_str("the content is locked"),
        }
    }
}

impl Error for ImportError {}
