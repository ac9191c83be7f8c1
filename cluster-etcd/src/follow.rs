//! Following the log: a watch, which goes on where it broke; and reading the keys where etcd's history does not reach.

use crate::log::{LARGE, Shared};
use crate::members::{Meaning, Member, meaning};
use etcd_client::{EventType, GetOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions};
use state_dictionary_cluster::{LogError, Place, Record};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

type To = Sender<Result<Record, LogError>>;

const PAUSE: Duration = Duration::from_millis(50);

/// How many values are read at a time, each of at most 512 KiB.
const PAGE: usize = 32;

/// How a part of the work ended.
enum Ended {
    /// Nobody follows any more.
    Unwanted,
    /// The connection failed; it goes on with another one.
    Broken,
    /// etcd's history does not reach back so far.
    Compacted,
    Failed(LogError),
}

/// Sends all records after a place, until nobody wants them any more.
pub(crate) async fn follow(shared: Arc<Shared>, after: Place, to: To) {
    let mut at = after;
    // What a new log has may be older than etcd's history.
    let mut by_keys = after == Place(0);
    loop {
        if by_keys {
            match read_keys(&shared, &mut at, &to).await {
                Ok(()) => by_keys = false,
                Err(Ended::Unwanted) => return,
                Err(Ended::Failed(error)) => return drop(to.send(Err(error)).await),
                Err(Ended::Broken | Ended::Compacted) => sleep(PAUSE).await,
            }
            continue;
        }
        match watch(&shared, &mut at, &to).await {
            Ended::Unwanted => return,
            Ended::Compacted => by_keys = true,
            Ended::Failed(error) => return drop(to.send(Err(error)).await),
            Ended::Broken => {
                tracing::debug!(node = %shared.node, at = at.0, "watches again");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Reads the log as it is now. What a checkpoint has made unnecessary is deleted, and nothing else.
async fn read_keys(shared: &Shared, at: &mut Place, to: &To) -> Result<(), Ended> {
    let Member { client, index } = shared.members.current().await.map_err(|_| Ended::Broken)?;
    let mut client = client.kv_client().max_decoding_message_size(LARGE);
    let limit = shared.members.attempt() * 5;
    let broken = |why: &str| {
        shared.members.failed(index, why);
        Ended::Broken
    };
    // First which there are, and in which order, without values: etcd sorts the whole range for every page of it.
    let options = GetOptions::new()
        .with_prefix()
        .with_min_create_revision(i64::try_from(at.0 + 1).unwrap_or(i64::MAX))
        .with_sort(SortTarget::Create, SortOrder::Ascend)
        .with_keys_only();
    let list = match timeout(limit, client.get(shared.keys.log(), Some(options))).await {
        Ok(Ok(list)) => list,
        Ok(Err(error)) => return Err(broken(&error.to_string())),
        Err(_) => return Err(broken("no answer in time")),
    };
    let revision = list.header().map_or(0, etcd_client::ResponseHeader::revision);
    // Looked at after the list: if the list lacks something, this checkpoint has it.
    match shared.head().await {
        Ok(Some(head)) if head.place > *at => return Err(Ended::Failed(LogError::Truncated)),
        Ok(_) => {}
        Err(error) => return Err(Ended::Failed(error)),
    }
    for page in list.kvs().chunks(PAGE) {
        let get = |key: &[u8]| TxnOp::get(key, Some(GetOptions::new().with_revision(revision)));
        let gets: Vec<_> = page.iter().map(|pair| get(pair.key())).collect();
        let values = match timeout(limit, client.txn(Txn::new().and_then(gets))).await {
            Ok(Ok(values)) => values,
            Ok(Err(error)) if meaning(&error) == Meaning::Compacted => return Err(Ended::Compacted),
            Ok(Err(error)) => return Err(broken(&error.to_string())),
            Err(_) => return Err(broken("no answer in time")),
        };
        for response in values.op_responses() {
            let TxnOpResponse::Get(get) = response else { continue };
            for pair in get.kvs() {
                let Some(record) = shared.keys.record(pair) else { continue };
                send(to, at, record).await?;
            }
        }
    }
    *at = Place(at.0.max(u64::try_from(revision).unwrap_or(0)));
    Ok(())
}

async fn send(to: &To, at: &mut Place, record: Record) -> Result<(), Ended> {
    let place = record.place;
    to.send(Ok(record)).await.map_err(|_| Ended::Unwanted)?;
    *at = place;
    Ok(())
}

async fn watch(shared: &Shared, at: &mut Place, to: &To) -> Ended {
    let Ok(Member { client, index }) = shared.members.current().await else { return Ended::Broken };
    let from = i64::try_from(at.0 + 1).unwrap_or(i64::MAX);
    let options = WatchOptions::new().with_prefix().with_start_revision(from).with_fragment();
    let mut client = client.watch_client().max_decoding_message_size(LARGE);
    let mut events = match timeout(shared.members.attempt(), client.watch(shared.keys.live(), Some(options))).await {
        Ok(Ok(events)) => events,
        Ok(Err(error)) => {
            shared.members.failed(index, &error.to_string());
            return Ended::Broken;
        }
        Err(_) => {
            shared.members.failed(index, "no watch in time");
            return Ended::Broken;
        }
    };
    loop {
        let response = tokio::select! {
            response = events.message() => response,
            () = to.closed() => return Ended::Unwanted,
        };
        let response = match response {
            Ok(Some(response)) => response,
            Ok(None) => return Ended::Broken,
            Err(error) => {
                shared.members.failed(index, &error.to_string());
                return Ended::Broken;
            }
        };
        if response.canceled() {
            return if response.compact_revision() > 0 { Ended::Compacted } else { Ended::Broken };
        }
        for event in response.events() {
            let Some(pair) = event.kv() else { continue };
            let key = pair.key_str().unwrap_or_default();
            if event.event_type() == EventType::Put {
                // A record has a revision of its own, so what is left of a broken response comes again.
                if let Some(record) = shared.keys.record(pair).filter(|record| record.place > *at) {
                    if let Err(ended) = send(to, at, record).await {
                        return ended;
                    }
                }
            } else if let Some(node) = shared.keys.node_of(key) {
                if let Err(error) = shared.declare_gone(node).await {
                    tracing::warn!(%node, %error, "was not declared gone");
                }
            }
        }
    }
}
