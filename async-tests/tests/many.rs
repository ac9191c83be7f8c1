//! Many streams on few threads.

#[path = "../../tests/common/mod.rs"]
mod common;

use async_executor::LocalExecutor;
use common::{content, replay, within_a_minute};
use futures_lite::{StreamExt, future};
use state_dictionary::{Change, ChangeBuffer, StateDictionary};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

type Dictionary = StateDictionary<u32, u32, &'static str>;

const STREAMS: usize = 1_000;

/// What one client makes of its deliveries.
async fn replica(buffer: ChangeBuffer<u32, u32>) -> BTreeMap<u32, u32> {
    let mut replica = BTreeMap::new();
    let mut changes = pin!(buffer.into_stream_with(future::yield_now));
    while let Some(delivery) = changes.next().await {
        replay(&delivery, &mut replica);
    }
    replica
}

/// A thread that commits for a while and then ends the dictionary.
fn writer(dictionary: &Arc<Dictionary>) -> JoinHandle<BTreeMap<u32, u32>> {
    let dictionary = Arc::clone(dictionary);
    thread::spawn(move || {
        for round in 0..300 {
            let change = Change::new().set(round % 20, round).remove((round + 7) % 20);
            assert!(dictionary.update_state(&"alice", change).is_ok());
            thread::yield_now();
        }
        dictionary.freeze();
        content(&dictionary.snapshot())
    })
}

#[test]
fn a_thousand_streams_on_one_thread_of_a_bare_executor_have_equal_replicas() {
    within_a_minute(|| {
        let dictionary = Arc::new(Dictionary::new());
        let executor = LocalExecutor::new();
        let tasks: Vec<_> = (0..STREAMS).map(|_| executor.spawn(replica(dictionary.change_buffer()))).collect();
        let writer = writer(&dictionary);
        let replicas = future::block_on(executor.run(async {
            let mut replicas = Vec::new();
            for task in tasks {
                replicas.push(task.await);
            }
            replicas
        }));
        let expected = writer.join().unwrap();
        assert!(replicas.iter().all(|replica| *replica == expected));
    });
}

#[test]
fn a_thousand_streams_on_one_thread_of_tokio_have_equal_replicas() {
    within_a_minute(|| {
        let dictionary = Arc::new(Dictionary::new());
        let runtime = Builder::new_current_thread().build().unwrap();
        let local = LocalSet::new();
        let tasks: Vec<_> = (0..STREAMS).map(|_| local.spawn_local(replica(dictionary.change_buffer()))).collect();
        let writer = writer(&dictionary);
        let replicas = local.block_on(&runtime, async {
            let mut replicas = Vec::new();
            for task in tasks {
                replicas.push(task.await.unwrap());
            }
            replicas
        });
        let expected = writer.join().unwrap();
        assert!(replicas.iter().all(|replica| *replica == expected));
    });
}

#[test]
fn a_thousand_streams_on_two_threads_and_three_tasks_that_write_lose_nothing() {
    within_a_minute(|| {
        let dictionary = Arc::new(Dictionary::new());
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let tasks: Vec<_> = (0..STREAMS).map(|_| runtime.spawn(replica(dictionary.change_buffer()))).collect();
        let writers = [0, 1, 2].map(|key| {
            let dictionary = Arc::clone(&dictionary);
            runtime.spawn(async move {
                for _ in 0..200 {
                    let add = |content: &state_dictionary::Snapshot<u32, u32>| {
                        Change::new().set(key, content.get(&key).map_or(1, |count| count + 1)).set(9_u32, key)
                    };
                    dictionary.update_state_with_async(&"alice", add).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        });
        runtime.block_on(async {
            for writer in writers {
                writer.await.unwrap();
            }
            dictionary.freeze();
            let expected = content(&dictionary.snapshot());
            assert_eq!((expected[&0], expected[&1], expected[&2]), (200, 200, 200));
            for task in tasks {
                assert_eq!(task.await.unwrap(), expected);
            }
        });
    });
}
