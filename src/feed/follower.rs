//! One client of a broadcast: a position.

use super::broadcast::{Channel, State};
use super::{Delivery, Frame};
use crate::commit::Published;
use crate::content::Root;
use crate::error::{FlushError, FlushTimeoutError, TryFlushError};
use crate::position::{Position, StoreId};
use crate::revision::Revision;
use crate::sync::{self, DefaultHashBuilder};
use crate::wake;
#[cfg(feature = "async")]
use futures_lite::{Stream, StreamExt, stream};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// One client of a [`Broadcast`](crate::Broadcast): returns the frames one after the other, and a catch-up when frames
/// are missing. Made by [`Broadcast::join`](crate::Broadcast::join).
///
/// It is only a position: a publisher does no work for it except to wake it if it waits, and a slow or leaked follower
/// affects no other. It may outlive the broadcast and the dictionary; until it has ended it keeps alive what its
/// broadcast has.
///
/// ```
/// use state_dictionary::{BufferOptions, Change, Message, StateDictionary};
/// use std::thread;
///
/// let room: StateDictionary<String, i32, ()> = StateDictionary::new();
/// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
/// let mut follower = frames.join(None);
/// let client = thread::spawn(move || {
///     let mut keys = 0;
///     while let Ok(message) = follower.next() {
///         keys += match message {
///             Message::Frame(frame) => *frame.encoded(),
///             Message::CatchUp(delivery) => delivery.count(),
///         };
///     }
///     keys // it has ended
/// });
/// for number in 0..100 {
///     room.update_state(&(), Change::new().set(format!("key {number}"), number)).unwrap();
///     frames.publish();
/// }
/// drop(room);
/// assert_eq!(client.join().unwrap(), 100);
/// ```
pub struct Follower<K, V, M, S = DefaultHashBuilder> {
    store: StoreId,
    /// `None` when it has ended: it keeps nothing alive then.
    channel: Option<sync::Arc<Channel<K, V, M, S>>>,
    /// What the client has that has applied all messages; `None` if it has nothing.
    reached: Option<Revision>,
    /// Where the frame begins with which the client can continue. Not later than what it has.
    boundary: Revision,
}

/// A message of a [`Follower`].
///
/// ```
/// use state_dictionary::{BufferOptions, Message, StateDictionary};
///
/// let room: StateDictionary<&str, i32, ()> = StateDictionary::builder().content([("a", 1)]).build();
/// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
/// let message = frames.join(None).next().unwrap();
/// assert_eq!(message.position(), room.position());
/// assert!(matches!(message, Message::CatchUp(delivery) if delivery.count() == 1));
/// ```
pub enum Message<K, V, M, S = DefaultHashBuilder> {
    /// The next frame, which begins where the follower is.
    Frame(Arc<Frame<M>>),
    /// What changed between the follower's position and the latest publication, merged: the first message of a client
    /// at whose position no frame begins, and the next one after the follower has lagged behind the frames that are
    /// kept. If it is the [whole content](Delivery::is_full), the client must discard what it has.
    CatchUp(Delivery<K, V, S>),
}

impl<K, V, M, S> Message<K, V, M, S> {
    /// The position of a client that has applied this message.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Frame(frame) => frame.position(),
            Self::CatchUp(delivery) => delivery.position(),
        }
    }
}

impl<K, V, M, S> Follower<K, V, M, S> {
    pub(super) fn new(channel: sync::Arc<Channel<K, V, M, S>>, since: Option<Position>) -> Self {
        let now = channel.published.peek(Root::position);
        let since = since.filter(|since| since.store == now.store && since.revision <= now.revision);
        let reached = since.map(|since| since.revision);
        Self { store: now.store, channel: Some(channel), reached, boundary: reached.unwrap_or_default() }
    }

    /// The position of a client that has applied all messages: the client keeps it, to [join](crate::Broadcast::join)
    /// from it the next time. Before the first message it is the position that the client joined with, or
    /// [`Revision::ZERO`].
    ///
    /// Every call that looks for a message moves it to what was published, also one that finds nothing.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { store: self.store, revision: self.reached.unwrap_or_default() }
    }
}

impl<K: Clone + Eq, V, M, S> Follower<K, V, M, S> {
    /// Waits for the next message.
    ///
    /// Finding it is O(log n) in the number of frames for a frame, and O(1) for a [`Message::CatchUp`], except that a
    /// filter is run as in a [flush](crate::ChangeBuffer::flush). It does not wait for a publisher that is in progress.
    ///
    /// # Errors
    /// [`FlushError`] if everything was returned and nothing more can come.
    ///
    /// # Panics
    /// If the filter or a key's `Eq` panics; if the dictionary is frozen, this call publishes what is still pending,
    /// and `encode` panics; or if a value's `Drop` panics. The next call then returns what this one would have.
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, FlushError, Message, StateDictionary};
    ///
    /// let room: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
    /// let mut follower = frames.join(None);
    /// assert!(matches!(follower.next()?, Message::CatchUp(delivery) if delivery.count() == 0));
    /// room.update_state(&(), Change::new().set("a", 1))?;
    /// room.freeze();
    /// assert!(matches!(follower.next()?, Message::Frame(frame) if *frame.encoded() == 1), "it was not published before");
    /// assert_eq!(follower.next().unwrap_err(), FlushError);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[allow(clippy::should_implement_trait)] // an iterator could not report why there is nothing more
    pub fn next(&mut self) -> Result<Message<K, V, M, S>, FlushError> {
        self.next_for(None).unwrap_or(Err(FlushError))
    }

    /// [`next`](Self::next), waiting for at most `timeout`. A timeout too long for the clock never ends.
    ///
    /// # Errors
    /// [`FlushTimeoutError::TimedOut`] if the time is over,
    /// [`FlushTimeoutError::Closed`] if nothing more can come.
    ///
    /// # Panics
    /// As [`next`](Self::next).
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, StateDictionary, FlushTimeoutError};
    /// use std::time::Duration;
    ///
    /// let room: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
    /// let mut follower = frames.join(Some(room.position()));
    /// let nothing = follower.next_timeout(Duration::from_millis(1)); // time to send a keep-alive message instead
    /// assert_eq!(nothing.unwrap_err(), FlushTimeoutError::TimedOut);
    /// ```
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Message<K, V, M, S>, FlushTimeoutError> {
        Ok(self.next_for(Some(timeout)).ok_or(FlushTimeoutError::TimedOut)??)
    }

    /// The next message if there is one, without waiting.
    ///
    /// # Errors
    /// [`TryFlushError::Empty`] if there is none,
    /// [`TryFlushError::Closed`] if nothing more can come.
    ///
    /// # Panics
    /// As [`next`](Self::next).
    ///
    /// ```
    /// use state_dictionary::{BufferOptions, Change, StateDictionary, TryFlushError};
    ///
    /// let room: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
    /// let mut follower = frames.join(Some(room.position()));
    /// room.update_state(&(), Change::new().set("a", 1)).unwrap();
    /// assert_eq!(follower.try_next().unwrap_err(), TryFlushError::Empty, "it was not published");
    /// frames.publish();
    /// assert!(follower.try_next().is_ok());
    /// ```
    pub fn try_next(&mut self) -> Result<Message<K, V, M, S>, TryFlushError> {
        Ok(self.pending().ok_or(TryFlushError::Empty)??)
    }

    /// `None` if the time is over.
    fn next_for(&mut self, timeout: Option<Duration>) -> Option<Result<Message<K, V, M, S>, FlushError>> {
        let Some(channel) = self.channel.clone() else { return Some(Err(FlushError)) };
        let Published { wakeups, clock, .. } = &*channel.published;
        let deadline = timeout.and_then(|timeout| clock.now().checked_add(timeout));
        wake::wait(&wakeups.frames, clock, deadline, || self.pending())
    }

    /// What `next` returns at this moment, or `None` if it has to wait.
    fn pending(&mut self) -> Option<Result<Message<K, V, M, S>, FlushError>> {
        loop {
            let Some(channel) = &self.channel else { return Some(Err(FlushError)) };
            let state = channel.state.load_full();
            let next = self.look(channel, &state);
            let (closed, published) = (state.closed, state.root.revision);
            // Before the follower moves: a destructor of the user's may panic.
            drop(state);
            (self.reached, self.boundary) = (next.reached, next.boundary);
            if let Some(message) = next.message {
                return Some(Ok(message));
            }
            let last = channel.published.peek(|root| root.frozen.then_some(root.revision));
            if closed || last == Some(published) {
                self.channel = None;
            } else if last.is_none() {
                return None;
            } else {
                channel.publish();
            }
        }
    }

    fn look(&self, channel: &Channel<K, V, M, S>, state: &State<K, V, M, S>) -> Next<K, V, M, S> {
        let State { root, delivered, frames, .. } = state;
        let Self { reached, boundary, .. } = *self;
        let moved = |message| Next { message, reached: Some(root.revision), boundary: *delivered };
        let catch_up = |position| {
            let delivery = Delivery::between(position, None, root, &channel.wanted);
            let needed = delivery.is_full() || !delivery.difference.is_empty();
            moved(needed.then_some(Message::CatchUp(delivery)))
        };
        let Some(revision) = reached else { return catch_up(None) };
        if let Ok(index) = frames.binary_search_by_key(&boundary, |frame| frame.since) {
            let frame = Arc::clone(&frames[index]);
            let end = frame.revision();
            Next { message: Some(Message::Frame(frame)), reached: Some(end), boundary: end }
        } else if boundary == *delivered {
            moved(None)
        } else if revision <= root.revision {
            catch_up(Some(Position { store: self.store, revision }))
        } else {
            // It is ahead, and waits until what is published has passed it.
            Next { message: None, reached, boundary }
        }
    }
}

/// The result of a look at a state, and the position of the follower after it.
struct Next<K, V, M, S> {
    message: Option<Message<K, V, M, S>>,
    reached: Option<Revision>,
    boundary: Revision,
}

#[cfg(feature = "async")]
impl<K: Clone + Eq, V, M, S> Follower<K, V, M, S> {
    /// [`next`](Self::next), awaited. Needs the feature `async`.
    ///
    /// Cancel-safe: only the poll that returns a message moves the follower, so dropping the future loses nothing.
    ///
    /// # Errors
    /// [`FlushError`] if everything was returned and nothing more can come.
    ///
    /// # Panics
    /// As [`next`](Self::next).
    ///
    /// ```
    /// use futures_lite::future;
    /// use state_dictionary::{BufferOptions, Change, Message, StateDictionary};
    ///
    /// # future::block_on(async {
    /// let room: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
    /// let mut follower = frames.join(Some(room.position()));
    /// room.update_state_async(&(), Change::new().set("a", 1)).await?;
    /// let (message, _) = future::zip(follower.next_async(), async { frames.publish() }).await;
    /// assert!(matches!(message?, Message::Frame(frame) if *frame.encoded() == 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn next_async(&mut self) -> Result<Message<K, V, M, S>, FlushError> {
        let Some(channel) = self.channel.clone() else { return Err(FlushError) };
        wake::wait_async(&channel.published.wakeups.frames, || self.pending()).await
    }

    /// The messages, one after the other, as a stream that ends with the feed. Needs the feature `async`.
    ///
    /// Cancel-safe, as [`next_async`](Self::next_async). The stream owns the follower; each message has the client's
    /// [position](Message::position).
    ///
    /// ```
    /// use futures_lite::StreamExt;
    /// use state_dictionary::{BufferOptions, Change, StateDictionary};
    /// use std::pin::pin;
    ///
    /// # futures_lite::future::block_on(async {
    /// let room: StateDictionary<&str, i32, ()> = StateDictionary::new();
    /// let frames = room.broadcast(BufferOptions::new(), |delivery| delivery.count());
    /// let mut messages = pin!(frames.join(Some(room.position())).into_stream());
    /// room.update_state_async(&(), Change::new().set("a", 1)).await.unwrap();
    /// drop(room);
    /// assert!(messages.next().await.is_some());
    /// assert!(messages.next().await.is_none());
    /// # });
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = Message<K, V, M, S>> {
        stream::unfold(self, async |mut follower| Some((follower.next_async().await.ok()?, follower))).fuse()
    }
}

// A panic of the user's code leaves the follower where it was.
impl<K, V, M, S> UnwindSafe for Follower<K, V, M, S> {}
impl<K, V, M, S> RefUnwindSafe for Follower<K, V, M, S> {}

impl<K, V, M, S> Clone for Message<K, V, M, S>
where
    K: Clone,
{
    fn clone(&self) -> Self {
        match self {
            Self::Frame(frame) => Self::Frame(Arc::clone(frame)),
            Self::CatchUp(delivery) => Self::CatchUp(delivery.clone()),
        }
    }
}

impl<K, V, M, S> fmt::Debug for Follower<K, V, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("position", &self.position())
            .field("ended", &self.channel.is_none())
            .finish_non_exhaustive()
    }
}

impl<K: Eq + fmt::Debug, V: fmt::Debug, M, S> fmt::Debug for Message<K, V, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => f.debug_tuple("Frame").field(frame).finish(),
            Self::CatchUp(delivery) => f.debug_tuple("CatchUp").field(delivery).finish(),
        }
    }
}
