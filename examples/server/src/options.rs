//! The command line.

use lexopt::prelude::*;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
A shared board in the browser.

usage: server [--listen ADDRESS:PORT] [--grace SECONDS] [--lease SECONDS] [--store FILE | --etcd ENDPOINT,ENDPOINT...]

  --listen ADDRESS:PORT  where to listen (127.0.0.1:8080); port 0 is any free one
  --grace SECONDS        how long a client that lost its connection keeps its locks and its cursor (5)
  --lease SECONDS        how long a lock lasts if it is not renewed (5)
  --store FILE           keep the board in this file, so that it survives a restart; without, it is in memory
  --etcd ENDPOINTS       share the board with other servers: the members of an etcd cluster, as
                         http://10.0.0.1:2379,http://10.0.0.2:2379; for servers built with `--features etcd`
  --help                 this text
";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) grace: Duration,
    pub(crate) lease: Duration,
    pub(crate) log: Log,
}

/// Where the log of the board is.
#[derive(Clone, Debug)]
pub(crate) enum Log {
    Memory,
    File(PathBuf),
    /// The members of an etcd cluster.
    Etcd(Vec<String>),
}

impl Options {
    /// `None` if only help is wanted.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            grace: Duration::from_secs(5),
            lease: Duration::from_secs(5),
            log: Log::Memory,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("listen") => options.listen = parser.value()?.parse()?,
                Long("grace") => options.grace = seconds(&parser.value()?)?,
                Long("lease") => options.lease = seconds(&parser.value()?)?,
                Long("store") => options.set_log(Log::File(parser.value()?.into()))?,
                Long("etcd") => options.set_log(Log::Etcd(endpoints(&parser.value()?.string()?)?))?,
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }

    fn set_log(&mut self, log: Log) -> Result<(), lexopt::Error> {
        if !matches!(self.log, Log::Memory) {
            return Err("the board is in one place: --store and --etcd cannot be combined or repeated".into());
        }
        self.log = log;
        Ok(())
    }
}

fn endpoints(value: &str) -> Result<Vec<String>, lexopt::Error> {
    if cfg!(not(feature = "etcd")) {
        return Err("this server was built without etcd; build it with: cargo build -p server --features etcd".into());
    }
    let endpoints: Vec<_> = value.split(',').map(|endpoint| endpoint.trim().to_owned()).collect();
    if endpoints.iter().any(String::is_empty) { Err("an endpoint is empty".into()) } else { Ok(endpoints) }
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
