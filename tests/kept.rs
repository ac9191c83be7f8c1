//! What old handles keep alive: their own content, and nothing of the commits and lock events that the dictionary keeps.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::within_a_minute;
use state_dictionary::{
    BufferOptions, Change, FlushError, LockDelivery, LockRequest, Revision, StateDictionary, Tombstones,
};
use std::sync::Arc;

/// A value or a token. Every clone counts until it is dropped.
#[derive(Clone, Debug)]
struct Counted {
    number: usize,
    _alive: Arc<()>,
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

type Dictionary = StateDictionary<&'static str, Counted, Counted>;

const COMMITS: usize = 8_000;

/// A dictionary that keeps all that it can keep, with counters of its values and of its tokens.
struct Kept {
    dictionary: Dictionary,
    values: Arc<()>,
    tokens: Arc<()>,
}

impl Kept {
    fn new(history: usize) -> Self {
        let dictionary =
            StateDictionary::builder().history_limit(history).commit_history(true).lock_history_limit(history).build();
        Self { dictionary, values: Arc::default(), tokens: Arc::default() }
    }

    fn token(&self, number: usize) -> Counted {
        Counted { number, _alive: Arc::clone(&self.tokens) }
    }

    fn change(&self, number: usize) -> Change<&'static str, Counted> {
        Change::new().set("a", Counted { number, _alive: Arc::clone(&self.values) })
    }

    /// So many commits of one key, each with a lock that is granted and released.
    fn commit(&self, commits: usize) {
        for number in 0..commits {
            let token = self.token(number);
            assert!(self.dictionary.update_locks(&token, LockRequest::new().acquire("a", None)).is_ok());
            assert!(self.dictionary.update_state(&token, self.change(number)).is_ok());
            self.dictionary.release_all(&token);
        }
    }

    fn alive(&self) -> (usize, usize) {
        (Arc::strong_count(&self.values) - 1, Arc::strong_count(&self.tokens) - 1)
    }

    /// How many values and tokens are alive when the dictionary is gone and only `handle` is left.
    fn left_with<H>(self, handle: &H) -> (usize, usize) {
        let Self { dictionary, values, tokens } = self;
        drop(dictionary);
        let left = (Arc::strong_count(&values) - 1, Arc::strong_count(&tokens) - 1);
        let _ = handle;
        left
    }
}

#[test]
fn the_dictionary_itself_keeps_its_history() {
    let kept = Kept::new(2 * COMMITS);
    kept.commit(COMMITS);
    let (values, tokens) = kept.alive();
    assert!(values >= COMMITS && tokens >= 3 * COMMITS, "one of a commit, two of lock events: {values}, {tokens}");
    assert_eq!(kept.left_with(&()), (0, 0));
}

#[test]
fn a_snapshot_keeps_its_content_alone() {
    let kept = Kept::new(2 * COMMITS);
    kept.commit(COMMITS);
    let snapshot = kept.dictionary.snapshot();
    let copies = (snapshot.clone(), kept.dictionary.wait_for_revision(Revision::from(7)).unwrap());
    assert_eq!(kept.left_with(&(&snapshot, copies)), (1, 0));
    assert_eq!(snapshot["a"].number, COMMITS - 1);
}

#[test]
fn an_old_snapshot_keeps_only_its_own_content_during_later_commits() {
    const HISTORY: usize = 100;
    let kept = Kept::new(HISTORY);
    kept.commit(COMMITS);
    let snapshots: Vec<_> = (0..20)
        .map(|_| {
            kept.commit(5 * HISTORY);
            kept.dictionary.snapshot()
        })
        .collect();
    kept.commit(5 * HISTORY);
    let (values, tokens) = kept.alive();
    // The history itself, the present and the spare root, and one value for each snapshot.
    assert!(values <= 2 * HISTORY + 2 + snapshots.len(), "{values}");
    assert!(tokens <= 2 * 2 * HISTORY + 4, "{tokens}");
    assert_eq!(kept.left_with(&snapshots), (20, 0));
}

#[test]
fn a_snapshot_kept_by_a_closure_or_of_a_guard_keeps_its_content_alone() {
    let kept = Kept::new(2 * COMMITS);
    kept.commit(COMMITS);
    let mut snapshot = None;
    let modified = kept.dictionary.update_state_with(&kept.token(1), |content| {
        snapshot = Some((content.clone(), content.clone().clone()));
        Change::new()
    });
    assert!(modified.is_ok());
    let guard = kept.dictionary.lock_content().unwrap();
    let of_the_guard = guard.clone();
    drop(guard);
    assert_eq!(kept.left_with(&(snapshot, of_the_guard)), (1, 0));
}

#[test]
fn a_content_guard_keeps_no_lock_events() {
    const HISTORY: usize = 1_000;
    let kept = Kept::new(HISTORY);
    kept.commit(3 * HISTORY);
    let mut guard = kept.dictionary.lock_content().unwrap();
    let lock_and_release = || {
        for number in 0..3 * HISTORY {
            assert!(kept.dictionary.update_locks(&kept.token(number), LockRequest::new().acquire("a", None)).is_ok());
            kept.dictionary.release_all(&kept.token(number));
        }
    };
    lock_and_release();
    // Kept commits have a token each as well.
    let (_, tokens) = kept.alive();
    assert!(tokens <= 2 * HISTORY + 2 * HISTORY + 10, "{tokens}");
    // And after a write through the guard.
    assert!(guard.update_state(&kept.token(0), kept.change(0)).is_ok());
    lock_and_release();
    let (_, tokens) = kept.alive();
    assert!(tokens <= 2 * HISTORY + 2 * HISTORY + 10, "{tokens}");
}

#[test]
fn a_delivery_keeps_its_content_alone() {
    let kept = Kept::new(2 * COMMITS);
    let (buffer, late) = (kept.dictionary.change_buffer(), kept.dictionary.change_buffer());
    kept.commit(COMMITS / 2);
    let first = buffer.flush().unwrap();
    drop(first);
    kept.commit(COMMITS / 2);
    let later = buffer.flush().unwrap();
    let whole = late.flush().unwrap();
    drop((buffer, late));
    assert_eq!(kept.left_with(&(&later, &whole, whole.clone())), (1, 0));
    assert_eq!((later.count(), whole.count()), (1, 1));
    assert_eq!(later.updates().next().unwrap().1.number, COMMITS / 2 - 1);
}

#[test]
fn a_delivery_of_a_buffer_that_lagged_keeps_both_its_contents() {
    let kept = Kept::new(10);
    let buffer = kept.dictionary.change_buffer();
    kept.commit(1_000);
    drop(buffer.flush());
    kept.commit(1_000);
    let compared = buffer.flush().unwrap();
    kept.commit(1_000);
    drop(buffer);
    assert_eq!(kept.left_with(&(compared.updates(), &compared)), (2, 0), "from, and to");
}

#[test]
fn deliveries_that_resume_or_have_all_tombstones_keep_their_content_alone() {
    let kept = Kept::new(2 * COMMITS);
    kept.commit(1);
    let seen = kept.dictionary.position();
    let options = BufferOptions::new().tombstones(Tombstones::Always).resume(seen);
    let resumed = kept.dictionary.change_buffer_with(options.clone());
    kept.commit(COMMITS);
    // Its buffer lives on, and is not flushed again.
    let resumed = resumed.try_flush().unwrap();
    let elsewhere = Dictionary::builder().build().position();
    let refused = kept.dictionary.change_buffer_with(options.resume(elsewhere)).try_flush().unwrap();
    assert!(!resumed.is_full() && refused.is_full());
    assert_eq!(kept.left_with(&(resumed, refused)), (1, 0));
}

#[test]
fn a_frozen_buffer_keeps_the_content_it_ends_with_and_an_ended_one_nothing() {
    let kept = Kept::new(2 * COMMITS);
    kept.commit(COMMITS / 2);
    let (looked, never_looked) = (kept.dictionary.change_buffer(), kept.dictionary.change_buffer());
    drop(looked.flush());
    kept.commit(1);
    assert!(looked.close() && never_looked.close());
    kept.commit(COMMITS / 2);
    let (values, tokens) = (Arc::downgrade(&kept.values), Arc::downgrade(&kept.tokens));
    let alive = || (values.strong_count(), tokens.strong_count());
    assert_eq!(
        kept.left_with(&(&looked, &never_looked)),
        (2, 0),
        "what one of them has looked at, and the end of both"
    );
    let (last, end) = (looked.flush().unwrap(), never_looked.flush().unwrap());
    assert_eq!((last.count(), end.count(), alive()), (1, 1, (1, 0)));
    drop((last, end));
    assert_eq!(alive(), (0, 0));
    assert_eq!((looked.flush().unwrap_err(), never_looked.flush().unwrap_err()), (FlushError, FlushError));
}

#[test]
fn feeds_that_have_ended_keep_nothing() {
    let kept = Kept::new(2 * COMMITS);
    let (buffer, commits, late) =
        (kept.dictionary.change_buffer(), kept.dictionary.commit_feed(), kept.dictionary.commit_feed());
    let (locks, late_locks) = (kept.dictionary.lock_feed(), kept.dictionary.lock_feed());
    assert!(locks.try_flush().is_ok());
    kept.commit(COMMITS);
    assert!(late.try_flush().is_ok_and(|delivery| delivery.commits.len() == COMMITS));
    let (values, tokens) = (Arc::downgrade(&kept.values), Arc::downgrade(&kept.tokens));
    let (left, _) = kept.left_with(&buffer);
    assert!(left >= COMMITS, "what the feed of commits has to deliver: {left}");
    assert_eq!(buffer.flush().map(|delivery| delivery.count()), Ok(1));
    assert_eq!(commits.flush().map(|delivery| delivery.commits.len()).ok(), Some(COMMITS));
    assert_eq!(late.flush().map(|_| ()), Err(FlushError));
    assert!(matches!(locks.flush(), Ok(LockDelivery::Events(events)) if events.len() == 2 * COMMITS));
    assert!(locks.flush().is_err() && late_locks.flush().is_err());
    assert_eq!((values.strong_count(), tokens.strong_count()), (0, 0));
}

#[test]
fn a_commit_that_is_refused_or_larger_than_the_history_leaves_nothing() {
    within_a_minute(|| {
        let kept = Kept::new(2);
        let large = (0..3)
            .fold(Change::new(), |change, _| change.set("a", Counted { number: 0, _alive: Arc::clone(&kept.values) }));
        assert!(kept.dictionary.update_state(&kept.token(0), large).is_ok());
        assert_eq!(kept.alive(), (1, 0), "one commit of three operations is not kept");
        let refused = kept.dictionary.update_state(&kept.token(0), kept.change(1).if_absent("a"));
        drop(refused);
        assert_eq!(kept.alive(), (1, 0));
    });
}
