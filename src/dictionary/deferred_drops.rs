//! Tests of deferred drops: a root that arc-swap drops inside an operation, with something locked or not, is dropped
//! with nothing locked and before the operation returns or unwinds.

use super::StateDictionary;
use crate::content::Root;
use crate::feed::FeedOptions;
use crate::feed::LockFeed;
use crate::feed::{BufferOptions, ChangeBuffer};
use crate::locks::LockRequest;
use crate::session::{Expired, Session};
use crate::sync::{DefaultHashBuilder, others};
use crate::{Change, ManualClock};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

thread_local! {
    static EQ_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// A key whose `Eq` panics on demand.
#[derive(Clone, Debug)]
struct Key(&'static str);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        assert!(!EQ_PANICS.get(), "on purpose");
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A value that runs an action when it is dropped.
struct Value(Option<Box<dyn Fn() + Send + Sync>>);

impl Drop for Value {
    fn drop(&mut self) {
        if let Some(act) = &self.0 {
            act();
        }
    }
}

fn inert() -> Value {
    Value(None)
}

type Dictionary = StateDictionary<Key, Value, u8>;

struct Scene {
    dictionary: Arc<Dictionary>,
    clock: ManualClock,
    buffer: Arc<ChangeBuffer<Key, Value>>,
    locks: LockFeed<Key, Value, u8>,
    session: Option<Session<Key, Value, u8>>,
    dropped: Arc<AtomicUsize>,
}

fn set(key: &'static str) -> Change<Key, Value> {
    Change::new().set(Key(key), inert())
}

fn acquire(key: &'static str) -> LockRequest<Key> {
    LockRequest::new().acquire(Key(key), SECOND)
}

impl Scene {
    /// A dictionary on which every operation has something to do: keys, locks of two clients, a session, feeds that
    /// have been flushed.
    fn new() -> Self {
        let clock = ManualClock::new();
        let builder = StateDictionary::builder().clock(&clock).lock_history_limit(100);
        let dictionary: Arc<Dictionary> = Arc::new(builder.content([(Key("a"), inert()), (Key("b"), inert())]).build());
        let buffer = Arc::new(dictionary.change_buffer());
        drop(buffer.try_flush());
        let locks = dictionary.lock_feed();
        assert!(locks.try_flush().is_ok());
        assert!(dictionary.update_locks(&1, acquire("mine")).is_ok());
        assert!(dictionary.update_locks(&2, acquire("theirs")).is_ok());
        let mut session = dictionary.session(3);
        assert!(session.update_ephemeral(set("ephemeral")).is_ok());
        let session = Some(session);
        Self { dictionary, clock, buffer, locks, session, dropped: Arc::default() }
    }

    /// A root that only the caller owns, with a value that nothing else owns. When it is dropped, the value uses the
    /// dictionary and the buffer, and has a lock granted: it waits for itself if anything is locked.
    fn root_of_another(&self) -> Arc<Root<Key, Value, DefaultHashBuilder>> {
        let (dictionary, buffer) = (Arc::downgrade(&self.dictionary), Arc::downgrade(&self.buffer));
        let dropped = Arc::clone(&self.dropped);
        let value = Value(Some(Box::new(move || {
            // ORDERING: Relaxed, here and below: one thread drops and counts.
            dropped.fetch_add(1, Ordering::Relaxed);
            use_all(&dictionary, &buffer);
        })));
        assert!(self.dictionary.update_state(&9, Change::new().set(Key("x"), value)).is_ok());
        let root = self.dictionary.engine.published.load();
        for _ in 0..3 {
            assert!(self.dictionary.update_state(&9, set("x")).is_ok());
        }
        assert_eq!((Arc::strong_count(&root), self.dropped.load(Ordering::Relaxed)), (1, 0));
        root
    }
}

fn use_all(dictionary: &Weak<Dictionary>, buffer: &Weak<ChangeBuffer<Key, Value>>) {
    EQ_PANICS.set(false);
    if let Some(dictionary) = dictionary.upgrade() {
        let _ = dictionary.locks();
        let _ = dictionary.update_locks(&9, LockRequest::new().acquire(Key("granted"), None));
        let _ = dictionary.try_update_state(&9, set("dropped"));
        let _: Expired<Key, u8> = dictionary.expire();
    }
    if let Some(buffer) = buffer.upgrade() {
        let _ = buffer.try_flush();
        let _ = buffer.position();
    }
}

/// Runs `act` repeatedly, dropping such a root inside each of its uses of the cell in turn, and asserts that the value
/// has been dropped when `act` returns or unwinds.
fn at_every_use(name: &'static str, act: impl Fn(&mut Scene) + Copy + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let running = thread::spawn(move || {
        let mut uses = 0;
        loop {
            let mut scene = Scene::new();
            others::drop_after(uses, scene.root_of_another());
            let unwound = catch_unwind(AssertUnwindSafe(|| act(&mut scene))).is_err();
            EQ_PANICS.set(false);
            let left = others::take();
            let dropped = scene.dropped.load(Ordering::Relaxed);
            // A value whose drop panics may remain.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(scene)));
            if left.is_some() {
                assert_eq!(dropped, 0);
                break;
            }
            assert_eq!(dropped, 1, "{name}, use {uses}, unwound: {unwound}");
            uses += 1;
        }
        assert!(uses > 0, "{name} uses the cell");
        let _ = done.send(());
    });
    match finished.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name} waits for itself"),
        _ => assert!(running.join().is_ok(), "{name}"),
    }
}

#[test]
fn what_another_thread_has_replaced_is_dropped_when_an_operation_on_content_is_over() {
    at_every_use("commit", |scene| drop(scene.dictionary.update_state(&1, set("a"))));
    at_every_use("commit to a locked key", |scene| drop(scene.dictionary.update_state(&1, set("mine"))));
    at_every_use("refused commit", |scene| assert!(scene.dictionary.update_state(&1, set("theirs")).is_err()));
    at_every_use("commit that does not wait", |scene| drop(scene.dictionary.try_update_state(&1, set("a"))));
    at_every_use("commit of a closure", |scene| drop(scene.dictionary.update_state_with(&1, |_| set("a"))));
    at_every_use("commit past an expired lock", |scene| {
        scene.clock.advance(SECOND);
        drop(scene.dictionary.update_state(&1, set("theirs")));
    });
    at_every_use("guard", |scene| {
        let mut guard = scene.dictionary.lock_content().unwrap();
        drop(guard.update_state(&1, set("a")));
    });
    at_every_use("get", |scene| drop(scene.dictionary.get(&Key("a"))));
    at_every_use("snapshot", |scene| drop(scene.dictionary.snapshot()));
    at_every_use("freeze", |scene| assert!(scene.dictionary.freeze()));
    at_every_use("wait", |scene| drop(scene.dictionary.wait_for_revision_timeout(9.into(), Duration::ZERO)));
}

#[test]
fn what_another_thread_has_replaced_is_dropped_when_an_operation_on_locks_is_over() {
    at_every_use("grant", |scene| drop(scene.dictionary.update_locks(&1, acquire("a"))));
    at_every_use("renewal", |scene| drop(scene.dictionary.update_locks(&1, acquire("mine"))));
    at_every_use("release", |scene| drop(scene.dictionary.update_locks(&1, LockRequest::new().release(Key("mine")))));
    at_every_use("refusal that releases", |scene| {
        let request = acquire("theirs").release(Key("mine"));
        assert!(scene.dictionary.update_locks(&1, request).is_err());
    });
    at_every_use("release of all", |scene| assert_eq!(scene.dictionary.release_all(&1).len(), 1));
    at_every_use("clearing", |scene| assert_eq!(scene.dictionary.clear_locks().len(), 2));
    at_every_use("expiry", |scene| {
        scene.clock.advance(SECOND);
        drop(scene.dictionary.expire());
    });
    at_every_use("end of a session", |scene| drop(scene.session.take().map(Session::end)));
    at_every_use("dropped session", |scene| drop(scene.session.take()));
    at_every_use("detached session that is due", |scene| {
        scene.session.take().unwrap().detach(Duration::ZERO);
        drop(scene.dictionary.expire());
    });
}

#[test]
fn what_another_thread_has_replaced_is_dropped_when_a_feed_has_looked_or_is_closed() {
    at_every_use("flush", |scene| drop(scene.buffer.try_flush()));
    at_every_use("flush that waits", |scene| drop(scene.buffer.flush_timeout(Duration::ZERO)));
    at_every_use("closing a buffer", |scene| assert!(scene.buffer.close()));
    at_every_use("closing a buffer of a frozen dictionary", |scene| {
        scene.dictionary.freeze();
        assert!(!scene.buffer.close());
    });
    at_every_use("flush of commits", |scene| {
        drop(scene.dictionary.commit_feed_with(FeedOptions::new().resume(scene.buffer.position())).try_flush());
    });
    at_every_use("flush of locks", |scene| drop(scene.locks.try_flush()));
    at_every_use("flush of all locks", |scene| drop(scene.dictionary.lock_feed().try_flush()));
    at_every_use("flush of locks that expire", |scene| {
        scene.clock.advance(SECOND);
        drop(scene.locks.try_flush());
    });
}

#[test]
fn what_another_thread_has_replaced_is_dropped_when_an_operation_panics() {
    fn panics(act: impl FnOnce()) {
        EQ_PANICS.set(true);
        act();
    }
    at_every_use("commit", |scene| panics(|| drop(scene.dictionary.update_state(&1, set("a")))));
    at_every_use("grant", |scene| panics(|| drop(scene.dictionary.update_locks(&1, acquire("mine")))));
    at_every_use("refusal that releases", |scene| {
        panics(|| drop(scene.dictionary.update_locks(&1, acquire("theirs").release(Key("mine")))));
    });
    at_every_use("end of a session", |scene| panics(|| drop(scene.session.take().map(Session::end))));
    at_every_use("flush", |scene| {
        let options = BufferOptions::new().filter(|_: &Key| panic!("on purpose"));
        let buffer = scene.dictionary.change_buffer_with(options);
        drop(buffer.try_flush());
    });
    at_every_use("closure", |scene| {
        drop(scene.dictionary.update_state_with(&1, |_| -> Change<_, _> { panic!("on purpose") }));
    });
    at_every_use("commit that drops a value whose drop panics", |scene| {
        let armed = Value(Some(Box::new(|| panic!("on purpose"))));
        drop(scene.dictionary.update_state(&1, Change::new().set(Key("p"), armed)));
        drop(scene.dictionary.update_state(&1, set("p")));
    });
    at_every_use("flush that drops a value whose drop panics", |scene| {
        let armed = Value(Some(Box::new(|| panic!("on purpose"))));
        drop(scene.dictionary.update_state(&1, Change::new().set(Key("p"), armed)));
        drop(scene.buffer.try_flush());
        drop(scene.dictionary.update_state(&1, set("p")));
        drop(scene.buffer.try_flush());
    });
}
