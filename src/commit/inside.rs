//! Which threads are inside a closure of `update_state_with`, so that a write from inside is refused.

use crate::sync::thread_local;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::mem::{self, ManuallyDrop};

/// The dictionaries inside whose closures a thread is.
type Insides = ManuallyDrop<SmallVec<[usize; 2]>>;

// A thread-local without a destructor is there also while the thread ends and its other thread-locals are destroyed.
const _: () = assert!(!mem::needs_drop::<RefCell<Insides>>());

thread_local! {
    /// The dictionaries inside whose closures this thread is.
    #[allow(clippy::missing_const_for_thread_local)] // loom's macro does not know `const`
    static INSIDE: RefCell<Insides> = RefCell::new(ManuallyDrop::new(SmallVec::new()));
}

/// While this lives, the thread is inside a closure of the dictionary with this identity.
pub(crate) struct Inside;

impl Inside {
    pub(crate) fn enter(identity: usize) -> Self {
        // Under a model checker this can be gone, while a thread ends.
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(identity));
        Self
    }

    pub(crate) fn is_in(identity: usize) -> bool {
        INSIDE.try_with(|inside| inside.borrow().contains(&identity)).unwrap_or(false)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| {
            let mut inside = inside.borrow_mut();
            inside.pop();
            if inside.is_empty() {
                // Nothing is left allocated when the thread ends.
                drop(ManuallyDrop::into_inner(mem::replace(&mut *inside, ManuallyDrop::new(SmallVec::new()))));
            }
        });
    }
}
