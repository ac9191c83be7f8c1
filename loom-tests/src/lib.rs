//! Running a model, and the small dictionary that the models share.
//!
//! The models are in `tests/`, a file per organ. They run the shipped code on loom's primitives:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p loom-tests --target-dir target/loom
//! ```
//!
//! Every actor is spawned: one on the main thread would hide races. Waits have no time limit: loom has no time.
#![cfg(loom)]

use loom::thread::JoinHandle;
use state_dictionary::{LockRequest, StateDictionary};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The dictionary of the models.
pub type Dictionary = StateDictionary<u8, u32, char>;

/// Explores every interleaving of `model` with at most three preemptions, prints how many there were and fails if there
/// were fewer than `floor`: a model that loom merges into few executions proves nothing.
///
/// Three, because loom counts one where the actor spawned last is to begin: with two, races that take a step of each actor
/// in turn are found or missed by the order in which the actors are spawned.
///
/// # Panics
/// If the model fails in an execution, or if there are too few.
pub fn explore(name: &str, floor: usize, model: impl Fn() + Send + Sync + 'static) {
    explore_bounded(name, 3, floor, model);
}

/// [`explore`] with another number of preemptions. `LOOM_MAX_PREEMPTIONS` overrides it.
///
/// # Panics
/// As [`explore`].
pub fn explore_bounded(name: &str, preemptions: usize, floor: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let explored = panic::catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            // ORDERING: Relaxed, a mere count.
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }));
    // ORDERING: Relaxed, as above.
    let executions = executions.load(Ordering::Relaxed);
    if let Err(panic) = explored {
        println!("{name}: failed in execution {executions}");
        panic::resume_unwind(panic);
    }
    println!("{name}: {executions} executions");
    assert!(executions >= floor, "{name}: only {executions} executions were explored, expected {floor} or more");
}

/// Two keys whose locks are in different shards, of which there are two.
#[must_use]
pub fn keys_of_two_shards() -> [u8; 2] {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let of_shard = |shard| (0..=u8::MAX).find(|key| hasher.hash_one(key) % 2 == shard);
    [of_shard(0), of_shard(1)].map(|key| key.unwrap_or_else(|| unreachable!("256 keys hash to both shards")))
}

/// Shares a dictionary among the actors of a model.
#[must_use]
pub fn shared() -> Arc<Dictionary> {
    Arc::new(Dictionary::new())
}

/// Spawns an actor on something shared.
pub fn actor<D: 'static, R: 'static>(shared: &Arc<D>, act: impl FnOnce(&D) -> R + 'static) -> JoinHandle<R> {
    let shared = Arc::clone(shared);
    loom::thread::spawn(move || act(&shared))
}

/// Waits for an actor.
///
/// # Panics
/// If it did.
#[allow(clippy::must_use_candidate)] // many an actor has nothing to say
pub fn join<R>(actor: JoinHandle<R>) -> R {
    actor.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// A request for locks without end.
#[must_use]
pub fn acquire(keys: &[u8]) -> LockRequest<u8> {
    keys.iter().fold(LockRequest::new(), |request, key| request.acquire(*key, None))
}
