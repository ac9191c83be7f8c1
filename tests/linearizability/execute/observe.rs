//! What the crate answers, in the words of a history.

use super::{Feed, S};
use crate::history::{
    Commit, Commits, Delivery, Event, Kind, LockChange, NotRemoved, Observed, Receipt, SessionSummary,
};
use crate::program::{If, Key, Token, Value};
use state_dictionary::{
    CommitDelivery, Condition, Conflict, LockDelivery, LockError, LockEvent, LockEventKind, LockReceipt, Refusal,
    Revision, Snapshot, TryFlushError, UpdateError, Updates, Versioned,
};

pub(super) fn updated(answer: Result<Revision, UpdateError<Key, Value, Token>>) -> Observed {
    match answer {
        Ok(revision) => Observed::Revision(revision.get()),
        Err(UpdateError { reason: Refusal::Frozen, .. }) => Observed::Frozen,
        Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) => Observed::LockedByOthers(owners(&conflicts)),
        Err(UpdateError { reason: Refusal::ConditionFailed { failed }, .. }) => {
            let failed = failed.into_iter().map(|failed| {
                let expected = match failed.expected {
                    Condition::Absent => If::Absent,
                    Condition::Present => If::Present,
                    Condition::At(revision) => If::At(revision.get()),
                    other => unreachable!("the programs ask for no {other:?}"),
                };
                (failed.key, expected, failed.found.map(Revision::get))
            });
            let mut failed: Vec<_> = failed.collect();
            failed.sort_by_key(|(key, ..)| *key);
            Observed::ConditionFailed(failed)
        }
        Err(UpdateError { reason: Refusal::ContentLocked, .. }) => Observed::ContentLocked,
        Err(UpdateError { reason: Refusal::ContentLockedByThisThread, .. }) => Observed::ContentLockedByThisThread,
        Err(UpdateError { reason: Refusal::RetriesExhausted { attempts }, .. }) => Observed::Exhausted(attempts),
        Err(other) => panic!("{other:?}"),
    }
}

pub(super) fn locked(answer: &Result<LockReceipt<Key>, LockError<Key, Token>>) -> Observed {
    match answer {
        Ok(granted) => Observed::Locked(receipt(granted)),
        Err(LockError::Frozen { receipt: of, .. }) => Observed::LocksFrozen(receipt(of)),
        Err(LockError::Locked { receipt: of, conflicts, .. }) => Observed::LocksLocked(receipt(of), owners(conflicts)),
        Err(LockError::ZeroLease { key, .. }) => Observed::ZeroLease(*key),
        Err(other) => panic!("{other:?}"),
    }
}

fn receipt(receipt: &LockReceipt<Key>) -> Receipt {
    Receipt {
        granted: sorted(receipt.granted.iter().map(|(key, token)| (*key, token.get()))),
        renewed: sorted(receipt.renewed.iter().map(|(key, token)| (*key, token.get()))),
        released: sorted(receipt.released.iter().copied()),
        not_held: sorted(receipt.not_held.iter().copied()),
        expired: sorted(receipt.expired.iter().copied()),
    }
}

fn owners(conflicts: &[Conflict<Key, Token>]) -> Vec<(Key, Token)> {
    sorted(conflicts.iter().map(|conflict| (conflict.key, conflict.owner)))
}

pub(super) fn flushed(answer: Result<state_dictionary::Delivery<Key, Value, S>, TryFlushError>) -> Observed {
    match answer {
        Ok(delivery) => Observed::Delivered(delivered(&delivery)),
        Err(TryFlushError::Empty) => Observed::Empty,
        Err(TryFlushError::Closed) => Observed::Closed,
    }
}

pub(super) fn delivered(delivery: &state_dictionary::Delivery<Key, Value, S>) -> Delivery {
    let in_order = |updates: Updates<'_, Key, Value>| updates.map(|(key, entry)| (*key, **entry)).collect::<Vec<_>>();
    let all = in_order(delivery.updates());
    for done in 0..=all.len() {
        let mut updates = delivery.updates();
        updates.by_ref().take(done).for_each(drop);
        assert_eq!(in_order(updates.clone()), all[done..], "a clone in the middle gives the rest");
        assert_eq!(in_order(updates), all[done..], "what was cloned in the middle gives the rest");
    }
    Delivery {
        fresh: delivery.is_full(),
        from: delivery.since().get(),
        to: delivery.revision().get(),
        updates: entries(delivery.updates()),
        removals: sorted(delivery.removals().copied()),
    }
}

pub(super) fn ended(end: state_dictionary::SessionSummary<Key, Token>) -> SessionSummary {
    let not_removed = end.not_removed.into_iter().map(|(key, not_removed)| match not_removed {
        state_dictionary::NotRemoved::Locked { owner, .. } => (key, NotRemoved::Locked(owner)),
        state_dictionary::NotRemoved::Frozen => (key, NotRemoved::Frozen),
        state_dictionary::NotRemoved::Deferred => (key, NotRemoved::Deferred),
        other => panic!("{other:?}"),
    });
    let (released, removed) = (sorted(end.released), sorted(end.removed));
    SessionSummary { revision: end.revision.get(), released, removed, not_removed: sorted(not_removed) }
}

pub(super) fn commits_flushed(feed: &Feed) -> Observed {
    let after = feed.position().revision.get();
    let flushed = feed.try_flush();
    let ended = matches!(flushed, Err(TryFlushError::Closed));
    let (lagged, commits) = match flushed {
        Ok(CommitDelivery { full, lagged, commits, .. }) => {
            assert!(!full, "the feed was to begin where it can");
            (lagged, commits)
        }
        Err(_) => (None, Vec::new()),
    };
    let commits = commits.into_iter().map(|commit| Commit {
        revision: commit.revision.get(),
        token: commit.token,
        change: commit.change.operations().map(|(key, value)| (*key, value.map(|value| **value))).collect(),
    });
    Observed::Commits(Commits {
        after,
        to: feed.position().revision.get(),
        lagged: lagged.map(|(after, to)| (after.get(), to.get())),
        kept: commits.collect(),
        ended,
    })
}

pub(super) fn locks_flushed(answer: Result<LockDelivery<Key, Token>, TryFlushError>) -> Observed {
    match answer {
        Ok(LockDelivery::Full { revision, locks, .. }) => {
            let locks = locks.into_iter().map(|(key, lock)| (key, lock.owner, lock.fencing_token.get()));
            Observed::EveryLock(revision.get(), sorted(locks))
        }
        Ok(LockDelivery::Events(events)) => {
            let told = |event: LockEvent<Key, Token>| {
                let kind = match event.kind {
                    LockEventKind::Granted => Kind::Granted,
                    LockEventKind::Released => Kind::Released,
                    LockEventKind::Expired => Kind::Expired,
                    LockEventKind::Cleared => Kind::Cleared,
                    other => panic!("{other:?}"),
                };
                let (key, owner, token) = (event.key, event.owner, event.fencing_token.get());
                Event {
                    version: event.version,
                    revision: event.revision.get(),
                    told: LockChange { kind, key, owner, token },
                }
            };
            Observed::LockEvents(events.into_iter().map(told).collect())
        }
        Err(TryFlushError::Empty) => Observed::Empty,
        Err(TryFlushError::Closed) => Observed::Closed,
    }
}

pub(super) fn whole(content: &Snapshot<Key, Value, S>) -> Observed {
    Observed::Content(content.revision().get(), entries(content.entries()))
}

fn entries<'a>(entries: impl Iterator<Item = (&'a Key, &'a Versioned<Value>)>) -> Vec<(Key, Value, u64)> {
    sorted(entries.map(|(key, entry)| (*key, **entry, entry.revision().get())))
}

pub(super) fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}
