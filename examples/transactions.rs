//! Read, modify, write, while others do the same: four threads move money between accounts, and the sum stays the same.
//!
//! ```text
//! cargo run --example transactions
//! ```
//!
//! There are two ways. `update_state_with` makes the change from a snapshot, and makes it again after any commit in between.
//! Conditions name what the change depends on, so that commits to other keys do not matter; the caller tries again. Use
//! conditions if the work before the change is slow, or happens elsewhere.

use state_dictionary::{Change, Refusal, Snapshot, StateDictionary, UpdateError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const ACCOUNTS: u32 = 6;
const TRANSFERS: u64 = 5_000;
const EACH_BEGINS_WITH: u64 = 100;
const SUM: u64 = ACCOUNTS as u64 * EACH_BEGINS_WITH;

/// Accounts are numbered, and so are the threads that write.
type Bank = StateDictionary<u32, u64, u64>;
type Failure = UpdateError<u32, u64, u64>;

fn main() -> Result<(), Failure> {
    let bank: Bank =
        StateDictionary::builder().content((0..ACCOUNTS).map(|account| (account, EACH_BEGINS_WITH))).build();
    let (runs, attempts) = (AtomicU64::new(0), AtomicU64::new(0));
    let open = AtomicBool::new(true);

    let (transfers, audits) = thread::scope(|scope| {
        // In each snapshot the sum is the same: a snapshot never shows half a transfer.
        let auditor = scope.spawn(|| {
            let mut audits = 0;
            loop {
                assert_eq!(sum(&bank.snapshot()), SUM);
                audits += 1;
                if !open.load(Ordering::Relaxed) {
                    return audits;
                }
                thread::yield_now();
            }
        });
        let tellers = [0, 1, 2, 3].map(|teller| {
            let (bank, runs, attempts) = (&bank, &runs, &attempts);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(teller);
                let mut done = 0;
                for _ in 0..TRANSFERS {
                    let (from, to) = (random.u32(0..ACCOUNTS), random.u32(0..ACCOUNTS));
                    let amount = random.u64(1..=EACH_BEGINS_WITH);
                    done += u64::from(match teller % 2 {
                        0 => with_closure(bank, teller, from, to, amount, runs)?,
                        _ => with_conditions(bank, teller, from, to, amount, attempts)?,
                    });
                }
                Ok::<_, Failure>(done)
            })
        });
        let done = tellers.map(|teller| teller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        open.store(false, Ordering::Relaxed);
        let audits = auditor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Failure>((done.into_iter().sum::<Result<u64, _>>()?, audits))
    })?;

    let content = bank.snapshot();
    println!("Four tellers were asked for {TRANSFERS} transfers each, and {transfers} were covered.");
    println!("By closure: {} runs for {} requests.", runs.into_inner(), 2 * TRANSFERS);
    println!("On conditions: {} attempts for {} requests.", attempts.into_inner(), 2 * TRANSFERS);
    println!("The auditor looked {audits} times. In the end there are {} in all: {content:?}.", sum(&content));
    assert_eq!(sum(&content), SUM);
    // The initial content is the first commit, and each transfer is one.
    assert_eq!(bank.revision().get(), 1 + transfers);
    Ok(())
}

/// Whether the amount was there to be moved.
fn with_closure(bank: &Bank, teller: u64, from: u32, to: u32, amount: u64, runs: &AtomicU64) -> Result<bool, Failure> {
    let mut covered = false;
    bank.update_state_with(&teller, |content| {
        // The closure runs for every attempt, so its effects must not add up. It counts here only for the output.
        runs.fetch_add(1, Ordering::Relaxed);
        covered = from != to && content[&from] >= amount;
        if !covered {
            return Change::new(); // commits nothing
        }
        Change::new().set(from, content[&from] - amount).set(to, content[&to] + amount)
    })?;
    Ok(covered)
}

/// The same with conditions. The two balances need not be of one instant: the commit checks that both are unchanged.
fn with_conditions(
    bank: &Bank,
    teller: u64,
    from: u32,
    to: u32,
    amount: u64,
    tried: &AtomicU64,
) -> Result<bool, Failure> {
    loop {
        tried.fetch_add(1, Ordering::Relaxed);
        let (Some(debit), Some(credit)) = (bank.get(&from), bank.get(&to)) else { return Ok(false) };
        if from == to || *debit < amount {
            return Ok(false);
        }
        let unchanged = Change::new().if_revision(from, debit.revision()).if_revision(to, credit.revision());
        match bank.update_state(&teller, unchanged.set(from, *debit - amount).set(to, *credit + amount)) {
            Ok(_) => return Ok(true),
            Err(UpdateError { reason: Refusal::ConditionFailed { .. }, .. }) => {} // another teller was faster
            Err(other) => return Err(other),
        }
    }
}

fn sum(content: &Snapshot<u32, u64>) -> u64 {
    content.values().sum()
}
