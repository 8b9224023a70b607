//! Starting jobs no faster than their queue's rate allows.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::{Batch, Grant, Step};
use crate::pg::datum::Micros;
use crate::pg::error::Result;
use crate::pg::fault::fault;
use crate::queue::claim::{Candidate, Job};
use crate::queue::column;
use crate::queue::rates::{self, Lots, Pace, Start};
use crate::shared::SHARED;

/// A start that a rate has allowed: it is the job's `started_at`. `None`: its queue has no rate.
pub(super) type Granted = Option<Micros>;

impl Batch<'_> {
    /// What was allowed to jobs of a batch before, of which nothing is left: they start by it again.
    pub fn with_kept(mut self, kept: Vec<Grant>) -> Self {
        self.kept = kept;
        self
    }

    /// Starts a job that is locked and about to run. Else the batch ends, or goes on with the jobs of other
    /// keys.
    pub(super) fn grant(
        &mut self,
        job: &Job,
        waiting: &mut VecDeque<Candidate>,
    ) -> Result<ControlFlow<Step, Granted>> {
        let Some(rate) = &self.queue.rate else {
            return Ok(ControlFlow::Continue(None));
        };
        let of = (job.id, job.attempts);
        let start = match self.kept.iter().find(|grant| grant.job == of) {
            Some(kept) => Start::At(kept.at),
            None => {
                let group_key = job.value(column::GROUP_KEY);
                rates::start(self.queue, rate, self.role, group_key)?
            }
        };
        match start {
            Start::At(at) => {
                self.tally.grants.push(Grant { job: of, at });
                fault!(Granted);
                Ok(ControlFlow::Continue(Some(at)))
            }
            Start::Not(next) => {
                self.hold_back(next);
                if !rate.per_key {
                    waiting.clear();
                    return Ok(ControlFlow::Break(Step::End));
                }
                self.last = waiting.pop_front().map(|candidate| candidate.place);
                Ok(ControlFlow::Break(Step::Next))
            }
        }
    }

    /// Nobody else might know of it.
    fn hold_back(&mut self, next: Micros) {
        self.tally.limited = true;
        let (database, role) = (self.database, self.role);
        SHARED.write(|state| {
            if let Some(lane) = state.lane(database, role) {
                lane.note_start(next);
            }
        });
    }

    /// How many more jobs a call of a batch handler may get, of at most so many.
    pub(super) fn most_more(&mut self, most: usize) -> usize {
        let mut pace = Pace::new(self.queue, self.role);
        let (most, _) = pace.most(most);
        if pace.next != 0 {
            self.hold_back(pace.next);
        }
        most
    }

    /// Starts the jobs of a call behind the first, at the same time; those that may not start leave the call.
    pub(super) fn grant_others(
        &mut self,
        jobs: &mut Vec<&Job>,
        granted: Granted,
    ) -> Result<Option<Lots>> {
        let (Some(time), Some(rate)) = (granted, &self.queue.rate) else {
            return Ok(None);
        };
        let mut lots = Lots::default();
        let mut held_back = None;
        let mut started = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            let group_key = job.value(column::GROUP_KEY);
            let is_first = index == 0;
            if is_first {
                started.push(*job);
                continue;
            }
            match lots.start(self.queue, rate, self.role, group_key, time)? {
                Start::At(at) => {
                    let job_of = (job.id, job.attempts);
                    self.tally.grants.push(Grant { job: job_of, at });
                    started.push(*job);
                }
                Start::Not(next) => {
                    held_back = Some(held_back.map_or(next, |known: Micros| known.min(next)));
                    if !rate.per_key {
                        break;
                    }
                }
            }
        }
        *jobs = started;
        if let Some(next) = held_back {
            self.hold_back(next);
        }
        Ok(Some(lots))
    }

    /// Of the jobs that were started behind the first the call got only these.
    pub(super) fn give_back(&self, lots: Option<Lots>, jobs: &[&Job]) -> Result<()> {
        let (Some(lots), Some(rate)) = (lots, &self.queue.rate) else {
            return Ok(());
        };
        let kept = jobs.iter().skip(1).map(|job| job.value(column::GROUP_KEY));
        lots.keep(self.queue, rate, self.role, kept)
    }
}
