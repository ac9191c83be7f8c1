//! Stands in for what the crate is about to have.
#![allow(missing_docs, clippy::pedantic, async_fn_in_trait)]
use crate::feed::{Key, Session};
use serde_json::Value;
use state_dictionary::*;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(2);
pub(crate) trait SoonBuffer {
    async fn flush_async(&self) -> Result<Delivery<Key, Value>, FlushError>;
}
impl SoonBuffer for ChangeBuffer<Key, Value> {
    async fn flush_async(&self) -> Result<Delivery<Key, Value>, FlushError> {
        loop {
            match self.try_flush() {
                Err(FlushError::NothingPending) => tokio::time::sleep(POLL).await,
                other => return other,
            }
        }
    }
}
pub(crate) trait SoonLocks {
    async fn flush_async(&mut self) -> Result<LockDelivery<Key, Key>, FlushError>;
}
impl SoonLocks for LockFeed<Key, Value, Key> {
    async fn flush_async(&mut self) -> Result<LockDelivery<Key, Key>, FlushError> {
        loop {
            match self.try_flush() {
                Err(FlushError::NothingPending) => tokio::time::sleep(POLL).await,
                other => return other,
            }
        }
    }
}
pub(crate) trait SoonSession {
    async fn update_ephemeral_async(&mut self, c: Change<Key, Value>) -> Result<Revision, UpdateError<Key, Value, Key>>;
}
impl SoonSession for Session {
    async fn update_ephemeral_async(&mut self, c: Change<Key, Value>) -> Result<Revision, UpdateError<Key, Value, Key>> {
        self.update_ephemeral(c)
    }
}
