//! The report of a history that is wrong, made as small as possible.

use crate::batch::{Batch, History, Scheduler};
use crate::history::table;
use crate::program::{LAST_KEY, Op, Program};
use std::fmt::Write as _;
use std::panic;
use std::time::{Duration, Instant};

/// How many schedules a smaller program gets to go wrong: few at first, more when nothing goes wrong with few.
const SCHEDULES: [usize; 3] = [200, 1_000, 5_000];

pub(crate) fn report(batch: Batch, index: usize, wrong: &History) -> String {
    let mut text = format!("history {index} of batch {batch} is wrong.\n");
    let _ = writeln!(text, "To run this batch again: LINEARIZABILITY_REPLAY={batch} .ci/shuttle\n");
    describe(&mut text, wrong);
    if let Some(small) = shrink(wrong) {
        text.push_str("\nThe same in small:\n\n");
        describe(&mut text, &small);
    }
    text
}

fn describe(text: &mut String, history: &History) {
    let _ = writeln!(text, "{:?}", history.program.setup);
    if let Some(panic) = &history.panic {
        text.push_str(&table(&history.calls, |_| false));
        let _ = writeln!(text, "panicked: {panic}");
    } else {
        let explained = history.check().explained;
        text.push_str(&table(&history.calls, |index| !explained.has(index)));
        text.push_str("No order of these calls explains their results. Without those marked ! there is one.\n");
    }
}

/// Leaves out threads and operations for as long as some schedule of what is left still goes wrong in the same way, for a minute or
/// as many seconds as `LINEARIZABILITY_SHRINK` says.
fn shrink(wrong: &History) -> Option<History> {
    let seconds = crate::from_env("LINEARIZABILITY_SHRINK").unwrap_or(60);
    let until = Instant::now() + Duration::from_secs(seconds);
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut program = wrong.program.clone();
    let mut smallest = None;
    let mut effort = 0;
    'smaller: while effort < SCHEDULES.len() {
        for candidate in smaller(&program) {
            if Instant::now() > until {
                break 'smaller;
            }
            if let Some(found) = go_wrong(&candidate, SCHEDULES[effort], wrong.panic.is_some()) {
                program = candidate;
                smallest = Some(found);
                continue 'smaller;
            }
        }
        effort += 1;
    }
    panic::set_hook(loud);
    smallest
}

/// Programs with a thread less, with part of a thread less, with an operation less.
fn smaller(program: &Program) -> Vec<Program> {
    // What sets waiting flushes free has to stay.
    let waits = |op: &Op| matches!(op, Op::Flush { wait: true, .. });
    let keep_ends = program.threads.iter().flatten().any(waits);
    // The thread that locks the content unlocks it in the end.
    let must_stay = |op: &Op| match op {
        Op::Freeze | Op::CloseBuffer { .. } => keep_ends,
        Op::Update { change, .. } => keep_ends && change.iter().any(|(key, _)| *key == LAST_KEY),
        Op::LetGo | Op::EndSession { .. } | Op::DropSession { .. } | Op::LeaveSession { .. } => true,
        _ => false,
    };
    let longest = program.threads.iter().map(Vec::len).max().unwrap_or(0);
    let sizes = std::iter::successors(Some(longest), |size| (*size > 1).then_some(size / 2));
    let mut all = Vec::new();
    for size in sizes {
        for (index, thread) in program.threads.iter().enumerate() {
            for (number, part) in thread.chunks(size).enumerate() {
                let range = number * size..number * size + part.len();
                let mut without = program.clone();
                let mut at = 0..;
                without.threads[index].retain(|op| !range.contains(&at.next().unwrap_or(0)) || must_stay(op));
                let holds = without.threads[index].iter().any(|op| matches!(op, Op::Hold { .. }));
                without.threads[index].retain(|op| holds || *op != Op::LetGo);
                without.threads.retain(|thread| !thread.is_empty());
                if without.len() < program.len() {
                    all.push(without);
                }
            }
        }
    }
    all
}

fn go_wrong(program: &Program, schedules: usize, panics: bool) -> Option<History> {
    [Scheduler::Pct, Scheduler::Random].into_iter().find_map(|scheduler| {
        let again = program.clone();
        let histories = Batch { scheduler, seed: 1 }.run_programs(schedules, move |_| again.clone());
        histories.into_iter().find(|history| history.panic.is_some() == panics && !history.is_right())
    })
}
