//! What one client has asked for, until it is answered.
//!
//! A write is answered when it is in the log, which takes its time. So the connection reads on meanwhile, and the client's
//! writes follow each other into the log without waiting for each other, in the order in which they came. There are two
//! exceptions. What is judged by the cards and locks waits until the board has what the client did to these before: it is
//! judged by that. And moves of the same cards that wait become one, together with the cursor's moves between them, so a drag
//! never lags by more than two such writes.

use crate::connection::{End, Received};
use crate::feed::{Key, Session};
use crate::protocol::{Code, Reply, Request};
use crate::room::Room;
use crate::rules::{self, Objection, Parts};
use axum::extract::ws::Utf8Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::poll;
use futures_util::stream::{FuturesOrdered, StreamExt};
use serde_json::Value;
use state_dictionary::{
    Conflict, FencingToken, JsonChange, LockError, LockReceipt, LockRequest, Refusal, Revision, UpdateError,
};
use state_dictionary_cluster::{Error, Failure};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Poll;

/// How many requests may be unanswered. The connection of a client that has more is not read.
const MANY: usize = 256;

/// Messages to be sent, or why the connection ends.
type Answers = Result<Vec<Utf8Bytes>, End>;

pub(crate) struct Work<'a> {
    room: &'a Room,
    session: &'a Session,
    waiting: VecDeque<Received>,
    running: FuturesOrdered<BoxFuture<'a, Answers>>,
    /// What waits has to be judged by what the running requests do, so nothing begins before they are done.
    is_held: bool,
}

/// What a client gets.
enum Given {
    /// No answer except the effect.
    Nothing,
    Done(Revision),
    Granted(Vec<Key>, HashMap<Key, FencingToken>),
}

/// Why a client does not get what it asks for.
enum Denied {
    NotAllowed(String),
    Conflict(String),
    /// By others.
    Locked(Vec<Conflict<Key, Key>>),
    /// The log does not take it, or has not answered.
    Unavailable(String),
    Closing,
    /// Another connection has the session.
    TakenOver,
}

impl<'a> Work<'a> {
    pub(crate) fn new(room: &'a Room, session: &'a Session) -> Self {
        Self { room, session, waiting: VecDeque::new(), running: FuturesOrdered::new(), is_held: false }
    }

    /// Whether no more should be added for now.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() + self.running.len() >= MANY
    }

    pub(crate) fn add(&mut self, received: Received) {
        self.waiting.push_back(received);
    }

    /// The next answers, in the order of the requests; `None` if there is nothing to answer. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Answers> {
        self.begin().await;
        let answers = self.running.next().await?;
        if self.running.is_empty() {
            self.is_held = false;
        }
        Some(answers)
    }

    /// Begins what can begin. Never waits.
    async fn begin(&mut self) {
        while !self.is_held
            && let Some(received) = self.waiting.pop_front()
        {
            let (mut work, holds) = match received {
                Received::Request(seq, request) => self.work(seq, request),
                Received::Wrong(code, message, expected) => {
                    let error = Reply::Error { code, message, seq: None, expected };
                    (ready(Ok(vec![error.text()])).boxed(), false)
                }
            };
            // An operation takes its place among the others when it is polled first.
            match poll!(&mut work) {
                Poll::Ready(answers) => {
                    self.is_held = matches!(answers, Err(End::Bye));
                    self.running.push_back(ready(answers).boxed());
                }
                Poll::Pending => {
                    self.is_held = holds;
                    self.running.push_back(work);
                }
            }
        }
    }

    /// What is to be done, and whether what comes later has to wait for it.
    fn work(&mut self, seq: u64, request: Request) -> (BoxFuture<'a, Answers>, bool) {
        let (room, session) = (self.room, self.session);
        match request {
            Request::Hello { .. } => denied(seq, Denied::NotAllowed("there was a hello already".to_owned())),
            Request::Bye => (ready(Err(End::Bye)).boxed(), true),
            Request::Update { change } => self.update(seq, change),
            Request::Lock { keys } => match rules::may_lock(&keys, room.board()) {
                Ok(()) => (answered(vec![seq], lock(room, session, keys)), true),
                Err(why) => denied(seq, Denied::NotAllowed(why)),
            },
            Request::Renew { keys } => (answered(vec![seq], renew(room, session, keys)), true),
            Request::Unlock { keys } => (answered(vec![seq], unlock(session, keys)), true),
        }
    }

    fn update(&mut self, seq: u64, change: JsonChange) -> (BoxFuture<'a, Answers>, bool) {
        let (board, session) = (self.room.board(), self.session);
        let moved = moved(&change);
        let mut parts = match rules::judge(session.token(), change, board) {
            Ok(parts) => parts,
            Err(Objection::NotAllowed(why)) => return denied(seq, Denied::NotAllowed(why)),
            Err(Objection::Conflict(why)) => return denied(seq, Denied::Conflict(why)),
        };
        if parts.shared.is_empty() {
            return (answered(vec![seq], write_own(session, parts.own)), false);
        }
        let (mut seqs, mut apart) = (vec![seq], JsonChange::new());
        while let Some(Received::Request(seq, Request::Update { change: later })) = self.waiting.front()
            && moved.is_some()
            && let is_move = self::moved(later) == moved
            && (is_move || is_own(later))
            && let Ok(later) = rules::judge(session.token(), later.clone(), board)
        {
            parts.own = followed_by(parts.own, &later.own);
            if is_move {
                seqs.push(*seq);
                parts.shared = later.shared;
            } else {
                apart = followed_by(apart, &later.own);
            }
            self.waiting.pop_front();
        }
        (answered(seqs, write(session, parts, apart)), true)
    }
}

/// The cards and titles that the change sets, if that is all it does to them: it has no conditions and removes nothing.
fn moved(change: &JsonChange) -> Option<BTreeSet<Key>> {
    let is_plain = change.conditions().len() == 0 && change.operations().all(|(_, value)| value.is_some());
    let shared = change.operations().filter(|(key, _)| rules::is_shared(key));
    let shared: BTreeSet<Key> = shared.map(|(key, _)| Key::clone(key)).collect();
    (is_plain && !shared.is_empty()).then_some(shared)
}

/// Whether the change is unconditional and only of the client's own keys.
fn is_own(change: &JsonChange) -> bool {
    change.conditions().len() == 0 && !change.operations().any(|(key, _)| rules::is_shared(key))
}

fn followed_by(change: JsonChange, later: &JsonChange) -> JsonChange {
    later.operations().fold(change, |change, (key, value)| match value {
        Some(value) => change.set_arc(Key::clone(key), Arc::clone(value)),
        None => change.remove(Key::clone(key)),
    })
}

fn denied<'a>(seq: u64, why: Denied) -> (BoxFuture<'a, Answers>, bool) {
    (ready(answers(&[seq], Err(why))).boxed(), false)
}

fn answered<'a>(
    seqs: Vec<u64>,
    work: impl Future<Output = Result<Given, Denied>> + Send + 'a,
) -> BoxFuture<'a, Answers> {
    async move { answers(&seqs, work.await) }.boxed()
}

/// What is sent for the requests with these numbers.
fn answers(seqs: &[u64], result: Result<Given, Denied>) -> Answers {
    let (code, message) = match result {
        Ok(Given::Nothing) => return Ok(Vec::new()),
        Ok(Given::Done(revision)) => return Ok(texts(seqs, |seq| Reply::Done { seq, revision })),
        Ok(Given::Granted(keys, tokens)) => {
            return Ok(texts(seqs, |seq| Reply::Granted { seq, keys: &keys, tokens: tokens.clone() }));
        }
        Err(Denied::Locked(locked)) => return Ok(texts(seqs, |seq| Reply::Refused { seq, locked: locked.clone() })),
        Err(Denied::Closing) => return Err(End::Closing),
        Err(Denied::TakenOver) => return Err(End::TakenOver),
        Err(Denied::NotAllowed(why)) => (Code::NotAllowed, why),
        Err(Denied::Conflict(why)) => (Code::Conflict, why),
        Err(Denied::Unavailable(why)) => (Code::Unavailable, why),
    };
    Ok(texts(seqs, |seq| Reply::Error { code, message: message.clone(), seq: Some(seq), expected: seq + 1 }))
}

fn texts<'a>(seqs: &[u64], reply: impl Fn(u64) -> Reply<'a>) -> Vec<Utf8Bytes> {
    seqs.iter().map(|seq| reply(*seq).text()).collect()
}

/// Cards stay when the session ends, and its user and cursor do not. The second commit can fail only together with the log,
/// for nobody else locks or writes what is the client's own. `apart` is the part of that which does not depend on the first.
async fn write(session: &Session, Parts { shared, own }: Parts, apart: JsonChange) -> Result<Given, Denied> {
    match session.update_state(shared).await {
        Ok(revision) => write_own(session, own).await.map(|_| Given::Done(revision)),
        Err(error) => write_own(session, apart).await.and(Err(error.into())),
    }
}

async fn write_own(session: &Session, own: JsonChange) -> Result<Given, Denied> {
    if !own.is_empty() {
        session.update_ephemeral(own).await?;
    }
    Ok(Given::Nothing)
}

async fn acquire(room: &Room, session: &Session, keys: &[Key]) -> Result<LockReceipt<Key>, Denied> {
    let lease = room.options.lease;
    let request = keys.iter().fold(LockRequest::new(), |request, key| request.acquire(Key::clone(key), lease));
    Ok(session.update_locks(request).await?)
}

async fn lock(room: &Room, session: &Session, keys: Vec<Key>) -> Result<Given, Denied> {
    let receipt = acquire(room, session, &keys).await?;
    Ok(Given::Granted(keys, receipt.granted.into_iter().chain(receipt.renewed).collect()))
}

/// A new lease for locks that the session still owns. One that has run out is not acquired again: others may have moved the
/// card since.
async fn renew(room: &Room, session: &Session, keys: Vec<Key>) -> Result<Given, Denied> {
    if keys.is_empty() {
        return Ok(Given::Granted(keys, HashMap::new()));
    }
    let lost = |key: &&Key| room.board().lock_info(*key).is_none_or(|lock| lock.owner != *session.token());
    if let Some(key) = keys.iter().find(lost) {
        return Err(Denied::Conflict(format!("the lock of {key:?} is not yours any more")));
    }
    let receipt = acquire(room, session, &keys).await?;
    if let Some((key, _)) = receipt.granted.first() {
        let why = format!("the lock of {key:?} has just run out");
        unlock(session, receipt.granted.into_iter().map(|(key, _)| key)).await?;
        return Err(Denied::Conflict(why));
    }
    Ok(Given::Granted(keys, receipt.renewed.into_iter().collect()))
}

async fn unlock(session: &Session, keys: impl IntoIterator<Item = Key>) -> Result<Given, Denied> {
    let request = keys.into_iter().fold(LockRequest::new(), LockRequest::release);
    match session.update_locks(request).await {
        // There was nothing to acquire.
        Ok(_) | Err(Error::Refused(_)) => Ok(Given::Nothing),
        Err(Error::Failed(failure)) => Err(failure.into()),
    }
}

impl From<Failure> for Denied {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TakenOver => Self::TakenOver,
            Failure::Stopped(_) => Self::Closing,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<Error<UpdateError<Key, Value, Key>>> for Denied {
    fn from(error: Error<UpdateError<Key, Value, Key>>) -> Self {
        match error {
            Error::Failed(failure) => failure.into(),
            Error::Refused(refused) => match refused.reason {
                Refusal::Locked { conflicts } => Self::Locked(conflicts),
                Refusal::ConditionFailed { .. } => Self::Conflict(refused.to_string()),
                Refusal::Frozen => Self::Closing,
                _ => Self::NotAllowed(refused.to_string()),
            },
        }
    }
}

impl From<Error<LockError<Key, Key>>> for Denied {
    fn from(error: Error<LockError<Key, Key>>) -> Self {
        match error {
            Error::Failed(failure) => failure.into(),
            Error::Refused(LockError::Locked { conflicts, .. }) => Self::Locked(conflicts),
            Error::Refused(LockError::Frozen { .. }) => Self::Closing,
            Error::Refused(other) => Self::NotAllowed(other.to_string()),
        }
    }
}
