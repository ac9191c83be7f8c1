//! Short forms: one key in one line.

use crate::data::{Key, Token, Value};
use crate::error::Error;
use crate::node::Node;
use state_dictionary::{Change, Revision, UpdateError};
use std::fmt;

/// Writes with one token. Made by [`Node::writer`].
pub struct NodeWriter<'a, K, V, T> {
    node: &'a Node<K, V, T>,
    token: &'a T,
}

impl<K: Key, V: Value, T: Token> Node<K, V, T> {
    /// Short forms for writes with this token.
    #[must_use]
    pub fn writer<'a>(&'a self, token: &'a T) -> NodeWriter<'a, K, V, T> {
        NodeWriter { node: self, token }
    }
}

type Written<K, V, T> = Result<Revision, Error<UpdateError<K, V, T>>>;

impl<K: Key, V: Value, T: Token> NodeWriter<'_, K, V, T> {
    /// Sets a key.
    ///
    /// # Errors
    /// As [`Node::update_state`].
    pub async fn set(&self, key: impl Into<K>, value: V) -> Written<K, V, T> {
        self.node.update_state(self.token, Change::new().set(key, value)).await
    }

    /// Removes a key.
    ///
    /// # Errors
    /// As [`Node::update_state`].
    pub async fn remove(&self, key: impl Into<K>) -> Written<K, V, T> {
        self.node.update_state(self.token, Change::new().remove(key)).await
    }

    /// Makes the next value of a key from the present one; no value removes the key. The closure runs again if the key has
    /// changed meanwhile.
    ///
    /// # Errors
    /// As [`Node::update_state_with`].
    pub async fn update(&self, key: impl Into<K>, mut modify: impl FnMut(Option<&V>) -> Option<V>) -> Written<K, V, T> {
        let key = key.into();
        let modify = |now: &crate::Reading<K, V>| match modify(now.get(key.clone()).as_deref()) {
            Some(value) => Change::new().set(key.clone(), value),
            None => Change::new().remove(key.clone()),
        };
        self.node.update_state_with(self.token, modify).await
    }

    /// Sets a key that was set by the commit with this revision, or that is not there if there is none.
    ///
    /// # Errors
    /// As [`Node::update_state`]; [`Refusal::ConditionFailed`](state_dictionary::Refusal::ConditionFailed) if it is
    /// otherwise.
    pub async fn compare_and_set(
        &self,
        key: impl Into<K>,
        expected: impl Into<Option<Revision>>,
        value: V,
    ) -> Written<K, V, T> {
        let key = key.into();
        let change = Change::new().set(key.clone(), value);
        self.node.update_state(self.token, crate::reading::condition(change, key, expected.into())).await
    }

    /// Removes all keys for which `keep` returns `false`. It runs again if anything has changed meanwhile.
    ///
    /// # Errors
    /// As [`Node::update_state_with`].
    pub async fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) -> Written<K, V, T> {
        let modify = |now: &crate::Reading<K, V>| {
            let removed = now.snapshot().iter().filter(|(key, value)| !keep(key, value));
            removed.fold(Change::new(), |change, (key, _)| change.remove(key.clone()))
        };
        self.node.update_state_with(self.token, modify).await
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// As [`Node::update_state_with`].
    pub async fn clear(&self) -> Written<K, V, T> {
        self.retain(|_, _| false).await
    }
}

impl<K: Key, V: Value> Node<K, V> {
    /// Sets a key. See [`NodeWriter::set`].
    ///
    /// # Errors
    /// As [`update_state`](Self::update_state).
    pub async fn set(&self, key: impl Into<K>, value: V) -> Written<K, V, ()> {
        self.writer(&()).set(key, value).await
    }

    /// Removes a key. See [`NodeWriter::remove`].
    ///
    /// # Errors
    /// As [`update_state`](Self::update_state).
    pub async fn remove(&self, key: impl Into<K>) -> Written<K, V, ()> {
        self.writer(&()).remove(key).await
    }

    /// Makes the next value of a key from the present one. See [`NodeWriter::update`].
    ///
    /// # Errors
    /// As [`update_state_with`](Self::update_state_with).
    pub async fn update(&self, key: impl Into<K>, modify: impl FnMut(Option<&V>) -> Option<V>) -> Written<K, V, ()> {
        self.writer(&()).update(key, modify).await
    }
}

impl<K, V, T: fmt::Debug> fmt::Debug for NodeWriter<'_, K, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeWriter").field("token", self.token).finish_non_exhaustive()
    }
}
