//! What is told of a history that is wrong, made as small as can be.

use crate::batch::{Batch, History, Scheduler};
use crate::history::table;
use crate::program::{Op, Program};
use std::fmt::Write as _;
use std::panic;
use std::time::{Duration, Instant};

/// How many schedules a smaller program gets to go wrong, under each scheduler.
const SCHEDULES: usize = 3_000;
const TIME_TO_SHRINK: Duration = Duration::from_secs(60);

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
        text.push_str(&table(&history.calls, |index| explained >> index & 1 == 0));
        text.push_str("No order of these calls explains their results. Without those marked ! there is one.\n");
    }
}

/// Leaves out threads and operations for as long as some schedule of what is left still goes wrong in the same way.
fn shrink(wrong: &History) -> Option<History> {
    let began = Instant::now();
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut smallest = None;
    let mut program = wrong.program.clone();
    'smaller: while began.elapsed() < TIME_TO_SHRINK {
        for candidate in smaller(&program) {
            if let Some(found) = go_wrong(&candidate, wrong.panic.is_some()) {
                program = candidate;
                smallest = Some(found);
                continue 'smaller;
            }
            if began.elapsed() > TIME_TO_SHRINK {
                break;
            }
        }
        break;
    }
    panic::set_hook(loud);
    smallest
}

fn smaller(program: &Program) -> Vec<Program> {
    // What sets waiting flushes free has to stay.
    let waits = |op: &Op| matches!(op, Op::Flush { wait: true, .. });
    let keep_ends = program.threads.iter().flatten().any(waits);
    let ends = |op: &Op| keep_ends && matches!(op, Op::Freeze | Op::FreezeBuffer { .. });
    let mut all = Vec::new();
    for (index, thread) in program.threads.iter().enumerate() {
        if !thread.iter().any(ends) {
            let mut without = program.clone();
            without.threads.remove(index);
            all.push(without);
        }
    }
    for (index, thread) in program.threads.iter().enumerate() {
        for at in (0..thread.len()).filter(|at| !ends(&thread[*at])) {
            let mut without = program.clone();
            without.threads[index].remove(at);
            // Whoever holds the content lets it go in the end.
            if thread[at] != Op::LetGo {
                all.push(without);
            }
        }
    }
    all.retain(|program| program.threads.len() > 1 && program.len() > 0);
    all
}

fn go_wrong(program: &Program, panics: bool) -> Option<History> {
    [Scheduler::Pct, Scheduler::Random].into_iter().find_map(|scheduler| {
        let again = program.clone();
        let histories = Batch { scheduler, seed: 1 }.run_programs(SCHEDULES, move |_| again.clone());
        histories.into_iter().find(|history| history.panic.is_some() == panics && !history.is_right())
    })
}
