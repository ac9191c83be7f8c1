//! A session of a client, on whichever node the client is.

use crate::data::{Key, Token, Value};
use crate::error::{Error, Failure};
use crate::node::{Node, locked};
use crate::operation::{Operation, Owner, SessionKey, nanos};
use crate::replica::Answer;
use event_listener::Event;
use state_dictionary::{Change, LockError, LockReceipt, LockRequest, Revision, SessionSummary, UpdateError};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether the session that one operation opened has been opened by another one since.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakenOver(Arc<(AtomicBool, Event)>);

impl TakenOver {
    pub(crate) fn set(&self) {
        let (is_set, event) = &*self.0;
        // ORDERING: Release pairs with the Acquire in `wait`, so that who sees it also sees what was applied before.
        is_set.store(true, Ordering::Release);
        event.notify(usize::MAX);
    }

    async fn wait(&self) {
        let (is_set, event) = &*self.0;
        loop {
            // Before the look, so that no notification is missed.
            let listener = event.listen();
            // ORDERING: see `set`.
            if is_set.load(Ordering::Acquire) {
                return;
            }
            listener.await;
        }
    }
}

/// Answers are compared by what they say.
impl PartialEq for TakenOver {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The session of one client: its locks and its ephemeral keys, which end together. Made by [`Node::open_session`].
///
/// If the same token is opened again, on this node or another one, all that belongs to the session moves there, and every
/// method of this handle fails with [`Failure::TakenOver`].
///
/// Dropping it detaches the session, without waiting: whoever opens it within its grace takes it up. If the node has
/// stopped, the other nodes detach it when they find that the node is gone.
#[must_use = "a session whose handle is dropped is detached"]
pub struct NodeSession<K: Key, V: Value, T: Token> {
    node: Node<K, V, T>,
    key: SessionKey<T>,
    resumed: bool,
    grace: Duration,
    taken_over: TakenOver,
    /// Ended or detached: nothing is to be done when this is dropped.
    is_over: bool,
}

impl<K: Key, V: Value, T: Token> NodeSession<K, V, T> {
    pub(crate) fn new(
        node: Node<K, V, T>,
        token: T,
        opened: u64,
        resumed: bool,
        grace: Duration,
        taken_over: TakenOver,
    ) -> Self {
        Self { node, key: SessionKey { token, opened }, resumed, grace, taken_over, is_over: false }
    }

    /// Waits until the session is taken over: opened again, on this node or another one. Also returns when the node has
    /// stopped.
    pub async fn taken_over(&self) {
        self.taken_over.wait().await;
    }

    /// Whose session it is.
    #[must_use]
    pub fn token(&self) -> &T {
        &self.key.token
    }

    /// Whether it was there before it was opened, so that it may have keys and locks.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Commits a lasting change: see [`Node::update_state`].
    ///
    /// # Errors
    /// As [`Node::update_state`], and [`Failure::TakenOver`].
    pub async fn update_state(&self, change: Change<K, V>) -> Result<Revision, Error<UpdateError<K, V, T>>> {
        self.update(false, &change).await
    }

    /// Commits a change; the keys that it sets are removed when the session ends, unless somebody has set them since. See
    /// [`Session::update_ephemeral`](state_dictionary::Session::update_ephemeral).
    ///
    /// # Errors
    /// As [`Node::update_state`], and [`Failure::TakenOver`].
    pub async fn update_ephemeral(&self, change: Change<K, V>) -> Result<Revision, Error<UpdateError<K, V, T>>> {
        self.update(true, &change).await
    }

    async fn update(&self, ephemeral: bool, change: &Change<K, V>) -> Result<Revision, Error<UpdateError<K, V, T>>> {
        let operation = Operation::update(Owner::Session(self.key.clone()), ephemeral, change, None);
        self.node.ask(&operation).await?.updated()?.map_err(Error::Refused)
    }

    /// Acquires and releases locks, which are released when the session ends: see [`Node::update_locks`].
    ///
    /// # Errors
    /// As [`Node::update_locks`], and [`Failure::TakenOver`].
    pub async fn update_locks(&self, request: LockRequest<K>) -> Result<LockReceipt<K>, Error<LockError<K, T>>> {
        locked(self.node.ask(&Operation::locks(Owner::Session(self.key.clone()), &request)).await?)
    }

    /// Detaches the session: whoever opens it within `grace` takes it up; otherwise it ends.
    ///
    /// # Errors
    /// [`Failure`]. The session is then detached when this node is gone, at the latest.
    pub async fn detach(mut self, grace: Duration) -> Result<(), Failure> {
        let operation = Operation::Detach { session: self.key.clone(), grace: nanos(grace) };
        match self.node.ask(&operation).await? {
            Answer::Done => {
                self.is_over = true;
                Ok(())
            }
            _ => Err(Failure::TakenOver),
        }
    }

    /// Ends the session: in one step, its locks are released and its ephemeral keys removed. See
    /// [`Session::end`](state_dictionary::Session::end).
    ///
    /// # Errors
    /// [`Failure`]. The session is then detached.
    pub async fn end(mut self) -> Result<SessionSummary<K, T>, Failure> {
        match self.node.ask(&Operation::End(self.key.clone())).await? {
            Answer::Ended(summary) => {
                self.is_over = true;
                Ok(summary)
            }
            _ => Err(Failure::TakenOver),
        }
    }
}

impl<K: Key, V: Value, T: Token> Drop for NodeSession<K, V, T> {
    fn drop(&mut self) {
        if !self.is_over {
            // If the node has stopped, the others detach it.
            let _ = self.node.say(&Operation::Detach { session: self.key.clone(), grace: nanos(self.grace) });
        }
    }
}

impl<K: Key, V: Value, T: Token> fmt::Debug for NodeSession<K, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSession")
            .field("token", self.token())
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}
