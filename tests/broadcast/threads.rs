//! Many at once.

use crate::client::{Client, Given, Key, broadcast, filtered, follows_a};
use crate::common::{Dictionary, commit, content, remove, set, within_a_minute};
use state_dictionary::StateDictionary;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Several publishers at once: every frame once, in one order, and no commit twice or not at all.
#[test]
fn many_publishers_and_clients_that_join_and_leave_beside_writers() {
    const KEYS: [Key; 8] = ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4"];
    const COMMITS: i32 = if cfg!(debug_assertions) { 3_000 } else { 20_000 };
    within_a_minute(|| {
        for only_a in [false, true] {
            let dictionary: Dictionary = StateDictionary::builder().history_limit(16).build();
            let frames = if only_a { filtered(&dictionary) } else { broadcast(&dictionary) };
            let follows = if only_a { follows_a } else { |_| true };
            let client = || Client { follows, ..Client::join(&frames) };
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                let writers = [0, 1].map(|number| {
                    let dictionary = &dictionary;
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(number);
                        for value in 0..COMMITS {
                            let [one, other] = [(); 2].map(|()| KEYS[rng.usize(..KEYS.len())]);
                            let change = if rng.bool() { set(one, value) } else { remove(one) };
                            commit(dictionary, [if rng.bool() { change.set(other, value) } else { change }]);
                        }
                    })
                });
                for _ in 0..3 {
                    scope.spawn(|| {
                        while !done.load(Ordering::Relaxed) {
                            frames.publish();
                            thread::yield_now();
                        }
                    });
                }
                let followers = [0, 1, 2].map(|number| {
                    let (frames, mut client) = (&frames, client());
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(number);
                        let (mut given, mut frames_given) = (0, 0);
                        while let Ok(message) = client.follower.next() {
                            given += 1;
                            frames_given += usize::from(matches!(client.apply(&message), Given::Frame(..)));
                            match rng.u8(..20) {
                                0 => client.rejoin(frames),
                                1 => (0..rng.u8(..)).for_each(|_| thread::yield_now()),
                                _ => {}
                            }
                        }
                        assert!(given > 1 && frames_given > 0);
                        client.replica
                    })
                });
                for writer in writers {
                    writer.join().unwrap();
                }
                dictionary.freeze();
                let last = content(&dictionary.snapshot()).into_iter().filter(|(key, _)| follows(key)).collect();
                for follower in followers {
                    assert_eq!(follower.join().unwrap(), last);
                }
                done.store(true, Ordering::Relaxed);
            });
        }
    });
}
