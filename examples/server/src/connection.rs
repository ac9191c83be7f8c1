//! One client's connection: the messages that it receives and sends.

use crate::protocol::{Code, Message, Request};
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message as Packet, Utf8Bytes, WebSocket};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A longer message is answered with an error.
const LONG: usize = 16 << 10;
/// A still longer one is not even read: it ends the connection, but not the session.
pub(crate) const TOO_LONG: usize = 256 << 10;
/// How long a client may be silent, or take to receive a message.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// How long the client may take to answer the closing message.
const FAREWELL: Duration = Duration::from_secs(1);

pub(crate) struct Connection {
    socket: WebSocket,
    /// The number that the next message must have.
    expected: u64,
    heard: Instant,
}

pub(crate) enum Received {
    /// With its number.
    Request(u64, Request),
    /// With the number that was expected.
    Wrong(Code, String, u64),
}

/// Why a connection ends.
pub(crate) enum End {
    /// The client sent `bye` or closed it.
    Bye,
    /// It was lost, or the client was silent for too long.
    Lost,
    /// The client sent a message that cannot be read.
    Unreadable,
    /// Another connection has resumed its session.
    TakenOver,
    /// The server is stopped, or its node of the board is.
    Closing,
}

impl Connection {
    pub(crate) fn new(socket: WebSocket) -> Self {
        Self { socket, expected: 1, heard: Instant::now() }
    }

    /// The next request, in order. A message that is no request does not count. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Result<Received, End> {
        loop {
            let packet = match self.socket.recv().await {
                Some(Ok(packet)) => packet,
                Some(Err(_)) => return Err(End::Unreadable),
                None => return Err(End::Lost),
            };
            self.heard = Instant::now();
            let expected = self.expected;
            return Ok(match packet {
                Packet::Text(text) if text.len() > LONG => {
                    Received::Wrong(Code::TooLarge, format!("longer than {LONG} bytes"), expected)
                }
                Packet::Text(text) => match Message::read(&text) {
                    Ok(Message { seq, request }) if seq == expected => {
                        self.expected += 1;
                        Received::Request(seq, request)
                    }
                    Ok(Message { seq, .. }) => {
                        Received::Wrong(Code::OutOfOrder, format!("the seq is {seq} and not {expected}"), expected)
                    }
                    Err(why) => Received::Wrong(Code::Malformed, why, expected),
                },
                Packet::Binary(_) => Received::Wrong(Code::Malformed, "messages are text".to_owned(), expected),
                Packet::Ping(_) | Packet::Pong(_) => continue,
                Packet::Close(_) => return Err(End::Lost),
            });
        }
    }

    /// Sends a ping, and ends the connection of a client that has been silent for too long.
    pub(crate) async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > PATIENCE {
            return Err(End::Lost);
        }
        self.packet(Packet::Ping(Bytes::new())).await
    }

    pub(crate) async fn send(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.packet(Packet::Text(text)).await
    }

    /// Returns when the system has taken all of it, so nothing is queued here for a client that does not read.
    async fn packet(&mut self, packet: Packet) -> Result<(), End> {
        match timeout(PATIENCE, self.socket.send(packet)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Lost),
        }
    }

    /// Sends the reason, and waits a moment for the client's answer.
    pub(crate) async fn close(mut self, end: &End) {
        let (code, reason) = match end {
            End::Bye => (1000, "goodbye"),
            End::Lost => return,
            End::Unreadable => (1009, "too long, or not to be read"),
            End::TakenOver => (4001, "the session goes on in another connection"),
            End::Closing => (1001, "the server is closing"),
        };
        let farewell = async {
            let frame = CloseFrame { code, reason: reason.into() };
            if self.socket.send(Packet::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}
