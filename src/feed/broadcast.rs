//! Frames: each change encoded once for all clients that follow the same keys.

use super::options::Wanted;
use super::{BufferOptions, Delivery, Follower};
use crate::commit::Published;
use crate::content::Root;
use crate::deferred_drops::{DeferredDrops, defer_drops, is_deferring};
use crate::observe::Following;
use crate::position::Position;
use crate::revision::Revision;
use crate::sync::{self, DefaultHashBuilder, FRAMES_KEPT, RootCell};
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// Encodes each change once for all clients that follow the same keys. Made by
/// [`StateDictionary::broadcast`](crate::StateDictionary::broadcast).
///
/// With a [`ChangeBuffer`](crate::ChangeBuffer) for each client, a server encodes the same change once for each client.
/// A broadcast has one cursor for all of them: [`publish`](Self::publish), which a server calls on a timer, flushes
/// once, encodes once and appends a [`Frame`]; each client has a [`Follower`], which returns the frames.
///
/// The latest 32 frames are kept. A follower that lags behind them, or that joins at a position where no frame begins,
/// returns the merged change since its own position instead, as [`Message::CatchUp`](crate::Message::CatchUp). So in
/// whatever order threads publish, join, follow and commit, a client that applies what its follower returns has the
/// content of the follower's position (of the keys that pass the [options](BufferOptions)), without a gap or an
/// overlap.
///
/// # Progress and cost
/// [`publish`](Self::publish) is lock-free: it is repeated only because another thread has published.
/// [`join`](Self::join) is O(1), and neither that nor a follower waits for a publisher. A commit does no work for a
/// broadcast. A broadcast keeps alive its frames, and of the content that it saw last what a
/// [`Snapshot`](crate::Snapshot) would; a follower is a position, however slow it is. Publishing wakes the waiting
/// followers; those of other broadcasts of the dictionary wake up too, look, and wait again.
///
/// # The end
/// When the dictionary is frozen or dropped, its followers publish what is still pending themselves, return it, and
/// end: after that they return [`FlushError`](crate::FlushError). When the broadcast is dropped, its followers return
/// what was published, and end; if the dictionary was frozen before, they return everything.
///
/// ```
/// use state_dictionary::{BufferOptions, Change, Delivery, Message, StateDictionary};
///
/// fn encode(delivery: &Delivery<&str, i32>) -> String {
///     let updates = delivery.updates().map(|(key, entry)| format!("{key}={} ", **entry));
///     updates.chain(delivery.removals().map(|key| format!("-{key} "))).collect()
/// }
///
/// let room: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1)]).build();
/// let frames = room.broadcast(BufferOptions::new(), encode);
/// let mut followers = [frames.join(None), frames.join(None)];
/// for follower in &mut followers {
///     assert!(matches!(follower.next()?, Message::CatchUp(all) if encode(&all) == "a=1 "));
/// }
/// room.update_state(&(), Change::new().set("a", 2))?;
/// room.update_state(&(), Change::new().set("a", 3))?;
/// frames.publish(); // on a timer
/// for follower in &mut followers {
///     assert!(matches!(follower.next()?, Message::Frame(frame) if frame.encoded() == "a=3 "));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "channel")]
#[doc(alias = "fan_out")]
pub struct Broadcast<K, V, M, S = DefaultHashBuilder> {
    channel: sync::Arc<Channel<K, V, M, S>>,
}

/// What a broadcast shares with its followers.
pub(super) struct Channel<K, V, M, S> {
    pub(super) published: sync::Arc<Published<K, V, S>>,
    pub(super) state: RootCell<State<K, V, M, S>>,
    pub(super) wanted: Wanted<K>,
    encode: Box<dyn Fn(&Delivery<K, V, S>) -> M + Send + Sync>,
    deferred: Arc<DeferredDrops<Vec<Arc<Frame<M>>>>>,
    following: Following,
}

/// What was published. It never changes; it is replaced.
pub(super) struct State<K, V, M, S> {
    /// The root up to which all commits were looked at.
    pub(super) root: Arc<Root<K, V, S>>,
    /// Where the newest frame ends. The commits between it and `root` had nothing to deliver.
    pub(super) delivered: Revision,
    /// The frames that are kept, oldest first. Each begins where the one before ends.
    pub(super) frames: Vec<Arc<Frame<M>>>,
    /// Whether the broadcast was dropped.
    pub(super) closed: bool,
    deferred: Arc<DeferredDrops<Vec<Arc<Frame<M>>>>>,
}

/// What changed between two revisions, encoded. Made by [`Broadcast::publish`].
///
/// ```
/// use state_dictionary::{BufferOptions, Change, Message, StateDictionary};
///
/// let room: StateDictionary<&str, i32, ()> = StateDictionary::new();
/// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
/// let mut follower = frames.join(Some(room.position()));
/// room.update_state(&(), Change::new().set("a", 1).set("b", 1)).unwrap();
/// frames.publish();
/// let Message::Frame(frame) = follower.next().unwrap() else { panic!("it had everything") };
/// assert_eq!((frame.since().get(), frame.revision().get(), *frame.encoded()), (0, 1, 2));
/// assert_eq!(frame.position(), room.position());
/// ```
pub struct Frame<M> {
    pub(super) since: Revision,
    position: Position,
    encoded: M,
}

impl<M> Frame<M> {
    /// The frame covers the commits after this revision: where the frame before ended, or where the broadcast began.
    ///
    /// A follower that returns the frame may be at a somewhat different position. Then the commits in between had
    /// nothing to deliver: the [filter](BufferOptions::filter) passed none of their keys, or they set and removed a key
    /// again.
    #[must_use]
    pub fn since(&self) -> Revision {
        self.since
    }

    /// The frame covers the commits up to and including this revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.position.revision
    }

    /// The position of a client that has applied this frame: the client keeps it, to [join](Broadcast::join) from it
    /// the next time.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the broadcast's `encode` returned.
    #[must_use]
    pub fn encoded(&self) -> &M {
        &self.encoded
    }
}

impl<K, V, M, S> Broadcast<K, V, M, S> {
    pub(crate) fn new(
        published: sync::Arc<Published<K, V, S>>,
        options: BufferOptions<K>,
        encode: impl Fn(&Delivery<K, V, S>) -> M + Send + Sync + 'static,
    ) -> Self {
        let root = published.load().into_kept();
        let following = published.shared().observed.follow(root.revision);
        let deferred = Arc::new(DeferredDrops::new());
        let state = State {
            delivered: root.revision,
            root,
            frames: Vec::new(),
            closed: false,
            deferred: Arc::clone(&deferred),
        };
        let (state, encode) = (RootCell::new(Arc::new(state)), Box::new(encode));
        let channel = Channel { published, state, wanted: options.wanted, encode, deferred, following };
        Self { channel: sync::Arc::new(channel) }
    }

    /// A follower for a client that has the content of this position, or nothing.
    ///
    /// The position is that of a [`Frame`], of a [`Delivery`], of a [`Follower`] or of the dictionary. If a kept frame
    /// begins there, the follower continues with that frame. A client at an earlier position, or at one inside a frame,
    /// first gets a catch-up; one at a later position than the latest frame waits until `publish` has reached it.
    /// Without a position, and with one of another dictionary or of the future, or one that the
    /// [history](crate::Builder::history_limit) does not reach, the first message is the whole content as of the latest
    /// `publish`, at once, also if there is none.
    ///
    /// As with a buffer that [resumes](BufferOptions::resume), the position must be of a client that follows the same
    /// keys.
    ///
    /// O(1); never waits.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, Message, StateDictionary};
    ///
    /// let room: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1)]).build();
    /// let frames = room.broadcast(BufferOptions::new(), |delivery| format!("{:?}", delivery.updates()));
    /// let mut follower = frames.join(None);
    /// assert!(matches!(follower.next()?, Message::CatchUp(delivery) if delivery.is_full()));
    /// let seen = follower.position();
    /// drop(follower); // the connection is lost
    ///
    /// room.update_state(&(), Change::new().set("b", 1))?;
    /// frames.publish();
    /// let mut again = frames.join(Some(seen));
    /// assert!(matches!(again.next()?, Message::Frame(frame) if frame.position() == room.position()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn join(&self, since: Option<Position>) -> Follower<K, V, M, S> {
        Follower::new(sync::Arc::clone(&self.channel), since)
    }
}

impl<K: Clone + Eq, V, M, S> Broadcast<K, V, M, S> {
    /// Publishes what was committed since the last call, as one frame, and wakes the followers. Returns whether this
    /// call made a frame: `false` if there was nothing to deliver, or if another thread has published it.
    ///
    /// When it returns, everything that was committed before the call has been published. Several threads may publish
    /// at once. One that another thread overtakes discards the frame that it has encoded and looks again.
    ///
    /// Lock-free; never waits. It costs a [flush](crate::ChangeBuffer::flush) and one call of `encode`.
    ///
    /// # Panics
    /// If `encode`, the filter or a key's `Eq` panics; then nothing is published, and the next call retries. Also if
    /// the `Drop` of an encoded value that is no longer kept, or of a value of the dictionary, panics; then the frame
    /// is published, and followers return it.
    ///
    /// `encode` must not publish.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, StateDictionary};
    ///
    /// let room: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let cursors = room.broadcast(BufferOptions::new().prefixes(["cursor."]), |delivery| delivery.count());
    /// assert!(!cursors.publish(), "nothing was committed");
    /// room.update_state(&(), Change::new().set("drawing", 1))?;
    /// assert!(!cursors.publish(), "nothing that is followed");
    /// room.update_state(&(), Change::new().set("cursor.alice", 1))?;
    /// assert!(cursors.publish());
    /// # Ok::<(), state_dictionary::UpdateError<&str, i32, ()>>(())
    /// ```
    #[allow(clippy::must_use_candidate)] // mostly called for its effect
    pub fn publish(&self) -> bool {
        self.channel.publish()
    }
}

impl<K: Clone + Eq, V, M, S> Channel<K, V, M, S> {
    pub(super) fn publish(&self) -> bool {
        loop {
            let state = self.state.load_full();
            // After the state, so that it is no older than the state's.
            let root = self.published.load();
            let (cursor, to) = (state.root.revision, root.revision);
            if cursor == to {
                return false;
            }
            let seen = Some(&state.root.content);
            let change = Delivery::between(Some(state.root.position()), seen, &root, &self.wanted);
            let change = Delivery { since: state.delivered, ..change };
            let frame = (!change.difference.is_empty()).then(|| {
                let encoded = (self.encode)(&change);
                Arc::new(Frame { since: state.delivered, position: change.position(), encoded })
            });
            let compared = change.difference.is_compared();
            let next = state.followed_by(Arc::clone(change.difference.root()), frame);
            let framed = next.delivered == to;
            drop((change, root));
            if self.replace(state, next) {
                self.following.reached(to);
                if compared {
                    self.published.shared().observed.caught_up(cursor, to);
                }
                return framed;
            }
        }
    }
}

impl<K, V, M, S> Channel<K, V, M, S> {
    /// Replaces the state if it is still this one, and wakes the followers. What is no longer needed is dropped after
    /// that.
    fn replace(&self, state: Arc<State<K, V, M, S>>, next: State<K, V, M, S>) -> bool {
        let next = Arc::new(next);
        let (replaced, deferred) = defer_drops(|| self.state.compare_and_swap(&state, next));
        if replaced {
            self.published.wakeups.frames.notify_all();
        }
        let settling = self.published.shared().settle_later(deferred);
        self.deferred.empty();
        drop(state);
        drop(settling);
        replaced
    }

    /// Ends the followers when they have returned what was published. Those of a frozen dictionary end with everything.
    fn close(&self) {
        while !self.published.peek(|root| root.frozen) {
            let state = self.state.load_full();
            let mut next = state.same();
            next.closed = true;
            if self.replace(state, next) {
                break;
            }
        }
    }
}

impl<K, V, M, S> State<K, V, M, S> {
    fn same(&self) -> Self {
        let Self { root, delivered, frames, closed, deferred } = self;
        let (root, frames, deferred) = (Arc::clone(root), frames.clone(), Arc::clone(deferred));
        Self { root, delivered: *delivered, frames, closed: *closed, deferred }
    }

    /// The state after a look at this root, with the frame that it found, or with nothing to deliver.
    fn followed_by(&self, root: Arc<Root<K, V, S>>, frame: Option<Arc<Frame<M>>>) -> Self {
        let mut next = self.same();
        next.root = root;
        if let Some(frame) = frame {
            next.delivered = frame.revision();
            if next.frames.len() == FRAMES_KEPT {
                next.frames.remove(0);
            }
            next.frames.push(frame);
        }
        next
    }
}

impl<K, V, M, S> Drop for State<K, V, M, S> {
    fn drop(&mut self) {
        if is_deferring() {
            self.deferred.put(mem::take(&mut self.frames));
        }
    }
}

impl<K, V, M, S> Drop for Broadcast<K, V, M, S> {
    fn drop(&mut self) {
        self.channel.close();
    }
}

// A panic of the user's code publishes nothing, or comes after what was published.
impl<K, V, M, S> UnwindSafe for Broadcast<K, V, M, S> {}
impl<K, V, M, S> RefUnwindSafe for Broadcast<K, V, M, S> {}

// Never changes, and is shared.
impl<M> UnwindSafe for Frame<M> {}
impl<M> RefUnwindSafe for Frame<M> {}

impl<K, V, M, S> fmt::Debug for Broadcast<K, V, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.channel.state.load_full();
        f.debug_struct("Broadcast")
            .field("revision", &state.root.revision)
            .field("frames", &state.frames)
            .finish_non_exhaustive()
    }
}

/// Shows which commits the frame covers, not the encoded message.
impl<M> fmt::Debug for Frame<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (since, revision) = (self.since, self.revision());
        f.debug_struct("Frame").field("since", &since).field("revision", &revision).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crate::sync::others;
    use crate::{BufferOptions, Change, Follower, StateDictionary};
    use parking_lot::Mutex;
    use std::sync::Arc;

    type Seen = Arc<Mutex<(Option<Follower<u8, u8, Looks>>, Vec<u64>)>>;

    /// A value that, when it is dropped, calls `try_next` and notes the position.
    struct Looks(Seen);

    impl Drop for Looks {
        fn drop(&mut self) {
            let (follower, seen) = &mut *self.0.lock();
            let Some(follower) = follower else { return };
            let message = follower.try_next();
            seen.push(message.map_or(0, |message| message.position().revision.get()));
        }
    }

    /// arc-swap drops what other threads have replaced inside its own `compare_and_swap`.
    #[test]
    fn what_another_thread_has_replaced_is_dropped_when_a_frame_is_published() {
        let dictionary: StateDictionary<u8, u8, ()> = StateDictionary::new();
        let seen = Seen::default();
        let encoded = Arc::clone(&seen);
        let frames = dictionary.broadcast(BufferOptions::new(), move |_| Looks(Arc::clone(&encoded)));
        let publish = || {
            assert!(dictionary.update_state(&(), Change::new().set(1, 1)).is_ok());
            assert!(frames.publish());
        };
        (0..super::FRAMES_KEPT).for_each(|_| publish());
        let mut replaced = Some(frames.channel.state.load_full());
        publish();
        let position = dictionary.position();
        seen.lock().0 = Some(frames.join(Some(position)));
        assert!(dictionary.update_state(&(), Change::new().set(1, 1)).is_ok());
        // After loading the state and the root.
        others::drop_after(2, replaced.take());
        assert!(frames.publish());
        assert!(others::take().is_none(), "it was dropped");
        let now = dictionary.revision().get();
        assert_eq!(seen.lock().1, [now, 0], "when the new frame was there, and so was the one that was pushed out");
        seen.lock().0 = None;
    }
}
