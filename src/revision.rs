//! The numbers of commits and of grants.

use std::fmt;
use std::hash::Hash;
use std::num::ParseIntError;
use std::str::FromStr;

/// The number of a commit: how many commits there have been, itself included.
///
/// The revisions of one dictionary are totally ordered and without gaps. An empty dictionary is at [`Revision::ZERO`];
/// initial content given to the builder is commit 1.
///
/// ```
/// use state_dictionary::{Change, Revision, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// assert_eq!(dictionary.revision(), Revision::ZERO);
/// let revision = dictionary.update_state(&(), Change::new().set("a", 1))?;
/// assert_eq!(u64::from(revision), 1);
/// assert_eq!(dictionary.update_state(&(), Change::new())?, revision, "nothing was committed");
/// assert_eq!(revision.to_string().parse(), Ok(revision));
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Revision(pub(crate) u64);

impl Revision {
    /// The revision of a dictionary without any commit.
    pub const ZERO: Self = Self(0);

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Revision> for u64 {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

impl From<u64> for Revision {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// The version at which a lock was granted: greater than that of every lock granted before, on any key.
///
/// A resource outside the dictionary can use it to refuse a client whose lease has expired unnoticed: the resource
/// remembers the greatest token it has seen and refuses smaller ones. Renewing a lock keeps its token.
///
/// Each dictionary counts from 0, so after a restart of the program a new one grants smaller tokens again. A resource
/// that outlives the dictionary therefore remembers the greatest token for each
/// [`StateDictionary::id`](crate::StateDictionary::id), receives the id with each token, and refuses that of an earlier
/// dictionary.
///
/// ```
/// use state_dictionary::{FencingToken, LockRequest, ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().clock(&clock).build();
/// let acquire = |client| {
///     let receipt = dictionary.update_locks(&client, LockRequest::new().acquire("disk", Duration::from_secs(5)));
///     receipt.unwrap().granted[0].1
/// };
/// let alice = acquire("alice");
/// clock.advance(Duration::from_secs(5)); // alice is slow
/// let bob = acquire("bob");
///
/// // The disk has seen bob's token. Alice's is smaller, so the disk refuses her write.
/// let greatest_seen = bob;
/// assert!(alice < greatest_seen);
///
/// // Such a resource stores it as a number or as text.
/// assert_eq!(bob.to_string().parse(), Ok(bob));
/// assert_eq!(FencingToken::from(bob.get()), bob);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FencingToken(pub(crate) u64);

impl FencingToken {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}

impl From<u64> for FencingToken {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl FromStr for FencingToken {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
