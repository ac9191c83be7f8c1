//! The command line.

use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
A session of many users, each writing and following everything, and the check that all of them saw the same.

Usage: session [--users N] [--seconds S] [--seed N]
       session [--users N] [--speed real|max] --recording FILE.nanover.zip

  --users N         how many users, 1 to 1024 [16; of a recording 1]
  --seconds S       how long the session takes, 0.1 to 86400 [10]
  --seed N          what the users do follows from it, but for what the threads' timing adds [1]
  --recording FILE  replay this recording instead, once for each user
  --speed real|max  in the time it took, or as fast as it goes [max]
  --help            this text
";

const MAX_USERS: usize = 1024;

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) users: usize,
    pub(crate) what: What,
}

#[derive(Debug, PartialEq)]
pub(crate) enum What {
    Live { length: Duration, seed: u64 },
    Replay { file: PathBuf, speed: Speed },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    Real,
    Max,
}

impl Options {
    /// Of the arguments after the program's name. `None` if only the usage was asked for.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, String> {
        let (mut users, mut length, mut seed, mut file, mut pace) = (None, None, None, None, None);
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Arg::Long("users") => {
                    users = Some(value(&mut parser, "--users", "a number from 1 to 1024", |text| {
                        text.parse().ok().filter(|users| (1..=MAX_USERS).contains(users))
                    })?);
                }
                Arg::Long("seconds") => {
                    length = Some(value(&mut parser, "--seconds", "a number from 0.1 to 86400", |text| {
                        text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds))
                    })?);
                }
                Arg::Long("seed") => {
                    seed = Some(value(&mut parser, "--seed", "a whole number", |text| text.parse().ok())?);
                }
                Arg::Long("speed") => {
                    pace = Some(value(&mut parser, "--speed", "real or max", |text| match text {
                        "real" => Some(Speed::Real),
                        "max" => Some(Speed::Max),
                        _ => None,
                    })?);
                }
                Arg::Long("recording") => {
                    file = Some(PathBuf::from(parser.value().map_err(|error| error.to_string())?));
                }
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected().to_string()),
            }
        }
        let what = match file {
            Some(_) if length.is_some() || seed.is_some() => {
                return Err("--seconds and --seed do not go with --recording".to_owned());
            }
            Some(file) => What::Replay { file, speed: pace.unwrap_or(Speed::Max) },
            None if pace.is_some() => return Err("--speed goes with --recording only".to_owned()),
            None => What::Live { length: Duration::from_secs_f64(length.unwrap_or(10.0)), seed: seed.unwrap_or(1) },
        };
        let users = users.unwrap_or(if matches!(what, What::Live { .. }) { 16 } else { 1 });
        Ok(Some(Self { users, what }))
    }
}

fn value<T>(
    parser: &mut Parser,
    option: &str,
    wanted: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, String> {
    let text = parser.value().map_err(|error| error.to_string())?;
    let parsed = text.parse_with(|text| parse(text).ok_or("")).ok();
    parsed.ok_or_else(|| format!("{option} takes {wanted}, not {:?}", text.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn defaults() {
        let live = What::Live { length: Duration::from_secs(10), seed: 1 };
        assert_eq!(parse("").unwrap().unwrap(), Options { users: 16, what: live });
        let replay = What::Replay { file: "a.zip".into(), speed: Speed::Max };
        assert_eq!(parse("--recording a.zip").unwrap().unwrap(), Options { users: 1, what: replay });
        assert_eq!(parse("--help --users 0").unwrap(), None);
    }

    #[test]
    fn bad_arguments_are_named() {
        for (line, named) in [
            ("--users 0", "--users"),
            ("--users 1025", "--users"),
            ("--users -1", "--users"),
            ("--users many", "\"many\""),
            ("--users", "--users"),
            ("--seconds 0", "--seconds"),
            ("--seconds NaN", "--seconds"),
            ("--seconds inf", "--seconds"),
            ("--seed 1.5", "--seed"),
            ("--speed fast", "\"fast\""),
            ("--speed max", "--recording"),
            ("--recording a.zip --seconds 3", "--seconds"),
            ("--recording", "--recording"),
            ("--colour", "--colour"),
            ("a.zip", "a.zip"),
            ("-x", "-x"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn arguments_that_are_not_unicode() {
        use std::os::unix::ffi::OsStringExt;

        let odd = || OsString::from_vec(vec![b'a', 0xff]);
        let parse = |arguments: [OsString; 2]| Options::parse(arguments);
        assert!(parse(["--users".into(), odd()]).is_err());
        assert!(parse([odd(), odd()]).is_err());
        let what = parse(["--recording".into(), odd()]).unwrap().unwrap().what;
        assert_eq!(what, What::Replay { file: odd().into(), speed: Speed::Max });
    }
}
