//! The command line.

use lexopt::prelude::*;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
A shared board in the browser.

usage: server [--listen ADDRESS:PORT] [--grace SECONDS] [--lease SECONDS]

  --listen ADDRESS:PORT  where to listen (127.0.0.1:8080); port 0 is any free one
  --grace SECONDS        how long a client that lost its connection keeps its locks and its cursor (5)
  --lease SECONDS        how long a lock lasts if it is not renewed (5)
  --help                 this text
";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) grace: Duration,
    pub(crate) lease: Duration,
}

impl Options {
    /// `None` if only help is wanted.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            grace: Duration::from_secs(5),
            lease: Duration::from_secs(5),
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("listen") => options.listen = parser.value()?.parse()?,
                Long("grace") => options.grace = seconds(&parser.value()?)?,
                Long("lease") => options.lease = seconds(&parser.value()?)?,
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// More than a millisecond, so that no lease is zero, and less than a day.
fn seconds(value: &OsString) -> Result<Duration, lexopt::Error> {
    let seconds: f64 = value.parse()?;
    if (0.001..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("seconds are between 0.001 and 86400".into())
    }
}
