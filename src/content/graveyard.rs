//! Where roots go when they are dropped at a bad moment.

use super::{Content, Footprint, Root, Trail};
use crate::event::LockRecord;
use crate::sync::{Mutex, thread_local};
use std::cell::Cell;
use std::mem;
use std::sync::Arc;

/// What was left of roots whose last owner let go of them at a bad moment: with a shard locked, or before those who wait
/// for a change were notified of it.
///
/// Dropping a root can drop the user's keys and values, whose `Drop` may use the dictionary or panic. Yet whoever replaces
/// the root cannot know what it will be the last to own: arc-swap lets go of other threads' roots inside its `load` and its
/// `compare_and_swap`. So a root that is dropped inside [`put_off_drops`] leaves its content here.
pub(super) struct Graveyard<K, V>(Mutex<Vec<Remains<K, V>>>);

/// What of a root may hold something of the user's.
type Remains<K, V> = (Content<K, V>, Trail<Footprint<K, V>>, Option<Arc<Trail<LockRecord<K>>>>);

/// That roots may be in their graveyard, to be [settled](super::Published::settle) when nothing is locked.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub(crate) struct PutOff(bool);

impl PutOff {
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 || other.0)
    }

    pub(super) const fn happened(self) -> bool {
        self.0
    }
}

thread_local! {
    /// Inside `put_off_drops`: whether it has happened yet that a drop was put off. Of a type without a destructor, so that it
    /// is there also while the thread ends and its other thread-locals are destroyed.
    #[allow(clippy::missing_const_for_thread_local)] // loom's macro does not know `const`
    static PUTTING_OFF: Cell<Option<PutOff>> = Cell::new(None);
}

/// Where a platform, or a model checker, has no thread-locals any more while a thread ends.
const EVERYTHING: Option<PutOff> = Some(PutOff(true));

/// Runs `act` so that roots dropped meanwhile by this thread go to their graveyard.
pub(crate) fn put_off_drops<R>(act: impl FnOnce() -> R) -> (R, PutOff) {
    struct Restore(Option<PutOff>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = PUTTING_OFF.try_with(|putting_off| putting_off.set(self.0));
        }
    }
    let before = PUTTING_OFF.try_with(|putting_off| putting_off.replace(Some(PutOff(false))));
    let restore = Restore(before.unwrap_or_default());
    let result = act();
    let put_off = PUTTING_OFF.try_with(Cell::get).unwrap_or(EVERYTHING).unwrap_or_default();
    drop(restore);
    (result, put_off)
}

impl<K, V> Graveyard<K, V> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Drops what was put off. Nothing may be locked.
    pub(super) fn empty(&self) {
        let remains = mem::take(&mut *self.0.lock());
        drop(remains);
    }
}

impl<K, V, S> Drop for Root<K, V, S> {
    fn drop(&mut self) {
        if PUTTING_OFF.try_with(Cell::get).unwrap_or(EVERYTHING).is_some() {
            let _ = PUTTING_OFF.try_with(|putting_off| putting_off.set(EVERYTHING));
            let content = mem::take(&mut self.content);
            let trail = mem::replace(&mut self.trail, Trail::starting_after(0));
            self.shared.graveyard.0.lock().push((content, trail, self.lock_trail.take()));
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::sync::DefaultHashBuilder;
    use std::cell::RefCell;
    use std::thread;

    type Number = Root<u8, u32, DefaultHashBuilder>;

    /// A root, and whether its value is still there.
    struct PutsOffAtExit(Option<Number>);

    impl Drop for PutsOffAtExit {
        fn drop(&mut self) {
            let Some(root) = self.0.take() else { return };
            puts_off(root);
        }
    }

    thread_local! {
        static AT_EXIT: RefCell<Option<PutsOffAtExit>> = const { RefCell::new(None) };
    }

    fn root() -> Number {
        Root::new(DefaultHashBuilder::default(), [(1, 1)])
    }

    fn puts_off(root: Number) {
        let (shared, value) =
            (Arc::clone(&root.shared), root.content.values().next().map(|entry| Arc::downgrade(entry.value())));
        let is_there = || value.as_ref().is_some_and(|value| value.strong_count() > 0);
        let ((), put_off) = put_off_drops(|| drop(root));
        assert!(put_off.happened() && is_there());
        shared.graveyard.empty();
        assert!(!is_there());
    }

    #[test]
    fn drops_are_put_off_also_while_a_thread_ends() {
        puts_off(root());
        let ended = thread::spawn(|| {
            AT_EXIT.with(|at_exit| *at_exit.borrow_mut() = Some(PutsOffAtExit(Some(root()))));
            puts_off(root());
        });
        assert!(ended.join().is_ok());
    }
}
