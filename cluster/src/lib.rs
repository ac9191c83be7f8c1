//! A state dictionary that survives a restart, or that several machines share.
#![forbid(unsafe_code)]

mod checkpoint;
mod data;
#[cfg(test)]
mod determinism;
mod driver;
mod error;
mod file;
mod log;
mod memory;
mod node;
mod operation;
mod options;
mod queue;
mod reading;
mod replica;
mod session;
mod short;
mod time;
mod writing;

pub use data::{Key, Token, Value};
pub use driver::Driver;
pub use error::{Error, Failure, Stopped};
pub use file::{FileLog, OpenError};
pub use log::{AppendError, Head, Log, LogError, NodeId, Place, Record, Truncation, What};
pub use memory::{Faults, Happened, Memory, MemoryLog};
pub use node::{Metrics, Node};
pub use options::Options;
pub use reading::{Reading, Written};
pub use session::NodeSession;
pub use short::NodeWriter;
pub use time::ManualTime;
