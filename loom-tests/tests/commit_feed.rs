//! The feed of single commits against commits and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, actor, explore, explore_bounded, join};
use state_dictionary::{Change, CommitDelivery, CommitFeed, FlushError, StateDictionary};
use std::sync::Arc;

fn keeping(history_limit: usize) -> Arc<Dictionary> {
    Arc::new(StateDictionary::builder().commit_history(true).history_limit(history_limit).build())
}

/// What a feed has delivered for each revision, in order: the token and the key that was set, or nothing if it was
/// missed.
#[derive(Default)]
struct Told(Vec<Option<(char, u8)>>);

impl Told {
    fn add(&mut self, CommitDelivery { lagged, commits, .. }: CommitDelivery<u8, u32, char>) {
        assert!(lagged.is_some() || !commits.is_empty());
        if let Some((after, up_to)) = lagged {
            assert_eq!(after.get(), self.0.len() as u64);
            assert!(up_to > after);
            self.0.resize(usize::try_from(up_to.get()).unwrap(), None);
        }
        for commit in commits {
            assert_eq!(commit.revision.get(), self.0.len() as u64 + 1, "a commit is reported twice, or one is not");
            assert_eq!(commit.change.len(), 1);
            let key = commit.change.operations().next().unwrap().0;
            self.0.push(Some((commit.token, *key)));
        }
    }
}

/// Invariant: a feed that waits is woken, and delivers each commit once, with its token.
#[test]
fn waiting_commit_feed_against_two_writers() {
    explore_bounded("waiting_commit_feed_against_two_writers", 2, 4000, || {
        let dictionary = keeping(2);
        let feed = dictionary.commit_feed();
        let follower = actor(&dictionary, move |_| {
            let mut told = Told::default();
            while told.0.len() < 2 {
                told.add(feed.flush().unwrap());
            }
            told.0
        });
        let writers = [('a', 1), ('b', 2)].map(|(token, key)| {
            actor(&dictionary, move |d| d.update_state(&token, Change::new().set(key, 0)).unwrap())
        });
        let [first, _] = writers.map(join);
        let mut expected = [Some(('a', 1)), Some(('b', 2))];
        if first.get() == 2 {
            expected.reverse();
        }
        assert_eq!(join(follower), expected);
    });
}

/// Invariant: a feed that lags behind the history reports which commits it missed, and no others.
#[test]
fn commit_feed_against_commits_beyond_the_history() {
    explore("commit_feed_against_commits_beyond_the_history", 130, || {
        let dictionary = keeping(1);
        let feed = dictionary.commit_feed();
        let writer = actor(&dictionary, |d| {
            for key in 1..=4 {
                d.update_state(&'a', Change::new().set(key, 0)).unwrap();
            }
        });
        let follower = actor(&dictionary, move |_| {
            let mut told = Told::default();
            for _ in 0..2 {
                if let Ok(delivery) = feed.try_flush() {
                    told.add(delivery);
                }
            }
            (feed, told)
        });
        join(writer);
        let (feed, mut told) = join(follower);
        if let Ok(delivery) = feed.try_flush() {
            told.add(delivery);
        }
        assert_eq!((told.0.len(), feed.position().revision.get()), (4, 4));
        let right = (1..).zip(&told.0).all(|(key, told)| told.is_none_or(|told| told == ('a', key)));
        assert!(right, "{:?}", told.0);
        assert!(told.0[3].is_some(), "the newest commit is on the history");
    });
}

/// Invariant: a feed reports every commit before the freeze, and then that it has ended.
#[test]
fn commit_feed_against_commit_and_freeze() {
    explore_bounded("commit_feed_against_commit_and_freeze", 2, 2500, || {
        let dictionary = keeping(2);
        let feed = dictionary.commit_feed();
        let follower = actor(&dictionary, move |_| {
            let mut told = Told::default();
            while let Ok(delivery) = feed.flush() {
                told.add(delivery);
            }
            told.0.len()
        });
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(1, 0)).is_ok());
        let freezer = actor(&dictionary, Dictionary::freeze);
        let committed = join(writer);
        assert!(join(freezer));
        assert_eq!(join(follower), usize::from(committed));
    });
}

/// Invariant: of two threads that flush a feed, each commit is delivered to one.
#[test]
fn two_commit_flushes_against_commit() {
    explore("two_commit_flushes_against_commit", 100, || {
        let dictionary = keeping(4);
        let feed = Arc::new(dictionary.commit_feed());
        dictionary.update_state(&'a', Change::new().set(1, 0)).unwrap();
        let flush = |feed: &CommitFeed<u8, u32, char>| {
            let delivered = feed.try_flush().map(|delivery| delivery.commits).unwrap_or_default();
            delivered.into_iter().map(|commit| commit.revision.get()).collect::<Vec<_>>()
        };
        let followers = [(); 2].map(|()| actor(&feed, flush));
        dictionary.update_state(&'a', Change::new().set(2, 0)).unwrap();
        let mut delivered = followers.map(join).concat();
        delivered.extend(flush(&feed));
        delivered.sort_unstable();
        assert_eq!(delivered, [1, 2]);
    });
}

/// Invariant: closing a feed wakes a thread that waits in a flush of it.
#[test]
fn waiting_commit_flush_against_close() {
    explore("waiting_commit_flush_against_close", 10, || {
        let dictionary = keeping(4);
        let feed = Arc::new(dictionary.commit_feed());
        let follower = actor(&feed, |feed| feed.flush().map(drop));
        assert!(feed.close() && feed.is_closed());
        assert_eq!(join(follower), Err(FlushError));
    });
}

/// Invariant: what was committed before the close is delivered, and nothing that was committed after.
#[test]
fn commit_flush_against_close_and_commit() {
    explore("commit_flush_against_close_and_commit", 100, || {
        let dictionary = keeping(4);
        let feed = Arc::new(dictionary.commit_feed());
        let closer = {
            let feed = Arc::clone(&feed);
            actor(&dictionary, move |d| {
                d.update_state(&'a', Change::new().set(1, 0)).unwrap();
                assert!(feed.close());
                d.update_state(&'b', Change::new().set(2, 0)).unwrap();
            })
        };
        let mut told = Told::default();
        while let Ok(delivery) = feed.flush() {
            told.add(delivery);
        }
        join(closer);
        assert_eq!(told.0, [Some(('a', 1))]);
    });
}
