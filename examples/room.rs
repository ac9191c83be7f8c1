//! A room server without the network: clients join, one is slow, one vanishes, one is back before the server has noticed that
//! it was gone. Cursors are ephemeral, the ball is locked with a lease, and each change is encoded once for all clients.
//!
//! ```text
//! cargo run --example room
//! ```
//!
//! A server has a timer that calls `tick`, and for each connection a task that awaits `taken_over`, requests and messages.
//! Here one thread does it all, and a clock that is moved by hand takes the place of time. `examples/server` has the network.

use state_dictionary::{
    Broadcast, BufferOptions, Change, ClientSession, Delivery, Follower, LockRequest, ManualClock, Message, Position,
    Session, Sessions, StateDictionary,
};
use std::error::Error;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(10);
const TAKEN_OVER: &str = "another connection has taken the session over";

type Name = Arc<str>;

struct Server {
    clock: ManualClock,
    room: StateDictionary<Name, i32, Name>,
    sessions: Sessions<Name, i32, Name>,
    frames: Broadcast<Name, i32, Arc<str>>,
}

struct Connection {
    session: ClientSession<Name, i32, Name>,
    follower: Follower<Name, i32, Arc<str>>,
}

/// The text that clients receive. `*` is the whole content: a client then discards what it has.
fn encode(delivery: &Delivery<Name, i32>) -> Arc<str> {
    let mut words: Vec<_> = delivery.updates().map(|(key, value)| format!("{key}={}", **value)).collect();
    words.extend(delivery.removals().map(|key| format!("-{key}")));
    words.sort();
    format!("{}{}", if delivery.is_full() { "* " } else { "" }, words.join(" ")).into()
}

impl Server {
    fn new() -> Self {
        let clock = ManualClock::new();
        let room = StateDictionary::builder().clock(&clock).build();
        Self { sessions: room.sessions(GRACE), frames: room.broadcast(BufferOptions::new(), encode), room, clock }
    }

    /// A client connects, with the position that it has seen, if it was here before. It was authenticated before this.
    fn connect(&self, name: &str, seen: Option<Position>) -> Connection {
        Connection { session: self.sessions.open(name.into()), follower: self.frames.join(seen) }
    }

    fn tick(&self) {
        self.clock.advance(Duration::from_millis(33));
        for (name, end) in self.room.expire().sessions {
            println!("{name} is gone, and so is {:?}.", end.removed);
        }
        self.frames.publish();
    }
}

impl Connection {
    fn move_cursor(&self, to: i32) -> Result<(), Box<dyn Error>> {
        let change = Change::new().set(format!("cursor.{}", self.session.token()), to);
        Ok(self.session.with(|session| session.update_ephemeral(change).map(drop)).ok_or(TAKEN_OVER)??)
    }

    /// Locks the ball, or renews the lease, and moves it.
    fn move_ball(&self, to: i32) -> Result<(), Box<dyn Error>> {
        let act = |session: &mut Session<Name, i32, Name>| {
            session.update_locks(LockRequest::new().acquire("ball", LEASE))?;
            Ok(session.update_state(Change::new().set("ball", to)).map(drop)?) // lasting
        };
        self.session.with(act).ok_or(TAKEN_OVER)?
    }

    /// All that has been published since the last call, to be sent. A slow connection calls this less often.
    fn messages(&mut self) -> Vec<Arc<str>> {
        let text = |message| match message {
            Message::Frame(frame) => Arc::clone(frame.encoded()), // the same text for all
            Message::CatchUp(delivery) => encode(&delivery),      // for this client only
        };
        iter::from_fn(|| self.follower.try_next().ok()).map(text).collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::new();
    let [mut ann, bob, mut slow] = ["ann", "bob", "slow"].map(|name| server.connect(name, None));
    ann.move_cursor(1)?;
    ann.move_ball(5)?;
    assert!(bob.move_ball(6).is_err_and(|error| error.to_string().contains("\"ball\" by \"ann\"")));
    server.tick();
    assert_eq!(ann.messages().concat(), "* ball=5 cursor.ann=1");

    let mut again = server.connect("ann", Some(ann.follower.position())); // the old connection still looks alive
    assert!(ann.move_cursor(9).is_err() && server.room.snapshot()["cursor.ann"] == 1);
    drop(ann); // noticed at last: no effect
    for number in 0..100 {
        bob.move_cursor(number)?;
        server.tick(); // 3.3 seconds in all, so that the lease ends
    }
    bob.move_ball(6)?;
    assert_eq!(again.messages().len(), 1); // so many frames are not kept: one catch-up
    drop(again); // without a goodbye
    server.clock.advance(GRACE);
    server.tick();
    assert_eq!(bob.session.end().map(|end| end.removed), Some(vec!["cursor.bob".into()])); // a goodbye
    server.tick();
    let caught_up = slow.messages();
    println!("The slow client receives {caught_up:?}.");
    assert_eq!(caught_up, ["* ball=6".into()]);
    Ok(())
}
