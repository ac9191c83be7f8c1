//! Images, and what else a log needs that drives a dictionary.

use super::{ReadHandle, StateDictionary};
use crate::content::Snapshot;
use crate::image::{Image, ImportError};
use crate::revision::{FencingToken, Revision};
use crate::session::Session;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> StateDictionary<K, V, T, S> {
    /// Everything at one instant: the content, and beside it an [`Image`] of all else, to be written down. A program
    /// that saves both now and then can go on from there after a restart, with [`Builder::image`](crate::Builder::image).
    ///
    /// The image has the sessions that are detached. One that is attached is known to its owner alone; see
    /// [`image_with`](Self::image_with) and [`Sessions::image`](crate::Sessions::image). Without it, its ephemeral keys
    /// would be lasting ones after a restart.
    ///
    /// O(locks + sessions and their keys), and O(1) in the content. Waits for every thread that is updating locks, and
    /// they wait for it.
    ///
    /// ```
    /// # #[cfg(feature = "json")] fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use state_dictionary::{Image, JsonDictionary, Revision};
    /// use serde_json::{Value, json};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// type Saved = (Image<Arc<str>, Arc<str>>, Vec<(Arc<str>, Value, Revision)>);
    /// let board: JsonDictionary<Arc<str>> = JsonDictionary::new();
    /// board.writer(&"alice".into()).set("card.1", json!({ "x": 0.5 }))?;
    /// let (image, content) = board.image();
    /// let entries = content.entries().map(|(key, entry)| (key.clone(), (**entry).clone(), entry.revision()));
    /// let saved: Saved = (image, entries.collect());
    /// let file = serde_json::to_vec(&saved)?; // to be written beside the old file, and renamed over it
    ///
    /// let (mut image, entries): Saved = serde_json::from_slice(&file)?; // after a restart
    /// image.detach_sessions(Duration::from_secs(30));
    /// let entries = entries.into_iter().map(|(key, value, revision)| (key, Arc::new(value), revision));
    /// let restored: JsonDictionary<Arc<str>> = JsonDictionary::builder().image(image, entries).build();
    /// assert_eq!(restored.position(), board.position(), "clients resume as if nothing had been");
    /// # Ok(()) }
    /// # #[cfg(feature = "json")] example().unwrap();
    /// ```
    #[must_use]
    pub fn image(&self) -> (Image<K, T>, Snapshot<K, V, S>) {
        self.engine.image(std::iter::empty())
    }

    /// [`image`](Self::image) with sessions that are attached. They are in it without a time limit.
    #[must_use]
    pub fn image_with<'a>(
        &self,
        attached: impl IntoIterator<Item = &'a Session<K, V, T, S>>,
    ) -> (Image<K, T>, Snapshot<K, V, S>)
    where
        K: 'a,
        V: 'a,
        T: 'a,
        S: 'a,
    {
        self.engine.image(attached.into_iter().map(Session::state))
    }

    /// Makes this dictionary what a later image of the same store says, in one step: for a replica that has lost its
    /// place in the log. Feeds, waiters and broadcasts go on; a buffer delivers exactly what differs.
    ///
    /// Feeds of commits and of locks report that they have missed something. Sessions that are attached must be
    /// detached before: the table of detached sessions is replaced, and they are taken up again from it. Returns the
    /// revision of the image.
    ///
    /// O(n) in the content and the locks. Waits for every thread that is updating locks.
    ///
    /// # Errors
    /// [`ImportError`]; nothing was changed then.
    ///
    /// ```
    /// use state_dictionary::StateDictionary;
    ///
    /// let ahead: StateDictionary<&str, u32> = [("a", 1), ("b", 1)].into();
    /// let entries = |content: state_dictionary::Snapshot<&'static str, u32>| {
    ///     content.into_iter().map(|(key, entry)| (key, entry.value().clone(), entry.revision()))
    /// };
    /// let (image, content) = ahead.image();
    /// let behind: StateDictionary<&str, u32> = StateDictionary::builder().image(image, entries(content)).build();
    /// let buffer = behind.change_buffer();
    /// assert_eq!(buffer.flush()?.count(), 2);
    ///
    /// ahead.set("a", 2)?;
    /// let (image, content) = ahead.image();
    /// behind.import(image, entries(content))?;
    /// assert_eq!(buffer.flush()?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn import(
        &self,
        image: Image<K, T>,
        entries: impl IntoIterator<Item = (K, Arc<V>, Revision)>,
    ) -> Result<Revision, ImportError> {
        self.engine.import(image, entries)
    }
}

impl<K, V, T, S> StateDictionary<K, V, T, S> {
    /// From now on, locks that are granted and lock events have numbers of at least `token`, each larger than the one
    /// before, whatever else happens in the dictionary. For a replica: with a number from the log before each operation,
    /// fencing tokens and [`LockPosition`](crate::LockPosition)s are the same on all replicas. A smaller number than one
    /// given before is ignored. Wait-free.
    ///
    /// ```
    /// use state_dictionary::{FencingToken, LockRequest, StateDictionary};
    ///
    /// let replica: StateDictionary<&str, i32, &str> = StateDictionary::new();
    /// replica.set_next_fencing_token(FencingToken::from(17)); // the 17th operation
    /// let receipt = replica.update_locks(&"alice", LockRequest::new().acquire("ball", None))?;
    /// assert_eq!(receipt.granted, [("ball", FencingToken::from(17))]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_next_fencing_token(&self, token: FencingToken) {
        self.engine.published.set_next_fencing_token(token);
    }

    /// A handle that can read, follow and wait, and not write. It stays usable when the dictionary is dropped, which
    /// ends its feeds.
    #[must_use]
    pub fn read_handle(&self) -> ReadHandle<K, V, T, S> {
        ReadHandle::new(self.engine.clone(), self.reader.clone())
    }
}
