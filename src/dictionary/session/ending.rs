//! Ending a session: its locks are released and its keys removed in one commit, with every shard locked.

use super::belongings::Belongings;
use super::{Left, SessionEnd};
use crate::content::{Entry, Hold, Logged, Revision, Root};
use crate::dictionary::Core;
use crate::dictionary::write::Patience;
use crate::key::Hashed;
use crate::locks::{Claim, Fence};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon what had to be put off is worth another try.
const RETRY: Duration = Duration::from_millis(10);

#[cfg(feature = "async")]
impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> super::Session<K, V, T, S> {
    /// Ends the session, unless it must be awaited that the content is let go.
    pub(in crate::dictionary) fn try_end(&mut self) -> Option<SessionEnd<K, T>> {
        match self.core.try_end(self.belongings(), None, false) {
            Ok(end) => {
                drop(self.belongings.take());
                Some(end)
            }
            Err(NotEnded::Held(hold)) if !hold.is_of_this_thread() => None,
            Err(_) => self.belongings.take().map(|belongings| self.core.end(belongings, Patience::None)),
        }
    }
}

/// Why a session was not ended.
pub(super) enum NotEnded {
    /// The content is held.
    Held(Hold),
    /// It was lingering, and somebody has taken it up or ended it.
    Gone,
    /// It is lingering, and its keys cannot be removed at this moment.
    NotYet,
}

impl<K: Clone + Eq + Hash, V, T: Clone + PartialEq, S: BuildHasher> Core<K, V, T, S> {
    pub(super) fn end(&self, belongings: Arc<Belongings<K, T>>, patience: Patience) -> SessionEnd<K, T> {
        let mut ending = Ending { core: self, belongings: Some(belongings) };
        let Ending { belongings: Some(belongings), .. } = &ending else { unreachable!("it was just given some") };
        let mut put_off = patience != Patience::ForAll;
        let end = loop {
            match self.try_end(belongings, None, put_off) {
                Ok(end) => break end,
                Err(NotEnded::Held(hold)) if hold.is_of_this_thread() => put_off = true,
                Err(NotEnded::Held(hold)) => self.wait_until_let_go(hold),
                Err(NotEnded::Gone | NotEnded::NotYet) => unreachable!("it is not lingering"),
            }
        };
        drop(ending.belongings.take());
        end
    }

    /// Releases the locks and removes the keys in one step, with all shards locked. If the content is held, keys are
    /// `put_off`, or else nothing is done; the session that has them lingers then, until the next expiry. One that is
    /// `lingering` is ended only if it was due at that time and is still there, and as a whole. Whoever takes up either comes
    /// before all of this, or after.
    pub(super) fn try_end(
        &self,
        belongings: &Arc<Belongings<K, T>>,
        lingering: Option<Instant>,
        put_off: bool,
    ) -> Result<SessionEnd<K, T>, NotEnded> {
        let Belongings { token, keys, .. } = &**belongings;
        let Core { published, settings, sessions, .. } = self;
        let inside = self.is_inside_closure();
        // What has keys and tokens outlives the fence, so that it is dropped when no shard is locked any more and everybody
        // has been notified, also when unwinding.
        let (mut told, mut shares, mut not_ended) = (None, Vec::new(), None);
        let mut revision = Revision::ZERO;
        let mut fence = self.fence();
        let tells = fence.tells();
        let released = self.locks.release_with(token, keys, &published.clock, tells, |claims, releases, changes| {
            told = self.kept(changes);
            let Some(place) = sessions.place_of(belongings, lingering) else {
                not_ended = Some(NotEnded::Gone);
                return false;
            };
            let edit = |root: &mut Root<K, V, S>| {
                shares.push(Share::of(root, keys, claims));
                let Some(Share { mine, left, taken_out }) = shares.last_mut() else {
                    unreachable!("it was just pushed")
                };
                revision = root.revision;
                if root.frozen {
                    left.extend(mine.drain(..).map(|key| (key.key, Left::Frozen)));
                } else if inside || root.held.is_some() {
                    let not_now = if lingering.is_some() {
                        Some(NotEnded::NotYet)
                    } else {
                        root.held.filter(|_| !(put_off || inside)).map(NotEnded::Held)
                    };
                    if not_now.is_some() && !mine.is_empty() {
                        not_ended = not_now;
                        return Err(());
                    }
                    left.extend(mine.drain(..).map(|key| (key.key, Left::PutOff)));
                }
                if mine.is_empty() && !releases {
                    return Err(());
                }
                if !mine.is_empty() {
                    let origin = settings.commit_log.map(|erase| move || erase(token.clone()));
                    let log = origin.map(|origin| move |change| Box::new(Logged { origin: origin(), change }));
                    *taken_out = root.remove(mine, log, settings.trail_limit);
                    revision = root.revision;
                }
                if releases && !root.frozen {
                    root.locks_changed(told.as_ref(), settings.lock_trail_limit);
                }
                Ok(())
            };
            let (replaced, put_off) = published.replace(edit, |_| ());
            let commits = shares.last().is_some_and(|share| !share.mine.is_empty());
            fence.replaced(replaced.is_ok() && releases, replaced.is_ok() && commits, put_off);
            let again = || published.clock.now().checked_add(RETRY);
            match (&not_ended, shares.last()) {
                (Some(NotEnded::NotYet), _) => place.put_off(belongings, again()),
                (Some(_), _) => {}
                (None, Some(share)) if share.is_put_off() => place.put_off(belongings, again()),
                (None, _) => place.ended(),
            }
            replaced.is_ok()
        });
        if let Some(reason) = not_ended {
            return Err(reason);
        }
        let (released, expired) = released;
        fence.expired(expired);
        drop(fence);
        let (mine, left) = shares.pop().map(|share| (share.mine, share.left)).unwrap_or_default();
        Ok(SessionEnd { revision, released, removed: mine.into_iter().map(|key| key.key).collect(), left })
    }
}

/// What of a root is a session's, as one attempt to end it finds it.
struct Share<K, V, T> {
    mine: Vec<Hashed<K>>,
    left: Vec<(K, Left<T>)>,
    taken_out: Vec<(Hashed<K>, Entry<V>)>,
}

impl<K: Clone + Eq, V, T: Clone> Share<K, V, T> {
    /// Which keys of the session may be removed, and which somebody else holds.
    fn of<S>(root: &Root<K, V, S>, keys: &[(Hashed<K>, Revision)], claims: &[Option<Claim<T>>]) -> Self {
        let mut share = Self { mine: Vec::new(), left: Vec::new(), taken_out: Vec::new() };
        let there = keys.iter().zip(claims).filter(|((key, created), _)| root.has_created(key, *created));
        for ((key, _), claim) in there {
            match claim {
                Some(Claim { holder, remaining }) => {
                    let left = Left::Locked { holder: holder.clone(), remaining: *remaining };
                    share.left.push((key.key.clone(), left));
                }
                None => share.mine.push(key.clone()),
            }
        }
        share
    }
}

impl<K, V, T> Share<K, V, T> {
    fn is_put_off(&self) -> bool {
        self.left.iter().any(|(_, left)| matches!(left, Left::PutOff))
    }
}

/// Puts the belongings of a session that could not be ended because of a panic where `expire` finds them.
struct Ending<'a, K, V, T, S> {
    core: &'a Core<K, V, T, S>,
    belongings: Option<Arc<Belongings<K, T>>>,
}

impl<K, V, T, S> Drop for Ending<'_, K, V, T, S> {
    fn drop(&mut self) {
        if let Some(belongings) = self.belongings.take() {
            let due = self.core.published.clock.now().checked_add(RETRY);
            self.core.sessions.put(belongings, due);
        }
    }
}
