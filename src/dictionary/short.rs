//! The short forms on the dictionary, and a dictionary made from pairs.

use super::StateDictionary;
use crate::commit::{Replaced, Writer};
use crate::error::UpdateError;
use crate::revision::Revision;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

impl<K, V, T, S> StateDictionary<K, V, T, S> {
    /// The short forms of [`update_state`](Self::update_state) for one key, on behalf of `token`.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
    /// room.writer(&"alice").set("score", 1)?;
    /// assert_eq!(room.snapshot()["score"], 1);
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// ```
    #[must_use]
    pub fn writer<'a>(&'a self, token: &'a T) -> Writer<'a, K, V, T, S> {
        Writer::new(&self.engine, token)
    }

    /// The number of keys. O(1); never waits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.engine.published.peek(|root| root.content.len())
    }

    /// Whether there are no keys. O(1); never waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.engine.published.peek(|root| root.content.is_empty())
    }
}

impl<K: Eq + Hash, V, T, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// Whether the key has a value. O(log n); never waits.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let flags: StateDictionary<String, bool> = [("dark".to_owned(), true)].into();
    /// assert!(flags.contains_key("dark") && !flags.contains_key("beta"));
    /// assert!(flags.len() == 1 && !flags.is_empty());
    /// ```
    #[must_use]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let key = self.engine.published.shared().lookup(key);
        self.engine.published.peek(|root| root.content.contains_key(&key))
    }
}

/// The methods of [`Writer`], without a token.
///
/// ```
/// use state_dictionary::{Revision, StateDictionary};
///
/// let flags: StateDictionary<String, bool> = StateDictionary::new();
/// let first = flags.set("dark", true)?;
/// flags.compare_and_set("beta", None, true)?;
/// let was = flags.update("dark", |now| now.map(|on| !on))?;
/// assert_eq!(was.value.map(|was| was.revision()), Some(first.revision));
/// flags.retain(|_, on| *on)?;
/// assert!(flags.remove("beta")?.value.is_some());
/// assert_eq!(flags.clear()?, Revision::from(5), "nothing was left to remove");
/// # Ok::<(), state_dictionary::UpdateError<String, bool>>(())
/// ```
impl<K: Clone + Eq + Hash, V, S: BuildHasher> StateDictionary<K, V, (), S> {
    /// [`Writer::set`], without a token.
    ///
    /// # Errors
    /// As [`Writer::set`].
    #[doc(alias = "insert")]
    pub fn set(&self, key: impl Into<K>, value: V) -> Result<Replaced<V>, UpdateError<K, V>> {
        self.writer(&()).set(key, value)
    }

    /// [`Writer::remove`], without a token.
    ///
    /// # Errors
    /// As [`Writer::remove`].
    pub fn remove(&self, key: impl Into<K>) -> Result<Replaced<V>, UpdateError<K, V>> {
        self.writer(&()).remove(key)
    }

    /// [`Writer::update`], without a token.
    ///
    /// # Errors
    /// As [`Writer::update`].
    ///
    /// # Panics
    /// As [`Writer::update`].
    #[doc(alias = "modify")]
    #[doc(alias = "fetch_update")]
    pub fn update(
        &self,
        key: impl Into<K>,
        modify: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<Replaced<V>, UpdateError<K, V>> {
        self.writer(&()).update(key, modify)
    }

    /// [`Writer::compare_and_set`], without a token.
    ///
    /// # Errors
    /// As [`Writer::compare_and_set`].
    #[doc(alias = "compare_exchange")]
    pub fn compare_and_set(
        &self,
        key: impl Into<K>,
        expected: impl Into<Option<Revision>>,
        value: V,
    ) -> Result<Replaced<V>, UpdateError<K, V>> {
        self.writer(&()).compare_and_set(key, expected, value)
    }

    /// [`Writer::retain`], without a token.
    ///
    /// # Errors
    /// As [`Writer::retain`].
    ///
    /// # Panics
    /// As [`Writer::retain`].
    pub fn retain(&self, keep: impl FnMut(&K, &V) -> bool) -> Result<Revision, UpdateError<K, V>> {
        self.writer(&()).retain(keep)
    }

    /// [`Writer::clear`], without a token.
    ///
    /// # Errors
    /// As [`Writer::clear`].
    pub fn clear(&self) -> Result<Revision, UpdateError<K, V>> {
        self.writer(&()).clear()
    }
}

/// The pairs are the initial content, commit 1, as with [`Builder::content`](crate::Builder::content).
impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher + Default> FromIterator<(K, V)>
    for StateDictionary<K, V, T, S>
{
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        StateDictionary::builder().hasher(S::default()).content(pairs).build()
    }
}

/// The pairs are the initial content, commit 1, as with [`Builder::content`](crate::Builder::content).
impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, const N: usize> From<[(K, V); N]> for StateDictionary<K, V, T> {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}
