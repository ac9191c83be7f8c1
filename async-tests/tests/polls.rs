//! How much one poll does where others are faster. Polled by hand: there is no executor that could hide a poll.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use state_dictionary::{Change, Refusal, Snapshot, StateDictionary, UpdateError};
use std::cell::Cell;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

#[derive(Default)]
struct CountsWakes(AtomicUsize);

impl Wake for CountsWakes {
    fn wake(self: Arc<Self>) {
        // ORDERING: Relaxed here and below, there is only this thread.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls until it is ready, and calls `after_each` with the number of each poll. A poll that is pending must have woken its
/// task.
fn poll_to_the_end<R>(future: impl Future<Output = R>, mut after_each: impl FnMut(usize)) -> R {
    let wakes = Arc::new(CountsWakes::default());
    let wakes_it = Waker::from(Arc::clone(&wakes));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&wakes_it));
    for poll in 1..100 {
        let before = wakes.0.load(Ordering::Relaxed);
        let polled = future.as_mut().poll(&mut context);
        after_each(poll);
        match polled {
            Poll::Ready(result) => return result,
            Poll::Pending => assert!(wakes.0.load(Ordering::Relaxed) > before, "nothing wakes it after poll {poll}"),
        }
    }
    panic!("it is not ready after 99 polls")
}

type Dictionary = StateDictionary<&'static str, usize, &'static str>;

fn commit_elsewhere(dictionary: &Dictionary) {
    thread::scope(|scope| {
        scope.spawn(|| dictionary.try_update_state(&"other", Change::new().set("a", 1)).unwrap()).join()
    })
    .unwrap();
}

#[test]
fn a_closure_runs_once_in_each_poll() {
    let (dictionary, runs) = (Dictionary::new(), Cell::new(0));
    let overtaken = |_: &Snapshot<_, _>| {
        runs.set(runs.get() + 1);
        if runs.get() < 6 {
            commit_elsewhere(&dictionary);
        }
        Change::new().set("b", runs.get())
    };
    let committed = poll_to_the_end(dictionary.update_state_with_async(&"", overtaken), |poll| {
        assert!(runs.get() <= poll, "{} runs in {poll} polls", runs.get());
    });
    assert_eq!((committed.unwrap().get(), runs.get(), dictionary.snapshot()["b"]), (6, 6, 6));
}

#[test]
fn a_closure_runs_once_in_each_poll_also_if_the_content_is_locked_at_times() {
    let (dictionary, runs) = (Dictionary::new(), Cell::new(0));
    let guard = Cell::new(None);
    let held_up = |_: &Snapshot<_, _>| {
        runs.set(runs.get() + 1);
        if runs.get() < 6 {
            guard.set(Some(futures_lite::future::block_on(dictionary.lock_content_async())));
        }
        Change::new().set("b", runs.get())
    };
    let committed = poll_to_the_end(dictionary.update_state_with_async(&"", held_up), |poll| {
        assert!(runs.get() <= poll, "{} runs in {poll} polls", runs.get());
        drop(guard.take());
    });
    assert_eq!((committed.unwrap().get(), runs.get()), (1, 6));
}

#[test]
fn a_timeout_around_a_slow_closure_beside_busy_writers_ends_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (dictionary, over) = (Dictionary::new(), std::sync::atomic::AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    dictionary.update_state(&"busy", Change::new().set("a", 1)).unwrap();
                }
            });
        }
        let runs = Cell::new(0);
        let slow = |_: &Snapshot<_, _>| {
            runs.set(runs.get() + 1);
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            Change::new().set("b", runs.get())
        };
        let polls = Cell::new(0);
        let mut update = pin!(dictionary.update_state_with_async(&"", slow));
        let counted = poll_fn(|context| {
            polls.set(polls.get() + 1);
            update.as_mut().poll(context)
        });
        // That this comes back at all is the point; how many polls the runtime fits into the time is its business.
        let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(50), counted).await });
        over.store(true, Ordering::Relaxed);
        assert!(runs.get() <= polls.get(), "{} runs in {} polls: {ended:?}", runs.get(), polls.get());
    });
}

thread_local! {
    static IN_HASH: Cell<Option<fn()>> = const { Cell::new(None) };
    static ATTEMPTS: Cell<usize> = const { Cell::new(0) };
}

/// A key of which each attempt to commit computes the hash, once it has loaded the root.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Overtaken(&'static str);

impl Hash for Overtaken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        if let Some(act) = IN_HASH.get() {
            ATTEMPTS.set(ATTEMPTS.get() + 1);
            act();
        }
    }
}

/// Whom others overtake in each of its attempts.
static OVERTAKEN: std::sync::LazyLock<StateDictionary<Overtaken, usize, &str>> =
    std::sync::LazyLock::new(StateDictionary::new);

fn overtake() {
    if ATTEMPTS.get() < 30 {
        let commit = || OVERTAKEN.try_update_state(&"other", Change::new().set(Overtaken("a"), 1)).unwrap();
        thread::scope(|scope| scope.spawn(commit).join()).unwrap();
    }
}

/// Runs it to its end while others are faster thirty times, and returns the most attempts there were in one poll.
fn most_attempts_in_a_poll<R>(
    future: impl Future<Output = Result<R, UpdateError<Overtaken, usize, &'static str>>>,
) -> usize {
    ATTEMPTS.set(0);
    IN_HASH.set(Some(overtake));
    let (mut before, mut most) = (0, 0);
    let committed = poll_to_the_end(future, |_| {
        most = most.max(ATTEMPTS.get() - before);
        before = ATTEMPTS.get();
    });
    IN_HASH.set(None);
    assert!(committed.is_ok() && ATTEMPTS.get() >= 30, "{} attempts", ATTEMPTS.get());
    most
}

#[test]
fn a_change_that_is_overtaken_again_and_again_ends_its_poll() {
    let change = || Change::new().set(Overtaken("b"), 1);
    assert!((2..=4).contains(&most_attempts_in_a_poll(OVERTAKEN.update_state_async(&"", change()))));
    let mut session = OVERTAKEN.session("alice");
    assert!((2..=4).contains(&most_attempts_in_a_poll(session.update_state_async(change()))));
    // Which hashes the key for its own book-keeping, too.
    assert!((2..=8).contains(&most_attempts_in_a_poll(session.update_ephemeral_async(change()))));
}

/// What polls a future when the thread ends.
struct AtExit(Arc<Dictionary>, std::sync::mpsc::Sender<bool>);

impl Drop for AtExit {
    fn drop(&mut self) {
        let refused = Cell::new(false);
        let nested = |_: &Snapshot<_, _>| {
            let nested = poll_to_the_end(self.0.update_state_async(&"", Change::new().set("nested", 1)), |_| ());
            refused.set(matches!(nested, Err(UpdateError { reason: Refusal::InsideUpdate, .. })));
            Change::new().set("outer", 1)
        };
        let committed = poll_to_the_end(self.0.update_state_with_async(&"", nested), |_| ());
        self.1.send(refused.get() && committed.is_ok()).unwrap();
    }
}

thread_local! {
    static AT_EXIT: Cell<Option<AtExit>> = const { Cell::new(None) };
}

#[test]
fn writing_from_inside_a_closure_is_refused_also_while_the_thread_ends() {
    let dictionary = Arc::new(Dictionary::new());
    let (results, result) = std::sync::mpsc::channel();
    let ended = thread::spawn({
        let dictionary = Arc::clone(&dictionary);
        move || {
            AT_EXIT.set(Some(AtExit(Arc::clone(&dictionary), results)));
            dictionary.update_state_with(&"", |_| Change::new().set("warm", 0)).unwrap();
        }
    });
    ended.join().unwrap();
    assert!(result.recv().unwrap() && dictionary.get("outer").is_some() && dictionary.get("nested").is_none());
}
