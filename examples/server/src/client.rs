//! What a client may ask for, and what it is told.

use crate::connection::{Connection, End, PATIENCE, Received};
use crate::feed::{Key, Session, changes};
use crate::protocol::{Claim, Code, Reply, Request};
use crate::room::Room;
use crate::rules::{self, Objection, Parts};
use crate::text;
use axum::extract::ws::{Utf8Bytes, WebSocket};
use serde_json::{Value, json};
use state_dictionary::{
    Conflict, Follower, JsonChange, LockError, LockReceipt, LockRequest, Message, Position, Refusal, UpdateError,
};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{interval, timeout};

/// How often a client is asked whether it is there.
const PING: Duration = Duration::from_secs(5);

/// Serves one client until one of the two has had enough.
pub(crate) async fn serve(socket: WebSocket, room: &Room) {
    let mut connection = Connection::new(socket);
    let end = match timeout(PATIENCE, hello(&mut connection)).await {
        Ok(Ok((name, claim, position))) => {
            let session = room.enter(claim);
            let mut client = Client { connection: &mut connection, room, session: &session, position };
            let end = tokio::select! {
                () = session.taken_over() => End::TakenOver,
                Err(end) = client.stay(name) => end,
            };
            if matches!(end, End::Bye) {
                session.end_async().await;
            }
            end
        }
        Ok(Err(end)) => end,
        Err(_too_late) => End::Lost,
    };
    connection.close(&end).await;
}

/// What every connection begins with. A hello that is refused can be repeated.
async fn hello(connection: &mut Connection) -> Result<(Option<String>, Option<Claim>, Option<Position>), End> {
    loop {
        let (code, why, seq) = match connection.receive().await? {
            Received::Request(seq, Request::Hello { name, session, position }) => {
                match name.as_ref().map_or(Ok(()), |name| text::check(name, text::NAME)) {
                    Ok(()) => return Ok((name, session, position)),
                    Err(why) => (Code::NotAllowed, format!("the name cannot be used: {why}"), Some(seq)),
                }
            }
            Received::Request(seq, _) => (Code::NotAllowed, "a hello must come first".to_owned(), Some(seq)),
            Received::Wrong(code, why) => (code, why, None),
        };
        connection.error(code, why, seq).await?;
    }
}

struct Client<'a> {
    connection: &'a mut Connection,
    room: &'a Room,
    session: &'a Session,
    /// What the client's replica has.
    position: Option<Position>,
}

impl Client<'_> {
    /// Follows the board, and does what the client asks, for as long as it can.
    async fn stay(&mut self, name: Option<String>) -> Result<Infallible, End> {
        let id = Arc::clone(self.session.token());
        let session = Claim { secret: self.room.secret(&id), id };
        let lease_ms = self.room.options.lease.as_millis();
        let resumed = self.session.with(|session| session.is_resumed()).ok_or(End::TakenOver)?;
        let welcome = Reply::Welcome { session, resumed, lease_ms };
        self.connection.send(welcome.text()).await?;
        let user = name.map_or_else(|| json!({}), |name| json!({ "name": name }));
        let user = JsonChange::new().set(format!("user.{}", self.session.token()), user);
        self.session.update_ephemeral_async(user).await.ok_or(End::TakenOver)?.map_err(|_frozen| End::Closing)?;
        let mut follower = self.join().await?;
        let mut locks = self.join_locks().await?;
        let mut ping = interval(PING);
        loop {
            tokio::select! {
                message = follower.next_async() => {
                    let Ok(message) = message else { return Err(End::Closing) };
                    if matches!(message, Message::CatchUp(_)) {
                        // ORDERING: a figure to look at.
                        self.room.catch_ups.fetch_add(1, Ordering::Relaxed);
                    }
                    self.send(message).await?;
                }
                message = locks.recv() => match message {
                    Ok(text) => self.connection.send(text).await?,
                    Err(RecvError::Lagged(_)) => locks = self.join_locks().await?,
                    Err(RecvError::Closed) => return Err(End::Closing),
                },
                received = self.connection.receive() => match received? {
                    Received::Request(seq, request) => self.answer(seq, request).await?,
                    Received::Wrong(code, why) => self.connection.error(code, why, None).await?,
                },
                _ = ping.tick() => self.connection.ping().await?,
            }
        }
    }

    /// Brings the client up to date with the board as it is now, from wherever the client is. The frames go on from there.
    async fn join(&mut self) -> Result<Follower<Key, Value, Utf8Bytes>, End> {
        let Room { board, frames, .. } = self.room;
        let now = board.revision();
        frames.publish();
        let mut follower = frames.join(self.position);
        while let Ok(message) = follower.try_next() {
            self.send(message).await?;
            if follower.position().revision >= now {
                break;
            }
        }
        Ok(follower)
    }

    /// All locks. The messages that follow may begin with what the client knows then, as their versions tell.
    async fn join_locks(&mut self) -> Result<Receiver<Utf8Bytes>, End> {
        let messages = self.room.locks.subscribe();
        let Ok(delivery) = self.room.board.lock_feed().try_flush() else { return Err(End::Closing) };
        self.connection.send(Reply::Locks { delivery: &delivery }.text()).await?;
        Ok(messages)
    }

    async fn send(&mut self, message: Message<Key, Value, Utf8Bytes>) -> Result<(), End> {
        let text = match &message {
            Message::Frame(frame) => frame.encoded().clone(),
            Message::CatchUp(delivery) => changes(delivery),
        };
        self.connection.send(text).await?;
        self.position = Some(message.position());
        Ok(())
    }

    async fn answer(&mut self, seq: u64, request: Request) -> Result<(), End> {
        let board = &self.room.board;
        let answer = match request {
            Request::Hello { .. } => Err(Denied::NotAllowed("there was a hello already".to_owned())),
            Request::Bye => return Err(End::Bye),
            Request::Update { change } => match rules::judge(self.session.token(), change, board) {
                Ok(parts) => self.update(seq, parts).await,
                Err(Objection::NotAllowed(why)) => Err(Denied::NotAllowed(why)),
                Err(Objection::Conflict(why)) => Err(Denied::Conflict(why)),
            },
            Request::Lock { keys } => match rules::may_lock(&keys, board) {
                Ok(()) => self.lock(seq, &keys),
                Err(why) => Err(Denied::NotAllowed(why)),
            },
            Request::Renew { keys } => self.renew(seq, &keys),
            Request::Unlock { keys } => {
                self.release(keys);
                Ok(None)
            }
        };
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(text)) => self.connection.send(text).await,
            Err(Denied::Locked(locked)) => self.connection.send(Reply::Refused { seq, locked }.text()).await,
            Err(Denied::NotAllowed(why)) => self.connection.error(Code::NotAllowed, why, Some(seq)).await,
            Err(Denied::Conflict(why)) => self.connection.error(Code::Conflict, why, Some(seq)).await,
            Err(Denied::Frozen) => Err(End::Closing),
            Err(Denied::TakenOver) => Err(End::TakenOver),
        }
    }

    /// Cards stay when the session ends, and its user and cursor do not. The second commit can fail only with the board's
    /// end, for nobody else locks or writes what is the client's own.
    async fn update(&mut self, seq: u64, Parts { shared, own }: Parts) -> Result<Option<Utf8Bytes>, Denied> {
        let mut done = None;
        if !shared.is_empty() {
            let revision = self.session.update_state_async(shared).await.ok_or(Denied::TakenOver)??;
            done = Some(Reply::Done { seq, revision }.text());
        }
        if !own.is_empty() {
            self.session.update_ephemeral_async(own).await.ok_or(Denied::TakenOver)??;
        }
        Ok(done)
    }

    fn lock(&mut self, seq: u64, keys: &[Key]) -> Result<Option<Utf8Bytes>, Denied> {
        let lease = self.room.options.lease;
        let request = keys.iter().fold(LockRequest::new(), |request, key| request.acquire(Key::clone(key), lease));
        let receipt = self.update_locks(request)?;
        let tokens = receipt.granted.into_iter().chain(receipt.renewed).collect();
        Ok(Some(Reply::Granted { seq, keys, tokens }.text()))
    }

    /// A new lease for locks that the session still owns. One that has run out is not acquired again: others may have moved
    /// the card since.
    fn renew(&mut self, seq: u64, keys: &[Key]) -> Result<Option<Utf8Bytes>, Denied> {
        let id = self.session.token();
        let lost = |key: &&Key| self.room.board.lock_info(*key).is_none_or(|lock| lock.owner != *id);
        if let Some(key) = keys.iter().find(lost) {
            return Err(Denied::Conflict(format!("the lock of {key:?} is not yours any more")));
        }
        let request = keys
            .iter()
            .fold(LockRequest::new(), |request, key| request.acquire(Key::clone(key), self.room.options.lease));
        let receipt = self.update_locks(request)?;
        if let Some((key, _)) = receipt.granted.first() {
            let why = format!("the lock of {key:?} has just run out");
            self.release(receipt.granted.into_iter().map(|(key, _)| key));
            return Err(Denied::Conflict(why));
        }
        Ok(Some(Reply::Granted { seq, keys, tokens: receipt.renewed.into_iter().collect() }.text()))
    }

    fn update_locks(&self, request: LockRequest<Key>) -> Result<LockReceipt<Key>, Denied> {
        Ok(self.session.with(|session| session.update_locks(request)).ok_or(Denied::TakenOver)??)
    }

    fn release(&mut self, keys: impl IntoIterator<Item = Key>) {
        let request = keys.into_iter().fold(LockRequest::new(), LockRequest::release);
        let _nothing_to_acquire = self.update_locks(request);
    }
}

/// Why a client does not get what it asks for.
enum Denied {
    NotAllowed(String),
    Conflict(String),
    /// By others.
    Locked(Vec<Conflict<Key, Key>>),
    Frozen,
    /// Another connection has the session.
    TakenOver,
}

impl From<UpdateError<Key, Value, Key>> for Denied {
    fn from(error: UpdateError<Key, Value, Key>) -> Self {
        match error {
            UpdateError { reason: Refusal::Locked { conflicts }, .. } => Self::Locked(conflicts),
            UpdateError { reason: Refusal::ConditionFailed { .. }, .. } => Self::Conflict(error.to_string()),
            UpdateError { reason: Refusal::Frozen, .. } => Self::Frozen,
            other => Self::NotAllowed(other.to_string()),
        }
    }
}

impl From<LockError<Key, Key>> for Denied {
    fn from(error: LockError<Key, Key>) -> Self {
        match error {
            LockError::Locked { conflicts, .. } => Self::Locked(conflicts),
            LockError::Frozen { .. } => Self::Frozen,
            other => Self::NotAllowed(other.to_string()),
        }
    }
}
