//! What belongs to a session, and where sessions are that nobody has.

use crate::change::Change;
use crate::content::{Published, Revision, Root};
use crate::key::{BuildPassThrough, Hashed};
use crate::sync::{Mutex, MutexGuard};
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone)]
pub(super) struct Belongings<K, T> {
    pub(super) token: T,
    /// Keys that the session has set, each with the commit that did. Those are its own that this commit created and that have
    /// had a value ever since.
    pub(super) keys: Vec<(Hashed<K>, Revision)>,
    /// With how many keys those that are gone are next looked for.
    prune_at: usize,
}

/// Fewer keys than this are not worth looking through.
const FIRST_PRUNING: usize = 64;

/// The sessions that nobody has, until they are taken up again or their time is over.
pub(in crate::dictionary) struct Sessions<K, T>(Mutex<Vec<Lingering<K, T>>>);

struct Lingering<K, T> {
    belongings: Arc<Belongings<K, T>>,
    /// When it ends; never, if the clock does not reach so far.
    due: Option<Instant>,
}

impl<K, T> Belongings<K, T> {
    pub(super) fn new(token: T) -> Self {
        Self { token, keys: Vec::new(), prune_at: FIRST_PRUNING }
    }
}

impl<K: Clone + Eq + Hash, T> Belongings<K, T> {
    /// The keys, each once, that a change will set. Makes room for them, so that nothing of the user's runs, and nothing can
    /// fail, when the change is committed and they are noted.
    pub(super) fn keys_set_by<V, S: BuildHasher>(
        &mut self,
        change: &Change<K, V>,
        published: &Published<K, V, S>,
    ) -> HashSet<Hashed<K>, BuildPassThrough> {
        if self.keys.len() >= self.prune_at {
            let root = published.load();
            self.keys.retain(|(key, created)| root.has_created(key, *created));
            self.prune_at = self.keys.len().saturating_mul(2).max(FIRST_PRUNING);
        }
        let hasher = &published.shared().hasher;
        let set = change.operations().filter(|(_, value)| value.is_some());
        let set: HashSet<_, _> = set.map(|(key, _)| Hashed { hash: hasher.hash_one(key), key: key.clone() }).collect();
        self.keys.reserve(set.len());
        set
    }

    pub(super) fn present<V, S>(&self, root: &Root<K, V, S>) -> Vec<K> {
        let there = self.keys.iter().filter(|(key, created)| root.has_created(key, *created));
        there.map(|(key, _)| key.key.clone()).collect()
    }
}

impl<K, T> Sessions<K, T> {
    pub(in crate::dictionary) fn none() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn put(&self, belongings: Arc<Belongings<K, T>>, due: Option<Instant>) {
        self.0.lock().push(Lingering { belongings, due });
    }

    pub(super) fn take_up(&self, token: &T) -> Option<Arc<Belongings<K, T>>>
    where
        T: PartialEq,
    {
        let mut lingering = self.0.lock();
        let index = lingering.iter().position(|session| session.belongings.token == *token)?;
        Some(lingering.swap_remove(index).belongings)
    }

    /// A session that is due. It stays until it is claimed.
    pub(super) fn due(&self, now: Instant) -> Option<Arc<Belongings<K, T>>> {
        let lingering = self.0.lock();
        lingering.iter().find(|session| session.is_due(now)).map(|session| Arc::clone(&session.belongings))
    }

    /// Where a session lingers, or will if its keys are put off: as long as this lives, nobody can take it up. `None` if it
    /// should have been due at this time, and there is no such session any more.
    pub(super) fn place_of(&self, belongings: &Arc<Belongings<K, T>>, due: Option<Instant>) -> Option<Place<'_, K, T>> {
        let lingering = self.0.lock();
        let Some(due) = due else { return Some(Place { lingering, index: None }) };
        let is_it = |session: &Lingering<K, T>| Arc::ptr_eq(&session.belongings, belongings) && session.is_due(due);
        let index = lingering.iter().position(is_it)?;
        Some(Place { lingering, index: Some(index) })
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.lock().iter().filter_map(|session| session.due).min()
    }
}

impl<K, T> Lingering<K, T> {
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

/// The place of a session that is being ended, among those that linger.
pub(super) struct Place<'a, K, T> {
    lingering: MutexGuard<'a, Vec<Lingering<K, T>>>,
    /// `None` if it is not there yet.
    index: Option<usize>,
}

impl<K, T> Place<'_, K, T> {
    /// It has ended. Drops nothing of the user's, for whoever ended it has its belongings.
    pub(super) fn ended(mut self) {
        if let Some(index) = self.index {
            drop(self.lingering.swap_remove(index));
        }
    }

    /// It could not be ended, and is due, again or for the first time, at this time.
    pub(super) fn put_off(mut self, belongings: &Arc<Belongings<K, T>>, due: Option<Instant>) {
        match self.index {
            Some(index) => self.lingering[index].due = due,
            None => self.lingering.push(Lingering { belongings: Arc::clone(belongings), due }),
        }
    }
}
