//! What ThreadSanitizer must and must not report, see `sanitizers`: an owner that finds itself the last and changes in place
//! what both have read. With `relaxed` as an argument nothing orders the two.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::{env, thread};

struct Shared(UnsafeCell<u64>);

// SAFETY: that it is written by one thread alone, after the others have read it, is what the program is about.
unsafe impl Sync for Shared {}

static OWNERS: AtomicUsize = AtomicUsize::new(2);
static VALUE: Shared = Shared(UnsafeCell::new(1));

fn own(relaxed: bool) {
    // SAFETY: see `Shared`.
    assert_eq!(unsafe { *VALUE.0.get() }, 1);
    let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
    if OWNERS.fetch_sub(1, order) == 1 {
        if !relaxed {
            fence(Ordering::Acquire);
        }
        // SAFETY: see `Shared`.
        unsafe { *VALUE.0.get() = 2 };
    }
}

fn main() {
    let relaxed = env::args().nth(1).as_deref() == Some("relaxed");
    let threads = [(); 2].map(|()| thread::spawn(move || own(relaxed)));
    for thread in threads {
        thread.join().expect("it does not panic");
    }
}
