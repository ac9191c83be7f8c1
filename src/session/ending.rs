//! Ending sessions: one root releases their locks and removes their keys, with every shard locked.
//!
//! A session that a caller ends is put into the table of detached sessions meanwhile, under the table's mutex, so that
//! after a panic of a key's `Eq` the next expiry finds it there. What has to be done is determined before the root is
//! replaced; from then on no code of the user's runs until the shards are unlocked and waiters are notified.

use super::state::{Detached, DetachedSession, State};
use crate::commit::{LockChanges, Patience};
use crate::content::{Hold, Logged, Root, Versioned};
use crate::deferred_drops::Deferred;
use crate::engine::Engine;
use crate::event::LockChange;
use crate::key::Hashed;
use crate::locks::{Fence, Going, Lock, LockedShards, Obstacle, SessionId};
use crate::revision::Revision;
use crate::session::{NotRemoved, SessionSummary};
use crate::sync::{ATTEMPTS_TO_END, SESSIONS_AT_ONCE, current_thread};
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When to retry if the content is locked, or if the session ended inside an update.
const RETRY: Duration = Duration::from_millis(10);

/// When to retry if another owner has locked a key.
const RETRY_LOCKED: Duration = Duration::from_secs(1);

/// Which sessions a step ends, and what it does if the content is locked.
enum Ask<K, T> {
    /// Ends this one, or does nothing.
    EndOrWait(State<K, T>),
    /// Ends this one; its keys may be removed later.
    End(State<K, T>),
    /// Ends those that are due at this time, after the given session; if the content is locked, only those that have no
    /// keys to remove.
    Expire(Instant, Option<SessionId>),
}

/// What becomes of a session's keys if the content is locked, or if it ends inside an update.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfLocked {
    /// Nothing is done; the caller waits until the content is unlocked.
    Wait,
    /// They are removed later.
    Defer,
    /// The session stays as it is.
    Leave,
}

/// The session was not ended, because the content is locked.
struct MustWait<K, T>(State<K, T>, Hold);

/// One session that is to end.
struct Part<K, T> {
    id: SessionId,
    token: T,
    /// Whether it had ended before, except for some keys.
    ended: bool,
    locks: Vec<Going>,
    changes: Vec<LockChange<K, T>>,
    recorded: Option<LockChanges<K>>,
    /// For each of its keys: the lock of another owner, if there is one.
    obstacles: Vec<Option<(T, Option<Duration>)>>,
    /// For each of its keys, a clone of it if it may have to be reported and kept.
    clones: Vec<Option<K>>,
    /// The result of the latest attempt: the indices of the keys that are its own and not locked by others.
    free: Vec<usize>,
    /// The indices of the keys that are its own and locked by others.
    locked: Vec<usize>,
    fate: Fate,
    revision: Revision,
    end: Option<SessionSummary<K, T>>,
    reported: bool,
}

/// What becomes of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It ends: its locks are released, and its free keys removed.
    Ends,
    /// Its locks are released, and its free keys are removed later.
    Defers,
    /// Its locks are released, and its keys stay, because the dictionary is frozen.
    Frozen,
    /// It stays as it is.
    Waits,
}

/// The result of one step.
struct Step<K, T> {
    /// The sessions of which something ended.
    ended: Vec<(T, SessionSummary<K, T>)>,
    /// The last session that was looked at.
    last: Option<SessionId>,
}

/// The content, locked to end sessions. Dropping it, because of a panic, unlocks the content.
struct Holding<'a, K, V, T, S> {
    engine: &'a Engine<K, V, T, S>,
    hold: Hold,
}

impl<K, V, T, S> Holding<'_, K, V, T, S> {
    /// The root that ended the sessions has unlocked the content.
    fn end(self) {
        self.engine.published.wakeups.gate.notify_all();
        mem::forget(self);
    }
}

impl<K, V, T, S> Drop for Holding<'_, K, V, T, S> {
    fn drop(&mut self) {
        self.engine.unlock_content();
    }
}

/// Dropped when no shard is locked and waiters have been notified, also when unwinding.
struct Leftovers<K, V, T, S> {
    parts: Vec<Part<K, T>>,
    entries: Vec<Vec<(Hashed<K>, Versioned<V>)>>,
    locks: Vec<Lock<T>>,
    states: Vec<State<K, T>>,
    keys: Vec<K>,
    /// It may have the removed entries.
    spare: Option<Arc<Root<K, V, S>>>,
    /// How many of the locks had expired.
    expired: usize,
}

#[cfg(feature = "async")]
impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> super::Session<K, V, T, S> {
    /// Ends the session, unless the content is locked and must be waited for.
    pub(crate) fn try_end(&mut self) -> Option<SessionSummary<K, T>> {
        match self.engine.end_one(Ask::EndOrWait(self.state.take()?)) {
            Ok(end) => Some(end),
            Err(MustWait(state, hold)) if hold.is_of_this_thread() => Some(self.engine.end(state, Patience::None)),
            Err(MustWait(state, _)) => {
                self.state = Some(state);
                None
            }
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    pub(crate) fn end(&self, state: State<K, T>, patience: Patience) -> SessionSummary<K, T> {
        let ask = if patience == Patience::ForAll { Ask::EndOrWait } else { Ask::End };
        let mut answer = self.end_one(ask(state));
        loop {
            match answer {
                Ok(end) => return end,
                Err(MustWait(state, hold)) if hold.is_of_this_thread() => {
                    answer = self.end_one(Ask::End(state));
                }
                Err(MustWait(state, hold)) => {
                    self.wait_until_content_unlocked(hold);
                    answer = self.end_one(Ask::EndOrWait(state));
                }
            }
        }
    }

    fn end_one(&self, ask: Ask<K, T>) -> Result<SessionSummary<K, T>, MustWait<K, T>> {
        match self.end_some(ask)?.ended.pop() {
            Some((_, end)) => Ok(end),
            None => unreachable!("a session that a caller ends is reported"),
        }
    }

    /// Ends the sessions that are due, in steps of limited length.
    pub(crate) fn expire_sessions(&self, now: Instant) -> Vec<(T, SessionSummary<K, T>)> {
        let (mut ended, mut after) = (Vec::new(), None);
        while self.sessions.lock().due(now, after).next().is_some() {
            let Ok(step) = self.end_some(Ask::Expire(now, after)) else {
                unreachable!("an expiry does not wait for locked content")
            };
            ended.extend(step.ended);
            after = step.last.or(after);
        }
        ended
    }

    fn end_some(&self, ask: Ask<K, T>) -> Result<Step<K, T>, MustWait<K, T>> {
        let inside = self.is_inside_closure();
        let if_locked = match ask {
            Ask::EndOrWait(_) if !inside => IfLocked::Wait,
            Ask::EndOrWait(_) | Ask::End(_) => IfLocked::Defer,
            Ask::Expire(..) => IfLocked::Leave,
        };
        let mut leftovers = Leftovers::none();
        let mut fence = self.fence();
        let mut holding = None;
        let mut all = self.locks.lock_all();
        let mut table = self.sessions.lock();
        let now = self.published.leases().now();

        let chosen = match ask {
            Ask::EndOrWait(state) | Ask::End(state) => {
                let id = state.id();
                table.put(state, now.checked_add(RETRY));
                vec![id]
            }
            // One step, so that what it does is the same on two replicas.
            Ask::Expire(at, after) if self.published.expires_on_request() => {
                table.due(at, after).map(|(id, _)| id).collect()
            }
            Ask::Expire(at, after) => choose(table.due(at, after), all.any_without_session()),
        };
        leftovers.parts.extend(chosen.into_iter().filter_map(|id| Some(Part::new(table.get(id)?))));
        self.plan(&mut leftovers.parts, &table, &all, fence.records_events(), now);
        let (replaced, deferred) = self.replace_root(&mut leftovers, &table, inside, if_locked, &mut holding);
        let of_parts = |done: fn(&Part<K, T>) -> bool| replaced.is_ok() && leftovers.parts.iter().any(done);
        let unlocks = of_parts(|part| part.fate != Fate::Waits && !part.locks.is_empty());
        let removes = of_parts(|part| part.fate == Fate::Ends && !part.free.is_empty());
        fence.replaced(unlocks, removes, deferred);
        if let Err(Some(hold)) = replaced {
            let state = leftovers.parts.first().and_then(|part| table.remove(part.id));
            return match state {
                Some(state) => Err(MustWait(state, hold)),
                None => unreachable!("it was put there, and the table has been locked since"),
            };
        }

        for index in 0..leftovers.parts.len() {
            leftovers.settle(index, &mut table, &mut all, now);
        }
        drop(table);
        drop(all);
        self.locks.sub_outstanding(leftovers.locks.len());
        fence.expired(leftovers.expired);
        if let Some(holding) = holding {
            holding.end();
        }
        if removes {
            leftovers.spare = self.published.take_spare();
        }
        drop(fence);
        let last = leftovers.parts.last().map(|part| part.id);
        let reported = leftovers.parts.drain(..).filter(|part| part.reported);
        Ok(Step { ended: reported.filter_map(|part| Some((part.token, part.end?))).collect(), last })
    }

    /// Determines which locks end, and which keys others have locked. May run the user's `Eq` and `Clone`; changes
    /// nothing, and drops no clone.
    fn plan(
        &self,
        parts: &mut [Part<K, T>],
        table: &Detached<K, T>,
        all: &LockedShards<'_, K, T>,
        records_events: bool,
        now: Instant,
    ) {
        let mut going = HashSet::new();
        let ending: Vec<_> = (0..parts.len()).filter(|&index| !parts[index].ended).collect();
        let owners: Vec<_> = ending.iter().map(|&index| &parts[index].token).collect();
        for (index, lock) in all.without_session(&owners, now) {
            if going.insert(lock.id()) {
                parts[ending[index]].locks.push(lock);
            }
        }
        for part in &mut *parts {
            let Some(DetachedSession { state, .. }) = table.get(part.id) else { continue };
            let locks = all.of_session(&state.locks, now).into_iter();
            part.locks.extend(locks.filter(|lock| going.insert(lock.id())));
        }
        for part in parts {
            let Some(DetachedSession { state, .. }) = table.get(part.id) else { continue };
            for (key, _) in &state.keys {
                let (obstacle, expired) = match all.obstacle(key, &part.token, &going, now) {
                    Some(Obstacle::Locked { owner, remaining }) => (Some((owner, remaining)), None),
                    Some(Obstacle::Expired(lock)) => (None, Some(lock)),
                    None => (None, None),
                };
                part.locks.extend(expired.filter(|lock| going.insert(lock.id())));
                let is_locked = obstacle.is_some();
                part.obstacles.push(obstacle);
                part.clones.push(is_locked.then(|| key.key.clone()));
            }
            part.locks.sort_unstable_by_key(Going::id);
            if records_events {
                part.changes.extend(part.locks.iter().filter_map(|going| all.change(*going)));
                part.recorded = self.kept(mem::take(&mut part.changes));
            }
        }
    }

    /// Ends the sessions in one root. After many lost attempts it first locks the content, for a short time.
    fn replace_root<'a>(
        &'a self,
        leftovers: &mut Leftovers<K, V, T, S>,
        table: &Detached<K, T>,
        inside: bool,
        if_locked: IfLocked,
        holding: &mut Option<Holding<'a, K, V, T, S>>,
    ) -> (Result<(), Option<Hold>>, Deferred) {
        let Leftovers { parts, entries, .. } = leftovers;
        let (mut attempts, mut all_deferred) = (0, Deferred::default());
        loop {
            let own = holding.as_ref().map(|holding| holding.hold);
            let mut taken = None;
            let edit = |root: &mut Root<K, V, S>| {
                attempts += 1;
                taken = None;
                if own.is_none() && attempts > ATTEMPTS_TO_END && root.held.is_none() && !root.frozen {
                    taken = Some(Hold { version: root.version, thread: Some(current_thread()) });
                    root.held = taken;
                    return Ok(());
                }
                let mut changed = own.is_some();
                if changed {
                    root.held = None;
                }
                for part in &mut *parts {
                    let Some(session) = table.get(part.id) else { continue };
                    part.judge(root, session, inside, if_locked)?;
                    changed |= self.carry_out(root, part, session, entries);
                }
                if changed { Ok(()) } else { Err(None) }
            };
            let (replaced, deferred) = self.published.replace(edit, |_| ());
            all_deferred = all_deferred.and(deferred);
            match taken {
                Some(hold) if replaced.is_ok() => *holding = Some(Holding { engine: self, hold }),
                _ => return (replaced, all_deferred),
            }
        }
    }

    /// Applies the fate of a session to a root. Returns whether that changed anything.
    fn carry_out(
        &self,
        root: &mut Root<K, V, S>,
        part: &mut Part<K, T>,
        session: &DetachedSession<K, T>,
        entries: &mut Vec<Vec<(Hashed<K>, Versioned<V>)>>,
    ) -> bool {
        let settings = &self.settings;
        let removes = part.fate == Fate::Ends && !part.free.is_empty();
        if removes {
            let keys = part.free.iter().map(|&index| &session.state.keys[index].0);
            let token = &part.token;
            let log = settings
                .commit_log
                .map(|erase| move |change| Box::new(Logged { origin: erase(token.clone()), change }));
            entries.push(root.remove(keys, log, settings.history_limit));
        }
        part.revision = root.revision;
        let unlocks = part.fate != Fate::Waits && !part.locks.is_empty();
        if unlocks && !root.frozen {
            self.published.locks_changed(root, part.recorded.as_ref(), settings.lock_history_limit);
        }
        removes || unlocks
    }
}

/// As many sessions as end in one step. Locks that were acquired without a session end with one session of their token.
/// Which one must not depend on another session that may have to wait, so then a step takes one session of each token.
fn choose<'a, K: 'a, T: PartialEq + 'a>(
    due: impl Iterator<Item = (SessionId, &'a DetachedSession<K, T>)>,
    one_of_each_token: bool,
) -> Vec<SessionId> {
    let (mut size, mut tokens) = (0, Vec::new());
    let fits = |(_, session): &(SessionId, &'a DetachedSession<K, T>)| {
        let before = size;
        size += 1 + session.state.keys.len() + session.state.locks.len();
        let token = &session.state.token;
        let is_new = !one_of_each_token || !tokens.contains(&token);
        tokens.push(token);
        before == 0 || (is_new && size <= SESSIONS_AT_ONCE)
    };
    due.take_while(fits).map(|(id, _)| id).collect()
}

impl<K: Clone + Eq, T: Clone> Part<K, T> {
    fn new(session: &DetachedSession<K, T>) -> Self {
        let DetachedSession { state, ended, .. } = session;
        Self {
            id: state.id(),
            token: state.token.clone(),
            ended: *ended,
            locks: Vec::new(),
            changes: Vec::new(),
            recorded: None,
            obstacles: Vec::with_capacity(state.keys.len()),
            clones: Vec::with_capacity(state.keys.len()),
            free: Vec::new(),
            locked: Vec::new(),
            fate: Fate::Waits,
            revision: Revision::ZERO,
            end: None,
            reported: false,
        }
    }

    /// Determines which keys are the session's, and its fate. If the content must be waited for, returns the hold on
    /// it.
    fn judge<V, S>(
        &mut self,
        root: &Root<K, V, S>,
        session: &DetachedSession<K, T>,
        inside: bool,
        if_locked: IfLocked,
    ) -> Result<(), Option<Hold>> {
        self.free.clear();
        self.locked.clear();
        let keys = &session.state.keys;
        for (index, _) in keys.iter().enumerate().filter(|(_, (key, set))| root.is_at(key, *set)) {
            let these = if self.obstacles[index].is_some() { &mut self.locked } else { &mut self.free };
            these.push(index);
        }
        self.fate = match root.held {
            _ if root.frozen => Fate::Frozen,
            None if !inside => Fate::Ends,
            _ if self.free.is_empty() => Fate::Ends,
            Some(hold) if if_locked == IfLocked::Wait => return Err(Some(hold)),
            _ if if_locked == IfLocked::Leave => Fate::Waits,
            _ => Fate::Defers,
        };
        if self.fate == Fate::Defers {
            for &index in &self.free {
                self.clones[index].get_or_insert_with(|| keys[index].0.key.clone());
            }
        }
        Ok(())
    }
}

impl<K: Clone + Eq, V, T: Clone + PartialEq, S> Leftovers<K, V, T, S> {
    fn none() -> Self {
        let (parts, entries, locks) = (Vec::new(), Vec::new(), Vec::new());
        Self { parts, entries, locks, states: Vec::new(), keys: Vec::new(), spare: None, expired: 0 }
    }

    /// Updates the locks and the table by the fate of a session. Runs no code of the user's.
    fn settle(&mut self, index: usize, table: &mut Detached<K, T>, all: &mut LockedShards<'_, K, T>, now: Instant) {
        let part = &mut self.parts[index];
        let Some(session) = table.get_mut(part.id) else { return };
        if part.fate == Fate::Waits {
            session.waits = true;
            session.due = now.checked_add(RETRY);
            return;
        }
        let (mut released, mut removed, mut not_removed, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for going in &part.locks {
            let Some((key, lock)) = all.take(*going) else { continue };
            self.locks.push(lock);
            self.expired += usize::from(going.expired);
            if going.expired { self.keys.push(key) } else { released.push(key) }
        }
        for (index, (key, set)) in mem::take(&mut session.state.keys).into_iter().enumerate() {
            let free = part.free.binary_search(&index).is_ok();
            let own = free || part.locked.binary_search(&index).is_ok();
            match part.fate {
                _ if !own => self.keys.push(key.key),
                Fate::Frozen => not_removed.push((key.key, NotRemoved::Frozen)),
                Fate::Ends if free => removed.push(key.key),
                Fate::Ends | Fate::Defers | Fate::Waits => {
                    let locked = part.obstacles[index].take();
                    let why = locked.map(|(owner, remaining)| NotRemoved::Locked { owner, remaining });
                    not_removed
                        .extend(part.clones[index].take().map(|clone| (clone, why.unwrap_or(NotRemoved::Deferred))));
                    kept.push((key, set));
                }
            }
        }
        part.reported = !(part.ended && released.is_empty() && removed.is_empty());
        part.end = Some(SessionSummary { revision: part.revision, released, removed, not_removed });
        if kept.is_empty() {
            self.states.extend(table.remove(part.id));
        } else {
            session.state.keys = kept;
            session.ended = true;
            session.due = now.checked_add(if part.fate == Fate::Defers { RETRY } else { RETRY_LOCKED });
        }
    }
}
