//! Running a test on every kind of executor.

use async_executor::Executor;
use futures_lite::future;
use std::panic;
use std::pin::Pin;
use std::sync::Arc;
use tokio::runtime::Builder;

#[path = "../../tests/common/mod.rs"]
mod common;

/// Spawns tasks on the executor that a test runs on. A panic of a task comes out where its answer is awaited.
#[derive(Clone, Debug)]
pub enum Spawner {
    /// Whichever kind of tokio's is running.
    Tokio,
    /// One that only polls.
    Bare(Arc<Executor<'static>>),
}

/// A task's answer, to be awaited: under the bare executor, a task ends when this is dropped.
pub type Answer<R> = Pin<Box<dyn Future<Output = R> + Send>>;

impl Spawner {
    /// Spawns a task.
    pub fn spawn<R: Send + 'static>(&self, task: impl Future<Output = R> + Send + 'static) -> Answer<R> {
        match self {
            Self::Tokio => {
                let task = tokio::spawn(task);
                Box::pin(async { task.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic())) })
            }
            Self::Bare(executor) => Box::pin(executor.spawn(task)),
        }
    }
}

/// Runs a test under tokio, with one thread and with two, and under a bare executor on this thread. Each may take a minute.
///
/// # Panics
/// If the test does.
pub fn everywhere<F: Future<Output = ()>>(test: impl Fn(Spawner) -> F) {
    for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = builder.worker_threads(2).build().unwrap_or_else(|error| panic!("no runtime: {error}"));
        common::within_a_minute(|| runtime.block_on(test(Spawner::Tokio)));
    }
    let executor = Arc::new(Executor::new());
    common::within_a_minute(|| future::block_on(executor.run(test(Spawner::Bare(Arc::clone(&executor))))));
}
