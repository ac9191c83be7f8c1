//! What was asked of a node and is not in an entry yet.

use crate::error::{Failure, Stopped};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::mem;
use std::task::Waker;
use std::time::Duration;

/// An operation, encoded.
pub(crate) struct Request<A> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) answer: Answering<A>,
}

/// Who waits for an answer, and until when.
pub(crate) struct Answering<A> {
    pub(crate) to: Option<futures_channel::oneshot::Sender<Result<A, Failure>>>,
    /// By the clock of the log; the caller is then told that there is no answer.
    pub(crate) deadline: Option<Duration>,
}

/// A queue that is bounded by the bytes in it.
pub(crate) struct Queue<A> {
    state: Mutex<State<A>>,
    /// The one task that takes from it.
    taker: AtomicWaker,
    limit: usize,
    max_operation: usize,
}

struct State<A> {
    requests: VecDeque<Request<A>>,
    bytes: usize,
    stopped: Option<Stopped>,
}

impl<A> Answering<A> {
    pub(crate) const NOBODY: Self = Self { to: None, deadline: None };

    pub(crate) fn answer(self, answer: Result<A, Failure>) {
        if let Some(to) = self.to {
            // Who has gone does not want it.
            let _ = to.send(answer);
        }
    }

    pub(crate) fn is_over(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn is_abandoned(&self) -> bool {
        self.to.as_ref().is_some_and(futures_channel::oneshot::Sender::is_canceled)
    }
}

impl<A> Queue<A> {
    pub(crate) fn new(limit: usize, max_operation: usize) -> Self {
        let state = State { requests: VecDeque::new(), bytes: 0, stopped: None };
        Self { state: Mutex::new(state), taker: AtomicWaker::new(), limit, max_operation }
    }

    /// Adds a request, or says why not. Does not wait.
    pub(crate) fn push(&self, request: Request<A>) -> Result<(), Failure> {
        let (size, limit) = (request.bytes.len(), self.max_operation);
        if size > limit {
            return Err(Failure::TooLarge { size, limit });
        }
        let mut state = self.state.lock();
        if let Some(why) = &state.stopped {
            return Err(Failure::Stopped(why.clone()));
        }
        // What the node itself has to say is little, and must not be kept out by its callers.
        let is_own = request.answer.to.is_none();
        if !is_own && state.bytes > 0 && state.bytes + request.bytes.len() > self.limit {
            return Err(Failure::QueueFull);
        }
        state.bytes += request.bytes.len();
        state.requests.push_back(request);
        drop(state);
        self.taker.wake();
        Ok(())
    }

    /// Takes the first requests, as many as have at most `limit` bytes, and one at least. A request whose caller does not
    /// wait any more is dropped: it has not happened.
    pub(crate) fn take(&self, limit: usize) -> Vec<Request<A>> {
        let mut state = self.state.lock();
        let (mut taken, mut size) = (Vec::new(), 0);
        while let Some(request) = state.requests.pop_front() {
            if request.answer.is_abandoned() {
                state.bytes -= request.bytes.len();
            } else if taken.is_empty() || size + request.bytes.len() <= limit {
                size += request.bytes.len();
                taken.push(request);
            } else {
                state.requests.push_front(request);
                break;
            }
        }
        state.bytes -= size;
        taken
    }

    /// Returns what was taken, to its place.
    pub(crate) fn put_back(&self, requests: Vec<Request<A>>) {
        let mut state = self.state.lock();
        for request in requests.into_iter().rev() {
            state.bytes += request.bytes.len();
            state.requests.push_front(request);
        }
    }

    /// Whether there is something to take. If not, the waker is woken when there is, and when the queue is closed.
    pub(crate) fn is_ready(&self, waker: &Waker) -> bool {
        self.taker.register(waker);
        !self.state.lock().requests.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Removes the requests whose time is over. O(n) in the queue.
    pub(crate) fn expire(&self, now: Duration) {
        let mut state = self.state.lock();
        let is_over = |request: &Request<A>| request.answer.is_over(now);
        if state.requests.iter().any(is_over) {
            let (over, rest): (VecDeque<_>, VecDeque<_>) =
                mem::take(&mut state.requests).into_iter().partition(is_over);
            state.requests = rest;
            for request in over {
                state.bytes -= request.bytes.len();
                request.answer.answer(Err(Failure::Unanswered));
            }
        }
    }

    pub(crate) fn stopped(&self) -> Option<Stopped> {
        self.state.lock().stopped.clone()
    }

    /// From now on nothing is taken in; what is there stays. The first reason counts. Wakes the taker.
    pub(crate) fn stop(&self, why: Stopped) {
        self.state.lock().stopped.get_or_insert(why);
        self.taker.wake();
    }

    /// Stops, and answers everything that is queued: it has not happened.
    pub(crate) fn close(&self, why: &Stopped) {
        let mut state = self.state.lock();
        let why = state.stopped.get_or_insert_with(|| why.clone()).clone();
        state.bytes = 0;
        let requests = mem::take(&mut state.requests);
        drop(state);
        for request in requests {
            request.answer.answer(Err(Failure::Stopped(why.clone())));
        }
    }
}
