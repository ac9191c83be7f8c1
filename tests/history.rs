//! How far back the histories reach: of touched keys, of commits, of lock events. At the limit exactly, and across it.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{Dictionary, parts};
use state_dictionary::{
    BufferOptions, Change, CommitFeed, FeedOptions, LockDelivery, LockRequest, Position, StateDictionary, TryFlushError,
};

const LIMIT: usize = 5;
const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn dictionary() -> Dictionary {
    StateDictionary::builder().history_limit(LIMIT).commit_history(true).lock_history_limit(LIMIT).build()
}

fn set_first(keys: usize) -> Change<&'static str, i32> {
    KEYS[..keys].iter().fold(Change::new(), |change, key| change.set(*key, 1))
}

/// A commit that touches so many keys, each once.
type Commit = fn(&Dictionary, usize);

const COMMITS: [(&str, Commit); 3] = [
    ("a change that sets", |dictionary, keys| assert!(dictionary.update_state(&"ada", set_first(keys)).is_ok())),
    ("a change that removes", |dictionary, keys| {
        let change = KEYS[..keys].iter().fold(Change::new(), |change, key| change.remove(*key));
        assert!(dictionary.update_state(&"ada", change).is_ok());
    }),
    ("the end of a session", |dictionary, keys| {
        let end = ENDING.with_borrow_mut(Option::take).unwrap().end();
        assert_eq!((end.removed.len(), dictionary.revision()), (keys, end.revision));
    }),
];

thread_local! {
    /// The session that ends next. It has its keys since before what is looked at.
    static ENDING: std::cell::RefCell<Option<state_dictionary::Session<&'static str, i32, &'static str>>> =
        const { std::cell::RefCell::new(None) };
}

/// A dictionary with a session of so many keys.
fn with_session(keys: usize) -> Dictionary {
    let dictionary = dictionary();
    let mut session = dictionary.session("ada");
    assert!(session.update_ephemeral(set_first(keys)).is_ok());
    ENDING.set(Some(session));
    dictionary
}

/// Whether a client can still resume from there.
fn can_resume(dictionary: &Dictionary, from: Position) -> bool {
    let buffer = dictionary.change_buffer_with(BufferOptions::new().resume(from));
    buffer.try_flush().is_ok_and(|delivery| !delivery.is_full())
}

/// Whether the histories have room for so many keys at once.
fn fits(keys: usize) -> bool {
    keys <= LIMIT
}

/// How many commits after that position are kept, and whether some were missed.
fn kept(dictionary: &Dictionary, after: Position) -> (usize, bool) {
    let feed: CommitFeed<_, _, _> = dictionary.commit_feed_with(FeedOptions::new().resume(after));
    let delivery = feed.try_flush().unwrap();
    let revisions = delivery.commits.iter().map(|commit| commit.revision.get());
    let last = dictionary.revision().get() + 1;
    assert!(
        revisions.eq(last - delivery.commits.len() as u64..last),
        "a gap that is not reported: {:?}",
        delivery.commits
    );
    if let Some((from, to)) = delivery.lagged {
        assert_eq!(from, after.revision);
        let first = delivery.commits.first().map_or(dictionary.revision().get() + 1, |commit| commit.revision.get());
        assert_eq!(to.get() + 1, first, "what was missed and what is kept join");
    }
    assert_eq!(feed.position(), dictionary.position());
    (delivery.commits.len(), delivery.lagged.is_some())
}

#[test]
fn a_commit_of_exactly_the_limit_is_kept_and_a_larger_one_ends_the_history() {
    for (what, commit) in COMMITS {
        for keys in [LIMIT - 1, LIMIT, LIMIT + 1] {
            let dictionary = with_session(keys);
            let earlier = dictionary.position();
            assert!(dictionary.update_state(&"ben", Change::new().set("z", 1)).is_ok());
            assert_eq!(kept(&dictionary, earlier), (1, false));
            let (buffer, before) = (dictionary.change_buffer(), dictionary.position());
            drop(buffer.try_flush());
            commit(&dictionary, keys);
            if !fits(keys) {
                assert_eq!(kept(&dictionary, earlier), (0, true), "{what}, {keys} keys");
            }
            assert_eq!(dictionary.revision().get(), before.revision.get() + 1);
            let removes = what != "a change that sets";
            let fits = fits(keys);
            let resumable = dictionary.change_buffer_with(BufferOptions::new().resume(before)).try_flush();
            let delivery = resumable.unwrap();
            assert_eq!(delivery.is_full(), !fits, "{what}, {keys} keys");
            if fits {
                let (updates, removals) = parts(&delivery);
                assert_eq!((updates.len(), removals.len()), if removes { (0, keys) } else { (keys, 0) });
            }
            assert_eq!(kept(&dictionary, before), (usize::from(fits), !fits), "{what}, {keys} keys");
            // What comes next joins on it.
            let after = dictionary.position();
            assert!(dictionary.update_state(&"ada", set_first(1)).is_ok());
            assert!(can_resume(&dictionary, after), "{what}, {keys} keys");
            assert_eq!(can_resume(&dictionary, before), fits, "{what}, {keys} keys");
            assert_eq!(kept(&dictionary, after), (1, false));
            assert_eq!(kept(&dictionary, before), (1 + usize::from(fits), !fits), "{what}, {keys} keys");
            // And a buffer that was there before has everything, one way or the other.
            let delivery = buffer.try_flush().unwrap();
            assert_eq!(parts(&delivery).0.len(), if removes { 1 } else { keys });
            if !fits {
                assert_eq!(kept(&dictionary, earlier), (1, true), "{what}, {keys} keys");
            }
        }
    }
}

#[test]
fn as_many_keys_as_the_limit_are_always_remembered_and_never_more_than_twice_as_many() {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut within, mut beyond) = (0, 0);
    for _ in 0..300 {
        let dictionary = dictionary();
        let mut commits: Vec<(Position, usize)> = Vec::new();
        for _ in 0..12 {
            let (before, keys) = (dictionary.position(), random.usize(1..=LIMIT + 1));
            if random.bool() {
                let mut session = dictionary.session("ben");
                assert!(session.update_ephemeral(set_first(keys)).is_ok());
                commits.push((before, keys));
                commits.push((dictionary.position(), keys));
                assert_eq!(session.end().removed.len(), keys);
            } else {
                let change = KEYS[..keys].iter().fold(Change::new(), |change, key| change.set(*key, 1).remove(*key));
                assert!(dictionary.update_state(&"ada", change.clone()).is_ok());
                commits.push((before, keys));
            }
            for index in 0..commits.len() {
                let since = &commits[index..];
                let touched: usize = since.iter().map(|(_, keys)| keys).sum();
                let too_large = since.iter().any(|(_, keys)| *keys > LIMIT);
                let buffer = dictionary.change_buffer_with(BufferOptions::new().resume(since[0].0));
                let refused = buffer.try_flush().is_ok_and(|delivery| delivery.is_full());
                if too_large {
                    assert!(refused);
                } else if touched <= LIMIT {
                    assert!(!refused, "{touched} keys");
                    within += 1;
                } else if touched > 2 * LIMIT {
                    assert!(refused, "{touched} keys");
                    beyond += 1;
                }
            }
        }
    }
    assert!(within > 1_000 && beyond > 1_000, "{within}, {beyond}");
}

#[test]
fn a_kept_commit_counts_the_operations_that_it_names() {
    let dictionary = dictionary();
    for (operations, fits) in [(LIMIT, true), (LIMIT + 1, false)] {
        let before = dictionary.position();
        let change =
            (0..operations).fold(Change::new(), |change, number| change.set("a", i32::try_from(number).unwrap()));
        assert!(dictionary.update_state(&"ada", change).is_ok());
        assert_eq!(kept(&dictionary, before), (usize::from(fits), !fits), "{operations} operations");
        assert!(can_resume(&dictionary, before), "they touch one key");
    }
}

#[test]
fn so_many_lock_events_at_once_as_the_limit_are_kept_and_one_more_ends_the_history() {
    for locks in [LIMIT - 1, LIMIT, LIMIT + 1] {
        let request = KEYS[..locks].iter().fold(LockRequest::new(), |request, key| request.acquire(*key, None));
        let dictionary = with_session(0);
        let following = || {
            let feed = dictionary.lock_feed();
            assert!(feed.try_flush().is_ok());
            feed
        };
        let feed = following();
        assert!(dictionary.update_locks(&"ada", request).is_ok());
        let told = |locks_left: usize| match feed.try_flush().unwrap() {
            LockDelivery::Events(events) => assert_eq!((events.len(), locks <= LIMIT), (locks, true)),
            LockDelivery::Full { locks: all, .. } => assert_eq!((all.len(), locks > LIMIT), (locks_left, true)),
        };
        told(locks);
        assert_eq!(ENDING.with_borrow_mut(Option::take).unwrap().end().released.len(), locks);
        told(0);
        assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    }
}
