//! The table at the end, and the faults that were found, if any.

use crate::crew::Outcome;
use crate::replica::{Flushes, content_faults};
use crate::users::PRESENT;
use crate::writer::Tally;
use crate::{Dictionary, FRAME};
use hdrhistogram::Histogram;
use std::fmt::{self, Display, Formatter};

pub(crate) struct Report {
    rows: Vec<(&'static str, String)>,
    /// Who is wrong, and in what.
    pub(crate) faults: Vec<(String, Vec<String>)>,
}

impl Report {
    /// Of a session that is over.
    #[allow(clippy::cast_precision_loss, reason = "for the eye")]
    pub(crate) fn new(dictionary: &Dictionary, outcome: Outcome, users: usize) -> Self {
        let Outcome { parts, panicked, took, memory } = outcome;
        let content = dictionary.snapshot();
        let (mut tally, mut ledgers, mut flushes, mut faults) =
            (Tally::default(), Vec::new(), Flushes::new(), Vec::new());
        let (mut replicas, mut equal) = (0, 0);
        for part in parts {
            if let Some((written, ledger)) = part.written {
                tally += written;
                ledgers.push(ledger);
            }
            if let Some((name, replica, of_one)) = part.followed {
                flushes.add(&of_one);
                let wrong = replica.faults(&content);
                replicas += 1;
                equal += usize::from(wrong.is_empty());
                faults.push((format!("the replica of {name}"), wrong));
            }
        }
        let mut wrong = content_faults(&content, ledgers.into_iter());
        if tally.committed != content.revision().get() {
            wrong.push(format!("{} changes were committed, the revision is {}", tally.committed, content.revision()));
        }
        let present = content.get(PRESENT).and_then(|count| count.data.as_u64()).unwrap_or(0);
        if tally.joined - tally.left != present {
            wrong.push(format!("{} joined and {} left, {PRESENT} is {present}", tally.joined, tally.left));
        }
        faults.push(("the content, by the writers' own records,".to_owned(), wrong));
        faults.push(("a thread".to_owned(), panicked));
        faults.retain(|(_, wrong)| !wrong.is_empty());

        let mut rows = Vec::new();
        let mut row = |name, value| rows.push((name, value));
        let Tally { committed, changes_refused, locks_refused, locks_granted, retries, joined, left } = tally;
        let (seconds, frame) = (took.as_secs_f64(), FRAME.as_secs_f64() * 1000.0);
        row("users", users.to_string());
        if joined > 0 {
            row("came and went", format!("{joined} joined, {left} left"));
        }
        row("time", format!("{seconds:.2} s"));
        row("changes committed", format!("{committed}, {:.0} a second", committed as f64 / seconds));
        let requests = locks_granted + locks_refused;
        row(
            "refused by locks",
            format!("{changes_refused} changes, {locks_refused} of {requests} requests for a lock"),
        );
        row("retries", format!("{retries} times a change was built again, because another commit came first"));
        let latency = millis(&flushes.latency);
        row("flush latency", format!("{latency}, from making the newest value until it is in the replica"));
        row("between flushes", format!("{}, of at least {frame:.1} until the end", millis(&flushes.interval)));
        let keys = percentiles(&flushes.keys, 1.0, 0);
        row("keys per flush", format!("{keys}, in {} flushes", flushes.keys.len()));
        row("keys at the end", content.len().to_string());
        row("resident memory", memory.to_string());
        row("replicas", format!("{equal} of {replicas} equal the final content, revision {}", content.revision()));
        Self { rows, faults }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.rows {
            writeln!(f, "{name:<18} {value}")?;
        }
        for (who, faults) in &self.faults {
            writeln!(f, "\nWRONG: {who}")?;
            for fault in faults {
                writeln!(f, "  {fault}")?;
            }
        }
        Ok(())
    }
}

/// Of a histogram of microseconds.
fn millis(histogram: &Histogram<u64>) -> String {
    percentiles(histogram, 1000.0, 2) + " ms"
}

#[allow(clippy::cast_precision_loss, reason = "for the eye")]
fn percentiles(histogram: &Histogram<u64>, unit: f64, digits: usize) -> String {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit;
    let (middle, rare, most) = (at(0.5), at(0.99), histogram.max() as f64 / unit);
    format!("p50 {middle:.digits$}, p99 {rare:.digits$}, at most {most:.digits$}")
}

/// The resident memory of this process, as looked at now and then. Known on Linux only.
#[derive(Debug)]
pub(crate) struct Memory(Vec<u64>);

impl Memory {
    pub(crate) fn new() -> Self {
        let mut memory = Self(Vec::new());
        memory.look();
        memory
    }

    pub(crate) fn look(&mut self) {
        self.0.extend(status("VmRSS:"));
    }
}

impl Display for Memory {
    #[allow(clippy::cast_precision_loss, reason = "for the eye")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else { return f.write_str("unknown here") };
        let part = |share: usize| self.0[(self.0.len() - 1) * share / 4];
        let mib = |kib: u64| kib as f64 / 1024.0;
        let [quarter, half] = [1, 2].map(part).map(mib);
        write!(f, "{:.1} MiB at the start, {quarter:.1} after a quarter, {half:.1} half way, ", mib(*first))?;
        // The kernel counts the two differently, and neither exactly.
        let peak = self.0.iter().copied().chain(status("VmHWM:")).max().unwrap_or(*last);
        write!(f, "{:.1} at the end; peak {:.1}", mib(*last), mib(peak))
    }
}

/// A line of `/proc/self/status`, in KiB.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
