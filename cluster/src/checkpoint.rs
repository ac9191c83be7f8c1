//! Everything that a replica knows, as it is written beside the log.
//!
//! A checkpoint is a sequence of bytes that engines keep in chunks: the form, then items, each with its length before
//! it. The first item has all except the content; each other one has a number of entries of the content.

use crate::data::{Key, Token, Value};
use crate::operation::Nanos;
use crate::replica::{Attached, Hasher, Replica};
use crate::session::TakenOver;
use serde::{Deserialize, Serialize};
use state_dictionary::{
    Builder, FencingToken, Image, IntoIter, LockReceipt, ManualClock, Revision, Snapshot, StateDictionary, StoreId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

const FORM: u8 = 1;

/// The entries of one item, at most.
const ENTRIES: usize = 64;

/// What has been applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Operations, refused ones too. The number of an operation is what fencing tokens are made of.
    pub(crate) operations: u64,
    /// Bytes of entries. Whose entry crosses a limit writes the next checkpoint.
    pub(crate) bytes: u64,
    pub(crate) ticks: u64,
    /// Whose the last tick was.
    pub(crate) ticker: u64,
    /// The numbers of each node that is not gone.
    pub(crate) seen: BTreeMap<u64, Seen>,
    /// What each node has begun to write in parts.
    pub(crate) parts: BTreeMap<u64, Vec<u8>>,
}

/// Which numbers of a node are in the log: all up to one, and some above it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) up_to: u64,
    pub(crate) above: BTreeSet<u64>,
}

impl Seen {
    pub(crate) fn has(&self, number: u64) -> bool {
        number <= self.up_to || self.above.contains(&number)
    }

    /// Notes a number. Returns whether it is new.
    pub(crate) fn is_new(&mut self, number: u64) -> bool {
        if number <= self.up_to || !self.above.insert(number) {
            return false;
        }
        while self.above.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
        true
    }
}

/// Which node has a session.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) node: u64,
    /// The number of the operation that opened it.
    pub(crate) opened: u64,
    /// How long it stays when its node is gone.
    pub(crate) grace: Nanos,
}

/// Leases and graces that were given since the last tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Serialize, T: Serialize", deserialize = "K: Deserialize<'de>, T: Deserialize<'de>"))]
pub(crate) struct Fresh<K, T> {
    pub(crate) locks: Vec<FreshLock<K, T>>,
    pub(crate) sessions: Vec<(T, Nanos)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Serialize, T: Serialize", deserialize = "K: Deserialize<'de>, T: Deserialize<'de>"))]
pub(crate) struct FreshLock<K, T> {
    pub(crate) key: K,
    pub(crate) owner: T,
    pub(crate) fencing_token: u64,
    pub(crate) lease: Nanos,
}

/// Everything except the content.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize + Eq + std::hash::Hash, T: Serialize",
    deserialize = "K: Deserialize<'de> + Eq + std::hash::Hash, T: Deserialize<'de>"
))]
struct Rest<K, T> {
    image: Image<K, T>,
    counts: Counts,
    sessions: Vec<(T, Live)>,
    fresh: Fresh<K, T>,
}

/// A replica at one instant, being written.
pub(crate) struct Writing<K: Eq, V, T> {
    rest: Option<Rest<K, T>>,
    entries: IntoIter<K, V>,
    buffer: Vec<u8>,
    limit: usize,
}

impl<K, T> Default for Fresh<K, T> {
    fn default() -> Self {
        Self { locks: Vec::new(), sessions: Vec::new() }
    }
}

impl<K: Clone + PartialEq, T: Clone> Fresh<K, T> {
    pub(crate) fn add_locks(&mut self, owner: &T, leases: &[(K, Nanos)], receipt: &LockReceipt<K>) {
        for (key, fencing_token) in receipt.granted.iter().chain(&receipt.renewed) {
            // The latest lease counts.
            self.locks.retain(|lock| lock.key != *key);
            if let Some((_, lease)) = leases.iter().rev().find(|(leased, _)| leased == key) {
                let (key, owner) = (key.clone(), owner.clone());
                self.locks.push(FreshLock { key, owner, fencing_token: fencing_token.get(), lease: *lease });
            }
        }
    }
}

impl<K: Key, V: Value, T: Token> Replica<K, V, T> {
    /// The replica of a new log.
    pub(crate) fn new(builder: Builder<K, V, T>, store: u64) -> Self {
        let clock = ManualClock::new();
        let image = Image {
            store: StoreId::from(store),
            revision: Revision::ZERO,
            fence: FencingToken::from(0),
            frozen: false,
            sessions_opened: 0,
            locks: Vec::new(),
            sessions: Vec::new(),
        };
        let dictionary = Self::builder(builder, &clock).image(image, []).build();
        Self::of(dictionary, clock, Counts::default())
    }

    fn rest(&self) -> (Rest<K, T>, Snapshot<K, V>) {
        let (image, snapshot) = self.dictionary.image_with(self.sessions.values().map(|attached| &attached.session));
        let sessions = self.sessions.iter().map(|(token, attached)| (token.clone(), attached.live)).collect();
        (Rest { image, counts: self.counts.clone(), sessions, fresh: self.fresh.clone() }, snapshot)
    }

    /// Everything, to be read.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let (Rest { image, counts, sessions, fresh }, snapshot) = self.rest();
        let content = snapshot.content_hash();
        format!("{image:?} {counts:?} {sessions:?} {fresh:?} {content:?}")
    }

    /// A hash of everything. O(locks + sessions).
    pub(crate) fn hash(&self) -> u64 {
        let (rest, snapshot) = self.rest();
        let mut hasher = Hasher(Xxh3::new());
        // As for entries: what cannot be serialised is in no state.
        let _ = rmp_serde::encode::write(&mut hasher, &(&rest, snapshot.content_hash()));
        hasher.0.digest()
    }

    /// The state at this instant, to be written. O(locks + sessions).
    pub(crate) fn checkpoint(&self, limit: usize) -> Writing<K, V, T> {
        let (rest, snapshot) = self.rest();
        Writing { rest: Some(rest), entries: snapshot.into_iter(), buffer: vec![FORM], limit }
    }

    /// The replica of a checkpoint.
    pub(crate) fn restore(builder: Builder<K, V, T>, bytes: &[u8]) -> Result<Self, String> {
        let (rest, entries) = read::<K, V, T>(bytes)?;
        let clock = ManualClock::new();
        let Rest { image, counts, sessions, fresh } = rest;
        let dictionary: StateDictionary<K, V, T> = Self::builder(builder, &clock).image(image, entries).build();
        let mut replica = Self::of(dictionary, clock, counts);
        replica.attach(sessions, fresh);
        Ok(replica)
    }

    /// Becomes the replica of a later checkpoint. Feeds of its dictionary go on.
    pub(crate) fn import(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (rest, entries) = read::<K, V, T>(bytes)?;
        let before: Vec<_> = mem::take(&mut self.sessions).into_values().collect();
        let mut own = Vec::new();
        for attached in before {
            attached.session.detach(Duration::MAX);
            own.push((attached.live, attached.taken_over));
        }
        let Rest { image, counts, sessions, fresh } = rest;
        self.dictionary.import(image, entries).map_err(|error| error.to_string())?;
        self.counts = counts;
        self.attach(sessions, fresh);
        for (live, taken_over) in own {
            match self.sessions.values_mut().find(|attached| attached.live.opened == live.opened) {
                Some(attached) => attached.taken_over = taken_over,
                None => taken_over.set(),
            }
        }
        Ok(())
    }

    fn attach(&mut self, sessions: Vec<(T, Live)>, fresh: Fresh<K, T>) {
        for (token, live) in sessions {
            let session = self.dictionary.session(token.clone());
            self.sessions.insert(token, Attached { session, live, taken_over: TakenOver::default() });
        }
        self.fresh = fresh;
        self.due = self.dictionary.next_deadline();
        self.forget_hashes();
    }
}

impl<K: Key, V: Value, T: Token> Writing<K, V, T> {
    /// The next bytes, at most as many as the limit; `None` at the end. O(their number).
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        if let Some(rest) = self.rest.take() {
            self.item(&rest)?;
        }
        while self.buffer.len() < self.limit {
            let entries: Vec<_> = self.entries.by_ref().take(ENTRIES).collect();
            if entries.is_empty() {
                break;
            }
            let entries: Vec<_> =
                entries.iter().map(|(key, entry)| (key, entry.value(), entry.revision().get())).collect();
            self.item(&entries)?;
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let rest = self.buffer.split_off(self.buffer.len().min(self.limit));
        Ok(Some(mem::replace(&mut self.buffer, rest)))
    }

    fn item(&mut self, item: &impl Serialize) -> Result<(), String> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 8]);
        rmp_serde::encode::write(&mut self.buffer, item).map_err(|error| error.to_string())?;
        let length = (self.buffer.len() - start - 8) as u64;
        self.buffer[start..start + 8].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

type Entries<K, V> = Vec<(K, Arc<V>, Revision)>;

fn read<K: Key, V: Value, T: Token>(bytes: &[u8]) -> Result<(Rest<K, T>, Entries<K, V>), String> {
    let mut items = match bytes.split_first() {
        Some((&FORM, items)) => items,
        Some((form, _)) => return Err(format!("a checkpoint of form {form}")),
        None => return Err("an empty checkpoint".into()),
    };
    let mut next = || {
        let (length, rest) = items.split_first_chunk::<8>().ok_or("a checkpoint is cut off")?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|error| error.to_string())?;
        let (item, rest) = rest.split_at_checked(length).ok_or("a checkpoint is cut off")?;
        items = rest;
        Ok::<_, String>((item, items.is_empty()))
    };
    let describe = |error: rmp_serde::decode::Error| format!("a checkpoint cannot be read: {error}");
    let (item, mut is_last) = next()?;
    let rest = rmp_serde::from_slice(item).map_err(describe)?;
    let mut entries = Vec::new();
    while !is_last {
        let (item, last) = next()?;
        is_last = last;
        let more: Vec<(K, Arc<V>, u64)> = rmp_serde::from_slice(item).map_err(describe)?;
        entries.extend(more.into_iter().map(|(key, value, revision)| (key, value, Revision::from(revision))));
    }
    Ok((rest, entries))
}
