//! Ending sessions: their locks are released and their keys removed in one root, with every shard locked.
//!
//! A session that a caller ends is put into the table of detached sessions for as long as that takes, under the table's mutex,
//! so that a panic of a key's `Eq` leaves it where the next expiry finds it. What is to be done is found out before the root
//! is replaced; from then on none of the user's code runs until the shards are unlocked and waiters are notified.

use super::state::{Detached, DetachedSession, State};
use super::{Left, SessionEnd};
use crate::content::{Entry, Hold, Logged, Revision, Root};
use crate::dictionary::Core;
use crate::dictionary::locking::Told;
use crate::dictionary::write::Patience;
use crate::key::Hashed;
use crate::locks::{Fence, Going, Lock, LockedShards, Obstacle, SessionId};
use crate::sync::SESSIONS_AT_ONCE;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

/// How soon it is worthwhile to try again where the content is held, or the session ended inside an update.
const RETRY: Duration = Duration::from_millis(10);

/// The same where another owner has locked a key.
const RETRY_LOCKED: Duration = Duration::from_secs(1);

/// Which sessions a step ends, and what it does if the content is held.
enum Ask<K, T> {
    /// This one, or nothing.
    EndOrWait(State<K, T>),
    /// This one; its keys are removed later.
    End(State<K, T>),
    /// Those that were due at this time, after one of them. None of which there are keys to remove.
    Expire(Instant, Option<SessionId>),
}

/// What becomes of a session's keys if the content is held, or if it ends inside an update.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfHeld {
    /// Nothing is done; the content is waited for.
    Wait,
    /// They are removed later.
    Defer,
    /// The session stays as it is.
    Leave,
}

/// That a session was not ended, because the content is held.
struct HeldUp<K, T>(State<K, T>, Hold);

/// One session that is to end.
struct Part<K, T> {
    id: SessionId,
    token: T,
    /// Whether it had ended before, except for some keys.
    ended: bool,
    locks: Vec<Going>,
    told: Option<Told<K>>,
    /// For each of its keys: who has locked it, if another owner has.
    obstacles: Vec<Option<(T, Option<Duration>)>>,
    /// For each of its keys, a clone of it if it may have to be reported and kept.
    clones: Vec<Option<K>>,
    /// What the latest attempt found: the indices of the keys that are its own, without those locked by others.
    free: Vec<usize>,
    /// The indices of the keys that are its own and locked by others.
    locked: Vec<usize>,
    fate: Fate,
    revision: Revision,
    end: Option<SessionEnd<K, T>>,
    reported: bool,
}

/// What becomes of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It ends: its locks go, and its free keys.
    Ends,
    /// Its locks go, and its free keys later.
    Defers,
    /// Its locks go, and its keys stay, because the dictionary is frozen.
    Frozen,
    /// It goes on as it is.
    Waits,
}

/// What one step did.
struct Step<K, T> {
    /// The sessions of which something ended.
    ended: Vec<(T, SessionEnd<K, T>)>,
    /// The last session that was looked at.
    last: Option<SessionId>,
}

/// What is dropped when no shard is locked and waiters have been notified, also when unwinding.
struct Leftovers<K, V, T> {
    parts: Vec<Part<K, T>>,
    entries: Vec<Vec<(Hashed<K>, Entry<V>)>>,
    locks: Vec<Lock<T>>,
    states: Vec<State<K, T>>,
    keys: Vec<K>,
    /// How many of the locks had run out.
    expired: usize,
}

#[cfg(feature = "async")]
impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> super::Session<K, V, T, S> {
    /// Ends the session, unless the content must be waited for.
    pub(in crate::dictionary) fn try_end(&mut self) -> Option<SessionEnd<K, T>> {
        match self.core.end_one(Ask::EndOrWait(self.state.take()?), Patience::None) {
            Ok(end) => Some(end),
            Err(HeldUp(state, hold)) if hold.is_of_this_thread() => Some(self.core.end(state, Patience::None)),
            Err(HeldUp(state, _)) => {
                self.state = Some(state);
                None
            }
        }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Core<K, V, T, S> {
    pub(super) fn end(&self, state: State<K, T>, patience: Patience) -> SessionEnd<K, T> {
        let ask = if patience == Patience::ForAll { Ask::EndOrWait } else { Ask::End };
        let mut answer = self.end_one(ask(state), patience);
        loop {
            match answer {
                Ok(end) => return end,
                Err(HeldUp(state, hold)) if hold.is_of_this_thread() => {
                    answer = self.end_one(Ask::End(state), patience);
                }
                Err(HeldUp(state, hold)) => {
                    self.wait_until_let_go(hold);
                    answer = self.end_one(Ask::EndOrWait(state), patience);
                }
            }
        }
    }

    fn end_one(&self, ask: Ask<K, T>, patience: Patience) -> Result<SessionEnd<K, T>, HeldUp<K, T>> {
        match self.end_some(ask, patience)?.ended.pop() {
            Some((_, end)) => Ok(end),
            None => unreachable!("a session that a caller ends is reported"),
        }
    }

    /// Ends the sessions that are due, in steps of limited length.
    pub(super) fn expire_sessions(&self, now: Instant) -> Vec<(T, SessionEnd<K, T>)> {
        let (mut ended, mut after) = (Vec::new(), None);
        while self.sessions.lock().due(now, after).next().is_some() {
            let Ok(step) = self.end_some(Ask::Expire(now, after), Patience::ForAll) else {
                unreachable!("an expiry does not wait for held content")
            };
            ended.extend(step.ended);
            after = step.last.or(after);
        }
        ended
    }

    fn end_some(&self, ask: Ask<K, T>, patience: Patience) -> Result<Step<K, T>, HeldUp<K, T>> {
        let inside = self.is_inside_closure();
        let if_held = match ask {
            Ask::EndOrWait(_) if !inside => IfHeld::Wait,
            Ask::EndOrWait(_) | Ask::End(_) => IfHeld::Defer,
            Ask::Expire(..) => IfHeld::Leave,
        };
        let mut leftovers = Leftovers::none();
        let mut fence = self.fence();
        // Writers that wait for the turn meanwhile do not outdate the root again and again. Taken before the shards are
        // locked, as writers do. A thread inside an update may have it already.
        let may_wait = patience == Patience::ForAll && !inside;
        let turn = if may_wait { self.published.turn() } else { self.published.turn_or_none() };
        let mut all = self.locks.lock_all();
        let mut table = self.sessions.lock();
        let now = self.published.clock.now();

        let chosen = match ask {
            Ask::EndOrWait(state) | Ask::End(state) => {
                let id = state.id();
                table.put(state, now.checked_add(RETRY));
                vec![id]
            }
            Ask::Expire(at, after) => choose(table.due(at, after)),
        };
        leftovers.parts.extend(chosen.into_iter().filter_map(|id| Some(Part::new(table.get(id)?))));
        let Leftovers { parts, entries, .. } = &mut leftovers;
        self.plan(parts, &table, &mut all, fence.tells(), now);

        let mut attempts = 0;
        let mut attempted = 0;
        let edit = |root: &mut Root<K, V, S>| {
            // Fewer at a time where others, who commit without the turn, are faster again and again.
            attempted = (parts.len() >> (attempts / 2).min(16)).max(1).min(parts.len());
            attempts += 1;
            let mut changed = false;
            for part in &mut parts[..attempted] {
                let Some(session) = table.get(part.id) else { continue };
                part.judge(root, session, inside, if_held)?;
                changed |= self.carry_out(root, part, session, entries);
            }
            if changed { Ok(()) } else { Err(None) }
        };
        let (replaced, put_off) = self.published.replace(edit, |_| ());
        let parts = &leftovers.parts[..attempted];
        let unlocks = replaced.is_ok() && parts.iter().any(|part| part.fate != Fate::Waits && !part.locks.is_empty());
        let removes = replaced.is_ok() && parts.iter().any(|part| part.fate == Fate::Ends && !part.free.is_empty());
        fence.replaced(unlocks, removes, put_off);
        if let Err(Some(hold)) = replaced {
            let state = leftovers.parts.first().and_then(|part| table.remove(part.id));
            return match state {
                Some(state) => Err(HeldUp(state, hold)),
                None => unreachable!("it was put there, and the table has been locked since"),
            };
        }

        for index in 0..attempted {
            leftovers.settle(index, &mut table, &mut all, now);
        }
        drop(table);
        drop(all);
        self.locks.gone(leftovers.locks.iter());
        fence.expired(leftovers.expired);
        drop(turn);
        drop(fence);
        leftovers.parts.truncate(attempted);
        let last = leftovers.parts.last().map(|part| part.id);
        let reported = leftovers.parts.drain(..).filter(|part| part.reported);
        Ok(Step { ended: reported.filter_map(|part| Some((part.token, part.end?))).collect(), last })
    }

    /// Finds out which locks go, and which keys others have locked. May run the user's `Eq` and `Clone`; changes nothing.
    fn plan(
        &self,
        parts: &mut [Part<K, T>],
        table: &Detached<K, T>,
        all: &mut LockedShards<'_, K, T>,
        tells: bool,
        now: Instant,
    ) {
        let ending: Vec<_> = (0..parts.len()).filter(|&index| !parts[index].ended).collect();
        let owners: Vec<_> = ending.iter().map(|&index| &parts[index].token).collect();
        let mut found = all.without_session(&owners, now);
        for (index, _) in &mut found {
            *index = ending[*index];
        }
        for (index, going) in found {
            parts[index].locks.push(going);
        }
        let mut stale = HashSet::new();
        for part in parts {
            let Some(DetachedSession { state, .. }) = table.get(part.id) else { continue };
            part.locks.extend(all.of_session(&state.locks, now));
            for (key, _) in &state.keys {
                let (mut obstacle, mut clone) = (None, None);
                match all.obstacle(key, &part.token, now) {
                    Some(Obstacle::Locked { owner, remaining }) => {
                        (obstacle, clone) = (Some((owner, remaining)), Some(key.key.clone()));
                    }
                    Some(Obstacle::Expired(going)) if stale.insert(going.id()) => part.locks.push(going),
                    Some(Obstacle::Expired(_)) | None => {}
                }
                part.obstacles.push(obstacle);
                part.clones.push(clone);
            }
            if tells {
                part.told = self.kept(part.locks.iter().filter_map(|going| all.change(*going)).collect());
            }
        }
    }

    /// Does to a root what becomes of a session. Whether that is anything.
    fn carry_out(
        &self,
        root: &mut Root<K, V, S>,
        part: &mut Part<K, T>,
        session: &DetachedSession<K, T>,
        entries: &mut Vec<Vec<(Hashed<K>, Entry<V>)>>,
    ) -> bool {
        let settings = &self.settings;
        let removes = part.fate == Fate::Ends && !part.free.is_empty();
        if removes {
            let keys = part.free.iter().map(|&index| &session.state.keys[index].0);
            let token = &part.token;
            let log = settings
                .commit_log
                .map(|erase| move |change| Box::new(Logged { origin: erase(token.clone()), change }));
            entries.push(root.remove(keys, log, settings.trail_limit));
        }
        part.revision = root.revision;
        let unlocks = part.fate != Fate::Waits && !part.locks.is_empty();
        if unlocks && !root.frozen {
            root.locks_changed(part.told.as_ref(), settings.lock_trail_limit);
        }
        removes || unlocks
    }
}

/// As many sessions as end in one step.
fn choose<'a, K: 'a, T: 'a>(due: impl Iterator<Item = (SessionId, &'a DetachedSession<K, T>)>) -> Vec<SessionId> {
    let mut size = 0;
    let fits = |(_, session): &(SessionId, &DetachedSession<K, T>)| {
        let before = size;
        size += 1 + session.state.keys.len() + session.state.locks.len();
        before == 0 || size <= SESSIONS_AT_ONCE
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
            told: None,
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

    /// Finds out which keys are the session's, and what becomes of it. If the content must be waited for, by whose hold.
    fn judge<V, S>(
        &mut self,
        root: &Root<K, V, S>,
        session: &DetachedSession<K, T>,
        inside: bool,
        if_held: IfHeld,
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
            Some(hold) if if_held == IfHeld::Wait => return Err(Some(hold)),
            _ if if_held == IfHeld::Leave => Fate::Waits,
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

impl<K: Clone + Eq, V, T: Clone + PartialEq> Leftovers<K, V, T> {
    fn none() -> Self {
        let (parts, entries, locks) = (Vec::new(), Vec::new(), Vec::new());
        Self { parts, entries, locks, states: Vec::new(), keys: Vec::new(), expired: 0 }
    }

    /// Brings the locks and the table up to date with what became of a session. Runs none of the user's code.
    fn settle(&mut self, index: usize, table: &mut Detached<K, T>, all: &mut LockedShards<'_, K, T>, now: Instant) {
        let part = &mut self.parts[index];
        let Some(session) = table.get_mut(part.id) else { return };
        if part.fate == Fate::Waits {
            session.waits = true;
            session.due = now.checked_add(RETRY);
            return;
        }
        let (mut released, mut removed, mut left, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for going in &part.locks {
            let Some((key, lock)) = all.take(*going) else { continue };
            self.locks.push(lock);
            self.expired += usize::from(going.expired);
            if going.expired { self.keys.push(key) } else { released.push(key) }
        }
        for (index, (key, set)) in std::mem::take(&mut session.state.keys).into_iter().enumerate() {
            let free = part.free.binary_search(&index).is_ok();
            let own = free || part.locked.binary_search(&index).is_ok();
            match part.fate {
                _ if !own => self.keys.push(key.key),
                Fate::Frozen => left.push((key.key, Left::Frozen)),
                Fate::Ends if free => removed.push(key.key),
                Fate::Ends | Fate::Defers | Fate::Waits => {
                    let locked = part.obstacles[index].take();
                    let why = locked.map(|(holder, remaining)| Left::Locked { holder, remaining });
                    left.extend(part.clones[index].take().map(|clone| (clone, why.unwrap_or(Left::PutOff))));
                    kept.push((key, set));
                }
            }
        }
        part.reported = !(part.ended && released.is_empty() && removed.is_empty());
        part.end = Some(SessionEnd { revision: part.revision, released, removed, left });
        if kept.is_empty() {
            self.states.extend(table.remove(part.id));
        } else {
            session.state.keys = kept;
            session.ended = true;
            session.due = now.checked_add(if part.fate == Fate::Defers { RETRY } else { RETRY_LOCKED });
        }
    }
}
