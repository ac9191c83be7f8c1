//! What all feeds share: a flush looks, and waits until a look finds something.

use crate::error::{FlushError, FlushTimeoutError, TryFlushError};
use crate::wake::{self, Look};
use sealed::Source;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A feed: [`ChangeBuffer`](crate::ChangeBuffer), [`CommitFeed`](crate::CommitFeed), [`LockFeed`](crate::LockFeed) or
/// [`KeyFeed`](crate::KeyFeed), or a reference or an [`Arc`] of one.
///
/// All have the same methods with the same meaning: `flush`, `flush_timeout`, `try_flush`, `flush_async`, `subscribe`,
/// `into_stream`, `into_stream_with`, `close`, `is_closed`, and `position` if a later feed can resume from it. This
/// trait is for code that is generic over them, such as [`Subscription`](crate::Subscription). It is sealed.
///
/// ```
/// use state_dictionary::{Feed, StateDictionary, Subscription};
/// use std::time::Duration;
///
/// /// How many deliveries there are until the feed is closed.
/// fn count(feed: impl Feed) -> usize {
///     Subscription::new(feed, Duration::ZERO).count()
/// }
///
/// let stock: StateDictionary<u64, u32> = StateDictionary::from([(3, 5)]);
/// let (buffer, key) = (stock.change_buffer(), stock.watch_key(3_u64));
/// drop(stock);
/// assert_eq!((count(buffer), count(key)), (1, 1));
/// ```
pub trait Feed: Source<Found = Self::Delivery> {
    /// The delivery of a flush.
    type Delivery;
}

impl<F: Feed + ?Sized> Feed for &F {
    type Delivery = F::Delivery;
}

impl<F: Feed + ?Sized> Feed for Arc<F> {
    type Delivery = F::Delivery;
}

/// What a flush at one moment returns, or `None` if it has to wait.
pub(super) type Found<D> = Option<Result<D, FlushError>>;

#[allow(unreachable_pub)] // a supertrait of a public trait
pub(super) mod sealed {
    use super::{Arc, Found, Instant};
    use crate::clock::Clock;
    use crate::commit::Published;
    use crate::sync::{self, Event, Wakeups};

    pub trait Source {
        type Found;

        fn look(&self) -> Found<Self::Found>;

        /// What a flush waits for; `None` if the feed has ended.
        #[allow(private_interfaces)]
        fn waits(&self) -> Option<Waits>;

        /// Whether nothing later than now will be delivered.
        fn is_over(&self) -> bool;

        /// When a look may find something although there was no event.
        fn next_deadline(&self) -> Option<Instant> {
            None
        }
    }

    pub(crate) struct Waits {
        pub(crate) wakeups: sync::Arc<Wakeups>,
        pub(crate) clock: Clock,
        pub(crate) event: fn(&Wakeups) -> &Event,
    }

    impl Waits {
        pub(crate) fn of<K, V, S>(published: &Published<K, V, S>, event: fn(&Wakeups) -> &Event) -> Self {
            Self { wakeups: sync::Arc::clone(&published.wakeups), clock: published.clock.clone(), event }
        }
    }

    impl<F: Source + ?Sized> Source for &F {
        type Found = F::Found;

        fn look(&self) -> Found<F::Found> {
            (**self).look()
        }

        #[allow(private_interfaces)]
        fn waits(&self) -> Option<Waits> {
            (**self).waits()
        }

        fn is_over(&self) -> bool {
            (**self).is_over()
        }

        fn next_deadline(&self) -> Option<Instant> {
            (**self).next_deadline()
        }
    }

    impl<F: Source + ?Sized> Source for Arc<F> {
        type Found = F::Found;

        fn look(&self) -> Found<F::Found> {
            (**self).look()
        }

        #[allow(private_interfaces)]
        fn waits(&self) -> Option<Waits> {
            (**self).waits()
        }

        fn is_over(&self) -> bool {
            (**self).is_over()
        }

        fn next_deadline(&self) -> Option<Instant> {
            (**self).next_deadline()
        }
    }
}

pub(super) fn flush<F: Source>(feed: &F) -> Result<F::Found, FlushError> {
    wait(feed, None).unwrap_or(Err(FlushError))
}

pub(super) fn flush_timeout<F: Source>(feed: &F, timeout: Duration) -> Result<F::Found, FlushTimeoutError> {
    Ok(wait(feed, Some(timeout)).ok_or(FlushTimeoutError::TimedOut)??)
}

pub(super) fn try_flush<F: Source>(feed: &F) -> Result<F::Found, TryFlushError> {
    Ok(feed.look().ok_or(TryFlushError::Empty)??)
}

/// `None` if nothing was found in time.
fn wait<F: Source>(feed: &F, timeout: Option<Duration>) -> Found<F::Found> {
    // A feed that has ended need not wait for anything.
    let Some(waits) = feed.waits() else { return feed.look() };
    let deadline = timeout.and_then(|timeout| waits.clock.now().checked_add(timeout));
    wake::wait_for_look((waits.event)(&waits.wakeups), &waits.clock, || match feed.look() {
        Some(found) => Look::Found(Some(found)),
        None if deadline.is_some_and(|deadline| waits.clock.now() >= deadline) => Look::Found(None),
        None => Look::Until([deadline, feed.next_deadline()].into_iter().flatten().min()),
    })
}

/// Sleeps until `deadline` or until the feed is closed, whatever happens meanwhile.
pub(super) fn sleep_until<F: Source>(feed: &F, deadline: Option<Instant>) {
    let Some(waits) = feed.waits() else { return };
    wake::wait(&waits.wakeups.ended, &waits.clock, deadline, || feed.is_over().then_some(()));
}

/// When an interval that begins now is over, if the clock reaches so far and the feed has not ended.
pub(super) fn end_of<F: Source>(feed: &F, interval: Duration) -> Option<Instant> {
    feed.waits()?.clock.now().checked_add(interval)
}
