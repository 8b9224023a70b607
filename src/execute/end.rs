//! Ending the jobs of a batch, through the door for ends (`queue::end`).
//!
//! Outside of the job's subtransaction, in the batch's. What fails here fails the batch, which is
//! rolled back; whom to blame for it stands in the tally then.

use std::cell::Cell;
use std::rc::Rc;

use super::Batch;
use crate::logic::counters::Ending;
use crate::logic::recent::Called;
use crate::logic::settled::Settled;
use crate::pg::datum::{Datum, Micros};
use crate::pg::error::{PgError, QUERY_CANCELED, Result};
use crate::pg::fault::fault;
use crate::pg::{bgworker, latch, session, xact};
use crate::queue::claim::Job;
use crate::queue::end::{self, Attempt, Completion, END_NOT_WRITTEN, EndOf, Execution, How, Said};
use crate::queue::expiry;
use crate::queue::record::History;
use crate::queue::report::Runs;
use crate::queue::told::Written;
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
    /// What it called.
    pub called: Option<Rc<Called>>,
}

/// What there is of the row of a job that did its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// It is locked.
    Locked,
    /// It was deleted before the call.
    Away,
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

impl<'a> Batch<'a> {
    pub(super) fn settle(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        result: Result<Option<Datum<'static>>>,
    ) -> Result<()> {
        match result {
            Ok(value) => match self.snoozed {
                None => self.complete(job, started, finished, value, Row::Locked),
                Some(delay) => self.come_again(job, started, finished, delay),
            },
            Err(error) => self.settle_error(job, started, finished, &error),
        }
    }

    /// Ends a job that did its work.
    pub(super) fn complete(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        result: Option<Datum<'static>>,
        row: Row,
    ) -> Result<()> {
        let recorded = Cell::new(false);
        let completion = Completion {
            job,
            jobs: self.jobs,
            history: self.history.as_ref(),
            status: self.completed_status,
            result,
            is_away: row == Row::Away,
            recorded: &recorded,
        };
        let of = self.end_of(job, started, finished);
        match end::write(self.extension, &of, How::Completed(completion)) {
            Ok(written) => {
                self.add(written);
                Ok(())
            }
            Err(error) => {
                self.blame_completed(job, started, recorded.get());
                Err(error)
            }
        }
    }

    /// Has a job that did its work, and asked for it, come again after a delay.
    pub(super) fn come_again(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        delay: Micros,
    ) -> Result<()> {
        let of = self.end_of(job, started, finished);
        let written = end::write(self.extension, &of, How::Snoozed(delay));
        match written.and_then(|written| xact::fire_deferred().map(|()| written)) {
            Ok(written) => {
                self.add(written);
                Ok(())
            }
            Err(error) => {
                self.blame(job, started, false);
                Err(error)
            }
        }
    }

    /// What waits to be written is written many rows at a time. What others have read of the queue may
    /// be a conflict with the end of its row.
    fn blame_completed(&mut self, job: &Job, started: Micros, recorded: bool) {
        let many = matches!(self.history, Some(History::Pristine(_)));
        if !recorded && many && !self.tally.untold.is_empty() {
            self.tally.blame = Blame::Settled;
        } else {
            self.blame(job, started, false);
        }
    }

    /// Blames the job: it stays this process's until it is charged for it.
    pub(super) fn blame(&mut self, job: &Job, started: Micros, cancelled: bool) {
        self.set_current(Current::Sealed(job.id), started);
        let of = self.end_of(job, started, started);
        self.tally.blame = Blame::Job(Guilty {
            job: of.settled(Ending::Failed),
            cancelled,
            ran: !job.is_command,
            names: of.names(),
            called: of.runs.called(),
        });
    }

    /// What the door for ends has to know of a job of this batch.
    pub(super) fn end_of<'j>(&self, job: &'j Job, started: Micros, finished: Micros) -> EndOf<'j>
    where
        'a: 'j,
    {
        let handler = job.handler.as_ref().or(self.queue.handler.as_ref());
        EndOf {
            queue: Some(self.queue),
            queue_name: &self.queue.name,
            owner: self.role,
            runs: handler.map_or(Runs::Command, |name| Runs::Handler(name)),
            attempt: Attempt {
                job: job.id,
                attempts: job.attempts,
                ended: job.attempts.saturating_add(1),
                started,
            },
            max_attempts: job.max_attempts.unwrap_or(self.queue.max_attempts),
            execution: Some(Execution {
                due: job.due,
                finished,
            }),
        }
    }

    /// Ends a job that has expired since it was found: it does not start.
    pub(super) fn expire(&mut self, job: &Job) -> Result<()> {
        let error = expiry::error();
        let mut of = self.end_of(job, 0, 0);
        of.attempt.ended = job.attempts;
        of.execution = None;
        let cancel = || end::write(self.extension, &of, How::CancelledFor(&error));
        let written = match xact::subtransaction(cancel) {
            Ok(written) => written,
            Err(_) => end::write(self.extension, &of, How::SetAside(END_NOT_WRITTEN, &error))?,
        };
        self.add(written);
        Ok(())
    }

    /// Adds an end that was written to those that are told once the batch has committed.
    pub(super) fn add(&mut self, written: Written) {
        self.tally.cancelled |= written.outcome() == Some(Ending::Cancelled);
        self.tally.untold.add(written);
    }

    /// Settles what did not go well, unless it was interrupted for the others' sake.
    fn settle_error(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        error: &PgError,
    ) -> Result<()> {
        let cancelled = !leave_running(self.slot, job.id);
        if cancelled {
            absorb_cancel();
        } else if self.is_in_the_way() {
            self.tally.interrupted = true;
            return Ok(());
        }
        if self.strict {
            // The error has doomed the transaction, or its snapshot is too old to try again with.
            self.blame(job, started, cancelled);
            return Err(error.clone());
        }
        let how = match cancelled {
            true => How::Cancelled,
            false => How::Failed(error, Said::No),
        };
        let of = self.end_of(job, started, finished);
        fault!(Failing);
        let written = end::write(self.extension, &of, how);
        let written = written.and_then(|written| xact::fire_deferred().map(|()| written));
        match written {
            Ok(written) => self.add(written),
            Err(refused) => {
                self.blame(job, started, cancelled);
                return Err(refused);
            }
        }
        if !cancelled {
            self.tally.last_error = Some(error.clone());
        }
        Ok(())
    }

    /// Whether the overrun timer cancelled what others wait for. Whatever it fails with then, the
    /// interruption may be the cause: a connection that was cut off in the middle fails later.
    pub(super) fn is_in_the_way(&self) -> bool {
        !self.tally.untold.is_empty() && session::has_overrun()
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
