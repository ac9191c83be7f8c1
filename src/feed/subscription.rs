//! Flushing at a limited rate.

use super::{ChangeBuffer, Delivery};
use crate::sync::DefaultHashBuilder;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;
use std::time::{Duration, Instant};

/// The deliveries of a [`ChangeBuffer`], at most one per interval. Made by [`ChangeBuffer::subscribe`].
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
        self.next = self.buffer.now().checked_add(self.interval);
        Some(delivery)
    }
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher> FusedIterator for Subscription<'_, K, V, S> {}
