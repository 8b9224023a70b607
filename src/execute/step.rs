//! One step of a batch: the next candidate is taken and run, or passed by.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::command;
use super::pace::Granted;
use super::{Batch, Step};
use crate::logic::low_water::Place;
use crate::pg::error::{PgError, Result};
use crate::pg::fault::fault;
use crate::pg::{clock, owed, xact};
use crate::queue::claim::{Candidate, Found, Job};
use crate::queue::end::{self as ends, CANNOT_BE_RUN, How, Said};
use crate::queue::handler::Shape;
use crate::queue::keys::{self, Admitted};
use crate::shared::consumers;

impl Batch<'_> {
    /// Takes the next candidate and runs it, alone or with others of its batch handler.
    pub(super) fn step(
        &mut self,
        waiting: &mut VecDeque<Candidate>,
        more: impl Fn(Place, usize) -> Result<Vec<Job>>,
    ) -> Result<Step> {
        if self.stretches()
            && let Some(step) = self.run_stretch(waiting)?
        {
            return Ok(step);
        }
        let Some(candidate) = waiting.front().cloned() else {
            return Ok(Step::End);
        };
        match self.admit(&candidate)? {
            Admitted::Yes => {}
            Admitted::No => {
                self.pass(&candidate, waiting);
                return Ok(Step::Next);
            }
            Admitted::Full => return Ok(Step::End),
        }
        let taken = match self.strict {
            _ if self.is_out(candidate.place.id) => None,
            true => self.jobs.take_from_before(&candidate)?,
            false => self.jobs.take(&candidate)?,
        };
        let Some(mut job) = taken else {
            self.tally.missed.push(candidate.place.id);
            self.pass(&candidate, waiting);
            return Ok(Step::Next);
        };
        fault!(Claimed);
        job.key = candidate.key.clone();
        if let Some(defect) = job.defect() {
            waiting.pop_front();
            self.last = Some(candidate.place);
            return self.refuse(&job, &defect).map(|()| Step::Next);
        }
        if job.is_command && !self.tally.untold.is_empty() {
            return Ok(Step::End);
        }
        let granted = match self.grant(&job, waiting)? {
            ControlFlow::Continue(granted) => granted,
            ControlFlow::Break(step) => return Ok(step),
        };
        self.start(job, granted, waiting, more)
    }

    /// Starts a job that is locked and may run.
    fn start(
        &mut self,
        job: Job,
        granted: Granted,
        waiting: &mut VecDeque<Candidate>,
        more: impl Fn(Place, usize) -> Result<Vec<Job>>,
    ) -> Result<Step> {
        if job.is_command {
            waiting.pop_front();
            self.claim(&job, granted)?;
            return Ok(Step::End);
        }
        let known = self
            .find_function(&job)
            .and_then(|index| self.check_author(&job, index));
        if let Ok(index) = known
            && self.together
            && self.shape(index) == Some(Shape::Batch)
            && job.attempts == 0
        {
            waiting.clear();
            return self.run_together(job, index, granted, more);
        }
        self.called_batch = false;
        self.run_job(&job, known, granted)?;
        if self.tally.interrupted {
            return Ok(Step::End);
        }
        waiting.pop_front();
        self.last = Some(job.place());
        Ok(Step::Next)
    }

    /// Takes the key of a job that is about to start, if it has one, and asks whether it is its turn.
    pub(super) fn admit(&self, candidate: &Candidate) -> Result<Admitted> {
        let Some(key) = &candidate.key else {
            return Ok(Admitted::Yes);
        };
        // With one snapshot for all it was asked in a transaction before.
        if self.strict {
            return Ok(Admitted::Yes);
        }
        let job = candidate.place.id;
        keys::admit(self.jobs, self.slot, self.queue, self.role, key, job)
    }

    /// Whether a consumer has the job. What is received later sees that the queue has a handler.
    pub(super) fn is_out(&self, job: i64) -> bool {
        self.leased && consumers::of_job(self.extension.jobs, job).is_some()
    }

    /// Leaves a candidate behind.
    pub(super) fn pass(&mut self, candidate: &Candidate, waiting: &mut VecDeque<Candidate>) {
        waiting.pop_front();
        self.last = Some(candidate.place);
        self.reached = clock::now();
        self.set_left(waiting.len());
    }

    /// Fails a job that nobody can run; if even that cannot be written, it is set aside.
    fn refuse(&mut self, job: &Job, defect: &PgError) -> Result<()> {
        let started = clock::now();
        let of = self.end_of(job, started, started);
        let fail = || ends::write(self.extension, &of, How::FailedForGood(defect, Said::No));
        let written = match xact::subtransaction(fail) {
            Ok(written) => written,
            Err(_) => ends::write(self.extension, &of, How::SetAside(CANNOT_BE_RUN, defect))?,
        };
        self.add(written);
        Ok(())
    }

    /// Charges a command and hands it out of the batch.
    fn claim(&mut self, job: &Job, granted: Granted) -> Result<()> {
        let started = granted.unwrap_or_else(clock::now);
        if job.is_expired(started) {
            return self.expire(job);
        }
        // Until that is committed.
        self.blame(job, started, false);
        let claimed = command::claim(self.extension, self.slot, self.queue, job, started)?;
        self.tally.command = Some(claimed);
        // What a rate has let start must be known after a crash.
        match self.queue.rate.is_none() && self.queue.by_key.is_none() {
            true => owed::do_not_wait(),
            false => Ok(()),
        }
    }
}
