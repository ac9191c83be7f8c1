//! Following the locks.

mod common;

use common::{
    ALMOST_A_SECOND, Dictionary, NANOSECOND, SECOND, acquire, release, sorted, spawn_waiting, within_a_minute,
};
use state_dictionary::{
    Change, FlushError, FlushTimeoutError, LockDelivery, LockEvent, LockEventKind, LockFeed, LockRequest, ManualClock,
    Revision, StateDictionary, TryFlushError,
};
use std::thread;
use std::time::Duration;

use LockEventKind::{Cleared, Expired, Granted, Released};

type Feed = LockFeed<&'static str, i32, &'static str>;
type Told = (LockEventKind, &'static str, &'static str);

fn keeping(events: usize) -> (Dictionary, ManualClock) {
    let clock = ManualClock::new();
    (StateDictionary::builder().clock(&clock).lock_history_limit(events).build(), clock)
}

/// A feed that has delivered what there was.
fn following(dictionary: &Dictionary) -> Feed {
    let feed = dictionary.lock_feed();
    assert!(matches!(feed.try_flush(), Ok(LockDelivery::Full { .. })));
    feed
}

fn everything(delivery: LockDelivery<&'static str, &'static str>) -> Vec<(&'static str, &'static str)> {
    match delivery {
        LockDelivery::Full { locks, .. } => sorted(locks.into_iter().map(|(key, lock)| (key, lock.owner))),
        LockDelivery::Events(events) => panic!("{events:?}"),
    }
}

fn events(delivery: LockDelivery<&'static str, &'static str>) -> Vec<LockEvent<&'static str, &'static str>> {
    match delivery {
        LockDelivery::Events(events) => events,
        LockDelivery::Full { locks, .. } => panic!("{locks:?}"),
    }
}

fn told(delivery: LockDelivery<&'static str, &'static str>) -> Vec<Told> {
    events(delivery).into_iter().map(|event| (event.kind, event.key, event.owner)).collect()
}

#[test]
fn the_first_delivery_is_all_locks_even_if_there_are_none() {
    let (dictionary, _) = keeping(10);
    assert_eq!(everything(dictionary.lock_feed().try_flush().unwrap()), []);
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    let feed = dictionary.lock_feed();
    assert_eq!(everything(feed.try_flush().unwrap()), [("a", "alice")]);
    assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    assert_eq!(feed.flush_timeout(Duration::ZERO), Err(FlushTimeoutError::TimedOut));
}

#[test]
fn every_grant_release_and_clearing_is_an_event_in_order_with_its_version() {
    let (dictionary, _) = keeping(10);
    let feed = following(&dictionary);
    let receipt = dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    let granted = receipt.granted[0].1;
    dictionary.update_state(&"alice", Change::new().set("a", 1)).unwrap();
    dictionary.update_locks(&"alice", release("a")).unwrap();
    dictionary.update_locks(&"bob", acquire("b", None)).unwrap();
    dictionary.clear_locks();

    let events = events(feed.try_flush().unwrap());
    let told: Vec<Told> = events.iter().map(|event| (event.kind, event.key, event.owner)).collect();
    let expected = [(Granted, "a", "alice"), (Released, "a", "alice"), (Granted, "b", "bob"), (Cleared, "b", "bob")];
    assert_eq!(told, expected);
    assert!(events.is_sorted_by(|one, next| one.version < next.version));
    assert_eq!((events[0].fencing_token, events[0].version), (granted, granted.get()));
    assert_eq!(events[1].fencing_token, granted);
    assert_eq!(events[3].fencing_token, events[2].fencing_token);
    let revisions: Vec<u64> = events.iter().map(|event| event.revision.get()).collect();
    assert_eq!(revisions, [0, 1, 1, 1], "the first came before the commit, the others after");
}

#[test]
fn events_of_one_call_share_a_version() {
    let (dictionary, _) = keeping(10);
    let feed = following(&dictionary);
    dictionary.update_locks(&"alice", acquire("a", None).acquire("b", None)).unwrap();
    dictionary.update_locks(&"alice", acquire("c", None).release("a").release("b").acquire("b", None)).unwrap();
    let events = events(feed.try_flush().unwrap());
    let told: Vec<Told> = events.iter().map(|event| (event.kind, event.key, event.owner)).collect();
    assert_eq!(sorted(told[..2].iter().map(|told| told.1)), ["a", "b"]);
    let later = sorted(told[2..].iter().map(|told| (told.1, told.0 == Granted)));
    assert_eq!(later, [("a", false), ("b", false), ("b", true), ("c", true)]);
    let place = |kind, key| told[2..].iter().position(|told| *told == (kind, key, "alice")).unwrap();
    assert!(place(Released, "b") < place(Granted, "b"));
    assert_eq!(events[0].version, events[1].version);
    assert!(events[2..].iter().all(|event| event.version == events[2].version && event.version > events[0].version));
}

#[test]
fn renewals_refusals_and_releases_of_nothing_are_no_events() {
    let (dictionary, _) = keeping(10);
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    let feed = following(&dictionary);
    dictionary.update_locks(&"alice", acquire("a", SECOND * 2)).unwrap();
    dictionary.update_locks(&"bob", acquire("a", None)).unwrap_err();
    dictionary.update_locks(&"bob", release("a")).unwrap();
    dictionary.release_all(&"bob");
    dictionary.update_state(&"bob", Change::new().set("b", 1)).unwrap();
    assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    dictionary.update_locks(&"alice", acquire("b", None).release("a")).unwrap();
    dictionary.update_locks(&"bob", acquire("c", None)).unwrap();
    dictionary.update_locks(&"bob", acquire("b", None).release("c")).unwrap_err();
    let last = events(feed.try_flush().unwrap()).pop().unwrap();
    assert_eq!((last.kind, last.key), (Released, "c"), "the releases of a refused request are carried out");
}

#[test]
fn the_thread_that_finds_an_expired_lock_makes_it_an_event() {
    let (dictionary, clock) = keeping(10);
    let feed = following(&dictionary);
    for key in ["written", "acquired", "released", "renewed"] {
        dictionary.update_locks(&"alice", acquire(key, SECOND)).unwrap();
    }
    clock.advance(SECOND);
    dictionary.update_state(&"bob", Change::new().set("written", 1)).unwrap();
    dictionary.update_locks(&"bob", acquire("acquired", None)).unwrap();
    dictionary.update_locks(&"alice", release("released")).unwrap();
    dictionary.update_locks(&"alice", acquire("renewed", None)).unwrap();
    let expected = [
        (Expired, "written", "alice"),
        (Expired, "acquired", "alice"),
        (Granted, "acquired", "bob"),
        (Expired, "released", "alice"),
        (Expired, "renewed", "alice"),
        (Granted, "renewed", "alice"),
    ];
    assert_eq!(told(feed.try_flush().unwrap())[4..], expected);
}

#[test]
fn a_flush_makes_expiry_an_event_although_the_key_is_not_touched() {
    let (dictionary, clock) = keeping(10);
    let (feed, another) = (following(&dictionary), following(&dictionary));
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    feed.try_flush().unwrap();
    clock.advance(ALMOST_A_SECOND);
    assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    clock.advance(NANOSECOND);
    assert_eq!(told(feed.try_flush().unwrap()), [(Expired, "a", "alice")]);
    assert_eq!(told(another.try_flush().unwrap()), [(Granted, "a", "alice"), (Expired, "a", "alice")]);
    assert!(dictionary.expire().locks.is_empty(), "it has been removed");
}

#[test]
fn a_waiting_flush_wakes_up_at_the_deadline() {
    within_a_minute(|| {
        let (dictionary, clock) = keeping(10);
        dictionary.update_locks(&"alice", acquire("a", SECOND * 2)).unwrap();
        let feed = following(&dictionary);
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || told(feed.flush().unwrap()));
            clock.advance(SECOND);
            clock.advance(SECOND);
            assert_eq!(waiting.join().unwrap(), [(Expired, "a", "alice")]);
        });
    });
}

#[test]
fn a_waiting_flush_wakes_up_at_the_deadline_of_the_systems_clock() {
    within_a_minute(|| {
        let dictionary: Dictionary = StateDictionary::builder().lock_history_limit(10).build();
        let feed = following(&dictionary);
        dictionary.update_locks(&"alice", acquire("a", Duration::from_millis(20))).unwrap();
        assert_eq!(told(feed.flush().unwrap()), [(Granted, "a", "alice")]);
        assert_eq!(told(feed.flush().unwrap()), [(Expired, "a", "alice")]);
    });
}

#[test]
fn a_renewal_that_shortens_a_lease_wakes_waiters_for_the_longer_one() {
    within_a_minute(|| {
        // By the system's clock, for a manual one wakes all waiters whenever it is moved.
        let dictionary: Dictionary = StateDictionary::builder().lock_history_limit(10).build();
        dictionary.update_locks(&"alice", acquire("a", SECOND * 3600)).unwrap();
        let feed = following(&dictionary);
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || told(feed.flush().unwrap()));
            dictionary.update_locks(&"alice", acquire("a", Duration::from_millis(1))).unwrap();
            assert_eq!(waiting.join().unwrap(), [(Expired, "a", "alice")]);
        });
    });
}

#[test]
fn the_end_of_a_session_releases_with_the_commit_that_removes_its_keys() {
    let (dictionary, _) = keeping(10);
    let mut session = dictionary.session("alice");
    session.update_ephemeral(Change::new().set("a", 1)).unwrap();
    session.update_locks(acquire("a", None)).unwrap();
    let feed = following(&dictionary);
    let end = session.end();
    let events = events(feed.try_flush().unwrap());
    assert_eq!((events[0].kind, events[0].key, events.len()), (Released, "a", 1));
    assert_eq!(events[0].revision, end.revision);
    assert_eq!(end.revision, Revision::from(2));
}

#[test]
fn the_end_of_a_session_takes_expired_locks_of_others_away_with_it() {
    let (dictionary, clock) = keeping(10);
    let mut session = dictionary.session("alice");
    session.update_ephemeral(Change::new().set("a", 1)).unwrap();
    dictionary.update_locks(&"bob", acquire("a", SECOND)).unwrap();
    let feed = following(&dictionary);
    clock.advance(SECOND);
    let end = session.end();
    assert_eq!((end.removed, end.released), (vec!["a"], vec![]));
    dictionary.update_state(&"carol", Change::new().set("b", 1)).unwrap();
    let events = events(feed.try_flush().unwrap());
    assert_eq!((events.len(), events[0].kind, events[0].owner), (1, Expired, "bob"));
    assert_eq!(events[0].revision, end.revision, "with the commit that removed the key, and not after it");
}

#[test]
fn a_feed_that_lagged_delivers_all_locks() {
    let (dictionary, _) = keeping(2);
    let (slow, fast) = (following(&dictionary), following(&dictionary));
    for key in ["a", "b", "c", "d", "e"] {
        dictionary.update_locks(&"alice", acquire(key, None)).unwrap();
        assert_eq!(told(fast.try_flush().unwrap()), [(Granted, key, "alice")]);
    }
    let delivery = slow.try_flush().unwrap();
    let LockDelivery::Full { version, .. } = delivery else { panic!("{delivery:?}") };
    assert_eq!(everything(delivery).len(), 5);
    dictionary.update_locks(&"alice", release("a")).unwrap();
    let next = events(slow.try_flush().unwrap());
    assert!(next[0].version > version);
    // A call of more locks than are kept empties the history.
    dictionary.update_locks(&"bob", acquire("f", None).acquire("g", None).acquire("h", None)).unwrap();
    assert_eq!(everything(slow.try_flush().unwrap()).len(), 7);
}

#[test]
fn without_events_every_delivery_is_all_locks() {
    let dictionary = Dictionary::new();
    let feed = following(&dictionary);
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    assert_eq!(everything(feed.try_flush().unwrap()), [("a", "alice")]);
    dictionary.update_state(&"alice", Change::new().set("a", 1)).unwrap();
    assert_eq!(feed.try_flush(), Err(TryFlushError::Empty));
    dictionary.release_all(&"alice");
    assert_eq!(everything(feed.try_flush().unwrap()), []);
}

#[test]
fn nothing_that_happens_after_the_freeze_is_delivered() {
    let (dictionary, clock) = keeping(10);
    let feed = following(&dictionary);
    let unborn = dictionary.lock_feed();
    dictionary.update_locks(&"alice", acquire("a", None).acquire("b", SECOND)).unwrap();
    dictionary.freeze();
    dictionary.update_locks(&"alice", release("a")).unwrap();
    clock.advance(SECOND);
    assert_eq!(dictionary.expire().locks, [("b", "alice")]);
    assert_eq!(
        sorted(told(feed.try_flush().unwrap()).into_iter().map(|told| (told.1, told.0 == Granted))),
        [("a", true), ("b", true)]
    );
    assert_eq!(feed.flush(), Err(FlushError));
    assert_eq!(unborn.flush(), Err(FlushError));
}

#[test]
fn the_end_of_the_dictionary_wakes_a_waiting_flush() {
    within_a_minute(|| {
        let (dictionary, _) = keeping(10);
        let feed = following(&dictionary);
        thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || feed.flush());
            drop(dictionary);
            assert_eq!(waiting.join().unwrap(), Err(FlushError));
        });
    });
}

#[test]
fn a_sweep_of_expired_locks_is_an_event_for_each() {
    let clock = ManualClock::new();
    let dictionary: StateDictionary<u32, i32, u8> =
        StateDictionary::builder().clock(&clock).lock_history_limit(1000).build();
    let feed = dictionary.lock_feed();
    feed.try_flush().unwrap();
    for key in 0..63_u32 {
        dictionary.update_locks(&1, LockRequest::new().acquire(key, SECOND)).unwrap();
    }
    clock.advance(SECOND);
    dictionary.update_locks(&1, LockRequest::new().acquire(1000_u32, None)).unwrap();
    let LockDelivery::Events(events) = feed.try_flush().unwrap() else { panic!("it has not lagged") };
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((count(Granted), count(Expired)), (64, 63));
}

#[test]
fn a_lock_that_went_from_session_to_session_and_back_is_released_once() {
    let dictionary: Dictionary = StateDictionary::builder().lock_history_limit(100).build();
    let feed = dictionary.lock_feed();
    let (one, other) = (dictionary.session("alice"), dictionary.session("alice"));
    one.update_locks(acquire("a", None)).unwrap();
    other.update_locks(acquire("a", None)).unwrap();
    one.update_locks(acquire("a", None)).unwrap();
    feed.flush().unwrap();
    assert_eq!(one.end().released, ["a"]);
    let Ok(LockDelivery::Events(events)) = feed.try_flush() else { panic!("no events") };
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(other.end().released.is_empty());
}
