//! What all benchmarks share: the stores that are compared, the work they are given, and threads that begin together.

// Clippy and rustc ask a library for more than one that nobody else uses has to give.
#![allow(missing_docs, missing_debug_implementations, clippy::must_use_candidate)]

pub mod crew;
mod measure;
mod options;
pub mod peers;
pub mod tails;
pub mod work;

pub use measure::{Group, group, settings};
pub use options::Options;
pub use peers::{Feed, Locks, MultiKey, Snapshots, Store};
pub use work::{Key, Keys, Large, Pair, Small, Value};

/// Nanoseconds, with three digits and a unit.
pub fn duration(nanos: f64) -> String {
    let (number, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let decimals = match number {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}
