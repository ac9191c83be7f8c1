//! What changed between two instants, without a buffer.

use super::difference::Difference;
use super::options::Wanted;
use super::{BufferOptions, Delivery};
use crate::content::{Content, Root, Snapshot};
use crate::position::Position;
use crate::revision::Revision;
use std::sync::Arc;

impl<K: Clone, V, S> Snapshot<K, V, S> {
    /// What changed between an older snapshot of the same dictionary and this one: the [`Delivery`] of a buffer that
    /// was flushed at both instants.
    ///
    /// If `older` is of another dictionary, or later than this snapshot, there is no such difference. The delivery is
    /// then the whole content of this snapshot, and [reports it](Delivery::is_full).
    ///
    /// O(1); never waits. Iterating over the delivery costs O(log n) for each key touched in between, or O(n) if the
    /// history of this snapshot does not reach back to `older` and both contents are compared. The delivery keeps this
    /// snapshot alive, and if contents are compared also the content of the older one.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let stock: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("apples", 5), ("pears", 3)]).build();
    /// let yesterday = stock.snapshot();
    /// stock.update_state(&(), Change::new().set("apples", 4).remove("pears"))?;
    /// let today = stock.snapshot();
    ///
    /// let changed = today.changes_since(&yesterday);
    /// assert_eq!(changed.updates().map(|(key, entry)| (*key, **entry)).collect::<Vec<_>>(), [("apples", 4)]);
    /// assert_eq!(changed.removals().collect::<Vec<_>>(), [&"pears"]);
    /// assert_eq!(today.changes_since(&today).count(), 0);
    /// assert!(yesterday.changes_since(&today).is_full(), "not the older one");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    #[doc(alias = "diff")]
    pub fn changes_since(&self, older: &Self) -> Delivery<K, V, S> {
        let Root { content, .. } = &**older.root();
        Delivery::between(Some(older.root().position()), Some(content), self.root(), &BufferOptions::default().wanted)
    }

    /// [`changes_since`](Self::changes_since) a position: for a client that has its own copy of the content and knows
    /// only its position.
    ///
    /// If the position is of another dictionary, or later than this snapshot, or further back than the
    /// [history](crate::Builder::history_limit) of this snapshot reaches, the delivery is the whole content of this
    /// snapshot, and [reports it](Delivery::is_full). It costs what `changes_since` does, and never compares contents.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1), ("b", 1)]).build();
    /// let seen = dictionary.position();
    /// dictionary.update_state(&(), Change::new().set("a", 2))?;
    /// let delivery = dictionary.snapshot().changes_since_position(seen);
    /// assert_eq!(delivery.updates().map(|(key, _)| key).collect::<Vec<_>>(), [&"a"]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[must_use]
    pub fn changes_since_position(&self, position: Position) -> Delivery<K, V, S> {
        Delivery::between(Some(position), None, self.root(), &BufferOptions::default().wanted)
    }
}

impl<K: Clone, V, S> Delivery<K, V, S> {
    /// The difference that a client must apply to have the wanted keys of this root: a client at `since`, where the
    /// content was `seen` if that is still known, or one that has nothing.
    pub(super) fn between(
        since: Option<Position>,
        seen: Option<&Content<K, V>>,
        root: &Arc<Root<K, V, S>>,
        wanted: &Wanted<K>,
    ) -> Self {
        let Position { store, revision } = root.position();
        let since =
            since.filter(|since| since.store == store && since.revision <= revision).map(|since| since.revision);
        let difference = since.and_then(|since| Difference::since(Arc::clone(root), since, seen, wanted));
        let from = since.filter(|_| difference.is_some()).unwrap_or(Revision::ZERO);
        let full = difference.is_none();
        let difference = difference.unwrap_or_else(|| Difference::everything(Arc::clone(root), revision, wanted));
        Self { since: from, full, difference: difference.into_kept() }
    }
}
