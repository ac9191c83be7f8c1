//! The command line of those benchmarks that are not criterion's.

use std::time::Duration;

/// How thorough to be.
#[derive(Clone, Copy)]
pub struct Options {
    /// Do everything once, to see that it works: `--test`, as criterion has it.
    pub brief: bool,
    seconds: Option<f64>,
    commits: Option<u64>,
}

impl Options {
    /// `None` if there is an argument that only criterion knows, a filter for example: then nobody has asked for this.
    pub fn parse() -> Option<Self> {
        let mut options = Self { brief: false, seconds: None, commits: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--bench" => {}
                "--test" => options.brief = true,
                "--seconds" => options.seconds = Some(arguments.next()?.parse().ok()?),
                "--commits" => options.commits = Some(arguments.next()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(options)
    }

    /// How long each single measurement takes, unless `--seconds` says otherwise.
    pub fn time(&self, by_default: Duration) -> Duration {
        let by_default = if self.brief { by_default / 50 } else { by_default };
        self.seconds.map_or(by_default, Duration::from_secs_f64)
    }

    /// How many commits there are, unless `--commits` says otherwise.
    pub fn commits(&self, by_default: u64) -> u64 {
        self.commits.unwrap_or(if self.brief { by_default / 100 } else { by_default })
    }
}
