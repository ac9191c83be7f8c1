//! A state dictionary that survives a restart, or that several machines share.
#![forbid(unsafe_code)]

mod log;

pub use log::{AppendError, Head, Log, LogError, NodeId, Place, Record, Truncation, What};
