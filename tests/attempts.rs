//! What an attempt to commit looks at, and what makes a writer try again.

use state_dictionary::{Change, LockRequest, StateDictionary};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

thread_local! {
    static HASHES: Cell<u32> = const { Cell::new(0) };
    static COMPARISONS: Cell<u32> = const { Cell::new(0) };
    static IN_HASH: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// A key of which each attempt to commit computes the hash, once it has loaded the root. Other things can then be made to
/// happen.
#[derive(Clone, Debug, Eq)]
struct Counted(&'static str);

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        HASHES.set(HASHES.get() + 1);
        self.0.hash(state);
        if let Some(act) = IN_HASH.take() {
            act();
        }
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.0 == other.0
    }
}

#[test]
fn a_grant_or_a_release_makes_a_writer_try_again_and_a_renewal_does_not() {
    let dictionary: Arc<StateDictionary<Counted, i32, &str>> = Arc::new(StateDictionary::new());
    let attempts_with = |request: LockRequest<Counted>| {
        let locking = Arc::clone(&dictionary);
        IN_HASH.set(Some(Box::new(move || {
            assert!(locking.update_locks(&"alice", request).is_ok());
            HASHES.set(1);
        })));
        assert!(dictionary.update_state(&"bob", Change::new().set(Counted("a"), 1)).is_ok());
        HASHES.get()
    };
    let acquire = || LockRequest::new().acquire(Counted("b"), None);
    let release = || LockRequest::new().release(Counted("b"));
    assert_eq!(attempts_with(LockRequest::new()), 1);
    assert_eq!(attempts_with(acquire()), 2, "a grant");
    assert_eq!(attempts_with(acquire()), 1, "a renewal");
    assert_eq!(attempts_with(release()), 2, "a release");
    assert_eq!(attempts_with(release()), 1, "it is not held");
}

#[test]
fn a_writer_looks_at_the_locks_only_while_there_are_any() {
    let dictionary: StateDictionary<Counted, i32, &str> = StateDictionary::new();
    let comparisons = || {
        COMPARISONS.set(0);
        dictionary.update_state(&"bob", Change::new().set(Counted("a"), 1)).unwrap();
        COMPARISONS.get()
    };
    // The spare root takes two commits to be there.
    let _ = [comparisons(), comparisons(), comparisons()];
    let without_looking = comparisons();
    dictionary.update_locks(&"bob", LockRequest::new().acquire(Counted("a"), None)).unwrap();
    assert_eq!(comparisons(), without_looking + 1);
    dictionary.update_locks(&"bob", LockRequest::new().release(Counted("a"))).unwrap();
    assert_eq!(comparisons(), without_looking);
}
