//! The counters, and their empty form without the feature.
//!
//! Made of std's atomics and `parking_lot`'s mutex, which no model checker explores: no decision depends on a count,
//! and no primitive of a checker is used while the mutex is locked.

pub(crate) use imp::{Following, Tally};

#[cfg(feature = "counters")]
pub use imp::Counters;

#[cfg(feature = "counters")]
mod imp {
    use crate::revision::Revision;
    use crossbeam_utils::CachePadded;
    use parking_lot::Mutex;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// What has happened to a dictionary, in numbers. Returned by
    /// [`StateDictionary::counters`](crate::StateDictionary::counters).
    ///
    /// Each number is exact, but the numbers are not read at one instant: an event during the call may be in one number
    /// and not yet in another. All except the last two only ever rise.
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let before = dictionary.counters();
    /// dictionary.update_state(&(), Change::new().set("a", 1))?;
    /// let since = dictionary.counters().commits - before.commits;
    /// assert_eq!(since, 1);
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    #[non_exhaustive]
    pub struct Counters {
        /// Commits, initial content included: the present revision.
        pub commits: u64,
        /// Attempts to commit, and runs of an `update_state_with` closure, that were repeated because another commit,
        /// or a lock that was granted or ended, replaced the root first. Those of one call are counted when it returns
        /// (of an awaited call, each time it is pending). Waiting is not counted, neither for the turn nor for locked
        /// content.
        pub retries: u64,
        /// Updates and lock requests that were refused: the dictionary was frozen, keys were locked by others, or a
        /// condition did not hold. Other errors are not counted: locked content, exhausted attempts, and calls that are
        /// wrong in themselves, such as a lease of zero.
        pub refusals: u64,
        /// Flushes of a [`ChangeBuffer`](crate::ChangeBuffer) that compared contents because the buffer lagged behind
        /// the history. If there are many, raise the [history limit](crate::Builder::history_limit).
        pub catch_ups: u64,
        /// Buffers that exist, and broadcasts that exist or have followers. A leaked one is counted for ever.
        pub live_buffers: usize,
        /// The lag of the slowest live buffer: how many commits it has not seen yet. 0 if there is no buffer.
        ///
        /// A flush sees every commit, also if its filter passes nothing. The lag of a buffer that has never flushed is
        /// counted from its creation or, if it resumes, from the position that it resumes from. The lag of a closed
        /// buffer is counted up to the revision at which it was closed.
        pub slowest_lag: u64,
    }

    pub(crate) struct Tally(Arc<CachePadded<Numbers>>);

    /// ORDERING: all of these are Relaxed, for no other state is inferred from a count.
    #[derive(Default)]
    struct Numbers {
        retries: AtomicU64,
        refusals: AtomicU64,
        catch_ups: AtomicU64,
        buffers: Mutex<BTreeMap<u64, Arc<Cursor>>>,
    }

    /// The position of a buffer.
    struct Cursor {
        cursor: AtomicU64,
        /// The revision at which it ends.
        end: AtomicU64,
    }

    /// While this lives, a buffer is counted.
    pub(crate) struct Following {
        numbers: Arc<CachePadded<Numbers>>,
        index: u64,
        cursor_of: Arc<Cursor>,
    }

    impl Tally {
        pub(crate) fn new() -> Self {
            Self(Arc::default())
        }

        pub(crate) fn retried(&self, times: u64) {
            self.0.retries.fetch_add(times, Relaxed);
        }

        pub(crate) fn refused(&self) {
            self.0.refusals.fetch_add(1, Relaxed);
        }

        pub(crate) fn caught_up(&self) {
            self.0.catch_ups.fetch_add(1, Relaxed);
        }

        pub(crate) fn follow(&self, cursor: Revision) -> Following {
            let cursor_of = Arc::new(Cursor { cursor: AtomicU64::new(cursor.0), end: AtomicU64::new(u64::MAX) });
            let mut buffers = self.0.buffers.lock();
            let index = buffers.last_key_value().map_or(0, |(last, _)| last + 1);
            buffers.insert(index, Arc::clone(&cursor_of));
            drop(buffers);
            Following { numbers: Arc::clone(&self.0), index, cursor_of }
        }

        pub(crate) fn read(&self, present: Revision) -> Counters {
            let Numbers { retries, refusals, catch_ups, buffers } = &**self.0;
            let buffers = buffers.lock();
            Counters {
                commits: present.0,
                retries: retries.load(Relaxed),
                refusals: refusals.load(Relaxed),
                catch_ups: catch_ups.load(Relaxed),
                live_buffers: buffers.len(),
                slowest_lag: buffers.values().map(|cursor_of| cursor_of.lag(present)).max().unwrap_or(0),
            }
        }
    }

    impl Cursor {
        fn lag(&self, present: Revision) -> u64 {
            // A buffer that has flushed after the present revision was read is ahead of it.
            self.end.load(Relaxed).min(present.0).saturating_sub(self.cursor.load(Relaxed))
        }
    }

    impl Following {
        pub(crate) fn reached(&self, cursor: Revision) {
            self.cursor_of.cursor.store(cursor.0, Relaxed);
        }

        pub(crate) fn ends_at(&self, end: Revision) {
            self.cursor_of.end.store(end.0, Relaxed);
        }
    }

    impl Drop for Following {
        fn drop(&mut self) {
            self.numbers.buffers.lock().remove(&self.index);
        }
    }
}

#[cfg(not(feature = "counters"))]
#[allow(clippy::unused_self)]
mod imp {
    use crate::revision::Revision;

    pub(crate) struct Tally;

    pub(crate) struct Following;

    impl Tally {
        pub(crate) fn new() -> Self {
            Self
        }

        #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
        pub(crate) fn retried(&self, _times: u64) {}

        pub(crate) fn refused(&self) {}

        pub(crate) fn caught_up(&self) {}

        pub(crate) fn follow(&self, _cursor: Revision) -> Following {
            Following
        }
    }

    impl Following {
        pub(crate) fn reached(&self, _cursor: Revision) {}

        pub(crate) fn ends_at(&self, _end: Revision) {}
    }
}
