//! What the closure of `update_state_with` may return, and how it is run.

use crate::change::Change;
use crate::commit::{Note, Patience};
use crate::content::Root;
use crate::revision::Revision;

/// What the closure of [`update_state_with`](crate::StateDictionary::update_state_with) returns: a [`Change`], or a pair of a
/// change and a value of any type, which is returned to the caller once the change is committed.
///
/// Sealed: these are the only two implementations. To refuse, return an empty change, which commits nothing, and the reason as
/// the value.
///
/// ```
/// use state_dictionary::{Change, StateDictionary};
///
/// let stock = StateDictionary::from([("apples", 5), ("pears", 2)]);
/// let revision = stock.update_state_with(&(), |now| Change::new().set("pears", now["pears"] + 1))?;
/// let (later, left) = stock.update_state_with(&(), |now| {
///     let left = now["apples"] - 1;
///     (Change::new().set("apples", left), left)
/// })?;
/// assert!(later > revision);
/// assert_eq!(left, 4);
///
/// let sell = |count: i32| {
///     stock.update_state_with(&(), |now| match now["apples"] - count {
///         left if left < 0 => (Change::new(), Err(now["apples"])), // nothing is committed
///         left => (Change::new().set("apples", left), Ok(left)),
///     })
/// };
/// assert_eq!(sell(3)?.1, Ok(1));
/// assert_eq!(sell(2)?.1, Err(1), "there is only one");
/// assert_eq!(stock.snapshot()["apples"], 1);
/// # Ok::<(), state_dictionary::UpdateError<&str, i32>>(())
/// ```
// Key and value are associated types, not parameters: a future that has `Change<&'static str, V>: Modification<&'static str, V>`
// among its bounds is not `Send`, for rustc forgets that the two lifetimes are the same.
#[diagnostic::on_unimplemented(
    message = "the closure returns `{Self}`, which is neither a change nor a change and a value",
    label = "expected a `Change`, or a pair of a `Change` and a value",
    note = "to commit nothing and return why, return `(Change::new(), Err(why))`, and `(change, Ok(value))` otherwise",
    note = "a change that is collected needs its type: `.collect::<Change<_, _>>()`"
)]
pub trait Modification: sealed::Sealed {
    /// The keys of the change.
    type Key;

    /// The values of the change.
    type Value;

    /// What the call returns: the [`Revision`] of the commit, or a pair of it and the value.
    type Output;

    /// What the closure returned beside the change.
    #[doc(hidden)]
    type Beside;

    #[doc(hidden)]
    fn into_parts(self) -> (Change<Self::Key, Self::Value>, Self::Beside);

    #[doc(hidden)]
    fn output(revision: Revision, beside: Self::Beside) -> Self::Output;
}

impl<K, V> Modification for Change<K, V> {
    type Key = K;
    type Value = V;
    type Output = Revision;
    type Beside = ();

    fn into_parts(self) -> (Self, ()) {
        (self, ())
    }

    fn output(revision: Revision, (): ()) -> Revision {
        revision
    }
}

impl<K, V, R> Modification for (Change<K, V>, R) {
    type Key = K;
    type Value = V;
    type Output = (Revision, R);
    type Beside = R;

    fn into_parts(self) -> Self {
        self
    }

    fn output(revision: Revision, beside: R) -> (Revision, R) {
        (revision, beside)
    }
}

/// A change that a closure makes from the content.
pub(crate) struct Making<'a, K, V, S, M> {
    /// The revision of the part of a root that the closure reads. If another commit changes it, the closure is run
    /// again.
    pub(crate) read: &'a dyn Fn(&Root<K, V, S>) -> Option<Revision>,
    pub(crate) modify: M,
    pub(crate) note: Option<Note<'a, K, V, S>>,
}

/// The limits of running a closure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// How many times it is run at most.
    pub(crate) attempts: usize,
    pub(crate) patience: Patience,
    /// Whether the first run takes the turn if that is free.
    pub(crate) ahead: bool,
}

impl Effort {
    pub(crate) const UNLIMITED: Self = Self { attempts: usize::MAX, patience: Patience::ForAll, ahead: false };
}

mod sealed {
    use crate::change::Change;

    #[allow(unreachable_pub)] // a supertrait of a public trait
    pub trait Sealed {}

    impl<K, V> Sealed for Change<K, V> {}
    impl<K, V, R> Sealed for (Change<K, V>, R) {}
}
