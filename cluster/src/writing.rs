//! Writing and reading a checkpoint: chunks, then the head, then the log before it is deleted.

use crate::checkpoint::Writing;
use crate::data::{Key, Token, Value};
use crate::log::{Head, Log, LogError, Truncation};
use bytes::Bytes;
use futures_util::future::poll_fn;
use std::task::Poll;

pub(crate) async fn write_checkpoint<K: Key, V: Value, T: Token, L: Log>(
    log: &L,
    mut writing: Writing<K, V, T>,
    mut truncation: Truncation,
) -> Result<(), LogError> {
    let head = &mut truncation.head;
    while let Some(chunk) = writing.next_chunk().map_err(LogError::Failed)? {
        log.put_chunk(head.place, head.chunks, Bytes::from(chunk)).await?;
        head.chunks += 1;
        // An engine may be done at once, and the node has other things to do.
        let_others_run().await;
    }
    log.put_head(*head).await?;
    tracing::debug!(node = %log.node(), place = head.place.0, chunks = head.chunks, "wrote a checkpoint");
    log.truncate(truncation).await
}

/// The latest checkpoint, whole.
pub(crate) async fn read_checkpoint<L: Log>(log: &L) -> Result<Option<(Head, Vec<u8>)>, LogError> {
    'latest: loop {
        let Some(head) = log.head().await? else { return Ok(None) };
        let mut bytes = Vec::new();
        for index in 0..head.chunks {
            match log.chunk(head.place, index).await? {
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None if log.head().await? == Some(head) => {
                    return Err(LogError::Failed(format!(
                        "chunk {index} of the checkpoint at {} is missing",
                        head.place.0
                    )));
                }
                None => continue 'latest,
            }
        }
        return Ok(Some((head, bytes)));
    }
}

async fn let_others_run() {
    let mut has_run = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_run, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
