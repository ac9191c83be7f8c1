//! What a client has of the content, and how late it came.

use hdrhistogram::Histogram;
use std::fmt;
use std::time::Duration;

/// How often the server sends, at most. So long an update may wait, and is late only after that.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
const LATE: Duration = Duration::from_millis(50);

/// A message about the content. It is read once for all clients, which get the same bytes: the server's machine should have
/// time for the server. Keys are numbers here, and values are known by their hash.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) full: bool,
    pub(crate) since: u64,
    pub(crate) revision: u64,
    pub(crate) updates: Vec<(usize, Written)>,
    pub(crate) removals: Vec<usize>,
    /// When the updates in it were sent, in microseconds.
    pub(crate) sent: Vec<u64>,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) hash: u64,
    /// Which of its client's updates it is of, if a client has written it.
    pub(crate) count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Replica {
    pub(crate) revision: u64,
    values: Vec<Option<Written>>,
}

impl Replica {
    pub(crate) fn apply(&mut self, changes: &Changes) -> Result<(), String> {
        if changes.full {
            self.values.clear();
        } else if changes.since > self.revision {
            return Err(format!("nothing came of the revisions after {} up to {}", self.revision, changes.since));
        }
        let updates = changes.updates.iter().map(|(key, value)| (*key, Some(*value)));
        for (key, value) in updates.chain(changes.removals.iter().map(|key| (*key, None))) {
            if key >= self.values.len() {
                self.values.resize(key + 1, None);
            }
            self.values[key] = value;
        }
        self.revision = changes.revision;
        Ok(())
    }

    pub(crate) fn is_equal(&self, other: &Self) -> bool {
        let longer = self.values.len().max(other.values.len());
        (0..longer).all(|key| self.value(key) == other.value(key))
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.values.iter().flatten().count()
    }

    /// Which of its client's updates a cursor is of.
    pub(crate) fn count(&self, key: usize) -> Option<u64> {
        Some(self.value(key)?.count)
    }

    fn value(&self, key: usize) -> Option<Written> {
        *self.values.get(key)?
    }
}

/// A member of an object of numbers.
pub(crate) fn number(object: &str, name: &str) -> Option<u64> {
    let (_, rest) = object.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()?.parse().ok()
}

#[derive(Debug)]
pub(crate) struct Delays {
    /// Of each update, from its sending to its arrival at each client, in microseconds.
    arrivals: Histogram<u64>,
    /// Of each message, how long after it was due: one interval after the sending of the oldest update in it.
    lateness: Histogram<u64>,
    late: u64,
}

impl Delays {
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 2);
        Ok(Self { arrivals: histogram()?, lateness: histogram()?, late: 0 })
    }

    /// `now` in microseconds too.
    pub(crate) fn record(&mut self, sent: &[u64], now: u64) {
        for sent in sent {
            self.arrivals.saturating_record(now.saturating_sub(*sent));
        }
        if let Some(oldest) = sent.iter().min() {
            let late = Duration::from_micros(now.saturating_sub(*oldest)).saturating_sub(INTERVAL);
            self.lateness.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
            self.late += u64::from(late > LATE);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<(), hdrhistogram::AdditionError> {
        self.late += other.late;
        self.arrivals.add(&other.arrivals)?;
        self.lateness.add(&other.lateness)
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantiles = |histogram: &Histogram<u64>| {
            let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
            format!("p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, max {:.1?}", at(0.5), at(0.99), at(0.999), at(1.0))
        };
        writeln!(f, "{} messages were received with {} updates", self.lateness.len(), self.arrivals.len())?;
        writeln!(f, "from sending to arrival:  {}", quantiles(&self.arrivals))?;
        writeln!(f, "messages after their due: {}", quantiles(&self.lateness))?;
        write!(f, "more than {LATE:?} late: {} of {}", self.late, self.lateness.len())
    }
}
