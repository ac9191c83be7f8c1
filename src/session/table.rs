//! The table of sessions by client: which connection has a client's session.
//!
//! Each connection has its own place for the session. A newer connection takes the session over by moving it from the
//! older connection's place to its own. So a connection whose session was taken over finds its place empty, and needs
//! no other check.

use crate::content::Snapshot;
use crate::engine::Engine;
use crate::image::Image;
use crate::session::{Session, SessionSummary};
#[cfg(feature = "async")]
use crate::sync::Event;
use crate::sync::{Arc, DefaultHashBuilder, Mutex};
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;
use std::{fmt, mem};

/// The sessions of a server's clients, one for each, used only by the client's latest connection. Made by
/// [`StateDictionary::sessions`](crate::StateDictionary::sessions).
///
/// A client that reconnects before the loss of its old connection is noticed takes its session over: see
/// [`open`](Self::open).
///
/// The table checks no secret. Authenticate a client before you open the session of its token, since opening it takes
/// it away from the connection that has it. Compare secrets in constant time. If a secret is a keyed hash of the token
/// (an HMAC), it need not be stored, and it is valid for as long as the key is, also after the session has ended.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
/// use std::time::Duration;
///
/// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
/// let sessions = room.sessions(Duration::from_secs(10));
///
/// let old = sessions.open("alice");
/// old.with(|session| session.update_ephemeral(Change::new().set("cursor", 1))).unwrap()?;
///
/// let new = sessions.open("alice"); // she reconnects, and the old connection still looks alive
/// assert!(new.with(|session| session.is_resumed()).unwrap());
/// assert!(old.with(|session| session.update_ephemeral(Change::new().set("cursor", 7))).is_none());
/// drop(old); // its loss is noticed: no effect
/// assert_eq!(room.snapshot()["cursor"], 1);
///
/// drop(new); // lost: the session is detached, and ends ten seconds later
/// let new = sessions.open("alice"); // she reconnects before that
/// assert_eq!(new.end().unwrap().removed, ["cursor"]);
/// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
/// ```
pub struct Sessions<K, V, T = (), S = DefaultHashBuilder> {
    table: Arc<Table<K, V, T, S>>,
}

/// The session of a client, as long as the connection that owns this value is the client's latest. Made by
/// [`Sessions::open`].
///
/// Dropping it [detaches](Session::detach) the session for the grace period of the table, for a connection that is
/// lost. For a client that signs off, call [`end`](Self::end). Both have no effect once another connection has taken
/// the session over. A leaked one keeps its session until another connection takes it over.
#[must_use = "a session whose connection is dropped is detached"]
pub struct ClientSession<K, V, T = (), S = DefaultHashBuilder> {
    table: Arc<Table<K, V, T, S>>,
    own: Arc<Place<K, V, T, S>>,
}

struct Table<K, V, T, S> {
    engine: Engine<K, V, T, S>,
    grace: Duration,
    /// The place of each client's latest connection. Never locked during any other wait.
    latest: Mutex<Vec<Arc<Place<K, V, T, S>>>>,
    /// Locked by who locks all places, so that two do not wait for each other.
    imaging: Mutex<()>,
}

/// One connection's place for the session of its client.
struct Place<K, V, T, S> {
    token: T,
    /// `Some` until another connection takes the session over, or this one detaches or ends it.
    session: Mutex<Option<Session<K, V, T, S>>>,
    #[cfg(feature = "async")]
    taken_over: Event,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    pub(crate) fn sessions(&self, grace: Duration) -> Sessions<K, V, T, S> {
        Sessions {
            table: Arc::new(Table {
                engine: self.clone(),
                grace,
                latest: Mutex::new(Vec::new()),
                imaging: Mutex::new(()),
            }),
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Sessions<K, V, T, S> {
    /// The session of the client with this token, for a new connection of the client. If an older connection has the
    /// session, it is taken over; otherwise it is [`StateDictionary::session`](crate::StateDictionary::session), the
    /// detached session or a new one. [`Session::is_resumed`] returns `true` for all except a new one.
    ///
    /// After this has returned, a connection that had the session before can neither write through it nor detach or end
    /// it. If several connections open it at the same time, one of them has it in the end, and has taken it over from
    /// the others.
    ///
    /// O(n) in the numbers of connected clients and of detached sessions. May wait for a call of
    /// [`with`](ClientSession::with) by the connection that has the session, for an earlier `open` of it, and for what
    /// `session` waits for; not for other clients.
    pub fn open(&self, token: T) -> ClientSession<K, V, T, S> {
        let own = Arc::new(Place {
            token,
            session: Mutex::new(None),
            #[cfg(feature = "async")]
            taken_over: Event::new(),
        });
        let opened = ClientSession { table: Arc::clone(&self.table), own: Arc::clone(&own) };
        // Locked before other threads can find the place, so that an even newer connection waits until the session is
        // in it.
        let mut place = own.session.lock();
        let older = self.table.put(&own);
        let found = older.as_ref().and_then(|older| older.session.lock().take());
        let is_taken_over = found.is_some();
        let mut session = found.unwrap_or_else(|| self.table.engine.session(own.token.clone()));
        session.resumed |= is_taken_over;
        *place = Some(session);
        drop(place);
        #[cfg(feature = "async")]
        if let Some(older) = older {
            older.taken_over.notify_all();
        }
        opened
    }

    /// [`StateDictionary::image`](crate::StateDictionary::image), with the sessions of all clients that are connected.
    ///
    /// Waits for calls of [`ClientSession::with`], and must not be called from inside one.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::time::Duration;
    ///
    /// type Board = StateDictionary<&'static str, u32, &'static str>;
    /// let board = Board::new();
    /// let sessions = board.sessions(Duration::from_secs(5));
    /// let alice = sessions.open("alice");
    /// alice.with(|session| session.update_ephemeral(Change::new().set("cursor.alice", 7)));
    ///
    /// let (mut image, content) = sessions.image();
    /// image.detach_sessions(Duration::ZERO); // after a restart: Alice does not come back
    /// let entries = content.into_iter().map(|(key, entry)| (key, entry.value().clone(), entry.revision()));
    /// let restored: Board = StateDictionary::builder().image(image, entries).build();
    /// restored.expire();
    /// assert!(restored.is_empty());
    /// ```
    #[must_use]
    pub fn image(&self) -> (Image<K, T>, Snapshot<K, V, S>) {
        let _alone = self.table.imaging.lock();
        let places = self.table.latest.lock().clone();
        let locked: Vec<_> = places.iter().map(|place| place.session.lock()).collect();
        self.table.engine.image(locked.iter().filter_map(|session| session.as_ref()).map(Session::state))
    }
}

impl<K, V, T, S> Table<K, V, T, S> {
    /// Makes this the place of the latest connection of its client. Returns the one before.
    fn put(&self, own: &Arc<Place<K, V, T, S>>) -> Option<Arc<Place<K, V, T, S>>>
    where
        T: PartialEq,
    {
        let mut latest = self.latest.lock();
        if let Some(older) = latest.iter_mut().find(|place| place.token == own.token) {
            return Some(mem::replace(older, Arc::clone(own)));
        }
        latest.push(Arc::clone(own));
        None
    }

    fn remove(&self, own: &Arc<Place<K, V, T, S>>) {
        let mut latest = self.latest.lock();
        if let Some(index) = latest.iter().position(|place| Arc::ptr_eq(place, own)) {
            latest.swap_remove(index);
        }
    }
}

impl<K, V, T, S> ClientSession<K, V, T, S> {
    /// The client's token.
    #[must_use]
    pub fn token(&self) -> &T {
        &self.own.token
    }

    /// Uses the session; `None`, and `act` is not run, if another connection has taken it over.
    ///
    /// Waits for another call of `with` by this connection. Other connections of this client wait while `act` runs;
    /// connections of other clients do not. `act` must not use or drop this `ClientSession`, nor [open](Sessions::open)
    /// the session: it would wait for itself.
    ///
    /// # Panics
    /// If `act` panics. What the session did before the panic stands, and it can still be used.
    pub fn with<R>(&self, act: impl FnOnce(&mut Session<K, V, T, S>) -> R) -> Option<R> {
        self.own.session.lock().as_mut().map(act)
    }

    /// Whether another connection has taken the session over. Then it never comes back to this one. Waits as
    /// [`with`](Self::with).
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.own.session.lock().is_none()
    }

    /// Waits until another connection has [taken the session over](Self::is_taken_over). Cancel-safe. Needs the feature
    /// `async`.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::time::Duration;
    ///
    /// # futures_lite::future::block_on(async {
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::new();
    /// let sessions = room.sessions(Duration::from_secs(10));
    /// let old = sessions.open("alice");
    /// let new = sessions.open("alice");
    /// old.taken_over().await; // in a server, beside what the connection receives: then it closes the connection
    /// assert!(old.is_taken_over() && !new.is_taken_over());
    /// # });
    /// ```
    #[cfg(feature = "async")]
    pub async fn taken_over(&self) {
        crate::wake::wait_async(&self.own.taken_over, || self.is_taken_over().then_some(())).await;
    }

    #[cfg(feature = "async")]
    pub(super) fn engine(&self) -> &Engine<K, V, T, S> {
        &self.table.engine
    }

    /// The session, if it is still there; afterwards this connection has none.
    pub(super) fn take(self) -> Option<Session<K, V, T, S>> {
        self.own.session.lock().take()
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> ClientSession<K, V, T, S> {
    /// [Ends](Session::end) the session; `None`, and no effect, if another connection has taken it over. Waits as
    /// [`Session::end`] and [`with`](Self::with). A connection that opens the session meanwhile begins a new one.
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn end(self) -> Option<SessionSummary<K, T>> {
        self.take().map(Session::end)
    }
}

/// Detaches the session, unless another connection has taken it over. Waits as [`Session::detach`].
impl<K, V, T, S> Drop for ClientSession<K, V, T, S> {
    fn drop(&mut self) {
        // Detached while the place is locked: a newer connection finds the session either there or among the detached ones.
        let mut place = self.own.session.lock();
        if let Some(session) = place.take() {
            session.detach(self.table.grace);
        }
        drop(place);
        self.table.remove(&self.own);
    }
}

// As for a session: after any panic it is in one place, and can still be used.
impl<K, V, T, S> UnwindSafe for Sessions<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for Sessions<K, V, T, S> {}
impl<K, V, T, S> UnwindSafe for ClientSession<K, V, T, S> {}
impl<K, V, T, S> RefUnwindSafe for ClientSession<K, V, T, S> {}

impl<K, V, T, S> fmt::Debug for Sessions<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.table.latest.lock().len();
        f.debug_struct("Sessions").field("clients", &clients).finish_non_exhaustive()
    }
}

impl<K, V, T: fmt::Debug, S> fmt::Debug for ClientSession<K, V, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession").field("token", self.token()).finish_non_exhaustive()
    }
}
