//! Locks have no revision, so they are checked by time: only what is certain counts.

use crate::{KEYS, Record, Seen};

/// A lock on a key.
#[derive(Debug)]
struct Tenure {
    owner: usize,
    /// Certainly held: from the end of the call that granted it to the beginning of the first that may have ended it.
    certain: (u64, u64),
    /// Certainly not held outside of this.
    possible: (u64, u64),
}

/// The calls that may end the locks of any owner, in the order in which they ended.
struct Ends<'a> {
    calls: Vec<&'a Record>,
    /// For each of them, the earliest beginning of it and those after it.
    earliest: Vec<u64>,
}

impl<'a> Ends<'a> {
    fn new(threads: &'a [Vec<Record>], ends: fn(&Seen) -> bool) -> Self {
        let mut calls: Vec<_> = threads.iter().flatten().filter(|record| ends(&record.seen)).collect();
        calls.sort_by_key(|record| record.ended);
        let mut earliest: Vec<_> = calls.iter().map(|record| record.began).collect();
        (1..calls.len()).rev().for_each(|index| earliest[index - 1] = earliest[index - 1].min(earliest[index]));
        Self { calls, earliest }
    }

    fn after(&self, time: u64) -> usize {
        self.calls.partition_point(|record| record.ended < time)
    }

    /// From when on a lock asked for at this time may have been ended by one of these.
    fn perhaps(&self, asked: u64) -> u64 {
        self.earliest.get(self.after(asked)).copied().unwrap_or(u64::MAX)
    }

    /// From when on a lock granted by this time has been ended by one of these.
    fn surely(&self, granted: u64) -> u64 {
        let mut later = self.calls[self.after(granted)..].iter();
        later.find(|record| record.began > granted).map_or(u64::MAX, |record| record.ended)
    }
}

/// The locks on each key, in the order in which they were granted.
fn tenures(threads: &[Vec<Record>]) -> Vec<Vec<Tenure>> {
    let clears = Ends::new(threads, |seen| matches!(seen, Seen::ClearedAll));
    let ticks = Ends::new(threads, |seen| matches!(seen, Seen::Ticked));
    let mut all: Vec<Vec<Tenure>> = (0..KEYS).map(|_| Vec::new()).collect();
    for (owner, records) in threads.iter().enumerate() {
        let mut open = [None::<usize>; KEYS as usize];
        for &Record { began, ended, ref seen } in records {
            let (acquired, released) = match seen {
                Seen::ReleasedAll => (&[][..], (0..KEYS).collect()),
                Seen::Locks { acquired, released, .. } => (&acquired[..], released.clone()),
                _ => continue,
            };
            for key in released.into_iter().chain(acquired.iter().map(|(key, _)| *key)).map(usize::from) {
                if let Some(tenure) = open[key].take().map(|index| &mut all[key][index]) {
                    tenure.certain.1 = tenure.certain.1.min(began);
                    tenure.possible.1 = tenure.possible.1.min(ended);
                }
            }
            for &(key, leased) in acquired {
                let run_out = if leased { ticks.perhaps(began) } else { u64::MAX };
                let certain = (ended, clears.perhaps(began).min(run_out));
                let possible = (began, clears.surely(ended));
                open[usize::from(key)] = Some(all[usize::from(key)].len());
                all[usize::from(key)].push(Tenure { owner, certain, possible });
            }
        }
    }
    for tenures in &mut all {
        tenures.sort_by_key(|tenure| tenure.certain.0);
    }
    all
}

pub(crate) fn check_locks(threads: &[Vec<Record>]) {
    let tenures = tenures(threads);
    let certainly = |tenure: &&Tenure| tenure.certain.0 < tenure.certain.1;
    let certain: Vec<Vec<_>> = tenures.iter().map(|tenures| tenures.iter().filter(certainly).collect()).collect();
    for tenures in &certain {
        for two in tenures.windows(2) {
            assert!(two[0].certain.1 <= two[1].certain.0, "two had the same lock: {two:?}");
        }
    }
    for (token, records) in threads.iter().enumerate() {
        for &Record { began, ended, ref seen } in records {
            match seen {
                Seen::Committed { revision, change, .. } => {
                    for (key, _) in change {
                        let tenures = &certain[usize::from(*key)];
                        let earlier = &tenures[..tenures.partition_point(|tenure| tenure.certain.0 < began)];
                        let locked = earlier.last().is_some_and(|last| last.owner != token && ended < last.certain.1);
                        assert!(!locked, "{revision}: {token} wrote to {key}, which another client had locked");
                    }
                }
                Seen::LockedByOthers(conflicts) => {
                    for (key, owner) in conflicts {
                        let there = |tenure: &Tenure| tenure.possible.0 < ended && began < tenure.possible.1;
                        let mut latest_first = tenures[usize::from(*key)].iter().rev();
                        let held = latest_first.any(|tenure| tenure.owner == *owner && there(tenure));
                        assert!(held, "{token} was refused because of {owner}, who did not hold {key}");
                    }
                }
                _ => {}
            }
        }
    }
    check_fencing_tokens(threads);
}

/// Each is given out once, and follows real time.
fn check_fencing_tokens(threads: &[Vec<Record>]) {
    let mut grants = Vec::new();
    for &Record { began, ended, ref seen } in threads.iter().flatten() {
        let Seen::Locks { granted, .. } = seen else { continue };
        if let Some(token) = granted.first() {
            assert!(granted.iter().all(|other| other == token), "several fencing tokens in one call");
            grants.push((*token, began, ended));
        }
    }
    grants.sort_unstable();
    assert!(grants.windows(2).all(|two| two[0].0 < two[1].0), "a fencing token was given out twice");
    let mut latest_beginning = 0;
    for (token, began, ended) in grants {
        assert!(latest_beginning < ended, "fencing token {token} was given out before a smaller one was asked for");
        latest_beginning = latest_beginning.max(began);
    }
}
