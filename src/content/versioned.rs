//! A value together with the commit that set it.

use crate::revision::Revision;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// A value and the revision of the commit that set it. Dereferences to the value; clones share it.
///
/// It is printed with `{:?}` as value and revision, `1 @ 7`. To print the value alone, dereference it: `*entry`, or `**entry`
/// for the reference that an iterator gives.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let dictionary: StateDictionary<&str, String, ()> = StateDictionary::new();
/// dictionary.update_state(&(), Change::new().set("a", "one".to_owned()))?;
/// let entry = dictionary.get("a").unwrap();
/// dictionary.update_state(&(), Change::new().remove("a"))?;
/// assert_eq!(entry.len(), 3, "the length of the string, which is kept alive");
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

// It never changes; the value is shared, and only the user's own code can change what is inside it.
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

/// The value.
impl<V: fmt::Display> fmt::Display for Versioned<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<V: fmt::Debug> fmt::Debug for Versioned<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @ {}", self.value, self.revision)
    }
}
