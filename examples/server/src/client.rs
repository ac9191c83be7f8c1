//! What a client is sent: the welcome, the board, and the answers.

use crate::connection::{Connection, End, PATIENCE, Received};
use crate::feed::{Key, Session, changes};
use crate::protocol::{Claim, Code, Reply, Request};
use crate::room::Room;
use crate::text;
use crate::work::Work;
use axum::extract::ws::{Utf8Bytes, WebSocket};
use serde_json::{Value, json};
use state_dictionary::{Follower, JsonChange, Message, Position};
use state_dictionary_cluster::{Error, Failure};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{interval, timeout};

/// How often a client is asked whether it is there.
const PING: Duration = Duration::from_secs(5);
/// How long it may take to finish what a client has asked for when its connection has ended.
const FINISH: Duration = Duration::from_secs(2);

/// Serves one client until one of the two has had enough.
pub(crate) async fn serve(socket: WebSocket, room: &Room) {
    let mut connection = Connection::new(socket);
    let greeted = tokio::select! {
        greeted = timeout(PATIENCE, hello(&mut connection, room)) => greeted.unwrap_or(Err(End::Lost)),
        () = room.closing() => Err(End::Closing),
    };
    let end = match greeted {
        Ok((session, position)) => {
            let mut client = Client { connection: &mut connection, room, session: &session, position };
            let end = client.stay().await;
            if matches!(end, End::Bye) {
                // If it fails, the session ends after the grace.
                let _ = session.end().await;
            }
            end
        }
        Err(end) => end,
    };
    connection.close(&end).await;
}

/// What every connection begins with. A hello that is refused can be repeated. The result is the client's session, which has
/// its user, and its position.
async fn hello(connection: &mut Connection, room: &Room) -> Result<(Session, Option<Position>), End> {
    loop {
        let (code, message, seq, expected) = match connection.receive().await? {
            Received::Request(seq, Request::Hello { name, session, position }) => {
                match name.as_ref().map_or(Ok(()), |name| text::check(name, text::NAME)) {
                    Ok(()) => match enter(room, session.as_ref(), name).await {
                        Ok(session) => return Ok((session, position)),
                        Err(Failure::TakenOver) => return Err(End::TakenOver),
                        Err(Failure::Stopped(_)) => return Err(End::Closing),
                        Err(other) => (Code::Unavailable, other.to_string(), Some(seq), seq + 1),
                    },
                    Err(why) => (Code::NotAllowed, format!("the name cannot be used: {why}"), Some(seq), seq + 1),
                }
            }
            Received::Request(seq, _) => (Code::NotAllowed, "a hello must come first".to_owned(), Some(seq), seq + 1),
            Received::Wrong(code, why, expected) => (code, why, None, expected),
        };
        connection.send(Reply::Error { code, message, seq, expected }.text()).await?;
    }
}

async fn enter(room: &Room, claim: Option<&Claim>, name: Option<String>) -> Result<Session, Failure> {
    let session = room.enter(claim).await?;
    let user = name.map_or_else(|| json!({}), |name| json!({ "name": name }));
    match session.update_ephemeral(JsonChange::new().set(format!("user.{}", session.token()), user)).await {
        // It has no conditions, and nobody else locks it.
        Ok(_) | Err(Error::Refused(_)) => Ok(session),
        Err(Error::Failed(failure)) => Err(failure),
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
    /// Serves the client for as long as it can, and then finishes what the client has asked for.
    async fn stay(&mut self) -> End {
        let (room, session) = (self.room, self.session);
        let mut work = Work::new(room, session);
        let end = tokio::select! {
            () = session.taken_over() => match room.node.stopped() {
                None => End::TakenOver,
                Some(_) => End::Closing,
            },
            () = room.closing() => End::Closing,
            Err(end) = self.follow(&mut work) => end,
        };
        // A connection that is lost cannot be written to.
        let is_heard = match end {
            End::Bye | End::TakenOver => return end,
            End::Lost | End::Unreadable => false,
            End::Closing => true,
        };
        timeout(FINISH, self.finish(&mut work, is_heard)).await.ok().flatten().unwrap_or(end)
    }

    /// Finishes what the client has asked for. `None` if nothing of that ends the connection.
    async fn finish(&mut self, work: &mut Work<'_>, is_heard: bool) -> Option<End> {
        while let Some(answers) = work.next().await {
            match answers {
                Ok(texts) if is_heard => self.send_all(texts).await.ok()?,
                Ok(_) => {}
                Err(end) => return Some(end),
            }
        }
        None
    }

    /// Follows the board, and does what the client asks.
    async fn follow(&mut self, work: &mut Work<'_>) -> Result<Infallible, End> {
        let id = Arc::clone(self.session.token());
        let session = Claim { secret: self.room.secret(&id), id };
        let lease_ms = self.room.options.lease.as_millis();
        let welcome = Reply::Welcome { session, resumed: self.session.is_resumed(), lease_ms };
        self.connection.send(welcome.text()).await?;
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
                received = self.connection.receive(), if !work.is_full() => work.add(received?),
                Some(answers) = work.next() => self.send_all(answers?).await?,
                _ = ping.tick() => self.connection.ping().await?,
            }
        }
    }

    /// Brings the client up to date with the board as it is now, from wherever the client is. The frames go on from there.
    ///
    /// The board has everything that the client has seen on another server: it has the session, which was opened later.
    async fn join(&mut self) -> Result<Follower<Key, Value, Utf8Bytes>, End> {
        let frames = &self.room.frames;
        let now = self.room.board().revision();
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
        let Ok(delivery) = self.room.board().lock_feed().try_flush() else { return Err(End::Closing) };
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

    async fn send_all(&mut self, texts: Vec<Utf8Bytes>) -> Result<(), End> {
        for text in texts {
            self.connection.send(text).await?;
        }
        Ok(())
    }
}
