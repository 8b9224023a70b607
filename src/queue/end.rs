//! The door for ends: whoever ends a job, or an execution of one, writes it through [`write`].
//!
//! An end has two moments. In the transaction it is *written*: the row goes, or waits for the next
//! attempt, and the history gets what it came to. Once that is committed it is *told* (`told`): to the
//! counters, to those who wait, to the log. `write` answers with the one thing that can be told, and
//! the compiler refuses to drop it. What follows from an end in the same transaction belongs here,
//! behind the match of [`write`]; what follows after COMMIT belongs into `told`.

use std::cell::Cell;

use crate::logic::counters::Ending;
use crate::logic::retry_rules::{self, Verdict};
use crate::logic::settled::Settled;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{PgError, Result};
use crate::pg::xact;

use super::aside;
use super::claim::{Job, Jobs};
use super::queues::Queue;
use super::record::{self, Ended, History};
use super::report::{self, Dead, Runs};
use super::rerun;
use super::settle::{self, Next};
use super::told::{End, Written};

pub use super::settle::{Attempt, claim_command, forget, release_command};

/// Why a job is set aside that has ended.
pub const END_NOT_WRITTEN: &str = "the end of the job could not be written";
/// Why one is that nobody can run.
pub const CANNOT_BE_RUN: &str = "the job cannot be run";

/// Of which job an end is written, as whoever ends it knows it.
pub struct EndOf<'a> {
    /// Its queue's settings; `None`: there is no such queue.
    pub queue: Option<&'a Queue>,
    /// Its queue's name.
    pub queue_name: &'a [u8],
    /// Whose job it is.
    pub owner: Oid,
    /// For log lines.
    pub runs: Runs<'a>,
    /// The job, and which of its attempts ends.
    pub attempt: Attempt,
    /// Executions before it is failed.
    pub max_attempts: i32,
    /// The execution; `None` if nothing ran, or nobody knows what did.
    pub execution: Option<Execution>,
}

/// An execution of a job, apart from what it came to.
#[derive(Clone, Copy)]
pub struct Execution {
    /// When it was due.
    pub due: Micros,
    /// When it ended.
    pub finished: Micros,
}

/// How a job, or an execution of it, ends.
pub enum How<'a> {
    /// A handler did its work.
    Completed(Completion<'a>),
    /// A command did its work, and answered with this tag.
    CommandCompleted(&'a str),
    /// The job failed in its attempt: the next one follows, if it has one left and its queue's rules say so.
    Failed(&'a PgError, Said),
    /// The attempt ended by a death, or a lease that was lost, and not by an error of the job: the next one
    /// follows, if it has one left. The log has another line of it.
    Died(&'a PgError),
    /// As `Failed`, but the next attempt follows after that delay.
    FailedFor(&'a PgError, Micros),
    /// The job failed, whatever attempts it had left.
    FailedForGood(&'a PgError, Said),
    /// It did its work, and asked to come again after that delay: nothing is charged.
    Snoozed(Micros),
    /// Somebody cancelled it while it waited, whatever attempt that was.
    CancelledWaiting,
    /// It waited, and ends as cancelled for that reason.
    CancelledFor(&'a PgError),
    /// Somebody cancelled the attempt, or it ends so for another reason.
    Cancelled,
    /// Its end cannot be written, or nobody can run it: the text says which, the error says why.
    SetAside(&'a str, &'a PgError),
}

/// Whether the log has the line of a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Not yet.
    No,
    /// It has, or is to have another one.
    Yes,
}

/// What every handler's job pays for, so nothing of it allocates or needs a statement.
pub struct Completion<'a> {
    /// Its row, locked, or deleted before the call.
    pub job: &'a Job,
    /// The table.
    pub jobs: &'a Jobs,
    /// The history, if its queue keeps one.
    pub history: Option<&'a History>,
    /// The final status, as a `text`.
    pub status: Datum<'static>,
    /// What the handler returned, as `jsonb`.
    pub result: Option<Datum<'a>>,
    /// Its row is gone already.
    pub is_away: bool,
    /// Set once the history has taken it: what fails later is the fault of the row.
    pub recorded: &'a Cell<bool>,
}

/// Writes how a job, or an execution, ends. In a transaction. Nothing is
/// written, and nothing to be told, if somebody else was faster.
pub fn write(extension: &Extension, of: &EndOf, how: How) -> Result<Written> {
    match how {
        // Its row is at hand, so no statement tells of its unique key.
        How::Completed(_) => write_end(extension, of, how),
        _ => rerun::following(extension, || write_end(extension, of, how)),
    }
}

fn write_end(extension: &Extension, of: &EndOf, how: How) -> Result<Written> {
    let job = of.attempt.job;
    let outcome = match how {
        How::Completed(completion) => {
            complete(extension, of, &completion)?;
            Some(Ending::Completed)
        }
        How::CommandCompleted(tag) => {
            let keeps = of.queue.is_some_and(|queue| queue.retention > 0);
            if !complete_claimed(extension, of, keeps, tag)? {
                settle::complete_command(extension, keeps, &of.attempt, tag)?;
            }
            Some(Ending::Completed)
        }
        How::Failed(error, said) => {
            let next = match of.judge(error) {
                Verdict::Again => Next::Backoff,
                Verdict::Quick => Next::Quick,
                Verdict::Never => Next::Never,
            };
            return fail(extension, of, next, error, said);
        }
        How::Died(error) => return fail(extension, of, Next::Backoff, error, Said::Yes),
        How::FailedFor(error, delay) => {
            let next = match of.judge(error) {
                Verdict::Never => Next::Never,
                Verdict::Again | Verdict::Quick => Next::After(delay),
            };
            return fail(extension, of, next, error, Said::No);
        }
        How::FailedForGood(error, said) => return fail(extension, of, Next::Never, error, said),
        How::Snoozed(delay) => {
            settle::snooze(extension, &of.attempt, delay)?.then_some(Ending::Snoozed)
        }
        How::CancelledWaiting => settle::cancel(extension, job, None)?.then_some(Ending::Cancelled),
        How::CancelledFor(error) => {
            settle::cancel_for(extension, &of.attempt, error)?.then_some(Ending::Cancelled)
        }
        How::Cancelled => {
            settle::cancel(extension, job, Some(&of.attempt))?.then_some(Ending::Cancelled)
        }
        How::SetAside(what, error) => {
            let set = aside::set_aside(extension, job, what, error)?;
            let dead = match set {
                true => Some(of.dead(error)?.aside(what, error)),
                false => None,
            };
            return Ok(of.written(set.then_some(Ending::Failed), dead));
        }
    };
    Ok(of.written(outcome, None))
}

fn complete(extension: &Extension, of: &EndOf, completion: &Completion) -> Result<()> {
    let job = completion.job;
    if let Some(history) = completion.history {
        let ended = Ended {
            status: completion.status,
            started: of.attempt.started,
            finished: of.execution.map_or(0, |execution| execution.finished),
            attempts: of.attempt.ended,
            result: completion.result,
        };
        record::record(extension, job, &ended, history)?;
    }
    completion.recorded.set(true);
    if completion.is_away || completion.jobs.complete(job)? {
        return rerun::follow(extension, job);
    }
    rerun::following(extension, || settle::forget(extension, job.id))?;
    xact::fire_deferred()
}

/// Ends a command well, as a handler's job, if its row is as its claim has left it and nobody else has it.
fn complete_claimed(extension: &Extension, of: &EndOf, keeps: bool, tag: &str) -> Result<bool> {
    let jobs = Jobs::open_by_id(extension)?;
    let claimed = jobs.by_id(of.attempt.job)?;
    let claimed = claimed.filter(|job| job.attempts == of.attempt.attempts);
    let ended = match &claimed {
        Some(job) if jobs.lock(job)? => {
            let history = match keeps {
                true => Some(record::open_history(extension)?),
                false => None,
            };
            let completion = Completion {
                job,
                jobs: &jobs,
                history: history.as_ref(),
                status: datum::text_datum(b"completed")?,
                // The tag of a statement has nothing that JSON would escape.
                result: Some(datum::jsonb_datum(format!("\"{tag}\"").as_bytes())?),
                is_away: false,
                recorded: &Cell::new(false),
            };
            complete(extension, of, &completion)?;
            history.map_or(Ok(()), History::end)?;
            true
        }
        _ => false,
    };
    jobs.close()?;
    Ok(ended)
}

/// A failure has more lines in the log than others: that of the attempt at once, as it has failed
/// whatever becomes of its end, and that of a dead job once that is committed.
fn fail(
    extension: &Extension,
    of: &EndOf,
    next: Next,
    error: &PgError,
    said: Said,
) -> Result<Written> {
    let outcome = settle::fail(
        extension,
        of.queue,
        &of.attempt,
        of.max_attempts,
        error,
        next,
    )?;
    if said == Said::No {
        report::log_failure(&of.names(), of.attempt.ended, error)?;
    }
    let dead = match outcome.is_some_and(Ending::is_final) {
        true => Some(of.dead(error)?),
        false => None,
    };
    Ok(of.written(outcome, dead))
}

impl EndOf<'_> {
    /// The job in log lines.
    pub fn names(&self) -> String {
        report::names(self.attempt.job, self.queue_name, self.runs)
    }

    /// What was executed, and how that ended.
    pub fn settled(&self, outcome: Ending) -> Settled {
        let started = self.attempt.started;
        let times = self.execution.unwrap_or(Execution {
            due: started,
            finished: started,
        });
        Settled {
            job: self.attempt.job,
            outcome,
            waited: started.saturating_sub(times.due).max(0),
            ran: times.finished.saturating_sub(started).max(0),
            attempts: self.attempt.attempts,
            max_attempts: self.max_attempts,
            started,
        }
    }

    /// What follows from an error of the job, while it has attempts left.
    fn judge(&self, error: &PgError) -> Verdict {
        let (retry_on, fail_on) = match self.queue {
            Some(queue) => (queue.retry_on.as_ref(), queue.fail_on.as_ref()),
            None => (None, None),
        };
        retry_rules::judge(error.sqlstate.text().as_bytes(), retry_on, fail_on)
    }

    fn dead(&self, error: &PgError) -> Result<Dead> {
        let (job, attempts) = (self.attempt.job, self.attempt.ended);
        report::dead(job, self.queue_name, self.owner, attempts, error)
    }

    fn written(&self, outcome: Option<Ending>, dead: Option<Dead>) -> Written {
        let Some(outcome) = outcome else {
            return Written::NOTHING;
        };
        let settled = self.settled(outcome);
        let line = match self.execution {
            Some(_) => report::line(|| self.names(), outcome, settled.ran),
            None => None,
        };
        Written(Some(End {
            queue: self.queue.map_or(0, |queue| queue.id),
            owner: self.owner,
            settled,
            executed: self.execution.is_some(),
            called: self.runs.called(),
            line,
            dead: dead.map(Box::new),
        }))
    }
}
