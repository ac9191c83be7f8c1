//! What belongs to the session of a client, and what becomes of it when the session ends.
//!
//! Every value is lasting or the ephemeral value of one session, and the latest write decides. A session that ends releases
//! its locks and removes its keys in one commit, except those that another client has locked, and all while the content is
//! locked and the session does not wait: these are deferred until an expiry finds nothing in the way.

use super::locks::Slack;
use super::{Model, add};
use crate::history::{Call, Kind, Left, Observed, SessionEnd, Told};
use crate::program::{Key, Token};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Session {
    pub(super) token: Token,
    /// The keys whose present value is its own.
    pub(super) keys: BTreeSet<Key>,
}

/// A session without a handle.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Detached {
    pub(super) session: Session,
    stage: Stage,
    /// When the call returned that made it so.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Stage {
    /// It ends at this time.
    Left { due: u64 },
    /// It has ended, and these keys were deferred.
    Ended,
}

/// What becomes of a key: it is removed, or stays for a reason.
type Fates = Vec<(Key, Option<Left>)>;

impl Model {
    pub(super) fn begin_session(&self, by: Token, call: &Call) -> Vec<Self> {
        let candidates: Vec<_> =
            (0..self.detached.len()).filter(|index| self.detached[*index].session.token == by).collect();
        if call.observed == Observed::Is(false) {
            // An ended session is not there any more when its keys are not, and nothing of it goes when all is frozen.
            let is_there = |detached: &Detached| match detached.stage {
                Stage::Left { .. } => true,
                Stage::Ended => !detached.session.keys.is_empty() && !self.frozen,
            };
            let mut next = self.clone();
            next.sessions.insert(call.thread, Session { token: by, keys: BTreeSet::new() });
            return next.only_if(!candidates.iter().any(|index| is_there(&self.detached[*index])));
        }
        let mut all = Vec::new();
        for index in candidates {
            let mut next = self.clone();
            let Detached { session, .. } = next.detached.remove(index);
            next.sessions.insert(call.thread, session);
            add(&mut all, next.only_if(call.observed == Observed::Is(true)));
        }
        all
    }

    pub(super) fn leave_session(&self, grace: u64, call: &Call) -> Vec<Self> {
        let mut all = Vec::new();
        // The time is counted from some moment of the call.
        for left in call.earliest_clock..=self.clock {
            let mut next = self.clone();
            let Some(session) = next.sessions.remove(&call.thread) else { return Vec::new() };
            next.detach(session, Stage::Left { due: left + grace }, call);
            add(&mut all, vec![next]);
        }
        all
    }

    fn detach(&mut self, session: Session, stage: Stage, call: &Call) {
        self.detached.push(Detached { session, stage, since: call.ended });
        self.detached.sort_unstable();
    }

    /// What becomes of the keys of a session that ends at this moment and does not wait for locked content.
    fn fates(&self, session: &Session, held: &BTreeSet<Key>) -> Fates {
        let another = |key: &Key| {
            let owner = self.locks.get(key).filter(|_| held.contains(key)).map(|lock| lock.owner);
            owner.filter(|owner| *owner != session.token)
        };
        let fate = |key: &Key| match another(key) {
            _ if self.frozen => Some(Left::Frozen),
            Some(owner) => Some(Left::Locked(owner)),
            None => self.held.map(|_| Left::PutOff),
        };
        session.keys.iter().map(|key| (*key, fate(key))).collect()
    }

    /// `session.end` waits for content that another thread has locked; a session that is dropped does not.
    pub(super) fn end_session(&self, waits: bool, call: &Call) -> Vec<Self> {
        self.any_view(call, Slack::Late, |held| {
            let mut next = self.clone();
            let Some(session) = next.sessions.remove(&call.thread) else { return Vec::new() };
            let fates = self.fates(&session, held);
            let of_another = self.held.is_some_and(|thread| thread != call.thread);
            if waits && of_another && fates.iter().any(|(_, fate)| *fate == Some(Left::PutOff)) {
                return Vec::new(); // it is not done yet
            }
            next.remove(&[session.token], fates.iter().filter(|(_, fate)| fate.is_none()).map(|(key, _)| *key));
            let released = next.take_locks(|lock| lock.owner == session.token, Kind::Released, held);
            next.defer(&session, &fates, call);
            let possible = match &call.observed {
                Observed::SessionEnd(end) => {
                    let revisions = if removed(&fates).is_empty() { self.revision } else { next.revision };
                    end.released == released
                        && end.revision == revisions
                        && end.removed == removed(&fates)
                        && self.may_be_left(&end.left, &fates)
                }
                observed => !waits && *observed == Observed::Done,
            };
            next.only_if(possible)
        })
    }

    /// The sessions that an expiry ends in one commit, and deferred keys that it removes.
    pub(super) fn end_due(&self, last: bool, call: &Call) -> Vec<Self> {
        let Observed::SessionEnds(seen) = &call.observed else { return Vec::new() };
        self.any_view(call, Slack::Late, |held| {
            let (mut certain, mut possible) = (Vec::new(), Vec::new());
            for (index, detached) in self.detached.iter().enumerate() {
                let fates = self.fates(&detached.session, held);
                // Another call may be about to end it, or to leave it.
                let was_there = detached.since < call.began;
                let must = match detached.stage {
                    Stage::Left { due } if due > self.clock => continue,
                    // An expiry does not wait for locked content; it may leave such a session for the next.
                    Stage::Left { due } => {
                        due <= call.earliest_clock && fates.iter().all(|(_, fate)| *fate != Some(Left::PutOff))
                    }
                    Stage::Ended => fates.iter().any(|(_, fate)| fate.is_none()),
                };
                if last && must && was_there { certain.push(index) } else { possible.push(index) }
            }
            let mut all = Vec::new();
            for choice in 0..1_u32 << possible.len() {
                let chosen = possible.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1).map(|(_, index)| *index);
                let mut ending: Vec<_> = certain.iter().copied().chain(chosen).collect();
                ending.sort_unstable();
                let tokens: Vec<_> = ending.iter().map(|index| self.detached[*index].session.token).collect();
                // Both are sorted by their tokens.
                if tokens.iter().eq(seen.iter().map(|(token, _)| token)) {
                    add(&mut all, self.end_together(&ending, held, seen, call));
                }
            }
            all
        })
    }

    /// These sessions end in one step, if that is what was seen.
    fn end_together(
        &self,
        ending: &[usize],
        held: &BTreeSet<Key>,
        seen: &[(Token, SessionEnd)],
        call: &Call,
    ) -> Vec<Self> {
        let mut next = self.clone();
        let ending: Vec<_> = ending.iter().map(|index| self.detached[*index].clone()).collect();
        next.detached.retain(|detached| !ending.contains(detached));
        let fates: Vec<_> = ending.iter().map(|detached| self.fates(&detached.session, held)).collect();
        let removed_keys: Vec<_> = fates.iter().flat_map(removed).collect();
        let tokens: Vec<_> = ending
            .iter()
            .zip(&fates)
            .filter(|(_, fates)| !removed(fates).is_empty())
            .map(|(detached, _)| detached.session.token)
            .collect();
        next.remove(&tokens, removed_keys.into_iter());

        // Locks go with a session that ends now; those of one that ended before went then.
        let releasing: BTreeSet<_> = ending
            .iter()
            .filter(|detached| matches!(detached.stage, Stage::Left { .. }))
            .map(|detached| detached.session.token)
            .collect();
        let told: BTreeMap<Token, Vec<Told>> = releasing
            .iter()
            .map(|token| {
                let of_this = self.locks.iter().filter(|(key, lock)| lock.owner == *token && held.contains(key));
                (*token, of_this.map(|(key, lock)| lock.told(Kind::Released, *key)).collect())
            })
            .collect();
        next.locks.retain(|_, lock| !releasing.contains(&lock.owner));

        // Of two sessions of one token, either may have reported what.
        let mut left_over: Vec<_> = ending.iter().map(|detached| detached.session.token).zip(&fates).collect();
        for (token, end) in seen {
            let in_place = if end.removed.is_empty() {
                (self.revision..=next.revision).contains(&end.revision)
            } else {
                end.revision == next.revision
            };
            let is_it = |(of, fates): &(Token, &Fates)| {
                of == token && end.removed == removed(fates) && self.may_be_left(&end.left, fates)
            };
            let Some(found) = left_over.iter().position(is_it).filter(|_| in_place) else { return Vec::new() };
            left_over.remove(found);
        }
        let released_by = |token: Token| {
            let ends = seen.iter().filter(move |(of, _)| *of == token);
            let mut keys: Vec<_> = ends.flat_map(|(_, end)| end.released.iter().copied()).collect();
            keys.sort_unstable();
            keys
        };
        let expected = |token| told.get(&token).into_iter().flatten().map(|told| told.key);
        if !seen.iter().all(|(token, _)| expected(*token).eq(released_by(*token))) {
            return Vec::new();
        }
        for (detached, fates) in ending.iter().zip(&fates) {
            next.defer(&detached.session, fates, call);
        }
        let mut one_by_one = next.clone();
        next.tell(told.values().flatten().copied().collect());
        told.into_values().for_each(|told| one_by_one.tell(told));
        let mut all = vec![next];
        add(&mut all, vec![one_by_one]);
        all
    }

    fn remove(&mut self, by: &[Token], keys: impl Iterator<Item = Key>) {
        let removals: Vec<_> = keys.map(|key| (key, None)).collect();
        if !removals.is_empty() {
            self.commit(by, &removals, None);
        }
    }

    /// What could not be removed is kept in mind; on a frozen dictionary nothing more will be.
    fn defer(&mut self, session: &Session, fates: &Fates, call: &Call) {
        let deferred = fates.iter().filter(|(_, fate)| matches!(fate, Some(Left::Locked(_) | Left::PutOff)));
        let keys: BTreeSet<_> = deferred.map(|(key, _)| *key).collect();
        if !keys.is_empty() {
            self.detach(Session { token: session.token, keys }, Stage::Ended, call);
        }
    }

    /// Where a lock is in the way and the content is locked too, either is the reason.
    fn may_be_left(&self, seen: &[(Key, Left)], fates: &Fates) -> bool {
        let expected = fates.iter().filter_map(|(key, fate)| Some((*key, (*fate)?)));
        let either = |left| self.held.is_some() && left == Left::PutOff;
        let same = |((key, left), (of, expected)): (&(Key, Left), (Key, Left))| {
            *key == of && (*left == expected || either(*left) && matches!(expected, Left::Locked(_)))
        };
        seen.len() == expected.clone().count() && seen.iter().zip(expected).all(same)
    }
}

fn removed(fates: &Fates) -> Vec<Key> {
    fates.iter().filter(|(_, fate)| fate.is_none()).map(|(key, _)| *key).collect()
}
