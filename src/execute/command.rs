//! Command jobs: SQL text at top level, as `psql -c` would run it.
//!
//! The claim was committed before (`execute`), so the attempt is charged whatever happens; the text
//! runs in transactions of its own, and the end is committed after it. If the process dies in
//! between, the keeper finds the claimed row and settles it. The transaction that writes an end claims
//! the next command of the queue, if there is one: so each waits for the disk once, and not twice.

use crate::execute::aside::{is_servers, set_aside, write_alone};
use crate::execute::{self, BUDGET_MS, snooze};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::Micros;
use crate::pg::error::Result;
use crate::pg::fault::fault;
use crate::pg::local::Local;
use crate::pg::memcx::MemoryContext;
use crate::pg::{activity, bgworker, clock, command, identity, marks, owed, session, xact};
use crate::queue;
use crate::queue::claim::Job;
use crate::queue::end::{self, Attempt, EndOf, Execution, How, Said};
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

/// Notes a command for the keeper, should the process die.
fn note(slot: SlotId, job: i64, attempts: i32, started: Micros) {
    let noted = marks::Noted {
        job,
        database: bgworker::my_database(),
        attempts,
        started,
        is_command: true,
    };
    marks::set(slot.index, &noted);
}

/// Charges a command to this process, which runs it once that is committed. In a transaction that has its row.
pub fn claim(
    extension: &Extension,
    slot: SlotId,
    queue: &Queue,
    job: &Job,
    started: Micros,
) -> Result<Claimed> {
    let attempts = job.attempts.saturating_add(1);
    note(slot, job.id, attempts, started);
    show(slot, Current::Running(job.id), started);
    end::claim_command(extension, job.id, started)?;
    fault!(CommandClaimed);
    Ok(Claimed {
        text: job.command()?,
        attempt: Attempt {
            job: job.id,
            attempts,
            ended: attempts,
            started,
        },
        max_attempts: job.max_attempts.unwrap_or(queue.max_attempts),
        timeout_ms: own_timeout_ms(queue, job).unwrap_or(0),
        due: job.due,
        queue: queue.clone(),
    })
}

/// The job's time-out, else its queue's.
pub(super) fn own_timeout_ms(queue: &Queue, job: &Job) -> Option<i32> {
    let own = job.timeout.or(queue.timeout)?;
    Some((own / 1000).clamp(1, i64::from(i32::MAX)) as i32)
}

/// Runs a claimed command and settles it, and then each that `next` claims in the transaction that does so. Outside a
/// transaction. Meanwhile DROP EXTENSION waits for them as for any job; if that was faster nothing is run, and the
/// error is that of every job then. An error ends the process. Ends are written and committed; `tell` tells all but the
/// last, which is the caller's.
pub fn execute(
    slot: SlotId,
    first: Claimed,
    context: MemoryContext,
    mut next: impl FnMut(&Extension) -> Result<Option<Claimed>>,
    mut tell: impl FnMut(Written) -> Result<()>,
) -> Result<Written> {
    RUNNING.set(true);
    let Some(held) = xact::catalog_transaction(catalog::hold_extension_on)? else {
        end_none(slot);
        return Err(queue::not_installed());
    };
    let mut claimed = first;
    let last = loop {
        let ran = run(slot, &claimed, context)?;
        match settle(slot, &claimed, &ran, &mut next)? {
            (written, None) => break written,
            (written, Some(following)) => {
                tell(written)?;
                claimed = following;
            }
        }
    };
    end_none(slot);
    catalog::release_extension(held)?;
    Ok(last)
}

/// What this process shows of the command that it runs.
fn show(slot: SlotId, current: Current, started: Micros) {
    SHARED.peek(|unlocked| {
        if let Some(slot) = unlocked.slots.get(slot.index) {
            slot.set_current(current, started);
        }
    });
}

/// Says whose end is being written; 0: none is.
fn show_ending(slot: SlotId, job: i64) {
    SHARED.peek(|unlocked| {
        if let Some(slot) = unlocked.slots.get(slot.index) {
            slot.set_ending(job);
        }
    });
}

/// No command runs any more.
fn end_none(slot: SlotId) {
    show(slot, Current::None, 0);
    marks::clear(slot.index);
    RUNNING.set(false);
}

/// What a command came to.
struct Ran {
    result: Result<String>,
    finished: Micros,
    /// Somebody cancelled it in time.
    cancelled: bool,
    /// It is to come again after that.
    snoozed: Option<Micros>,
    /// It has done nothing that a crash could leave behind, or that anybody else could notice.
    quiet: bool,
}

impl Ran {
    fn how(&self) -> How<'_> {
        match &self.result {
            Ok(tag) => self
                .snoozed
                .map_or(How::CommandCompleted(tag), How::Snoozed),
            Err(_) if self.cancelled => How::Cancelled,
            Err(error) => How::Failed(error, Said::No),
        }
    }

    /// Whether its end may reach the disk later than others see it: if a crash loses it, the command is run again, which nobody
    /// will notice. The history must keep the end: `wait()` learns there which commit the disk has to have.
    fn may_be_owed(&self, queue: &Queue) -> bool {
        self.quiet && matches!(self.how(), How::CommandCompleted(_)) && queue.retention > 0
    }
}

fn run(slot: SlotId, claimed: &Claimed, context: MemoryContext) -> Result<Ran> {
    let launcher = SHARED.read(|state| state.launcher_procno).unwrap_or(-1);
    marks::begin(slot.index);
    activity::running(&claimed.text);
    fault!(CommandCommitted);
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
        owed::watch();
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
    let quiet = owed::was_quiet();
    activity::application_name("my_worker worker");
    Ok(Ran {
        result,
        finished,
        cancelled,
        snoozed: snooze::take(),
        quiet,
    })
}

/// Writes the end down, and claims the next command in the same transaction, if `next` finds one.
fn settle(
    slot: SlotId,
    claimed: &Claimed,
    ran: &Ran,
    next: impl FnOnce(&Extension) -> Result<Option<Claimed>>,
) -> Result<(Written, Option<Claimed>)> {
    let attempt = claimed.attempt;
    let of = EndOf {
        queue: Some(&claimed.queue),
        queue_name: &claimed.queue.name,
        owner: identity::current_role(),
        runs: Runs::Command,
        attempt,
        max_attempts: claimed.max_attempts,
        execution: Some(Execution {
            due: claimed.due,
            finished: ran.finished,
        }),
    };
    fault!(CommandRan);
    // While the slot shows the next one: the keeper takes neither for a command that nobody has.
    show_ending(slot, attempt.job);
    let both = xact::transaction(|| match catalog::hold_extension()? {
        Some(extension) => {
            let written = end::write(&extension, &of, ran.how())?;
            let following = next(&extension)?;
            fault!(CommandChained);
            if following.is_some() && ran.may_be_owed(&claimed.queue) {
                owed::do_not_wait()?;
            }
            Ok((written, following))
        }
        None => Ok((Written::NOTHING, None)),
    });
    let settled = both.or_else(|_| {
        note(slot, attempt.job, attempt.attempts, attempt.started);
        show(slot, Current::Sealed(attempt.job), attempt.started);
        write_end(&of, ran).map(|written| (written, None))
    });
    show_ending(slot, 0);
    fault!(CommandSettled);
    settled
}

/// Writes the end down. Of a command that is done, and whose end is refused, the work stands: it has
/// failed for good.
fn write_end(of: &EndOf, ran: &Ran) -> Result<Written> {
    let refused = match write_alone(of, ran.how()) {
        Err(refused) if !is_servers(refused.sqlstate) => refused,
        written => return written,
    };
    let failed = match ran.result {
        Ok(_) => write_alone(of, How::FailedForGood(&refused, Said::Yes)),
        Err(_) => Err(refused),
    };
    match failed {
        Err(refused) if !is_servers(refused.sqlstate) => set_aside(of, &refused),
        written => written,
    }
}
