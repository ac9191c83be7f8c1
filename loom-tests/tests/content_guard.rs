//! `lock_content` against commits.
#![cfg(loom)]

use loom::thread;
use loom_tests::{explore, shared};
use state_dictionary::Change;
use std::sync::Arc;

/// Invariant: while the content is held nothing is committed but through the guard; a writer held up is woken.
#[test]
fn held_content_against_commit() {
    explore("held_content_against_commit", 45, || {
        let dictionary = shared();
        let writer = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap()
        });
        let holder = thread::spawn({
            let dictionary = Arc::clone(&dictionary);
            move || {
                let mut guard = dictionary.lock_content().unwrap();
                let seen = guard.revision();
                let own = guard.update_state(&'b', Change::new().set(1, 1)).unwrap();
                assert_eq!(own.get(), seen.get() + 1, "a commit came past the guard");
                assert_eq!(dictionary.revision(), own);
            }
        });
        writer.join().unwrap();
        holder.join().unwrap();
        assert_eq!(dictionary.revision().get(), 2);
    });
}
