//! Awaiting a session's operations.

use crate::change::Change;
use crate::commit::Patience;
use crate::error::{Refusal, UpdateError};
use crate::revision::Revision;
use crate::session::{ClientSession, Session, SessionSummary};
use std::hash::{BuildHasher, Hash};

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Session<K, V, T, S> {
    /// [`update_state`](Self::update_state), with locked content awaited. Needs the feature `async`.
    ///
    /// Cancel-safe: a future that is dropped has committed nothing.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state_async`](crate::StateDictionary::update_state_async).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let alice = dictionary.session("alice");
    /// let revision = alice.update_state_async(Change::new().set("drawing", 7)).await?;
    /// assert_eq!(revision, dictionary.revision());
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_state_async(&self, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.engine.commit_async(self.token(), change).await
    }

    /// [`update_ephemeral`](Self::update_ephemeral), with locked content awaited. Needs the feature `async`.
    ///
    /// Cancel-safe: the poll that commits also notes the keys as the session's, and a future that is dropped has
    /// committed nothing.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state_async`](crate::StateDictionary::update_state_async).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral_async(Change::new().set("cursor", 1)).await?;
    /// assert_eq!(alice.ephemeral_keys(), ["cursor"]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_ephemeral_async(&mut self, mut change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        loop {
            match self.update_ephemeral_with(change, Patience::OfAPoll) {
                Err(UpdateError { change: deferred, reason: Refusal::ContentLocked, .. }) => change = deferred,
                answer => return answer,
            }
            self.engine.until_another_poll().await;
        }
    }

    /// [`end`](Self::end), with locked content awaited. Needs the feature `async`.
    ///
    /// If its future is dropped before it is ready, the session ends as a dropped session does: its locks are released
    /// at once, and [`StateDictionary::expire`](crate::StateDictionary::expire) removes its keys when the content is
    /// unlocked. Until then it keeps everything.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::new();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral_async(Change::new().set("cursor.alice", 1)).await?;
    /// alice.update_state_async(Change::new().set("drawing", 7)).await?;
    /// assert_eq!(alice.end_async().await.removed, ["cursor.alice"]);
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn end_async(mut self) -> SessionSummary<K, T> {
        loop {
            match self.try_end() {
                Some(end) => return end,
                None => self.engine.until_content_unlocked().await,
            }
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> ClientSession<K, V, T, S> {
    /// [`Session::update_state_async`]; `None`, and nothing is committed, if another connection has taken the session over,
    /// also while this waits. Cancel-safe in the same way.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state_async`](crate::StateDictionary::update_state_async).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::time::Duration;
    ///
    /// # futures_lite::future::block_on(async {
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
    /// let sessions = room.sessions(Duration::from_secs(10));
    /// let (old, new) = (sessions.open("alice"), sessions.open("alice"));
    /// assert!(old.update_state_async(Change::new().set("score", 7)).await.is_none());
    /// let revision = new.update_state_async(Change::new().set("score", 1)).await.unwrap()?;
    /// assert_eq!(revision, room.revision());
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_state_async(&self, change: Change<K, V>) -> Option<Result<Revision, UpdateError<K, V, T>>> {
        self.commit_async(change, |session, change| {
            let committed = session.engine.commit(session.token(), change, None, Patience::OfAPoll);
            committed.map(|root| root.revision)
        })
        .await
    }

    /// [`Session::update_ephemeral_async`]; `None`, and nothing is committed, if another connection has taken the session
    /// over, also while this waits. Cancel-safe in the same way.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state_async`](crate::StateDictionary::update_state_async).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::time::Duration;
    ///
    /// # futures_lite::future::block_on(async {
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
    /// let alice = room.sessions(Duration::from_secs(10)).open("alice");
    /// alice.update_ephemeral_async(Change::new().set("cursor", 1)).await.unwrap()?;
    /// alice.update_state_async(Change::new().set("score", 1)).await.unwrap()?;
    /// assert_eq!(alice.end_async().await.unwrap().removed, ["cursor"]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// # }).unwrap();
    /// ```
    pub async fn update_ephemeral_async(&self, change: Change<K, V>) -> Option<Result<Revision, UpdateError<K, V, T>>> {
        self.commit_async(change, |session, change| session.update_ephemeral_with(change, Patience::OfAPoll)).await
    }

    /// The session is locked only while an attempt runs.
    async fn commit_async(
        &self,
        mut change: Change<K, V>,
        commit: impl Fn(&mut Session<K, V, T, S>, Change<K, V>) -> Result<Revision, UpdateError<K, V, T>>,
    ) -> Option<Result<Revision, UpdateError<K, V, T>>> {
        loop {
            match self.with(|session| commit(session, change))? {
                Err(UpdateError { change: deferred, reason: Refusal::ContentLocked }) => change = deferred,
                answer => return Some(answer),
            }
            self.engine().until_another_poll().await;
        }
    }

    /// [`end`](Self::end), with locked content awaited. If its future is dropped before it is ready, the session ends
    /// as if the future of [`Session::end_async`] was dropped.
    pub async fn end_async(self) -> Option<SessionSummary<K, T>> {
        match self.take() {
            Some(session) => Some(session.end_async().await),
            None => None,
        }
    }
}
