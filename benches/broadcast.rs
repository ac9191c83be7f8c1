//! A server's clients: each writes five keys thirty times a second, and each follows everything, as text. What is measured is
//! the CPU time of following: with a buffer for each client, which is flushed and encoded by itself, and with one broadcast.
//!
//! The clients share one thread, which goes from frame to frame without a pause. `--seconds N` says for how long each line of
//! the table is measured, by default two seconds.

use benches::{Key, Options, duration};
use cpu_time::ThreadTime;
use state_dictionary::{Broadcast, BufferOptions, Change, ChangeBuffer, Delivery, Follower, Message, StateDictionary};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

type Value = [f64; 8];
type Room = StateDictionary<Key, Value, usize>;
/// What goes to a client: all have the same bytes.
type Text = Arc<str>;

const PARTS: usize = 5;
const FRAMES: u32 = 30;

fn main() {
    let Some(options) = Options::parse() else { return };
    let time = options.time(Duration::from_secs(2));
    println!("\nFollowing at {FRAMES} Hz, CPU time:\n");
    println!("| clients | | per message | of a core | share |");
    println!("|---|---|---|---|---|");
    for clients in [1, 10, 50, 200] {
        let buffers = per_message(clients, time, follow_by_buffers);
        let broadcast = per_message(clients, time, follow_by_broadcast);
        for (name, nanos) in [("a buffer each", buffers), ("one broadcast", broadcast)] {
            let messages = f64::from(FRAMES) * f64::from(clients);
            let (core, share) = (nanos * messages / 1e9, nanos / buffers);
            println!("| {clients} | {name} | {} | {core:.4} | {share:.3} |", duration(nanos));
        }
    }
}

fn encode(delivery: &Delivery<Key, Value>) -> Text {
    let mut text = String::new();
    for (key, entry) in delivery.updates() {
        let _ = write!(text, "{key:?}:{:?},", **entry);
    }
    for key in delivery.removals() {
        let _ = write!(text, "{key:?}:null,");
    }
    text.into()
}

fn follow_by_buffers(room: &Room, clients: u32) -> impl FnMut() + use<> {
    let buffers: Vec<ChangeBuffer<_, _>> = (0..clients).map(|_| room.change_buffer()).collect();
    move || {
        for buffer in &buffers {
            if let Ok(delivery) = buffer.try_flush() {
                black_box(encode(&delivery));
            }
        }
    }
}

fn follow_by_broadcast(room: &Room, clients: u32) -> impl FnMut() + use<> {
    let frames: Broadcast<_, _, Text> = room.broadcast(BufferOptions::new(), encode);
    let mut followers: Vec<Follower<_, _, _>> = (0..clients).map(|_| frames.join(None)).collect();
    move || {
        frames.publish();
        for follower in &mut followers {
            match follower.try_next() {
                Ok(Message::Frame(frame)) => drop(black_box(Arc::clone(frame.encoded()))),
                Ok(Message::CatchUp(delivery)) => drop(black_box(encode(&delivery))),
                Err(_) => {}
            }
        }
    }
}

/// In nanoseconds.
#[allow(clippy::cast_precision_loss)] // figures to be read
fn per_message<F: FnMut()>(clients: u32, time: Duration, follow: impl Fn(&Room, u32) -> F) -> f64 {
    let room = Room::new();
    let keys: Vec<[Key; PARTS]> =
        (0..clients).map(|client| std::array::from_fn(|part| format!("cursor.{client}.{part}").into())).collect();
    let write = |frame: u32| {
        for (client, keys) in keys.iter().enumerate() {
            let value = [f64::from(frame) / 7.0; 8];
            let change = keys.iter().fold(Change::new(), |change, key| change.set(Arc::clone(key), value));
            assert!(room.update_state(&client, change).is_ok());
        }
    };
    write(0);
    let mut follow = follow(&room, clients);
    follow();
    let (mut taken, mut frames) = (Duration::ZERO, 0);
    while frames < 2 || taken < time {
        frames += 1;
        write(frames);
        let begun = ThreadTime::now();
        follow();
        taken += begun.elapsed();
    }
    taken.as_nanos() as f64 / f64::from(frames) / f64::from(clients)
}
