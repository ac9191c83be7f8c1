//! Keys and values whose `Drop` panics or uses the dictionary, against commits, grants and waiting.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking
#![allow(clippy::disallowed_types)] // not part of what is modelled

use loom::thread::ThreadId;
use loom_tests::{actor, explore, join};
use state_dictionary::{Change, LockRequest, StateDictionary};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Weak};

/// A key that panics, without a message, when the armed thread drops it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bomb(u8);

static ARMED: Mutex<Option<ThreadId>> = Mutex::new(None);

impl Drop for Bomb {
    fn drop(&mut self) {
        // Mostly, keys are dropped where there is no thread of loom's.
        let armed = *ARMED.lock().unwrap();
        if armed.is_some_and(|thread| thread == loom::thread::current().id()) && !std::thread::panicking() {
            panic::resume_unwind(Box::new("on purpose"));
        }
    }
}

/// Invariant: a commit has woken those who wait for it even if dropping what it replaced panics. (Keys that the history
/// forgets, not values: a thread asleep in a flush still has every value of the root that is replaced.)
#[test]
fn waiting_flush_against_commit_that_drops_a_bomb() {
    explore("waiting_flush_against_commit_that_drops_a_bomb", 380, || {
        let dictionary: Arc<StateDictionary<Bomb, u8, char>> = Arc::new(StateDictionary::new());
        let buffer = Arc::new(dictionary.change_buffer());
        for key in 1..=4 {
            dictionary.update_state(&'a', Change::new().set(Bomb(key), 0)).unwrap();
        }
        buffer.flush().unwrap();
        let follower = actor(&buffer, |b| b.flush().unwrap().revision().get());
        let writer = actor(&dictionary, |d| {
            let change = Change::new().set(Bomb(5), 0);
            *ARMED.lock().unwrap() = Some(loom::thread::current().id());
            let panicked = panic::catch_unwind(AssertUnwindSafe(|| d.update_state(&'a', change))).is_err();
            *ARMED.lock().unwrap() = None;
            panicked
        });
        assert_eq!(join(follower), 5);
        assert!(join(writer), "nothing that panics was dropped");
    });
}

/// Looks at the locks when it is dropped.
struct Inspector(Weak<Inspected>);

type Inspected = StateDictionary<u8, Inspector, char>;

impl Drop for Inspector {
    fn drop(&mut self) {
        if let Some(dictionary) = self.0.upgrade() {
            assert!(dictionary.locks().len() <= 1);
        }
    }
}

/// Invariant: nothing is dropped while a shard is locked, not even a root that a grant was the last to hold.
#[test]
fn grant_against_commit_whose_old_value_looks_at_the_locks() {
    explore("grant_against_commit_whose_old_value_looks_at_the_locks", 140, || {
        let dictionary: Arc<Inspected> = Arc::new(StateDictionary::new());
        let inspector = Inspector(Arc::downgrade(&dictionary));
        dictionary.update_state(&'a', Change::new().set(0, inspector)).unwrap();
        let writer = actor(&dictionary, |d| d.update_state(&'a', Change::new().remove(0)).unwrap());
        let locker =
            actor(&dictionary, |d| d.update_locks(&'b', LockRequest::new().acquire(1, None)).unwrap().granted.len());
        join(writer);
        assert_eq!(join(locker), 1);
    });
}
