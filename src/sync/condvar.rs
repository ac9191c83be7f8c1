//! Waiting by a counter and a condition variable: for shuttle, which event-listener does not support; for WebAssembly,
//! where event-listener cannot block; and for a program's own `--cfg loom` without our feature, under which
//! event-listener would use loom while the rest of the crate does not.

#[cfg(all(shuttle, feature = "shuttle"))]
use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(shuttle, feature = "shuttle")))]
use std::sync::{Condvar, Mutex, MutexGuard};

use std::mem;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

pub(crate) struct Event {
    state: Mutex<State>,
    raised: Condvar,
}

struct State {
    notifications: u64,
    /// How many tasks have waited so far.
    tasks: u64,
    /// The tasks that wait, by their numbers.
    wakers: Vec<(u64, Waker)>,
}

pub(crate) struct Listener<'a> {
    event: &'a Event,
    seen: u64,
    /// Its number among the tasks, if a task waits with it.
    number: Option<u64>,
}

impl Event {
    pub(crate) fn new() -> Self {
        let state = State { notifications: 0, tasks: 0, wakers: Vec::new() };
        Self { state: Mutex::new(state), raised: Condvar::new() }
    }

    pub(crate) fn listen(&self) -> Listener<'_> {
        let seen = self.lock().notifications;
        Listener { event: self, seen, number: None }
    }

    pub(crate) fn notify_all(&self) {
        let mut state = self.lock();
        state.notifications += 1;
        let wakers = mem::take(&mut state.wakers);
        drop(state);
        self.raised.notify_all();
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener<'_> {
    pub(crate) fn wait(self) {
        let mut state = self.event.lock();
        while state.notifications == self.seen {
            state = self.event.raised.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Under shuttle, where no time passes, this may return at any moment.
    pub(crate) fn wait_deadline(self, deadline: Instant) {
        let state = self.event.lock();
        if state.notifications == self.seen {
            let timeout = deadline.saturating_duration_since(Instant::now());
            drop(self.event.raised.wait_timeout(state, timeout));
        }
    }
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.event.lock();
        if state.notifications != self.seen {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or(state.tasks);
        if self.number.is_none() {
            state.tasks += 1;
        }
        state.wakers.retain(|(other, _)| *other != number);
        state.wakers.push((number, context.waker().clone()));
        drop(state);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.event.lock().wakers.retain(|(other, _)| *other != number);
        }
    }
}
