//! Command jobs: SQL text at top level, as `psql -c` would run it.
//!
//! The claim was committed before (`execute`), so the attempt is charged whatever happens; the text
//! runs in transactions of its own, and the end is committed after it. If the process dies in
//! between, the keeper finds the claimed row and settles it.

use crate::execute::aside::{End, dead, is_servers, set_aside};
use crate::execute::{self, BUDGET_MS, Dead};
use crate::logic::counters::Ending;
use crate::logic::settled::Settled;
use crate::pg::catalog;
use crate::pg::datum::Micros;
use crate::pg::error::{PgError, Result};
use crate::pg::local::Local;
use crate::pg::memcx::MemoryContext;
use crate::pg::{activity, clock, command, marks, session, xact};
use crate::queue;
use crate::queue::queues::Queue;
use crate::queue::settle::{self, Attempt, Verdict};
use crate::shared::{Current, SHARED, SlotId};
use crate::watchdog;

/// A command that was claimed and charged.
pub struct Claimed {
    /// What to run.
    pub text: Vec<u8>,
    /// The attempt that it is charged for.
    pub attempt: Attempt,
    /// Executions before it is failed.
    pub max_attempts: i32,
    /// Milliseconds after which the attempt is cancelled; 0: never.
    pub timeout_ms: i32,
    /// From due to start.
    pub waited: Micros,
    /// Its queue.
    pub queue: Queue,
}

/// Whether this process runs a command.
static RUNNING: Local<bool> = Local::new(false);

/// Whether this process runs a command: its note outlives it then, see `pg::marks`.
pub fn is_running() -> bool {
    RUNNING.get()
}

/// Runs a claimed command and settles it. Outside a transaction. Meanwhile DROP EXTENSION waits for it
/// as for any job; if that was faster nothing is run, and the error is that of every job then. An error
/// ends the process.
pub fn execute(
    slot: SlotId,
    claimed: &Claimed,
    context: MemoryContext,
) -> Result<(Settled, Option<Dead>)> {
    RUNNING.set(true);
    let Some(held) = xact::catalog_transaction(catalog::hold_extension_on)? else {
        end(slot);
        return Err(queue::not_installed());
    };
    let ended = run_and_settle(slot, claimed, context)?;
    catalog::release_extension(held)?;
    Ok(ended)
}

/// No command runs any more.
fn end(slot: SlotId) {
    SHARED.peek(|unlocked| {
        if let Some(slot) = unlocked.slots.get(slot.index) {
            slot.set_current(Current::None, 0);
        }
    });
    marks::clear(slot.index);
    RUNNING.set(false);
}

fn run_and_settle(
    slot: SlotId,
    claimed: &Claimed,
    context: MemoryContext,
) -> Result<(Settled, Option<Dead>)> {
    let launcher = SHARED.read(|state| state.launcher_procno).unwrap_or(-1);
    activity::running(&claimed.text);
    session::accept_cancels();
    // A cancel that came while it was claimed has been noted, but its signal is spent.
    let result = if execute::is_cancelling(slot, claimed.attempt.job) {
        Err(execute::cancelled())
    } else {
        // Jobs may stand behind it that its worker had found and announced.
        session::start_overrun_timer(BUDGET_MS, launcher)?;
        let label = format!("my_worker command of job {}", claimed.attempt.job);
        watchdog::begin(slot, claimed.timeout_ms);
        let result = command::run(&claimed.text, &label, context, claimed.timeout_ms);
        watchdog::end(slot);
        session::stop_overrun_timer()?;
        result
    };
    session::hold_cancels();
    context.reset()?;
    let finished = clock::now();
    // What is done cannot be cancelled any more; if somebody tried, the truth is told.
    let cancelled = execute::seal(slot, claimed.attempt.job).is_err();
    if cancelled {
        execute::absorb_cancel();
    }
    session::forget_cancel();
    command::discard_all()?;
    activity::application_name("my_worker worker");
    let mut settled = Settled {
        job: claimed.attempt.job,
        outcome: Ending::Failed,
        waited: claimed.waited,
        ran: finished.saturating_sub(claimed.attempt.started).max(0),
        attempts: claimed.attempt.attempts,
        max_attempts: claimed.max_attempts,
        started: claimed.attempt.started,
    };
    let ended = settle(claimed, &settled, &result, cancelled)?;
    end(slot);
    let (outcome, dead) = ended.unwrap_or((Ending::Failed, None));
    settled.outcome = outcome;
    execute::log_job(&names(claimed), outcome, settled.ran)?;
    Ok((settled, dead))
}

fn names(claimed: &Claimed) -> String {
    execute::names(claimed.attempt.job, &claimed.queue.name, None)
}

/// Writes the end down. Of a command that is done, and whose end is refused, the work stands: it has
/// failed for good.
fn settle(
    claimed: &Claimed,
    job: &Settled,
    result: &Result<String>,
    cancelled: bool,
) -> Result<End> {
    let (queue, ended) = (&claimed.queue, claimed.attempt.ended);
    let refused = match xact::transaction(|| write_end(claimed, job, result, cancelled)) {
        Err(refused) if !is_servers(refused.sqlstate) => refused,
        end => return end,
    };
    let failed = match result {
        Ok(_) => xact::transaction(|| fail_for_good(claimed, job, &refused)),
        Err(_) => Err(refused),
    };
    match failed {
        Err(refused) if !is_servers(refused.sqlstate) => set_aside(queue, job, ended, &refused),
        end => end,
    }
}

fn write_end(
    claimed: &Claimed,
    job: &Settled,
    result: &Result<String>,
    cancelled: bool,
) -> Result<End> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(None);
    };
    let (queue, attempt) = (&claimed.queue, &claimed.attempt);
    match result {
        Ok(tag) => {
            settle::complete_command(&extension, queue, attempt, tag)?;
            Ok(Some((Ending::Completed, None)))
        }
        Err(_) if cancelled => {
            settle::cancel(&extension, attempt.job, Some(attempt))?;
            Ok(Some((Ending::Cancelled, None)))
        }
        Err(error) => {
            let limit = claimed.max_attempts;
            let verdict = settle::fail(&extension, queue, attempt, limit, error)?;
            execute::log_failure(&names(claimed), attempt.ended, error)?;
            if verdict == Verdict::Retry {
                return Ok(Some((Ending::Retried, None)));
            }
            let dead = dead(queue, job, attempt.ended, error)?;
            Ok(Some((Ending::Failed, Some(dead))))
        }
    }
}

fn fail_for_good(claimed: &Claimed, job: &Settled, error: &PgError) -> Result<End> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(None);
    };
    settle::fail_for_good(&extension, &claimed.attempt, error)?;
    let dead = dead(&claimed.queue, job, claimed.attempt.ended, error)?;
    Ok(Some((Ending::Failed, Some(dead))))
}
