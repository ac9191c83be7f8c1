//! The events that threads and tasks wait for.

use super::Event;

/// The reasons to look again. Separate, because a blocking wait cannot listen to two events at once.
pub(crate) struct Wakeups {
    /// A commit, a freeze of the dictionary, the closing of a buffer, the end of the dictionary: for waiters in a
    /// flush.
    pub(crate) changed: Event,
    /// The last three of those only: for subscribers that sleep in their interval, which commits must not wake.
    pub(crate) ended: Event,
    /// A broadcast has published something or was dropped, or the dictionary has ended: for followers of broadcasts.
    pub(crate) frames: Event,
    /// The content was unlocked: for writers that wait for it.
    pub(crate) gate: Event,
    /// A lock was granted or ended, or one expires sooner than all others, or the dictionary was frozen: for feeds of
    /// locks.
    pub(crate) locks: Event,
}

impl Wakeups {
    pub(crate) fn new() -> Self {
        Self {
            changed: Event::new(),
            ended: Event::new(),
            frames: Event::new(),
            gate: Event::new(),
            locks: Event::new(),
        }
    }

    pub(crate) fn notify_everyone(&self) {
        self.changed.notify_all();
        self.ended.notify_all();
        self.frames.notify_all();
        self.gate.notify_all();
        self.locks.notify_all();
    }
}
