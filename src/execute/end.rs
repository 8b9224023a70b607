//! Ending a job: its row goes, or waits for the next attempt, and the history gets what it came to.
//!
//! Outside of the job's subtransaction, in the batch's. What fails here fails the batch, which is
//! rolled back; whom to blame for it stands in the tally then.

use super::{Batch, report};
use crate::logic::counters::Ending;
use crate::logic::settled::Settled;
use crate::pg::datum::{Datum, Micros};
use crate::pg::error::{PgError, QUERY_CANCELED, Result};
use crate::pg::{bgworker, latch, session, xact};
use crate::queue::claim::Job;
use crate::queue::record::{self, Ended, History};
use crate::queue::settle::{self, Attempt, Verdict};
use crate::settings;
use crate::shared::{Current, SHARED, SlotId};

/// A job whose end could not be written, or whose attempt took its transaction down with it.
#[derive(Clone)]
pub struct Guilty {
    /// It, as it was found.
    pub job: Settled,
    /// Somebody cancelled it: it is to end so.
    pub cancelled: bool,
    /// It has run, and not just been claimed.
    pub ran: bool,
    /// For log lines.
    pub names: String,
}

/// Whose fault it is that a batch failed.
#[derive(Clone, Default)]
pub enum Blame {
    /// No job's.
    #[default]
    Nobody,
    /// One of those that it has settled.
    Settled,
    /// This one's.
    Job(Guilty),
}

impl Batch<'_> {
    pub(super) fn settle(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        result: Result<Option<Datum<'static>>>,
    ) -> Result<()> {
        let ended = match result {
            Ok(value) => self.settle_completed(job, started, finished, value),
            Err(error) => self.settle_error(job, started, &error),
        };
        match ended {
            Ok(Some(outcome)) => self.count(job, started, finished, outcome),
            other => other.map(|_| ()),
        }
    }

    fn settle_completed(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        value: Option<Datum<'static>>,
    ) -> Result<Option<Ending>> {
        self.record(job, started, finished, value)?;
        // What others have read of the queue may be a conflict with its end.
        let deleted = self.jobs.complete(job);
        if !deleted.inspect_err(|_| self.blame(job, started, false))? {
            settle::forget(self.extension, job.id)
                .and_then(|()| xact::fire_deferred())
                .inspect_err(|_| self.blame(job, started, false))?;
        }
        Ok(Some(Ending::Completed))
    }

    /// Writes a completed job into the history, if its queue keeps one.
    pub(super) fn record(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        result: Option<Datum<'static>>,
    ) -> Result<()> {
        let recorded = self.append(job, started, finished, result);
        recorded.inspect_err(|_| match self.history {
            // What waits to be written is written many rows at a time.
            Some(History::Pristine(_)) if !self.tally.settled.is_empty() => {
                self.tally.blame = Blame::Settled;
            }
            _ => self.blame(job, started, false),
        })
    }

    fn append(
        &self,
        job: &Job,
        started: Micros,
        finished: Micros,
        result: Option<Datum<'static>>,
    ) -> Result<()> {
        let Some(history) = &self.history else {
            return Ok(());
        };
        let ended = Ended {
            status: self.completed_status,
            started,
            finished,
            attempts: job.attempts.saturating_add(1),
            result,
        };
        record::record(self.extension, job, &ended, history)
    }

    /// Blames the job: it stays this process's until it is charged for it.
    pub(super) fn blame(&mut self, job: &Job, started: Micros, cancelled: bool) {
        self.set_current(Current::Sealed(job.id), started);
        self.tally.blame = Blame::Job(Guilty {
            job: self.settled(job, started, started, Ending::Failed),
            cancelled,
            ran: !job.is_command,
            names: self.names(job),
        });
    }

    fn settled(&self, job: &Job, started: Micros, finished: Micros, outcome: Ending) -> Settled {
        Settled {
            job: job.id,
            outcome,
            waited: started.saturating_sub(job.due).max(0),
            ran: finished.saturating_sub(started).max(0),
            attempts: job.attempts,
            max_attempts: job.max_attempts.unwrap_or(self.queue.max_attempts),
            started,
        }
    }

    /// Counts a job that was settled.
    pub(super) fn count(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        outcome: Ending,
    ) -> Result<()> {
        let settled = self.settled(job, started, finished, outcome);
        if settings::LOG_JOBS.get() == settings::LOG_ALL {
            report::log_job(&self.names(job), outcome, settled.ran)?;
        }
        self.tally.cancelled |= outcome == Ending::Cancelled;
        self.tally.settled.push(settled);
        Ok(())
    }

    /// Settles what did not go well; `None` if it was interrupted for the others' sake.
    fn settle_error(
        &mut self,
        job: &Job,
        started: Micros,
        error: &PgError,
    ) -> Result<Option<Ending>> {
        let cancelled = !leave_running(self.slot, job.id);
        if cancelled {
            absorb_cancel();
        } else if self.is_in_the_way() {
            self.tally.interrupted = true;
            return Ok(None);
        }
        if self.strict {
            // The error has doomed the transaction, or its snapshot is too old to try again with.
            self.blame(job, started, cancelled);
            return Err(error.clone());
        }
        let outcome = match cancelled {
            true => self.cancel(job, started).map(|()| Some(Ending::Cancelled)),
            false => self.charge(job, started, error),
        };
        outcome.inspect_err(|_| self.blame(job, started, cancelled))
    }

    fn cancel(&self, job: &Job, started: Micros) -> Result<()> {
        settle::cancel(self.extension, job.id, Some(&attempt(job, started)))?;
        xact::fire_deferred()
    }

    fn charge(&mut self, job: &Job, started: Micros, error: &PgError) -> Result<Option<Ending>> {
        let attempt = attempt(job, started);
        let max_attempts = job.max_attempts.unwrap_or(self.queue.max_attempts);
        let verdict = settle::fail(self.extension, self.queue, &attempt, max_attempts, error)?;
        xact::fire_deferred()?;
        report::log_failure(&self.names(job), attempt.ended, error)?;
        if verdict == Verdict::Failed {
            let (name, owner) = (&self.queue.name, self.role);
            let dead = report::dead(job.id, name, owner, attempt.ended, error)?;
            self.tally.dead.push(dead);
        }
        self.tally.last_error = Some(error.clone());
        Ok(match verdict {
            Verdict::Retry => Some(Ending::Retried),
            Verdict::Failed => Some(Ending::Failed),
            Verdict::Gone => None,
        })
    }

    /// Whether the overrun timer cancelled what others wait for. Whatever it fails with then, the
    /// interruption may be the cause: a connection that was cut off in the middle fails later.
    pub(super) fn is_in_the_way(&self) -> bool {
        !self.tally.settled.is_empty() && session::has_overrun()
    }

    pub(super) fn names(&self, job: &Job) -> String {
        let handler = job.handler.as_ref().or(self.queue.handler.as_ref());
        report::names(job.id, &self.queue.name, handler.map(Vec::as_slice))
    }
}

fn attempt(job: &Job, started: Micros) -> Attempt {
    Attempt {
        job: job.id,
        attempts: job.attempts,
        ended: job.attempts.saturating_add(1),
        started,
    }
}

/// Whether somebody cancels the job that the slot runs.
pub fn is_cancelling(slot: SlotId, job: i64) -> bool {
    let current = SHARED.peek(|unlocked| unlocked.slots.get(slot.index).map(|slot| slot.current()));
    current.flatten() == Some(Current::Cancelling(job))
}

/// Marks the job's work as done, too late to cancel; an error if somebody was faster.
pub fn seal(slot: SlotId, job: i64) -> Result<()> {
    let sealed = SHARED
        .peek(|unlocked| {
            let slot = unlocked.slots.get(slot.index)?;
            Some(slot.advance(Current::Running(job), Current::Sealed(job)))
        })
        .flatten();
    match sealed {
        Some(false) => Err(cancelled()),
        _ => Ok(()),
    }
}

/// Ends the stage in which a job that failed can be cancelled by a signal; false if somebody was
/// faster. Whoever cancels it from here on waits for its row, and finds it there to be tried again.
pub(super) fn leave_running(slot: SlotId, job: i64) -> bool {
    SHARED
        .peek(|unlocked| {
            let slot = unlocked.slots.get(slot.index)?;
            let left = slot.advance(Current::Running(job), Current::None);
            Some(left || slot.current() != Current::Cancelling(job))
        })
        .flatten()
        .unwrap_or(true)
}

/// What a job fails with that somebody cancels.
pub fn cancelled() -> PgError {
    PgError::new(QUERY_CANCELED, "canceling job due to user request")
}

/// The signal of a cancel is sent under the lock; having held it, and come back from the kernel
/// once, the signal has arrived and is forgotten, so that it does not hit the next job.
pub fn absorb_cancel() {
    SHARED.write(|_| ());
    bgworker::signal(bgworker::my_pid(), 0);
    session::forget_cancel();
    let _ = latch::check_for_interrupts();
}
