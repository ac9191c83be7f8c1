//! The log in a file: durability of one process.
//!
//! The store is redb: one file, checksummed, copy-on-write, with no dependencies and no threads of its own. Fjall, measured
//! beside it, syncs 1.6 to 3.5 times as fast (2 cores, 0.1 ms a sync); redb was chosen because the log is then one file
//! whose form is stable, and because the goal is met many times over.
//!
//! One thread writes. It takes everything that waits and commits it with one sync, so many appends share one.

mod store;

use crate::checkpoint::Seen;
use crate::log::{AppendError, Head, Log, LogError, NodeId, Place, Record, Truncation};
use crate::time::Time;
use bytes::Bytes;
use event_listener::Event;
use futures_channel::oneshot;
use futures_util::{Stream, stream};
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use store::{Store, StoreError};

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log {}: {why}", path.display())]
pub struct OpenError {
    /// Which file.
    pub path: PathBuf,
    /// Why: it is open already, in this or another process; it is no log, or damaged; or the system refused.
    pub why: String,
}

/// A log in a file, for a dictionary of one process that survives its restart.
///
/// An append returns when its entry is on the disk (`fsync`). Appends that wait at the same time share one sync. The file
/// is locked as long as it is open.
///
/// **A full disk**: appends fail with [`AppendError::Refused`], and are not in the file; when there is space again, it goes
/// on. **A sync that fails** otherwise: appends fail with [`AppendError::Failed`] for ever, for nobody knows what the disk
/// has; open the file anew.
///
/// **A file that was cut or changed** by others than this program: every page has a checksum. Opening it fails, or finds
/// the state of an earlier sync, and never garbage.
#[derive(Debug)]
pub struct FileLog {
    shared: Arc<Shared>,
    /// Taken when it is dropped, which ends the thread.
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    node: NodeId,
    store_id: u64,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// None while it is being opened again after the disk was full.
    store: RwLock<Option<Store>>,
    tail: Mutex<Tail>,
    appended: Event,
    time: Time,
}

/// The latest records, so that who follows need not read the file.
#[derive(Debug)]
struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
    /// The latest place.
    last: Place,
    /// Records up to here have been deleted.
    truncated: Place,
    failed: Option<String>,
}

/// How many bytes of the latest records are kept in memory.
const TAIL: usize = 4 << 20;

/// How many records are read from the file at a time.
const READ: usize = 256;

/// What the writing thread is asked to do.
enum Job {
    Append { number: u64, entry: Bytes, done: oneshot::Sender<Result<(), AppendError>> },
    Other { what: Other, done: oneshot::Sender<Result<(), LogError>> },
}

enum Other {
    Gone(Vec<NodeId>),
    Chunk(Place, u32, Bytes),
    Head(Head),
    Truncate(Place),
}

impl FileLog {
    /// Opens a log, which is made if it is not there. Each time it is opened, the process is another node. May take some
    /// time after a crash: the file is then checked.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_path_buf();
        let failed = |why: String| OpenError { path: path.clone(), why };
        let mut store = Store::open(&path).map_err(|error| failed(error.to_string()))?;
        let (store_id, node) = store.begin().map_err(|error| failed(error.to_string()))?;
        let (first, last) = (store.first(), store.last());
        let truncated = Place(first.map_or(last.0, |first| first.0 - 1));
        let tail = Tail { records: VecDeque::new(), bytes: 0, last, truncated, failed: None };
        let shared = Arc::new(Shared {
            path: path.clone(),
            store: RwLock::new(Some(store)),
            tail: Mutex::new(tail),
            appended: Event::new(),
            time: Time::system(),
        });
        let (jobs, waiting) = mpsc::channel();
        let writer = thread::Builder::new().name("state-dictionary-log".into()).spawn({
            let shared = Arc::clone(&shared);
            move || write(&shared, &waiting, node)
        });
        let writer = Some(writer.map_err(|error| failed(error.to_string()))?);
        Ok(Self { shared, jobs: Some(jobs), writer, node, store_id })
    }

    async fn ask<R>(&self, job: Job, done: oneshot::Receiver<R>) -> Option<R> {
        self.jobs.as_ref()?.send(job).ok()?;
        done.await.ok()
    }

    async fn other(&self, what: Other) -> Result<(), LogError> {
        let (done, result) = oneshot::channel();
        self.ask(Job::Other { what, done }, result).await.unwrap_or_else(|| Err(LogError::Failed(GONE.into())))
    }

    fn read<R>(&self, read: impl FnOnce(&Store) -> Result<R, StoreError>) -> Result<R, LogError> {
        match &*self.shared.store.read() {
            Some(store) => read(store).map_err(|error| LogError::Failed(error.to_string())),
            None => Err(LogError::Failed("the file is being opened again".into())),
        }
    }

    /// The next records after a place; none if there are none yet.
    fn next(&self, after: Place) -> Result<VecDeque<Record>, LogError> {
        {
            let tail = self.shared.tail.lock();
            if let Some(why) = &tail.failed {
                return Err(LogError::Failed(why.clone()));
            }
            if after < tail.truncated {
                return Err(LogError::Truncated);
            }
            if after >= tail.last {
                return Ok(VecDeque::new());
            }
            if tail.records.front().is_some_and(|first| first.place.0 <= after.0 + 1) {
                return Ok(tail.records.iter().filter(|record| record.place > after).take(READ).cloned().collect());
            }
        }
        self.read(|store| store.records(after, READ))
    }
}

const GONE: &str = "the thread that writes the log has ended";

impl Drop for FileLog {
    /// Waits for what is being written.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The writing thread.
fn write(shared: &Shared, waiting: &Receiver<Job>, node: NodeId) {
    let mut seen = Seen::default();
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        jobs.extend(waiting.try_iter());
        let failed = shared.tail.lock().failed.clone();
        let result = match failed {
            Some(why) => Err(StoreError::Failed(why)),
            None => commit(shared, &jobs, node, &mut seen),
        };
        if let Err(StoreError::Failed(why)) = &result {
            shared.tail.lock().failed = Some(why.clone());
        }
        shared.appended.notify(usize::MAX);
        for job in jobs {
            // Whoever has gone does not want the answer.
            match job {
                Job::Append { done, .. } => drop(done.send(result.clone().map_err(AppendError::from))),
                Job::Other { done, .. } => {
                    drop(done.send(result.clone().map_err(|error| LogError::Failed(error.to_string()))));
                }
            }
        }
    }
}

/// Writes what is asked in one transaction, with one sync.
fn commit(shared: &Shared, jobs: &[Job], node: NodeId, seen: &mut Seen) -> Result<(), StoreError> {
    let mut guard = shared.store.write();
    let store = match &mut *guard {
        Some(store) => store,
        // The disk was full.
        closed => closed.insert(Store::open(&shared.path)?),
    };
    let before = seen.clone();
    let written = store.write(|transaction| {
        for job in jobs {
            match job {
                Job::Append { number, entry, .. } => {
                    if seen.is_new(*number) {
                        transaction.entry(node, *number, entry)?;
                    }
                }
                Job::Other { what: Other::Gone(nodes), .. } => transaction.gone(nodes)?,
                Job::Other { what: Other::Chunk(place, index, chunk), .. } => {
                    transaction.chunk(*place, *index, chunk)?;
                }
                Job::Other { what: Other::Head(head), .. } => transaction.head(*head)?,
                Job::Other { what: Other::Truncate(up_to), .. } => transaction.truncate(*up_to)?,
            }
        }
        Ok(())
    });
    match written {
        Ok(records) => {
            let first = store.first();
            drop(guard);
            shared.tail.lock().extend(records, first);
            Ok(())
        }
        Err(StoreError::Full(why)) => {
            // Of the transaction nothing is in the file. redb does not go on after an error, so the file is opened again.
            *seen = before;
            *guard = None;
            *guard = Store::open(&shared.path).ok();
            Err(StoreError::Full(why))
        }
        Err(error) => Err(error),
    }
}

impl Tail {
    fn extend(&mut self, records: Vec<Record>, first: Option<Place>) {
        for record in records {
            self.last = record.place;
            self.bytes += record.size();
            self.records.push_back(record);
        }
        while self.bytes > TAIL {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.size();
        }
        self.truncated = first.map_or(self.last, |first| Place(first.0 - 1));
    }
}

impl Log for FileLog {
    fn node(&self) -> NodeId {
        self.node
    }

    fn store(&self) -> u64 {
        self.store_id
    }

    async fn append(&self, number: u64, entry: Bytes) -> Result<(), AppendError> {
        let (done, result) = oneshot::channel();
        let answer = self.ask(Job::Append { number, entry, done }, result).await;
        answer.unwrap_or_else(|| Err(AppendError::Failed(GONE.into())))
    }

    fn follow(&self, after: Place) -> impl Stream<Item = Result<Record, LogError>> + Send {
        stream::unfold(Some((after, VecDeque::new())), async move |state| {
            let (after, mut ready) = state?;
            loop {
                // Before the look, so that nothing is missed.
                let appended = self.shared.appended.listen();
                if let Some(record) = VecDeque::<Record>::pop_front(&mut ready) {
                    let place = record.place;
                    return Some((Ok(record), Some((place, ready))));
                }
                match self.next(after) {
                    Ok(records) if records.is_empty() => appended.await,
                    Ok(records) => ready = records,
                    Err(error) => return Some((Err(error), None)),
                }
            }
        })
    }

    /// All other nodes are earlier runs of this process, and gone.
    async fn suspect(&self, nodes: Vec<NodeId>) -> Result<(), LogError> {
        let others: Vec<_> = nodes.into_iter().filter(|node| *node != self.node).collect();
        if others.is_empty() { Ok(()) } else { self.other(Other::Gone(others)).await }
    }

    async fn head(&self) -> Result<Option<Head>, LogError> {
        self.read(Store::head)
    }

    async fn chunk(&self, place: Place, index: u32) -> Result<Option<Bytes>, LogError> {
        self.read(|store| store.chunk(place, index))
    }

    async fn put_chunk(&self, place: Place, index: u32, chunk: Bytes) -> Result<(), LogError> {
        self.other(Other::Chunk(place, index, chunk)).await
    }

    async fn put_head(&self, head: Head) -> Result<(), LogError> {
        self.other(Other::Head(head)).await
    }

    async fn truncate(&self, truncation: Truncation) -> Result<(), LogError> {
        self.other(Other::Truncate(truncation.head.place)).await
    }

    fn now(&self) -> Duration {
        self.shared.time.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.shared.time.sleep(duration).await;
    }
}
