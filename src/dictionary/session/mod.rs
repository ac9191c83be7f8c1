//! Sessions: what belongs to a client, and goes when it goes.

mod belongings;
mod ending;

pub(super) use belongings::Sessions;

use super::write::Patience;
use super::{Core, StateDictionary};
use crate::change::Change;
use crate::content::Revision;
use crate::error::{LockError, UpdateError};
use crate::locks::{LockReceipt, LockRequest};
use crate::observe::Observed;
use crate::sync::DefaultHashBuilder;
use belongings::Belongings;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;
use std::{mem, thread};

/// One client: its token, its locks, and the keys that are there only as long as it is.
///
/// When the session ends, by [`end`](Self::end) or by being dropped, its locks are released and the keys that it created
/// with [`update_ephemeral`](Self::update_ephemeral) are removed, in one commit that no other writer can get between. A key
/// that another holds locked by then is left, and reported. So is a key that was removed and has been set by somebody else
/// since: it is not the session's any more (that is not reported).
///
/// A client that may come back is given time with [`leave`](Self::leave). A session owns what it needs and may outlive the
/// dictionary, which is frozen then. One that is leaked keeps its locks until their leases run out, and its keys for ever.
///
/// The locks of a session are those of its token, so there should be one session per token at a time: of two, the first that
/// ends releases the locks of both and removes the keys that it made, also those that the other has set since. A client that
/// connects again before its old connection was noticed to be gone is how that comes about; see
/// [patterns](crate::docs::patterns#a-client-that-reconnects-before-its-old-connection-was-noticed).
///
/// Whatever else a client does (`try_update_state`, `update_state_with`, looking at its locks) is done on the dictionary, with
/// [`token`](Self::token): `dictionary.update_state_with(session.token(), ...)`.
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
pub struct Session<K, V, T, S = DefaultHashBuilder> {
    pub(super) core: Core<K, V, T, S>,
    /// Nobody else's, but while an expiry that came too late still looks at them.
    belongings: Option<Arc<Belongings<K, T>>>,
    resumed: bool,
    /// `Core::end`, kept so that `Drop`, which cannot ask for `K: Hash`, can end the session.
    end: End<K, V, T, S>,
}

type End<K, V, T, S> = fn(&Core<K, V, T, S>, Arc<Belongings<K, T>>, Patience) -> SessionEnd<K, T>;

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
/// assert_eq!((end.removed, end.released, end.left.len()), (vec!["cursor"], vec!["ball"], 0));
/// assert_eq!(end.revision, dictionary.revision());
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SessionEnd<K, T> {
    /// The commit that removed the keys; if there were none, the latest one.
    pub revision: Revision,
    /// The locks that were released, but for those that had run out.
    pub released: Vec<K>,
    /// The keys that were removed.
    pub removed: Vec<K>,
    /// The keys that were not, and why.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
    #[cfg_attr(
        feature = "serde",
        serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
    )]
    pub left: Vec<(K, Left<T>)>,
}

impl<K, T> SessionEnd<K, T> {
    /// Tells that a session's grace is over, unless it was put off and ends another time.
    fn tell(&self, observed: &Observed) {
        let Self { revision, released, removed, left } = self;
        if !left.iter().any(|(_, why)| matches!(why, Left::PutOff)) {
            observed.session_over(*revision, released.len(), removed.len(), left.len());
        }
    }
}

/// Why a session's key was not removed.
///
/// ```
/// use state_dictionary::{Change, Left, LockRequest, StateDictionary};
///
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
/// let mut alice = dictionary.session("alice");
/// alice.update_ephemeral(Change::new().set("ball", 1))?;
/// dictionary.update_locks(&"bob", LockRequest::new().acquire("ball", None)).unwrap();
/// let end = alice.end();
/// assert_eq!(end.left, [("ball", Left::Locked { holder: "bob", remaining: None })]);
/// assert!(dictionary.get("ball").is_some(), "bob plays on");
/// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Left<T> {
    /// Somebody else holds its lock. The key stays.
    Locked {
        /// Who holds it.
        holder: T,
        /// For how long still, if its lease has an end and is not renewed.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde::seconds"))]
        remaining: Option<Duration>,
    },
    /// The dictionary is frozen. The key stays.
    Frozen,
    /// The content is held by [`lock_content`](StateDictionary::lock_content), or the session ended inside a closure of
    /// `update_state_with`, and to wait was not possible. A later call of [`expire`](StateDictionary::expire) removes the
    /// key, unless [`session`](StateDictionary::session) takes the session, with these keys, up again before.
    PutOff,
}

/// What a call of [`StateDictionary::expire`] found, and when the next is due.
///
/// ```
/// use state_dictionary::{ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().manual_clock(&clock).build();
/// dictionary.session("alice").leave(Duration::from_secs(10));
/// dictionary.session("bob").leave(Duration::from_secs(15));
/// clock.advance(Duration::from_secs(10));
/// let expiry = dictionary.expire();
/// assert_eq!(expiry.sessions.iter().map(|(token, _)| *token).collect::<Vec<_>>(), ["alice"]);
/// assert_eq!(expiry.next, Some(Duration::from_secs(5)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Expiry<K, T> {
    /// The locks whose lease had run out, and who held them.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::map"))]
    pub locks: Vec<(K, T)>,
    /// The sessions whose time was over, but for those that could not be ended yet, because the content is held: they follow
    /// when it is not. (If one was dropped or ended before, its locks were released then, and are not told of again.)
    pub sessions: Vec<(T, SessionEnd<K, T>)>,
    /// How long until there may be something again, as things are; `None` if nothing is under way. New leases may change it.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde::seconds"))]
    pub next: Option<Duration>,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// A session for the client with this token: the one that is lingering after [`Session::leave`], with all that belongs to
    /// it, or else a new one.
    ///
    /// A session lingers until a call of [`expire`](Self::expire) has ended it: also when its grace is over, and when it has
    /// ended but its keys were [put off](Left::PutOff). One that somebody still has does not: then this is a second session of
    /// the same token, and the first, when it ends, takes the locks of both. A server that may see that keeps its sessions by
    /// client, as [patterns](crate::docs::patterns#a-client-that-reconnects-before-its-old-connection-was-noticed) shows.
    ///
    /// O(n) in the number of lingering sessions.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let session = dictionary.session("alice");
    /// assert!(!session.is_resumed());
    /// session.leave(Duration::from_secs(10));
    /// assert!(dictionary.session("alice").is_resumed());
    /// ```
    pub fn session(&self, token: T) -> Session<K, V, T, S> {
        let lingering = self.core.sessions.take_up(&token);
        let resumed = lingering.is_some();
        let belongings = lingering.unwrap_or_else(|| Arc::new(Belongings::new(token)));
        Session { core: self.core.clone(), belongings: Some(belongings), resumed, end: Core::end }
    }

    /// Takes away the locks that have run out and ends the sessions whose time is over, and says when to call it again. What a
    /// server does on a timer, so that expiry is seen also where nobody touches the key.
    ///
    /// O(n) in the number of lingering sessions. If locks have run out, O(n) in the number of all locks too, and as much again
    /// for each session that is due, every time with all shards locked, so that nobody else can update locks meanwhile. May wait
    /// for threads that are updating locks; never for held content.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, ManualClock, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().manual_clock(&clock).build();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
    /// assert_eq!(dictionary.expire().next, Some(Duration::from_secs(5)));
    /// clock.advance(Duration::from_secs(5));
    /// let expiry = dictionary.expire();
    /// assert_eq!(expiry.locks, [("ball", "alice")]);
    /// assert_eq!(expiry.next, None);
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn expire(&self) -> Expiry<K, T> {
        let clock = &self.core.published.clock;
        let locks = self.core.locks.expire(clock, &mut self.core.fence());
        let mut sessions = Vec::new();
        // Of those that are put off now, the due time is not before this.
        let began = clock.now();
        while let Some(belongings) = self.core.sessions.due(began) {
            let token = belongings.token.clone();
            if let Ok(end) = self.core.try_end(&belongings, Some(began), true) {
                end.tell(&self.core.published.shared().observed);
                sessions.push((token, end));
            }
        }
        let deadlines = [self.core.locks.next_deadline(), self.core.sessions.next_due()];
        let next = deadlines.into_iter().flatten().min();
        Expiry { locks, sessions, next: next.map(|next| next.saturating_duration_since(clock.now())) }
    }
}

impl<K, V, T, S> Session<K, V, T, S> {
    /// The client's token.
    #[must_use]
    pub fn token(&self) -> &T {
        &self.belongings().token
    }

    /// Whether this was a session before, that had been left.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Leaves the session for a while: its locks (as long as their leases last) and its keys stay, and a call of
    /// [`StateDictionary::session`] with the same token takes it up again.
    ///
    /// After `grace`, which may be zero, the next call of [`StateDictionary::expire`] ends it. Until that call it can be taken
    /// up, even if the grace is over. A `grace` too long for the clock has no end. May wait for `expire` to end a session, or
    /// for another thread that leaves one or takes one up.
    ///
    /// ```
    /// use state_dictionary::{Change, ManualClock, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let dictionary: StateDictionary<String, i32, &str> = StateDictionary::builder().manual_clock(&clock).build();
    /// let mut session = dictionary.session("alice");
    /// session.update_ephemeral(Change::new().set("cursor.alice", 1))?;
    /// session.leave(Duration::from_secs(10)); // the connection was lost
    ///
    /// let session = dictionary.session("alice"); // and is back
    /// assert!(session.is_resumed());
    /// session.leave(Duration::from_secs(10)); // lost again, this time for good
    ///
    /// clock.advance(Duration::from_secs(10));
    /// let (token, end) = dictionary.expire().sessions.remove(0);
    /// assert_eq!((token, end.removed), ("alice", vec!["cursor.alice".to_owned()]));
    /// # Ok::<(), state_dictionary::UpdateError<String, i32, &str>>(())
    /// ```
    pub fn leave(mut self, grace: Duration) {
        if let Some(belongings) = self.belongings.take() {
            let due = self.core.published.clock.now().checked_add(grace);
            self.core.sessions.put(belongings, due);
        }
    }

    fn belongings(&self) -> &Arc<Belongings<K, T>> {
        match &self.belongings {
            Some(belongings) => belongings,
            None => unreachable!("only what consumes a session takes its belongings"),
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Session<K, V, T, S> {
    /// [`StateDictionary::update_state`] for this client. The keys stay when the session ends, but for those that the session
    /// has created with [`update_ephemeral`](Self::update_ephemeral) before: they remain ephemeral until they are removed.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state`].
    ///
    /// ```
    /// use state_dictionary::{Change, LockRequest, StateDictionary, UpdateError};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let (alice, bob) = (dictionary.session("alice"), dictionary.session("bob"));
    /// alice.update_locks(LockRequest::new().acquire("ball", None)).unwrap();
    /// assert!(matches!(bob.update_state(Change::new().set("ball", 1)), Err(UpdateError::Locked { .. })));
    /// drop(alice);
    /// assert!(bob.update_state(Change::new().set("ball", 1)).is_ok());
    /// drop(bob);
    /// assert!(dictionary.get("ball").is_some());
    /// ```
    pub fn update_state(&self, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.core.commit(self.token(), change, None, Patience::ForAll).map(|root| root.revision)
    }

    /// [`StateDictionary::update_state`] for this client. Keys that had no value before are the session's, and are removed
    /// when it ends.
    ///
    /// # Errors
    /// As [`StateDictionary::update_state`].
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().content([("board", 0)]).build();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral(Change::new().set("cursor", 1).set("board", 1))?;
    /// assert_eq!(alice.ephemeral_keys(), ["cursor"], "the board was there before her");
    /// drop(alice);
    /// assert_eq!(dictionary.snapshot().iter().collect::<Vec<_>>(), [(&"board", &1)]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, &str>>(())
    /// ```
    pub fn update_ephemeral(&mut self, change: Change<K, V>) -> Result<Revision, UpdateError<K, V, T>> {
        self.update_ephemeral_with(change, Patience::ForAll)
    }

    pub(super) fn update_ephemeral_with(
        &mut self,
        change: Change<K, V>,
        patience: Patience,
    ) -> Result<Revision, UpdateError<K, V, T>> {
        let Self { core, belongings: Some(belongings), .. } = self else {
            unreachable!("only what consumes a session takes its belongings")
        };
        let belongings = Arc::make_mut(belongings);
        let set = belongings.keys_set_by(&change, &core.published);
        match core.commit_borrowed(&belongings.token, &change, None, patience) {
            Ok(root) => {
                belongings.keys.extend(set.into_iter().map(|key| (key, root.revision)));
                Ok(root.revision)
            }
            Err(refusal) => Err(refusal.of(change)),
        }
    }

    /// [`StateDictionary::update_locks`] for this client.
    ///
    /// # Errors
    /// As [`StateDictionary::update_locks`].
    ///
    /// ```
    /// use state_dictionary::{LockRequest, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let alice = dictionary.session("alice");
    /// let receipt = alice.update_locks(LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
    /// assert_eq!(receipt.granted[0].0, "ball");
    /// assert_eq!(dictionary.lock("ball").unwrap().holder, *alice.token());
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    pub fn update_locks(&self, request: LockRequest<K>) -> Result<LockReceipt<K>, LockError<K, T>> {
        self.core.update_locks(self.token(), request)
    }

    /// The keys that would be removed if the session ended now and nobody else held them. O(k log n).
    #[must_use]
    pub fn ephemeral_keys(&self) -> Vec<K> {
        self.belongings().present(&self.core.published.load())
    }

    /// Ends the session: releases its locks and removes its keys, in one commit.
    ///
    /// O(n) in the number of all locks, and O(k log n) for k keys. Waits for threads that are updating locks, and while the
    /// content is held, though not for a guard of this thread: then the keys are [put off](Left::PutOff). A session that is
    /// dropped instead does not wait for held content at all.
    ///
    /// ```
    /// use state_dictionary::{Change, Left, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let mut alice = dictionary.session("alice");
    /// alice.update_ephemeral(Change::new().set("cursor", 1)).unwrap();
    ///
    /// let guard = dictionary.lock_content().unwrap();
    /// assert_eq!(alice.end().left, [("cursor", Left::PutOff)], "this very thread is in the way");
    /// drop(guard);
    /// assert!(dictionary.get("cursor").is_some()); // until `expire` is called, a little later
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn end(mut self) -> SessionEnd<K, T> {
        match self.belongings.take() {
            Some(belongings) => self.core.end(belongings, Patience::ForAll),
            None => unreachable!("only what consumes a session takes its belongings"),
        }
    }
}

/// Ends the session, without waiting for held content; see [`Left::PutOff`].
// Whatever panics, a session has its keys and its locks, and ends with them; see "Panics" of the dictionary.
impl<K, V, T, S> UnwindSafe for Session<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for Session<K, V, T, S> {}

impl<K, V, T, S> Drop for Session<K, V, T, S> {
    fn drop(&mut self) {
        let Some(belongings) = self.belongings.take() else { return };
        let end = || drop((self.end)(&self.core, belongings, Patience::None));
        if !thread::panicking() {
            end();
        } else if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(end)) {
            // A second panic that came out of here would end the process. The next call of `expire` tries again.
            mem::forget(payload);
        }
    }
}

impl<K, V, T: fmt::Debug, S> fmt::Debug for Session<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Belongings { token, keys, .. } = &**self.belongings();
        f.debug_struct("Session")
            .field("token", token)
            .field("keys", &keys.len())
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}
