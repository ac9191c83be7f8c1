//! What can happen that threads and tasks wait for.

use super::Event;

/// The reasons to look again. Several, because a blocking wait cannot listen to two events at once.
pub(crate) struct Wakeups {
    /// A commit, a freeze (of the dictionary or of one buffer), the end of the dictionary: for those asleep in a flush.
    pub(crate) changed: Event,
    /// The last three of those only: for subscribers asleep in their interval, whom commits must not wake.
    pub(crate) ended: Event,
    /// A broadcast has published something or was dropped, or the dictionary has ended: for followers of broadcasts.
    pub(crate) frames: Event,
    /// The content was let go: for writers that wait for it.
    pub(crate) gate: Event,
    /// Locks came or went, or one will run out sooner than all others, or the dictionary was frozen: for those who follow
    /// the locks.
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
