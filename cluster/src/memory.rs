//! A log in memory: for tests and simulations, and for a program that wants a node without durability.

use crate::log::{AppendError, Head, Log, LogError, NodeId, Place, Record, Truncation, What};
use crate::time::{ManualTime, Time};
use bytes::Bytes;
use event_listener::Event;
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A log in memory. [`join`](Self::join) gives a node its end of it.
///
/// It has no durability: it is gone with the process. With a [`ManualTime`] and [`Faults`], a whole cluster runs in one
/// thread, and all that can go wrong between a node and a log over a network goes wrong by a seed.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Shared>);

/// One node's end of a [`Memory`].
#[derive(Clone, Debug)]
pub struct MemoryLog {
    shared: Arc<Shared>,
    node: NodeId,
}

/// What goes wrong between a node and the log. By default nothing does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Faults {
    /// A request, and an answer, each take a random time up to this.
    pub delay: Duration,
    /// How often an answer is lost, from 0 to 1. The request is then sent again, under the same number.
    pub lost_answers: f64,
    /// How often a second copy of a request arrives later, from 0 to 1.
    pub late_copies: f64,
    /// The node is cut off: nothing that it sends arrives, and it reads nothing, until this is taken back.
    pub cut_off: bool,
    /// The log takes no entry, as if its disk was full.
    pub full: bool,
    /// What the log has is seen by the node after this time.
    pub lag: Duration,
    /// The log appends an entry also if its number is there already. No engine does; it shows that nodes skip it.
    pub appends_twice: bool,
}

/// What has gone wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Happened {
    /// Entries in the log, also those that were deleted since.
    pub entries: u64,
    /// Answers that were lost.
    pub lost_answers: u64,
    /// Copies that arrived late.
    pub late_copies: u64,
    /// Entries that were refused.
    pub refused: u64,
    /// Entries that were appended a second time.
    pub doubled: u64,
    /// Appends of a node that is gone.
    pub fenced: u64,
    /// How often a node found that what it wanted to read was deleted.
    pub truncated: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Event,
    time: Time,
}

#[derive(Debug)]
struct State {
    store: u64,
    random: fastrand::Rng,
    nodes: u64,
    /// The records after `truncated`, each with the time at which it was appended.
    records: VecDeque<(Duration, Record)>,
    truncated: u64,
    /// The numbers of each node that are in the log.
    numbers: HashSet<(NodeId, u64)>,
    gone: HashSet<NodeId>,
    faults: HashMap<NodeId, Faults>,
    /// Copies of requests that are still under way.
    copies: Vec<(Duration, NodeId, u64, Bytes)>,
    head: Option<Head>,
    chunks: BTreeMap<(Place, u32), Bytes>,
    happened: Happened,
}

impl Memory {
    /// A log whose nodes go by the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Time::system(), fastrand::u64(..))
    }

    /// A log whose nodes go by `time`, and whose faults happen by `seed`.
    #[must_use]
    pub fn simulated(time: &ManualTime, seed: u64) -> Self {
        Self::with(Time::Manual(time.clone()), seed)
    }

    fn with(time: Time, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let state = State {
            store: random.u64(..),
            random,
            nodes: 0,
            records: VecDeque::new(),
            truncated: 0,
            numbers: HashSet::new(),
            gone: HashSet::new(),
            faults: HashMap::new(),
            copies: Vec::new(),
            head: None,
            chunks: BTreeMap::new(),
            happened: Happened::default(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Event::new(), time }))
    }

    /// The end of a new node.
    #[must_use]
    pub fn join(&self) -> MemoryLog {
        let mut state = self.0.state.lock();
        state.nodes += 1;
        MemoryLog { shared: Arc::clone(&self.0), node: NodeId(state.nodes) }
    }

    /// From now on, this goes wrong for a node.
    pub fn set_faults(&self, node: NodeId, faults: Faults) {
        self.0.state.lock().faults.insert(node, faults);
        self.0.changed.notify(usize::MAX);
    }

    /// Declares a node gone, as an engine does when its lease has ended.
    pub fn declare_gone(&self, node: NodeId) {
        self.0.state.lock().declare_gone(node, self.0.time.now());
        self.0.changed.notify(usize::MAX);
    }

    /// What has gone wrong so far.
    #[must_use]
    pub fn happened(&self) -> Happened {
        self.0.state.lock().happened
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn push(&mut self, node: NodeId, what: What, now: Duration) {
        let place = Place(self.truncated + self.records.len() as u64 + 1);
        self.records.push_back((now, Record { place, node, what }));
    }

    fn declare_gone(&mut self, node: NodeId, now: Duration) {
        if self.gone.insert(node) {
            self.push(node, What::Gone, now);
        }
    }

    fn arrive(&mut self, node: NodeId, number: u64, bytes: &Bytes, now: Duration) -> Result<(), AppendError> {
        let faults = self.faults.get(&node);
        let (full, twice) = faults.map_or((false, false), |faults| (faults.full, faults.appends_twice));
        let is_there = self.numbers.contains(&(node, number));
        if self.gone.contains(&node) && !is_there {
            self.happened.fenced += 1;
            return Err(AppendError::Fenced);
        }
        if full && !is_there {
            self.happened.refused += 1;
            return Err(AppendError::Refused("no space left".into()));
        }
        if !is_there || (twice && !self.gone.contains(&node)) {
            self.happened.doubled += u64::from(is_there);
            self.happened.entries += 1;
            self.numbers.insert((node, number));
            self.push(node, What::Entry { number, bytes: bytes.clone() }, now);
        }
        Ok(())
    }

    /// Copies whose time has come arrive.
    fn deliver_copies(&mut self, now: Duration) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.copies).into_iter().partition(|copy| copy.0 <= now);
        self.copies = rest;
        for (_, node, number, bytes) in due {
            self.happened.late_copies += 1;
            // Nobody waits for its answer.
            let _ = self.arrive(node, number, &bytes, now);
        }
    }

    fn is_cut_off(&self, node: NodeId) -> bool {
        self.faults.get(&node).is_some_and(|faults| faults.cut_off)
    }

    fn random_below(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.u64(..=nanos))
    }
}

/// How long a request waits for an answer before it is sent again.
const SEND_AGAIN: Duration = Duration::from_millis(200);

impl MemoryLog {
    /// Waits for the way between this node and the log, in one direction.
    async fn travel(&self) {
        let delay = {
            let mut state = self.shared.state.lock();
            let delay = state.faults.get(&self.node).map_or(Duration::ZERO, |faults| faults.delay);
            state.random_below(delay)
        };
        if delay > Duration::ZERO {
            self.shared.time.sleep(delay).await;
        }
        self.until(|state| (!state.is_cut_off(self.node)).then_some(())).await;
    }

    /// Waits until a look at the log returns something.
    async fn until<R>(&self, mut look: impl FnMut(&mut State) -> Option<R>) -> R {
        loop {
            // Before the look, so that no change is missed.
            let changed = self.shared.changed.listen();
            if let Some(found) = look(&mut self.shared.state.lock()) {
                return found;
            }
            changed.await;
        }
    }

    /// The next record that this node can see, or how long until it can.
    fn next(&self, after: Place) -> Option<Result<Result<Record, LogError>, Duration>> {
        let mut state = self.shared.state.lock();
        let now = self.shared.time.now();
        state.deliver_copies(now);
        if state.is_cut_off(self.node) {
            return None;
        }
        if after.0 < state.truncated {
            state.happened.truncated += 1;
            return Some(Ok(Err(LogError::Truncated)));
        }
        let lag = state.faults.get(&self.node).map_or(Duration::ZERO, |faults| faults.lag);
        let (appended, record) = state.records.get(usize::try_from(after.0 - state.truncated).ok()?)?;
        Some(if *appended + lag <= now { Ok(Ok(record.clone())) } else { Err((*appended + lag).saturating_sub(now)) })
    }
}

impl Log for MemoryLog {
    fn node(&self) -> NodeId {
        self.node
    }

    fn store(&self) -> u64 {
        self.shared.state.lock().store
    }

    async fn append(&self, number: u64, entry: Bytes) -> Result<(), AppendError> {
        loop {
            self.travel().await;
            let now = self.shared.time.now();
            let (result, is_lost) = {
                let mut state = self.shared.state.lock();
                state.deliver_copies(now);
                let faults = state.faults.get(&self.node).cloned().unwrap_or_default();
                let result = state.arrive(self.node, number, &entry, now);
                if result.is_ok() && state.random.f64() < faults.late_copies {
                    let late = now + state.random_below(faults.delay * 10);
                    state.copies.push((late, self.node, number, entry.clone()));
                }
                let is_lost = state.random.f64() < faults.lost_answers;
                state.happened.lost_answers += u64::from(is_lost);
                (result, is_lost)
            };
            self.shared.changed.notify(usize::MAX);
            if is_lost {
                self.shared.time.sleep(SEND_AGAIN).await;
                continue;
            }
            self.travel().await;
            return result;
        }
    }

    fn follow(&self, after: Place) -> impl Stream<Item = Result<Record, LogError>> + Send {
        stream::unfold(Some(after), async move |after| {
            let after = after?;
            loop {
                let changed = self.shared.changed.listen();
                match self.next(after) {
                    Some(Ok(Ok(record))) => {
                        let place = record.place;
                        return Some((Ok(record), Some(place)));
                    }
                    Some(Ok(Err(error))) => return Some((Err(error), None)),
                    Some(Err(wait)) => self.shared.time.sleep(wait).await,
                    None => changed.await,
                }
            }
        })
    }

    async fn suspect(&self, nodes: Vec<NodeId>) -> Result<(), LogError> {
        // Here a node is gone when the test says so.
        drop(nodes);
        Ok(())
    }

    async fn head(&self) -> Result<Option<Head>, LogError> {
        self.travel().await;
        Ok(self.shared.state.lock().head)
    }

    async fn chunk(&self, place: Place, index: u32) -> Result<Option<Bytes>, LogError> {
        self.travel().await;
        Ok(self.shared.state.lock().chunks.get(&(place, index)).cloned())
    }

    async fn put_chunk(&self, place: Place, index: u32, chunk: Bytes) -> Result<(), LogError> {
        self.travel().await;
        self.shared.state.lock().chunks.insert((place, index), chunk);
        Ok(())
    }

    async fn put_head(&self, head: Head) -> Result<(), LogError> {
        self.travel().await;
        let latest = &mut self.shared.state.lock().head;
        if latest.is_none_or(|latest| latest.place < head.place) {
            *latest = Some(head);
        }
        Ok(())
    }

    async fn truncate(&self, truncation: Truncation) -> Result<(), LogError> {
        self.travel().await;
        let mut state = self.shared.state.lock();
        let up_to = truncation.head.place;
        while state.truncated < up_to.0 && state.records.pop_front().is_some() {
            state.truncated += 1;
        }
        state.chunks.retain(|(place, _), _| *place >= up_to);
        drop(state);
        self.shared.changed.notify(usize::MAX);
        Ok(())
    }

    fn now(&self) -> Duration {
        self.shared.time.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.shared.time.sleep(duration).await;
    }
}
