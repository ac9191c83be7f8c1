//! Following single commits.

mod common;

use common::{Dictionary, SECOND, set, spawn_waiting, within_a_minute};
use state_dictionary::{
    Change, CommitDelivery, CommitFeed, FeedOptions, FlushError, FlushTimeoutError, Position, Revision,
    StateDictionary, TryFlushError, Versioned,
};
use std::sync::Arc;
use std::time::Duration;
use std::{panic, thread};

type Delivered = CommitDelivery<&'static str, i32, &'static str>;

fn keeping(history_limit: usize) -> Dictionary {
    StateDictionary::builder().history_limit(history_limit).commit_history(true).build()
}

fn missed(delivery: &Delivered) -> Option<(u64, u64)> {
    delivery.lagged.map(|(from, to)| (from.get(), to.get()))
}

fn revisions(delivery: &Delivered) -> Vec<u64> {
    delivery.commits.iter().map(|commit| commit.revision.get()).collect()
}

fn tokens(delivery: &Delivered) -> Vec<&'static str> {
    delivery.commits.iter().map(|commit| commit.token).collect()
}

#[test]
fn every_commit_comes_with_its_token_and_as_it_was_made() {
    let dictionary = keeping(100);
    dictionary.update_state(&"before", set("z", 0)).unwrap();
    let feed = dictionary.commit_feed();
    assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Empty);
    let changes = [set("a", 1), set("a", 2).remove("a").set("a", 3), Change::new().remove("a").remove("b")];
    dictionary.update_state(&"alice", changes[0].clone().if_absent("a")).unwrap();
    dictionary.update_state(&"bob", changes[1].clone()).unwrap();
    dictionary.update_state(&"alice", changes[2].clone()).unwrap();
    dictionary.update_state(&"carol", Change::new()).unwrap();
    dictionary.update_state(&"carol", set("a", 1).if_present("a")).unwrap_err();

    let delivery = feed.try_flush().unwrap();
    assert_eq!(missed(&delivery), None);
    assert_eq!((revisions(&delivery), tokens(&delivery)), (vec![2, 3, 4], vec!["alice", "bob", "alice"]));
    let told: Vec<_> = delivery.commits.iter().map(|commit| &commit.change).collect();
    assert_eq!(told, changes.iter().collect::<Vec<_>>(), "conditions were checked, and are not delivered");
    assert_eq!(feed.position(), dictionary.position());
    assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Empty);
    assert_eq!(feed.flush_timeout(Duration::ZERO).unwrap_err(), FlushTimeoutError::TimedOut);
}

#[test]
fn commits_of_closures_guards_and_ended_sessions_are_delivered_too() {
    let dictionary = keeping(100);
    let feed = dictionary.commit_feed();
    dictionary.update_state_with(&"closure", |_| set("a", 1)).unwrap();
    dictionary.lock_content().unwrap().update_state(&"guard", set("a", 2)).unwrap();
    let mut session = dictionary.session("session");
    session.update_ephemeral(set("b", 1)).unwrap();
    session.end();
    let delivery = feed.try_flush().unwrap();
    assert_eq!(tokens(&delivery), ["closure", "guard", "session", "session"]);
    assert_eq!(delivery.commits[3].change, Change::new().remove("b"));
}

#[test]
fn a_feed_that_lagged_reports_what_it_missed() {
    let dictionary = keeping(2);
    let (feed, quick) = (dictionary.commit_feed(), dictionary.commit_feed());
    for value in 0..7 {
        dictionary.update_state(&"alice", set("a", value)).unwrap();
        let delivery = quick.try_flush().unwrap();
        assert_eq!((missed(&delivery), delivery.commits.len()), (None, 1));
    }
    let delivery = feed.try_flush().unwrap();
    let (from, to) = missed(&delivery).unwrap();
    assert_eq!(from, 0);
    assert_eq!(revisions(&delivery), (to + 1..=7).collect::<Vec<_>>(), "joins on what was missed");
    assert!(to <= 5, "at least as many keys as the limit says are kept");
    // A commit larger than the history is missed as well, whoever was quick.
    dictionary.update_state(&"alice", set("a", 1).set("b", 1).set("c", 1)).unwrap();
    let delivery = quick.try_flush().unwrap();
    assert_eq!((missed(&delivery), delivery.commits.len()), (Some((7, 8)), 0));
}

#[test]
fn without_kept_commits_everything_is_missed() {
    let dictionary = Dictionary::new();
    let feed = dictionary.commit_feed();
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    let delivery = feed.try_flush().unwrap();
    assert_eq!((missed(&delivery), delivery.commits.len()), (Some((0, 1)), 0));
    assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Empty);
}

#[test]
fn a_feed_can_begin_in_the_past_or_in_the_future() {
    let dictionary: Dictionary = StateDictionary::builder().commit_history(true).content([("z", 0)]).build();
    for value in 0..3 {
        dictionary.update_state(&"alice", set("a", value)).unwrap();
    }
    let at = |revision| Position { store: dictionary.id(), revision: Revision::from(revision) };
    let after = |revision| dictionary.commit_feed_with(FeedOptions::new().resume(at(revision))).try_flush();
    assert_eq!(revisions(&after(2).unwrap()), [3, 4]);
    let from_the_beginning = after(0).unwrap();
    assert_eq!(missed(&from_the_beginning), Some((0, 1)), "initial content has no token");
    assert_eq!(revisions(&from_the_beginning), [2, 3, 4]);
    assert!(after(4).is_err() && !after(0).unwrap().full);
}

#[test]
fn a_feed_that_cannot_resume_begins_at_the_beginning_and_reports_it() {
    let dictionary = keeping(100);
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    let Position { store, revision } = dictionary.position();
    let future = Position { store, revision: Revision::from(revision.get() + 1) };
    for position in [future, Dictionary::new().position()] {
        let feed = dictionary.commit_feed_with(FeedOptions::new().resume(position));
        let delivery = feed.try_flush().unwrap();
        assert!(delivery.full && delivery.lagged.is_none());
        assert_eq!(revisions(&delivery), [1]);
        assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Empty, "once");
    }
    // After a restart, before anything is committed.
    let empty = keeping(100);
    let feed = empty.commit_feed_with(FeedOptions::new().resume(dictionary.position()));
    let delivery = feed.try_flush().unwrap();
    assert!(delivery.full && delivery.commits.is_empty());
    assert_eq!(feed.try_flush().unwrap_err(), TryFlushError::Empty);
}

#[test]
fn commits_are_kept_up_to_a_number_of_operations_however_few_keys_they_name() {
    let dictionary = keeping(2);
    let feed = dictionary.commit_feed();
    dictionary.update_state(&"alice", set("a", 1).set("a", 2).set("a", 3)).unwrap();
    let delivery = feed.try_flush().unwrap();
    assert_eq!((missed(&delivery), delivery.commits.len()), (Some((0, 1)), 0));
}

#[test]
fn a_waiting_feed_is_woken_by_a_commit_and_by_the_end() {
    within_a_minute(|| {
        let dictionary = keeping(100);
        let feed = dictionary.commit_feed();
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || (feed.flush().map(|delivery| revisions(&delivery)), feed));
            dictionary.update_state(&"alice", set("a", 1)).unwrap();
            let (first, feed) = waiting.join().unwrap();
            assert_eq!(first, Ok(vec![1]));
            let waiting = spawn_waiting(scope, move || feed.flush().map(|delivery| revisions(&delivery)));
            dictionary.freeze();
            assert_eq!(waiting.join().unwrap(), Err(FlushError));
        });
        drop(dictionary);
    });
}

#[test]
fn what_was_committed_before_the_end_is_delivered_and_then_the_feed_ends() {
    let dictionary = keeping(100);
    let feed = dictionary.commit_feed();
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    drop(dictionary);
    assert_eq!(revisions(&feed.flush().unwrap()), [1]);
    assert_eq!(feed.flush_timeout(SECOND).unwrap_err(), FlushTimeoutError::Closed);
}

#[test]
fn a_mirror_that_applies_every_commit_is_equal_at_every_revision() {
    let dictionary: StateDictionary<u8, u64, usize> = StateDictionary::builder().commit_history(true).build();
    let mirror: StateDictionary<u8, u64, usize> = StateDictionary::new();
    let feed = dictionary.commit_feed();
    within_a_minute(|| {
        thread::scope(|scope| {
            for writer in 0..3_usize {
                let dictionary = &dictionary;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(writer as u64);
                    for value in 0..500 {
                        let key = random.u8(0..5);
                        let change =
                            if random.bool() { Change::new().set(key, value) } else { Change::new().remove(key) };
                        dictionary.update_state(&writer, change).unwrap();
                    }
                });
            }
            let mut next = 1;
            while next <= 1500 {
                let delivery = feed.flush().unwrap();
                assert!(delivery.lagged.is_none());
                for commit in delivery.commits {
                    assert_eq!(commit.revision.get(), next, "each once, none left out");
                    assert_eq!(mirror.update_state(&commit.token, commit.change).unwrap(), commit.revision);
                    next += 1;
                }
            }
        });
    });
    let (here, there) = (mirror.snapshot(), dictionary.snapshot());
    assert_eq!(common::content(&here), common::content(&there));
    assert!(there.entries().all(|(key, entry)| here.entry(key).map(Versioned::revision) == Some(entry.revision())));
}

#[test]
fn a_token_whose_clone_panics_leaves_the_feed_where_it_was() {
    #[derive(Debug)]
    struct Token(Arc<()>);
    impl Clone for Token {
        fn clone(&self) -> Self {
            // While the test has none but the one in the dictionary and its own, cloning once more panics.
            assert!(Arc::strong_count(&self.0) < 3, "on purpose");
            Self(Arc::clone(&self.0))
        }
    }
    impl PartialEq for Token {
        fn eq(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0, &other.0)
        }
    }
    let dictionary: StateDictionary<u8, u8, Token> = StateDictionary::builder().commit_history(true).build();
    let feed: CommitFeed<u8, u8, Token> = dictionary.commit_feed();
    let token = Token(Arc::new(()));
    dictionary.update_state(&token, Change::new().set(1, 1)).unwrap();
    let another = Arc::clone(&token.0);
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(|| feed.try_flush().is_ok())).is_err());
    drop(another);
    assert_eq!(feed.try_flush().unwrap().commits.len(), 1);
}
