//! Does one thing so many times, for `.ci/instructions` to count the instructions that it takes.
//!
//! ```text
//! instructions             the names of the things it can do
//! instructions NAME COUNT
//! ```
//!
//! Making the change or the request is a part of each. Full that differs from run to run or from machine to machine is
//! fixed: hasher, order of the keys, number of shards.

use benches::{Key, Keys};
use state_dictionary::{Change, LockRequest, StateDictionary};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

type Dictionary = StateDictionary<Key, u64, u32, BuildHasherDefault<DefaultHasher>>;
/// What is done once, after everything is prepared.
type Action = Box<dyn FnMut()>;

const WRITER: u32 = 1;
const LEASE: Duration = Duration::from_mins(1);

const ACTIONS: [(&str, fn() -> Action); 9] = [
    ("snapshot of 1000 keys", || {
        let (dictionary, _) = dictionary(1_000);
        Box::new(move || drop(black_box(dictionary.snapshot())))
    }),
    ("get from 1000 keys", || {
        let (dictionary, mut keys) = dictionary(1_000);
        Box::new(move || assert!(dictionary.get(black_box(&**keys.next_key())).is_some()))
    }),
    ("commit 1 of 100 keys", || commit(100, 1)),
    ("commit 1 of 10000 keys", || commit(10_000, 1)),
    ("commit 10 of 1000 keys", || commit(1_000, 10)),
    ("commit 10 of 1000 keys and flush them", || {
        let (dictionary, mut keys) = dictionary(1_000);
        let buffer = dictionary.change_buffer();
        assert!(buffer.try_flush().is_ok_and(|delivery| delivery.count() == 1_000));
        Box::new(move || {
            assert!(dictionary.update_state(&WRITER, change(&mut keys, 10)).is_ok());
            assert!(buffer.try_flush().is_ok_and(|delivery| delivery.count() == 10));
        })
    }),
    ("lock and release", || {
        let (dictionary, mut keys) = dictionary(1_000);
        Box::new(move || {
            let key = keys.next_key();
            assert!(dictionary.update_locks(&WRITER, LockRequest::new().acquire(Arc::clone(key), LEASE)).is_ok());
            assert!(dictionary.update_locks(&WRITER, LockRequest::new().release(Arc::clone(key))).is_ok());
        })
    }),
    ("renew a lock", || {
        let (dictionary, mut keys) = dictionary(1_000);
        let key = Arc::clone(keys.next_key());
        Box::new(move || {
            assert!(dictionary.update_locks(&WRITER, LockRequest::new().acquire(Arc::clone(&key), LEASE)).is_ok());
        })
    }),
    ("commit to a key one has locked", || {
        let (dictionary, mut keys) = dictionary(1_000);
        let key = Arc::clone(keys.next_key());
        assert!(dictionary.update_locks(&WRITER, LockRequest::new().acquire(Arc::clone(&key), None)).is_ok());
        Box::new(move || assert!(dictionary.update_state(&WRITER, Change::new().set(Arc::clone(&key), 1)).is_ok()))
    }),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => ACTIONS.iter().for_each(|(name, _)| println!("{name}")),
        [name, count] => {
            let (Some((_, prepare)), Ok(count)) =
                (ACTIONS.iter().find(|(known, _)| known == name), count.parse::<u32>())
            else {
                return ExitCode::from(2);
            };
            let mut act = prepare();
            (0..count).for_each(|_| act());
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn commit(size: usize, changed: usize) -> Action {
    let (dictionary, mut keys) = dictionary(size);
    Box::new(move || assert!(dictionary.update_state(&WRITER, change(&mut keys, changed)).is_ok()))
}

fn change(keys: &mut Keys, changed: usize) -> Change<Key, u64> {
    keys.next_keys(changed).iter().map(|key| (Arc::clone(key), 1)).collect()
}

/// Its history is so short that it is full before the counting begins, and emptied regularly.
fn dictionary(size: usize) -> (Dictionary, Keys) {
    let keys = Keys::new(size);
    let content = keys.all().iter().map(|key| (Arc::clone(key), 0));
    let builder = StateDictionary::builder().hasher(BuildHasherDefault::default()).shards(8).history_limit(200);
    (builder.content(content).build(), keys)
}
