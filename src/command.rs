//! Command jobs: SQL text at top level, as `psql -c` would run it.
//!
//! The claim was committed before (`execute`), so the attempt is charged whatever happens; the text
//! runs in transactions of its own, and the end is committed after it. If the process dies in
//! between, the keeper finds the claimed row and settles it.

use crate::execute::{self, BUDGET_MS, Outcome, Settled};
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
pub fn execute(slot: SlotId, claimed: &Claimed, context: MemoryContext) -> Result<Settled> {
    RUNNING.set(true);
    let Some(held) = xact::catalog_transaction(catalog::hold_extension_on)? else {
        end(slot);
        return Err(queue::not_installed());
    };
    let settled = run_and_settle(slot, claimed, context)?;
    catalog::release_extension(held)?;
    Ok(settled)
}

/// No command runs any more.
fn end(slot: SlotId) {
    SHARED.peek(|state| {
        if let Some(slot) = state.slots.get(slot.index) {
            slot.set_current(Current::None, 0);
        }
    });
    marks::clear(slot.index);
    RUNNING.set(false);
}

fn run_and_settle(slot: SlotId, claimed: &Claimed, context: MemoryContext) -> Result<Settled> {
    let launcher = SHARED.read(|state| state.launcher_procno).unwrap_or(-1);
    activity::running(&claimed.text);
    session::accept_cancels();
    // A cancel that came while it was claimed has been noted, but its signal is spent.
    let result = if execute::is_cancelling(slot, claimed.attempt.job) {
        Err(execute::cancelled())
    } else {
        // Jobs may stand behind it that its worker had found and announced.
        session::start_overrun_timer(BUDGET_MS, launcher)?;
        let result = command::run(&claimed.text, context, claimed.timeout_ms);
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
    let outcome = settle(claimed, result, cancelled)?;
    end(slot);
    let ran = finished.saturating_sub(claimed.attempt.started).max(0);
    let names = execute::names(claimed.attempt.job, &claimed.queue.name, None);
    execute::log_job(&names, outcome, ran)?;
    Ok(Settled {
        job: claimed.attempt.job,
        outcome,
        waited: claimed.waited,
        ran,
        attempts: claimed.attempt.attempts,
        max_attempts: claimed.max_attempts,
        started: claimed.attempt.started,
    })
}

fn settle(claimed: &Claimed, result: Result<String>, cancelled: bool) -> Result<Outcome> {
    xact::transaction(|| {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(Outcome::Failed);
        };
        session::set_read_only(false);
        let (queue, attempt) = (&claimed.queue, &claimed.attempt);
        match result {
            Ok(tag) => {
                settle::complete_command(&extension, queue, attempt, &tag)?;
                Ok(Outcome::Completed)
            }
            Err(_) if cancelled => {
                settle::cancel(&extension, attempt.job, Some(attempt))?;
                Ok(Outcome::Cancelled)
            }
            Err(error) => {
                let limit = claimed.max_attempts;
                let verdict = settle::fail(&extension, queue, attempt, limit, &error)?;
                failed(claimed, &error)?;
                Ok(if verdict == Verdict::Retry {
                    Outcome::Retried
                } else {
                    Outcome::Failed
                })
            }
        }
    })
}

fn failed(claimed: &Claimed, error: &PgError) -> Result<()> {
    let names = execute::names(claimed.attempt.job, &claimed.queue.name, None);
    execute::log_failure(&names, claimed.attempt.ended, error)
}
