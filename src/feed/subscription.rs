//! Flushing at a limited rate.

use super::{ChangeBuffer, Delivery};
use crate::sync::DefaultHashBuilder;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;
use std::time::{Duration, Instant};

/// The deliveries of a [`ChangeBuffer`], at most one per interval. Made by [`ChangeBuffer::subscribe`].
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
#[derive(Debug)]
#[must_use = "a subscription is an iterator, and does nothing unless it is iterated"]
pub struct Subscription<'a, K, V, S = DefaultHashBuilder> {
    buffer: &'a ChangeBuffer<K, V, S>,
    interval: Duration,
    delivered: bool,
    /// When the interval after the last delivery is over, if the clock reaches so far.
    next: Option<Instant>,
}

impl<'a, K, V, S> Subscription<'a, K, V, S> {
    pub(super) fn new(buffer: &'a ChangeBuffer<K, V, S>, interval: Duration) -> Self {
        Self { buffer, interval, delivered: false, next: None }
    }
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher> Iterator for Subscription<'_, K, V, S> {
    type Item = Delivery<K, V, S>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.delivered {
            self.buffer.sleep_until(self.next);
        }
        let delivery = self.buffer.flush().ok()?;
        self.delivered = true;
        self.next = self.buffer.end_of(self.interval);
        Some(delivery)
    }
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher> FusedIterator for Subscription<'_, K, V, S> {}
