//! What an operator sees: events by `tracing`, and counters. Without these features nothing here does anything.
//!
//! A subscriber is foreign code: it may be slow, may panic and may use the dictionary. So an event is emitted with no
//! shard, turn or buffer locked, and after all waiters have been notified. A thread that unwinds emits nothing: a
//! second panic would abort the process.

mod counters;

#[cfg(feature = "counters")]
pub use counters::Counters;
pub(crate) use counters::Following;

use crate::position::StoreId;
use crate::revision::Revision;
use crate::sync;
use counters::Tally;
use std::cell::Cell;
#[cfg(not(any(feature = "tracing", feature = "counters")))]
use std::marker::PhantomData;

/// An update with more retries than this emits a warning. The turn makes retries rare: of four million commits by
/// sixteen threads on two cores, each with a lock acquired before it and released after it, none had more than seven.
#[cfg(feature = "tracing")]
const MANY_RETRIES: u64 = 8;

/// One event, if the feature is on. Its field `store` is the dictionary's id.
#[cfg(feature = "tracing")]
macro_rules! emit {
    ($level:ident, $observed:ident, $($field:ident = $value:expr,)* $message:literal) => {
        if !std::thread::panicking() {
            tracing::$level!(target: "state_dictionary", store = %$observed.store, $($field = $value,)* $message);
        }
    };
}
#[cfg(not(feature = "tracing"))]
macro_rules! emit {
    ($level:ident, $observed:ident, $($field:ident = $value:expr,)* $message:literal) => {
        let _ = ($observed, $($value),*);
    };
}

/// What is observed of one dictionary.
pub(crate) struct Observed {
    #[cfg(feature = "tracing")]
    store: StoreId,
    tally: Tally,
}

impl Observed {
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
    pub(crate) fn new(store: StoreId) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            store,
            tally: Tally::new(),
        }
    }

    /// An update or a lock request was refused: because other owners have locked this many keys, or for another reason
    /// if 0.
    pub(crate) fn refused(&self, locked_keys: usize) {
        self.tally.refused();
        if locked_keys > 0 {
            emit!(debug, self, keys = locked_keys, "refused: keys are locked by others");
        }
    }

    /// A buffer whose cursor is older than the history compared contents.
    pub(crate) fn caught_up(&self, cursor: Revision, to: Revision) {
        self.tally.caught_up();
        emit!(
            info,
            self,
            cursor = cursor.0,
            revision = to.0,
            "a buffer lagged behind the history and compared contents"
        );
    }

    /// The first delivery of a buffer that was to resume is the whole content.
    pub(crate) fn could_not_resume(&self, to: Revision) {
        emit!(info, self, revision = to.0, "a buffer could not resume and delivers the whole content");
    }

    pub(crate) fn lagged_commits(&self, after: Revision, up_to: Revision) {
        emit!(info, self, cursor = after.0, missed_up_to = up_to.0, "a feed of commits lagged behind the history");
    }

    pub(crate) fn lagged_lock_events(&self, cursor: u64, version: u64) {
        emit!(info, self, cursor = cursor, version = version, "a feed of locks lagged behind the history");
    }

    pub(crate) fn session_over(&self, revision: Revision, released: usize, removed: usize, not_removed: usize) {
        emit!(
            info,
            self,
            revision = revision.0,
            released = released,
            removed = removed,
            not_removed = not_removed,
            "the grace period of a detached session expired"
        );
    }

    pub(crate) fn frozen(&self, revision: Revision) {
        emit!(info, self, revision = revision.0, "the dictionary was frozen");
    }

    /// Counts a buffer that has seen everything up to this revision.
    pub(crate) fn follow(&self, cursor: Revision) -> Following {
        self.tally.follow(cursor)
    }

    #[cfg(feature = "counters")]
    pub(crate) fn counters(&self, present: Revision) -> Counters {
        self.tally.read(present)
    }
}

/// The backoff of one update, which counts its retries. It is dropped last, and then emits the warning.
pub(crate) struct Retries<'a> {
    pauses: sync::Backoff,
    lost: Cell<u64>,
    #[cfg(any(feature = "tracing", feature = "counters"))]
    observed: &'a Observed,
    #[cfg(not(any(feature = "tracing", feature = "counters")))]
    observed: PhantomData<&'a Observed>,
}

impl<'a> Retries<'a> {
    #[cfg(any(feature = "tracing", feature = "counters"))]
    pub(crate) fn new(observed: &'a Observed) -> Self {
        Self { pauses: sync::Backoff::new(), lost: Cell::new(0), observed }
    }

    #[cfg(not(any(feature = "tracing", feature = "counters")))]
    pub(crate) fn new(_: &'a Observed) -> Self {
        Self { pauses: sync::Backoff::new(), lost: Cell::new(0), observed: PhantomData }
    }

    /// A short pause after a lost attempt.
    pub(crate) fn spin(&self) {
        self.count();
        self.pauses.spin();
    }

    /// Counts a lost attempt, without a pause.
    pub(crate) fn count(&self) {
        self.lost.set(self.lost.get() + 1);
    }

    pub(crate) fn retries(&self) -> u64 {
        self.lost.get()
    }
}

#[cfg(any(feature = "tracing", feature = "counters"))]
impl Drop for Retries<'_> {
    fn drop(&mut self) {
        let Self { observed, lost: retries, .. } = self;
        let retries = retries.get();
        if retries > 0 {
            observed.tally.retried(retries);
        }
        #[cfg(feature = "tracing")]
        if retries > MANY_RETRIES {
            emit!(warn, observed, retries = retries, "an update was retried many times");
        }
    }
}

/// The events of one operation on locks, emitted when no shard is locked any more.
#[derive(Default)]
pub(crate) struct PendingEvents {
    #[cfg(feature = "tracing")]
    expired: usize,
    #[cfg(any(feature = "tracing", feature = "counters"))]
    refused: Option<usize>,
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, clippy::unused_self))]
impl PendingEvents {
    /// This many expired locks were removed.
    pub(crate) fn expired(&mut self, locks: usize) {
        #[cfg(feature = "tracing")]
        {
            self.expired += locks;
        }
    }

    /// The request was refused, as in [`Observed::refused`].
    pub(crate) fn refused(&mut self, locked_keys: usize) {
        #[cfg(any(feature = "tracing", feature = "counters"))]
        {
            self.refused = Some(locked_keys);
        }
    }

    pub(crate) fn emit(&self, observed: &Observed) {
        #[cfg(feature = "tracing")]
        if self.expired > 0 {
            emit!(info, observed, locks = self.expired, "expired locks were removed");
        }
        #[cfg(any(feature = "tracing", feature = "counters"))]
        if let Some(locked_keys) = self.refused {
            observed.refused(locked_keys);
        }
    }
}
