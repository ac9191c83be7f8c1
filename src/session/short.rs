//! The short forms on a session.

use crate::change::Change;
use crate::commit::{Replaced, Writer, expecting};
use crate::error::UpdateError;
use crate::revision::Revision;
use crate::session::Session;
use std::hash::{BuildHasher, Hash};
use std::iter;

/// The short forms of [`update_ephemeral`](Self::update_ephemeral): a key that they set is the session's, and is
/// removed when the session ends. Use [`writer`](Self::writer) for lasting values: `set` of a session is not the short form of
/// its [`update_state`](Self::update_state).
///
/// ```
/// use state_dictionary::StateDictionary;
///
/// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
/// let mut alice = room.session("alice");
/// alice.set("cursor", 1)?;
/// alice.update("visits", |now| Some(now.copied().unwrap_or(0) + 1))?;
/// alice.compare_and_set("seat", None, 7)?;
/// alice.writer().set("visits", 10)?;
/// assert!(alice.remove("seat")?.value.is_some());
/// assert_eq!(alice.end().removed, ["cursor"]);
/// assert_eq!(room.snapshot()["visits"], 10);
/// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
/// ```
impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Session<K, V, T, S> {
    /// The short forms of [`update_state`](Self::update_state): the values that they set are lasting.
    #[must_use]
    pub fn writer(&self) -> Writer<'_, K, V, T, S> {
        Writer::new(&self.engine, self.token())
    }

    /// [`Writer::set`], with an ephemeral value.
    ///
    /// # Errors
    /// As [`Writer::set`].
    pub fn set(&mut self, key: impl Into<K>, value: V) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        self.set_ephemeral(Change::new().set(key, value))
    }

    /// [`Writer::remove`], for this client, whether the value is ephemeral or lasting.
    ///
    /// # Errors
    /// As [`Writer::remove`].
    pub fn remove(&self, key: impl Into<K>) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        self.writer().remove(key)
    }

    /// [`Writer::update`], with an ephemeral value.
    ///
    /// # Errors
    /// As [`Writer::update`].
    ///
    /// # Panics
    /// As [`Writer::update`].
    pub fn update(
        &mut self,
        key: impl Into<K>,
        modify: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        let key = key.into();
        self.noting(iter::once(&key), |engine, token, note| engine.update_one(token, &key, Some(note), modify))
    }

    /// [`Writer::compare_and_set`], with an ephemeral value.
    ///
    /// # Errors
    /// As [`Writer::compare_and_set`].
    pub fn compare_and_set(
        &mut self,
        key: impl Into<K>,
        expected: impl Into<Option<Revision>>,
        value: V,
    ) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        self.set_ephemeral(expecting(key.into(), expected.into(), value))
    }

    fn set_ephemeral(&mut self, change: Change<K, V>) -> Result<Replaced<V>, UpdateError<K, V, T>> {
        let key = change.operations().next().map(|(key, _)| key.clone());
        self.noting(key.iter(), |engine, token, note| engine.write_one(token, change, Some(note)))
    }
}
