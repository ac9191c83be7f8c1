//! The time that leases, timeouts and intervals use: the system's, or one that a test sets.

use crate::sync::Wakeups;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// A clock that stands still until it is moved, for tests of leases, timeouts and intervals that must not sleep.
///
/// Clones are the same clock. Moving it wakes every wait of every dictionary that uses it, so a wait whose deadline has
/// come ends although no real time has passed.
///
/// ```
/// use state_dictionary::{LockRequest, ManualClock, StateDictionary};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().clock(&clock).build();
/// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
/// assert!(dictionary.lock_info(&"ball").is_some());
/// clock.advance(Duration::from_secs(5));
/// assert!(dictionary.lock_info(&"ball").is_none());
/// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Manual>);

struct Manual {
    start: Instant,
    elapsed_nanos: AtomicU64,
    wakes: Mutex<Vec<Arc<Wakeups>>>,
}

impl ManualClock {
    /// A clock that stands at some instant.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Manual {
            start: Instant::now(),
            elapsed_nanos: AtomicU64::new(0),
            wakes: Mutex::new(Vec::new()),
        }))
    }

    /// Moves the clock forward and wakes all waiters.
    ///
    /// ```
    /// use state_dictionary::{ManualClock, StateDictionary, FlushTimeoutError};
    /// use std::{thread, time::Duration};
    ///
    /// let clock = ManualClock::new();
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().clock(&clock).build();
    /// let buffer = dictionary.change_buffer();
    /// thread::scope(|scope| {
    ///     let second = Duration::from_secs(1);
    ///     let waiting = scope.spawn(move || buffer.flush_timeout(second).unwrap_err());
    ///     while !waiting.is_finished() {
    ///         clock.advance(second); // repeatedly, since the thread may not have started yet
    ///     }
    ///     assert_eq!(waiting.join().unwrap(), FlushTimeoutError::TimedOut);
    /// });
    /// ```
    ///
    /// # Panics
    /// If the clock would be more than `u64::MAX` nanoseconds (about 584 years) after its start. It is not moved then.
    pub fn advance(&self, by: Duration) {
        let later = |elapsed: u64| elapsed.checked_add(u64::try_from(by.as_nanos()).ok()?);
        // ORDERING: AcqRel, so that a thread that reads the new time also sees what happened before the clock was
        // moved.
        let moved = self.0.elapsed_nanos.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
        assert!(moved.is_ok(), "a manual clock cannot be moved by more than 584 years in total");
        let wakes = self.0.wakes.lock().clone();
        for wakeups in wakes {
            wakeups.notify_everyone();
        }
    }

    /// How far the clock has been moved since it was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        // ORDERING: Acquire pairs with `advance`'s release.
        Duration::from_nanos(self.0.elapsed_nanos.load(Ordering::Acquire))
    }
}

// No code of the user's runs while it is moved.
impl UnwindSafe for ManualClock {}
impl RefUnwindSafe for ManualClock {}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("elapsed", &self.elapsed()).finish()
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Clock {
    System,
    Manual(ManualClock),
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Manual(clock) => clock.0.start + clock.elapsed(),
        }
    }

    pub(crate) fn is_system(&self) -> bool {
        matches!(self, Self::System)
    }

    /// Registers these wakeups: moving the clock notifies them.
    pub(crate) fn register(&self, wakeups: &Arc<Wakeups>) {
        if let Self::Manual(clock) = self {
            clock.0.wakes.lock().push(Arc::clone(wakeups));
        }
    }

    /// Unregisters them.
    pub(crate) fn unregister(&self, wakeups: &Arc<Wakeups>) {
        if let Self::Manual(clock) = self {
            clock.0.wakes.lock().retain(|other| !Arc::ptr_eq(other, wakeups));
        }
    }
}
