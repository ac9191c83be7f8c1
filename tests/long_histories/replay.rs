//! The commits in the order of their revisions, and everything else where it must have been.

use crate::{Given, KEYS, Record, Seen, THREADS, Versioned, fingerprint};
use state_dictionary::Condition;
use std::iter;

/// What the dictionary must be like after the commits up to a revision.
pub(crate) struct Model {
    pub(crate) revision: u64,
    content: [Versioned; KEYS as usize],
    /// Where each buffer's last delivery ended, and which keys were there.
    buffers: Vec<(u64, Vec<u8>)>,
}

impl Model {
    pub(crate) fn new(buffers: usize) -> Self {
        Self { revision: 0, content: [None; KEYS as usize], buffers: vec![(0, Vec::new()); buffers] }
    }

    fn entries(&self) -> impl Iterator<Item = (u8, u64, u64)> {
        let entries = (0..KEYS).zip(&self.content);
        entries.filter_map(|(key, entry)| entry.map(|(value, revision)| (key, value, revision)))
    }

    fn holds(&self, (key, condition): Given) -> bool {
        let found = self.content[usize::from(key)].map(|(_, revision)| revision);
        match condition {
            Condition::Absent => found.is_none(),
            Condition::Present => found.is_some(),
            Condition::At(revision) => found == Some(revision.get()),
            other => unreachable!("no condition is {other:?}"),
        }
    }

    fn commit(&mut self, seen: &Seen) {
        let Seen::Committed { revision, change, given } = seen else { unreachable!("only commits are looked up") };
        assert_eq!(*revision, self.revision + 1, "a gap or a duplicate");
        assert!(given.is_none_or(|given| self.holds(given)), "{revision}: committed, but {given:?} did not hold");
        self.revision = *revision;
        for (key, value) in change {
            self.content[usize::from(*key)] = value.map(|value| (value, *revision));
        }
    }

    pub(crate) fn pending(&self, buffer: usize) -> (Vec<(u8, u64, u64)>, Vec<u8>) {
        let (delivered, keys) = &self.buffers[buffer];
        let updates = self.entries().filter(|(.., revision)| revision > delivered).collect();
        let removals = keys.iter().filter(|key| self.content[usize::from(**key)].is_none()).copied().collect();
        (updates, removals)
    }

    /// Whether this can have been seen at this revision.
    pub(crate) fn explains(&mut self, seen: &Seen) -> bool {
        match seen {
            Seen::Content { revision, fingerprint: seen } => {
                let here = *revision == self.revision;
                assert!(!here || *seen == fingerprint(self.entries()), "not the content of revision {revision}");
                here
            }
            Seen::Versioned(key, entry) => self.content[usize::from(*key)] == *entry,
            Seen::ConditionFailed { given: (key, condition), found } => {
                let as_found = self.content[usize::from(*key)].map(|(_, revision)| revision) == *found;
                as_found && !self.holds((*key, *condition))
            }
            Seen::Delivered { buffer, from, to, updates, removals } => {
                if *to != self.revision {
                    return false;
                }
                assert_eq!(*from, self.buffers[*buffer].0, "deliveries of buffer {buffer} do not join");
                assert_eq!((updates, removals), (&self.pending(*buffer).0, &self.pending(*buffer).1), "at {to}");
                self.buffers[*buffer] = (*to, self.entries().map(|(key, ..)| key).collect());
                true
            }
            // All threads flush this buffer, so it is not known what it delivered before.
            Seen::NothingPending { buffer } => *buffer == THREADS || self.pending(*buffer) == (Vec::new(), Vec::new()),
            _ => true,
        }
    }

    /// Replays what the threads saw from time `start` on.
    pub(crate) fn replay(&mut self, start: u64, threads: &[Vec<Record>]) {
        // By time: the highest revision that a call that begins then can know, and the highest that a call that ends
        // then can have seen.
        let all = || threads.iter().flatten();
        let at = |time: u64| usize::try_from(time - start).unwrap();
        let times = all().map(|record| at(record.ended) + 1).max().unwrap_or(0);
        let (mut known, mut limit) = (vec![self.revision; times], vec![u64::MAX; times]);
        for record in all() {
            if let Some((revision, made)) = record.seen.revision() {
                known[at(record.ended)] = revision;
                limit[at(record.began)] = revision - u64::from(made);
            }
        }
        (1..times).for_each(|time| known[time] = known[time].max(known[time - 1]));
        (1..times).rev().for_each(|time| limit[time - 1] = limit[time - 1].min(limit[time]));

        let mut commits: Vec<_> = all().filter(|record| matches!(record.seen, Seen::Committed { .. })).collect();
        commits.sort_by_key(|record| record.seen.revision());
        let mut queues: Vec<_> = threads.iter().map(|records| records.iter().peekable()).collect();
        for commit in iter::once(None).chain(commits.into_iter().map(Some)) {
            if let Some(Record { began, seen, .. }) = commit {
                self.commit(seen);
                assert!(known[at(*began)] < self.revision, "{} was committed late", self.revision);
            }
            for queue in &mut queues {
                while let Some(Record { began, ended, seen }) = queue.peek() {
                    let explained = if let Seen::Committed { revision, .. } = seen {
                        *revision <= self.revision
                    } else {
                        assert!(self.revision <= limit[at(*ended)], "never so: {seen:?}");
                        known[at(*began)] <= self.revision && self.explains(seen)
                    };
                    if !explained {
                        break;
                    }
                    queue.next();
                }
            }
        }
        for mut queue in queues {
            assert!(queue.peek().is_none(), "never so: {:?}", queue.peek());
        }
    }
}
