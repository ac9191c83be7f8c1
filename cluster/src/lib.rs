//! A [state dictionary](state_dictionary) that survives a restart, or that several machines share.
//!
//! Operations go through one totally ordered log, which an existing engine keeps. Every node applies it, in order, from one
//! task, to an ordinary [`StateDictionary`](state_dictionary::StateDictionary). The answer to an operation is what applying
//! it returns, on the node that was asked.
//!
//! ```
//! use state_dictionary_cluster::{Memory, Node, Options};
//!
//! # futures_executor::block_on(async {
//! let log = Memory::new(); // or a `FileLog`; or etcd, with the package `state-dictionary-etcd`
//! let (one, driver) = Node::<String, u64>::join(log.join(), Options::new()).await?;
//! std::thread::spawn(move || futures_executor::block_on(driver.run())); // on whichever executor
//! let (other, driver) = Node::<String, u64>::join(log.join(), Options::new()).await?;
//! std::thread::spawn(move || futures_executor::block_on(driver.run()));
//!
//! one.set("ball", 7).await?;
//! assert_eq!(one.get("ball").as_deref(), Some(&7)); // one's own writes are there
//! assert_eq!(other.linearizable().await?["ball"], 7); // and everybody else's, if one asks
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! * [`docs::durable`]: a program's dictionary survives its restart.
//! * [`docs::several_machines`]: when to use it, what is linearizable, what a lease means, what a partition does.
//!
//! # The parts
//!
//! A [`Node`] is what a program calls; its [`Driver`] does the work. A [`Log`] is the engine: [`FileLog`], [`Memory`], or
//! one of another package. A [`NodeSession`] is a client's session, on whichever node the client is.
#![forbid(unsafe_code)]

mod checkpoint;
mod data;
#[cfg(test)]
mod determinism;
mod driver;
mod dump;
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
pub use dump::dump;
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

/// Longer texts.
pub mod docs {
    #[doc = include_str!("../docs/durable.md")]
    pub mod durable {}

    #[doc = include_str!("../docs/several_machines.md")]
    pub mod several_machines {}
}
