//! Where the board is kept: its log, and what all servers with this log have in common.

use crate::feed::{Board, Key, Node};
use crate::options::Log;
use serde_json::{Value, json};
use state_dictionary::{Change, StateDictionary};
use state_dictionary_cluster::{Error, Failure, FileLog, Memory, Options, Stopped};
use std::error;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How many locks that came or went are kept for those who follow them.
const LOCK_EVENTS: usize = 1024;
/// How long an operation waits for the log. A page waits twice as long before it closes its connection.
const LIMIT: Duration = Duration::from_secs(5);
/// Whose writes those of the servers are. The ids of clients are numbers.
const TOKEN: &str = "server";
/// What the secrets of sessions are made with. It is set together with the first cards.
const SEAL: &str = "server.seal";
/// The first id that no server has given to a client.
const NEXT_ID: &str = "server.next_id";

/// A node of the board, and the task that drives it.
pub(crate) async fn open(log: &Log) -> Result<(Node, JoinHandle<Stopped>), Box<dyn error::Error>> {
    match log {
        Log::Memory => Ok(join(Memory::new().join()).await?),
        Log::File(path) => Ok(join(FileLog::open(path)?).await?),
        Log::Etcd(endpoints) => etcd(endpoints).await,
    }
}

#[cfg(feature = "etcd")]
async fn etcd(endpoints: &[String]) -> Result<(Node, JoinHandle<Stopped>), Box<dyn error::Error>> {
    use state_dictionary_etcd::{EtcdLog, EtcdOptions};
    let options = EtcdOptions::new(endpoints.iter().cloned(), "board").compact(true);
    Ok(join(EtcdLog::join(options).await?).await?)
}

/// The command line has refused it.
#[cfg(not(feature = "etcd"))]
#[expect(clippy::unused_async, reason = "as the other")]
async fn etcd(_: &[String]) -> Result<(Node, JoinHandle<Stopped>), Box<dyn error::Error>> {
    Err("this server was built without etcd".into())
}

async fn join(log: impl state_dictionary_cluster::Log) -> Result<(Node, JoinHandle<Stopped>), Stopped> {
    let builder = StateDictionary::builder().lock_history_limit(LOCK_EVENTS);
    let (node, driver) = Node::join_with(log, builder, Options::new().time_limit(LIMIT)).await?;
    Ok((node, tokio::spawn(driver.run())))
}

/// Sets what a new board begins with, unless another server, or an earlier run, has done so. Returns the seal.
pub(crate) async fn begin(node: &Node) -> Result<[u8; 32], Box<dyn error::Error>> {
    let mut seal = [0; 32];
    getrandom::fill(&mut seal)?;
    let seal = Value::from(blake3::Hash::from_bytes(seal).to_hex().as_str());
    let change = Change::new().if_absent(SEAL).set(SEAL, seal);
    let change = cards().fold(change, |change, (key, value)| change.if_absent(Key::clone(&key)).set(key, value));
    match node.update_state(&Key::from(TOKEN), change).await {
        // It has begun already.
        Ok(_) | Err(Error::Refused(_)) => {}
        Err(Error::Failed(failure)) => return Err(failure.into()),
    }
    seal_of(node.local()).ok_or_else(|| format!("the board has no valid {SEAL:?}").into())
}

fn seal_of(board: &Board) -> Option<[u8; 32]> {
    Some(*blake3::Hash::from_hex(board.get(SEAL)?.as_str()?).ok()?.as_bytes())
}

/// Takes this many ids, which no server has taken before, and returns the first.
pub(crate) async fn take_ids(node: &Node, count: u64) -> Result<u64, Failure> {
    let token = Key::from(TOKEN);
    let first = node.update_state_with(&token, |now| {
        let first = now.get(NEXT_ID).and_then(|next| next.as_u64()).unwrap_or(1);
        (Change::new().set(NEXT_ID, Value::from(first + count)), first)
    });
    match first.await {
        Ok((_, first)) => Ok(first),
        Err(Error::Failed(failure)) => Err(failure),
        // Nobody locks the key, and the board is not frozen.
        Err(Error::Refused(refusal)) => Err(Failure::LogRefused(refusal.to_string())),
    }
}

/// The first cards: where each is, and what is on it.
fn cards() -> impl Iterator<Item = (Key, Value)> {
    let titles = [
        "Agree on the goal",
        "Sketch the layout",
        "Order the parts",
        "Build the first one",
        "Try it out",
        "Write it up",
    ];
    (1_u32..).zip(titles).flat_map(|(number, title)| {
        let (column, row) = ((number - 1) % 2, (number - 1) / 2);
        let place = json!({ "x": 0.1 + 0.8 * f64::from(column), "y": 0.1 + 0.4 * f64::from(row) });
        [(format!("card.{number}").into(), place), (format!("title.{number}").into(), title.into())]
    })
}
