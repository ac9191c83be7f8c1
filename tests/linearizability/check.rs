//! Whether a history is linearizable: a search, after Wing and Gong, for an order of its calls that respects time and that
//! the model allows, which remembers where it has been.

use crate::history::Call;
use crate::model::Model;
use crate::program::Setup;
use std::collections::HashSet;

/// Some calls of a history, by their index.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Calls([u128; 2]);

impl Calls {
    const MOST: usize = 256;

    pub(crate) fn has(self, index: usize) -> bool {
        self.0[index / 128] >> (index % 128) & 1 == 1
    }

    fn with(mut self, index: usize) -> Self {
        self.0[index / 128] |= 1 << (index % 128);
        self
    }

    fn count(self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }
}

pub(crate) struct Verdict {
    pub(crate) linearizable: bool,
    /// The longest order found, as a set.
    pub(crate) explained: Calls,
    /// How many states the search has been in.
    pub(crate) visited: usize,
}

struct Search<'a> {
    calls: &'a [Call],
    been: HashSet<(Calls, Model)>,
    explained: Calls,
    visited: usize,
}

pub(crate) fn check(setup: &Setup, calls: &[Call]) -> Verdict {
    assert!(calls.len() <= Calls::MOST, "a history of {} calls is too long for its bits", calls.len());
    let mut search = Search { calls, been: HashSet::new(), explained: Calls::default(), visited: 0 };
    let linearizable = search.explore(Calls::default(), Model::new(setup));
    Verdict { linearizable, explained: search.explained, visited: search.visited }
}

impl Search<'_> {
    fn explore(&mut self, mut done: Calls, mut state: Model) -> bool {
        let branches = loop {
            self.visited += 1;
            if done.count() > self.explained.count() {
                self.explained = done;
            }
            if done.count() == self.calls.len() {
                return true;
            }
            let mut branches = Vec::new();
            let mut forced = None;
            for index in self.next(done) {
                let states = state.step(&self.calls[index]);
                // What only looks, and sees what is there now, may as well come now.
                if self.calls[index].only_looks() && states.contains(&state) {
                    forced = Some(index);
                    break;
                }
                branches.extend(states.into_iter().map(|state| (index, state)));
            }
            match (forced, branches.len()) {
                (Some(index), _) => done = done.with(index),
                (None, 0) => return false,
                (None, 1) => {
                    let (index, next) = branches.remove(0);
                    done = done.with(index);
                    state = next;
                }
                _ => break branches,
            }
        };
        self.been.insert((done, state))
            && branches.into_iter().any(|(index, state)| self.explore(done.with(index), state))
    }

    /// The calls that may come next: those that began before any other that is left has ended.
    fn next(&self, done: Calls) -> Vec<usize> {
        let mut earliest_end = u64::MAX;
        let mut next = Vec::new();
        for (index, call) in self.calls.iter().enumerate().filter(|(index, _)| !done.has(*index)) {
            if call.began > earliest_end {
                break;
            }
            earliest_end = earliest_end.min(call.ended);
            next.push(index);
        }
        next.retain(|index| self.calls[*index].began <= earliest_end);
        next
    }
}
