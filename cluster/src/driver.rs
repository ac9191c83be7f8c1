//! The one task of a node: it puts what is asked into entries, applies the log in its order, answers, writes time and
//! checkpoints.
//!
//! It is one future, which the program runs on any executor. Everything in it is polled in turn; only the engine waits
//! for the world outside.

use crate::data::{Key, Token, Value};
use crate::error::{Failure, Stopped};
use crate::log::{AppendError, Head, Log, LogError, NodeId, Place, Record, Truncation, What};
use crate::node::Shared;
use crate::operation::{Operation, form, nanos};
use crate::options::Options;
use crate::queue::{Answering, Request};
use crate::replica::{Answer, CannotApply, HASH_EVERY, Replica};
use crate::writing::{read_checkpoint, write_checkpoint};
use bytes::Bytes;
use futures_util::future::poll_fn;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, Stream};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often it is looked whether the time limit of a request is over, while there is one.
const LOOK_FOR_TIME_LIMITS: Duration = Duration::from_millis(10);

/// After which time a tick is written again of which nothing was seen.
const TICK_AGAIN: Duration = Duration::from_secs(1);

type Boxed<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;

/// The task of a node. Its [`run`](Self::run) must be awaited, or spawned, for anything to happen.
#[must_use = "a node does nothing unless its driver runs"]
pub struct Driver<K: Key, V: Value, T: Token, L> {
    log: Arc<L>,
    shared: Arc<Shared<K, V, T>>,
    options: Options,
    replica: Replica<K, V, T>,
    /// Up to where the replica has applied the log.
    place: Place,
    /// Who waits for the answers of which entry of this node.
    pending: HashMap<u64, Vec<Answering<Answer<K, V, T>>>>,
    next_number: u64,
    /// Numbers under which the log refused an entry.
    free_numbers: BTreeSet<u64>,
    time: Option<Counting>,
    /// Nodes that are gone, of which entries may be left.
    gone: Vec<NodeId>,
    /// The log does not take entries of this node any more.
    is_fenced: bool,
}

/// Since when this node has counted the time for the next tick.
struct Counting {
    tick: u64,
    /// Whether it is for this node to write the next tick, unless it is late.
    is_own: bool,
    since: Duration,
    not_before: Duration,
}

/// What is under way beside the replica.
struct Running<'a> {
    appends: FuturesUnordered<Boxed<'a, Appended>>,
    /// An operation is being written in parts, so nothing else of this node is.
    in_parts: bool,
    checkpoint: Option<Boxed<'a, Result<(), LogError>>>,
    suspecting: Option<Boxed<'a, Result<(), LogError>>>,
    timer: Option<(Duration, Boxed<'a, ()>)>,
}

/// The end of an append: the numbers that are not in the log, and the one under which answers are pending.
struct Appended {
    last: u64,
    unused: Vec<u64>,
    result: Result<(), AppendError>,
}

enum Event {
    Record(Option<Result<Record, LogError>>),
    Appended(Appended),
    CheckpointWritten(Result<(), LogError>),
    /// There may be something to append, or it is time to look at the clock.
    Look,
}

/// Why a stream of records was left.
enum Left {
    Truncated,
    Stopped(Stopped),
}

impl<K: Key, V: Value, T: Token, L: Log> Driver<K, V, T, L> {
    pub(crate) fn new(
        log: Arc<L>,
        shared: Arc<Shared<K, V, T>>,
        options: Options,
        replica: Replica<K, V, T>,
        place: Place,
    ) -> Self {
        Self {
            log,
            shared,
            options,
            replica,
            place,
            pending: HashMap::new(),
            next_number: 1,
            free_numbers: BTreeSet::new(),
            time: None,
            gone: Vec::new(),
            is_fenced: false,
        }
    }

    /// Runs the node until it stops, and returns why. If this future is dropped, the node stops.
    pub async fn run(mut self) -> Stopped {
        let log = Arc::clone(&self.log);
        let mut running = Running {
            appends: FuturesUnordered::new(),
            in_parts: false,
            checkpoint: None,
            suspecting: None,
            timer: None,
        };
        self.count_time(false);
        let why = loop {
            running.suspecting = Some(log.suspect(self.replica.nodes()).boxed());
            match self.follow(&log, &mut running).await {
                Left::Stopped(why) => break why,
                Left::Truncated => {
                    if let Err(why) = self.rejoin(&log, &mut running).await {
                        break why;
                    }
                }
            }
        };
        tracing::info!(node = %self.log.node(), %why, "the node has stopped");
        self.close(&why);
        why
    }

    /// Applies records until the log cannot be read on or the node stops.
    async fn follow<'a>(&mut self, log: &'a L, running: &mut Running<'a>) -> Left {
        let mut records = pin!(log.follow(self.place));
        let mut turn = 0;
        loop {
            let stopping = self.shared.queue.stopped();
            let idle = running.appends.is_empty() && self.pending.is_empty() && self.shared.queue.bytes() == 0;
            if let Some(why) = stopping.clone().filter(|_| idle && !self.is_fenced) {
                return Left::Stopped(why);
            }
            let now = self.look_at_the_clock();
            self.set_timer(log, running, now);
            self.append(log, running);
            turn += 1;
            let wants_more = self.has_room(running);
            let event = poll_fn(|context| {
                if let Poll::Ready(event) = running.poll(records.as_mut(), turn, context) {
                    return Poll::Ready(event);
                }
                // What has a time limit needs a timer, also while there is no room for it.
                let may_wait = !wants_more && (running.timer.is_some() || !self.shared.has_time_limits());
                let has_work = self.shared.queue.is_ready(context.waker()) && !may_wait;
                let stops = stopping.is_none() && self.shared.queue.stopped().is_some();
                if has_work || stops { Poll::Ready(Event::Look) } else { Poll::Pending }
            })
            .await;
            match event {
                Event::Look => {}
                Event::Record(Some(Ok(record))) => {
                    if let Err(why) = self.apply(log, running, record) {
                        return Left::Stopped(why);
                    }
                }
                Event::Record(Some(Err(LogError::Truncated))) => return Left::Truncated,
                Event::Record(Some(Err(error))) => return Left::Stopped(Stopped::Log(error.to_string())),
                Event::Record(None) => return Left::Stopped(Stopped::Log("the log has ended".into())),
                Event::Appended(appended) => {
                    running.in_parts = false;
                    if let Err(why) = self.appended(appended) {
                        return Left::Stopped(why);
                    }
                }
                Event::CheckpointWritten(Ok(())) => {
                    self.shared.metrics.checkpoints.add(1);
                }
                Event::CheckpointWritten(Err(error)) => {
                    tracing::warn!(node = %log.node(), %error, "a checkpoint was not written");
                }
            }
        }
    }
}

impl<K: Key, V: Value, T: Token, L: Log> Driver<K, V, T, L> {
    fn has_room(&self, running: &Running<'_>) -> bool {
        !self.is_fenced && !running.in_parts && running.appends.len() < self.options.window
    }

    /// Makes entries of what is queued, as long as there is room for another append.
    fn append<'a>(&mut self, log: &'a L, running: &mut Running<'a>) {
        let limit = log.max_entry().saturating_sub(1);
        while self.has_room(running) {
            let requests = self.shared.queue.take(limit);
            if requests.is_empty() {
                return;
            }
            let size: usize = requests.iter().map(|request| request.bytes.len()).sum();
            if size > limit && !running.appends.is_empty() {
                // In parts, with nothing else of this node under way.
                self.shared.queue.put_back(requests);
                return;
            }
            let (entries, answers) = self.entries(requests, limit);
            let last = entries.last().map_or(0, |(number, _)| *number);
            self.pending.insert(last, answers);
            running.in_parts = entries.len() > 1;
            self.shared.metrics.entries.add(entries.len() as u64);
            running.appends.push(append_in_order(log, last, entries).boxed());
        }
    }

    /// One entry, or several parts of one operation, each under a number.
    #[allow(clippy::type_complexity)]
    fn entries(
        &mut self,
        requests: Vec<Request<Answer<K, V, T>>>,
        limit: usize,
    ) -> (Vec<(u64, Bytes)>, Vec<Answering<Answer<K, V, T>>>) {
        let mut answers = Vec::with_capacity(requests.len());
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend_from_slice(&request.bytes);
            answers.push(request.answer);
        }
        let parts = bytes.chunks(limit).enumerate();
        let last = parts.len() - 1;
        let entries = parts.map(|(index, part)| {
            let form = match index {
                0 if last == 0 => form::WHOLE,
                0 => form::FIRST,
                _ if index == last => form::LAST,
                _ => form::MIDDLE,
            };
            let mut entry = Vec::with_capacity(part.len() + 1);
            entry.push(form);
            entry.extend_from_slice(part);
            (self.number(), Bytes::from(entry))
        });
        (entries.collect(), answers)
    }

    fn number(&mut self) -> u64 {
        self.free_numbers.pop_first().unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number - 1
        })
    }

    fn appended(&mut self, Appended { last, unused, result }: Appended) -> Result<(), Stopped> {
        let failure = match result {
            Ok(()) => return Ok(()),
            Err(AppendError::Refused(why)) => {
                self.free_numbers.extend(unused);
                Failure::LogRefused(why)
            }
            // What was appended before is still to be read, and answered.
            Err(AppendError::Fenced) => {
                self.is_fenced = true;
                self.shared.queue.close(&Stopped::Fenced);
                Failure::Stopped(Stopped::Fenced)
            }
            Err(AppendError::Failed(why)) => return Err(Stopped::Log(why)),
        };
        for answering in self.pending.remove(&last).unwrap_or_default() {
            answering.answer(Err(failure.clone()));
        }
        Ok(())
    }

    fn apply<'a>(&mut self, log: &'a L, running: &mut Running<'a>, record: Record) -> Result<(), Stopped> {
        let Record { place, node, what } = record;
        let own = node == log.node();
        let (operations, bytes_before) = (self.replica.counts().operations, self.replica.counts().bytes);
        self.place = place;
        self.shared.metrics.place.set(place.0);
        match what {
            What::Entry { number, bytes } => {
                let applied = catch_unwind(AssertUnwindSafe(|| self.replica.entry(node, number, &bytes)));
                match applied {
                    Ok(Ok(Some(answers))) => {
                        self.shared.metrics.operations.add(answers.len() as u64);
                        // A part has no answers; those of the whole are pending under the number of the last part.
                        if own {
                            self.answer(number, answers);
                        }
                    }
                    Ok(Ok(None)) => {
                        self.shared.metrics.duplicates.add(1);
                    }
                    Ok(Err(CannotApply::Unknown(what))) => return Err(Stopped::Unknown { place: place.0, what }),
                    Ok(Err(CannotApply::Diverged { operations })) => return Err(Stopped::Diverged { operations }),
                    Err(_) => return Err(Stopped::Panicked { place: place.0 }),
                }
            }
            What::Gone => {
                self.replica.gone(node);
                if own {
                    // What is pending is not in the log, and cannot get there.
                    return Err(Stopped::Fenced);
                }
                self.gone.push(node);
            }
        }
        self.count_time(own);
        if own {
            let (operations_now, bytes_now) = (self.replica.counts().operations, self.replica.counts().bytes);
            if bytes_now / self.options.checkpoint_every > bytes_before / self.options.checkpoint_every {
                self.begin_checkpoint(log, running);
            }
            if operations_now / HASH_EVERY > operations / HASH_EVERY {
                if let Some((operations, hash)) = self.replica.latest_hash() {
                    self.say(&Operation::Hash { operations, hash });
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, number: u64, answers: Vec<Answer<K, V, T>>) {
        let waiting = self.pending.remove(&number).unwrap_or_default();
        for (answering, answer) in waiting.into_iter().zip(answers) {
            answering.answer(Ok(answer));
        }
    }

    fn begin_checkpoint<'a>(&mut self, log: &'a L, running: &mut Running<'a>) {
        if running.checkpoint.is_some() {
            return;
        }
        let writing = self.replica.checkpoint(log.max_entry());
        let seen = &self.replica.counts().seen;
        let numbers = seen.iter().map(|(node, seen)| (NodeId(*node), seen.up_to)).collect();
        let truncation =
            Truncation { head: Head { place: self.place, chunks: 0 }, numbers, gone: self.gone.split_off(0) };
        running.checkpoint = Some(write_checkpoint(log, writing, truncation).boxed());
    }

    /// Appends something of the node's own.
    fn say(&self, operation: &Operation<K, V, T>) {
        if let Ok(bytes) = operation.encode() {
            // If the node has stopped, nobody has to be told.
            let _ = self.shared.queue.push(Request { bytes, answer: Answering::NOBODY });
        }
    }

    /// Begins to count the time for the next tick, if the last one was applied since, and something ends by it. It is
    /// written by whoever wrote the last one, or, if nothing had an end before, by whoever brought that about.
    fn count_time(&mut self, own: bool) {
        let counts = self.replica.counts();
        if !self.replica.needs_ticks() {
            self.time = None;
        } else if self.time.as_ref().is_none_or(|time| time.tick != counts.ticks) {
            let is_own = if self.time.is_none() { own } else { counts.ticker == self.log.node().0 };
            let now = self.log.now();
            self.time = Some(Counting { tick: counts.ticks, is_own, since: now, not_before: now });
        }
    }

    /// When this node writes the next tick. If it is not for this node, it steps in later, at a time of its own.
    fn next_tick(&self) -> Option<Duration> {
        let Counting { is_own, since, not_before, .. } = self.time.as_ref().filter(|_| !self.is_fenced)?;
        let tick = self.options.tick;
        let late = u32::try_from(self.log.node().0 % 16).unwrap_or(0);
        let patience = if *is_own { tick } else { tick * 3 + tick * late / 4 };
        Some((*since + patience).max(*not_before))
    }

    /// Writes a tick if it is due, and answers those whose time limit is over. Returns the time.
    fn look_at_the_clock(&mut self) -> Duration {
        let now = self.log.now();
        if self.next_tick().is_some_and(|due| due <= now) {
            if let Some(time) = &mut self.time {
                time.not_before = now + TICK_AGAIN;
                let tick = Operation::Tick { after: time.tick, passed: nanos(now.saturating_sub(time.since)) };
                self.say(&tick);
            }
        }
        if self.shared.has_time_limits() {
            self.shared.queue.expire(now);
            for waiting in self.pending.values_mut() {
                for answering in waiting.iter_mut().filter(|answering| answering.is_over(now)) {
                    std::mem::replace(answering, Answering::NOBODY).answer(Err(Failure::Unanswered));
                }
            }
        }
        now
    }

    fn set_timer<'a>(&self, log: &'a L, running: &mut Running<'a>, now: Duration) {
        let limits = self.shared.has_time_limits() && !(self.pending.is_empty() && self.shared.queue.bytes() == 0);
        let until = [self.next_tick(), limits.then(|| now + LOOK_FOR_TIME_LIMITS)].into_iter().flatten().min();
        let is_set = |until| matches!(&running.timer, Some((set, _)) if *set > now && *set <= until);
        if let Some(until) = until.filter(|until| !is_set(*until)) {
            running.timer = Some((until, log.sleep(until.saturating_sub(now)).boxed()));
        }
    }

    /// Takes over the latest checkpoint, since the log after the place of this node was deleted.
    async fn rejoin<'a>(&mut self, log: &'a L, running: &mut Running<'a>) -> Result<(), Stopped> {
        let mut reading = pin!(read_checkpoint(log));
        let read = loop {
            // Time limits hold meanwhile.
            let now = self.look_at_the_clock();
            self.set_timer(log, running, now);
            let found = poll_fn(|context| {
                if let Poll::Ready(found) = reading.as_mut().poll(context) {
                    return Poll::Ready(Some(found));
                }
                running.poll_timer(context).map(|()| None)
            });
            if let Some(found) = found.await {
                break found;
            }
        };
        let (head, bytes) = match read {
            Ok(Some(found)) => found,
            Ok(None) => return Err(Stopped::Log("the log was truncated, and there is no checkpoint".into())),
            Err(error) => return Err(Stopped::Log(error.to_string())),
        };
        if head.place <= self.place {
            return Err(Stopped::Log("the log was truncated beyond its latest checkpoint".into()));
        }
        tracing::info!(node = %log.node(), from = self.place.0, to = head.place.0, "rejoins from a checkpoint");
        self.replica.import(&bytes).map_err(|what| Stopped::Unknown { place: head.place.0, what })?;
        self.place = head.place;
        self.shared.metrics.rejoined.add(1);
        // What the checkpoint has of this node's entries has happened; its answers are lost.
        let seen = self.replica.counts().seen.get(&log.node().0).cloned().unwrap_or_default();
        let lost: Vec<_> = self.pending.keys().copied().filter(|number| seen.has(*number)).collect();
        for answering in lost.into_iter().filter_map(|number| self.pending.remove(&number)).flatten() {
            answering.answer(Err(Failure::Unanswered));
        }
        self.time = None;
        self.count_time(false);
        Ok(())
    }

    fn close(&mut self, why: &Stopped) {
        self.shared.queue.close(why);
        for answering in self.pending.drain().flat_map(|(_, waiting)| waiting) {
            answering.answer(Err(Failure::Stopped(why.clone())));
        }
    }
}

impl<'a> Running<'a> {
    /// The next of what is under way. Records and appends take turns to be first, so that neither keeps the other waiting.
    fn poll<S: Stream<Item = Result<Record, LogError>>>(
        &mut self,
        records: Pin<&mut S>,
        turn: u64,
        context: &mut Context<'_>,
    ) -> Poll<Event> {
        let appended = |appends: &mut FuturesUnordered<Boxed<'a, Appended>>, context: &mut Context<'_>| match appends
            .poll_next_unpin(context)
        {
            Poll::Ready(Some(appended)) => Poll::Ready(Event::Appended(appended)),
            _ => Poll::Pending,
        };
        if turn % 2 == 0 {
            if let Poll::Ready(event) = appended(&mut self.appends, context) {
                return Poll::Ready(event);
            }
        }
        if let Poll::Ready(record) = records.poll_next(context) {
            return Poll::Ready(Event::Record(record));
        }
        if let Poll::Ready(event) = appended(&mut self.appends, context) {
            return Poll::Ready(event);
        }
        if let Some(Poll::Ready(written)) = self.checkpoint.as_mut().map(|writing| writing.poll_unpin(context)) {
            self.checkpoint = None;
            return Poll::Ready(Event::CheckpointWritten(written));
        }
        if let Some(Poll::Ready(result)) = self.suspecting.as_mut().map(|suspecting| suspecting.poll_unpin(context)) {
            self.suspecting = None;
            if let Err(error) = result {
                tracing::warn!(%error, "nodes that may be gone were not looked for");
            }
        }
        self.poll_timer(context).map(|()| Event::Look)
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        timer.poll_unpin(context).map(|()| self.timer = None)
    }
}

async fn append_in_order<L: Log>(log: &L, last: u64, entries: Vec<(u64, Bytes)>) -> Appended {
    let mut entries = entries.into_iter();
    while let Some((number, entry)) = entries.next() {
        if let Err(error) = log.append(number, entry).await {
            let unused = std::iter::once(number).chain(entries.map(|(number, _)| number)).collect();
            return Appended { last, unused, result: Err(error) };
        }
    }
    Appended { last, unused: Vec::new(), result: Ok(()) }
}

impl<K: Key, V: Value, T: Token, L> Drop for Driver<K, V, T, L> {
    fn drop(&mut self) {
        self.shared.queue.close(&Stopped::Closed);
    }
}

impl<K: Key, V: Value, T: Token, L: Log> fmt::Debug for Driver<K, V, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("node", &self.log.node()).field("place", &self.place).finish_non_exhaustive()
    }
}
