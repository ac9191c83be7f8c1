//! Images, imports, and what else a log needs that drives a dictionary.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use proptest::prelude::*;
use state_dictionary::{
    BufferOptions, Change, FeedOptions, FencingToken, FlushTimeoutError, Image, ImportError, LockDelivery,
    LockEventKind, LockRequest, ManualClock, Message, Revision, Session, Snapshot, StateDictionary, TryFlushError,
};
use std::sync::Arc;
use std::time::Duration;

type Dictionary = StateDictionary<&'static str, u32, &'static str>;
type Builder = state_dictionary::Builder<&'static str, u32, &'static str>;

const SECOND: Duration = Duration::from_secs(1);

fn entries<K: Clone + Eq, V>(content: Snapshot<K, V>) -> Vec<(K, Arc<V>, Revision)> {
    content.into_iter().map(|(key, entry)| (key, Arc::clone(entry.value()), entry.revision())).collect()
}

fn restored(image: Image<&'static str, &'static str>, content: Snapshot<&'static str, u32>) -> Dictionary {
    StateDictionary::builder().image(image, entries(content)).build()
}

fn again(dictionary: &Dictionary) -> Dictionary {
    let (image, content) = dictionary.image();
    restored(image, content)
}

fn again_with(dictionary: &Dictionary, attached: &[&Session<&'static str, u32, &'static str>]) -> Dictionary {
    let (image, content) = dictionary.image_with(attached.iter().copied());
    restored(image, content)
}

fn lock(dictionary: &Dictionary, owner: &'static str, key: &'static str) -> FencingToken {
    dictionary.update_locks(&owner, LockRequest::new().acquire(key, None)).unwrap().granted[0].1
}

#[test]
fn a_restored_dictionary_has_the_same_content_revisions_locks_and_positions() {
    let dictionary: Dictionary = [("a", 1), ("b", 1)].into();
    dictionary.update_state(&"alice", Change::new().set("b", 2).remove("a")).unwrap();
    let token = lock(&dictionary, "alice", "b");
    let seen = dictionary.position();
    let again = again(&dictionary);
    assert_eq!(again.snapshot(), dictionary.snapshot());
    assert_eq!((again.id(), again.position()), (dictionary.id(), dictionary.position()));
    assert_eq!(again.locks(), dictionary.locks());
    let buffer = again.change_buffer_with(BufferOptions::new().resume(seen));
    assert_eq!(buffer.try_flush().unwrap_err(), TryFlushError::Empty, "a client that has seen all resumes");
    assert!(again.update_state(&"bob", Change::new().set("b", 3)).is_err());
    assert!(lock(&again, "bob", "c") > token, "fencing tokens go on rising");
    assert_eq!(again.update_state(&"bob", Change::new().set("c", 3)).unwrap().get(), dictionary.revision().get() + 1);
}

#[test]
fn a_frozen_dictionary_stays_frozen() {
    let dictionary: Dictionary = [("a", 1)].into();
    dictionary.freeze();
    let again = again(&dictionary);
    assert!(again.is_frozen() && again.update_state(&"alice", Change::new().set("a", 2)).is_err());
}

#[test]
fn sessions_of_an_image_go_on_with_their_keys_and_their_locks() {
    let clock = ManualClock::new();
    let dictionary: Dictionary = StateDictionary::builder().clock(&clock).build();
    lock(&dictionary, "alice", "of alice without her session");
    let mut alice = dictionary.session("alice");
    alice.update_ephemeral(Change::new().set("z", 1).set("a", 1)).unwrap();
    alice.update_locks(LockRequest::new().acquire("l", None)).unwrap();
    let mut bob = dictionary.session("bob");
    bob.update_ephemeral(Change::new().set("of bob", 1)).unwrap();
    bob.detach(10 * SECOND);
    clock.advance(4 * SECOND);

    let (image, content) = dictionary.image_with([&alice]);
    assert_eq!(image.sessions.iter().map(|session| session.remaining).collect::<Vec<_>>(), [None, Some(6 * SECOND)]);
    let later = ManualClock::new();
    let again: Dictionary = StateDictionary::builder().clock(&later).image(image, entries(content)).build();
    later.advance(5 * SECOND);
    assert!(again.expire().sessions.is_empty());
    later.advance(SECOND);
    let expired = again.expire().sessions;
    assert_eq!((expired.len(), expired[0].0, &expired[0].1.removed[..]), (1, "bob", &["of bob"][..]));
    let alice = again.session("alice");
    assert!(alice.is_resumed());
    assert_eq!(alice.ephemeral_keys(), ["z", "a"]);
    let end = alice.end();
    assert_eq!(end.removed, ["z", "a"], "in the order in which they were set");
    assert_eq!(end.released, ["of alice without her session", "l"], "in the order of their granting");
    assert!(again.is_empty() && again.locks().is_empty());
}

#[test]
fn attached_sessions_get_a_time_limit_from_a_program_that_restarts() {
    let dictionary = Dictionary::new();
    let mut alice = dictionary.session("alice");
    alice.update_ephemeral(Change::new().set("a", 1)).unwrap();
    let (mut image, content) = dictionary.image_with([&alice]);
    image.detach_sessions(Duration::ZERO);
    let restored = restored(image, content);
    assert_eq!(restored.expire().sessions.len(), 1);
    let known_to_its_owner_alone = again(&dictionary);
    assert!(known_to_its_owner_alone.expire().sessions.is_empty());
    assert!(again_with(&dictionary, &[&alice]).session("alice").is_resumed());
}

#[test]
fn an_import_is_delivered_as_the_difference_and_nothing_else() {
    let ahead: Dictionary = [("kept", 1), ("changed", 1), ("removed", 1)].into();
    let behind = again(&ahead);
    let buffer = behind.change_buffer();
    assert_eq!(buffer.flush().unwrap().count(), 3);
    let key = behind.watch_key("changed");
    assert_eq!(key.flush().unwrap().as_deref(), Some(&1));
    let broadcast = behind.broadcast(BufferOptions::new(), state_dictionary::Delivery::count);
    let mut follower = broadcast.join(Some(behind.position()));
    ahead.update_state(&"a", Change::new().set("changed", 2).set("new", 1)).unwrap();
    ahead.update_state(&"a", Change::new().remove("removed")).unwrap();
    let (image, content) = ahead.image();
    assert_eq!(behind.import(image, entries(content)).unwrap(), ahead.revision());

    let delivery = buffer.try_flush().unwrap();
    assert!(!delivery.is_full());
    let mut updates: Vec<_> = delivery.updates().map(|(key, entry)| (*key, **entry)).collect();
    updates.sort_unstable();
    assert_eq!(updates, [("changed", 2), ("new", 1)]);
    assert_eq!(delivery.removals().collect::<Vec<_>>(), [&"removed"]);
    assert_eq!(key.try_flush().unwrap().as_deref(), Some(&2));
    broadcast.publish();
    match follower.try_next() {
        Ok(Message::Frame(frame)) => assert_eq!(*frame.encoded(), 3),
        Ok(Message::CatchUp(delivery)) => assert_eq!(delivery.count(), 3),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(behind.snapshot(), ahead.snapshot());
    assert!(behind.wait_for_revision(ahead.revision()).is_ok());
}

#[test]
fn feeds_of_locks_and_of_commits_say_that_they_have_missed_an_import() {
    let with_feeds = || -> Builder { StateDictionary::builder().commit_history(true).lock_history_limit(100) };
    let ahead: Dictionary = with_feeds().content([("a", 1)]).build();
    let (image, content) = ahead.image();
    let behind = with_feeds().image(image, entries(content)).build();
    let (commits, locks) = (behind.commit_feed(), behind.lock_feed());
    assert!(locks.flush().is_ok());
    ahead.update_state(&"a", Change::new().set("a", 2)).unwrap();
    lock(&ahead, "bob", "a");
    let (image, content) = ahead.image();
    behind.import(image, entries(content)).unwrap();
    assert!(matches!(locks.flush().unwrap(), LockDelivery::Full { locks, .. } if locks[0].1.owner == "bob"));
    let delivery = commits.flush().unwrap();
    assert!(delivery.lagged.is_some() && delivery.commits.is_empty());
    lock(&behind, "bob", "b");
    assert!(matches!(locks.flush().unwrap(), LockDelivery::Events(events) if events.len() == 1));
}

#[test]
fn an_import_that_cannot_be_is_an_error_and_changes_nothing() {
    let dictionary: Dictionary = [("a", 1)].into();
    lock(&dictionary, "alice", "a");
    let older = dictionary.image();
    dictionary.update_state(&"alice", Change::new().set("a", 2)).unwrap();
    let (before, locks) = (dictionary.snapshot(), dictionary.locks());
    let import = |(image, content): (Image<_, _>, Snapshot<_, _>)| dictionary.import(image, entries(content));
    let (image, present) = (older.0.revision, dictionary.revision());
    assert_eq!(import(older), Err(ImportError::Older { image, present }));
    assert_eq!(import(Dictionary::new().image()), Err(ImportError::OtherStore));
    let same = dictionary.image();
    let guard = dictionary.lock_content().unwrap();
    assert_eq!(import(same.clone()), Err(ImportError::ContentLocked));
    drop(guard);
    assert_eq!((dictionary.snapshot(), dictionary.locks()), (before, locks));
    dictionary.freeze();
    assert_eq!(import(same), Err(ImportError::Frozen));
}

#[test]
fn an_import_of_a_frozen_dictionary_ends_the_feeds() {
    let ahead: Dictionary = [("a", 1)].into();
    let behind = again(&ahead);
    let buffer = behind.change_buffer();
    buffer.flush().unwrap();
    ahead.freeze();
    let (image, content) = ahead.image();
    behind.import(image, entries(content)).unwrap();
    assert!(behind.is_frozen() && buffer.flush().is_err());
}

#[test]
fn with_a_clock_of_leases_only_expire_and_writers_end_what_is_due() {
    let time = ManualClock::new();
    let dictionary: Dictionary = StateDictionary::builder().lease_clock(&time).lock_history_limit(10).build();
    let feed = dictionary.lock_feed();
    let request = LockRequest::new().acquire("a", SECOND).acquire("b", SECOND);
    dictionary.update_locks(&"alice", request).unwrap();
    assert!(feed.flush().is_ok());
    time.advance(SECOND);
    assert_eq!(feed.try_flush(), Err(TryFlushError::Empty), "a reader changes nothing");
    // Timeouts go by the other clock, here the system's.
    assert_eq!(feed.flush_timeout(Duration::from_millis(5)).unwrap_err(), FlushTimeoutError::TimedOut);
    assert_eq!(dictionary.lock_info("a"), None, "it is over all the same");
    assert_eq!(dictionary.next_deadline(), Some(Duration::ZERO));
    assert_eq!(dictionary.expire().locks, [("a", "alice"), ("b", "alice")], "in the order of their granting");
    match feed.flush().unwrap() {
        LockDelivery::Events(events) => {
            let what: Vec<_> = events.iter().map(|event| (event.kind, event.key, event.version)).collect();
            let version = events[0].version;
            let expired = LockEventKind::Expired;
            assert_eq!(what, [(expired, "a", version), (expired, "b", version)], "in one step");
        }
        LockDelivery::Full { .. } => panic!("it has not lagged"),
    }
}

#[test]
fn numbers_from_outside_are_those_of_locks_events_and_positions_whatever_else_happens() {
    let replicas: [Dictionary; 2] = std::array::from_fn(|_| StateDictionary::builder().lock_history_limit(100).build());
    replicas[1].change_buffer().close();
    drop(replicas[1].commit_feed());
    let feeds = replicas.each_ref().map(Dictionary::lock_feed);
    for (replica, feed) in replicas.iter().zip(&feeds) {
        feed.flush().unwrap();
        replica.set_next_fencing_token(FencingToken::from(1000));
        assert_eq!(lock(replica, "alice", "a"), FencingToken::from(1000));
        assert_eq!(lock(replica, "alice", "b"), FencingToken::from(1001), "each larger than the one before");
        replica.set_next_fencing_token(FencingToken::from(5));
        replica.update_state(&"alice", Change::new().set("a", 1)).unwrap();
        replica.release_all(&"alice");
        replica.set_next_fencing_token(FencingToken::from(2000));
        assert_eq!(lock(replica, "bob", "c"), FencingToken::from(2000));
        assert!(matches!(feed.flush().unwrap(), LockDelivery::Events(events) if events.len() == 5));
    }
    let [one, other] = feeds.map(|feed| feed.position().version);
    assert_eq!(one, other);
    let resume = state_dictionary::LockPosition { store: replicas[1].id(), version: one };
    let feed = replicas[1].lock_feed_with(FeedOptions::new().resume(resume));
    assert_eq!(feed.try_flush(), Err(TryFlushError::Empty), "a position of one means the same on the other");
}

#[test]
fn results_come_in_the_order_of_the_request_or_of_granting() {
    let dictionary = Dictionary::new();
    let keys = ["q", "a", "m", "z", "b", "y", "c"];
    let all = keys.iter().fold(LockRequest::new(), |request, key| request.acquire(*key, None));
    let granted = dictionary.update_locks(&"alice", all.clone()).unwrap().granted;
    assert_eq!(granted.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
    assert_eq!(dictionary.locks().iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
    let conflicts = match dictionary.update_locks(&"bob", all) {
        Err(state_dictionary::LockError::Locked { conflicts, .. }) => conflicts,
        other => panic!("{other:?}"),
    };
    assert_eq!(conflicts.iter().map(|conflict| conflict.key).collect::<Vec<_>>(), keys);
    assert_eq!(dictionary.release_all(&"alice"), keys);
}

#[test]
fn a_read_handle_follows_and_outlives_the_dictionary() {
    let dictionary: Dictionary = [("a", 1)].into();
    let handle = dictionary.read_handle();
    let (buffer, copy) = (handle.change_buffer(), handle.clone());
    assert_eq!(buffer.flush().unwrap().count(), 1);
    dictionary.update_state(&"alice", Change::new().set("a", 2)).unwrap();
    assert_eq!((copy.get("a").as_deref(), copy.len(), copy.contains_key("b")), (Some(&2), 1, false));
    drop(handle);
    assert!(!dictionary.is_frozen(), "a handle that is dropped ends nothing");
    drop(dictionary);
    assert_eq!(buffer.flush().unwrap().count(), 1);
    assert!(buffer.flush().is_err() && copy.is_frozen() && copy.snapshot()["a"] == 2);
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the form that the builder asks for
fn entry_hash(key: &u8, value: &u32) -> u64 {
    u64::from(*key) << 32 | u64::from(*value)
}

proptest! {
    /// The hash that is kept up with every commit is the one of a dictionary that is made with this content at once.
    #[test]
    fn the_hash_of_the_content_is_a_function_of_the_content(
        operations in prop::collection::vec((0_u8..6, 0_u8..12, any::<u32>()), 1..80)
    ) {
        let new = || StateDictionary::<u8, u32, char>::builder().content_hash(entry_hash).history_limit(8);
        let dictionary = new().content([(0, 7)]).build();
        let mut session = dictionary.session('s');
        let mut snapshots = Vec::new();
        for (what, key, value) in operations {
            match what {
                0 | 1 => drop(dictionary.update_state(&'a', Change::new().set(key, value).set(key / 2, value))),
                2 => drop(dictionary.update_state(&'a', Change::new().remove(key).remove(key))),
                3 => drop(session.update_ephemeral(Change::new().set(key, value))),
                4 => session = { session.end(); dictionary.session('s') },
                _ => snapshots.push(dictionary.snapshot()),
            }
            let (image, content) = dictionary.image();
            let hash = content.content_hash();
            let anew = new().image(image.clone(), entries(content.clone())).build();
            prop_assert_eq!(hash, anew.snapshot().content_hash());
            if what == 5 {
                dictionary.import(image, entries(content)).unwrap();
                prop_assert_eq!(hash, dictionary.snapshot().content_hash());
            }
        }
    }
}
