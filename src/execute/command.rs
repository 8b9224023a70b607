//! Command jobs: SQL text at top level, as `psql -c` would run it.
//!
//! The claim was committed before (`execute`), so the attempt is charged whatever happens; the text
//! runs in transactions of its own, and the end is committed after it. If the process dies in
//! between, the keeper finds the claimed row and settles it.

use crate::execute::aside::{is_servers, set_aside, write_alone};
use crate::execute::{self, BUDGET_MS, snooze};
use crate::pg::catalog;
use crate::pg::datum::Micros;
use crate::pg::error::Result;
use crate::pg::local::Local;
use crate::pg::memcx::MemoryContext;
use crate::pg::{activity, clock, command, identity, marks, session, xact};
use crate::queue;
use crate::queue::end::{Attempt, EndOf, Execution, How, Said};
use crate::queue::queues::Queue;
use crate::queue::report::Runs;
use crate::queue::told::Written;
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
    /// When it was due.
    pub due: Micros,
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
/// ends the process. The end is written and committed then, and the caller tells it.
pub fn execute(slot: SlotId, claimed: &Claimed, context: MemoryContext) -> Result<Written> {
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

fn run_and_settle(slot: SlotId, claimed: &Claimed, context: MemoryContext) -> Result<Written> {
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
        snooze::take();
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
    let of = EndOf {
        queue: Some(&claimed.queue),
        queue_name: &claimed.queue.name,
        owner: identity::current_role(),
        runs: Runs::Command,
        attempt: claimed.attempt,
        max_attempts: claimed.max_attempts,
        execution: Some(Execution {
            due: claimed.due,
            finished,
        }),
    };
    let written = write_end(&of, &result, snooze::take(), cancelled)?;
    end(slot);
    Ok(written)
}

/// Writes the end down. Of a command that is done, and whose end is refused, the work stands: it has
/// failed for good.
fn write_end(
    of: &EndOf,
    result: &Result<String>,
    snoozed: Option<Micros>,
    cancelled: bool,
) -> Result<Written> {
    let how = match result {
        Ok(tag) => snoozed.map_or(How::CommandCompleted(tag), How::Snoozed),
        Err(_) if cancelled => How::Cancelled,
        Err(error) => How::Failed(error, Said::No),
    };
    let refused = match write_alone(of, how) {
        Err(refused) if !is_servers(refused.sqlstate) => refused,
        written => return written,
    };
    let failed = match result {
        Ok(_) => write_alone(of, How::FailedForGood(&refused, Said::Yes)),
        Err(_) => Err(refused),
    };
    match failed {
        Err(refused) if !is_servers(refused.sqlstate) => set_aside(of, &refused),
        written => written,
    }
}
