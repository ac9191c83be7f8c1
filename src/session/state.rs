//! What a session has, and the table of the sessions that no caller has.

use crate::commit::Published;
use crate::content::Root;
use crate::key::{BuildPassThrough, Hashed};
use crate::locks::{SessionId, SessionLocks};
use crate::revision::Revision;
use crate::sync::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU64;
use std::time::Instant;

/// A session: its token, its keys and its locks.
pub(crate) struct State<K, T> {
    pub(crate) token: T,
    /// Keys that the session has set, each with the commit that did. Those are its own whose present value this commit set.
    pub(crate) keys: Vec<(Hashed<K>, Revision)>,
    /// With how many keys those that are not its own are next looked for.
    prune_at: usize,
    pub(crate) locks: SessionLocks,
}

/// Fewer keys than this are not worth looking through.
const FIRST_PRUNING: usize = 64;

/// The sessions that no caller has, until they are taken up again or have ended and nothing of them is left.
pub(crate) struct DetachedSessions<K, T>(Mutex<Detached<K, T>>);

pub(crate) struct Detached<K, T> {
    /// How many sessions there have been.
    opened: u64,
    /// In the order in which they were opened.
    sessions: BTreeMap<SessionId, DetachedSession<K, T>>,
}

pub(crate) struct DetachedSession<K, T> {
    pub(crate) state: State<K, T>,
    /// When it is to end, or when it is worthwhile to try again; never, if the clock does not reach so far.
    pub(crate) due: Option<Instant>,
    /// Whether it has ended, except that there are keys that could not be removed.
    pub(crate) ended: bool,
    /// Whether its grace is over and an expiry left it, because the content was held.
    pub(crate) waits: bool,
}

impl<K, T> State<K, T> {
    pub(crate) fn id(&self) -> SessionId {
        self.locks.session
    }
}

impl<K: Clone + Eq + Hash, T> State<K, T> {
    /// These keys, each once, which a commit will set. Makes room for them, so that no code of the caller's runs, and nothing can
    /// fail, when the change is committed and they are noted.
    pub(crate) fn keys_to_set<'k, V, S: BuildHasher>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
        published: &Published<K, V, S>,
    ) -> HashSet<Hashed<K>, BuildPassThrough>
    where
        K: 'k,
    {
        if self.keys.len() >= self.prune_at {
            let root = published.load();
            self.keys.retain(|(key, set)| root.is_at(key, *set));
            self.prune_at = self.keys.len().saturating_mul(2).max(FIRST_PRUNING);
        }
        let hasher = &published.shared().hasher;
        let set: HashSet<_, _> = keys.map(|key| Hashed { hash: hasher.hash_one(key), key: key.clone() }).collect();
        self.keys.reserve(set.len());
        set
    }

    pub(crate) fn own_keys<V, S>(&self, root: &Root<K, V, S>) -> Vec<K> {
        let own = self.keys.iter().filter(|(key, set)| root.is_at(key, *set));
        own.map(|(key, _)| key.key.clone()).collect()
    }
}

impl<K, T> DetachedSessions<K, T> {
    pub(crate) fn none() -> Self {
        Self(Mutex::new(Detached { opened: 0, sessions: BTreeMap::new() }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Detached<K, T>> {
        self.0.lock()
    }

    /// The detached session with this token that was opened last, or a new one.
    pub(crate) fn take_up(&self, token: T) -> (State<K, T>, bool)
    where
        T: PartialEq,
    {
        let mut detached = self.lock();
        let found = detached.sessions.values().rev().find(|session| session.state.token == token);
        let found = found.map(|session| session.state.id());
        if let Some(session) = found.and_then(|id| detached.sessions.remove(&id)) {
            return (session.state, true);
        }
        detached.opened += 1;
        let id = SessionId(NonZeroU64::MIN.saturating_add(detached.opened - 1));
        (State { token, keys: Vec::new(), prune_at: FIRST_PRUNING, locks: SessionLocks::none(id) }, false)
    }

    pub(crate) fn detach(&self, state: State<K, T>, due: Option<Instant>) {
        self.lock().put(state, due);
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.lock().sessions.values().filter_map(|session| session.due).min()
    }
}

impl<K, T> Detached<K, T> {
    pub(crate) fn put(&mut self, state: State<K, T>, due: Option<Instant>) {
        self.sessions.insert(state.id(), DetachedSession { state, due, ended: false, waits: false });
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut DetachedSession<K, T>> {
        self.sessions.get_mut(&id)
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&DetachedSession<K, T>> {
        self.sessions.get(&id)
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<State<K, T>> {
        self.sessions.remove(&id).map(|session| session.state)
    }

    /// The sessions after one, in their order, that are to end at this time, or were to end and wait for held content, or have
    /// ended and left keys.
    pub(crate) fn due(
        &self,
        now: Instant,
        after: Option<SessionId>,
    ) -> impl Iterator<Item = (SessionId, &DetachedSession<K, T>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let rest = self.sessions.range((after.map_or(Unbounded, Excluded), Unbounded));
        let is_due = move |session: &DetachedSession<K, T>| {
            session.ended || session.waits || session.due.is_some_and(|due| due <= now)
        };
        rest.filter(move |(_, session)| is_due(session)).map(|(id, session)| (*id, session))
    }
}
