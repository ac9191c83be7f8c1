//! Values and tokens that panic or use the dictionary when they are dropped.

mod common;

use common::{SECOND, spawn_waiting, within_a_minute};
use state_dictionary::{Change, LockRequest, ManualClock, StateDictionary};
use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

/// A value or token that calls its function when it is dropped, but not from inside itself.
#[derive(Clone)]
struct OnDrop(Arc<dyn Fn() + Send + Sync>);

thread_local! {
    static DROPPING: Cell<bool> = const { Cell::new(false) };
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if !DROPPING.replace(true) {
            self.0();
            DROPPING.set(false);
        }
    }
}

impl PartialEq for OnDrop {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

fn inert() -> OnDrop {
    OnDrop(Arc::new(|| ()))
}

type Values = StateDictionary<&'static str, OnDrop, u8>;
type Tokens = StateDictionary<&'static str, u8, OnDrop>;

fn set(key: &'static str, value: OnDrop) -> Change<&'static str, OnDrop> {
    Change::new().set(key, value)
}

#[test]
fn a_value_whose_drop_panics_panics_out_of_the_commit_and_the_commit_stands() {
    let dictionary = Values::new();
    let buffer = dictionary.change_buffer();
    let armed = OnDrop(Arc::new(|| {
        DROPPING.set(false);
        panic!("on purpose");
    }));
    assert!(dictionary.update_state(&0, set("a", armed)).is_ok());
    let removed = panic::catch_unwind(|| dictionary.update_state(&0, Change::new().remove("a")));
    assert!(removed.is_err());
    assert_eq!((dictionary.revision().get(), dictionary.snapshot().len()), (2, 0));
    assert!(dictionary.update_state(&0, set("b", inert())).is_ok());
    assert_eq!(buffer.try_flush().map(|delivery| delivery.revision().get()), Ok(3));
}

#[test]
fn a_value_may_use_the_dictionary_when_it_is_dropped() {
    within_a_minute(|| {
        let dictionary = Arc::new(Values::new());
        let buffer = Arc::new(dictionary.change_buffer());
        let (wrote, written) = mpsc::channel();
        let armed = || {
            let (dictionary, buffer, wrote) = (Arc::downgrade(&dictionary), Arc::clone(&buffer), wrote.clone());
            OnDrop(Arc::new(move || {
                let Some(dictionary) = dictionary.upgrade() else { return };
                assert!(dictionary.update_locks(&0, LockRequest::new().acquire("lock", None)).is_ok());
                assert!(dictionary.locks().len() == 1 && dictionary.lock_info("lock").is_some());
                dictionary.clear_locks();
                let _ = buffer.try_flush();
                let _ = wrote.send(dictionary.update_state(&0, set("dropped", inert())).is_ok());
            }))
        };
        let update = |value| assert!(dictionary.update_state(&0, set("a", value)).is_ok());
        let outcomes = || written.try_iter().collect::<Vec<_>>();
        update(armed());
        update(armed());
        assert_eq!(outcomes(), [true], "by a commit");
        drop(buffer.try_flush());
        assert!(dictionary.update_state_with(&0, |_| set("a", inert())).is_ok());
        assert!(outcomes().is_empty(), "the buffer still has it");
        drop(buffer.try_flush());
        assert_eq!(outcomes(), [true], "by a flush");
        update(armed());
        let mut guard = dictionary.lock_content().unwrap();
        assert!(guard.update_state(&0, set("a", inert())).is_ok());
        assert_eq!(outcomes(), [false], "by the guard, past which this thread cannot write");
    });
}

#[test]
fn a_value_of_a_superseded_change_may_use_the_dictionary_when_it_is_dropped() {
    let dictionary = Arc::new(Values::new());
    let (wrote, written) = mpsc::channel();
    let weak = Arc::downgrade(&dictionary);
    let mut superseded = Some(OnDrop(Arc::new(move || {
        let committed = weak.upgrade().map(|dictionary| dictionary.update_state(&0, set("dropped", inert())).is_ok());
        let _ = wrote.send(committed);
    })));
    let committed = dictionary.update_state_with(&0, |_| match superseded.take() {
        Some(value) => {
            let commit = || dictionary.update_state(&0, set("other", inert())).is_ok();
            assert!(thread::scope(|scope| scope.spawn(commit).join().unwrap()));
            set("a", value)
        }
        None => set("a", inert()),
    });
    assert!(committed.is_ok());
    assert_eq!(written.try_iter().collect::<Vec<_>>(), [Some(true)]);
}

#[test]
fn a_closure_whose_superseded_values_write_when_they_are_dropped_gets_done() {
    let dictionary = Arc::new(Values::new());
    let mut runs = 0;
    let committed = dictionary.update_state_with(&0, |_| {
        runs += 1;
        assert!(runs < 10, "each run is superseded by what the one before has left");
        if runs == 1 {
            let commit = || dictionary.update_state(&0, set("other", inert())).is_ok();
            assert!(thread::scope(|scope| scope.spawn(commit).join().unwrap()));
        }
        let weak = Arc::downgrade(&dictionary);
        set("a", OnDrop(Arc::new(move || drop(weak.upgrade().map(|d| d.update_state(&0, set("dropped", inert())))))))
    });
    assert!(committed.is_ok());
}

/// A key that looks at the locks of its dictionary when it, or a clone of it, is dropped.
#[derive(Clone)]
struct Looking(u8, #[allow(dead_code)] OnDrop); // dropped, not read

impl PartialEq for Looking {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Looking {}

impl Hash for Looking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

type Looked = StateDictionary<Looking, u8, OnDrop>;

/// Neither where events and commits are kept, nor where they are at once too many to be kept, nor where they are not
/// kept.
#[test]
fn keys_and_tokens_may_look_at_the_locks_when_they_are_dropped_by_the_end_of_a_session_or_by_an_expiry() {
    for (history_limit, events, keeps, frozen) in [
        (0, 0, false, false),
        (0, 1, true, false),
        (100, 100, true, false),
        (100, 100, true, true),
        (100, 0, false, true),
    ] {
        within_a_minute(|| {
            let clock = ManualClock::new();
            let builder =
                Looked::builder().clock(&clock).shards(2).history_limit(history_limit).lock_history_limit(events);
            let builder = if keeps { builder.commit_history(true) } else { builder };
            let dictionary: Arc<Looked> = Arc::new(builder.build());
            let weak = Arc::downgrade(&dictionary);
            let looked = Arc::new(AtomicUsize::new(0));
            let look = OnDrop(Arc::new({
                let looked = Arc::clone(&looked);
                move || {
                    if let Some(dictionary) = weak.upgrade() {
                        assert!(dictionary.locks().len() <= 5);
                        looked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
            let key = |number| Looking(number, look.clone());
            let mut session = dictionary.session(look.clone());
            let set = (0..3).fold(Change::new(), |change, number| change.set(key(number), 0));
            assert!(session.update_ephemeral(set).is_ok());
            let locks = LockRequest::new().acquire(key(0), None).acquire(key(3), None).acquire(key(4), SECOND);
            assert!(session.update_locks(locks).is_ok());
            assert!(dictionary.update_locks(&inert(), LockRequest::new().acquire(key(1), SECOND * 2)).is_ok());
            clock.advance(SECOND);
            if frozen {
                dictionary.freeze();
            }
            let before = looked.load(Ordering::Relaxed);
            let end = session.end();
            assert_eq!((end.released.len(), end.removed.len()), (2, if frozen { 0 } else { 2 }));
            drop(end);
            clock.advance(SECOND);
            assert_eq!(dictionary.expire().locks.len(), 1);
            let _ = dictionary.update_locks(&inert(), LockRequest::new().acquire(key(8), None).release(key(9)));
            dictionary.clear_locks();
            assert!(looked.load(Ordering::Relaxed) > before);
        });
    }
}

#[test]
fn a_token_whose_drop_panics_at_the_end_of_a_session_leaves_no_thread_waiting() {
    within_a_minute(|| {
        let dictionary = StateDictionary::<&'static str, u8, OnDrop>::new();
        let armed = Arc::new(AtomicUsize::new(0));
        let token = OnDrop(Arc::new({
            let armed = Arc::clone(&armed);
            move || {
                if armed.load(Ordering::Relaxed) > 0 {
                    armed.store(0, Ordering::Relaxed);
                    DROPPING.set(false);
                    panic!("on purpose");
                }
            }
        }));
        let mut session = dictionary.session(token);
        assert!(session.update_ephemeral(Change::new().set("a", 1)).is_ok());
        assert!(session.update_locks(LockRequest::new().acquire("a", None)).is_ok());
        let buffer = dictionary.change_buffer();
        assert!(buffer.flush().is_ok());
        let panicked = thread::scope(|scope| {
            let waiting = spawn_waiting(scope, || buffer.flush().unwrap().removals().len());
            armed.store(1, Ordering::Relaxed);
            let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| session.end())).is_err();
            assert_eq!(waiting.join().unwrap(), 1);
            panicked
        });
        assert!(panicked && dictionary.locks().is_empty() && dictionary.snapshot().is_empty());
    });
}

/// Writes when its thread ends.
struct WhenTheThreadEnds(Arc<StateDictionary<&'static str, u8, u8>>);

impl Drop for WhenTheThreadEnds {
    fn drop(&mut self) {
        assert!(self.0.update_state_with(&0, |_| Change::new().set("at the end", 1)).is_ok());
    }
}

thread_local! {
    static AT_THE_END: RefCell<Option<WhenTheThreadEnds>> = const { RefCell::new(None) };
}

#[test]
fn a_destructor_that_runs_when_the_thread_ends_may_write() {
    let dictionary = Arc::new(StateDictionary::new());
    let at_the_end = WhenTheThreadEnds(Arc::clone(&dictionary));
    let wrote = thread::spawn(move || {
        AT_THE_END.with(|end| drop(end.borrow_mut().replace(at_the_end)));
        AT_THE_END.with_borrow(|end| end.as_ref().map(|end| end.0.update_state_with(&0, |_| Change::new().set("a", 1))))
    });
    assert!(wrote.join().unwrap().is_some_and(|committed| committed.is_ok()));
    assert!(dictionary.get("at the end").is_some());
}

#[test]
fn a_token_may_use_the_dictionary_when_it_is_dropped() {
    within_a_minute(|| {
        let clock = ManualClock::new();
        let dictionary: Arc<Tokens> = Arc::new(StateDictionary::builder().clock(&clock).shards(2).build());
        let calls = Arc::new(AtomicUsize::new(0));
        let weak = Arc::downgrade(&dictionary);
        let count = Arc::clone(&calls);
        let token = OnDrop(Arc::new(move || {
            let Some(dictionary) = weak.upgrade() else { return };
            count.fetch_add(1, Ordering::Relaxed);
            let _ = dictionary.locks();
            assert!(dictionary.update_state(&inert(), Change::new().set("other", 1)).is_ok());
        }));
        let ends: [fn(&Tokens, &OnDrop, &ManualClock); 6] = [
            |dictionary, token, _| drop(dictionary.update_locks(token, LockRequest::new().release("a"))),
            |dictionary, token, _| drop(dictionary.release_all(token)),
            |dictionary, _, _| drop(dictionary.clear_locks()),
            |dictionary, _, _| drop(dictionary.update_state(&inert(), Change::new().set("a", 1))),
            |dictionary, _, clock| {
                clock.advance(SECOND);
                assert!(dictionary.update_state(&inert(), Change::new().set("a", 1)).is_ok());
            },
            |dictionary, _, clock| {
                clock.advance(SECOND);
                assert!(dictionary.update_locks(&inert(), LockRequest::new().acquire("a", SECOND)).is_ok());
            },
        ];
        for end in ends {
            dictionary.clear_locks();
            let request = LockRequest::new().acquire("a", SECOND).acquire("b", SECOND);
            assert!(dictionary.update_locks(&token, request).is_ok());
            calls.store(0, Ordering::Relaxed);
            end(&dictionary, &token, &clock);
            assert!(calls.load(Ordering::Relaxed) > 0);
        }
    });
}

/// A dictionary with a buffer that keeps the last of a value that panics when it is dropped.
fn with_a_mined_buffer() -> (Values, state_dictionary::ChangeBuffer<&'static str, OnDrop>) {
    let dictionary: Values = StateDictionary::builder().history_limit(2).build();
    let buffer = dictionary.change_buffer();
    let armed = OnDrop(Arc::new(|| {
        DROPPING.set(false);
        panic!("on purpose");
    }));
    assert!(dictionary.update_state(&0, set("a", armed).set("b", inert())).is_ok());
    assert!(buffer.flush().is_ok());
    assert!(dictionary.update_state(&0, set("a", inert()).remove("b")).is_ok());
    (dictionary, buffer)
}

#[test]
fn a_flush_in_which_a_destructor_panics_is_made_up_for_by_the_next() {
    for more in [0, 9] {
        let (dictionary, buffer) = with_a_mined_buffer();
        assert!(panic::catch_unwind(|| buffer.try_flush().map(drop)).is_err());
        assert_eq!(buffer.position().revision.get(), 1);
        for _ in 0..more {
            dictionary.update_state(&0, set("a", inert())).unwrap();
        }
        let delivery = buffer.try_flush().unwrap();
        let updates: Vec<_> = delivery.updates().map(|(key, _)| *key).collect();
        assert_eq!(updates, ["a"]);
        assert_eq!(delivery.is_full(), more > 0, "the history does not reach back so far");
        assert_eq!(delivery.removals().len(), usize::from(more == 0));
        assert_eq!(buffer.position(), dictionary.position());
        assert!(buffer.try_flush().is_err());
    }
}

#[test]
fn a_last_flush_in_which_a_destructor_panics_is_made_up_for_by_the_next() {
    let (dictionary, buffer) = with_a_mined_buffer();
    dictionary.freeze();
    assert!(panic::catch_unwind(|| buffer.flush().map(drop)).is_err());
    assert_eq!(buffer.flush().unwrap().updates().count(), 1);
    assert!(buffer.flush().is_err());
}
