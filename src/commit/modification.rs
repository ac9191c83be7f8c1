//! What the closure of `update_state_with` may return, and how it is run.

use crate::change::Change;
use crate::commit::{Note, Patience};
use crate::content::Root;
use crate::revision::Revision;

/// What the closure of [`update_state_with`](crate::StateDictionary::update_state_with) returns: a [`Change`], or a pair of a
/// change and a value of any type, which is returned to the caller once the change is committed.
///
/// `R` is what the call returns: the [`Revision`] of the commit, or a pair of it and the value. (It is a parameter and not an
/// associated type, so that a future of a dictionary whose keys are `&'static str` can be sent.)
///
/// Sealed: there are these two implementations and no others.
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
/// # Ok::<(), state_dictionary::UpdateError<&str, i32>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "the closure returns `{Self}`, which is neither a change nor a change and a value",
    label = "expected `Change<{K}, {V}>` or `(Change<{K}, {V}>, R)`",
    note = "a change that is collected needs its type: `.collect::<Change<_, _>>()`"
)]
pub trait Modification<K, V, R>: sealed::Sealed {
    /// What the closure returned beside the change.
    #[doc(hidden)]
    type Value;

    #[doc(hidden)]
    fn into_parts(self) -> (Change<K, V>, Self::Value);

    #[doc(hidden)]
    fn output(revision: Revision, value: Self::Value) -> R;
}

impl<K, V> Modification<K, V, Revision> for Change<K, V> {
    type Value = ();

    fn into_parts(self) -> (Self, ()) {
        (self, ())
    }

    fn output(revision: Revision, (): ()) -> Revision {
        revision
    }
}

impl<K, V, R> Modification<K, V, (Revision, R)> for (Change<K, V>, R) {
    type Value = R;

    fn into_parts(self) -> Self {
        self
    }

    fn output(revision: Revision, value: R) -> (Revision, R) {
        (revision, value)
    }
}

/// A change that a closure makes from the content.
pub(crate) struct Making<'a, K, V, S, M> {
    /// The revision of what the closure reads of a root. If another commit changes it, the closure is run again.
    pub(crate) read: &'a dyn Fn(&Root<K, V, S>) -> Option<Revision>,
    pub(crate) modify: M,
    pub(crate) note: Option<Note<'a, K, V, S>>,
}

/// How long a closure is tried.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// How often it is run.
    pub(crate) attempts: usize,
    pub(crate) patience: Patience,
    /// Whether the first run is to have the turn, should it be free.
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
