//! The events that an operator sees: each is provoked, and from inside each the dictionary is used.
#![allow(clippy::unwrap_used)] // also in what the tests share

mod common;

use common::{Dictionary, SECOND, with_manual_clock, within_a_minute};
use parking_lot::Mutex;
use state_dictionary::{
    BufferOptions, Change, LockDelivery, LockRequest, ManualClock, Refusal, StateDictionary, TryFlushError, UpdateError,
};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// An event as a subscriber gets it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    level: Level,
    /// The message is one of them.
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Notes every event of the crate, and does something each time.
struct Watcher<F> {
    seen: Arc<Mutex<Vec<Seen>>>,
    act: F,
}

impl<F: Fn() + Send + Sync + 'static> Subscriber for Watcher<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "state_dictionary"
    }

    fn event(&self, event: &Event<'_>) {
        let mut seen = Seen { level: *event.metadata().level(), fields: BTreeMap::new() };
        event.record(&mut seen);
        self.seen.lock().push(seen);
        (self.act)();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        unreachable!("the crate has no spans")
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The events of `provoke`, during each of which `act` is called.
fn watch(act: impl Fn() + Send + Sync + 'static, provoke: impl FnOnce()) -> Vec<Seen> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watcher = Watcher { seen: Arc::clone(&seen), act };
    within_a_minute(|| tracing::subscriber::with_default(watcher, provoke));
    std::mem::take(&mut seen.lock())
}

/// The events of `provoke`. During each of them the dictionary is used, in this thread and in another, in ways that would
/// wait for ever if a shard were locked.
fn events(dictionary: &Arc<Dictionary>, provoke: impl FnOnce()) -> Vec<Seen> {
    let dictionary = Arc::clone(dictionary);
    let act = move || {
        use_it(&dictionary);
        thread::scope(|scope| scope.spawn(|| use_it(&dictionary)).join().unwrap());
    };
    watch(act, provoke)
}

fn use_it(dictionary: &Dictionary) {
    let frozen = dictionary.is_frozen();
    let committed = dictionary.update_state(&"watcher", Change::new().set("watched", 1));
    assert_eq!(committed.is_ok(), !frozen);
    assert_eq!(dictionary.snapshot().get("watched").is_some(), !frozen);
    let locked = dictionary.update_locks(&"watcher", LockRequest::new().acquire("watched", SECOND));
    assert_eq!(locked.is_ok(), !frozen);
    assert_eq!(dictionary.lock_info("watched").is_some(), !frozen);
    dictionary.release_all(&"watcher");
    assert!(dictionary.locks().iter().all(|(_, lock)| lock.owner != "watcher"));
    dictionary.expire();
    assert_eq!(dictionary.change_buffer().flush().is_ok(), !dictionary.snapshot().is_empty());
}

fn event<const N: usize>(
    dictionary: &Dictionary,
    level: Level,
    message: &str,
    numbers: [(&'static str, u64); N],
) -> Seen {
    let mut fields = BTreeMap::from(numbers.map(|(name, number)| (name, number.to_string())));
    fields.insert("message", message.to_owned());
    fields.insert("store", dictionary.id().to_string());
    Seen { level, fields }
}

fn shared() -> (Arc<Dictionary>, ManualClock) {
    let (dictionary, clock) = with_manual_clock();
    (Arc::new(dictionary), clock)
}

fn set(dictionary: &Dictionary, key: &'static str) {
    dictionary.update_state(&"alice", Change::new().set(key, 1)).unwrap();
}

fn acquire(dictionary: &Dictionary, token: &'static str, key: &'static str) {
    dictionary.update_locks(&token, LockRequest::new().acquire(key, SECOND)).unwrap();
}

/// In another thread, where no subscriber is set.
fn meanwhile(act: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(act).join().unwrap());
}

#[test]
fn refused_by_locks_of_others() {
    let (dictionary, _) = shared();
    acquire(&dictionary, "alice", "a");
    acquire(&dictionary, "alice", "b");
    let change = || Change::new().set("a", 1).set("b", 1).set("c", 1);
    let request = LockRequest::new().acquire("b", None).acquire("c", None);
    let seen = events(&dictionary, || {
        dictionary.update_state(&"bob", change()).unwrap_err();
        dictionary.update_state_with(&"bob", |_| change()).unwrap_err();
        dictionary.session("bob").update_ephemeral(change()).unwrap_err();
        dictionary.update_locks(&"bob", request).unwrap_err();
    });
    let refused = |keys| event(&dictionary, Level::DEBUG, "refused: keys are locked by others", [("keys", keys)]);
    assert_eq!(seen, [refused(2), refused(2), refused(2), refused(1)]);
}

#[test]
fn other_refusals_and_successes_emit_nothing() {
    let (dictionary, _) = shared();
    let buffer = dictionary.change_buffer();
    let (commits, locks) = (dictionary.commit_feed(), dictionary.lock_feed());
    let seen = events(&dictionary, || {
        dictionary.update_state(&"alice", Change::new().set("a", 1).if_present("b")).unwrap_err();
        locks.flush().unwrap();
        acquire(&dictionary, "alice", "a");
        locks.flush().unwrap();
        assert_eq!(commits.try_flush().unwrap_err(), TryFlushError::Empty);
        set(&dictionary, "a");
        buffer.flush().unwrap();
        dictionary.session("alice").end();
        dictionary.expire();
    });
    assert_eq!(seen, []);
}

#[test]
fn retried_many_times() {
    let (dictionary, _) = shared();
    let retry = |times| {
        let mut left = times;
        events(&dictionary, || {
            let modify = |_: &_| {
                if left > 0 {
                    left -= 1;
                    meanwhile(|| set(&dictionary, "a"));
                }
                Change::new().set("b", 1)
            };
            dictionary.update_state_with(&"bob", modify).unwrap();
        })
    };
    assert_eq!(retry(8), []);
    let warning = "an update was retried many times";
    assert_eq!(retry(9), [event(&dictionary, Level::WARN, warning, [("retries", 9)])]);
}

#[test]
fn lagged_behind_the_history() {
    let dictionary: Arc<Dictionary> = Arc::new(StateDictionary::builder().history_limit(1).build());
    set(&dictionary, "a");
    let buffer = Arc::new(dictionary.change_buffer());
    buffer.flush().unwrap();
    (0..3).for_each(|_| set(&dictionary, "a"));
    // The buffer itself can be used, too.
    let (also, same) = (Arc::clone(&dictionary), Arc::clone(&buffer));
    let act = move || {
        set(&also, "b");
        meanwhile(|| assert_eq!(same.flush().unwrap().updates().count(), 1));
        assert_eq!(same.position(), also.position());
    };
    let seen = watch(act, || assert_eq!(buffer.flush().unwrap().count(), 1));
    let lagged = "a buffer lagged behind the history and compared contents";
    assert_eq!(seen, [event(&dictionary, Level::INFO, lagged, [("cursor", 1), ("revision", 4)])]);
}

#[test]
fn could_not_resume() {
    let (dictionary, _) = shared();
    let elsewhere = Dictionary::new();
    set(&dictionary, "a");
    let buffer = dictionary.change_buffer_with(BufferOptions::new().resume(elsewhere.position()));
    let seen = events(&dictionary, || assert!(buffer.flush().unwrap().is_full()));
    let anew = "a buffer could not resume and delivers the whole content";
    assert_eq!(seen, [event(&dictionary, Level::INFO, anew, [("revision", 1)])]);
    // And is like any other from then on.
    assert_eq!(events(&dictionary, || drop(buffer.try_flush())), []);
}

/// The events when `provoke` comes across three expired locks of alice's.
fn expired(provoke: impl FnOnce(&Dictionary)) -> Vec<u64> {
    let (dictionary, clock) = shared();
    for key in ["a", "b", "c"] {
        acquire(&dictionary, "alice", key);
    }
    clock.advance(SECOND);
    let seen = events(&dictionary, || provoke(&dictionary));
    let locks: Vec<u64> = seen.iter().map(|seen| seen.fields["locks"].parse().unwrap()).collect();
    let expired = |locks| event(&dictionary, Level::INFO, "expired locks were removed", [("locks", locks)]);
    assert_eq!(seen, locks.iter().copied().map(expired).collect::<Vec<_>>());
    locks
}

#[test]
fn expired_leases() {
    let request = |token, request: LockRequest<_>| move |d: &Dictionary| drop(d.update_locks(&token, request).unwrap());
    assert_eq!(expired(|d| drop(d.expire())), [3]);
    assert_eq!(expired(|d| drop(d.lock_feed().flush())), [3]);
    assert_eq!(expired(|d| drop(d.update_state(&"bob", Change::new().set("a", 1).set("b", 1)))), [2]);
    assert_eq!(expired(request("bob", LockRequest::new().acquire("a", None).acquire("b", None))), [2]);
    assert_eq!(expired(request("alice", LockRequest::new().acquire("a", None))), [1], "a new grant");
    assert_eq!(expired(request("alice", LockRequest::new().release("a").release("d"))), [1]);
    assert_eq!(expired(|d| drop(d.release_all(&"alice"))), [3]);
    assert_eq!(expired(|d| drop(d.clear_locks())), [3]);
    assert_eq!(expired(|d| drop(d.session("alice").end())), [3]);
    let none = Vec::<u64>::new();
    assert_eq!(expired(|d| drop(d.session("bob").end())), none, "they are not in its way");
    assert_eq!(expired(|d| drop(d.update_state(&"alice", Change::new().set("a", 1)))), none, "they are its own");
}

#[test]
fn locks_that_were_released_in_time_have_not_expired() {
    let (dictionary, _) = shared();
    let seen = events(&dictionary, || {
        acquire(&dictionary, "alice", "a");
        dictionary.update_locks(&"alice", LockRequest::new().release("a").acquire("b", None)).unwrap();
        dictionary.release_all(&"alice");
        acquire(&dictionary, "alice", "a");
        dictionary.clear_locks();
        acquire(&dictionary, "alice", "a");
        dictionary.session("alice").end();
    });
    assert_eq!(seen, []);
}

#[test]
fn locks_that_a_sweep_removed() {
    let (dictionary, clock) = with_manual_clock_of_numbers();
    for key in 0..63_u32 {
        dictionary.update_locks(&"alice", LockRequest::new().acquire(key, SECOND)).unwrap();
    }
    clock.advance(SECOND);
    let seen =
        watch(|| (), || drop(dictionary.update_locks(&"bob", LockRequest::new().acquire(100_u32, None)).unwrap()));
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].fields["locks"], "63");
}

fn with_manual_clock_of_numbers() -> (StateDictionary<u32, i32, &'static str>, ManualClock) {
    let clock = ManualClock::new();
    (StateDictionary::builder().clock(&clock).build(), clock)
}

#[test]
fn detached_sessions_whose_grace_period_expired() {
    let (dictionary, clock) = shared();
    let detach = || {
        let mut session = dictionary.session("alice");
        session.update_ephemeral(Change::new().set("a", 1).set("b", 1).set("c", 1)).unwrap();
        session.update_locks(LockRequest::new().acquire("d", None)).unwrap();
        session.detach(SECOND);
    };
    detach();
    acquire(&dictionary, "bob", "b");
    assert_eq!(events(&dictionary, || drop(dictionary.expire())), [], "it may come back");
    acquire(&dictionary, "bob", "b");
    clock.advance(SECOND / 2);
    acquire(&dictionary, "bob", "b");
    clock.advance(SECOND / 2);
    let seen = events(&dictionary, || assert_eq!(dictionary.expire().sessions.len(), 1));
    let over = |revision, removed, left| {
        let numbers = [("revision", revision), ("released", 1), ("removed", removed), ("not_removed", left)];
        event(&dictionary, Level::INFO, "the grace period of a detached session expired", numbers)
    };
    assert_eq!(seen, [over(2, 2, 1)]);
}

#[test]
fn a_deferred_session_is_reported_when_it_ends() {
    let (dictionary, clock) = shared();
    let mut session = dictionary.session("alice");
    session.update_ephemeral(Change::new().set("a", 1)).unwrap();
    session.detach(SECOND);
    clock.advance(SECOND);
    let guard = dictionary.lock_content().unwrap();
    assert_eq!(watch(|| (), || assert_eq!(dictionary.expire().sessions.len(), 0)), []);
    drop(guard);
    clock.advance(SECOND);
    let seen = events(&dictionary, || assert_eq!(dictionary.expire().sessions.len(), 1));
    let numbers = [("revision", 2), ("released", 0), ("removed", 1), ("not_removed", 0)];
    assert_eq!(seen, [event(&dictionary, Level::INFO, "the grace period of a detached session expired", numbers)]);
}

#[test]
fn a_feed_of_commits_that_lagged() {
    let dictionary: Arc<Dictionary> =
        Arc::new(StateDictionary::builder().commit_history(true).history_limit(1).build());
    let feed = dictionary.commit_feed();
    (0..4).for_each(|_| set(&dictionary, "a"));
    let seen = events(&dictionary, || assert!(feed.flush().unwrap().lagged.is_some()));
    let numbers = [("cursor", 0), ("missed_up_to", 2)];
    assert_eq!(seen, [event(&dictionary, Level::INFO, "a feed of commits lagged behind the history", numbers)]);
}

#[test]
fn a_feed_of_locks_that_lagged() {
    let dictionary: Arc<Dictionary> = Arc::new(StateDictionary::builder().lock_history_limit(1).build());
    let feed = dictionary.lock_feed();
    let is_everything = || matches!(feed.flush().unwrap(), LockDelivery::Full { .. });
    assert_eq!(events(&dictionary, || assert!(is_everything())), [], "the first delivery");
    let before = dictionary.update_locks(&"alice", LockRequest::new().acquire("a", None)).unwrap();
    assert!(!is_everything());
    let mut latest = before.clone();
    for key in ["b", "c", "d"] {
        latest = dictionary.update_locks(&"alice", LockRequest::new().acquire(key, None)).unwrap();
    }
    let seen = events(&dictionary, || assert!(is_everything()));
    let version = |receipt: &state_dictionary::LockReceipt<_>| receipt.granted[0].1.get();
    let numbers = [("cursor", version(&before)), ("version", version(&latest))];
    assert_eq!(seen, [event(&dictionary, Level::INFO, "a feed of locks lagged behind the history", numbers)]);
}

#[test]
fn frozen_once() {
    let (dictionary, _) = shared();
    set(&dictionary, "a");
    let seen = events(&dictionary, || {
        dictionary.freeze();
        dictionary.freeze();
    });
    assert_eq!(seen, [event(&dictionary, Level::INFO, "the dictionary was frozen", [("revision", 1)])]);
    assert_eq!(watch(|| (), move || drop(dictionary)), []);

    let dropped = Dictionary::new();
    let expected = event(&dropped, Level::INFO, "the dictionary was frozen", [("revision", 0)]);
    assert_eq!(watch(|| (), move || drop(dropped)), [expected]);
}

#[test]
fn a_subscriber_inside_a_commit_through_a_guard_is_refused_and_does_not_wait() {
    let (dictionary, _) = shared();
    acquire(&dictionary, "alice", "a");
    let also = Arc::clone(&dictionary);
    let act = move || {
        let refused = also.update_state(&"watcher", Change::new().set("b", 1));
        assert!(matches!(refused, Err(UpdateError { reason: Refusal::ContentLockedByThisThread, .. })));
    };
    let seen = watch(act, || {
        let mut guard = dictionary.lock_content().unwrap();
        guard.update_state(&"bob", Change::new().set("a", 1)).unwrap_err();
    });
    assert_eq!(seen.len(), 1);
}

#[test]
fn if_a_subscriber_panics_the_call_panics_and_its_effects_stand() {
    let (dictionary, clock) = shared();
    acquire(&dictionary, "alice", "a");
    clock.advance(SECOND);
    let seen = watch(
        || panic!("a subscriber that panics"),
        || {
            let take_over = || dictionary.update_locks(&"bob", LockRequest::new().acquire("a", None));
            assert!(catch_unwind(AssertUnwindSafe(take_over)).is_err());
        },
    );
    assert_eq!(seen.len(), 1);
    assert_eq!(dictionary.lock_info("a").unwrap().owner, "bob");
    dictionary.update_state(&"bob", Change::new().set("a", 1)).unwrap();
    dictionary.update_state(&"alice", Change::new().set("a", 1)).unwrap_err();
}

#[test]
fn nothing_is_emitted_while_the_thread_unwinds() {
    let (dictionary, _) = with_manual_clock();
    let seen = watch(
        || panic!("another panic would end the process"),
        || {
            let unwind = move || {
                let _dropped_while_unwinding = dictionary;
                panic!("unwinding");
            };
            assert!(catch_unwind(AssertUnwindSafe(unwind)).is_err());
        },
    );
    assert_eq!(seen, []);
}
