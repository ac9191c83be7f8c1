//! What is awaited, on shuttle's primitives. Nothing of it is decided here (loom's models are complete); but shuttle has an
//! event of our own in place of event-listener's, and programs that check themselves with it rely on that.
#![cfg(all(shuttle, feature = "shuttle", feature = "async"))]
#![allow(clippy::unwrap_used)]

use futures_lite::StreamExt;
use shuttle::future::block_on;
use shuttle::sync::Arc;
use shuttle::{check_random, thread};
use state_dictionary::{Change, StateDictionary};
use std::future;

type Dictionary = StateDictionary<u8, u32, char>;

#[test]
fn streams_writers_and_guards_wake_each_other() {
    let model = || {
        let dictionary = Arc::new(Dictionary::new());
        let every = dictionary.change_buffer().into_stream();
        let few = dictionary.change_buffer().into_stream_with(future::pending);
        let every =
            thread::spawn(move || block_on(every.map(|delivery| delivery.revision().get()).collect::<Vec<_>>()));
        let few = thread::spawn(move || block_on(few.map(|delivery| delivery.revision().get()).collect::<Vec<_>>()));
        let writers = ['a', 'b'].map(|token| {
            let dictionary = Arc::clone(&dictionary);
            thread::spawn(move || {
                block_on(async {
                    dictionary.update_state_async(&token, Change::new().set(0, 1)).await.unwrap();
                    let mut guard = dictionary.lock_content_async().await;
                    let one_more = guard.get(&1).copied().unwrap_or(0) + 1;
                    guard.update_state(&token, Change::new().set(1, one_more)).unwrap();
                });
            })
        });
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!((dictionary.snapshot()[&1], dictionary.revision().get()), (2, 4));
        dictionary.freeze();
        let (every, few) = (every.join().unwrap(), few.join().unwrap());
        assert_eq!((every.last(), few.last()), (Some(&4), Some(&4)));
        assert!(every.is_sorted() && few.len() <= 2);
    };
    check_random(model, 5_000);
}
