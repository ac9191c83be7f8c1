//! What a client may ask for, and what it is told.

use crate::connection::{Connection, End, PATIENCE, Received};
use crate::feed::{Frame, Joined, Key, Session, changes};
use crate::protocol::{Claim, Code, Reply, Request};
use crate::room::{Room, Seat};
use crate::rules;
use axum::extract::ws::WebSocket;
use serde_json::json;
use state_dictionary::{Conflict, JsonChange, LockError, LockRequest, Position, UpdateError};
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
            let mut seat = room.enter(claim).await;
            let Seat { session, taken_over, .. } = &mut seat;
            let mut client = Client { connection: &mut connection, room, session, position };
            let end = tokio::select! {
                _ = taken_over => End::TakenOver,
                Err(end) = client.stay(name) => end,
            };
            room.leave(seat, !matches!(end, End::Bye)).await;
            end
        }
        Ok(Err(end)) => end,
        Err(_too_late) => End::Lost,
    };
    connection.close(&end).await;
}

/// What every connection begins with.
async fn hello(connection: &mut Connection) -> Result<(String, Option<Claim>, Option<Position>), End> {
    loop {
        let (code, why, seq) = match connection.receive().await? {
            Received::Request(_, Request::Hello { name, session, position }) if rules::is_name(&name) => {
                return Ok((name, session, position));
            }
            Received::Request(seq, _) => (Code::NotAllowed, "first comes a hello with a name".to_owned(), Some(seq)),
            Received::Wrong(code, why) => (code, why, None),
        };
        connection.error(code, why, seq).await?;
    }
}

struct Client<'a> {
    connection: &'a mut Connection,
    room: &'a Room,
    session: &'a mut Session,
    /// What the client's replica has.
    position: Option<Position>,
}

impl Client<'_> {
    /// Follows the board, and does what the client asks, for as long as it can.
    async fn stay(&mut self, name: String) -> Result<Infallible, End> {
        let id = Arc::clone(self.session.token());
        let session = Claim { secret: self.room.secret(&id), id };
        let lease_ms = self.room.options.lease.as_millis();
        let welcome = Reply::Welcome { session, resumed: self.session.is_resumed(), lease_ms };
        self.connection.send(welcome.text()).await?;
        let user = JsonChange::new().set(format!("user.{}", self.session.token()), json!({ "name": name }));
        if self.session.update_ephemeral_async(user).await.is_err() {
            return Err(End::Closing);
        }
        let mut frames = self.join().await?;
        let mut ping = interval(PING);
        loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Ok(frame) => self.send(frame).await?,
                    Err(RecvError::Lagged(_)) => {
                        // ORDERING: a figure to look at.
                        self.room.catch_ups.fetch_add(1, Ordering::Relaxed);
                        frames = self.join().await?;
                    }
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

    /// Brings the client up to date from wherever it is. The frames go on from there.
    async fn join(&mut self) -> Result<Receiver<Frame>, End> {
        let Joined { catch_up, locks, frames } = self.room.join(self.position).await.ok_or(End::Closing)?;
        if let Some(delivery) = catch_up {
            self.send(changes(&delivery)).await?;
        }
        if let Some(delivery) = locks {
            self.connection.send(Reply::Locks { delivery: &delivery }.text()).await?;
        }
        Ok(frames)
    }

    async fn send(&mut self, frame: Frame) -> Result<(), End> {
        self.connection.send(frame.text).await?;
        self.position = frame.position.or(self.position);
        Ok(())
    }

    async fn answer(&mut self, seq: u64, request: Request) -> Result<(), End> {
        let board = &self.room.board;
        let answer = match request {
            Request::Hello { .. } => Err(Refusal::NotAllowed("there was a hello already".to_owned())),
            Request::Bye => return Err(End::Bye),
            Request::Update { change } => match rules::may_write(self.session.token(), &change, board) {
                Ok(()) => self.update(change).await,
                Err(why) => Err(Refusal::NotAllowed(why)),
            },
            Request::Lock { keys } => match rules::may_lock(&keys, board) {
                Ok(()) => self.lock(seq, keys),
                Err(why) => Err(Refusal::NotAllowed(why)),
            },
            Request::Unlock { keys } => {
                let request = keys.into_iter().fold(LockRequest::new(), LockRequest::release);
                let _nothing_to_acquire = self.session.update_locks(request);
                Ok(None)
            }
        };
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(reply)) => self.connection.send(reply.text()).await,
            Err(Refusal::Locked(locked)) => self.connection.send(Reply::Refused { seq, locked }.text()).await,
            Err(Refusal::NotAllowed(why)) => self.connection.error(Code::NotAllowed, why, Some(seq)).await,
            Err(Refusal::Frozen) => Err(End::Closing),
        }
    }

    /// Nobody can create or remove a card, so what a session creates, and what goes with it, is its own user and cursor.
    async fn update(&mut self, change: JsonChange) -> Result<Option<Reply<'static>>, Refusal> {
        match self.session.update_ephemeral_async(change).await {
            Ok(_) => Ok(None),
            Err(UpdateError::Locked { conflicts, .. }) => Err(Refusal::Locked(conflicts)),
            Err(UpdateError::Frozen { .. }) => Err(Refusal::Frozen),
            Err(other) => Err(Refusal::NotAllowed(other.to_string())),
        }
    }

    fn lock(&mut self, seq: u64, keys: Vec<Key>) -> Result<Option<Reply<'static>>, Refusal> {
        let lease = self.room.options.lease;
        let request = keys.iter().cloned().fold(LockRequest::new(), |request, key| request.acquire(key, lease));
        match self.session.update_locks(request) {
            Ok(_) => Ok(Some(Reply::Granted { seq, keys })),
            Err(LockError::Locked { conflicts, .. }) => Err(Refusal::Locked(conflicts)),
            Err(_) => Err(Refusal::Frozen),
        }
    }
}

/// Why a client does not get what it asks for.
enum Refusal {
    NotAllowed(String),
    /// By others.
    Locked(Vec<Conflict<Key, Key>>),
    Frozen,
}
