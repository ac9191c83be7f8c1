//! The counters, and without the feature that there are none.
//!
//! Made of std's atomics and `parking_lot`'s mutex, which no model checker sees: nothing is decided by a count, and nothing
//! of a checker's happens with the mutex locked.

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

    /// What has happened to a dictionary, in numbers. Read by
    /// [`StateDictionary::counters`](crate::StateDictionary::counters).
    ///
    /// Each number is exact, but they are not of one instant: what happens while they are read may be in one and not yet in
    /// another. All but the last two only ever rise.
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
        /// Attempts to commit, and runs of an `update_state_with` closure, that had to be repeated because something else
        /// replaced the root first: another commit, or a lock that came or went. Those of one call are counted when it returns
        /// (of an awaited one, whenever it has to wait). Waiting is not counted, neither for the turn nor for held content.
        pub retries: u64,
        /// Updates and lock requests that were refused: the dictionary was frozen, keys were locked by others, or a condition did
        /// not hold. Not counted is what ends in another error: held content, which would have had to be waited for, attempts
        /// that are used up, and calls that could never have been carried out, such as a lease of zero.
        pub refusals: u64,
        /// Flushes of a [`ChangeBuffer`](crate::ChangeBuffer) that had to compare contents because the buffer had fallen off
        /// the history. If they are many, raise the [history limit](crate::Builder::history_limit).
        pub catch_ups: u64,
        /// Buffers that were made and not dropped, and broadcasts that were not dropped or have followers. One that is leaked
        /// counts for ever.
        pub live_buffers: usize,
        /// In revisions, how far the slowest live buffer is behind: how many commits it has not looked at yet. 0 if there is
        /// no buffer.
        ///
        /// A flush looks at everything, also if a filter lets nothing of it through. A buffer that has never flushed is
        /// behind by what was committed since it was made or, if it resumes, since the position that it resumes from. One
        /// that is frozen is behind its own end, and does not fall back further.
        pub slowest_lag: u64,
    }

    pub(crate) struct Tally(Arc<CachePadded<Numbers>>);

    /// ORDERING: all of these are Relaxed, for nothing is concluded from a count about anything else.
    #[derive(Default)]
    struct Numbers {
        retries: AtomicU64,
        refusals: AtomicU64,
        catch_ups: AtomicU64,
        buffers: Mutex<BTreeMap<u64, Arc<Cursor>>>,
    }

    /// Where a buffer is.
    struct Cursor {
        cursor: AtomicU64,
        /// The revision that it ends with.
        end: AtomicU64,
    }

    /// While this lives, a buffer counts.
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
            // A buffer that has flushed since the present revision was read is ahead of it.
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
