//! Runs a program on the crate and records what it sees.

use crate::history::{Call, Delivery, Looked, Observed};
use crate::program::{BUFFERS, Follow, How, If, Key, Op, Program, Setup, Token, Value, modified};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use state_dictionary::{
    Broadcast, BufferOptions, Change, ChangeBuffer, CommitFeed, ContentGuard, FeedOptions, Follower, LockContentError,
    LockDelivery, LockFeed, LockRequest, ManualClock, Message, Position, Refusal, Revision, Session, StateDictionary,
    StoreId, Tombstones, TryFlushError, UpdateError,
};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

mod observe;

use observe::{commits_flushed, delivered, ended, flushed, locked, locks_flushed, sorted, updated, whole};

/// Keys hash to themselves, so that they are in both shards of the lock table.
#[derive(Default)]
pub(crate) struct Itself(u64);

impl Hasher for Itself {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type S = BuildHasherDefault<Itself>;
type Dictionary = StateDictionary<Key, Value, Token, S>;
type Guard<'a> = ContentGuard<'a, Key, Value, Token, S>;
type Client = Session<Key, Value, Token, S>;
type Feed = CommitFeed<Key, Value, Token, S>;

/// The calls of one execution, also of one that never ends.
#[derive(Default)]
pub(crate) struct Recorder(parking_lot::Mutex<(u64, Vec<Call>)>);

impl Recorder {
    fn begin(&self, thread: usize, op: Op) -> usize {
        let (time, calls) = &mut *self.0.lock();
        *time += 1;
        calls.push(Call::begun(thread, op, *time));
        calls.len() - 1
    }

    fn end(&self, call: usize, observed: Observed) {
        let (time, calls) = &mut *self.0.lock();
        *time += 1;
        calls[call].ended = *time;
        calls[call].observed = observed;
    }

    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().1)
    }
}

struct Shared {
    dictionary: Dictionary,
    buffers: [ChangeBuffer<Key, Value, S>; BUFFERS],
    clients: Follow,
    broadcast: Broadcast<Key, Value, Delivery, S>,
    locks: LockFeed<Key, Value, Token, S>,
    commits: Mutex<Feed>,
    clock: ManualClock,
    recorder: Arc<Recorder>,
    /// Looked at before each call: a place where the scheduler may run the other threads.
    between_calls: AtomicBool,
}

struct Thread<'a> {
    number: usize,
    shared: &'a Shared,
    guard: Option<Guard<'a>>,
    session: Option<Client>,
    connection: Option<ChangeBuffer<Key, Value, S>>,
    follower: Option<Follower<Key, Value, Delivery, S>>,
    position: Option<Position>,
    last_revision: u64,
}

pub(crate) fn execute(program: &Program, recorder: &Arc<Recorder>) {
    let clock = ManualClock::new();
    let Setup { history_limit, lock_history_limit, commit_history, initial, buffers, clients } = &program.setup;
    let builder = StateDictionary::<Key, Value, _>::builder();
    let builder = if *commit_history { builder.commit_history(true) } else { builder };
    let dictionary = builder
        .hasher(S::default())
        .shards(2)
        .clock(&clock)
        .history_limit(*history_limit)
        .lock_history_limit(lock_history_limit.unwrap_or(0))
        .content(initial.iter().copied())
        .build();
    let buffers = buffers.map(|follow| dictionary.change_buffer_with(following(follow)));
    let broadcast = dictionary.broadcast(following(Follow { always: false, ..*clients }), delivered);
    let between_calls = AtomicBool::new(false);
    let locks = dictionary.lock_feed();
    assert!(matches!(locks.try_flush(), Ok(LockDelivery::Full { locks, .. }) if locks.is_empty()));
    let commits = Mutex::new(dictionary.commit_feed());
    let shared = Arc::new(Shared {
        dictionary,
        buffers,
        clients: *clients,
        broadcast,
        locks,
        commits,
        clock,
        recorder: Arc::clone(recorder),
        between_calls,
    });
    let spawn = |(number, ops): (usize, &Vec<Op>)| {
        let (shared, ops) = (Arc::clone(&shared), ops.clone());
        thread::spawn(move || {
            let mut thread = Thread {
                number,
                shared: &shared,
                guard: None,
                session: None,
                connection: None,
                follower: None,
                position: None,
                last_revision: 1,
            };
            for op in ops {
                thread.call(op);
            }
        })
    };
    let threads: Vec<_> = program.threads.iter().enumerate().map(spawn).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

impl Thread<'_> {
    fn call(&mut self, mut op: Op) {
        match &mut op {
            Op::Update { how: How::Guard, .. } | Op::Read | Op::LetGo if self.guard.is_none() => return,
            Op::Ephemeral { .. } | Op::EndSession { .. } | Op::DropSession { .. } | Op::LeaveSession { .. }
                if self.session.is_none() =>
            {
                return;
            }
            Op::FlushConnection if self.connection.is_none() => return,
            Op::Next if self.follower.is_none() => return,
            Op::Update { only_if, .. } => {
                let last = If::At(self.last_revision);
                only_if.iter_mut().filter(|(_, when)| *when == If::AtLast).for_each(|(_, when)| *when = last);
            }
            _ => {}
        }
        self.shared.between_calls.load(Ordering::SeqCst);
        let call = self.shared.recorder.begin(self.number, op.clone());
        let observed = self.perform(op);
        if let Observed::Revision(revision) = observed {
            self.last_revision = revision;
        }
        self.shared.recorder.end(call, observed);
    }

    fn perform(&mut self, op: Op) -> Observed {
        let Shared { dictionary, buffers, clock, .. } = self.shared;
        match op {
            Op::Update { by, how, change, only_if } => {
                let change = with_conditions(to_change(change), only_if);
                let asked = change.clone();
                let answer = match (how, &mut self.guard, &self.session) {
                    (How::Guard, Some(guard), _) => guard.update_state(&by, change),
                    (How::Try, ..) => dictionary.try_update_state(&by, change),
                    (.., Some(session)) if *session.token() == by => session.update_state(change),
                    _ => dictionary.update_state(&by, change),
                };
                if let Err(error) = &answer {
                    assert_eq!(error.change, asked, "the change is returned as it was");
                }
                updated(answer)
            }
            Op::Modify { by, from, to, attempts, nested } => {
                let attempts = attempts.unwrap_or(usize::MAX);
                updated(dictionary.update_state_with_limit(&by, attempts, |content| {
                    if nested {
                        let inside = dictionary.update_state(&by, Change::new().set(to, 0));
                        assert!(matches!(inside, Err(UpdateError { reason: Refusal::InsideUpdate, .. })), "{inside:?}");
                    }
                    to_change(modified(content.get(&from).copied(), to))
                }))
            }
            Op::Locks { by, past, acquire, release } => {
                let lease = |ticks| if ticks == u64::MAX { Duration::MAX } else { Duration::from_nanos(ticks) };
                let acquire = acquire.into_iter().map(|(key, ticks)| (key, ticks.map(lease)));
                let request = acquire.fold(LockRequest::new(), |request, (key, lease)| request.acquire(key, lease));
                let request = release.into_iter().fold(request, LockRequest::release);
                let asked = request.clone();
                let answer = match &self.session {
                    Some(session) if *session.token() == by && !past => session.update_locks(request),
                    _ => dictionary.update_locks(&by, request),
                };
                let observed = locked(&answer);
                if let Err(error) = answer {
                    assert_eq!(error.into_request(), asked, "the request is returned as it was");
                }
                observed
            }
            Op::ReleaseAll { by } => Observed::Keys(sorted(dictionary.release_all(&by))),
            Op::ClearLocks => Observed::Keys(sorted(dictionary.clear_locks())),
            Op::Lock { key } => {
                Observed::Lock(dictionary.lock_info(&key).map(|lock| (lock.owner, lock.fencing_token.get())))
            }
            Op::AllLocks => {
                let locks = dictionary.locks().into_iter();
                Observed::Locks(sorted(locks.map(|(key, lock)| (key, lock.owner, lock.fencing_token.get()))))
            }
            Op::Snapshot => whole(&dictionary.snapshot()),
            Op::Get { key } => {
                let entry = dictionary.get(&key);
                Observed::Versioned(entry.map(|entry| (*entry, entry.revision().get())))
            }
            Op::Revision => Observed::Revision(dictionary.revision().get()),
            Op::IsFrozen => Observed::Is(dictionary.is_frozen()),
            Op::Freeze => Observed::Is(dictionary.freeze()),
            Op::Flush { buffer, wait } => {
                flushed(if wait { buffers[buffer].flush().map_err(Into::into) } else { buffers[buffer].try_flush() })
            }
            Op::CloseBuffer { buffer } => Observed::Is(buffers[buffer].close()),
            Op::IsClosed { buffer } => Observed::Is(buffers[buffer].is_closed()),
            Op::Hold { wait } => {
                let answer = if wait { dictionary.lock_content() } else { dictionary.try_lock_content() };
                match answer {
                    Ok(guard) => whole(self.guard.insert(guard)),
                    Err(LockContentError::ContentLockedByThisThread) => Observed::ContentLockedByThisThread,
                    Err(LockContentError::ContentLocked) => Observed::ContentLocked,
                    Err(other) => panic!("{other:?}"),
                }
            }
            Op::Read => self.guard.as_deref().map_or(Observed::Nothing, whole),
            Op::LetGo => {
                self.guard = None;
                Observed::Done
            }
            Op::Tick { by } => {
                clock.advance(Duration::from_nanos(by));
                Observed::Done
            }
            op => self.perform_of_client(op),
        }
    }

    /// What belongs to a client: sessions, and feeds except for plain buffers.
    fn perform_of_client(&mut self, op: Op) -> Observed {
        let Shared { dictionary, locks, .. } = self.shared;
        match op {
            Op::Session { by } => Observed::Is(self.session.insert(dictionary.session(by)).is_resumed()),
            Op::Ephemeral { change, .. } => {
                let change = to_change(change);
                self.session.as_mut().map_or(Observed::Nothing, |session| updated(session.update_ephemeral(change)))
            }
            Op::EndSession { .. } => {
                self.session.take().map_or(Observed::Nothing, |session| Observed::SessionSummary(ended(session.end())))
            }
            Op::DropSession { .. } => {
                self.session = None;
                Observed::Done
            }
            Op::LeaveSession { grace, .. } => self.session.take().map_or(Observed::Nothing, |session| {
                session.detach(Duration::from_nanos(grace));
                Observed::Done
            }),
            Op::Expire => {
                let expiry = dictionary.expire();
                let sessions = expiry.sessions.into_iter().map(|(token, end)| (token, ended(end)));
                Observed::Expired(sorted(expiry.locks), sessions.collect())
            }
            Op::FlushLocks => locks_flushed(locks.try_flush()),
            Op::Connect { lost } => {
                let position = self.position_to_resume_from(lost);
                let options = position.into_iter().fold(following(self.shared.clients), BufferOptions::resume);
                let buffer = self.connection.insert(dictionary.change_buffer_with(options));
                Observed::Position(buffer.position().revision.get())
            }
            Op::FlushConnection => self.connection.as_ref().map_or(Observed::Nothing, |buffer| {
                let flushed = buffer.try_flush();
                let position = self.position.insert(buffer.position()).revision.get();
                let ended = matches!(flushed, Err(TryFlushError::Closed));
                Observed::Looked(Looked { delivery: flushed.ok().map(|it| delivered(&it)), ended, position })
            }),
            Op::Publish => Observed::Is(self.shared.broadcast.publish()),
            Op::Join { lost } => {
                let position = self.position_to_resume_from(lost);
                let follower = self.follower.insert(self.shared.broadcast.join(position));
                Observed::Position(follower.position().revision.get())
            }
            Op::Next => self.follower.as_mut().map_or(Observed::Nothing, |follower| {
                let next = follower.try_next();
                let position = self.position.insert(follower.position()).revision.get();
                let ended = matches!(next, Err(TryFlushError::Closed));
                let (frame, delivery) = match next {
                    Ok(Message::Frame(frame)) => (true, Some(frame.encoded().clone())),
                    Ok(Message::CatchUp(delivery)) => (false, Some(delivered(&delivery))),
                    Err(_) => (false, None),
                };
                Observed::Next { frame, looked: Looked { delivery, ended, position } }
            }),
            Op::Position { buffer } => Observed::Position(self.shared.buffers[buffer].position().revision.get()),
            Op::FlushCommits => commits_flushed(&self.shared.commits.lock().unwrap()),
            Op::CommitsAfter => {
                let Position { store, revision } = dictionary.position();
                let after = Position { store, revision: revision.min(self.last_revision.into()) };
                commits_flushed(&dictionary.commit_feed_with(FeedOptions::new().resume(after)))
            }
            op => unreachable!("not an operation of its own: {op}"),
        }
    }

    fn position_to_resume_from(&self, lost: bool) -> Option<Position> {
        if lost { Some(self.lost_position()) } else { self.position }
    }

    /// Of another dictionary, or in the future.
    fn lost_position(&self) -> Position {
        let Position { store, revision } = self.shared.dictionary.position();
        if self.last_revision % 2 == 0 {
            Position { store: StoreId::from(!u64::from(store)), revision }
        } else {
            Position { store, revision: Revision::from(1_000) }
        }
    }
}

fn following(follow: Follow) -> BufferOptions<Key> {
    let options = BufferOptions::new();
    let options = if follow.always { options.tombstones(Tombstones::Always) } else { options };
    if follow.filters() { options.filter(move |key| follow.passes(*key)) } else { options }
}

fn to_change(operations: Vec<(Key, Option<Value>)>) -> Change<Key, Value> {
    operations.into_iter().fold(Change::new(), |change, (key, value)| match value {
        Some(value) => change.set(key, value),
        None => change.remove(key),
    })
}

fn with_conditions(change: Change<Key, Value>, conditions: Vec<(Key, If)>) -> Change<Key, Value> {
    conditions.into_iter().fold(change, |change, (key, condition)| match condition {
        If::Absent => change.if_absent(key),
        If::Present => change.if_present(key),
        If::At(revision) => change.if_revision(key, revision.into()),
        If::AtLast => unreachable!("replaced before the call"),
    })
}
