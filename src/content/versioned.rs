//! A value together with the commit that set it.

use std::fmt;
use std::num::ParseIntError;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::str::FromStr;
use std::sync::Arc;

/// The number of a commit: how many changes had been committed when it was done, itself included.
///
/// Revisions of one dictionary are gap-free and totally ordered. An empty dictionary is at [`Revision::ZERO`]; initial
/// content given to the builder is commit 1.
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
    /// The revision of a dictionary in which nothing was ever committed.
    pub const ZERO: Self = Self(0);

    /// The number itself.
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

/// A value and the revision of the commit that set it. Dereferences to the value; clones share it.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let dictionary: StateDictionary<&str, String, ()> = StateDictionary::new();
/// dictionary.update_state(&(), Change::new().set("a", "one".to_owned()))?;
/// let entry = dictionary.get("a").unwrap();
/// dictionary.update_state(&(), Change::new().remove("a"))?;
/// assert_eq!(entry.len(), 3, "the string's: an entry can be kept as long as one likes");
/// assert_eq!(entry.revision().get(), 1);
/// # Ok::<(), state_dictionary::UpdateError<&str, String, ()>>(())
/// ```
pub struct Versioned<V> {
    value: Arc<V>,
    revision: Revision,
}

impl<V> Versioned<V> {
    pub(crate) const fn new(value: Arc<V>, revision: Revision) -> Self {
        Self { value, revision }
    }

    /// The shared value.
    #[must_use]
    pub fn value(&self) -> &Arc<V> {
        &self.value
    }

    /// The shared value, without the revision.
    #[must_use]
    pub fn into_value(self) -> Arc<V> {
        self.value
    }

    /// The revision of the commit that set this value: what [`Change::if_revision`](crate::Change::if_revision) asks for.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }
}

// Never changes; the value is shared, and only the user's own code could change what is inside it.
impl<V> UnwindSafe for Versioned<V> {}
impl<V> RefUnwindSafe for Versioned<V> {}

impl<V> Clone for Versioned<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), revision: self.revision }
    }
}

/// The same value set by the same commit.
impl<V: PartialEq> PartialEq for Versioned<V> {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.value == other.value
    }
}

impl<V: Eq> Eq for Versioned<V> {}

impl<V> Deref for Versioned<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V: fmt::Debug> fmt::Debug for Versioned<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @ {}", self.value, self.revision)
    }
}
