//! Several jobs in one savepoint: a queue's `jobs_per_savepoint`.
//!
//! A savepoint costs a job that writes a transaction id, and a batch ends when it has many of them. The
//! jobs of a stretch share one: each is locked, called and taken away in it, and their ends are written once
//! it is released. If one of them fails, or takes so long that the others wait for it, all that the stretch
//! did is rolled back, and its jobs are run again one by one, where the one that fails is charged.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::call::{call, limited, refuse_late};
use super::end::Row;
use super::{BUDGET_MS, Batch, Step, is_cancelling, seal, snooze};
use crate::pg::datum::{Datum, Micros};
use crate::pg::error::{PgError, Result};
use crate::pg::fault::fault;
use crate::pg::{clock, guc, session, xact};
use crate::queue::claim::{Candidate, Job};
use crate::queue::handler::Shape;
use crate::queue::keys::Admitted;

/// A job of a stretch that did its work.
struct Done {
    job: Job,
    started: Micros,
    finished: Micros,
    value: Option<Datum<'static>>,
    /// It is to come again after that.
    snoozed: Option<Micros>,
}

/// How a stretch goes.
#[derive(Default)]
struct Stretch {
    done: Vec<Done>,
    /// The one that runs.
    running: Option<Candidate>,
    /// The next one cannot run in a stretch.
    ends_here: bool,
    /// The queue's rate holds the next ones back.
    is_held_back: bool,
}

impl Batch<'_> {
    /// Whether the jobs of this batch run in stretches.
    pub(super) fn stretches(&self) -> bool {
        self.queue.jobs_per_savepoint > 1 && !self.single && self.together
    }

    /// Runs the first candidates in one savepoint; `None` if the first of them cannot run in a stretch.
    pub(super) fn run_stretch(
        &mut self,
        waiting: &mut VecDeque<Candidate>,
    ) -> Result<Option<Step>> {
        let mut stretch = Stretch::default();
        let filled = xact::subtransaction(|| {
            self.fill(waiting, &mut stretch)?;
            fault!(StretchEnds);
            Ok(())
        });
        match filled {
            Ok(()) => {
                self.write_ends(&stretch.done)?;
                if stretch.is_held_back {
                    return Ok(Some(Step::End));
                }
                let is_short = stretch.done.is_empty() && stretch.ends_here;
                Ok((!is_short).then_some(Step::Next))
            }
            Err(error) => self.give_up_stretch(&stretch, error).map(Some),
        }
    }

    /// In the savepoint: runs candidates until the stretch is full or time is up.
    fn fill(&mut self, waiting: &mut VecDeque<Candidate>, stretch: &mut Stretch) -> Result<()> {
        let most = usize::try_from(self.queue.jobs_per_savepoint).unwrap_or(1);
        let row = self.jobs.row()?;
        while stretch.done.len() < most && !self.is_over(stretch) {
            let Some(candidate) = waiting.front().cloned() else {
                break;
            };
            match self.admit(&candidate)? {
                Admitted::Yes => {}
                Admitted::No => {
                    self.pass(&candidate, waiting);
                    continue;
                }
                Admitted::Full => {
                    stretch.ends_here = true;
                    break;
                }
            }
            let taken = match self.is_out(candidate.place.id) {
                true => None,
                false => self.jobs.take_into(&candidate, &row)?,
            };
            let Some(mut job) = taken else {
                self.tally.missed.push(candidate.place.id);
                self.pass(&candidate, waiting);
                continue;
            };
            job.key = candidate.key.clone();
            let index = match job.defect() {
                None if !job.is_command => self.find_function(&job),
                _ => Err(PgError::internal("such a job runs alone")),
            };
            let index = index.and_then(|index| self.check_author(&job, index));
            let Ok(index) = index else {
                stretch.ends_here = true;
                break;
            };
            if self.shape(index) == Some(Shape::Batch) {
                stretch.ends_here = true;
                break;
            }
            let granted = match self.grant(&job, waiting)? {
                ControlFlow::Continue(granted) => granted,
                ControlFlow::Break(Step::Next) => continue,
                ControlFlow::Break(Step::End) => {
                    stretch.is_held_back = true;
                    break;
                }
            };
            let started = granted.unwrap_or_else(clock::now);
            if job.is_expired(started) {
                stretch.ends_here = true;
                break;
            }
            stretch.running = Some(candidate.clone());
            let done = self.run_within(job, index, started, !stretch.done.is_empty())?;
            stretch.running = None;
            stretch.done.push(done);
            self.pass(&candidate, waiting);
        }
        row.end()
    }

    fn is_over(&self, stretch: &Stretch) -> bool {
        !stretch.done.is_empty()
            && (self.tally.temporary
                || self.tally.constraints
                || self.tally.stained
                || self.reached.saturating_sub(self.began) >= Micros::from(BUDGET_MS) * 1000)
    }

    /// Runs one job in the stretch's savepoint, and takes it away. `others_wait`: those before it do.
    fn run_within(
        &mut self,
        job: Job,
        index: usize,
        started: Micros,
        others_wait: bool,
    ) -> Result<Done> {
        if others_wait {
            session::overrun_cancels()?;
        } else {
            self.watch_overrun()?;
        }
        let known = self.functions.get(index);
        let Some((shape, function)) = known.map(|known| (known.handler.shape, known.function))
        else {
            return Err(PgError::internal("a handler was lost"));
        };
        self.begin_call(&[&job], index, started);
        let (slot, timeout_ms) = (self.slot, self.timeout_ms(&job));
        let level = guc::Level::open();
        snooze::take();
        let (value, finished) = xact::with_next_snapshot(|| {
            session::set_read_only(session::default_read_only());
            clock::start_statement();
            let value = limited(slot, timeout_ms, || call(function, shape, &[&job]))?;
            let now = clock::now();
            refuse_late(now.saturating_sub(started), timeout_ms)?;
            seal(slot, job.id)?;
            Ok((value, now))
        })?;
        level.end()?;
        session::discard_leftovers()?;
        session::set_read_only(false);
        self.note_traces(finished.saturating_sub(started));
        let snoozed = snooze::take();
        if snoozed.is_none() && !self.jobs.complete(&job)? {
            // It has changed its own row, whose new version is told by the door for ends.
            return Err(PgError::internal("a job has changed its own row"));
        }
        self.leave();
        Ok(Done {
            job,
            started,
            finished,
            value,
            snoozed,
        })
    }

    /// Once the savepoint is released: writes the ends of its jobs.
    fn write_ends(&mut self, done: &[Done]) -> Result<()> {
        for one in done {
            let (job, started, finished) = (&one.job, one.started, one.finished);
            match one.snoozed {
                Some(delay) => self.come_again(job, started, finished, delay)?,
                None => self.complete(job, started, finished, one.value, Row::Away)?,
            }
        }
        Ok(())
    }

    /// After the savepoint was rolled back: its jobs are run alone next. One that somebody cancels ends so.
    fn give_up_stretch(&mut self, stretch: &Stretch, error: PgError) -> Result<Step> {
        session::hold_cancels();
        snooze::take();
        self.functions.clear();
        self.note_traces(Micros::MAX);
        if let Some(running) = &stretch.running
            && is_cancelling(self.slot, running.place.id)
            && let Some(job) = self.jobs.take(running)?
        {
            let now = clock::now();
            self.settle(&job, now, now, Err(error))?;
        }
        self.leave();
        self.tally.split = stretch.done.len().saturating_add(1);
        Ok(Step::End)
    }
}
