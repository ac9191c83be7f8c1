//! A feed in async code: a stream at a limited rate, changes that wait without blocking a thread, and a client that stops
//! waiting and loses nothing.
//!
//! ```text
//! cargo run -p async-tests --example async_feed
//! ```
//!
//! Three players move their figures on a board. A screen shows it, at most every 20 ms; a referee stops the game to count
//! its moves. All of them are tasks on one thread.

use futures_lite::StreamExt;
use state_dictionary::{Change, ChangeBuffer, StateDictionary, UpdateError};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

type Board = StateDictionary<String, u32, &'static str>;
type Picture = BTreeMap<String, u32>;
type Refused = UpdateError<String, u32, &'static str>;

const PLAYERS: [&str; 3] = ["alice", "bob", "carol"];
const MOVES: u32 = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let board = Arc::new(Board::new());

    // To drop the future of a wait ends the wait; later changes are not lost by that.
    let buffer = board.change_buffer();
    let too_soon = timeout(Duration::from_millis(5), buffer.flush_async()).await;
    assert!(too_soon.is_err());
    println!("No player has moved yet, and the screen has waited for 5 ms.");

    let screen = tokio::spawn(show(buffer));
    let players = PLAYERS.map(|name| tokio::spawn(play(Arc::clone(&board), name)));
    let referee = tokio::spawn(count(Arc::clone(&board)));
    for player in players {
        player.await??;
    }
    referee.await??;

    // The end of the feed also wakes a screen that waits for its timer.
    board.freeze();
    let (picture, deliveries) = screen.await?;
    println!("The screen has shown {} commits in {deliveries} pictures: {picture:?}.", board.revision());
    let content: Picture = board.snapshot().iter().map(|(key, value)| (key.clone(), *value)).collect();
    assert_eq!(picture, content);
    assert!(deliveries <= board.revision().get(), "moves in quick succession are delivered together");
    assert!(PLAYERS.iter().all(|name| content[*name] == MOVES));
    Ok(())
}

/// Follows the board until the game is over, with the runtime's own timer between two pictures.
async fn show(buffer: ChangeBuffer<String, u32>) -> (Picture, u64) {
    let (mut picture, mut deliveries) = (Picture::new(), 0);
    let mut changes = pin!(buffer.into_stream_with(|| sleep(Duration::from_millis(20))));
    while let Some(delivery) = changes.next().await {
        picture.extend(delivery.updates().map(|(key, entry)| (key.clone(), **entry)));
        for key in delivery.removals() {
            picture.remove(key);
        }
        deliveries += 1;
    }
    println!("The screen has seen the end.");
    (picture, deliveries)
}

/// Moves a figure. While the referee has locked the board, the task waits, and its thread runs other tasks.
async fn play(board: Arc<Board>, name: &'static str) -> Result<(), Refused> {
    for step in 1..=MOVES {
        board.update_state_async(&name, Change::new().set(name, step)).await?;
        sleep(Duration::from_millis(1)).await;
    }
    println!("{name} has made all moves.");
    Ok(())
}

/// Locks the board, counts, and writes the sum through the guard: nothing moves meanwhile, however long it takes.
async fn count(board: Arc<Board>) -> Result<(), Refused> {
    sleep(Duration::from_millis(25)).await;
    let mut guard = board.lock_content_async().await;
    let sum: u32 = guard.values().sum();
    sleep(Duration::from_millis(10)).await;
    assert_eq!(guard.values().sum::<u32>(), sum);
    guard.update_state(&"referee", Change::new().set("moves at half-time", sum))?;
    println!("The referee has counted {sum} moves, and unlocks the board.");
    Ok(())
}
