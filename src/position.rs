//! Positions: which dictionary, and which revision of it. A client that reconnects sends the position it has seen.

use crate::revision::Revision;
use std::error::Error;
use std::fmt;
use std::hash::Hash;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// Distinguishes a dictionary from all others, also from those of other processes and earlier runs.
///
/// A random number of 64 bits, chosen when the dictionary is built. Its text form is 16 hexadecimal digits.
///
/// ```
/// use state_dictionary::{StateDictionary, StoreId};
///
/// let dictionaries: [StateDictionary<&str, i32, ()>; 2] = [StateDictionary::new(), StateDictionary::new()];
/// let [one, other] = dictionaries.each_ref().map(StateDictionary::id);
/// assert_ne!(one, other);
/// assert_eq!(one.to_string().parse(), Ok(one));
/// assert_eq!(StoreId::from(0x1f).to_string(), "000000000000001f");
/// assert_eq!(StoreId::from(0x1f).get(), 0x1f);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(u64);

impl StoreId {
    /// From the same source of randomness that seeds the default hasher.
    pub(crate) fn random() -> Self {
        Self(RandomState::new().hash_one(0))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<StoreId> for u64 {
    fn from(id: StoreId) -> Self {
        id.0
    }
}

impl From<u64> for StoreId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for StoreId {
    type Err = ParseStoreIdError;

    fn from_str(text: &str) -> Result<Self, ParseStoreIdError> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(ParseStoreIdError)
    }
}

/// A revision of a particular dictionary. A client keeps it, to resume from it when it reconnects.
///
/// Its text form is the store's id, a colon and the revision.
///
/// ```
/// use state_dictionary::{BufferOptions, Change, Position, StateDictionary};
///
/// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
/// dictionary.update_state(&0, Change::new().set("a", 1).set("b", 1))?;
/// let buffer = dictionary.change_buffer();
/// let seen = buffer.flush()?.position().to_string();
/// drop(buffer); // the connection is lost
///
/// dictionary.update_state(&0, Change::new().set("a", 2))?;
/// let resumed = dictionary.change_buffer_with(BufferOptions::new().resume(seen.parse()?));
/// let delivery = resumed.flush()?;
/// assert!(!delivery.is_full());
/// assert_eq!(delivery.updates().map(|(key, _)| key).collect::<Vec<_>>(), ["a"]);
///
/// // To another dictionary, or to this one after a restart, it means nothing, and the delivery is full.
/// let another: StateDictionary<String, i32, u8> = StateDictionary::new();
/// let delivery = another.change_buffer_with(BufferOptions::new().resume(seen.parse()?)).flush()?;
/// assert!(delivery.is_full());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which dictionary.
    pub store: StoreId,
    /// The latest commit seen.
    pub revision: Revision,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store, self.revision)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let (store, revision) = text.split_once(':').ok_or(ParsePositionError)?;
        let digits = revision.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| revision.parse::<u64>().ok()).flatten();
        let revision = number.map(Revision::from).ok_or(ParsePositionError)?;
        let store = store.parse().map_err(|ParseStoreIdError| ParsePositionError)?;
        Ok(Self { store, revision })
    }
}

/// The position of a [`LockFeed`](crate::LockFeed): a client keeps it, to [resume](crate::FeedOptions::resume) from it.
///
/// Its text form is the store's id, `:L` and the version.
///
/// ```
/// use state_dictionary::{FeedOptions, LockDelivery, LockRequest, StateDictionary};
///
/// let room: StateDictionary<&str, i32, &str> = StateDictionary::builder().lock_history_limit(100).build();
/// let feed = room.lock_feed();
/// room.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
/// assert!(matches!(feed.flush()?, LockDelivery::Full { .. }));
/// let seen = feed.position().to_string();
/// drop(feed); // the connection is lost
///
/// room.release_all(&"alice");
/// let resumed = room.lock_feed_with(FeedOptions::new().resume(seen.parse()?));
/// assert!(matches!(resumed.flush()?, LockDelivery::Events(events) if events.len() == 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockPosition {
    /// Which dictionary.
    pub store: StoreId,
    /// The latest [version](crate::LockEvent::version) seen.
    pub version: u64,
}

impl fmt::Display for LockPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:L{}", self.store, self.version)
    }
}

impl FromStr for LockPosition {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let (store, version) = text.split_once(":L").ok_or(ParsePositionError)?;
        let Position { store, revision } = format!("{store}:{version}").parse()?;
        Ok(Self { store, version: revision.get() })
    }
}

/// The text is not a [`Position`] or [`LockPosition`].
///
/// ```
/// use state_dictionary::Position;
///
/// let error = "yesterday".parse::<Position>().unwrap_err();
/// assert!(error.to_string().starts_with("not a position"));
/// assert!("00000000deadbeef:17".parse::<Position>().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParsePositionError;

impl fmt::Display for ParsePositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a position: expected 16 hexadecimal digits, a colon (`:L` for a feed of locks) and a number")
    }
}

impl Error for ParsePositionError {}

/// The text is not a [`StoreId`].
///
/// ```
/// use state_dictionary::StoreId;
///
/// let error = "1f".parse::<StoreId>().unwrap_err();
/// assert_eq!(error.to_string(), "not the id of a dictionary: expected 16 hexadecimal digits");
/// assert!("000000000000001f".parse::<StoreId>().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseStoreIdError;

impl fmt::Display for ParseStoreIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the id of a dictionary: expected 16 hexadecimal digits")
    }
}

impl Error for ParseStoreIdError {}
