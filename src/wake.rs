//! Waking whoever waits. Used by the feed (flushes and subscriptions), by writers held up, and by the manual clock.
//!
//! An event carries no data; it only says "look again". Every wait therefore has the same shape: look, register, look
//! again, sleep. What happens before the second look is seen by it; what happens after finds the listener registered.

use crate::clock::Clock;
use crate::sync::Event;
use std::time::Instant;

/// The three reasons to look again. Three, because a blocking wait cannot listen to two events at once.
pub(crate) struct Wakeups {
    /// A commit, a freeze (of the dictionary or of one buffer), the end of the dictionary: for those asleep in a flush.
    pub(crate) changed: Event,
    /// The last three only: for subscribers asleep in their interval, whom commits must not wake.
    pub(crate) ended: Event,
    /// The content was let go: for writers that wait for it.
    pub(crate) gate: Event,
}

impl Wakeups {
    pub(crate) fn new() -> Self {
        Self { changed: Event::new(), ended: Event::new(), gate: Event::new() }
    }

    pub(crate) fn notify_everyone(&self) {
        self.changed.notify_all();
        self.ended.notify_all();
        self.gate.notify_all();
    }
}

/// Waits until `look` finds something, or until `deadline`, in which case the answer is `None`.
///
/// `look` must find whatever a notification of `event` announces.
pub(crate) fn wait<R>(
    event: &Event,
    clock: &Clock,
    deadline: Option<Instant>,
    mut look: impl FnMut() -> Option<R>,
) -> Option<R> {
    let mut look_or_late = || match look() {
        Some(found) => Some(Some(found)),
        None => deadline.is_some_and(|deadline| clock.now() >= deadline).then_some(None),
    };
    loop {
        if let Some(answer) = look_or_late() {
            return answer;
        }
        let listener = event.listen();
        if let Some(answer) = look_or_late() {
            return answer;
        }
        match deadline {
            // A manual clock notifies every event when it is moved.
            Some(deadline) if clock.is_system() => listener.wait_deadline(deadline),
            _ => listener.wait(),
        }
    }
}
