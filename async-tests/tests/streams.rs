//! Streams of deliveries, at any rate and at a limited one.

#[path = "../../tests/common/mod.rs"]
mod common;

use async_tests::everywhere;
use common::{Dictionary, content, parts, replay};
use futures_lite::future::poll_once;
use futures_lite::{Stream, StreamExt};
use state_dictionary::{Change, Delivery};
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{self, Instant};

fn set(key: &'static str, value: i32) -> Change<&'static str, i32> {
    Change::new().set(key, value)
}

/// Rings by hand whatever timers there are.
struct Bell {
    rope: watch::Sender<()>,
    timers: Arc<AtomicUsize>,
}

impl Bell {
    fn new() -> Self {
        Self { rope: watch::Sender::new(()), timers: Arc::default() }
    }

    fn timer(&self) -> impl FnMut() -> Pin<Box<dyn Future<Output = ()> + Send>> + use<> {
        let (rope, timers) = (self.rope.clone(), Arc::clone(&self.timers));
        move || {
            timers.fetch_add(1, Ordering::Relaxed);
            let mut bell = rope.subscribe();
            Box::pin(async move { drop(bell.changed().await) })
        }
    }

    fn ring(&self) {
        self.rope.send_replace(());
    }

    fn timers(&self) -> usize {
        self.timers.load(Ordering::Relaxed)
    }
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll_next<S: Stream>(stream: Pin<&mut S>, woken: &Arc<Woken>) -> Poll<Option<S::Item>> {
    stream.poll_next(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
}

fn is_pending<R>(poll: &Poll<R>) -> bool {
    matches!(poll, Poll::Pending)
}

#[test]
fn a_stream_delivers_what_was_committed_and_ends_with_the_dictionary() {
    everywhere(async |spawner| {
        let dictionary = Dictionary::new();
        let changes = dictionary.change_buffer().into_stream();
        let replica = spawner.spawn(async move {
            let mut replica = BTreeMap::new();
            let mut changes = pin!(changes);
            while let Some(delivery) = changes.next().await {
                replay(&delivery, &mut replica);
            }
            assert!(changes.next().await.is_none(), "an ended stream stays ended");
            replica
        });
        for value in 0..100 {
            dictionary.update_state_async(&"alice", set("a", value).set("b", -value)).await.unwrap();
        }
        dictionary.update_state_async(&"alice", Change::new().remove("b")).await.unwrap();
        let expected = content(&dictionary.snapshot());
        drop(dictionary);
        assert_eq!(replica.await, expected);
    });
}

#[test]
fn the_first_delivery_does_not_wait_and_the_next_ones_wait_for_the_timer() {
    everywhere(async |_| {
        let (dictionary, bell) = (Dictionary::new(), Bell::new());
        let mut changes = pin!(dictionary.change_buffer().into_stream_with(bell.timer()));
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        bell.ring();
        assert!(changes.next().await.is_some());
        assert_eq!(bell.timers(), 1);

        dictionary.update_state(&"alice", set("a", 2)).unwrap();
        assert!(poll_once(changes.next()).await.is_none());
        dictionary.update_state(&"alice", set("b", 3)).unwrap();
        assert!(poll_once(changes.next()).await.is_none());
        bell.ring();
        assert_eq!(parts(&changes.next().await.unwrap()), (vec![("a", 2), ("b", 3)], vec![]));
        assert_eq!(bell.timers(), 2);
    });
}

#[test]
fn there_is_no_burst_after_a_pause() {
    everywhere(async |_| {
        let (dictionary, bell) = (Dictionary::new(), Bell::new());
        let mut changes = pin!(dictionary.change_buffer().into_stream_with(bell.timer()));
        dictionary.update_state(&"alice", set("a", 1)).unwrap();
        assert!(changes.next().await.is_some());
        for _ in 0..5 {
            bell.ring();
            assert!(poll_once(changes.next()).await.is_none());
        }
        assert_eq!(bell.timers(), 1);
        dictionary.update_state(&"alice", set("a", 2)).unwrap();
        assert!(poll_once(changes.next()).await.is_some());
        dictionary.update_state(&"alice", set("a", 3)).unwrap();
        assert!(poll_once(changes.next()).await.is_none());
    });
}

#[test]
fn commits_do_not_wake_a_stream_in_its_interval() {
    let (dictionary, bell, woken) = (Dictionary::new(), Bell::new(), Arc::new(Woken::default()));
    let wakings = || woken.0.load(Ordering::Relaxed);
    let mut changes = pin!(dictionary.change_buffer().into_stream_with(bell.timer()));
    assert!(is_pending(&poll_next(changes.as_mut(), &woken)));
    dictionary.update_state(&"alice", set("a", 0)).unwrap();
    assert_eq!(wakings(), 1, "before the first delivery, they do");
    assert!(!is_pending(&poll_next(changes.as_mut(), &woken)));

    assert!(is_pending(&poll_next(changes.as_mut(), &woken)));
    for value in 1..100 {
        dictionary.update_state(&"alice", set("a", value)).unwrap();
    }
    assert_eq!(wakings(), 1);
    bell.ring();
    assert_eq!(wakings(), 2);
    assert!(!is_pending(&poll_next(changes.as_mut(), &woken)));
}

#[test]
fn the_end_is_heard_in_the_interval_and_what_is_pending_comes_at_once() {
    for commits in [0, 3] {
        let (dictionary, bell, woken) = (Dictionary::new(), Bell::new(), Arc::new(Woken::default()));
        let mut changes = pin!(dictionary.change_buffer().into_stream_with(bell.timer()));
        dictionary.update_state(&"alice", set("a", -1)).unwrap();
        assert!(!is_pending(&poll_next(changes.as_mut(), &woken)));
        assert!(is_pending(&poll_next(changes.as_mut(), &woken)));
        for value in 0..commits {
            dictionary.update_state(&"alice", set("a", value)).unwrap();
        }
        dictionary.freeze();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        if commits > 0 {
            let Poll::Ready(Some(last)) = poll_next(changes.as_mut(), &woken) else { panic!("it waits") };
            assert_eq!(parts(&last), (vec![("a", 2)], vec![]));
        }
        for _ in 0..2 {
            assert!(matches!(poll_next(changes.as_mut(), &woken), Poll::Ready(None)));
        }
    }
}

#[test]
fn a_stream_can_be_sent_between_polls() {
    fn sendable<S: Stream + Send + 'static>(stream: S) -> S {
        stream
    }
    let (dictionary, bell) = (Dictionary::new(), Bell::new());
    let mut changes = Box::pin(sendable(dictionary.change_buffer().into_stream_with(bell.timer())));
    dictionary.update_state(&"alice", set("a", 1)).unwrap();
    let woken = Arc::new(Woken::default());
    assert!(!is_pending(&poll_next(changes.as_mut(), &woken)));
    assert!(is_pending(&poll_next(changes.as_mut(), &woken)));
    dictionary.update_state(&"alice", set("a", 2)).unwrap();
    bell.ring();
    let elsewhere =
        thread::spawn(move || futures_lite::future::block_on(changes.next()).map(|next| next.revision().get()));
    assert_eq!(elsewhere.join().unwrap(), Some(2));
}

/// Tokio's time, which stands still except for the timers that are waited for.
#[tokio::test(start_paused = true)]
async fn a_stream_with_the_timer_of_tokio_keeps_its_interval() {
    const INTERVAL: Duration = Duration::from_millis(30);
    let dictionary = Arc::new(Dictionary::new());
    let began = Instant::now();
    let changes = dictionary.change_buffer().into_stream_with(|| time::sleep(INTERVAL));
    let reader = tokio::spawn(async move {
        let at = |delivery: Delivery<_, _>| (began.elapsed().as_millis(), delivery.revision().get());
        changes.map(at).collect::<Vec<_>>().await
    });
    // A commit every 7 ms, then a pause, and one more.
    for value in 0..10 {
        time::sleep(Duration::from_millis(7)).await;
        dictionary.update_state_async(&"alice", set("a", value)).await.unwrap();
    }
    time::sleep(Duration::from_millis(200)).await;
    dictionary.update_state_async(&"alice", set("a", 11)).await.unwrap();
    time::sleep(Duration::from_millis(1)).await;
    dictionary.update_state_async(&"alice", set("a", 12)).await.unwrap();
    time::sleep(Duration::from_millis(1)).await;
    dictionary.freeze();
    assert_eq!(reader.await.unwrap(), [(7, 1), (37, 5), (67, 9), (97, 10), (270, 11), (272, 12)]);
}
