//! Opening and expiring sessions.

use super::StateDictionary;
use crate::session::{Expired, Session, Sessions};
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// The session of the client with this token: the one that was detached by [`Session::detach`], resumed with all
    /// that belongs to it, or else a new one.
    ///
    /// A session stays detached until a call of [`expire`](Self::expire) has ended it: also after its grace period, and
    /// after it has ended except for keys whose removal was [deferred](crate::NotRemoved). If several sessions of the
    /// token are detached, the one opened last is resumed. A session that a caller still owns is not detached: then
    /// this is a second session of the same token, and each ends with what is its own. A server in which that can
    /// happen opens its sessions through a table, [`sessions`](Self::sessions).
    ///
    /// O(n) in the number of detached sessions; the first call also O(n) in the number of all locks. May wait for a
    /// call of `expire` that ends sessions, for about a millisecond.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// let session = dictionary.session("alice");
    /// assert!(!session.is_resumed());
    /// session.detach(Duration::from_secs(10));
    /// assert!(dictionary.session("alice").is_resumed());
    /// ```
    pub fn session(&self, token: T) -> Session<K, V, T, S> {
        self.engine.session(token)
    }

    /// A table of sessions by client, in which the latest connection of a client takes its session over from an older
    /// one.
    ///
    /// `grace` is the time for which a session stays after its connection is lost; then the next call of
    /// [`expire`](Self::expire) ends it. Several tables of one dictionary are independent. A table may outlive the
    /// dictionary, which is frozen then. O(1); never waits.
    ///
    /// ```
    /// use state_dictionary::{Change, ManualClock, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let room: StateDictionary<&str, u32, &str> = StateDictionary::builder().clock(&clock).build();
    /// let sessions = room.sessions(Duration::from_secs(10));
    /// let alice = sessions.open("alice");
    /// alice.with(|session| session.update_ephemeral(Change::new().set("cursor", 1))).unwrap()?;
    /// drop(alice); // her connection is lost
    ///
    /// clock.advance(Duration::from_secs(10));
    /// assert_eq!(room.expire().sessions[0].1.removed, ["cursor"]);
    /// # Ok::<(), state_dictionary::UpdateError<&str, u32, &str>>(())
    /// ```
    #[must_use]
    pub fn sessions(&self, grace: Duration) -> Sessions<K, V, T, S> {
        self.engine.sessions(grace)
    }

    /// Removes expired locks, ends the sessions whose grace period is over, and returns when to call it again. A server
    /// calls it on a timer, so that expiry takes effect also on keys that no client touches.
    ///
    /// O(n) in the number of detached sessions, and O(k log n) for the k keys and locks of those that end. If locks
    /// have expired, also O(n) in the number of locks, one shard at a time; and for each session that ends O(n) in the
    /// number of owners that have acquired locks without a session. Sessions end in steps of about a millisecond (one
    /// with many keys is one step). During a step lock operations wait, and so do writers while there are locks; beside
    /// busy writers it locks the content for a part of the step. May wait for threads that are updating locks; never
    /// for locked content.
    ///
    /// ```
    /// use state_dictionary::{LockRequest, ManualClock, StateDictionary};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::builder().clock(&clock).build();
    /// dictionary.update_locks(&"alice", LockRequest::new().acquire("ball", Duration::from_secs(5)))?;
    /// assert_eq!(dictionary.expire().next, Some(Duration::from_secs(5)));
    /// clock.advance(Duration::from_secs(5));
    /// let expiry = dictionary.expire();
    /// assert_eq!(expiry.locks, [("ball", "alice")]);
    /// assert_eq!(expiry.next, None);
    /// # Ok::<(), state_dictionary::LockError<&str, &str>>(())
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn expire(&self) -> Expired<K, T> {
        self.engine.expire()
    }

    /// How long until [`expire`](Self::expire) has something to do, at the earliest; `None` if nothing has a deadline.
    /// Changes nothing. O(shards + detached sessions).
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    /// use std::time::Duration;
    ///
    /// let dictionary: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// assert_eq!(dictionary.next_deadline(), None);
    /// dictionary.session("alice").detach(Duration::from_secs(10));
    /// assert!(dictionary.next_deadline() > Some(Duration::from_secs(9)));
    /// ```
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.engine.next_deadline()
    }
}
