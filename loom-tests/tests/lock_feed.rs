//! The feed of locks against grants, releases, leases that expire, and freezing.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom::thread::JoinHandle;
use loom_tests::{Dictionary, acquire, actor, explore, explore_bounded, join, keys_of_two_shards};
use state_dictionary::{
    Change, FlushError, LockDelivery, LockError, LockEvent, LockEventKind, LockFeed, LockRequest, ManualClock,
    StateDictionary, TryFlushError,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);

type Feed = LockFeed<u8, u32, char>;
type Event = LockEvent<u8, char>;

/// A dictionary that remembers so many events, and its clock.
fn keeping(events: usize) -> (Arc<Dictionary>, ManualClock) {
    let clock = ManualClock::new();
    (Arc::new(StateDictionary::builder().clock(&clock).lock_history_limit(events).build()), clock)
}

/// A feed that has had its first delivery.
fn following(dictionary: &Dictionary) -> Feed {
    let feed = dictionary.lock_feed();
    assert!(matches!(feed.try_flush(), Ok(LockDelivery::Full { .. })));
    feed
}

fn lease(key: u8, lease: Duration) -> LockRequest<u8> {
    LockRequest::new().acquire(key, lease)
}

fn events(delivery: LockDelivery<u8, char>) -> Vec<Event> {
    match delivery {
        LockDelivery::Events(events) => events,
        LockDelivery::Full { version, .. } => panic!("lagged at version {version}"),
    }
}

/// Follows until the feed ends. All events.
fn until_the_end(feed: &Feed) -> Vec<Event> {
    let mut all = Vec::new();
    while let Ok(delivery) = feed.flush() {
        all.extend(events(delivery));
    }
    all
}

fn waiting(dictionary: &Arc<Dictionary>) -> JoinHandle<Vec<Event>> {
    let feed = following(dictionary);
    actor(dictionary, move |_| events(feed.flush().unwrap()))
}

fn told(events: &[Event]) -> Vec<(LockEventKind, u8, char)> {
    events.iter().map(|event| (event.kind, event.key, event.owner)).collect()
}

/// Invariant: a flush that waits is woken by a grant, and then reports it.
#[test]
fn waiting_lock_flush_against_grant() {
    explore("waiting_lock_flush_against_grant", 500, || {
        let (dictionary, _) = keeping(10);
        let follower = waiting(&dictionary);
        let locker = actor(&dictionary, |d| d.update_locks(&'b', acquire(&[0])).unwrap().granted[0].1);
        let token = join(locker);
        let events = join(follower);
        assert_eq!(told(&events), [(LockEventKind::Granted, 0, 'b')]);
        assert_eq!((events[0].fencing_token, events[0].version), (token, token.get()));
    });
}

/// Invariant: a flush that waits is woken by a release, and then reports it, with the token of the grant.
#[test]
fn waiting_lock_flush_against_release() {
    explore("waiting_lock_flush_against_release", 380, || {
        let (dictionary, _) = keeping(10);
        let token = dictionary.update_locks(&'b', acquire(&[0])).unwrap().granted[0].1;
        let follower = waiting(&dictionary);
        let owner = actor(&dictionary, |d| d.update_locks(&'b', LockRequest::new().release(0)).unwrap());
        join(owner);
        let events = join(follower);
        assert_eq!(told(&events), [(LockEventKind::Released, 0, 'b')]);
        assert_eq!(events[0].fencing_token, token);
        assert!(events[0].version > token.get());
    });
}

/// Invariant: of two feeds that wait for the same lock to expire, whose key is not touched, both deliver it, and it is
/// one event.
#[test]
fn two_waiting_lock_flushes_against_expiry() {
    explore_bounded("two_waiting_lock_flushes_against_expiry", 2, 43_000, || {
        let (dictionary, clock) = keeping(10);
        dictionary.update_locks(&'b', lease(0, TICK)).unwrap();
        let third = following(&dictionary);
        let followers = [(); 2].map(|()| waiting(&dictionary));
        let ticker = actor(&Arc::new(clock), |clock| clock.advance(TICK));
        join(ticker);
        let [first, second] = followers.map(join);
        assert_eq!(told(&first), [(LockEventKind::Expired, 0, 'b')]);
        assert_eq!(first, second);
        assert_eq!(third.try_flush(), Ok(LockDelivery::Events(first)));
        assert_eq!(third.try_flush(), Err(TryFlushError::Empty));
        assert!(dictionary.locks().is_empty());
    });
}

/// Invariant: a lock whose lease is renewed for a shorter time expires at the end of that.
#[test]
fn waiting_lock_flush_against_renewal_that_shortens_the_lease() {
    explore("waiting_lock_flush_against_renewal_that_shortens_the_lease", 3300, || {
        let (dictionary, clock) = keeping(10);
        dictionary.update_locks(&'b', lease(0, TICK * 10)).unwrap();
        let follower = waiting(&dictionary);
        let owner = actor(&dictionary, move |d| {
            assert_eq!(d.update_locks(&'b', lease(0, TICK)).unwrap().renewed.len(), 1);
            clock.advance(TICK);
        });
        join(owner);
        assert_eq!(told(&join(follower)), [(LockEventKind::Expired, 0, 'b')]);
    });
}

/// Invariant: whichever thread looks through all locks meanwhile, a lease that was granted is known to expire.
#[test]
fn lease_against_sweep() {
    let [first, second] = keys_of_two_shards();
    explore("lease_against_sweep", 150, move || {
        let (dictionary, clock) = keeping(10);
        dictionary.update_locks(&'c', acquire(&[second])).unwrap();
        let locker = actor(&dictionary, move |d| d.update_locks(&'b', lease(first, TICK)).unwrap());
        let sweeper = actor(&dictionary, |d| d.release_all(&'c').len());
        join(locker);
        assert_eq!(join(sweeper), 1);
        clock.advance(TICK);
        assert_eq!(dictionary.expire().locks, [(first, 'b')]);
    });
}

/// Invariant: a lock that a writer, a feed and an expiry come across at once has expired once.
#[test]
fn expired_lock_against_commit_feed_and_expiry() {
    explore_bounded("expired_lock_against_commit_feed_and_expiry", 2, 2000, || {
        let (dictionary, clock) = keeping(10);
        dictionary.update_locks(&'b', lease(0, TICK)).unwrap();
        let feed = following(&dictionary);
        clock.advance(TICK);
        let follower = waiting_for_one(&dictionary);
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().set(0, 1)).unwrap());
        let keeper = actor(&dictionary, |d| d.expire().locks.len());
        join(writer);
        assert!(join(keeper) <= 1);
        join(follower);
        assert_eq!(told(&events(feed.try_flush().unwrap())), [(LockEventKind::Expired, 0, 'b')]);
        assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    });
}

/// Begins beside the others, so that it may find the lock, or not.
fn waiting_for_one(dictionary: &Arc<Dictionary>) -> JoinHandle<()> {
    actor(dictionary, |d| match d.lock_feed().try_flush() {
        Ok(LockDelivery::Full { locks, .. }) => assert!(locks.is_empty(), "a lock that has expired"),
        other => panic!("{other:?}"),
    })
}

/// Invariant: events come in the order of their versions, none is lost, none comes twice, and those of one call together.
#[test]
fn lock_flushes_against_two_lockers() {
    let [first, second] = keys_of_two_shards();
    explore("lock_flushes_against_two_lockers", 10_000, move || {
        let (dictionary, _) = keeping(10);
        let feed = following(&dictionary);
        let lockers = [('b', [first, 100]), ('c', [second, 101])]
            .map(|(token, keys)| actor(&dictionary, move |d| d.update_locks(&token, acquire(&keys)).unwrap()));
        let follower = actor(&dictionary, move |_| {
            let seen: Vec<_> = [(); 2].into_iter().filter_map(|()| feed.try_flush().ok()).flat_map(events).collect();
            (feed, seen)
        });
        let receipts = lockers.map(join);
        let (feed, mut seen) = join(follower);
        assert!([0, 2, 4].contains(&seen.len()), "half of a call was reported");
        seen.extend(feed.try_flush().into_iter().flat_map(events));
        assert!(seen.iter().map(|event| event.version).is_sorted());
        let mut granted: Vec<_> = receipts.iter().flat_map(|receipt| receipt.granted.clone()).collect();
        let mut told: Vec<_> = seen.iter().map(|event| (event.key, event.fencing_token)).collect();
        granted.sort_unstable();
        told.sort_unstable();
        assert_eq!(granted, told);
    });
}

/// Invariant: a feed that lags behind the history receives all locks of one instant, and continues from there: whatever
/// it delivers, its client then knows the locks as they were at that version.
#[test]
fn lock_flushes_against_locks_beyond_the_history() {
    explore("lock_flushes_against_locks_beyond_the_history", 230, || {
        let (dictionary, _) = keeping(1);
        let feed = following(&dictionary);
        let locker = actor(&dictionary, |d| {
            let of = |request| d.update_locks(&'b', request).unwrap();
            of(acquire(&[1]));
            of(acquire(&[2]));
            of(LockRequest::new().release(1));
            of(acquire(&[3]).release(2));
        });
        let follower = actor(&dictionary, move |_| {
            let deliveries = [(); 2].map(|()| feed.try_flush().ok());
            (feed, deliveries)
        });
        join(locker);
        let (feed, deliveries) = join(follower);
        let states: [&[u8]; 5] = [&[], &[1], &[1, 2], &[2], &[3]];
        let (mut replica, mut at) = (BTreeMap::new(), 0);
        for delivery in deliveries.into_iter().chain([feed.try_flush().ok()]).flatten() {
            let before = at;
            match delivery {
                LockDelivery::Full { version, locks, .. } => {
                    at = version;
                    replica = locks.into_iter().map(|(key, lock)| (key, lock.fencing_token)).collect();
                }
                LockDelivery::Events(events) => {
                    for event in events {
                        at = event.version;
                        match event.kind {
                            LockEventKind::Granted => assert!(replica.insert(event.key, event.fencing_token).is_none()),
                            _ => assert_eq!(replica.remove(&event.key), Some(event.fencing_token)),
                        }
                    }
                }
            }
            assert!(before < at, "reported twice");
            let keys: Vec<_> = replica.keys().copied().collect();
            assert_eq!(Some(&keys[..]), states.get(usize::try_from(at).unwrap()).copied());
        }
        assert_eq!(at, 4, "not all was reported");
    });
}

/// Invariant: what happened before the freeze is delivered, nothing of what happened after it, and all waiters see the
/// end.
#[test]
fn lock_feed_against_release_and_freeze() {
    explore_bounded("lock_feed_against_release_and_freeze", 2, 7000, || {
        let (dictionary, _) = keeping(10);
        dictionary.update_locks(&'b', acquire(&[0])).unwrap();
        let feed = following(&dictionary);
        let follower = actor(&dictionary, move |_| until_the_end(&feed));
        let owner = actor(&dictionary, |d| d.release_all(&'b').len());
        let freezer = actor(&dictionary, |d| {
            d.freeze();
            d.lock_info(&0).is_some()
        });
        assert_eq!(join(owner), 1);
        let released_after = join(freezer);
        let events = join(follower);
        assert!(!released_after || events.is_empty(), "reports what happened after the freeze");
        assert!(events.len() <= 1);
        assert_eq!(dictionary.lock_feed().flush(), Err(FlushError));
    });
}

/// Invariant: all locks that the first delivery gives, and only those, are later reported to have ended, also if they
/// expire while it is made.
#[test]
fn first_lock_flush_against_expiry() {
    explore("first_lock_flush_against_expiry", 32, || {
        let (dictionary, clock) = keeping(10);
        dictionary.update_locks(&'b', lease(0, TICK)).unwrap();
        let follower = actor(&dictionary, |d| {
            let feed = d.lock_feed();
            match feed.flush().unwrap() {
                LockDelivery::Full { locks, .. } => (feed, locks.len()),
                LockDelivery::Events(events) => panic!("not everything: {events:?}"),
            }
        });
        let ticker = actor(&Arc::new(clock), |clock| clock.advance(TICK));
        let (feed, locks) = join(follower);
        join(ticker);
        let ended = feed.try_flush().map_or(0, |delivery| events(delivery).len());
        assert_eq!(ended, locks);
    });
}

/// Invariant: whatever root a commit is made in, it has the events of the root before it.
#[test]
fn lock_flushes_against_commits_in_the_spare_root() {
    explore("lock_flushes_against_commits_in_the_spare_root", 9100, || {
        let (dictionary, _) = keeping(10);
        dictionary.update_state(&'a', Change::new().set(0, 0)).unwrap();
        let feed = following(&dictionary);
        let writer = actor(&dictionary, |d| {
            d.update_state(&'a', Change::new().set(0, 1)).unwrap();
            d.update_state(&'a', Change::new().set(0, 2)).unwrap();
        });
        let locker = actor(&dictionary, |d| {
            d.update_locks(&'b', acquire(&[1])).unwrap();
            d.update_locks(&'b', acquire(&[2])).unwrap();
        });
        let follower = actor(&dictionary, move |_| {
            let seen = feed.try_flush().map_or_else(|_| Vec::new(), events);
            (feed, seen)
        });
        join(writer);
        join(locker);
        let (feed, mut seen) = join(follower);
        seen.extend(feed.try_flush().into_iter().flat_map(events));
        assert_eq!(told(&seen), [(LockEventKind::Granted, 1, 'b'), (LockEventKind::Granted, 2, 'b')]);
    });
}

/// Invariant: a refused request states the reason at the time when its releases were carried out: they are reported if
/// another client was in the way, and not if it was the freeze. The same holds for a granted one.
#[test]
fn requests_that_release_against_freeze() {
    explore("requests_that_release_against_freeze", 590, || {
        let (dictionary, _) = keeping(10);
        dictionary.update_locks(&'b', acquire(&[0, 3])).unwrap();
        dictionary.update_locks(&'c', acquire(&[1, 2])).unwrap();
        let feed = following(&dictionary);
        let client = actor(&dictionary, |d| {
            let locked = matches!(d.update_locks(&'c', acquire(&[0]).release(1)), Err(LockError::Locked { .. }));
            let renewed = d.update_locks(&'b', acquire(&[0]).release(3)).is_ok();
            let released = d.update_locks(&'c', acquire(&[2]).release(2)).is_ok();
            (locked, renewed, released)
        });
        let freezer = actor(&dictionary, Dictionary::freeze);
        let (locked, renewed, released) = join(client);
        assert!(join(freezer));
        let told: Vec<_> = feed.try_flush().into_iter().flat_map(events).map(|event| (event.kind, event.key)).collect();
        let mut expected = Vec::new();
        expected.extend(locked.then_some((LockEventKind::Released, 1)));
        expected.extend(renewed.then_some((LockEventKind::Released, 3)));
        if released {
            expected.extend([(LockEventKind::Released, 2), (LockEventKind::Granted, 2)]);
        }
        assert_eq!(told, expected);
    });
}

/// Invariant: of two threads that flush a feed, each event is delivered to one.
#[test]
fn two_lock_flushes_against_grant() {
    explore_bounded("two_lock_flushes_against_grant", 2, 100, || {
        let (dictionary, _) = keeping(10);
        let feed = Arc::new(following(&dictionary));
        dictionary.update_locks(&'a', acquire(&[0])).unwrap();
        let flush = |feed: &Feed| feed.try_flush().map(events).unwrap_or_default();
        let followers = [(); 2].map(|()| actor(&feed, flush));
        dictionary.update_locks(&'b', acquire(&[1])).unwrap();
        let mut delivered = followers.map(join).concat();
        delivered.extend(flush(&feed));
        delivered.sort_by_key(|event| event.version);
        assert_eq!(told(&delivered), [(LockEventKind::Granted, 0, 'a'), (LockEventKind::Granted, 1, 'b')]);
    });
}

/// Invariant: closing a feed wakes a thread that waits in a flush of it, and nothing that happens later is delivered.
#[test]
fn waiting_lock_flush_against_close_and_grant() {
    explore_bounded("waiting_lock_flush_against_close_and_grant", 2, 10, || {
        let (dictionary, _) = keeping(10);
        let feed = Arc::new(following(&dictionary));
        let follower = actor(&feed, |feed| feed.flush().map(drop));
        assert!(feed.close());
        dictionary.update_locks(&'a', acquire(&[0])).unwrap();
        assert_eq!(join(follower), Err(FlushError));
    });
}

/// Invariant: a flush reports that the feed is closed only if everything was delivered, also if another flush has moved the
/// feed meanwhile.
#[test]
fn lock_flush_against_flush_grant_and_freeze() {
    explore_bounded("lock_flush_against_flush_grant_and_freeze", 2, 50, || {
        let (dictionary, _) = keeping(10);
        let feed = Arc::new(dictionary.lock_feed());
        let follower = actor(&feed, Feed::try_flush);
        let first = feed.try_flush();
        dictionary.update_locks(&'a', acquire(&[0])).unwrap();
        dictionary.freeze();
        let flushed = join(follower);
        assert!(first.is_ok() || flushed.is_ok(), "one of them received all locks");
        if flushed == Err(TryFlushError::Closed) {
            assert!(until_the_end(&feed).is_empty());
        }
    });
}
