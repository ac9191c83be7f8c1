//! Two workers and one job. Ann vanishes in the middle of it; when her lease is over, Bob takes over; and when Ann comes
//! back, without knowing of it, she does no harm.
//!
//! ```text
//! cargo run --example leases
//! ```
//!
//! A worker may lose its lock between any two steps, since a dead worker cannot be told from a slow one. The *lease* ensures
//! that the job does not wait for ever. Progress is written on the *condition* that no other worker has written it. The
//! archive, outside the dictionary, refuses a *fencing token* smaller than the greatest it has seen.

use parking_lot::Mutex;
use state_dictionary::{Change, FencingToken, LockError, LockRequest, StateDictionary};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const LEASE: Duration = Duration::from_millis(300);
const PAGES: u32 = 6;

type Dictionary = StateDictionary<&'static str, u32, &'static str>;
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let dictionary = Dictionary::new();
    dictionary.update_state(&"main", Change::new().set("pages done", 0))?;
    let archive = Archive::default();

    let (vanish, vanished) = mpsc::channel();
    let (wake, awake) = mpsc::channel();
    let (dictionary, archive) = (&dictionary, &archive);
    thread::scope(move |scope| {
        let ann = scope.spawn(move || {
            work("Ann", dictionary, archive, |page| {
                if page == 3 {
                    println!("Ann vanishes, and still owns the lock.");
                    vanish.send(())?;
                    awake.recv()?;
                    println!("Ann is back, and goes on with page {page}.");
                }
                Ok(())
            })
        });
        vanished.recv()?;
        work("Bob", dictionary, archive, |_| Ok(()))?;
        wake.send(())?;
        let refusal = ann.join().unwrap_or_else(|_| Err("Ann panicked".into())).err().ok_or("Ann was not refused")?;
        println!("Ann stops: {refusal}.");
        assert!(refusal.to_string().contains("out of date"));
        Ok::<_, Failure>(())
    })?;

    let workers: Vec<_> = archive.0.lock().1.values().copied().collect();
    println!("The archive has {PAGES} pages, by {}.", workers.join(", "));
    assert_eq!(workers, ["Ann", "Ann", "Ann", "Bob", "Bob", "Bob"]);
    assert_eq!(dictionary.get("pages done").as_deref(), Some(&PAGES));
    Ok(())
}

/// Does pages until all are done. `before_storing` is where a worker can be delayed.
fn work(
    me: &'static str,
    dictionary: &Dictionary,
    archive: &Archive,
    before_storing: impl Fn(u32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        // Before each page, so that the lease is renewed as long as there is progress.
        let fencing_token = take(me, dictionary)?;
        let done = dictionary.get("pages done").ok_or("the job is gone")?;
        if *done == PAGES {
            dictionary.update_locks(&me, LockRequest::new().release("pages done"))?;
            return Ok(());
        }
        before_storing(*done)?;
        archive.store(fencing_token, *done, me)?;
        let progress = Change::new().if_revision("pages done", done.revision()).set("pages done", *done + 1);
        dictionary.update_state(&me, progress)?;
    }
}

/// Acquires the lock or renews it. If another worker owns it, waits for as long as it may still last.
fn take(me: &'static str, dictionary: &Dictionary) -> Result<FencingToken, Failure> {
    loop {
        match dictionary.update_locks(&me, LockRequest::new().acquire("pages done", LEASE)) {
            Ok(receipt) => {
                if let Some((_, token)) = receipt.granted.first() {
                    println!("{me} has the lock, with fencing token {token}.");
                }
                return Ok(receipt.granted.first().or(receipt.renewed.first()).ok_or("neither granted nor renewed")?.1);
            }
            Err(LockError::Locked { conflicts, .. }) => {
                let remaining = conflicts[0].remaining.unwrap_or(LEASE);
                println!("{me} waits: {} has the lock, for {} ms still.", conflicts[0].owner, remaining.as_millis());
                thread::park_timeout(remaining);
            }
            Err(other) => return Err(other.into()),
        }
    }
}

/// Outside the dictionary: the greatest token it has seen, and who stored which page. Storing a page again is harmless.
#[derive(Default)]
struct Archive(Mutex<(Option<FencingToken>, BTreeMap<u32, &'static str>)>);

impl Archive {
    fn store(&self, token: FencingToken, page: u32, worker: &'static str) -> Result<(), Failure> {
        let (newest, pages) = &mut *self.0.lock();
        if let Some(newest) = newest.filter(|newest| token < *newest) {
            return Err(format!("fencing token {token} is out of date, the archive has seen {newest}").into());
        }
        *newest = Some(token);
        pages.insert(page, worker);
        println!("{worker} stores page {page}.");
        Ok(())
    }
}
