//! Batches of histories: one seed, one scheduler, one shuttle runner.
//!
//! A batch is a function of its seed. The depth-3 scheduler learns from the executions before how long they are, so a
//! history of a batch can only be had again by running those before it, too.

use crate::check::{Verdict, check};
use crate::execute::{Recorder, execute};
use crate::history::{Call, complete};
use crate::program::Program;
use parking_lot::Mutex;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scheduler {
    Random,
    Pct,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Batch {
    pub(crate) scheduler: Scheduler,
    pub(crate) seed: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) struct History {
    pub(crate) program: Program,
    pub(crate) calls: Vec<Call>,
    /// What a thread panicked with, or shuttle, for a deadlock.
    pub(crate) panic: Option<String>,
}

pub(crate) const BATCH: usize = 1_000;
const PCT_DEPTH: usize = 3;

impl Batch {
    pub(crate) fn program(self, index: usize) -> Program {
        Program::random(fastrand::Rng::with_seed(self.seed ^ (index as u64) << 32).u64(..))
    }

    /// The first so many histories of this batch; fewer if one ends in a panic, which is then the last.
    pub(crate) fn run(self, histories: usize) -> Vec<History> {
        self.run_programs(histories, move |index| self.program(index))
    }

    pub(crate) fn run_programs(
        self,
        count: usize,
        program: impl Fn(usize) -> Program + Send + Sync + 'static,
    ) -> Vec<History> {
        let begun = Arc::new(Mutex::new(Vec::<(Program, Arc<Recorder>)>::new()));
        let execution = {
            let begun = Arc::clone(&begun);
            move || {
                let recorder = Arc::new(Recorder::default());
                let program = {
                    let mut begun = begun.lock();
                    let program = program(begun.len());
                    begun.push((program.clone(), Arc::clone(&recorder)));
                    program
                };
                execute(&program, &recorder);
            }
        };
        let mut config = Config::new();
        config.failure_persistence = FailurePersistence::None;
        config.silence_warnings = true;
        let ran = catch_unwind(AssertUnwindSafe(|| match self.scheduler {
            Scheduler::Random => Runner::new(RandomScheduler::new_from_seed(self.seed, count), config).run(execution),
            Scheduler::Pct => {
                Runner::new(PctScheduler::new_from_seed(self.seed, PCT_DEPTH, count), config).run(execution)
            }
        }));
        let mut histories: Vec<_> = std::mem::take(&mut *begun.lock())
            .into_iter()
            .map(|(program, recorder)| {
                let mut calls = recorder.take();
                complete(&mut calls);
                History { program, calls, panic: None }
            })
            .collect();
        if let (Err(panic), Some(last)) = (ran, histories.last_mut()) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            last.panic = Some(text.unwrap_or_else(|| "a panic".to_owned()));
        }
        histories
    }
}

impl History {
    pub(crate) fn check(&self) -> Verdict {
        check(&self.program.setup, &self.calls)
    }

    pub(crate) fn is_right(&self) -> bool {
        self.panic.is_none() && self.check().linearizable
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", if self.scheduler == Scheduler::Pct { "pct" } else { "random" }, self.seed)
    }
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheduler, seed) = text.split_once(':').ok_or("not of the form random:SEED or pct:SEED")?;
        let scheduler = match scheduler {
            "random" => Scheduler::Random,
            "pct" => Scheduler::Pct,
            other => return Err(format!("no such scheduler: {other}")),
        };
        Ok(Self { scheduler, seed: seed.parse().map_err(|error| format!("{seed}: {error}"))? })
    }
}
