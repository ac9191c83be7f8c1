//! Programs: a setup, and for each thread a list of operations.

use crate::generator::Generator;
use std::fmt;

pub(crate) type Key = u8;
pub(crate) type Value = u8;
pub(crate) type Token = u8;
/// In ticks of the clock; `Some(u64::MAX)` is too long for any clock.
pub(crate) type Lease = Option<u64>;

pub(crate) const BUFFERS: usize = 2;
/// A key that is never locked, and set only to set a waiting flush free.
pub(crate) const LAST_KEY: Key = 3;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) setup: Setup,
    pub(crate) threads: Vec<Vec<Op>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setup {
    pub(crate) history_limit: usize,
    /// How many events of locks are kept, if the program follows the locks.
    pub(crate) lock_history_limit: Option<usize>,
    pub(crate) commit_history: bool,
    pub(crate) initial: Vec<(Key, Value)>,
    /// What the shared buffers follow.
    pub(crate) buffers: [Follow; BUFFERS],
    /// What the buffers of clients that reconnect follow.
    pub(crate) clients: Follow,
}

/// What a buffer follows: the keys whose bits are set, and whether it wants all tombstones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Follow {
    pub(crate) keys: u8,
    pub(crate) always: bool,
}

impl Follow {
    pub(crate) const ALL: u8 = 0b1111;

    pub(crate) fn passes(self, key: Key) -> bool {
        self.keys >> key & 1 == 1
    }

    pub(crate) fn filters(self) -> bool {
        self.keys != Self::ALL
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Update {
        by: Token,
        how: How,
        change: Vec<(Key, Option<Value>)>,
        only_if: Vec<(Key, If)>,
    },
    Modify {
        by: Token,
        from: Key,
        to: Key,
        attempts: Option<usize>,
        nested: bool,
    },
    /// Through the session of that token, if the thread has one, or past it.
    Locks {
        by: Token,
        past: bool,
        acquire: Vec<(Key, Lease)>,
        release: Vec<Key>,
    },
    ReleaseAll {
        by: Token,
    },
    ClearLocks,
    Lock {
        key: Key,
    },
    AllLocks,
    Snapshot,
    Get {
        key: Key,
    },
    Revision,
    IsFrozen,
    Freeze,
    Flush {
        buffer: usize,
        wait: bool,
    },
    CloseBuffer {
        buffer: usize,
    },
    IsClosed {
        buffer: usize,
    },
    Hold {
        wait: bool,
    },
    Read,
    LetGo,
    Tick {
        by: u64,
    },
    /// A session of this token, a detached one if there is one. A thread has one at a time, other threads may have others of
    /// the same token.
    Session {
        by: Token,
    },
    Ephemeral {
        by: Token,
        change: Vec<(Key, Option<Value>)>,
    },
    EndSession {
        by: Token,
    },
    /// Without waiting for locked content, and without a report.
    DropSession {
        by: Token,
    },
    LeaveSession {
        by: Token,
        grace: u64,
    },
    /// Recorded as an `ExpiredLock` for each key, an `ExpiredSession` for each session of which it ended something, and a
    /// `NothingDue`: these are steps of their own.
    Expire,
    ExpiredLock {
        key: Key,
    },
    ExpiredSession {
        by: Token,
        /// The latest revision at which the same expiry removed keys, or 0.
        latest: u64,
        /// The keys whose locks the same expiry released.
        freed: Vec<Key>,
    },
    /// There is nothing that the expiry had to end of a session of this token. One token for each expiry, so that a history
    /// is not longer than its bits.
    NothingDue {
        by: Token,
    },
    FlushLocks,
    /// A client makes a buffer that resumes from the client's position, if anything was ever delivered to it. A client
    /// that is `lost` comes with a position that the dictionary cannot resume from.
    Connect {
        lost: bool,
    },
    FlushConnection,
    Publish,
    /// A client joins the broadcast where it is, also if it was brought there by its own buffer, or `lost` as in `Connect`.
    Join {
        lost: bool,
    },
    /// What its follower is given.
    Next,
    Position {
        buffer: usize,
    },
    FlushCommits,
    /// What a new feed delivers of the commits after the last one that the thread knows of.
    CommitsAfter,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    Wait,
    Try,
    /// Through the guard; not done at all by a thread that failed to get one.
    Guard,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum If {
    Absent,
    Present,
    At(u64),
    /// At the revision that was last returned to the thread; `At`, once that is known.
    AtLast,
}

/// What `update_state_with` makes of the content, in the tests and in the model: a change that depends on what was read.
/// A removal if the sum is divisible by four, nothing at all if there is nothing to read.
pub(crate) fn modified(read: Option<Value>, to: Key) -> Vec<(Key, Option<Value>)> {
    read.map(|value| (to, Some((value + 1) % 4).filter(|value| *value != 0))).into_iter().collect()
}

impl Program {
    pub(crate) fn random(seed: u64) -> Self {
        Generator::new(seed).program()
    }

    pub(crate) fn len(&self) -> usize {
        self.threads.iter().map(Vec::len).sum()
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Update { by, how, change, only_if } => {
                let call = match how {
                    How::Wait => "update_state",
                    How::Try => "try_update_state",
                    How::Guard => "guard.update_state",
                };
                write!(f, "{call} by {by}:")?;
                write_change(f, change)?;
                for (key, condition) in only_if {
                    write!(f, " if {key} {condition:?}")?;
                }
                Ok(())
            }
            Self::Modify { by, from, to, attempts, nested } => {
                write!(f, "update_state_with by {by}: {to} = {from} + 1")?;
                attempts.map_or(Ok(()), |attempts| write!(f, ", at most {attempts} times"))?;
                if *nested { f.write_str(", writing inside") } else { Ok(()) }
            }
            Self::Locks { by, past, acquire, release } => {
                write!(f, "update_locks by {by}{}:", if *past { ", past its session" } else { "" })?;
                for (key, lease) in acquire {
                    match lease {
                        Some(u64::MAX) => write!(f, " +{key} for too long")?,
                        Some(lease) => write!(f, " +{key} for {lease}")?,
                        None => write!(f, " +{key}")?,
                    }
                }
                release.iter().try_for_each(|key| write!(f, " -{key}"))
            }
            Self::Ephemeral { by, change } => {
                write!(f, "update_ephemeral by {by}:")?;
                write_change(f, change)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &[(Key, Option<Value>)]) -> fmt::Result {
    change.iter().try_for_each(|(key, value)| match value {
        Some(value) => write!(f, " {key}={value}"),
        None => write!(f, " -{key}"),
    })
}
