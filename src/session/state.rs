//! The state of a session, and the table of detached sessions.

use crate::commit::Published;
use crate::content::Root;
use crate::image::SessionImage;
use crate::key::{BuildPassThrough, Hashed};
use crate::locks::{SessionId, SessionLocks};
use crate::revision::Revision;
use crate::sync::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A session: its token, its keys and its locks.
pub(crate) struct State<K, T> {
    pub(crate) token: T,
    /// Keys that the session has set, each with the commit that set it. A key is the session's own if that commit set
    /// its present value.
    pub(crate) keys: Vec<(Hashed<K>, Revision)>,
    /// The number of keys at which those that are not its own are next removed from `keys`.
    prune_at: usize,
    pub(crate) locks: SessionLocks,
}

/// With fewer keys than this, none are removed.
const FIRST_PRUNING: usize = 64;

/// The sessions that no caller owns, until they are resumed, or have ended and no key of theirs is left.
pub(crate) struct DetachedSessions<K, T>(Mutex<Detached<K, T>>);

pub(crate) struct Detached<K, T> {
    /// How many sessions have been opened.
    opened: u64,
    /// In the order in which they were opened.
    sessions: BTreeMap<SessionId, DetachedSession<K, T>>,
}

pub(crate) struct DetachedSession<K, T> {
    pub(crate) state: State<K, T>,
    /// When it is to end, or when to retry; `None` if the clock does not reach so far.
    pub(crate) due: Option<Instant>,
    /// Whether it has ended, except for keys that could not be removed.
    pub(crate) ended: bool,
    /// Whether its grace period is over and an expiry skipped it, because the content was locked.
    pub(crate) waits: bool,
}

impl<K, T> State<K, T> {
    pub(crate) fn id(&self) -> SessionId {
        self.locks.session
    }
}

impl<K: Clone + Eq + Hash, T> State<K, T> {
    /// These keys, each once, which a commit will set. Makes room for them, so that noting them after the commit runs
    /// no code of the user's and cannot fail.
    pub(crate) fn keys_to_set<'k, V, S: BuildHasher>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
        published: &Published<K, V, S>,
    ) -> Vec<Hashed<K>>
    where
        K: 'k,
    {
        if self.keys.len() >= self.prune_at {
            let root = published.load();
            self.keys.retain(|(key, set)| root.is_at(key, *set));
            self.prune_at = self.keys.len().saturating_mul(2).max(FIRST_PRUNING);
        }
        let hasher = &published.shared().hasher;
        let mut set: Vec<_> = keys.map(|key| Hashed { hash: hasher.hash_one(key), key: key.clone() }).collect();
        if set.len() > 1 {
            let mut seen = HashSet::with_capacity_and_hasher(set.len(), BuildPassThrough::default());
            let mut is_first: Vec<_> = set.iter().map(|key| seen.insert(key)).collect();
            drop(seen);
            is_first.reverse();
            set.retain(|_| is_first.pop().unwrap_or(true));
        }
        self.keys.reserve(set.len());
        set
    }

    pub(crate) fn own_keys<V, S>(&self, root: &Root<K, V, S>) -> Vec<K> {
        let own = self.keys.iter().filter(|(key, set)| root.is_at(key, *set));
        own.map(|(key, _)| key.key.clone()).collect()
    }
}

impl<K: Clone, T: Clone> State<K, T> {
    /// Its image, with those keys that are its own.
    fn image<V, S>(&self, root: &Root<K, V, S>, remaining: Option<Duration>, ended: bool) -> SessionImage<K, T>
    where
        K: Eq + Hash,
    {
        let own = self.keys.iter().filter(|(key, set)| root.is_at(key, *set));
        let keys = own.map(|(key, set)| (key.key.clone(), *set)).collect();
        SessionImage { number: self.id().0.get(), token: self.token.clone(), remaining, ended, keys }
    }
}

impl<K, T> Detached<K, T> {
    /// The sessions of an image, all detached. `locks` are those of each, by number.
    pub(crate) fn restored(
        opened: u64,
        sessions: Vec<SessionImage<K, T>>,
        hash: impl Fn(&K) -> u64,
        mut locks: HashMap<u64, SessionLocks>,
        now: Instant,
    ) -> Self {
        let sessions = sessions.into_iter().map(|image| {
            let SessionImage { number, token, remaining, ended, keys } = image;
            let id = SessionId(NonZeroU64::MIN.saturating_add(number.saturating_sub(1)));
            let keys = keys.into_iter().map(|(key, set)| (Hashed { hash: hash(&key), key }, set)).collect();
            let locks = locks.remove(&number).unwrap_or_else(|| SessionLocks::none(id));
            let state = State { token, keys, prune_at: FIRST_PRUNING, locks };
            let due = remaining.and_then(|remaining| now.checked_add(remaining));
            (id, DetachedSession { state, due, ended, waits: false })
        });
        Self { opened, sessions: sessions.collect() }
    }

    /// How many sessions there were, and all that there are, by number: those in this table, and `attached` ones.
    pub(crate) fn images<'a, V, S>(
        &self,
        attached: impl Iterator<Item = &'a State<K, T>>,
        root: &Root<K, V, S>,
        now: Instant,
    ) -> (u64, Vec<SessionImage<K, T>>)
    where
        K: Clone + Eq + Hash + 'a,
        T: Clone + 'a,
    {
        let remaining = |due: Option<Instant>| due.map(|due| due.saturating_duration_since(now));
        let detached = self.sessions.values();
        let detached = detached.map(|session| session.state.image(root, remaining(session.due), session.ended));
        let mut all: Vec<_> = detached.chain(attached.map(|state| state.image(root, None, false))).collect();
        all.sort_unstable_by_key(|session| session.number);
        (self.opened, all)
    }
}

impl<K, T> DetachedSessions<K, T> {
    pub(crate) fn of(detached: Detached<K, T>) -> Self {
        Self(Mutex::new(detached))
    }

    pub(crate) fn none() -> Self {
        Self(Mutex::new(Detached { opened: 0, sessions: BTreeMap::new() }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Detached<K, T>> {
        self.0.lock()
    }

    /// The detached session with this token that was opened last, or a new one.
    pub(crate) fn resume(&self, token: T) -> (State<K, T>, bool)
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

    /// The sessions after the given one, in order, that are due at this time, or were due while the content was locked,
    /// or have ended except for some keys.
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
