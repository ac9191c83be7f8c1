//! The keys in etcd. What is below `live/` is watched.

use etcd_client::KeyValue;
use state_dictionary_cluster::{NodeId, Place, Record, What};

/// All keys of one dictionary.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    name: String,
}

impl Keys {
    pub(crate) fn new(name: String) -> Self {
        Self { name }
    }

    /// The identity of the store.
    pub(crate) fn store(&self) -> String {
        format!("{}/store", self.name)
    }

    pub(crate) fn live(&self) -> String {
        format!("{}/live/", self.name)
    }

    pub(crate) fn log(&self) -> String {
        format!("{}/live/log/", self.name)
    }

    /// On the node's lease: while it is there, the node may append.
    pub(crate) fn node(&self, node: NodeId) -> String {
        format!("{}/live/node/{node}", self.name)
    }

    pub(crate) fn log_of(&self, node: NodeId) -> String {
        format!("{}/live/log/{node}/", self.name)
    }

    pub(crate) fn entry(&self, node: NodeId, number: u64) -> String {
        format!("{}/live/log/{node}/{number:016x}", self.name)
    }

    pub(crate) fn gone(&self, node: NodeId) -> String {
        format!("{}/live/log/{node}/gone", self.name)
    }

    pub(crate) fn head(&self) -> String {
        format!("{}/checkpoint/head", self.name)
    }

    pub(crate) fn chunks_before(&self, place: Place) -> (String, String) {
        (format!("{}/checkpoint/chunk/", self.name), format!("{}/checkpoint/chunk/{:016x}/", self.name, place.0))
    }

    pub(crate) fn chunk(&self, place: Place, index: u32) -> String {
        format!("{}/checkpoint/chunk/{:016x}/{index:08x}", self.name, place.0)
    }

    /// The record of a key of the log.
    pub(crate) fn record(&self, pair: &KeyValue) -> Option<Record> {
        let key = pair.key_str().ok()?.strip_prefix(&self.log())?;
        let (node, number) = key.split_once('/')?;
        let node = NodeId(u64::from_str_radix(node, 16).ok()?);
        let place = Place(u64::try_from(pair.mod_revision()).ok()?);
        let what = if number == "gone" {
            What::Gone
        } else {
            let number = u64::from_str_radix(number, 16).ok()?;
            What::Entry { number, bytes: bytes::Bytes::copy_from_slice(pair.value()) }
        };
        Some(Record { place, node, what })
    }

    /// The node of a lease's key.
    pub(crate) fn node_of(&self, key: &str) -> Option<NodeId> {
        let node = key.strip_prefix(&self.live())?.strip_prefix("node/")?;
        u64::from_str_radix(node, 16).ok().map(NodeId)
    }
}
