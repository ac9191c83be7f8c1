//! The cursor of a feed that several threads may flush.

use crate::sync::{Mutex, MutexGuard};
use std::mem;

/// A cursor into a history, and where the feed ends.
///
/// A flush looks without the lock, since it clones and drops values of the user's. It moves the cursor when its
/// delivery is ready, unless another flush has moved it since, or the feed was closed: then it looks again.
pub(super) struct Cursor<A, O, R>(Mutex<State<A, O, R>>);

struct State<A, O, R> {
    at: A,
    end: End<O, R>,
    /// Rises by 1 with each move, and when the feed is closed.
    moves: u64,
}

/// The root that the feed ends with.
pub(super) enum End<O, R> {
    /// The root that the dictionary ends with.
    Open(O),
    /// This root, of the moment at which the feed was closed.
    At(R),
    /// The end was delivered. An ended feed keeps nothing alive.
    Past,
}

impl<A: Copy, O, R: Clone> Cursor<A, O, R> {
    pub(super) fn new(at: A, source: O) -> Self {
        Self(Mutex::new(State { at, end: End::Open(source), moves: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, State<A, O, R>> {
        self.0.lock()
    }

    pub(super) fn at(&self) -> A {
        self.lock().at
    }

    /// What a flush needs for a look, and the number of moves so far.
    pub(super) fn now<P>(&self, source: impl FnOnce(&O) -> P) -> (u64, A, End<P, R>) {
        let state = self.lock();
        let end = match &state.end {
            End::Open(open) => End::Open(source(open)),
            End::At(root) => End::At(root.clone()),
            End::Past => End::Past,
        };
        (state.moves, state.at, end)
    }

    /// Moves the cursor, unless it was moved since; if there will be nothing after, the feed ends.
    pub(super) fn advance(&self, moves: u64, at: A, last: bool) -> bool {
        let mut state = self.lock();
        if state.moves != moves {
            return false;
        }
        (state.at, state.moves) = (at, moves + 1);
        drop(state);
        if last {
            self.end(moves + 1);
        }
        true
    }

    /// Ends the feed, unless the cursor was moved since.
    pub(super) fn end(&self, moves: u64) -> bool {
        let mut state = self.lock();
        let ended = (state.moves == moves).then(|| mem::replace(&mut state.end, End::Past));
        drop(state);
        ended.is_some()
    }

    /// Ends the feed with the root that `load` returns. `load` is called with the lock held, so that no flush delivers
    /// a later root in between. Returns what the feed followed until now, unless it has ended or `load` returns none.
    pub(super) fn close(&self, load: impl FnOnce(&O) -> Option<R>) -> Option<O> {
        let mut state = self.lock();
        let End::Open(open) = &state.end else { return None };
        let root = load(open)?;
        state.moves += 1;
        match mem::replace(&mut state.end, End::At(root)) {
            End::Open(open) => Some(open),
            End::At(_) | End::Past => None,
        }
    }

    /// The result of `look` on the source, unless the feed was closed.
    pub(super) fn source<P>(&self, look: impl FnOnce(&O) -> P) -> Option<P> {
        if let End::Open(open) = &self.lock().end { Some(look(open)) } else { None }
    }
}
