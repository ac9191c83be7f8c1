//! Sessions of virtual rooms, on this crate and on the origin's algorithm: users who each write three to seven keys 24 to 30
//! times a second, as one change, and who each follow everything at 30 Hz. Many users share few threads, as in a server.
//!
//! Two tables. The first: as much of a session as there is time for, frame by frame without a pause, and what it costs
//! in CPU time of the whole process, making the values included. On this crate once with a buffer for each user, and once with
//! one broadcast for all, which encodes nothing here: a frame is the values themselves. The second: how many users one thread can serve in real
//! time, until flushes run late. `--seconds N` says how long each try of the second takes, by default two seconds.
//!
//! `examples/session` is a session too, with locks and people who come and go; it checks what it delivers.

use benches::crew::pause;
use benches::peers::{self, Broadcasting, Origin, Ours};
use benches::{Feed, Key, Options, Store, Value};
use cpu_time::ProcessTime;
use fastrand::Rng;
use std::panic;
use std::sync::{Arc, Barrier};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// How many threads the users of the first table share.
const THREADS: usize = 2;
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);
/// In the second table, a session is late if more than one flush in a hundred begins more than a frame late.
const TOLERATED: f64 = 0.01;

fn main() {
    let Some(options) = Options::parse() else { return };
    peers::check();
    println!("\nCPU time of a session, {THREADS} threads:\n");
    println!("| users | | per delivered value | per second of the session | share of the origin's |");
    println!("|---|---|---|---|---|");
    for users in [8, 16, 32, 64, 128, 256] {
        let frames = if options.brief { 3 } else { (2_000_000 / (users * users)).clamp(60, 3_000) };
        let [ours, origin] = [cost::<Ours<Bytes>>(users, frames), cost::<Origin<Bytes>>(users, frames)];
        let broadcasting = cost::<Broadcasting<Bytes>>(users, frames);
        let share = |cost: &Cost| cost.per_second / origin.per_second;
        println!("| {users} | `{}` | {ours} | {:.2} |", Ours::<Bytes>::NAME, share(&ours));
        println!("| | `{}` | {broadcasting} | {:.3} |", Broadcasting::<Bytes>::NAME, share(&broadcasting));
        println!("| | `{}` | {origin} | |", Origin::<Bytes>::NAME);
    }
    let time = options.time(Duration::from_secs(2));
    println!("\nUsers whom one thread can serve at 30 Hz:\n");
    println!("| | users |\n|---|---|");
    println!("| `{}` | {} |", Ours::<Bytes>::NAME, capacity::<Ours<Bytes>>(time));
    println!("| `{}` | {} |", Broadcasting::<Bytes>::NAME, capacity::<Broadcasting<Bytes>>(time));
    println!("| `{}` | {} |", Origin::<Bytes>::NAME, capacity::<Origin<Bytes>>(time));
}

/// What is written under a key: so many bytes.
struct Bytes(Box<[u8]>);

impl Value for Bytes {
    const NAME: &'static str = "bytes";

    fn new(number: u64) -> Self {
        Self(vec![0; usize::try_from(number).unwrap_or_default()].into())
    }

    fn number(&self) -> u64 {
        self.0.len() as u64
    }
}

struct User<S: Feed<Bytes>> {
    store: S,
    buffer: S::Buffer,
    /// What it writes in each frame, with the sizes.
    keys: Vec<(Key, u64)>,
    /// Out of 30 frames, in how many it writes.
    rate: u32,
    rng: Rng,
    /// How many values it has been delivered, and bytes.
    delivered: (u64, u64),
}

impl<S: Feed<Bytes>> User<S> {
    fn join(store: &S, number: usize) -> Self {
        let mut rng = Rng::with_seed(number as u64);
        let kinds = [("avatar", 410), ("playarea", 120), ("update.index", 8)];
        let others = [
            ("cursor.not_removed", 175),
            ("cursor.right", 175),
            ("interaction.not_removed", 210),
            ("interaction.right", 210),
        ];
        let kinds = kinds.iter().chain(&others[..rng.usize(0..=others.len())]);
        let keys = kinds.map(|(kind, size)| (format!("{kind}.{number:08x}").into(), *size)).collect();
        let (store, buffer) = (store.clone(), store.buffer());
        Self { store, buffer, keys, rate: rng.u32(24..=30), rng, delivered: (0, 0) }
    }

    /// Writes, if it does in this frame, and sees what has changed.
    fn frame(&mut self) {
        if self.rng.u32(0..30) < self.rate {
            let pairs = self.keys.iter().map(|(key, size)| (Arc::clone(key), Arc::new(Bytes::new(*size))));
            self.store.commit(S::many_keys(pairs.collect()));
        }
        S::flush(&self.buffer, |value| {
            self.delivered.0 += 1;
            self.delivered.1 += value.number();
        });
    }
}

/// In nanoseconds of CPU time.
struct Cost {
    per_value: f64,
    per_second: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} | {}", benches::duration(self.per_value), benches::duration(self.per_second))
    }
}

/// Runs so many frames, all users once in each.
#[allow(clippy::cast_precision_loss)] // figures to be read
fn cost<S: Feed<Bytes>>(users: usize, frames: usize) -> Cost {
    let store = S::with(Vec::new());
    let mut users: Vec<_> = (0..users).map(|number| User::join(&store, number)).collect();
    users.iter_mut().for_each(User::frame);
    for user in &mut users {
        user.delivered = (0, 0);
    }
    let portion = users.len().div_ceil(THREADS);
    let together = &Barrier::new(THREADS);
    let start = ProcessTime::now();
    thread::scope(|scope| {
        let play = |portion: &mut [User<S>]| {
            for _ in 0..frames {
                let leads = together.wait().is_leader();
                if let Some(user) = portion.first().filter(|_| leads) {
                    user.store.publish();
                }
                portion.iter_mut().for_each(User::frame);
            }
        };
        let threads: Vec<_> = users.chunks_mut(portion).map(|portion| scope.spawn(move || play(portion))).collect();
        let ended: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
        for ended in ended {
            ended.unwrap_or_else(|panic| panic::resume_unwind(panic));
        }
    });
    let cpu = start.elapsed().as_nanos() as f64;
    let delivered: u64 = users.iter().map(|user| user.delivered.0).sum();
    assert!(delivered > 0 && users.iter().all(|user| user.delivered.1 > user.delivered.0), "everybody follows");
    Cost {
        per_value: cpu / delivered as f64,
        per_second: cpu / (FRAME * u32::try_from(frames).unwrap_or(1)).as_secs_f64(),
    }
}

/// The most users whom one thread serves in time: doubled until it is too many, then closed in on.
fn capacity<S: Feed<Bytes>>(time: Duration) -> usize {
    let (mut enough, mut too_many) = (0, 32);
    while too_many < 4_096 && is_in_time::<S>(too_many, time) {
        (enough, too_many) = (too_many, 2 * too_many);
    }
    while too_many - enough > (enough / 20).max(1) {
        let between = usize::midpoint(enough, too_many);
        let bound = if is_in_time::<S>(between, time) { &mut enough } else { &mut too_many };
        *bound = between;
    }
    enough
}

/// Serves so many users in real time, their frames spread evenly over the time of a frame.
#[allow(clippy::cast_precision_loss)] // a share
fn is_in_time<S: Feed<Bytes>>(count: usize, time: Duration) -> bool {
    let store = S::with(Vec::new());
    let mut users: Vec<_> = (0..count).map(|number| User::join(&store, number)).collect();
    users.iter_mut().for_each(User::frame);
    let step = FRAME / u32::try_from(count).unwrap_or(u32::MAX);
    let (mut due, end) = (Instant::now(), Instant::now() + time);
    let (mut served, mut late) = (0_u32, 0_u32);
    while due < end {
        store.publish();
        for user in &mut users {
            let now = Instant::now();
            if now < due {
                pause(due - now);
            }
            served += 1;
            late += u32::from(now > due + FRAME);
            user.frame();
            due += step;
        }
    }
    f64::from(late) <= f64::from(served) * TOLERATED
}
