//! A session: many users on one dictionary, each writing what users of virtual rooms write, and each following everything.
//!
//! ```text
//! cargo run --release --example session -- --users 64 --seconds 60
//! cargo run --release --example session -- --users 32 --recording FILE.nanover.zip
//! ```
//!
//! At the end every user's replica, built only from its deliveries, must equal the content, and the content must be
//! what the writers know to have committed. If not, this says where, and ends with 1; with 2 if it could not begin.

mod crew;
mod options;
mod recording;
mod replay;
mod replica;
mod report;
mod users;
mod values;
mod writer;

use options::{Options, USAGE, What};
use recording::Recording;
use report::Report;
use state_dictionary::{Snapshot, StateDictionary};
use std::hash::RandomState;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often users get to see what has changed, and write.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);

type Key = Arc<str>;
type Dictionary = StateDictionary<Key, Value, Key>;
type Content = Snapshot<Key, Value, RandomState>;
type Delivery = state_dictionary::Delivery<Key, Value>;

#[derive(Debug)]
struct Value {
    data: rmpv::Value,
    made: Instant,
}

impl Value {
    fn new(data: impl Into<rmpv::Value>) -> Self {
        Self { data: data.into(), made: Instant::now() }
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return say(io::stdout(), USAGE, 0),
        Err(error) => return say(io::stderr(), &format!("error: {error}\n\n{USAGE}"), 2),
    };
    match run(&options) {
        Ok(report) => say(io::stdout(), &report.to_string(), u8::from(!report.faults.is_empty())),
        Err(error) => say(io::stderr(), &format!("error: {error}\n"), 2),
    }
}

fn run(options: &Options) -> Result<Report, String> {
    let (dictionary, outcome) = match &options.what {
        What::Live { length, seed } => users::session(options.users, *length, *seed)?,
        What::Replay { file, speed } => replay::session(&Recording::open(file)?, options.users, *speed)?,
    };
    Ok(Report::new(&dictionary, outcome, options.users))
}

/// If the output cannot be written, the exit code is still right.
fn say(mut to: impl Write, text: &str, code: u8) -> ExitCode {
    let _ = to.write_all(text.as_bytes());
    ExitCode::from(code)
}
