//! `expire` where many sessions are due at once: each has an ephemeral key, and a lock on it or none. Linear growth is what is
//! wanted. What is measured is the CPU time of the thread that calls it.

use benches::{Options, duration, tails::quantile};
use cpu_time::ThreadTime;
use state_dictionary::{Change, LockRequest, StateDictionary};
use std::time::Duration;

fn main() {
    let Some(options) = Options::parse() else { return };
    println!("\nOne call of `expire`:\n");
    println!("| sessions due | with a lock each | without |");
    println!("|---|---|---|");
    for sessions in [1_000, 4_000, 8_000] {
        let sessions = if options.brief { sessions / 50 } else { sessions };
        let [with, without] = [true, false].map(|locks| duration(typical(sessions, locks)));
        println!("| {sessions} | {with} | {without} |");
    }
}

/// The median of five, or of fewer if they take long, in nanoseconds.
#[allow(clippy::cast_precision_loss)] // figures to be read
fn typical(sessions: u32, locks: bool) -> f64 {
    let (mut times, mut all) = (Vec::new(), Duration::ZERO);
    while times.len() < 5 && all < Duration::from_secs(2) {
        let time = expire(sessions, locks);
        times.push(time.as_nanos() as f64);
        all += time;
    }
    quantile(times, 0.5)
}

fn expire(sessions: u32, locks: bool) -> Duration {
    let dictionary: StateDictionary<u32, u32, u32> = StateDictionary::new();
    for number in 0..sessions {
        let mut session = dictionary.session(number);
        assert!(session.update_ephemeral(Change::new().set(number, number)).is_ok());
        if locks {
            assert!(session.update_locks(LockRequest::new().acquire(number, None)).is_ok());
        }
        session.detach(Duration::ZERO);
    }
    let begun = ThreadTime::now();
    let expiry = dictionary.expire();
    let time = begun.elapsed();
    assert!(expiry.sessions.len() == sessions as usize && dictionary.snapshot().is_empty());
    assert!(dictionary.locks().is_empty());
    time
}
