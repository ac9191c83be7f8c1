//! Connections to the members: one is in use, and changed when it fails.

use crate::options::EtcdOptions;
use etcd_client::{Client, Error};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

pub(crate) struct Members {
    options: EtcdOptions,
    clients: Vec<Mutex<Option<Client>>>,
    current: AtomicUsize,
}

/// A connection, and which member it is to.
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) index: usize,
}

impl Members {
    pub(crate) fn new(options: EtcdOptions) -> Self {
        let clients = options.endpoints.iter().map(|_| Mutex::new(None)).collect();
        let current = AtomicUsize::new(fastrand::usize(..options.endpoints.len().max(1)));
        Self { options, clients, current }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn attempt(&self) -> Duration {
        self.options.attempt
    }

    /// The connection in use.
    pub(crate) async fn current(&self) -> Result<Member, String> {
        // ORDERING: Relaxed, for any member will do.
        let index = self.current.load(Ordering::Relaxed) % self.len();
        Ok(Member { client: self.to(index).await?, index })
    }

    /// A connection to this member.
    pub(crate) async fn to(&self, index: usize) -> Result<Client, String> {
        if let Some(client) = self.lock(index).clone() {
            return Ok(client);
        }
        let connecting = Client::connect([&self.options.endpoints[index]], Some(self.options.connect()));
        match timeout(self.options.attempt, connecting).await {
            Ok(Ok(client)) => {
                *self.lock(index) = Some(client.clone());
                Ok(client)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no connection in time".into()),
        }
    }

    fn lock(&self, index: usize) -> std::sync::MutexGuard<'_, Option<Client>> {
        self.clients[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Something went wrong with this member: the next one is used, unless another one is by now.
    pub(crate) fn failed(&self, index: usize, why: &str) {
        let next = (index + 1) % self.len();
        // ORDERING: Relaxed, see `current`.
        if self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() && next != index {
            tracing::debug!(
                from = self.options.endpoints[index],
                to = self.options.endpoints[next],
                why,
                "changes the member"
            );
        }
    }

    /// The connection's login is over: it is made again.
    pub(crate) fn forget(&self, index: usize) {
        *self.lock(index) = None;
    }
}

/// What an error of etcd means for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// etcd has no space. The request was not carried out.
    NoSpace(String),
    /// It never will be carried out.
    Impossible(String),
    /// The login is over.
    LoginAgain(String),
    /// The revision that was asked for is not there any more.
    Compacted,
    /// It may have been carried out, or another member can.
    Unsure(String),
}

pub(crate) fn meaning(error: &Error) -> Meaning {
    let Error::GRpcStatus(status) = error else { return Meaning::Unsure(error.to_string()) };
    let message = status.message().to_owned();
    if message.contains("database space exceeded") {
        Meaning::NoSpace(message)
    } else if message.contains("compacted") {
        Meaning::Compacted
    } else if message.contains("request is too large") || message.contains("permission denied") {
        Meaning::Impossible(message)
    } else if message.contains("invalid auth token") || message.contains("revision of auth store is old") {
        Meaning::LoginAgain(message)
    } else {
        Meaning::Unsure(message)
    }
}
