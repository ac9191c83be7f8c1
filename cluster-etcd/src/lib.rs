//! A state dictionary that several machines share: the [log](state_dictionary_cluster::Log) in etcd.
//!
//! ```no_run
//! use state_dictionary_cluster::{Node, Options};
//! use state_dictionary_etcd::{EtcdLog, EtcdOptions};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let members = ["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"];
//!     let log = EtcdLog::join(EtcdOptions::new(members, "board")).await?;
//!     let (board, driver) = Node::<String, String, String>::join(log, Options::new()).await?;
//!     tokio::spawn(driver.run());
//!
//!     let alice = "alice".to_owned();
//!     board.writer(&alice).set("card.1", "to do".to_owned()).await?; // on all nodes
//!     Ok(())
//! }
//! ```
//!
//! See *several machines* in `state-dictionary-cluster` for what is linearizable, what a lease means, and what a partition
//! does; the README for how to run etcd for it.
#![forbid(unsafe_code)]

mod follow;
mod keys;
mod log;
mod members;
mod options;

pub use log::{EtcdLog, JoinError};
pub use options::EtcdOptions;
