//! What is encoded may panic, and may do something when it is dropped.

use crate::client::{Client, Given, KEPT, Key, at, encode};
use crate::common::{Dictionary, commit, set, spawn_waiting, within_a_minute};
use state_dictionary::{Broadcast, BufferOptions, Follower, Message};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::thread;

#[test]
fn an_encoder_that_panics_changes_nothing() {
    let dictionary = Dictionary::new();
    let panics = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&panics);
    let frames = dictionary.broadcast(BufferOptions::new(), move |delivery| {
        assert!(!told.load(Ordering::Relaxed), "on purpose");
        encode(delivery, |_| true)
    });
    let mut client = Client::join(&frames);
    assert_eq!(client.given(), [Given::Anew(0)]);
    commit(&dictionary, [set("a", 1)]);
    assert!(panic::catch_unwind(|| frames.publish()).is_err());
    assert_eq!(client.given(), []);
    panics.store(false, Ordering::Relaxed);
    assert!(frames.publish());
    assert_eq!(client.given(), [Given::Frame(0, 1)]);

    commit(&dictionary, [set("a", 2)]);
    dictionary.freeze();
    panics.store(true, Ordering::Relaxed);
    assert!(panic::catch_unwind(AssertUnwindSafe(|| client.follower.next())).is_err());
    assert_eq!(client.follower.position(), at(&dictionary, 1));
    panics.store(false, Ordering::Relaxed);
    assert_eq!(client.given_last(), [Given::Frame(1, 2)]);
}

/// What is encoded, with something that happens when it is dropped.
struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

/// The first of these frames that is no longer kept does something, when it is dropped, in the call that publishes.
fn pushing_out(act: impl FnOnce() + Send + Sync + 'static, check: impl FnOnce(&dyn Fn(), Follower<Key, i32, OnDrop>)) {
    let dictionary = Dictionary::new();
    let act = parking_lot::Mutex::new(Some(act));
    let frames = dictionary.broadcast(BufferOptions::new(), move |_| {
        let act = act.lock().take();
        OnDrop(act.map(|act| Box::new(act) as Box<dyn FnOnce() + Send + Sync>))
    });
    let next = || {
        commit(&dictionary, [set("a", 1)]);
        frames.publish();
    };
    (0..KEPT).for_each(|_| next());
    check(&next, frames.join(Some(dictionary.position())));
}

#[test]
fn an_old_frame_is_dropped_when_all_followers_know_of_the_new_one() {
    within_a_minute(|| {
        let (given, is_given) = mpsc::channel::<u64>();
        let is_given = parking_lot::Mutex::new(is_given);
        let wait = move || assert_eq!(is_given.lock().recv(), Ok(33), "the follower is given the new frame meanwhile");
        pushing_out(wait, |publish, mut follower| {
            thread::scope(|scope| {
                let waiting = spawn_waiting(scope, move || {
                    given.send(follower.next().map_or(0, |message| message.position().revision.get())).unwrap();
                });
                publish();
                waiting.join().unwrap();
            });
        });
    });
}

#[test]
fn an_encoded_value_whose_drop_panics_panics_out_of_the_call_and_the_frame_is_published() {
    within_a_minute(|| {
        let bang = || panic!("on purpose");
        pushing_out(bang, |publish, mut follower| {
            thread::scope(|scope| {
                let waiting = spawn_waiting(scope, || follower.next().map(|message| message.position().revision.get()));
                assert!(panic::catch_unwind(AssertUnwindSafe(publish)).is_err());
                assert_eq!(waiting.join().unwrap(), Ok(33));
            });
            publish();
            assert_eq!(follower.next().map(|message| message.position().revision.get()), Ok(34));
        });
    });
}

/// The follower is the last to have a frame that is pushed out while it looks.
#[test]
fn a_message_is_not_lost_when_a_destructor_panics() {
    let dictionary = Arc::new(Dictionary::new());
    let (is_to_publish, published) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::new()));
    let filter = {
        let (is_to_publish, published) = (Arc::clone(&is_to_publish), Arc::clone(&published));
        let dictionary = Arc::downgrade(&dictionary);
        move |_: &Key| {
            if is_to_publish.swap(false, Ordering::Relaxed) {
                commit(&dictionary.upgrade().unwrap(), [set("a", 0)]);
                let frames: &Weak<Broadcast<Key, i32, OnDrop>> = published.get().unwrap();
                assert!(frames.upgrade().unwrap().publish());
            }
            true
        }
    };
    let bang = AtomicBool::new(true);
    let frames = Arc::new(dictionary.broadcast(BufferOptions::new().filter(filter), move |_| {
        let is_first = bang.swap(false, Ordering::Relaxed);
        OnDrop(
            is_first
                .then(|| Box::new(|| assert!(thread::panicking(), "on purpose")) as Box<dyn FnOnce() + Send + Sync>),
        )
    }));
    assert!(published.set(Arc::downgrade(&frames)).is_ok());
    for _ in 0..KEPT {
        commit(&dictionary, [set("a", 1), set("b", 1)]);
        assert!(frames.publish());
    }
    let inside = at(&dictionary, dictionary.revision().get() - 1);
    let mut follower = frames.join(Some(inside));
    is_to_publish.store(true, Ordering::Relaxed);
    assert!(panic::catch_unwind(AssertUnwindSafe(|| follower.try_next())).is_err());
    assert_eq!(follower.position(), inside);
    let Message::CatchUp(delivery) = follower.try_next().unwrap() else { panic!("it was inside a frame") };
    assert_eq!((delivery.since(), delivery.position()), (inside.revision, dictionary.position()));
}
