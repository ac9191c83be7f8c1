//! What is in the file, and how it is written.
//!
//! Records are in segments of some megabytes, each a table of its own: a table is deleted at once, whatever its size. The
//! names of the segments' tables, by the places that they begin with, are in a table too.

use crate::log::{AppendError, Head, NodeId, Place, Record, What};
use bytes::Bytes;
use redb::{
    CommitError, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError, TransactionError, WriteTransaction,
};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::Path;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The first place of each segment, and its bytes so far.
const SEGMENTS: TableDefinition<'_, u64, u64> = TableDefinition::new("segments");
const CHUNKS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("chunks");
/// Nodes that are gone.
const GONE: TableDefinition<'_, u64, ()> = TableDefinition::new("gone");

/// The form of the file.
const FORM: u64 = 1;

const DAMAGED: &str = "the file is damaged";

/// When a new segment is begun.
const SEGMENT: u64 = 4 << 20;

#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    /// The first place of each segment.
    segments: Vec<u64>,
    last: Place,
}

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// There is no space. Nothing was written.
    #[error("no space: {0}")]
    Full(String),
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(why) => Self::Refused(why),
            StoreError::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        let no_space = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
        match &error {
            StorageError::Io(io) if no_space.contains(&io.kind()) => Self::Full(io.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The other errors of redb have the one above in them.
macro_rules! from_errors {
    ($($error:ident),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                match error {
                    $error::Storage(storage) => storage.into(),
                    other => Self::Failed(other.to_string()),
                }
            }
        }
    )*};
}

from_errors!(DatabaseError, TransactionError, TableError, CommitError);

fn segment_name(first: u64) -> String {
    format!("records from {first}")
}

type Segment<'a> = TableDefinition<'a, u64, &'static [u8]>;

/// The node and the number before the bytes; 0 is no number, and means that the node is gone.
const HEADER: usize = 16;

fn encode(node: NodeId, number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(HEADER + bytes.len());
    all.extend_from_slice(&node.0.to_be_bytes());
    all.extend_from_slice(&number.to_be_bytes());
    all.extend_from_slice(bytes);
    all
}

fn decode(place: u64, all: &[u8]) -> Result<Record, StoreError> {
    let damaged = || StoreError::Failed(format!("the record at {place} is damaged"));
    let (node, rest) = all.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (number, bytes) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let what = match u64::from_be_bytes(*number) {
        0 => What::Gone,
        number => What::Entry { number, bytes: Bytes::copy_from_slice(bytes) },
    };
    Ok(Record { place: Place(place), node: NodeId(u64::from_be_bytes(*node)), what })
}

impl Store {
    /// Opens the file and checks all of it: O(n) in its size, some 30 ms for 32 MiB.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        // Some damage redb finds by an assertion.
        let opened = catch_unwind(|| Self::open_checked(path));
        opened.unwrap_or_else(|_| Err(StoreError::Failed(DAMAGED.into())))
    }

    fn open_checked(path: &Path) -> Result<Self, StoreError> {
        let mut database = Database::create(path)?;
        // After a crash it has been repaired by now; what is found here is damage, and what was acknowledged may be lost.
        if !database.check_integrity()? {
            return Err(StoreError::Failed(DAMAGED.into()));
        }
        let mut store = Self { database, segments: Vec::new(), last: Place(0) };
        let transaction = store.database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let form = meta.get("form")?.map(|form| form.value());
            match form {
                Some(FORM) => {}
                Some(form) => return Err(StoreError::Failed(format!("it has the form {form} of a later version"))),
                None => drop(meta.insert("form", FORM)?),
            }
            store.last = Place(meta.get("last")?.map_or(0, |last| last.value()));
            let segments = transaction.open_table(SEGMENTS)?;
            for segment in segments.iter()? {
                store.segments.push(segment?.0.value());
            }
            transaction.open_table(CHUNKS)?;
            transaction.open_table(GONE)?;
        }
        transaction.commit()?;
        Ok(store)
    }

    /// Notes that the file was opened. Returns the identity of the store, and of the node.
    pub(super) fn begin(&mut self) -> Result<(u64, NodeId), StoreError> {
        let transaction = self.database.begin_write()?;
        let (store, node) = {
            let mut meta = transaction.open_table(META)?;
            let store = meta.get("store")?.map(|store| store.value());
            let store = store.unwrap_or_else(|| fastrand::u64(1..));
            meta.insert("store", store)?;
            let node = meta.get("nodes")?.map_or(0, |nodes| nodes.value()) + 1;
            meta.insert("nodes", node)?;
            (store, node)
        };
        transaction.commit()?;
        Ok((store, NodeId(node)))
    }

    /// The first place that was not deleted, if there is a segment.
    pub(super) fn first(&self) -> Option<Place> {
        self.segments.first().map(|first| Place(*first))
    }

    pub(super) fn last(&self) -> Place {
        self.last
    }

    pub(super) fn records(&self, after: Place, limit: usize) -> Result<VecDeque<Record>, StoreError> {
        let transaction = self.database.begin_read()?;
        let mut found = VecDeque::new();
        let from = self.segments.partition_point(|first| *first <= after.0 + 1).saturating_sub(1);
        for first in &self.segments[from..] {
            let name = segment_name(*first);
            let table = transaction.open_table(Segment::new(&name))?;
            for record in table.range(after.0 + 1..)? {
                let (place, bytes) = record?;
                found.push_back(decode(place.value(), bytes.value())?);
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    pub(super) fn head(&self) -> Result<Option<Head>, StoreError> {
        let meta = self.database.begin_read()?.open_table(META)?;
        let Some(place) = meta.get("head place")? else { return Ok(None) };
        let chunks = meta.get("head chunks")?.map_or(0, |chunks| chunks.value());
        Ok(Some(Head { place: Place(place.value()), chunks: u32::try_from(chunks).unwrap_or(u32::MAX) }))
    }

    pub(super) fn chunk(&self, place: Place, index: u32) -> Result<Option<Bytes>, StoreError> {
        let chunks = self.database.begin_read()?.open_table(CHUNKS)?;
        Ok(chunks.get((place.0, index))?.map(|chunk| Bytes::copy_from_slice(chunk.value())))
    }

    /// Runs `write` in a transaction that is on the disk when this returns. Returns the records that were appended.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&mut Writing<'_>) -> Result<(), StoreError>,
    ) -> Result<Vec<Record>, StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate).map_err(|error| StoreError::Failed(error.to_string()))?;
        let (segments, last) = (self.segments.clone(), self.last);
        let mut writing = Writing { transaction: &transaction, segments, last, records: Vec::new() };
        write(&mut writing)?;
        let Writing { segments, last, records, .. } = writing;
        transaction.open_table(META)?.insert("last", last.0)?;
        transaction.commit()?;
        (self.segments, self.last) = (segments, last);
        Ok(records)
    }
}

/// A transaction, and what is different when it is committed.
pub(super) struct Writing<'a> {
    transaction: &'a WriteTransaction,
    segments: Vec<u64>,
    last: Place,
    records: Vec<Record>,
}

impl Writing<'_> {
    pub(super) fn entry(&mut self, node: NodeId, number: u64, bytes: &Bytes) -> Result<(), StoreError> {
        self.append(node, number, bytes, What::Entry { number, bytes: bytes.clone() })
    }

    /// Appends that these nodes are gone, each once.
    pub(super) fn gone(&mut self, nodes: &[NodeId]) -> Result<(), StoreError> {
        for node in nodes {
            let is_new = self.transaction.open_table(GONE)?.insert(node.0, ())?.is_none();
            if is_new {
                self.append(*node, 0, &[], What::Gone)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, node: NodeId, number: u64, bytes: &[u8], what: What) -> Result<(), StoreError> {
        let place = self.last.0 + 1;
        let mut sizes = self.transaction.open_table(SEGMENTS)?;
        let latest = self.segments.last().copied();
        let size = latest.map(|first| sizes.get(first)).transpose()?.flatten().map_or(SEGMENT, |size| size.value());
        let (first, size) = match latest {
            Some(first) if size < SEGMENT => (first, size),
            _ => (place, 0),
        };
        if size == 0 {
            self.segments.push(first);
        }
        let record = encode(node, number, bytes);
        sizes.insert(first, size + record.len() as u64)?;
        let name = segment_name(first);
        self.transaction.open_table(Segment::new(&name))?.insert(place, &record[..])?;
        self.last = Place(place);
        self.records.push(Record { place: self.last, node, what });
        Ok(())
    }

    pub(super) fn chunk(&mut self, place: Place, index: u32, chunk: &Bytes) -> Result<(), StoreError> {
        self.transaction.open_table(CHUNKS)?.insert((place.0, index), &chunk[..])?;
        Ok(())
    }

    /// The latest head stays.
    pub(super) fn head(&mut self, Head { place, chunks }: Head) -> Result<(), StoreError> {
        let mut meta = self.transaction.open_table(META)?;
        let latest = meta.get("head place")?.map(|latest| latest.value());
        if latest.is_none_or(|latest| latest < place.0) {
            meta.insert("head place", place.0)?;
            meta.insert("head chunks", u64::from(chunks))?;
        }
        Ok(())
    }

    /// Deletes the segments all of whose records are at or before this place, and earlier checkpoints.
    pub(super) fn truncate(&mut self, up_to: Place) -> Result<(), StoreError> {
        // The last one stays: it is being written.
        while self.segments.len() > 1 && self.segments[1] <= up_to.0 + 1 {
            let first = self.segments.remove(0);
            let name = segment_name(first);
            self.transaction.delete_table(Segment::new(&name))?;
            self.transaction.open_table(SEGMENTS)?.remove(first)?;
        }
        self.transaction.open_table(CHUNKS)?.retain(|(place, _), _| place >= up_to.0)?;
        Ok(())
    }
}
