//! What a follower makes of its deliveries, and whether it is right.

use crate::{Content, Delivery, Key, Value, writer::Ledger};
use hdrhistogram::Histogram;
use state_dictionary::{Revision, Versioned};
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

/// How many faults of one kind are written out.
const SHOWN: usize = 5;

/// The content, built only from deliveries.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    entries: HashMap<Key, Versioned<Value>>,
    revision: Revision,
    faults: Vec<String>,
}

impl Replica {
    pub(crate) fn apply(&mut self, delivery: &Delivery) {
        let (from, to) = (delivery.since(), delivery.revision());
        if from != self.revision {
            self.faults.push(format!("was at revision {} and got a delivery from {from} to {to}", self.revision));
        }
        self.revision = to;
        let (updates, removals) = delivery.to_parts();
        for key in removals {
            if self.entries.remove(&key).is_none() {
                self.faults.push(format!("up to revision {to}: {key} is removed, and was never there"));
            }
        }
        self.entries.extend(updates);
    }

    /// What is wrong with it, if `content` is what it should be.
    pub(crate) fn faults(mut self, content: &Content) -> Vec<String> {
        let (held, latest) = (self.revision, content.revision());
        if held != latest {
            self.faults.push(format!("it ends at revision {held}, the content at {latest}"));
        }
        let expected = content.entries().map(|(key, entry)| (key, (entry.revision(), entry.value())));
        let found = self.entries.iter().map(|(key, entry)| (key, (entry.revision(), entry.value())));
        self.faults.extend(differences(&expected.collect(), &found.collect()));
        summary(self.faults)
    }
}

/// What is wrong with the content, by the records of those who wrote it.
pub(crate) fn content_faults(content: &Content, ledgers: impl Iterator<Item = Ledger>) -> Vec<String> {
    let mut latest = Ledger::new();
    for (key, last) in ledgers.flatten() {
        let known = latest.entry(key).or_insert_with(|| last.clone());
        if known.0 < last.0 {
            *known = last;
        }
    }
    let expected =
        latest.iter().filter_map(|(key, (revision, value))| Some((key, (*revision, value.as_ref()?)))).collect();
    let found = content.entries().map(|(key, entry)| (key, (entry.revision(), entry.value()))).collect();
    summary(differences(&expected, &found))
}

type Keyed<'a> = HashMap<&'a Key, (Revision, &'a Arc<Value>)>;

fn differences(expected: &Keyed<'_>, found: &Keyed<'_>) -> Vec<String> {
    let mut keys: Vec<_> = expected.keys().chain(found.keys()).collect::<HashSet<_>>().into_iter().collect();
    keys.sort();
    let difference = |key| match (expected.get(key), found.get(key)) {
        (Some((revision, value)), Some((other_revision, other)))
            // Values may hold a NaN, which equals nothing; the same one is the same all the same.
            if revision == other_revision && (Arc::ptr_eq(value, other) || value.data == other.data) =>
        {
            None
        }
        (expected, found) => Some(format!("{key}: expected {}, found {}", shown(expected), shown(found))),
    };
    keys.into_iter().filter_map(difference).collect()
}

fn shown(entry: Option<&(Revision, &Arc<Value>)>) -> impl Display {
    entry.map_or_else(
        || "nothing".to_owned(),
        |(revision, value)| format!("revision {revision}: {:.60}", value.data.to_string()),
    )
}

fn summary(mut faults: Vec<String>) -> Vec<String> {
    let more = faults.len().saturating_sub(SHOWN);
    faults.truncate(SHOWN);
    if more > 0 {
        faults.push(format!("and {more} more"));
    }
    faults
}

/// Of the deliveries to one follower, or to all.
#[derive(Debug)]
pub(crate) struct Flushes {
    /// Microseconds from when the newest value in a delivery was made until the delivery was applied.
    pub(crate) latency: Histogram<u64>,
    /// Microseconds between two deliveries.
    pub(crate) interval: Histogram<u64>,
    pub(crate) keys: Histogram<u64>,
    last: Option<Instant>,
}

impl Flushes {
    pub(crate) fn new() -> Self {
        Self { latency: histogram(), interval: histogram(), keys: histogram(), last: None }
    }

    /// Applies a delivery that came just now.
    pub(crate) fn apply(&mut self, delivery: &Delivery, replica: &mut Replica) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.interval.saturating_record(micros(last, now));
        }
        self.keys.saturating_record(delivery.count() as u64);
        let newest = delivery.updates().max_by_key(|(_, entry)| entry.revision());
        let made = newest.map(|(_, entry)| entry.made);
        replica.apply(delivery);
        if let Some(made) = made {
            self.latency.saturating_record(micros(made, Instant::now()));
        }
    }

    /// Begins anew, with another buffer: the time since the last delivery of this one is no interval.
    pub(crate) fn pause(&mut self) {
        self.last = None;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.latency += &other.latency;
        self.interval += &other.interval;
        self.keys += &other.keys;
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// To two digits, up to an hour in microseconds.
#[allow(clippy::expect_used, reason = "two digits are among those it knows")]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 2).expect("a histogram of two digits")
}
