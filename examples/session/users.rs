//! A live session: users who do what real ones do.

use crate::crew::{self, Job, Outcome, Part};
use crate::replica::{Flushes, Replica};
use crate::writer::{Answer, Writer};
use crate::{Dictionary, FRAME, Key, Value, values};
use fastrand::Rng;
use state_dictionary::{Change, LockRequest, StateDictionary};
use std::sync::Arc;
use std::time::Duration;

/// How many users are there; each counts itself in and out.
pub(crate) const PRESENT: &str = "session.users";

/// For how long a lock is taken. It is renewed three times as often.
const LEASE: Duration = Duration::from_secs(1);
const RENEW_EVERY: u32 = 10;

/// Runs a session of so many users for so long, and leaves the dictionary frozen.
pub(crate) fn session(users: usize, length: Duration, seed: u64) -> Result<(Dictionary, Outcome), String> {
    let mut rng = Rng::with_seed(seed);
    let objects: Vec<Key> = (0..users.div_ceil(4)).map(|object| format!("object.{object}").into()).collect();
    let dictionary: Dictionary = StateDictionary::builder().build();
    let mut host = Writer::new(&dictionary);
    let furniture = objects.iter().fold(Change::new().set(PRESENT, Value::new(0)), |change, object| {
        change.set(Arc::clone(object), Value::new(values::placement(&mut rng)))
    });
    host.commit(&"host".into(), &furniture);
    let furnished = Part { written: Some((host.tally, host.ledger)), followed: None };

    let jobs = (0..users).map(|place| {
        let (rng, dictionary, objects) = (rng.fork(), &dictionary, &objects);
        Job {
            name: format!("user {place}"),
            awaited: true,
            run: Box::new(move || take_part(dictionary, objects, place, rng)),
        }
    });
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bar = crew::progress_bar(millis(length));
    let mut outcome = crew::run(&dictionary, jobs.collect(), Some(length), &bar, millis)?;
    outcome.parts.push(furnished);
    Ok((dictionary, outcome))
}

/// One user after the other, in one place, until the session is over.
///
/// What a user sees also sets the pace: each delivery is a frame, and in each frame the user writes.
fn take_part(dictionary: &Dictionary, objects: &[Key], place: usize, mut rng: Rng) -> Part {
    let mut writer = Writer::new(dictionary);
    let mut flushes = Flushes::new();
    for visit in 0.. {
        let buffer = dictionary.change_buffer();
        let mut replica = Replica::default();
        let mut user = User::join(&mut writer, &mut rng, objects, place, visit);
        let name = format!("user {place}, {}", user.id);
        flushes.pause();
        let mut has_left = false;
        for delivery in buffer.subscribe(FRAME) {
            flushes.apply(&delivery, &mut replica);
            // A visit takes 20 seconds on average.
            if user.happens_once_in(600) && user.leave() == Answer::Done {
                has_left = true;
                break;
            }
            user.frame();
        }
        if !has_left {
            return Part { written: Some((writer.tally, writer.ledger)), followed: Some((name, replica, flushes)) };
        }
    }
    Part::default()
}

/// A shared object that a user moves about, under its lock.
struct Drag {
    object: Key,
    /// How many frames it still takes.
    frames: u32,
}

struct User<'u, 'd> {
    writer: &'u mut Writer<'d>,
    rng: &'u mut Rng,
    objects: &'u [Key],
    id: Key,
    avatar: Key,
    play_area: Key,
    update_index: Key,
    cursors: [Key; 2],
    /// Out of 30 frames, in how many it writes: real ones write 24 to 30 times a second.
    rate: u32,
    index: u64,
    shows_hands: bool,
    interaction: Option<Key>,
    drag: Option<Drag>,
}

impl<'u, 'd> User<'u, 'd> {
    fn join(writer: &'u mut Writer<'d>, rng: &'u mut Rng, objects: &'u [Key], place: usize, visit: usize) -> Self {
        let id: Key = format!(
            "{:08x}-{place:04x}-{:04x}-{:04x}-{:012x}",
            rng.u32(..),
            visit & 0xffff,
            visit >> 16 & 0xffff,
            rng.u64(..1 << 48)
        )
        .into();
        let user = Self {
            avatar: format!("avatar.{id}").into(),
            play_area: format!("playarea.{id}").into(),
            update_index: format!("update.index.{id}").into(),
            cursors: ["left", "right"].map(|hand| format!("cursor.{id}.{hand}").into()),
            rate: rng.u32(24..=30),
            index: 0,
            shows_hands: rng.bool(),
            interaction: None,
            drag: None,
            writer,
            rng,
            objects,
            id,
        };
        let avatar = Arc::new(Value::new(values::avatar(user.rng, &user.id, "somebody")));
        let answer = user.writer.commit_with(&user.id, |content| {
            let present = content.get(PRESENT).and_then(|count| count.data.as_u64()).unwrap_or(0);
            Change::new()
                .set_arc(Arc::clone(&user.avatar), Arc::clone(&avatar))
                .set(PRESENT, Value::new(present + 1))
                .if_absent(Arc::clone(&user.avatar))
        });
        user.writer.tally.joined += u64::from(answer == Answer::Done);
        user
    }

    /// With its locks and its keys.
    fn leave(&mut self) -> Answer {
        self.writer.release_all(&self.id);
        let own = [&self.avatar, &self.play_area, &self.update_index, &self.cursors[0], &self.cursors[1]];
        let own: Vec<_> = own.into_iter().chain(&self.interaction).collect();
        let gone = own.iter().fold(Change::new(), |change, key| change.remove(Arc::clone(key)));
        let answer = self.writer.commit_with(&self.id, |content| {
            let present = content.get(PRESENT).and_then(|count| count.data.as_u64()).unwrap_or(0);
            gone.clone().set(PRESENT, Value::new(present.saturating_sub(1)))
        });
        if answer == Answer::Done {
            self.writer.tally.left += 1;
            for key in own {
                self.writer.forget(key);
            }
        }
        answer
    }

    fn frame(&mut self) {
        if self.rng.u32(0..30) >= self.rate {
            return;
        }
        self.index += 1;
        if self.happens_once_in(300) {
            self.shows_hands = !self.shows_hands;
        }
        let let_go = self.interaction.take_if(|_| self.rng.u32(0..60) == 0);
        if self.interaction.is_none() && self.happens_once_in(60) {
            self.interaction = Some(format!("interaction.{:016x}-{}", self.rng.u64(..), self.id).into());
        }
        self.reach_for_objects();

        let change = self.movements(let_go.as_ref());
        let mut answer = self.writer.commit(&self.id, &change);
        if answer == Answer::Refused {
            // The lease has expired, and another user owns the lock now.
            self.drag = None;
            let change = self.movements(let_go.as_ref());
            answer = self.writer.commit(&self.id, &change);
        }
        if let Some(key) = let_go.filter(|_| answer == Answer::Done) {
            self.writer.forget(&key);
        }
    }

    /// All that this user changes in one frame.
    fn movements(&mut self, let_go: Option<&Key>) -> Change<Key, Value> {
        let (id, rng) = (&*self.id, &mut *self.rng);
        let mut set = vec![
            (&self.avatar, values::avatar(rng, id, "somebody")),
            (&self.play_area, values::play_area(rng)),
            (&self.update_index, self.index.into()),
        ];
        if self.shows_hands {
            set.extend(self.cursors.iter().map(|hand| (hand, values::cursor(rng, id))));
        }
        set.extend(self.interaction.iter().map(|key| (key, values::interaction(rng, id, 60))));
        set.extend(self.drag.iter().map(|drag| (&drag.object, values::placement(rng))));
        let change = set.into_iter().map(|(key, data)| (Arc::clone(key), Value::new(data))).collect();
        let_go.into_iter().fold(change, |change: Change<_, _>, key| change.remove(Arc::clone(key)))
    }

    /// Takes the lock on an object, keeps it while it drags it, gives it back.
    fn reach_for_objects(&mut self) {
        if let Some(mut drag) = self.drag.take() {
            drag.frames -= 1;
            let object = Arc::clone(&drag.object);
            if drag.frames == 0 {
                self.writer.update_locks(&self.id, LockRequest::new().release(object));
            } else if drag.frames % RENEW_EVERY != 0 || self.lock(object) {
                self.drag = Some(drag);
            }
        } else if self.happens_once_in(90) {
            let object = self.any_object();
            if self.lock(Arc::clone(&object)) {
                self.drag = Some(Drag { object, frames: self.rng.u32(30..90) });
            }
        } else if self.happens_once_in(150) {
            // Without a lock: refused if another user owns it.
            let poke = Change::new().set(self.any_object(), Value::new(values::placement(self.rng)));
            self.writer.commit(&self.id, &poke);
        }
    }

    fn lock(&mut self, object: Key) -> bool {
        self.writer.update_locks(&self.id, LockRequest::new().acquire(object, LEASE)) == Answer::Done
    }

    fn any_object(&mut self) -> Key {
        Arc::clone(&self.objects[self.rng.usize(..self.objects.len())])
    }

    fn happens_once_in(&mut self, frames: u32) -> bool {
        self.rng.u32(0..frames) == 0
    }
}
