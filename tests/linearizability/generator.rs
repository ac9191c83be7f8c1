//! Random programs.
//!
//! A program is a function of its seed. Each program stresses something else: what it does not draw at all, and what it
//! draws often, is drawn first.

use crate::program::{BUFFERS, Follow, How, If, Key, LAST_KEY, Lease, Op, Program, Setup, Token, Value};
use fastrand::Rng;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Update,
    Modify,
    Locks,
    ReleaseAll,
    ClearLocks,
    Look,
    Read,
    Flush,
    Freeze,
    Hold,
    Tick,
    Session,
    FlushLocks,
    Reconnect,
    Commits,
    Broadcast,
}

const KINDS: [(Kind, usize); 16] = [
    (Kind::Update, 14),
    (Kind::Modify, 3),
    (Kind::Locks, 14),
    (Kind::ReleaseAll, 2),
    (Kind::ClearLocks, 1),
    (Kind::Look, 3),
    (Kind::Read, 5),
    (Kind::Flush, 8),
    (Kind::Freeze, 1),
    (Kind::Hold, 3),
    (Kind::Tick, 3),
    (Kind::Session, 8),
    (Kind::FlushLocks, 3),
    (Kind::Reconnect, 6),
    (Kind::Commits, 3),
    (Kind::Broadcast, 9),
];

/// What the first thread does last, so that flushes can wait without waiting for ever. It never waits in one itself.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Freeze,
    CloseBuffers,
    /// There is a single flush of the first buffer; it waits.
    Commit,
}

pub(crate) struct Generator {
    rng: Rng,
    kinds: Vec<Kind>,
    keys: u8,
    tokens: u8,
    end: Option<End>,
    /// Of the thread that is being made.
    session: Option<Token>,
    joined: bool,
    long_history: bool,
    may_leave: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut kinds = Vec::new();
        for (kind, weight) in KINDS {
            let factor = [0, 1, 1, 2, 5][rng.usize(..5)];
            let factor = match kind {
                // What makes a history harder to check, or leaves less room for the rest, is not in every program.
                Kind::Session | Kind::FlushLocks | Kind::Reconnect | Kind::Commits | Kind::Broadcast if rng.bool() => 0,
                _ => factor,
            };
            kinds.extend(std::iter::repeat_n(kind, weight * factor));
        }
        kinds.extend([Kind::Update, Kind::Read]);
        // Sessions, and what stands in the way of their ends.
        if rng.u8(..8) == 0 {
            kinds = [(Kind::Session, 8), (Kind::Locks, 3), (Kind::ReleaseAll, 1), (Kind::Hold, 2), (Kind::Update, 1)]
                .into_iter()
                .flat_map(|(kind, weight)| std::iter::repeat_n(kind, weight))
                .collect();
            kinds.extend(rng.bool().then_some(Kind::FlushLocks));
            kinds.extend(rng.bool().then_some(Kind::Commits));
            kinds.push([Kind::Tick, Kind::Flush, Kind::Reconnect][rng.usize(..3)]);
        }
        // A broadcast, and what brings its clients somewhere else.
        let about_broadcasts = rng.u8(..8) == 0;
        if about_broadcasts {
            kinds = [(Kind::Broadcast, 6), (Kind::Update, 6), (Kind::Reconnect, 2)]
                .into_iter()
                .flat_map(|(kind, weight)| std::iter::repeat_n(kind, weight))
                .collect();
            kinds.extend(rng.bool().then_some(Kind::Freeze));
            kinds.push([Kind::Session, Kind::Locks, Kind::Modify][rng.usize(..3)]);
        }
        let long_history = about_broadcasts && rng.bool();
        let keys = [1, 2, 2, 3, 3, 3][rng.usize(..6)];
        let tokens = rng.u8(2..=3);
        let end = [End::Freeze, End::CloseBuffers, End::Commit].get(rng.usize(..16)).copied();
        Self { rng, kinds, keys, tokens, end, session: None, joined: false, long_history, may_leave: true }
    }

    pub(crate) fn program(mut self) -> Program {
        let history_limit = if self.long_history { 100 } else { [0, 1, 2, 2, 2, 2, 3][self.rng.usize(..7)] };
        let initial = if self.one_in(3) {
            (0..self.rng.u8(1..=self.keys)).map(|key| (key, self.rng.u8(1..4))).collect()
        } else {
            Vec::new()
        };
        let count = [3, 3, 3, 3, 4, 4, 5, 6, 7, 8][self.rng.usize(..10)];
        // No more calls in a history than there are bits, with what is added to each thread.
        let longest = [4, 4, 5, 6, 8, 12][self.rng.usize(..6)].min(64 / count);
        let mut threads: Vec<_> = (0..count).map(|thread| self.thread(thread, longest)).collect();
        match self.end {
            Some(End::Freeze) => threads[0].push(Op::Freeze),
            Some(End::CloseBuffers) => threads[0].extend((0..BUFFERS).map(|buffer| Op::CloseBuffer { buffer })),
            Some(End::Commit) => {
                let change = vec![(LAST_KEY, Some(1))];
                threads[0].push(Op::Update { by: 0, how: How::Wait, change, only_if: Vec::new() });
                let at = if self.rng.bool() { 0 } else { threads[1].len() };
                threads[1].insert(at, Op::Flush { buffer: 0, wait: true });
            }
            None => {}
        }
        let lock_history_limit = self.draws(Kind::FlushLocks).then(|| [0, 1, 2, 3, 100, 100][self.rng.usize(..6)]);
        let commit_history = self.draws(Kind::Commits) && !self.one_in(8);
        let buffers = [(); BUFFERS].map(|()| self.follow());
        let clients = Follow { always: self.rng.bool(), ..self.follow() };
        let setup = Setup { history_limit, lock_history_limit, commit_history, initial, buffers, clients };
        Program { setup, threads }
    }

    /// The last key is always followed: it sets waiting flushes free.
    fn follow(&mut self) -> Follow {
        let keys = if self.one_in(3) { self.rng.u8(..) & Follow::ALL | 1 << LAST_KEY } else { Follow::ALL };
        Follow { keys, always: self.one_in(4) }
    }

    fn thread(&mut self, thread: usize, longest: usize) -> Vec<Op> {
        let length = self.rng.usize(4..=longest);
        let own = self.rng.u8(..self.tokens);
        let mut ops = Vec::with_capacity(length + 1);
        let mut holding = false;
        (self.session, self.joined, self.may_leave) = (None, false, true);
        while ops.len() < length {
            let by = if self.one_in(8) { self.rng.u8(..self.tokens) } else { own };
            let op = if holding && self.one_in(2) {
                match self.rng.u8(..5) {
                    0 | 1 => self.update(by, How::Guard),
                    2 => Op::Read,
                    _ => Op::LetGo,
                }
            } else if self.session.is_some() && self.one_in(4) {
                self.session(by)
            } else {
                let may_wait = matches!(self.end, Some(End::Freeze | End::CloseBuffers)) && thread > 0 && !holding;
                self.op(by, may_wait)
            };
            match op {
                Op::Hold { .. } => holding = true,
                Op::LetGo => holding = false,
                _ => {}
            }
            let then = match op {
                Op::Connect { .. } => Some(Op::FlushConnection),
                Op::Join { .. } => Some(Op::Next),
                _ => None,
            };
            ops.push(op);
            ops.extend(then);
            if let Some(&Op::Session { by }) = ops.last()
                && self.rng.bool()
            {
                ops.push(Op::Ephemeral { by, change: self.change() });
            }
        }
        if holding {
            ops.push(Op::LetGo);
        }
        ops.extend(self.session.take().map(|by| match self.rng.u8(..4) {
            0 => Op::LeaveSession { by, grace: 0 },
            1 => Op::DropSession { by },
            _ => Op::EndSession { by },
        }));
        // What a session could not remove, because another client had it locked, goes when that client has gone.
        if self.draws(Kind::Session) && self.one_in(3) {
            ops.extend([Op::ReleaseAll { by: own }, Op::Expire]);
        }
        if self.one_in(8) {
            ops.push(Op::Snapshot);
        }
        ops
    }

    fn op(&mut self, by: Token, may_wait: bool) -> Op {
        let buffer = if self.end == Some(End::Commit) { 1 } else { self.rng.usize(..BUFFERS) };
        let kind = self.kinds[self.rng.usize(..self.kinds.len())];
        match kind {
            Kind::Update => {
                let how = if self.one_in(4) { How::Try } else { How::Wait };
                self.update(by, how)
            }
            Kind::Modify => Op::Modify {
                by,
                from: self.key(),
                to: self.key(),
                attempts: [None, None, Some(1), Some(2)][self.rng.usize(..4)],
                nested: self.one_in(8),
            },
            Kind::Locks => self.locks(by),
            Kind::ReleaseAll => Op::ReleaseAll { by },
            Kind::ClearLocks => Op::ClearLocks,
            Kind::Look if self.rng.bool() => Op::Lock { key: self.key() },
            Kind::Look => Op::AllLocks,
            Kind::Read => match self.rng.u8(..8) {
                0 => Op::Revision,
                1 => Op::IsFrozen,
                2..=4 => Op::Get { key: self.key() },
                _ => Op::Snapshot,
            },
            Kind::Flush => match self.rng.u8(..16) {
                0 => Op::IsClosed { buffer },
                // A flush that waits looks again and again, each time moving on.
                1 | 2 if !matches!(self.end, Some(End::Freeze | End::CloseBuffers)) => Op::Position { buffer },
                _ => Op::Flush { buffer, wait: may_wait && self.rng.bool() },
            },
            Kind::Freeze => match self.rng.u8(..3) {
                0 => Op::Freeze,
                _ => Op::CloseBuffer { buffer },
            },
            Kind::Hold => Op::Hold { wait: self.rng.bool() },
            Kind::Tick => Op::Tick { by: self.rng.u64(1..=2) },
            Kind::Session => self.session(by),
            Kind::FlushLocks => Op::FlushLocks,
            Kind::Reconnect if !self.one_in(3) => Op::FlushConnection,
            Kind::Reconnect => Op::Connect { lost: self.one_in(4) },
            Kind::Commits if self.rng.bool() => Op::FlushCommits,
            Kind::Commits => Op::CommitsAfter,
            Kind::Broadcast => match self.rng.u8(..8) {
                0..=2 => Op::Publish,
                3..=5 if self.joined => Op::Next,
                _ => {
                    self.joined = true;
                    Op::Join { lost: self.one_in(8) }
                }
            },
        }
    }

    fn session(&mut self, by: Token) -> Op {
        if self.one_in(4) {
            return Op::Expire;
        }
        let Some(by) = self.session else {
            self.session = Some(by);
            return Op::Session { by };
        };
        match self.rng.u8(..6) {
            0..=3 => Op::Ephemeral { by, change: self.change() },
            4 if self.may_leave => {
                (self.session, self.may_leave) = (None, false);
                Op::LeaveSession { by, grace: [0, 0, 0, 1, 2][self.rng.usize(..5)] }
            }
            _ => {
                self.session = None;
                if self.rng.bool() { Op::EndSession { by } } else { Op::DropSession { by } }
            }
        }
    }

    fn change(&mut self) -> Vec<(Key, Option<Value>)> {
        let size = [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3][self.rng.usize(..12)];
        (0..size).map(|_| (self.key(), (!self.one_in(3)).then(|| self.rng.u8(1..4)))).collect()
    }

    fn update(&mut self, by: Token, how: How) -> Op {
        let change = self.change();
        let conditions = [0, 0, 0, 0, 1, 2][self.rng.usize(..6)];
        let only_if = (0..conditions).map(|_| (self.key(), self.condition())).collect();
        Op::Update { by, how, change, only_if }
    }

    fn condition(&mut self) -> If {
        match self.rng.u8(..4) {
            0 => If::Absent,
            1 => If::Present,
            2 => If::At(self.rng.u64(1..6)),
            _ => If::AtLast,
        }
    }

    fn locks(&mut self, by: Token) -> Op {
        let acquires = [0, 1, 1, 1, 2, 2, 3][self.rng.usize(..7)];
        let acquire = (0..acquires).map(|_| (self.key(), self.lease())).collect();
        let releases = if acquires == 0 { 1 + self.rng.usize(..2) } else { [0, 0, 0, 1, 1, 2][self.rng.usize(..6)] };
        let release = (0..releases).map(|_| self.key()).collect();
        Op::Locks { by, past: self.one_in(3), acquire, release }
    }

    fn lease(&mut self) -> Lease {
        match self.rng.u8(..40) {
            0 => Some(0),
            1 => Some(u64::MAX),
            2..=15 => None,
            _ => Some(self.rng.u64(1..=3)),
        }
    }

    fn draws(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    fn key(&mut self) -> Key {
        self.rng.u8(..self.keys)
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.rng.u8(..n) == 0
    }
}
