//! Waking whoever waits. Used by the feed (flushes and subscriptions), by writers held up, and by the manual clock.
//!
//! An event carries no data; it only says "look again". Every wait therefore has the same shape: look, register, look
//! again, sleep. What happens before the second look is seen by it; what happens after finds the listener registered.

use crate::clock::Clock;
use crate::sync::Event;
use std::time::Instant;

/// What a look finds.
pub(crate) enum Look<R> {
    Found(R),
    /// Nothing; there will be something at this time, if at all and if nobody notifies before.
    Until(Option<Instant>),
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
    wait_for_look(event, clock, || match look() {
        Some(found) => Look::Found(Some(found)),
        None if deadline.is_some_and(|deadline| clock.now() >= deadline) => Look::Found(None),
        None => Look::Until(deadline),
    })
}

/// Waits until `look` finds something, which it is asked again at the times that it says itself.
pub(crate) fn wait_for_look<R>(event: &Event, clock: &Clock, mut look: impl FnMut() -> Look<R>) -> R {
    loop {
        if let Look::Found(found) = look() {
            return found;
        }
        let listener = event.listen();
        match look() {
            Look::Found(found) => return found,
            // A manual clock notifies every event when it is moved.
            Look::Until(Some(deadline)) if clock.is_system() => listener.wait_deadline(deadline),
            Look::Until(_) => listener.wait(),
        }
    }
}

/// Waits until `look` finds something, without blocking the thread: [`wait`] for a task. Knows no time.
///
/// Dropped, it has done nothing but look.
#[cfg(feature = "async")]
pub(crate) async fn wait_async<R>(event: &Event, mut look: impl FnMut() -> Option<R>) -> R {
    loop {
        if let Some(found) = look() {
            return found;
        }
        let listener = event.listen();
        if let Some(found) = look() {
            return found;
        }
        listener.await;
    }
}
