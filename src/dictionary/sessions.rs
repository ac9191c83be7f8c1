//! Opening and expiring sessions.

use super::StateDictionary;
use crate::session::{Expired, Session, Sessions};
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// A session for the client with this token: the one that is lingering after [`Session::detach`], with all that belongs to
    /// it, or else a new one.
    ///
    /// A session lingers until a call of [`expire`](Self::expire) has ended it: also when its grace is over, and when it has
    /// ended except for keys whose removal was [deferred](crate::NotRemoved). Of several with the token, it is the one opened last. One that a caller
    /// still has does not linger: then this is a second session of the same token, and each ends with what is its own. A server
    /// that may see that opens its sessions through a table, [`sessions`](Self::sessions).
    ///
    /// O(n) in the number of lingering sessions; the first call, O(n) in that of all locks. May wait for `expire` to end sessions,
    /// for about a millisecond.
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

    /// A table of sessions by client, which lets the latest connection of a client take its session over from an older one.
    ///
    /// `grace` is the time for which a session stays when its connection is lost; then the next call of
    /// [`expire`](Self::expire) ends it. Several tables of one dictionary know nothing of each other. A table may outlive the
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

    /// Takes away the locks that have run out and ends the sessions whose time is over, and says when to call it again. What a
    /// server does on a timer, so that expiry is seen also where nobody touches the key.
    ///
    /// O(n) in the number of lingering sessions, and O(k log n) for the k keys and locks of those that end. Where locks have run
    /// out, O(n) in the number of locks, too, one shard at a time; and for each session O(n) in the number of owners that have
    /// acquired locks without a session. Sessions end in steps of about a millisecond (one of many keys is one step), during which
    /// lock operations, and writers while there are locks, wait; beside busy writers it holds the content for a part of that. May
    /// wait for threads that are updating locks; never for held content.
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
}
