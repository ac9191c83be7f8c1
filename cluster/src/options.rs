//! How a node works. All options are this node's own; nodes of one cluster may differ in them.

use std::time::Duration;

/// How a [`Node`](crate::Node) works.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    pub(crate) window: usize,
    pub(crate) tick: Duration,
    pub(crate) checkpoint_every: u64,
    pub(crate) queue_limit: usize,
    pub(crate) max_operation: usize,
    pub(crate) time_limit: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: 2,
            tick: Duration::from_millis(50),
            checkpoint_every: 16 << 20,
            queue_limit: 64 << 20,
            max_operation: 16 << 20,
            time_limit: None,
        }
    }
}

impl Options {
    /// The defaults of the methods below.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many appends are in flight; 2 by default, 1 at least. While they are, everything that is asked queues, and is
    /// the next entry. 1 costs delay, and more than 2 costs throughput.
    pub fn window(mut self, appends: usize) -> Self {
        self.window = appends.max(1);
        self
    }

    /// How often time is written into the log while a lease or a grace runs; every 50 ms by default. A lease ends late by
    /// up to twice this, and never early.
    pub fn tick(mut self, every: Duration) -> Self {
        self.tick = every.max(Duration::from_millis(1));
        self
    }

    /// After how many bytes of log a checkpoint is written and the log before it deleted; 16 MiB by default. What a node
    /// reads to join is a checkpoint and at most about twice this.
    pub fn checkpoint_every(mut self, bytes: u64) -> Self {
        self.checkpoint_every = bytes.max(1);
        self
    }

    /// How many bytes of operations may wait for their entry; 64 MiB by default. Beyond, an operation fails at once with
    /// [`Failure::QueueFull`](crate::Failure::QueueFull).
    pub fn queue_limit(mut self, bytes: usize) -> Self {
        self.queue_limit = bytes;
        self
    }

    /// The largest operation in bytes; 16 MiB by default. One that does not fit into an entry of the log is written in
    /// parts. Beyond the limit, it fails at once with [`Failure::TooLarge`](crate::Failure::TooLarge).
    pub fn max_operation(mut self, bytes: usize) -> Self {
        self.max_operation = bytes;
        self
    }

    /// How long an operation waits for its answer; without limit by default. Then it fails with
    /// [`Failure::Unanswered`](crate::Failure::Unanswered), and may still be carried out.
    pub fn time_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.time_limit = limit.into();
        self
    }
}
