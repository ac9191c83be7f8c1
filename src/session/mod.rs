//! Sessions: what belongs to a client, and ends with it.

#[cfg(feature = "async")]
mod awaiting;
mod ending;
mod short;
mod state;
mod table;

pub(crate) use state::{Detached, DetachedSessions, State};
pub use table::{ClientSession, Sessions};

use crate::change::Change;
use crate::commit::{Note, Patience};
use crate::engine::Engine;
use crate::error::{LockError, UpdateError};
use crate::locks::{LockReceipt, LockRequest};
use crate::observe::Observed;
use crate::revision::Revision;
use crate::sync::DefaultHashBuilder;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::time::Duration;
use std::{mem, thread};

/// One client: its token, its locks, and its ephemeral keys, which end with it.
///
/// Every value is either lasting or the ephemeral value of one session, and the latest write decides which.
/// [`update_ephemeral`](Self::update_ephemeral) makes a key this session's, also if it was another's or lasting before;
/// any other write, by this client or by another one, makes it lasting. (etcd's keys and leases follow the same rule.)
///
/// When the session ends, by [`end`](Self::end) or by being dropped, its locks are released and the keys that are its
/// own are removed, in one commit. The removal of a key that another client has locked at that moment is deferred and
/// reported: a later [`expire`](crate::StateDictionary::expire) removes the key once the lock has ended, unless the key
/// has been set again meanwhile.
///
/// [`detach`](Self::detach) gives a client time to reconnect. A session owns what it needs and may outlive the
/// dictionary, which is frozen then. A leaked session keeps its locks until their leases expire, and its keys for ever.
///
/// The locks of a session are those that were last acquired or renewed through it. Locks that its token acquired
/// without a session, with [`StateDictionary::update_locks`](crate::StateDictionary::update_locks), end with the first
/// session of that token that ends. There may be two sessions of one token, for example if a client reconnects before
/// the loss of its old connection is noticed; each ends with what is its own. A table of [`Sessions`] prevents it.
///
/// All other operations of a client (`try_update_state`, `update_state_with`, looking at its locks) are those of the
/// dictionary, with [`token`](Self::token): `dictionary.update_state_with(session.token(), ...)`.
///
/// ```
/// use state_dictionary::{Change, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::new();
/// let mut alice = dictionary.session("alice");
/// alice.update_ephemeral(Change::new().set("cursor.alice", 1))?;
/// alice.update_state(Change::new().set("drawing", 7))?;
/// alice.update_locks(LockRequest::new().acquire("drawing", None))?;
///
/// let end = alice.end();
/// assert_eq!(end.removed, ["cursor.alice"]);
/// assert_eq!(end.released, ["drawing"]);
/// assert!(dictionary.get("cursor.alice").is_none());
/// assert!(dictionary.get("drawing").is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a session that is dropped ends"]
pub struct Session<K, V, T = (), S = DefaultHashBuilder> {
    pub(crate) engine: Engine<K, V, T, S>,
    /// `Some` until a method consumes the session.
    state: Option<State<K, T>>,
    resumed: bool,
    /// `Engine::end`, stored because `Drop`, which cannot require `K: Hash`, ends the session.
    end: End<K, V, T, S>,
}

type End<K, V, T, S> = fn(&Engine<K, V, T, S>, State<K, T>, Patience) -> SessionSummary<K, T>;

/// What became of a session's locks and keys when it ended. Keys are in no particular order.
///
/// ```
/// use state_dictionary::{Change, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
/// let mut alice = dictionary.session("alice");
/// alice.update_ephemeral(Change::new().set("cursor", 1))?;
/// alice.update_locks(LockRequest::new().acquire("ball", None)).unwrap();
/// let end = alice.end();
/// assert_eq!((end.removed, end.released, end.not_removed.len()), (vec!["cursor"], vec!["ball"], 0));
/// assert_eq!(end.revision, dictionary.revision());
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SessionSummary<K, T> {
    /// The commit that removed the keys; if there were none, the latest one.
    pub revision: Revision,
    /// The locks that were released, except for expired ones.
    pub released: Vec<K>,
    /// The keys that were removed.
    pub removed: Vec<K>,
    /// The keys that were not removed, and why.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
    #[cfg_attr(
        feature = "serde",
        serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
    )]
    pub not_removed: Vec<(K, NotRemoved<T>)>,
}

impl<K, T> SessionSummary<K, T> {
    /// Emits that the session's grace period expired, unless its end is deferred.
    fn emit(&self, observed: &Observed) {
        let Self { revision, released, removed, not_removed } = self;
        if !not_removed.iter().any(|(_, why)| matches!(why, NotRemoved::Deferred)) {
            observed.session_over(*revision, released.len(), removed.len(), not_removed.len());
        }
    }
}

/// Why a session's key was not removed, or not yet.
///
/// ```
/// use state_dictionary::{Change, NotRemoved, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
/// let mut alice = dictionary.session("alice");
/// alice.update_ephemeral(Change::new().set("ball", 1))?;
/// dictionary.update_locks(&"bob", LockRequest::new().acquire("ball", None)).unwrap();
/// let end = alice.end();
/// assert_eq!(end.not_removed, [("ball", NotRemoved::Locked { owner: "bob", remaining: None })]);
/// assert!(dictionary.get("ball").is_some(), "bob still uses it");
///
/// dictionary.release_all(&"bob");
/// assert_eq!(dictionary.expire().sessions[0].1.removed, ["ball"]);
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum NotRemoved<T> {
    /// Another client has locked the key. A later call of [`expire`](crate::StateDictionary::expire) removes it once
    /// the lock has ended, unless the key is set again, or the session resumed, before.
    Locked {
        /// The owner of the lock.
        owner: T,
        /// For how long the lock still lasts, if it has a lease that is not renewed.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde::seconds"))]
        remaining: Option<Duration>,
    },
    /// The dictionary is frozen. The key stays.
    Frozen,
    /// [`lock_content`](crate::StateDictionary::lock_content) locks the content, or the session ended inside a closure
    /// of `update_state_with`, and waiting was not possible. A later call of [`expire`](crate::StateDictionary::expire)
    /// removes the key, unless [`session`](crate::StateDictionary::session) resumes the session, with these keys,
    /// before.
    Deferred,
}

/// The result of a call of [`StateDictionary::expire`](crate::StateDictionary::expire), and when to call it again.
///
/// ```
/// use state_dictionary::{ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().clock(&clock).build();
/// dictionary.session("alice").detach(Duration::from_secs(10));
/// dictionary.session("bob").detach(Duration::from_secs(15));
/// clock.advance(Duration::from_secs(10));
/// let expiry = dictionary.expire();
/// assert_eq!(expiry.sessions.iter().map(|(token, _)| *token).collect::<Vec<_>>(), ["alice"]);
/// assert_eq!(expiry.next, Some(Duration::from_secs(5)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Expired<K, T> {
    /// The locks that had expired, and their owners.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
    pub locks: Vec<(K, T)>,
    /// The sessions whose grace period is over, except those that could not be ended yet because the content is locked:
    /// a later call ends them. Also the sessions that had ended before and of which keys could be removed only now;
    /// their locks were released, and reported, then.
    pub sessions: Vec<(T, SessionSummary<K, T>)>,
    /// When to call again, as things are; `None` if nothing is outstanding. New leases may change it. At most a second
    /// if keys wait for the locks of others, which may be released at any time. It may be too early, if a lock with a
    /// lease was released or its lease made longer; it is never too late.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::seconds"))]
    pub next: Option<Duration>,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    pub(crate) fn session(&self, token: T) -> Session<K, V, T, S> {
        self.locks.expect_sessions();
        let (state, resumed) = self.sessions.resume(token);
        Session { engine: self.clone(), state: Some(state), resumed, end: Self::end }
    }

    /// Ends the locks whose leases are over.
    pub(crate) fn expire_locks(&self) -> Vec<(K, T)> {
        let (clock, fence) = (self.published.leases(), &mut self.fence());
        if self.published.expires_on_request() {
            self.locks.expire_at_once(clock, fence)
        } else {
            self.locks.expire(clock, fence)
        }
    }

    pub(crate) fn expire(&self) -> Expired<K, T> {
        let clock = self.published.leases();
        let locks = self.expire_locks();
        let sessions = self.expire_sessions(clock.now());
        for (_, end) in &sessions {
            end.emit(&self.published.shared().observed);
        }
        Expired { locks, sessions, next: self.next_deadline() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [self.locks.next_deadline(), self.sessions.next_due()];
        let next = deadlines.into_iter().flatten().min();
        next.map(|next| next.saturating_duration_since(self.published.leases().now()))
    }
}

impl<K, V, T, S> Session<K, V, T, S> {
    /// The client's token.
    #[must_use]
    pub fn token(&self) -> &T {
        &self.state().token
    }

    /// Whether this session existed before: it was detached and has been resumed, or [`Sessions::open`] has taken it over.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Detaches the session: its locks (as long as their leases last) and its keys stay, and a call of
    /// [`StateDictionary::session`](crate::StateDictionary::session) with the same token resumes it.
    ///
    /// After `grace`, which may be zero, the next call of [`StateDictionary::expire`](crate::StateDictionary::expire)
    /// ends it. Until that call it can be resumed, even if the grace period is over. A `grace` too long for the clock
    /// has no end. May wait for a call of `expire` that ends a session, or for another thread that detaches or resumes
    /// one.
    ///
    /// ```
    /// use state_dictionary::{Change, ManualClock, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::builder().clock(&clock).build();
    /// let mut session = dictionary.session("alice");
    /// session.update_ephemeral(Change::new().set("cursor.alice", 1))?;
    /// session.detach(Duration::from_secs(10)); // the connection was lost
    ///
    /// let session = dictionary.session("alice"); // and the client reconnected
    /// assert!(session.is_resumed());
    /// session.detach(Duration::from_secs(10)); // lost again, this time for good
    ///
    /// clock.advance(Duration::from_secs(10));
    /// let (token, end) = dictionary.expire().sessions.remove(0);
    /// assert_eq!((token, end.removed), ("alice", vec!["cursor.alice".to_owned()]));
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, &str>>(())
    /// ```
    #[doc(alias = "disconnect")]
    pub fn detach(mut self, grace: Duration) {
        if let Some(state) = self.state.take() {
            let due = self.engine.published.leases().now().checked_add(grace);
            self.engine.sessions.detach(state, due);
        }
    }

    pub(crate) fn state(&self) -> &State<K, T> {
        match &self.state {
            Some(state) => state,
            None => unreachable!("only what consumes a session takes its state"),
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Session<K, V, T, S> {
    /// [`StateDictionary::update_state`](crate::StateDictionary::update_state) for this client. The keys that it sets
    /// are lasting: they stay when the session ends, also those that were [ephemeral](Self::update_ephemeral) before.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state`](crate::StateDictionary::update_state).
    ///
    /// ```
    /// use state_dictionary::{Change, LockRequest, Refusal, StateDictionary, UpdateError};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let (alice, bob) = (dictionary.session("alice"), dictionary.session("bob"));
    /// alice.update_locks(LockRequest::new().acquire("ball", None)).unwrap();
    /// assert!(matches!(bob.update_state(Change::new().set("ball", 1)), Err(UpdateError { reason: Refusal::Locked { .. }, .. })));
    /// drop(alice);
    /// assert!(bob.update_state(Change::new().set("ball", 1)).is_ok());
    /// drop(bob);
    /// assert!(dictionary.get("ball").is_some());
    /// ```
    pub fn update_state(&self, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.engine.commit(self.token(), change, None, Patience::ForAll).map(|root| root.revision)
    }

    /// [`StateDictionary::update_state`](crate::StateDictionary::update_state) for this client. The keys that it sets
    /// are the session's, until another write sets them, and are removed when the session ends.
    ///
    /// If the call unwinds after the commit, such as by a panic in the `Drop` of a replaced value, the keys are the
    /// session's nevertheless.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state`](crate::StateDictionary::update_state).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().content([("board", 0)]).build();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral(Change::new().set("cursor", 1).set("draft", 1))?;
    /// alice.update_state(Change::new().set("draft", 2))?;
    /// assert_eq!(alice.ephemeral_keys(), ["cursor"], "the draft is lasting now");
    /// drop(alice);
    /// assert_eq!(dictionary.snapshot().len(), 2, "the board and the draft");
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
    /// ```
    pub fn update_ephemeral(&mut self, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.update_ephemeral_with(change, Patience::ForAll)
    }

    pub(crate) fn update_ephemeral_with(
        &mut self,
        change: Change<K, V>,
        patience: Patience,
    ) -> Result<Revision, UpdateError<K, V, T>> {
        let set = change.operations().filter(|(_, value)| value.is_some()).map(|(key, _)| key);
        let committed =
            self.noting(set, |engine, token, note| engine.commit_borrowed(token, &change, None, patience, Some(note)));
        committed.map(|root| root.revision).map_err(|reason| UpdateError { change, reason })
    }

    /// Runs a commit that sets these keys, with a note that makes them the session's.
    pub(crate) fn noting<'k, R>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
        commit: impl FnOnce(&Engine<K, V, T, S>, &T, Note<'_, K, V, S>) -> R,
    ) -> R
    where
        K: 'k,
    {
        let Self { engine, state: Some(state), .. } = self else {
            unreachable!("only what consumes a session takes its state")
        };
        let mut set = state.keys_to_set(keys, &engine.published);
        let State { token, keys, .. } = state;
        let mut note = |revision| keys.extend(set.drain(..).map(|key| (key, revision)));
        commit(engine, token, &mut note)
    }

    /// [`StateDictionary::update_locks`](crate::StateDictionary::update_locks) for this client.
    ///
    /// # Errors
    /// As [`StateDictionary::update_locks`](crate::StateDictionary::update_locks).
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let alice = dictionary.session("alice");
    /// let receipt = alice.update_locks(LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
    /// assert_eq!(receipt.granted[0].0, "ball");
    /// assert_eq!(dictionary.lock_info("ball").unwrap().owner, *alice.token());
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    pub fn update_locks(&self, request: LockRequest<K>) -> Result<LockReceipt<K>, LockError<K, T>> {
        self.engine.update_locks(self.token(), Some(&self.state().locks), request)
    }

    /// The keys that are the session's: those that would be removed if it ended now and no other client had locked
    /// them. O(k log n) for the k keys that it has set lately.
    #[must_use]
    pub fn ephemeral_keys(&self) -> Vec<K> {
        self.state().own_keys(&self.engine.published.load())
    }

    /// Ends the session: releases its locks and removes the keys that are its own, in one commit.
    ///
    /// O(k log n) for k keys and locks, and O(n) in the number of owners that have acquired locks without a session.
    /// Beside busy writers it locks the content for that time. Waits for threads that are updating locks, and while the
    /// content is locked, except by a guard of this thread: then the removal of the keys is
    /// [deferred](NotRemoved::Deferred). Dropping the session ends it without waiting for locked content.
    ///
    /// ```
    /// use state_dictionary::{Change, NotRemoved, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral(Change::new().set("cursor", 1)).unwrap();
    ///
    /// let guard = dictionary.lock_content().unwrap();
    /// assert_eq!(alice.end().not_removed, [("cursor", NotRemoved::Deferred)], "this thread has locked the content");
    /// drop(guard);
    /// assert!(dictionary.get("cursor").is_some()); // until `expire` is called, a little later
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn end(mut self) -> SessionSummary<K, T> {
        match self.state.take() {
            Some(state) => self.engine.end(state, Patience::ForAll),
            None => unreachable!("only what consumes a session takes its state"),
        }
    }
}

// After any panic a session still has its keys and its locks, and ends with them; see "Panics" of the dictionary.
impl<K, V, T, S> UnwindSafe for Session<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for Session<K, V, T, S> {}

/// Ends the session, without waiting for locked content; see [`NotRemoved::Deferred`].
impl<K, V, T, S> Drop for Session<K, V, T, S> {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        let end = || drop((self.end)(&self.engine, state, Patience::None));
        if !thread::panicking() {
            end();
        } else if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(end)) {
            // A second panic that left this function would abort the process. The next call of `expire` tries again.
            mem::forget(payload);
        }
    }
}

impl<K, V, T: fmt::Debug, S> fmt::Debug for Session<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { token, keys, .. } = self.state();
        f.debug_struct("Session")
            .field("token", token)
            .field("keys", &keys.len())
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}
