//! Committing changes.
//!
//! Every attempt has the same steps, in this order: take the turn; load the root once; refuse the change if the root is
//! frozen; check the locks; check the conditions; if the content is locked, release everything, wait and start again;
//! build the next root; compare-and-swap. A successful swap is the linearization point. An attempt that loses starts
//! again from the new root.
//!
//! The turn only makes success likely; correctness does not depend on it. If another thread has the turn, the change is
//! checked without it first, so that a refusal does not wait. Only then does the commit wait for the turn, and for a
//! bounded time.

use crate::change::Change;
use crate::commit::{Effort, Inside, Making, Modification, Note, Published, RootFence, Turn};
use crate::content::{Hold, Logged, Root, Snapshot};
use crate::deferred_drops::defer_drops;
use crate::engine::Engine;
use crate::error::{Refusal, UpdateError};
use crate::key::Lookup;
use crate::locks::Verdict;
use crate::observe::Retries;
use crate::revision::Revision;
use crate::wake;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;

/// How one attempt ended.
enum Attempt<K, V, T, S> {
    /// Committed, or there was nothing to commit; the root that has it.
    Done(Arc<Root<K, V, S>>),
    /// Another thread replaced the root first.
    Lost,
    /// A guard locks the content: this hold.
    Held(Hold),
    Refused(Refusal<K, T>),
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The turn, and locked content.
    ForAll,
    /// Nothing.
    None,
    /// Nothing. It stops after a few lost attempts, for a poll must end: the change is then refused as if the content
    /// was locked.
    OfAPoll,
}

impl Patience {
    const fn waits(self) -> bool {
        matches!(self, Self::ForAll)
    }
}

/// After how many lost attempts a poll ends.
const ATTEMPTS_PER_POLL: u64 = 4;

/// The result of one run of a closure.
enum Run<K, V, R> {
    /// With what the closure returned beside the change.
    Committed(Revision, R),
    /// Another commit was made meanwhile. Whether the next run has the turn.
    Outdated(Change<K, V>, bool),
}

type Hashes = SmallVec<[u64; 4]>;

/// What is to be committed.
struct Write<'a, K, V, T> {
    token: &'a T,
    change: &'a Change<K, V>,
    /// The hold of the guard through which it is written, if there is one.
    guard: Option<Hold>,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Engine<K, V, T, S> {
    /// [`StateDictionary::update_state_with_limit`](crate::StateDictionary::update_state_with_limit), for a closure that reads the whole content or a part of it.
    pub(crate) fn modify<M: Modification<Key = K, Value = V>>(
        &self,
        token: &T,
        Effort { attempts, patience, mut ahead }: Effort,
        mut making: Making<'_, K, V, S, impl FnMut(&Snapshot<K, V, S>) -> M>,
    ) -> Result<M::Output, UpdateError<K, V, T>> {
        if Inside::is_in(self.identity()) {
            return Err(UpdateError { change: Change::new(), reason: Refusal::InsideUpdate });
        }
        let backoff = Retries::new(&self.published.shared().observed);
        let mut change = Change::new();
        for _ in 0..attempts {
            // Before the turn is taken and the root is loaded, because a value's `Drop` may commit.
            drop(mem::take(&mut change));
            let turn =
                ahead.then(|| if patience.waits() { self.published.turn() } else { self.published.turn_or_none() });
            match self.run(token, turn.filter(Turn::is_real), patience, &backoff, &mut making)? {
                Run::Committed(revision, value) => return Ok(M::output(revision, value)),
                Run::Outdated(outdated, next_ahead) => (change, ahead) = (outdated, next_ahead),
            }
            backoff.count();
        }
        Err(UpdateError { change, reason: Refusal::RetriesExhausted { attempts } })
    }

    /// Runs the closure once, with the turn if there is one, and commits its change unless that is outdated by then.
    fn run<'a, M: Modification<Key = K, Value = V>>(
        &'a self,
        token: &T,
        mut turn: Option<Turn<'a, K, V, S>>,
        patience: Patience,
        backoff: &Retries<'_>,
        Making { read, modify, note }: &mut Making<'_, K, V, S, impl FnMut(&Snapshot<K, V, S>) -> M>,
    ) -> Result<Run<K, V, M::Beside>, UpdateError<K, V, T>> {
        let root = self.published.load();
        if root.frozen {
            drop(turn);
            drop(root);
            self.published.shared().observed.refused(0);
            return Err(UpdateError { change: Change::new(), reason: Refusal::Frozen });
        }
        let based_on = read(&root);
        let snapshot = Snapshot::lent(root);
        let (change, value) = {
            let _inside = Inside::enter(self.identity());
            modify(&snapshot).into_parts()
        };
        // A `Drop` of the user's is not inside the closure, and must not run with the turn.
        let ((), deferred) = defer_drops(|| drop(snapshot));
        if turn.is_none() {
            self.published.settle(deferred);
        }
        let is_current = |root: &Root<K, V, S>| read(root) == based_on;
        let write = Write { token, change: &change, guard: None };
        let had_turn = turn.is_some();
        loop {
            let mut turn = turn.take().unwrap_or_else(|| self.published.turn_or_none());
            let mut answer = None;
            if patience.waits() && !turn.is_real() {
                answer = self.answer_before_waiting(&write, &is_current);
                if answer.is_none() {
                    turn = self.published.turn();
                }
            }
            let attempt = if let Some(answer) = answer {
                answer
            } else {
                let (root, deferred) = defer_drops(|| self.published.load());
                if !is_current(&root) {
                    // Without the turn the closure may be too slow. It is run once more with the turn, since it might
                    // never be in time otherwise; not more often, since a closure that is always too slow would delay
                    // all others.
                    let ahead = !had_turn && turn.is_real();
                    drop(turn);
                    self.published.settle(deferred);
                    return Ok(Run::Outdated(change, ahead));
                }
                self.attempt(root, turn, &write, note.as_mut())
            };
            match self.conclude(attempt, patience, backoff) {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Run::Committed(root.revision, value)),
                Err(reason) => return Err(UpdateError { change, reason }),
            }
        }
    }

    /// Commits a change; through a guard if `guard` is its hold. Returns the root that has it.
    pub(crate) fn commit(
        &self,
        token: &T,
        change: Change<K, V>,
        guard: Option<Hold>,
        patience: Patience,
    ) -> Result<Arc<Root<K, V, S>>, UpdateError<K, V, T>> {
        self.commit_borrowed(token, &change, guard, patience, None).map_err(|reason| UpdateError { change, reason })
    }

    pub(crate) fn commit_borrowed(
        &self,
        token: &T,
        change: &Change<K, V>,
        guard: Option<Hold>,
        patience: Patience,
        mut committed: Option<Note<'_, K, V, S>>,
    ) -> Result<Arc<Root<K, V, S>>, Refusal<K, T>> {
        if Inside::is_in(self.identity()) {
            return Err(Refusal::InsideUpdate);
        }
        let backoff = Retries::new(&self.published.shared().observed);
        let write = Write { token, change, guard };
        loop {
            let mut turn = self.published.turn_or_none();
            let mut answer = None;
            if patience.waits() && !turn.is_real() {
                answer = self.answer_before_waiting(&write, &|_| true);
                if answer.is_none() {
                    turn = self.published.turn();
                }
            }
            let attempt = if let Some(answer) = answer {
                answer
            } else {
                // Without a root until now: the owner of the turn could not make a root that this thread owns the spare
                // one. A root that another thread has replaced is not dropped with the turn; the attempt settles it.
                let (root, _) = defer_drops(|| self.published.load());
                self.attempt(root, turn, &write, committed.as_mut())
            };
            if let Some(root) = self.conclude(attempt, patience, &backoff)? {
                return Ok(root);
            }
        }
    }

    /// The answer to a change that is not to be committed, without waiting for a turn; provided that the root that it
    /// is made from is current.
    #[cold]
    fn answer_before_waiting(
        &self,
        write: &Write<'_, K, V, T>,
        is_current: &dyn Fn(&Root<K, V, S>) -> bool,
    ) -> Option<Attempt<K, V, T, S>> {
        let root = self.published.load();
        if !is_current(&root) {
            return None;
        }
        let answer = self.judge(&root, write, &mut self.fence()).err()?;
        Some(self.confirm(&root, answer))
    }

    /// Acts on the result of an attempt: waits while the content is locked. Then, and after a lost attempt, returns
    /// `None`.
    fn conclude(
        &self,
        attempt: Attempt<K, V, T, S>,
        patience: Patience,
        backoff: &Retries<'_>,
    ) -> Result<Option<Arc<Root<K, V, S>>>, Refusal<K, T>> {
        match attempt {
            Attempt::Done(root) => return Ok(Some(root)),
            Attempt::Refused(refusal) => {
                let locked_keys = if let Refusal::Locked { conflicts } = &refusal { conflicts.len() } else { 0 };
                self.published.shared().observed.refused(locked_keys);
                return Err(refusal);
            }
            Attempt::Held(hold) if hold.is_of_this_thread() => return Err(Refusal::ContentLockedByThisThread),
            Attempt::Held(_) if !patience.waits() => return Err(Refusal::ContentLocked),
            Attempt::Held(hold) => self.wait_until_content_unlocked(hold),
            Attempt::Lost => {
                backoff.spin();
                if patience == Patience::OfAPoll && backoff.retries() >= ATTEMPTS_PER_POLL {
                    return Err(Refusal::ContentLocked);
                }
            }
        }
        Ok(None)
    }

    fn attempt(
        &self,
        root: Arc<Root<K, V, S>>,
        mut turn: Turn<'_, K, V, S>,
        write: &Write<'_, K, V, T>,
        mut committed: Option<&mut Note<'_, K, V, S>>,
    ) -> Attempt<K, V, T, S> {
        let mut fence = self.fence();
        let Write { token, change, guard } = *write;
        let hashes = match self.judge(&root, write, &mut fence) {
            Ok(hashes) => hashes,
            Err(answer) => {
                drop(turn);
                return self.confirm(&root, answer);
            }
        };
        if let Some(note) = &mut committed {
            note.replaces(&root, &hashes);
        }
        let limit = self.settings.history_limit;
        let commit_log = self.settings.commit_log.filter(|_| change.len() <= limit);
        let logged = commit_log.map(|erase| Box::new(Logged::new(erase(token.clone()), change)));
        let next = turn.next(&root, change, &hashes, logged, limit);
        let (swapped, deferred) = self.published.compare_and_swap(&root, &next);
        let outcome = if swapped {
            // First of all, so that nothing that is dropped, and no panic, can keep it from the session.
            if let Some(note) = committed {
                note.committed(next.revision);
            }
            // A guard has the root that it replaces, and drops it last.
            if guard.is_none() {
                turn.keep(root, &next);
            }
            Attempt::Done(next)
        } else {
            turn.take_back(next, &root);
            Attempt::Lost
        };
        let outdated = turn.end();
        if swapped {
            self.published.wakeups.changed.notify_all();
        }
        drop(outdated);
        self.published.settle(deferred);
        outcome
    }

    /// The hashes of the keys, if the change is to be committed on this root; otherwise the answer to it, which must be
    /// [confirmed](Self::confirm).
    #[inline]
    fn judge(
        &self,
        root: &Arc<Root<K, V, S>>,
        write: &Write<'_, K, V, T>,
        fence: &mut RootFence<'_, K, V, T, S>,
    ) -> Result<Hashes, Attempt<K, V, T, S>> {
        if root.frozen {
            return Err(Attempt::Refused(Refusal::Frozen));
        }
        // The locks are looked at after the root was loaded: a grant that this look misses replaces the root, and the
        // swap is lost.
        let shared = self.published.shared();
        let change = write.change;
        let hashes: Hashes = change.operations().map(|(key, _)| shared.hasher.hash_one(key)).collect();
        let keys = change.operations().zip(&hashes).map(|((key, _), &hash)| Lookup { hash, key });
        let answer = match self.locks.check(keys, write.token, self.published.leases(), fence) {
            Verdict::Expired => Some(Attempt::Lost),
            Verdict::Locked(conflicts) => Some(Attempt::Refused(Refusal::Locked { conflicts })),
            Verdict::Free => Self::answer_of_content(root, write),
        };
        answer.map_or(Ok(hashes), Err)
    }

    /// The root and the locks were looked at one after the other. If nothing has happened since, the answer is of one
    /// instant; otherwise it may describe a state that never was.
    fn confirm(&self, root: &Arc<Root<K, V, S>>, answer: Attempt<K, V, T, S>) -> Attempt<K, V, T, S> {
        if self.published.is_current(root) { answer } else { Attempt::Lost }
    }

    /// The answer to a change whose keys are not locked, unless it is to be committed.
    fn answer_of_content(root: &Arc<Root<K, V, S>>, write: &Write<'_, K, V, T>) -> Option<Attempt<K, V, T, S>> {
        let Write { change, guard, .. } = *write;
        let failed = root.failed_conditions(change);
        if !failed.is_empty() {
            return Some(Attempt::Refused(Refusal::ConditionFailed { failed }));
        }
        if change.is_empty() {
            return Some(Attempt::Done(Arc::clone(root)));
        }
        root.held.filter(|hold| guard != Some(*hold)).map(Attempt::Held)
    }

    pub(crate) fn wait_until_content_unlocked(&self, hold: Hold) {
        let unlocked = |root: &Root<K, V, S>| root.frozen || root.held != Some(hold);
        let Published { wakeups, clock, .. } = &*self.published;
        wake::wait(&wakeups.gate, clock, None, || self.published.peek(unlocked).then_some(()));
    }

    pub(crate) fn is_inside_closure(&self) -> bool {
        Inside::is_in(self.identity())
    }

    fn identity(&self) -> usize {
        std::ptr::from_ref(&*self.published).addr()
    }
}
