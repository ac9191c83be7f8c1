//! The shared state of one dictionary. Each module adds its operations to `Engine`.

use crate::commit::Published;
use crate::event::Origin;
use crate::locks::LockTable;
use crate::session::DetachedSessions;
use crate::sync::Arc;

/// What the dictionary shares with values that may outlive it: sessions, guards that can be sent, feeds of locks.
pub(crate) struct Engine<K, V, T, S> {
    pub(crate) published: Arc<Published<K, V, S>>,
    pub(crate) locks: Arc<LockTable<K, T>>,
    pub(crate) sessions: Arc<DetachedSessions<K, T>>,
    pub(crate) settings: Settings<T>,
}

/// What the builder was given.
pub(crate) struct Settings<T> {
    pub(crate) history_limit: usize,
    pub(crate) lock_history_limit: usize,
    /// Erases the type of a token, if commits are to be kept.
    pub(crate) commit_log: Option<fn(T) -> Origin>,
    /// Erases the type of a token, if lock events are to be kept.
    pub(crate) lock_events: Option<fn(T) -> Origin>,
}

impl<T> Settings<T> {
    pub(crate) const fn new(history_limit: usize) -> Self {
        Self { history_limit, lock_history_limit: 0, commit_log: None, lock_events: None }
    }
}

impl<K, V, T, S> Clone for Engine<K, V, T, S> {
    fn clone(&self) -> Self {
        let Self { published, locks, sessions, settings } = self;
        let (published, locks, sessions) = (Arc::clone(published), Arc::clone(locks), Arc::clone(sessions));
        Self { published, locks, sessions, settings: Settings { ..*settings } }
    }
}
