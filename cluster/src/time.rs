//! The time of the engines that keep it themselves: the system's, or one that a test moves.

use event_listener::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where a log takes its time from.
#[derive(Clone, Debug)]
pub(crate) enum Time {
    System(Instant),
    Manual(ManualTime),
}

/// A time that stands still until it is [advanced](Self::advance): for tests and simulations. Clones are the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualTime(Arc<(AtomicU64, Event)>);

impl ManualTime {
    /// A time at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves it. Whoever sleeps until then is woken.
    pub fn advance(&self, by: Duration) {
        let (nanos, moved) = &*self.0;
        // ORDERING: AcqRel, so that who reads the new time also sees what was done before it was moved.
        nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
        moved.notify(usize::MAX);
    }

    /// How far it was moved.
    #[must_use]
    pub fn now(&self) -> Duration {
        // ORDERING: Acquire pairs with the release in `advance`.
        Duration::from_nanos(self.0.0.load(Ordering::Acquire))
    }
}

impl Time {
    pub(crate) fn system() -> Self {
        Self::System(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        match self {
            Self::System(start) => start.elapsed(),
            Self::Manual(time) => time.now(),
        }
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        match self {
            Self::System(_) => {
                async_io::Timer::after(duration).await;
            }
            Self::Manual(time) => {
                let until = time.now() + duration;
                loop {
                    // Before the look, so that no move is missed.
                    let moved = time.0.1.listen();
                    if time.now() >= until {
                        return;
                    }
                    moved.await;
                }
            }
        }
    }
}
