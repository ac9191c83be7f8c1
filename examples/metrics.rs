//! The counters of a dictionary as text for Prometheus.
//!
//! ```text
//! cargo run --example metrics --features counters
//! ```
//!
//! A server answers `GET /metrics` with this text. Rates and averages are left to Prometheus.

use state_dictionary::{Change, Counters, StateDictionary, UpdateError};
use std::fmt::Write as _;

/// The exposition format: for each metric its help, its type and its value.
fn metrics(counters: &Counters) -> String {
    let rows = [
        ("commits_total", "counter", counters.commits, "Commits, the initial content included."),
        ("retries_total", "counter", counters.retries, "Attempts that were repeated after a conflict."),
        ("refusals_total", "counter", counters.refusals, "Updates and lock requests that were refused."),
        ("catch_ups_total", "counter", counters.catch_ups, "Flushes of buffers that lagged behind the history."),
        ("buffers", "gauge", counters.live_buffers as u64, "Buffers that exist."),
        ("slowest_lag_revisions", "gauge", counters.slowest_lag, "Commits that the slowest buffer has not seen."),
    ];
    rows.iter().fold(String::new(), |mut text, (name, kind, value, help)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP state_dictionary_{name} {help}\n# TYPE state_dictionary_{name} {kind}");
        let _ = writeln!(text, "state_dictionary_{name} {value}");
        text
    })
}

fn main() -> Result<(), UpdateError<&'static str, i32, ()>> {
    let dictionary: StateDictionary<&str, i32, ()> = StateDictionary::new();
    let _buffer = dictionary.change_buffer();
    for reading in 0..3 {
        dictionary.update_state(&(), Change::new().set("temperature", reading))?;
    }
    let text = metrics(&dictionary.counters());
    print!("{text}");
    assert!(text.contains("\nstate_dictionary_commits_total 3\n"));
    assert!(text.contains("\nstate_dictionary_slowest_lag_revisions 3\n"));
    Ok(())
}
