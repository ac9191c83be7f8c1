//! Awaiting a feed instead of blocking the thread.

use super::following::{self, sealed::Source};
use super::{ChangeBuffer, CommitDelivery, CommitFeed, Delivery, KeyFeed, LockDelivery, LockFeed};
use crate::content::Versioned;
use crate::error::FlushError;
use crate::wake;
use futures_lite::{Stream, StreamExt, future, stream};
use std::hash::{BuildHasher, Hash};

impl<K: Clone + Eq + Hash, V, S: BuildHasher> ChangeBuffer<K, V, S> {
    /// [`flush`](Self::flush), awaited. Needs the feature `async`.
    ///
    /// Cancel-safe: only the poll that returns a delivery takes what is pending, so dropping the future loses nothing.
    ///
    /// # Errors
    /// [`FlushError`] if everything was delivered and nothing more can come.
    ///
    /// # Panics
    /// As [`flush`](Self::flush).
    ///
    /// ```
    /// use state_dictionary::{Change, StateDictionary};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    /// let buffer = dictionary.change_buffer();
    /// dictionary.update_state_async(&0, Change::new().set("a", 1)).await?;
    /// assert_eq!(buffer.flush_async().await?.updates().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn flush_async(&self) -> Result<Delivery<K, V, S>, FlushError> {
        let Some(published) = self.source() else { return following::flush(self) };
        wake::wait_async(&published.wakeups.changed, || self.look()).await
    }

    /// The deliveries, one after the other, as a stream that ends with the feed. Needs the feature `async`.
    ///
    /// Each poll that finds something pending delivers it, so a stream that is polled less often delivers less often
    /// and more at once. While other threads commit without a pause there is always something pending, and a task that
    /// only polls such a stream never yields to other tasks: use [`into_stream_with`](Self::into_stream_with), or
    /// yield.
    ///
    /// Cancel-safe: dropping a future of the stream's next item loses nothing. The stream owns the buffer; each
    /// delivery has the client's [position](Delivery::position).
    ///
    /// ```
    /// use futures_lite::StreamExt;
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::pin::pin;
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    /// let mut changes = pin!(dictionary.change_buffer().into_stream());
    /// dictionary.update_state_async(&0, Change::new().set("a", 1)).await?;
    /// assert!(changes.next().await.is_some());
    /// dictionary.freeze();
    /// assert!(changes.next().await.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = Delivery<K, V, S>> {
        stream::unfold(self, async |buffer| Some((buffer.flush_async().await.ok()?, buffer))).fuse()
    }

    /// [`into_stream`](Self::into_stream) at a limited rate: after each delivery, `timer` is called, and there is no other
    /// delivery until its future is ready. Needs the feature `async`.
    ///
    /// The form of [`subscribe`](Self::subscribe) for tasks, with the timer of any runtime:
    /// `|| tokio::time::sleep(interval)`. The first delivery does not wait for the timer, and there is no burst after a
    /// pause. While the timer runs, commits do not wake the task; the end of the feed does, and then what is pending
    /// comes at once.
    ///
    /// A timer's future is dropped when it is ready or no longer needed. It runs only while the stream is polled.
    ///
    /// ```
    /// use futures_lite::StreamExt;
    /// use state_dictionary::{Change, StateDictionary};
    /// use std::{future, pin::pin};
    ///
    /// # futures_lite::future::block_on(async {
    /// let dictionary: StateDictionary<String, i32, u8> = StateDictionary::new();
    /// // A timer that never rings: the stream has only the first delivery and what is pending at the end.
    /// let mut changes = pin!(dictionary.change_buffer().into_stream_with(future::pending));
    /// dictionary.update_state_async(&0, Change::new().set("a", 1)).await?;
    /// assert!(changes.next().await.is_some());
    /// dictionary.update_state_async(&0, Change::new().set("a", 2)).await?;
    /// drop(dictionary);
    /// assert_eq!(changes.next().await.unwrap().revision().get(), 2);
    /// assert!(changes.next().await.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn into_stream_with<F: Future<Output = ()>, M: FnMut() -> F>(
        self,
        timer: M,
    ) -> impl Stream<Item = Delivery<K, V, S>> {
        let next = async |(buffer, mut timer, interval): (Self, M, Option<F>)| {
            if let Some(interval) = interval {
                future::or(buffer.until_ended(), interval).await;
            }
            let delivery = buffer.flush_async().await.ok()?;
            let interval = Some(timer());
            Some((delivery, (buffer, timer, interval)))
        };
        stream::unfold((self, timer, None), next).fuse()
    }

    async fn until_ended(&self) {
        if let Some(published) = self.source() {
            wake::wait_async(&published.wakeups.ended, || self.is_closed().then_some(())).await;
        }
    }
}

/// The awaited forms of a feed, written out for each feed: a future that is generic over its feed, whose tokens must be
/// `'static`, is not `Send` if they are `&'static str`, because rustc loses track of the lifetime.
macro_rules! awaited {
    ($delivery:ty, $published:ident, $event:ident, $note:literal) => {
        /// [`flush`](Self::flush), awaited. Needs the feature `async`.
        #[doc = $note]
        ///
        /// Cancel-safe: only the poll that returns a delivery takes what is pending, so dropping the future loses
        /// nothing.
        ///
        /// # Errors
        /// [`FlushError`] if everything was delivered and nothing more can come.
        pub async fn flush_async(&self) -> Result<$delivery, FlushError> {
            let Some(published) = self.$published() else { return following::flush(self) };
            wake::wait_async(&published.wakeups.$event, || self.look()).await
        }

        /// The deliveries, one after the other, as a stream that ends with the feed. Needs the feature `async`. See
        /// [`ChangeBuffer::into_stream`].
        pub fn into_stream(self) -> impl Stream<Item = $delivery> {
            stream::unfold(self, async |feed| Some((feed.flush_async().await.ok()?, feed))).fuse()
        }

        /// [`into_stream`](Self::into_stream) at a limited rate: after each delivery, `timer` is called, and there is no other
        /// delivery until its future is ready. Needs the feature `async`. See [`ChangeBuffer::into_stream_with`].
        pub fn into_stream_with<F: Future<Output = ()>, M: FnMut() -> F>(
            self,
            timer: M,
        ) -> impl Stream<Item = $delivery> {
            let next = async |(feed, mut timer, interval): (Self, M, Option<F>)| {
                if let (Some(interval), Some(published)) = (interval, feed.$published()) {
                    let closed = || feed.is_closed().then_some(());
                    future::or(wake::wait_async(&published.wakeups.ended, closed), interval).await;
                }
                let delivery = feed.flush_async().await.ok()?;
                let interval = Some(timer());
                Some((delivery, (feed, timer, interval)))
            };
            stream::unfold((self, timer, None), next).fuse()
        }
    };
}

impl<K: Clone, V, T: Clone + 'static, S> CommitFeed<K, V, T, S> {
    awaited!(CommitDelivery<K, V, T>, published, changed, "");
}

impl<K: Eq, V, S> KeyFeed<K, V, S> {
    awaited!(Option<Versioned<V>>, source, changed, "");
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq + 'static, S: BuildHasher> LockFeed<K, V, T, S> {
    awaited!(
        LockDelivery<K, T>,
        published,
        locks,
        "\nUnlike `flush`, it has no clock and does not wake up when a lease expires, for that takes a runtime's timer. A server has \
         one that calls [`StateDictionary::expire`](crate::StateDictionary::expire), which is how such locks are seen here."
    );
}
