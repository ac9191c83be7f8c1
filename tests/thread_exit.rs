//! While a thread ends, its thread-locals are destroyed one after the other, and their destructors may use the dictionary.
#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use common::{Dictionary, acquire, set, within_a_minute};
use state_dictionary::{Change, LockContentError, Refusal, Snapshot, StateDictionary, UpdateError};
use std::cell::RefCell;
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::thread;

/// What a thread does when it ends.
struct AtExit(Option<Box<dyn FnOnce()>>);

impl Drop for AtExit {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

thread_local! {
    static FIRST: RefCell<Option<AtExit>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<AtExit>> = const { RefCell::new(None) };
}

/// What `act` returns in a thread that ends: once before and once after it has used the dictionary for the first time,
/// because thread-locals are destroyed in the order in which they are made, or in the reverse one.
fn while_a_thread_ends<R: Send + 'static>(
    dictionary: &Arc<Dictionary>,
    act: impl Fn(&Dictionary) -> R + Clone + Send + 'static,
) -> [R; 2] {
    let (results, result) = channel();
    let dictionary = Arc::clone(dictionary);
    let ended = thread::spawn(move || {
        let at_exit = || {
            let (dictionary, act, results) = (Arc::clone(&dictionary), act.clone(), results.clone());
            Some(AtExit(Some(Box::new(move || results.send(act(&dictionary)).unwrap()))))
        };
        FIRST.set(at_exit());
        dictionary.update_state_with(&"", |_| set("warm", 0)).unwrap();
        drop(dictionary.lock_content());
        drop(dictionary.snapshot());
        LAST.set(at_exit());
    });
    within_a_minute(|| ended.join().unwrap());
    [result.recv().unwrap(), result.recv().unwrap()]
}

#[test]
fn writing_from_inside_a_closure_is_refused() {
    let dictionary = Arc::new(Dictionary::new());
    let outer = while_a_thread_ends(&dictionary, |dictionary| {
        let mut refused = Vec::new();
        let committed = dictionary.update_state_with_limit(&"", 5, |_| {
            let mut session = dictionary.session("alice");
            refused.extend([
                dictionary.update_state(&"", set("nested", 1)),
                dictionary.try_update_state(&"", set("nested", 1)),
                dictionary.update_state_with(&"", |_| set("nested", 1)),
                session.update_ephemeral(set("nested", 1)),
                dictionary.lock_content().unwrap().update_state(&"", set("nested", 1)),
            ]);
            set("outer", 1)
        });
        assert!(
            refused.iter().all(|nested| matches!(nested, Err(UpdateError { reason: Refusal::InsideUpdate, .. }))),
            "{refused:?}"
        );
        committed.is_ok()
    });
    assert_eq!(outer, [true, true]);
    assert!(dictionary.get("outer").is_some() && dictionary.get("nested").is_none());
}

#[test]
fn closures_of_several_dictionaries_are_distinguished() {
    fn nest(dictionaries: &[Dictionary]) {
        let [dictionary, inner @ ..] = dictionaries else { return };
        dictionary
            .update_state_with(&"", |_| {
                nest(inner);
                for inner in inner {
                    inner.update_state(&"", set("from outside", 1)).unwrap();
                }
                let refused = dictionary.update_state(&"", set("nested", 1));
                assert!(matches!(refused, Err(UpdateError { reason: Refusal::InsideUpdate, .. })));
                set("outer", 1)
            })
            .unwrap();
        dictionary.update_state(&"", set("afterwards", 1)).unwrap();
    }
    while_a_thread_ends(&Arc::new(Dictionary::new()), |_| {
        let dictionaries = [(); 9].map(|()| Dictionary::new());
        nest(&dictionaries);
        assert!(dictionaries.iter().all(|dictionary| dictionary.get("nested").is_none()));
    });
}

#[test]
fn a_closure_that_panics_is_left() {
    while_a_thread_ends(&Arc::new(Dictionary::new()), |dictionary| {
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            dictionary.update_state_with(&"", |_| -> Change<_, _> { panic!("on purpose") })
        }));
        assert!(unwound.is_err() && dictionary.update_state(&"", set("a", 1)).is_ok());
    });
}

#[test]
fn writing_past_the_threads_own_guard_is_refused() {
    while_a_thread_ends(&Arc::new(Dictionary::new()), |dictionary| {
        let mut guard = dictionary.lock_content().unwrap();
        assert!(matches!(
            dictionary.update_state(&"", set("a", 1)),
            Err(UpdateError { reason: Refusal::ContentLockedByThisThread, .. })
        ));
        assert!(matches!(dictionary.try_lock_content(), Err(LockContentError::ContentLockedByThisThread)));
        guard.update_state(&"", set("a", 1)).unwrap();
    });
}

#[test]
fn everything_else_works() {
    while_a_thread_ends(&Arc::new(Dictionary::new()), |dictionary| {
        let buffer = dictionary.change_buffer();
        dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
        assert!(dictionary.update_state(&"bob", set("a", 1)).is_err());
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        assert!(dictionary.lock_info("a").is_some() && dictionary.get("a").is_some());
        assert!(buffer.flush().is_ok() && buffer.flush_timeout(common::NANOSECOND).is_err());
        assert_eq!(dictionary.release_all(&"alice"), ["a"]);
    });
}

/// A value that looks at the locks when it is dropped, which waits for ever if a shard is locked by then.
struct Looks(Weak<StateDictionary<u8, Looks, u8>>);

impl Drop for Looks {
    fn drop(&mut self) {
        if let Some(dictionary) = self.0.upgrade() {
            drop(dictionary.locks());
        }
    }
}

#[test]
fn values_are_dropped_with_no_shard_locked() {
    let dictionary = Arc::new(StateDictionary::new());
    let own = Arc::downgrade(&dictionary);
    within_a_minute(|| {
        let keep: Arc<StateDictionary<u8, Looks, u8>> = Arc::clone(&dictionary);
        let ended = thread::spawn(move || {
            let act = move || {
                let kept: Vec<Snapshot<u8, Looks>> = (0..9)
                    .map(|number| {
                        keep.update_state(&0, Change::new().set(number % 2, Looks(Weak::clone(&own)))).unwrap();
                        keep.snapshot()
                    })
                    .collect();
                drop(kept);
                keep.update_locks(&0, state_dictionary::LockRequest::new().acquire(0, None)).unwrap();
                keep.update_state(&0, Change::new().remove(0).remove(1)).unwrap();
                keep.clear_locks();
            };
            FIRST.set(Some(AtExit(Some(Box::new(act)))));
        });
        ended.join().unwrap();
    });
    assert!(dictionary.snapshot().is_empty());
}
