//! Runs a program on the crate and records what it sees.

use crate::history::{Call, Commit, Commits, Delivery, Event, Kind, Left, Looked, Observed, Receipt, SessionEnd, Told};
use crate::program::{BUFFERS, Follow, How, If, Key, Op, Program, Setup, Token, Value, modified};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use state_dictionary::{
    BufferOptions, Change, ChangeBuffer, CommitDelivery, CommitFeed, Condition, Conflict, ContentGuard, Entry,
    FlushError, LockContentError, LockDelivery, LockError, LockEvent, LockEventKind, LockFeed, LockReceipt,
    LockRequest, ManualClock, Position, Revision, Session, Snapshot, StateDictionary, StoreId, Tombstones, UpdateError,
    Updates,
};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

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
    locks: Mutex<LockFeed<Key, Value, Token, S>>,
    commits: Mutex<Feed>,
    clock: ManualClock,
    recorder: Arc<Recorder>,
    /// Looked at before each call: a place where the scheduler may let the others go on.
    between_calls: AtomicBool,
}

struct Thread<'a> {
    number: usize,
    shared: &'a Shared,
    guard: Option<Guard<'a>>,
    session: Option<Client>,
    connection: Option<ChangeBuffer<Key, Value, S>>,
    position: Option<Position>,
    last_revision: u64,
}

pub(crate) fn execute(program: &Program, recorder: &Arc<Recorder>) {
    let clock = ManualClock::new();
    let Setup { trail_limit, lock_events, keep_commits, initial, buffers, clients } = &program.setup;
    let builder = StateDictionary::<Key, Value, _>::builder();
    let builder = if *keep_commits { builder.keep_commits() } else { builder };
    let dictionary = builder
        .hasher(S::default())
        .shards(2)
        .manual_clock(&clock)
        .trail_limit(*trail_limit)
        .lock_events(lock_events.unwrap_or(0))
        .content(initial.iter().copied())
        .build();
    let buffers = buffers.map(|follow| dictionary.change_buffer_with(following(follow)));
    let between_calls = AtomicBool::new(false);
    let mut locks = dictionary.lock_feed();
    assert!(matches!(locks.try_flush(), Ok(LockDelivery::Everything { locks, .. }) if locks.is_empty()));
    let locks = Mutex::new(locks);
    let commits = Mutex::new(dictionary.commit_feed());
    let shared = Arc::new(Shared {
        dictionary,
        buffers,
        clients: *clients,
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
                    assert_eq!(*error.change(), asked, "the change is handed back as it was");
                }
                updated(answer)
            }
            Op::Modify { by, from, to, attempts, nested } => {
                let attempts = attempts.unwrap_or(usize::MAX);
                updated(dictionary.update_state_with_limit(&by, attempts, |content| {
                    if nested {
                        let inside = dictionary.update_state(&by, Change::new().set(to, 0));
                        assert!(matches!(inside, Err(UpdateError::InsideUpdate { .. })), "{inside:?}");
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
                    assert_eq!(error.into_request(), asked, "the request is handed back as it was");
                }
                observed
            }
            Op::ReleaseAll { by } => Observed::Keys(sorted(dictionary.release_all(&by))),
            Op::ClearLocks => Observed::Keys(sorted(dictionary.clear_locks())),
            Op::Lock { key } => {
                Observed::Lock(dictionary.lock(&key).map(|lock| (lock.holder, lock.fencing_token.get())))
            }
            Op::AllLocks => {
                let locks = dictionary.locks().into_iter();
                Observed::Locks(sorted(locks.map(|(key, lock)| (key, lock.holder, lock.fencing_token.get()))))
            }
            Op::Snapshot => whole(&dictionary.snapshot()),
            Op::Get { key } => {
                let entry = dictionary.get(&key);
                Observed::Entry(entry.map(|entry| (*entry, entry.revision().get())))
            }
            Op::Revision => Observed::Revision(dictionary.revision().get()),
            Op::IsFrozen => Observed::Is(dictionary.is_frozen()),
            Op::Freeze => Observed::Is(dictionary.freeze()),
            Op::Flush { buffer, wait } => {
                flushed(if wait { buffers[buffer].flush() } else { buffers[buffer].try_flush() })
            }
            Op::FreezeBuffer { buffer } => Observed::Is(buffers[buffer].freeze()),
            Op::IsEnded { buffer } => Observed::Is(buffers[buffer].is_ended()),
            Op::Hold { wait } => {
                let answer = if wait { dictionary.lock_content() } else { dictionary.try_lock_content() };
                match answer {
                    Ok(guard) => whole(self.guard.insert(guard)),
                    Err(LockContentError::HeldByThisThread) => Observed::HeldByThisThread,
                    Err(LockContentError::Held) => Observed::ContentHeld,
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

    /// What belongs to a client: sessions, and feeds but for plain buffers.
    fn perform_of_client(&mut self, op: Op) -> Observed {
        let Shared { dictionary, locks, .. } = self.shared;
        match op {
            Op::Session { by } => Observed::Is(self.session.insert(dictionary.session(by)).is_resumed()),
            Op::Ephemeral { change, .. } => {
                let change = to_change(change);
                self.session.as_mut().map_or(Observed::Nothing, |session| updated(session.update_ephemeral(change)))
            }
            Op::EndSession { .. } => {
                self.session.take().map_or(Observed::Nothing, |session| Observed::SessionEnd(ended(session.end())))
            }
            Op::DropSession { .. } => {
                self.session = None;
                Observed::Done
            }
            Op::LeaveSession { grace, .. } => self.session.take().map_or(Observed::Nothing, |session| {
                session.leave(Duration::from_nanos(grace));
                Observed::Done
            }),
            Op::Expire => {
                let expiry = dictionary.expire();
                let sessions = expiry.sessions.into_iter().map(|(token, end)| (token, ended(end)));
                Observed::Expired(sorted(expiry.locks), sessions.collect())
            }
            Op::FlushLocks => locks_flushed(locks.lock().unwrap().try_flush()),
            Op::Connect { lost } => {
                let position = self.position.filter(|_| !lost).or_else(|| lost.then(|| self.lost_position()));
                let options = position.into_iter().fold(following(self.shared.clients), BufferOptions::resume);
                let buffer = self.connection.insert(dictionary.change_buffer_with(options));
                Observed::Position(buffer.position().revision.get())
            }
            Op::FlushConnection => self.connection.as_ref().map_or(Observed::Nothing, |buffer| {
                let flushed = buffer.try_flush();
                let position = self.position.insert(buffer.position()).revision.get();
                let ended = matches!(flushed, Err(FlushError::Ended));
                Observed::Looked(Looked { delivery: flushed.ok().map(|it| delivered(&it)), ended, position })
            }),
            Op::Position { buffer } => Observed::Position(self.shared.buffers[buffer].position().revision.get()),
            Op::FlushCommits => commits_flushed(&mut self.shared.commits.lock().unwrap()),
            Op::CommitsAfter => {
                let Position { store, revision } = dictionary.position();
                let after = Position { store, revision: revision.min(self.last_revision.into()) };
                commits_flushed(&mut dictionary.commit_feed_after(after))
            }
            op => unreachable!("not an operation of its own: {op}"),
        }
    }

    /// Of another dictionary, or in the future.
    fn lost_position(&self) -> Position {
        let Position { store, revision } = self.shared.dictionary.position();
        if self.last_revision.is_multiple_of(2) {
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

fn updated(answer: Result<Revision, UpdateError<Key, Value, Token>>) -> Observed {
    match answer {
        Ok(revision) => Observed::Revision(revision.get()),
        Err(UpdateError::Frozen { .. }) => Observed::Frozen,
        Err(UpdateError::Locked { conflicts, .. }) => Observed::LockedByOthers(holders(&conflicts)),
        Err(UpdateError::ConditionFailed { failed, .. }) => {
            let failed = failed.into_iter().map(|failed| {
                let expected = match failed.expected {
                    Condition::Absent => If::Absent,
                    Condition::Present => If::Present,
                    Condition::At(revision) => If::At(revision.get()),
                };
                (failed.key, expected, failed.found.map(Revision::get))
            });
            let mut failed: Vec<_> = failed.collect();
            failed.sort_by_key(|(key, ..)| *key);
            Observed::ConditionFailed(failed)
        }
        Err(UpdateError::ContentHeld { .. }) => Observed::ContentHeld,
        Err(UpdateError::HeldByThisThread { .. }) => Observed::HeldByThisThread,
        Err(UpdateError::RetriesExhausted { attempts, .. }) => Observed::Exhausted(attempts),
        Err(other) => panic!("{other:?}"),
    }
}

fn locked(answer: &Result<LockReceipt<Key>, LockError<Key, Token>>) -> Observed {
    match answer {
        Ok(granted) => Observed::Locked(receipt(granted)),
        Err(LockError::Frozen { receipt: of, .. }) => Observed::LocksFrozen(receipt(of)),
        Err(LockError::Locked { receipt: of, conflicts, .. }) => Observed::LocksLocked(receipt(of), holders(conflicts)),
        Err(LockError::ZeroLease { key, .. }) => Observed::ZeroLease(*key),
        Err(other) => panic!("{other:?}"),
    }
}

fn receipt(receipt: &LockReceipt<Key>) -> Receipt {
    Receipt {
        granted: sorted(receipt.granted.iter().map(|(key, token)| (*key, token.get()))),
        renewed: sorted(receipt.renewed.iter().map(|(key, token)| (*key, token.get()))),
        released: sorted(receipt.released.iter().copied()),
        not_held: sorted(receipt.not_held.iter().copied()),
        expired: sorted(receipt.expired.iter().copied()),
    }
}

fn holders(conflicts: &[Conflict<Key, Token>]) -> Vec<(Key, Token)> {
    sorted(conflicts.iter().map(|conflict| (conflict.key, conflict.holder)))
}

fn flushed(answer: Result<state_dictionary::Delivery<Key, Value, S>, FlushError>) -> Observed {
    match answer {
        Ok(delivery) => Observed::Delivered(delivered(&delivery)),
        Err(FlushError::NothingPending) => Observed::NothingPending,
        Err(FlushError::Ended) => Observed::Ended,
        Err(other) => panic!("{other:?}"),
    }
}

fn delivered(delivery: &state_dictionary::Delivery<Key, Value, S>) -> Delivery {
    let in_order = |updates: Updates<'_, Key, Value>| updates.map(|(key, entry)| (*key, **entry)).collect::<Vec<_>>();
    let all = in_order(delivery.updates());
    for done in 0..=all.len() {
        let mut updates = delivery.updates();
        updates.by_ref().take(done).for_each(drop);
        assert_eq!(in_order(updates.clone()), all[done..], "a clone in the middle gives the rest");
        assert_eq!(in_order(updates), all[done..], "what was cloned in the middle gives the rest");
    }
    Delivery {
        fresh: delivery.is_fresh_start(),
        from: delivery.from().get(),
        to: delivery.to().get(),
        updates: entries(delivery.updates()),
        removals: sorted(delivery.removals().copied()),
    }
}

fn ended(end: state_dictionary::SessionEnd<Key, Token>) -> SessionEnd {
    let left = end.left.into_iter().map(|(key, left)| match left {
        state_dictionary::Left::Locked { holder, .. } => (key, Left::Locked(holder)),
        state_dictionary::Left::Frozen => (key, Left::Frozen),
        state_dictionary::Left::PutOff => (key, Left::PutOff),
        other => panic!("{other:?}"),
    });
    let (released, removed) = (sorted(end.released), sorted(end.removed));
    SessionEnd { revision: end.revision.get(), released, removed, left: sorted(left) }
}

fn commits_flushed(feed: &mut Feed) -> Observed {
    let after = feed.position().revision.get();
    let flushed = feed.try_flush();
    let ended = matches!(flushed, Err(FlushError::Ended));
    let (missed, commits) = match flushed {
        Ok(CommitDelivery { fresh_start, missed, commits, .. }) => {
            assert!(!fresh_start, "the feed was to begin where it can");
            (missed, commits)
        }
        Err(_) => (None, Vec::new()),
    };
    let commits = commits.into_iter().map(|commit| Commit {
        revision: commit.revision.get(),
        token: commit.token,
        change: commit.change.operations().map(|(key, value)| (*key, value.map(|value| **value))).collect(),
    });
    Observed::Commits(Commits {
        after,
        to: feed.position().revision.get(),
        missed: missed.map(|(after, to)| (after.get(), to.get())),
        commits: commits.collect(),
        ended,
    })
}

fn locks_flushed(answer: Result<LockDelivery<Key, Token>, FlushError>) -> Observed {
    match answer {
        Ok(LockDelivery::Everything { revision, locks, .. }) => {
            let locks = locks.into_iter().map(|(key, lock)| (key, lock.holder, lock.fencing_token.get()));
            Observed::EveryLock(revision.get(), sorted(locks))
        }
        Ok(LockDelivery::Events(events)) => {
            let told = |event: LockEvent<Key, Token>| {
                let kind = match event.kind {
                    LockEventKind::Granted => Kind::Granted,
                    LockEventKind::Released => Kind::Released,
                    LockEventKind::Expired => Kind::Expired,
                    LockEventKind::Cleared => Kind::Cleared,
                    other => panic!("{other:?}"),
                };
                let (key, holder, token) = (event.key, event.holder, event.fencing_token.get());
                Event {
                    version: event.version,
                    revision: event.revision.get(),
                    told: Told { kind, key, holder, token },
                }
            };
            Observed::LockEvents(events.into_iter().map(told).collect())
        }
        Err(FlushError::NothingPending) => Observed::NothingPending,
        Err(FlushError::Ended) => Observed::Ended,
        Err(other) => panic!("{other:?}"),
    }
}

fn whole(content: &Snapshot<Key, Value, S>) -> Observed {
    Observed::Content(content.revision().get(), entries(content.entries()))
}

fn entries<'a>(entries: impl Iterator<Item = (&'a Key, &'a Entry<Value>)>) -> Vec<(Key, Value, u64)> {
    sorted(entries.map(|(key, entry)| (*key, **entry, entry.revision().get())))
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}
