//! What belongs to the session of a client, and what becomes of it when the session ends.
//!
//! Every value is lasting or the ephemeral value of one session, and the latest write decides. A session that ends releases
//! its locks, those that were last acquired or renewed through it and those that its token acquired past any session, and removes its keys in one commit, except those that another client has locked, and all while the content is
//! locked and the session does not wait: these are deferred until an expiry finds nothing in the way.

use super::locks::{Lock, Slack};
use super::{Model, add};
use crate::history::{Call, Kind, NotRemoved, Observed, SessionSummary};
use crate::program::{Key, Op, Token};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Session {
    pub(super) id: u64,
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
    NotRemoved { due: u64 },
    /// It has ended, and these keys were deferred.
    Ended,
}

/// What becomes of a key: it is removed, or stays for a reason.
type Fates = Vec<(Key, Option<NotRemoved>)>;

impl Model {
    pub(super) fn begin_session(&self, by: Token, call: &Call) -> Vec<Self> {
        let candidates: Vec<_> =
            (0..self.detached.len()).filter(|index| self.detached[*index].session.token == by).collect();
        if call.observed == Observed::Is(false) {
            // An ended session is not there any more when its keys are not, and nothing of it goes when all is frozen.
            let is_there = |detached: &Detached| match detached.stage {
                Stage::NotRemoved { .. } => true,
                Stage::Ended => !detached.session.keys.is_empty() && !self.frozen,
            };
            let mut next = self.clone();
            next.sessions.insert(call.thread, Session { id: call.began, token: by, keys: BTreeSet::new() });
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
        for not_removed in call.earliest_clock..=self.clock {
            let mut next = self.clone();
            let Some(session) = next.sessions.remove(&call.thread) else { return Vec::new() };
            next.detach(session, Stage::NotRemoved { due: not_removed + grace }, call);
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
            _ if self.frozen => Some(NotRemoved::Frozen),
            Some(owner) => Some(NotRemoved::Locked(owner)),
            None => self.held.map(|_| NotRemoved::Deferred),
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
            if waits && of_another && fates.iter().any(|(_, fate)| *fate == Some(NotRemoved::Deferred)) {
                return Vec::new(); // it is not done yet
            }
            let released = next.end(&session, &fates, held, call);
            let possible = match &call.observed {
                Observed::SessionSummary(end) => self.is_end(end, &released, &fates, next.revision),
                observed => !waits && *observed == Observed::Done,
            };
            next.only_if(possible)
        })
    }

    /// What an expiry ends of a detached session, in the same step as others or by itself. In the same step as others, one that
    /// removes nothing may report their revision, and the locks that they release are in the way of none of them.
    pub(super) fn end_detached(&self, by: Token, latest: u64, freed: &[Key], call: &Call) -> Vec<Self> {
        let Observed::SessionSummary(end) = &call.observed else { return Vec::new() };
        self.any_view(call, Slack::Late, |held| {
            let mut all = Vec::new();
            let of_token = self.detached.iter().enumerate().filter(|(_, detached)| detached.session.token == by);
            let in_the_way: BTreeSet<_> = held.iter().filter(|key| !freed.contains(key)).copied().collect();
            for (index, Detached { session, stage, .. }) in of_token {
                for locked in [held, &in_the_way] {
                    let fates = self.fates(session, locked);
                    let mut next = self.clone();
                    next.detached.remove(index);
                    let released = match stage {
                        Stage::NotRemoved { due } if *due > self.clock => continue,
                        Stage::NotRemoved { .. } => next.end(session, &fates, held, call),
                        // Its locks went when it ended.
                        Stage::Ended => {
                            next.remove(session, &fates);
                            next.defer(session, &fates, call);
                            Vec::new()
                        }
                    };
                    let latest = if end.removed.is_empty() { latest.max(next.revision) } else { next.revision };
                    let reported = end.revision.clamp(next.revision, latest);
                    let possible = self.is_end(end, &released, &fates, reported);
                    add(&mut all, next.only_if(possible));
                }
            }
            all
        })
    }

    /// Whether nothing is left that an expiry must have ended by now.
    pub(super) fn nothing_due(&self, by: Token, call: &Call) -> Vec<Self> {
        let of_token: Vec<_> = self.detached.iter().filter(|detached| detached.session.token == by).collect();
        // Of several sessions each may have been looked at at another time.
        let [detached] = of_token[..] else { return vec![self.clone()] };
        self.any_view(call, Slack::Late, |held| {
            let fates = self.fates(&detached.session, held);
            let must = match detached.stage {
                // An expiry does not wait for locked content; it may leave such a session for the next.
                Stage::NotRemoved { due } => {
                    due <= call.earliest_clock && (self.held.is_none() || self.frozen || fates.is_empty())
                }
                Stage::Ended => !removed(&fates).is_empty(),
            };
            self.same_if(!must || detached.since > call.began)
        })
    }

    /// Locks are released and keys removed in one step. The keys of the locks.
    fn end(&mut self, session: &Session, fates: &Fates, held: &BTreeSet<Key>, call: &Call) -> Vec<Key> {
        self.remove(session, fates);
        let step = matches!(call.op, Op::ExpiredSession { .. }).then_some(call.began);
        let its = |lock: &Lock| lock.owner == session.token && lock.session.is_none_or(|id| id == session.id);
        let released = self.take_locks(its, Kind::Released, held, step);
        self.defer(session, fates, call);
        released
    }

    /// Whether this is what is reported of a session that leads from this state to one with that revision.
    fn is_end(&self, seen: &SessionSummary, released: &[Key], fates: &Fates, revision: u64) -> bool {
        (seen.revision, &seen.released[..], &seen.removed) == (revision, released, &removed(fates))
            && self.may_be_left(&seen.not_removed, fates)
    }

    fn remove(&mut self, session: &Session, fates: &Fates) {
        let removals: Vec<_> = removed(fates).into_iter().map(|key| (key, None)).collect();
        if !removals.is_empty() {
            self.commit(session.token, &removals, None);
        }
    }

    /// What could not be removed is kept in mind; on a frozen dictionary nothing more will be.
    fn defer(&mut self, session: &Session, fates: &Fates, call: &Call) {
        let deferred =
            fates.iter().filter(|(_, fate)| matches!(fate, Some(NotRemoved::Locked(_) | NotRemoved::Deferred)));
        let keys: BTreeSet<_> = deferred.map(|(key, _)| *key).collect();
        if !keys.is_empty() {
            self.detach(Session { keys, ..session.clone() }, Stage::Ended, call);
        }
    }

    /// Where a lock is in the way and the content is locked too, either is the reason.
    fn may_be_left(&self, seen: &[(Key, NotRemoved)], fates: &Fates) -> bool {
        let expected = fates.iter().filter_map(|(key, fate)| Some((*key, (*fate)?)));
        let either = |not_removed| self.held.is_some() && not_removed == NotRemoved::Deferred;
        let same = |((key, not_removed), (of, expected)): (&(Key, NotRemoved), (Key, NotRemoved))| {
            *key == of
                && (*not_removed == expected || either(*not_removed) && matches!(expected, NotRemoved::Locked(_)))
        };
        seen.len() == expected.clone().count() && seen.iter().zip(expected).all(same)
    }
}

fn removed(fates: &Fates) -> Vec<Key> {
    fates.iter().filter(|(_, fate)| fate.is_none()).map(|(key, _)| *key).collect()
}
