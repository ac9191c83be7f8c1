//! What all benchmarks share: the stores that are compared, the work they are given, and threads that begin together.

// Clippy and rustc ask a library for more than one that nobody else uses has to give.
#![allow(missing_docs, missing_debug_implementations, clippy::must_use_candidate)]

pub mod crew;
mod measure;
pub mod peers;
pub mod work;

pub use measure::{Group, group, settings};
pub use peers::{Feed, Locks, MultiKey, Snapshots, Store};
pub use work::{Key, Keys, Large, Pair, Small, Value};
