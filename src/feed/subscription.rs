//! Flushing at a limited rate.

use super::Feed;
use super::following::{end_of, flush, sleep_until};
use std::iter::FusedIterator;
use std::time::{Duration, Instant};

/// The deliveries of a [feed](Feed), at most one in each interval.
///
/// ```
/// use state_dictionary::{Change, ManualClock, StateDictionary};
/// use std::{thread, time::Duration};
///
/// let clock = ManualClock::new();
/// let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::builder().clock(&clock).build();
/// let buffer = dictionary.change_buffer();
/// thread::scope(|scope| {
///     let mut subscription = buffer.subscribe(Duration::from_secs(1));
///     dictionary.update_state(&(), Change::new().set("a", 1)).unwrap();
///     assert!(subscription.next().is_some(), "the first does not wait for the interval");
///     dictionary.update_state(&(), Change::new().set("a", 2)).unwrap();
///     scope.spawn(|| clock.advance(Duration::from_secs(1)));
///     assert!(subscription.next().is_some(), "the second did");
/// });
/// drop(dictionary);
/// assert!(buffer.subscribe(Duration::ZERO).next().is_none());
/// ```
///
/// A subscription of a borrowed feed is made by `subscribe`. One that owns its feed, or shares it, is made by [`new`](Self::new).
#[derive(Debug)]
#[must_use = "a subscription is an iterator, and does nothing unless it is iterated"]
pub struct Subscription<F> {
    feed: F,
    interval: Duration,
    delivered: bool,
    /// When the interval after the last delivery is over, if the clock reaches so far.
    next: Option<Instant>,
}

impl<F: Feed> Subscription<F> {
    /// The deliveries of a feed, a reference or an [`Arc`](std::sync::Arc) of one, with at least `interval` between the end of
    /// one delivery and the next; 0 is no limit.
    ///
    /// ```
    /// use state_dictionary::{StateDictionary, Subscription};
    /// use std::{sync::Arc, thread, time::Duration};
    ///
    /// let stock: StateDictionary<u64, u32> = StateDictionary::from([(3, 5)]);
    /// let buffer = Arc::new(stock.change_buffer());
    /// let deliveries = Subscription::new(Arc::clone(&buffer), Duration::from_millis(33));
    /// let watcher = thread::spawn(|| deliveries.count());
    /// buffer.close(); // from another thread
    /// assert_eq!(watcher.join().unwrap(), 1);
    /// ```
    pub fn new(feed: F, interval: Duration) -> Self {
        Self { feed, interval, delivered: false, next: None }
    }
}

impl<F: Feed> Iterator for Subscription<F> {
    type Item = F::Delivery;

    fn next(&mut self) -> Option<Self::Item> {
        if self.delivered {
            sleep_until(&self.feed, self.next);
        }
        let delivery = flush(&self.feed).ok()?;
        self.delivered = true;
        self.next = end_of(&self.feed, self.interval);
        Some(delivery)
    }
}

impl<F: Feed> FusedIterator for Subscription<F> {}
