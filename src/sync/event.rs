//! Waiting by event-listener, which loom can explore as it is.

use super::{AtomicUsize, Ordering};
use event_listener::Listener as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// Counts its listeners itself, so that a notification without listeners, which every commit makes, costs next to
/// nothing.
pub(crate) struct Event {
    event: event_listener::Event,
    listeners: AtomicUsize,
}

pub(crate) struct Listener<'a> {
    listener: event_listener::EventListener,
    _counted: Counted<'a>,
}

struct Counted<'a>(&'a AtomicUsize);

impl Event {
    pub(crate) fn new() -> Self {
        Self { event: event_listener::Event::new(), listeners: AtomicUsize::new(0) }
    }

    pub(crate) fn listen(&self) -> Listener<'_> {
        // ORDERING: AcqRel, like the one in `notify_all`: of two read-modify-writes one comes first. If it is that one,
        // the listener sees what was announced when it looks again; if it is this one, the notifier sees the listener,
        // and event-listener does the rest.
        self.listeners.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(&self.listeners);
        Listener { listener: self.event.listen(), _counted: counted }
    }

    pub(crate) fn notify_all(&self) {
        // ORDERING: AcqRel, see `listen`; a plain load could be done before what is announced is visible.
        if self.listeners.fetch_add(0, Ordering::AcqRel) > 0 {
            self.event.notify(usize::MAX);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed, for a listener that is dropped needs no later notification.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener<'_> {
    pub(crate) fn wait(self) {
        self.listener.wait();
    }

    /// # Panics
    /// Under loom, which has no time.
    #[cfg_attr(loom, allow(unused_variables, clippy::unused_self))]
    pub(crate) fn wait_deadline(self, deadline: Instant) {
        #[cfg(loom)]
        panic!(
            "loom has no time, so a wait with a time limit needs a ManualClock: build the dictionary with one, and call its \
             `advance` in a thread of the model"
        );
        #[cfg(not(loom))]
        self.listener.wait_deadline(deadline);
    }
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.listener).poll(context)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Otherwise every commit after it would notify needlessly.
    #[test]
    fn a_listener_that_is_dropped_counts_no_longer() {
        let event = Event::new();
        for polled in [false, true] {
            let mut listener = event.listen();
            assert!(!polled || Pin::new(&mut listener).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            // ORDERING: Relaxed here and below, there is only this thread.
            assert_eq!(event.listeners.load(Ordering::Relaxed), 1);
            drop(listener);
            assert_eq!(event.listeners.load(Ordering::Relaxed), 0);
        }
    }
}
