//! The end of the dictionary, of a broadcast, and of the time that a follower waits; and what is kept alive until then.

use crate::client::{Client, Frames, Given, Key, broadcast, filtered, following_a};
use crate::common::{self, Dictionary, commit, remove, set, spawn_waiting, with_manual_clock, within_a_minute};
use state_dictionary::{BufferOptions, Change, FlushError, FlushTimeoutError, StateDictionary};
use std::sync::Arc;
use std::thread;

#[test]
fn what_is_pending_when_the_dictionary_ends_is_published_by_the_followers() {
    for dropped in [false, true] {
        let dictionary = Dictionary::new();
        let frames = broadcast(&dictionary);
        let mut clients = [(); 3].map(|()| Client::join(&frames));
        assert_eq!(clients.each_mut().map(Client::given), [(); 3].map(|()| vec![Given::Anew(0)]));
        commit(&dictionary, [set("a", 1)]);
        frames.publish();
        commit(&dictionary, [set("a", 2)]);
        dictionary.freeze();
        if dropped {
            drop(dictionary);
        }
        for client in &mut clients {
            assert_eq!(client.given_last(), [Given::Frame(0, 1), Given::Frame(1, 2)]);
        }
        assert!(!frames.publish(), "a follower has done it");
        assert_eq!(Client::join(&frames).given_last(), [Given::Anew(2)]);
    }
}

#[test]
fn an_end_without_anything_pending_is_an_end() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let frames = filtered(&dictionary);
    let mut client = following_a(&frames);
    assert_eq!(client.given(), [Given::Anew(1)]);
    commit(&dictionary, [set("b", 1), remove("b"), set("c", 1)]);
    drop(dictionary);
    assert_eq!(client.given_last(), []);
    assert_eq!(client.follower.position().revision.get(), 4);
}

#[test]
fn followers_of_a_broadcast_that_is_dropped_are_given_what_there_is() {
    let dictionary = Dictionary::new();
    let frames = broadcast(&dictionary);
    let mut clients = [Client::join(&frames), Client::join(&frames)];
    assert_eq!(clients[0].given(), [Given::Anew(0)]);
    commit(&dictionary, [set("a", 1)]);
    frames.publish();
    commit(&dictionary, [set("a", 2)]);
    drop(frames);
    commit(&dictionary, [set("a", 3)]);
    dictionary.freeze();
    let [early, late] = &mut clients;
    assert_eq!(early.given_last(), [Given::Frame(0, 1)]);
    assert_eq!(late.given_last(), [Given::Anew(1)]);
}

#[test]
fn followers_of_a_broadcast_that_is_dropped_after_the_end_are_given_everything() {
    let dictionary = Dictionary::new();
    let frames = broadcast(&dictionary);
    let mut client = Client::join(&frames);
    assert_eq!(client.given(), [Given::Anew(0)]);
    commit(&dictionary, [set("a", 1)]);
    drop(dictionary);
    drop(frames);
    assert_eq!(client.given_last(), [Given::Frame(0, 1)]);
}

#[test]
fn a_follower_that_waits_is_woken() {
    within_a_minute(|| {
        type Act = fn(&mut Option<Dictionary>, &mut Option<Frames>);
        let acts: [(Act, Option<Given>); 4] = [
            (|_, frames| assert!(frames.as_ref().unwrap().publish()), Some(Given::Frame(0, 1))),
            (|dictionary, _| assert!(dictionary.as_ref().unwrap().freeze()), Some(Given::Frame(0, 1))),
            (|dictionary, _| *dictionary = None, Some(Given::Frame(0, 1))),
            (|_, frames| *frames = None, None),
        ];
        for (act, expected) in acts {
            let (mut dictionary, mut frames) = (Some(Dictionary::new()), None);
            let broadcast = frames.insert(broadcast(dictionary.as_ref().unwrap()));
            let mut client = Client::join(broadcast);
            assert_eq!(client.given(), [Given::Anew(0)]);
            thread::scope(|scope| {
                let waiting =
                    spawn_waiting(scope, || client.follower.next().ok().map(|message| client.apply(&message)));
                commit(dictionary.as_ref().unwrap(), [set("a", 1)]);
                act(&mut dictionary, &mut frames);
                assert_eq!(waiting.join().unwrap(), expected);
            });
        }
    });
}

#[test]
fn a_follower_waits_no_longer_than_it_is_to() {
    within_a_minute(|| {
        let (dictionary, clock) = with_manual_clock();
        let frames = broadcast(&dictionary);
        let mut follower = frames.join(Some(dictionary.position()));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| follower.next_timeout(common::SECOND).unwrap_err());
            while !waiting.is_finished() {
                commit(&dictionary, [set("a", 1)]); // not published
                clock.advance(common::ALMOST_A_SECOND);
            }
            assert_eq!(waiting.join().unwrap(), FlushTimeoutError::TimedOut);
        });
        frames.publish();
        assert!(follower.next_timeout(common::SECOND).is_ok());
        drop(frames);
        assert_eq!(follower.next_timeout(common::SECOND).unwrap_err(), FlushTimeoutError::Closed);
    });
}

#[test]
fn a_broadcast_keeps_its_frames_and_its_content_alive_and_an_ended_follower_nothing() {
    let dictionary: StateDictionary<Key, Arc<i32>, ()> = StateDictionary::builder().commit_history(true).build();
    let value = |number| Change::new().set("a", Arc::new(number));
    let mut kept = Vec::new();
    let frames = dictionary.broadcast(BufferOptions::new(), |delivery| {
        Arc::downgrade(delivery.updates().next().map(|(_, entry)| entry.value()).unwrap())
    });
    for number in 0..3 {
        assert!(dictionary.update_state(&(), value(number)).is_ok());
        frames.publish();
        kept.push(Arc::downgrade(dictionary.get("a").unwrap().value()));
    }
    let mut follower = frames.join(None);
    drop(dictionary);
    let alive = |kept: &[std::sync::Weak<_>]| kept.iter().map(|value| value.strong_count() > 0).collect::<Vec<_>>();
    assert_eq!(alive(&kept), [false, false, true], "neither kept commits nor older content");
    drop(frames);
    assert!(follower.next().is_ok());
    assert_eq!(follower.next().unwrap_err(), FlushError);
    assert_eq!(alive(&kept), [false; 3]);
    drop(follower);
}
