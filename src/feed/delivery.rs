//! The result of a flush.

use super::difference::{Difference, Updates};
use crate::change::Change;
use crate::content::{Snapshot, Versioned};
use crate::position::Position;
use crate::revision::Revision;
use crate::sync::DefaultHashBuilder;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// What changed between two revisions, merged: the latest value of every key that was set, and the keys that were
/// removed.
///
/// Deliveries of one buffer join without a gap: each begins where the one before ended. Applying them in order to an
/// empty map gives the content at [`revision`](Self::revision). Two snapshots can be compared without a buffer:
/// [`Snapshot::changes_since`].
///
/// It borrows what it delivers, and looks it up while it is iterated; nothing is copied. So each iteration takes its
/// time, and until it is dropped a delivery keeps alive what a [`Snapshot`] would (and if its buffer lagged behind the
/// history, also the content delivered before). It never waits, and delays no other thread.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// let buffer = dictionary.change_buffer();
/// dictionary.update_state(&(), Change::new().set("a", 1).set("b", 1))?;
/// let first = buffer.flush().unwrap();
/// dictionary.update_state(&(), Change::new().set("a", 2))?;
/// dictionary.update_state(&(), Change::new().set("a", 3).remove("b"))?;
/// let second = buffer.flush().unwrap();
///
/// assert_eq!((first.revision(), second.since(), second.revision().get()), (second.since(), first.revision(), 3));
/// assert_eq!(second.updates().map(|(key, entry)| (*key, **entry)).collect::<Vec<_>>(), [("a", 3)]);
/// assert_eq!(second.removals().collect::<Vec<_>>(), [&"b"]);
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
/// ```
pub struct Delivery<K, V, S = DefaultHashBuilder> {
    pub(super) since: Revision,
    pub(super) full: bool,
    pub(super) difference: Difference<K, V, S>,
}

impl<K, V, S> Delivery<K, V, S> {
    /// The delivery covers the commits after this revision: where the one before ended, or [`Revision::ZERO`] if it [is
    /// full](Self::is_full).
    #[must_use]
    pub fn since(&self) -> Revision {
        self.since
    }

    /// The delivery covers the commits up to and including this revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.difference.revision()
    }
}

impl<K, V, S> Delivery<K, V, S> {
    /// The position of a client that has applied this delivery: the client keeps it, to
    /// [resume](crate::BufferOptions::resume) from it.
    #[must_use]
    pub fn position(&self) -> Position {
        self.difference.position()
    }

    /// Whether this is the whole content (of the keys that are followed) and not a difference: the client must discard
    /// what it had before. The first delivery of a buffer is full, unless the buffer could resume from a client's
    /// position.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::collections::HashMap;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1)]).build();
    /// let mut replica = HashMap::from([("from the day before", 0)]);
    /// let delivery = dictionary.change_buffer().flush().unwrap();
    /// if delivery.is_full() {
    ///     replica.clear();
    /// }
    /// replica.extend(delivery.updates().map(|(key, entry)| (*key, **entry)));
    /// assert_eq!(replica, HashMap::from([("a", 1)]));
    /// ```
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The whole content at the instant of this delivery, also of keys that its buffer does not follow. O(1).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1), ("b", 1)]).build();
    /// let buffer = dictionary.change_buffer();
    /// buffer.flush().unwrap();
    /// dictionary.update_state(&(), Change::new().set("a", 2))?;
    /// let delivery = buffer.flush().unwrap();
    /// dictionary.update_state(&(), Change::new().set("b", 2))?;
    /// assert_eq!(delivery.snapshot()["b"], 1, "as it was when the buffer was flushed");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K, V, S> {
        Snapshot::new(Arc::clone(self.difference.root()))
    }
}

impl<K: Eq, V, S> Delivery<K, V, S> {
    /// The keys that were set, each once, with their latest value and its revision, in an arbitrary order, which is the
    /// same each time. O(log n) for each key touched; O(n) for all if the buffer lagged behind the history.
    #[must_use]
    pub fn updates(&self) -> Updates<'_, K, V> {
        self.difference.updates()
    }

    /// The keys that were removed, each once, in no particular order. None of them is among the updates. O(k) for k
    /// keys touched, and O(log n) for each that a commit removed; O(n) if the buffer lagged behind the history.
    #[must_use]
    pub fn removals(&self) -> impl ExactSizeIterator<Item = &K> {
        self.difference.removals().into_iter()
    }

    /// The number of keys. 0 only in a full delivery to a client that could not resume, and in what
    /// [`changes_since`](Snapshot::changes_since) returns if nothing has changed. Takes the time of iterating them all.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, StateDictionary, StoreId, Position, Revision};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let elsewhere = Position { store: StoreId::from(0), revision: Revision::from(7) };
    /// let delivery = dictionary.change_buffer_with(BufferOptions::new().resume(elsewhere)).try_flush().unwrap();
    /// assert!(delivery.is_full() && delivery.count() == 0);
    /// ```
    #[must_use]
    pub fn count(&self) -> usize {
        self.updates().count() + self.removals().len()
    }

    /// The updates and the removals, cloned.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1)]).build();
    /// let (updates, removals) = dictionary.change_buffer().flush().unwrap().to_parts();
    /// assert_eq!((updates[0].0, *updates[0].1, removals.len()), ("a", 1, 0));
    /// ```
    #[must_use]
    pub fn to_parts(&self) -> (Vec<(K, Versioned<V>)>, Vec<K>)
    where
        K: Clone,
    {
        let updates = self.updates().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        (updates, self.removals().cloned().collect())
    }

    /// The change that does to another dictionary what happened to this one.
    ///
    /// If the delivery [is full](Self::is_full), the change sets all keys of this dictionary and removes none: other
    /// keys of the other dictionary stay there, unless the caller removes them.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1)]).build();
    /// let (mirror, buffer) = (StateDictionary::<&str, i32, ()>::new(), dictionary.change_buffer());
    /// mirror.update_state(&(), buffer.flush().unwrap().to_change())?;
    /// dictionary.update_state(&(), Change::new().set("b", 2).remove("a"))?;
    /// mirror.update_state(&(), buffer.flush().unwrap().to_change())?;
    /// assert_eq!(mirror.snapshot().iter().collect::<Vec<_>>(), [(&"b", &2)]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    pub fn to_change(&self) -> Change<K, V>
    where
        K: Clone,
    {
        let change = self
            .updates()
            .fold(Change::new(), |change, (key, entry)| change.set_arc(key.clone(), entry.clone().into_value()));
        self.removals().cloned().fold(change, Change::remove)
    }
}

// Never changes. What it looks up while it is iterated (a filter and a key's `Eq` run then) it does not keep.
impl<K, V, S> UnwindSafe for Delivery<K, V, S> {}
impl<K, V, S> RefUnwindSafe for Delivery<K, V, S> {}

/// O(1), like a snapshot.
impl<K: Clone, V, S> Clone for Delivery<K, V, S> {
    fn clone(&self) -> Self {
        Self { since: self.since, full: self.full, difference: self.difference.clone() }
    }
}

impl<K: Eq + fmt::Debug, V: fmt::Debug, S> fmt::Debug for Delivery<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("since", &self.since())
            .field("revision", &self.revision())
            .field("full", &self.full)
            .field("updates", &self.updates())
            .field("removals", &self.difference.removals())
            .finish()
    }
}
