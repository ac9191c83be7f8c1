//! Waking waiters. Used by the feeds (flushes and subscriptions), by writers that wait for locked content, and by the
//! manual clock.
//!
//! An event carries no data; it means "look again". Every wait therefore has the same steps: look, register, look
//! again, sleep. The second look sees what happened before it; for what happens after it, the listener is registered.

use crate::clock::Clock;
use crate::sync::Event;
use std::time::Instant;

/// The result of a look.
pub(crate) enum Look<R> {
    Found(R),
    /// Nothing yet. It may come without a notification at this time, if one is given.
    Until(Option<Instant>),
}

/// Waits until `look` finds something, or until `deadline`; `None` if the deadline came first.
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

/// Waits until `look` finds something. It is called again at the times that it returns.
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

/// Waits until `look` finds something, without blocking the thread: [`wait`] for a task, without a deadline.
///
/// Cancel-safe: it only looks.
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
