//! Batch handlers: several jobs in one call, which succeed together or are called alone.
//!
//! Locking a row and deleting it later are two changes of it. The jobs of a call share one
//! subtransaction, so they are deleted in it before the call, and a rollback brings them back. They
//! are deleted in such a way that the handler still sees its rows, and cannot lock or change them;
//! one that tries to, or wants to come again, is called again, now and from then on, with its jobs locked.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::end::{Row, leave_running};
use super::pace::Granted;
use super::{Batch, Step, is_cancelling};
use crate::logic::keys::KeyId;
use crate::logic::low_water::Place;
use crate::pg::clock;
use crate::pg::datum::{Datum, Micros, Oid};
use crate::pg::error::{PgError, Result, TRIGGERED_DATA_CHANGE_VIOLATION};
use crate::pg::fault::fault;
use crate::pg::local::Local;
use crate::pg::statements::Statement;
use crate::queue::claim::{Found, Job, Jobs};
use crate::queue::keys::{self, GroupKey};
use crate::settings;

/// The most handlers that a process remembers to call with locked rows.
const MAX_HOLDERS: usize = 64;

/// Handlers that lock or change their own rows.
static HOLDERS: Local<Vec<Oid>> = Local::new(Vec::new());
/// The table whose rows the statements of the running call may not lock or change.
static WATCHED: Local<Option<Oid>> = Local::new(None);
/// One of them would have.
static REFUSED: Local<bool> = Local::new(false);

/// How the jobs of a call are held.
#[derive(Clone, Copy)]
pub(super) enum Hold<'c> {
    /// All of them are locked.
    Locked,
    /// The first is locked; the others are taken away in the call's subtransaction, up to one that
    /// somebody else has. Tells how many the call has, the first included.
    Away(&'c Cell<usize>),
}

impl Hold<'_> {
    /// Before the call, in its subtransaction: those of the jobs that it has.
    pub(super) fn take<'j, 'a>(self, table: &Jobs, jobs: &'j [&'a Job]) -> Result<&'j [&'a Job]> {
        let Hold::Away(count) = self else {
            return Ok(jobs);
        };
        count.set(1);
        let others = jobs.get(1..).unwrap_or_default();
        count.set(table.take_away(others)?.saturating_add(1));
        fault!(TakenAway);
        Ok(jobs.get(..count.get()).unwrap_or_default())
    }

    /// After the call: an error if it went on without a statement that was refused.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Hold::Away(_) if REFUSED.get() => Err(refused()),
            _ => Ok(()),
        }
    }
}

fn refused() -> PgError {
    let message = "rows of \"my_queue\" are held for the call of their batch handler";
    PgError::new(TRIGGERED_DATA_CHANGE_VIOLATION, message)
}

/// The running call's jobs are to come again: refuses that where their rows are gone, so that they are called
/// again, with their rows locked.
pub(super) fn need_locked() -> Result<()> {
    match WATCHED.get() {
        Some(_) => {
            REFUSED.set(true);
            Err(refused())
        }
        None => Ok(()),
    }
}

/// Refuses what the rows of the running call do not go with.
pub(super) fn refuse(statement: &Statement) -> Result<()> {
    match WATCHED.get() {
        Some(table) if statement.holds_rows_of(table) => {
            REFUSED.set(true);
            Err(refused())
        }
        _ => Ok(()),
    }
}

impl Batch<'_> {
    /// Calls a batch handler with this job, which is locked, and those behind it that have the same
    /// one. They succeed together; if they fail, each is called alone, which finds the bad one.
    pub(super) fn run_together(
        &mut self,
        first: Job,
        index: usize,
        granted: Granted,
        more: impl Fn(Place, usize) -> Result<Vec<Job>>,
    ) -> Result<Step> {
        self.called_batch = true;
        let most = usize::try_from(settings::MAX_ITEMS.get()).unwrap_or(1);
        let most = self.most_more(most.saturating_sub(1));
        let others = match most {
            0 => Vec::new(),
            most => more(first.place(), most)?,
        };
        let started = granted.unwrap_or_else(clock::now);
        if first.is_expired(started) {
            self.last = Some(first.place());
            return self.expire(&first).map(|()| Step::Next);
        }
        let like = others
            .iter()
            .take_while(|job| self.is_like(&first, job, index) && !job.is_expired(started));
        let mut jobs: Vec<&Job> = std::iter::once(&first).chain(like).collect();
        if self.queue.by_key.is_some() {
            self.keep_admitted(&mut jobs)?;
        }
        self.set_left(0);
        let lots = self.grant_others(&mut jobs, granted)?;
        self.watch_overrun()?;
        let function = self.functions.get(index).map_or(0, |k| k.handler.function);
        let mut away = !HOLDERS.with(|holders| holders.contains(&function));
        let mut result = Ok(None);
        if away {
            let count = Cell::new(1);
            WATCHED.set(Some(self.extension.jobs));
            let attempt = self.attempt(&jobs, Hold::Away(&count), index, started);
            WATCHED.set(None);
            result = attempt?;
            if REFUSED.replace(false) {
                away = false;
                HOLDERS.with(|holders| {
                    holders.truncate(MAX_HOLDERS - 1);
                    holders.push(function);
                });
            } else {
                self.keep_taken(&mut jobs, count.get(), result.is_ok());
            }
        }
        if !away && leave_running(self.slot, first.id) {
            result = self.call_locked(&first, &mut jobs, started)?;
        }
        self.give_back(lots, &jobs)?;
        let finished = clock::now();
        self.reached = finished;
        let step = self.end_together(&first, &jobs, away, [started, finished], result)?;
        self.leave();
        Ok(step)
    }

    /// Calls a batch handler with its jobs locked, up to one that somebody else has.
    fn call_locked(
        &mut self,
        first: &Job,
        jobs: &mut Vec<&Job>,
        started: Micros,
    ) -> Result<Result<Option<Datum<'static>>>> {
        let mut count = 1;
        while let Some(job) = jobs.get(count)
            && self.jobs.lock(job)?
        {
            count += 1;
        }
        self.keep_taken(jobs, count, true);
        let found = self.find_function(first);
        match found.and_then(|index| self.check_author(first, index)) {
            Ok(index) => self.attempt(jobs, Hold::Locked, index, started),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Ends the jobs of a call; `away`: their rows are gone already. Whether the batch goes on.
    fn end_together(
        &mut self,
        first: &Job,
        jobs: &[&Job],
        away: bool,
        [started, finished]: [Micros; 2],
        result: Result<Option<Datum<'static>>>,
    ) -> Result<Step> {
        let mut step = Step::End;
        match (result, jobs) {
            // Whoever cancels the call cancels the job that it is known by.
            (Err(error), _) if is_cancelling(self.slot, first.id) => {
                self.settle(first, started, finished, Err(error))?;
            }
            // Jobs that are done wait for this call.
            (Err(_), _) if self.is_in_the_way() => self.tally.interrupted = true,
            // Nothing of the call is left; whose fault it was shows when each is called alone.
            (Err(_), [_, _, ..]) => self.tally.split = jobs.len(),
            (result, _) => {
                self.settle(first, started, finished, result.clone())?;
                for job in jobs.iter().skip(1) {
                    if away {
                        let away = Row::Away;
                        self.complete(job, started, finished, result.clone()?, away)?;
                    } else {
                        self.settle(job, started, finished, result.clone())?;
                    }
                }
                self.last = jobs.last().map(|job| job.place());
                // The next call in this transaction would see them here and in the history, and so would whoever
                // asks which job of a key is the first.
                let shows = self.history.is_some() || self.queue.by_key.is_some();
                if !away || !shows {
                    step = Step::Next;
                }
            }
        }
        Ok(step)
    }

    /// Keeps those of a call's jobs whose turn it is: of each key the first ones, without a gap in a fifo queue.
    /// The first job is there already.
    fn keep_admitted(&self, jobs: &mut Vec<&Job>) -> Result<()> {
        let mut runs: BTreeMap<KeyId, (&GroupKey, Vec<i64>)> = BTreeMap::new();
        for job in jobs.iter() {
            if let Some(key) = &job.key {
                let run = runs.entry(key.id).or_insert_with(|| (key, Vec::new()));
                run.1.push(job.id);
            }
        }
        let mut admitted = BTreeSet::new();
        for (key, run) in runs.values() {
            let count = keys::admit_run(self.jobs, self.slot, self.queue, self.role, key, run)?;
            admitted.extend(run.iter().take(count).copied());
        }
        let mut is_first = true;
        jobs.retain(|job| {
            std::mem::take(&mut is_first) || job.key.is_none() || admitted.contains(&job.id)
        });
        Ok(())
    }

    /// Keeps those of a call's jobs that it has; the next one is somebody else's, if the call came
    /// that far.
    fn keep_taken(&mut self, jobs: &mut Vec<&Job>, count: usize, all_tried: bool) {
        if let Some(missed) = jobs.get(count).filter(|_| all_tried) {
            self.tally.missed.push(missed.id);
        }
        jobs.truncate(count);
    }

    /// Whether a job can join a call of that batch handler: a first attempt of the same one.
    fn is_like(&self, first: &Job, job: &Job, index: usize) -> bool {
        let name = job.handler.as_ref().or(self.queue.handler.as_ref());
        let same = self.functions.get(index).map(|known| &known.name) == name;
        let named = self.recorded_owner(job) == self.recorded_owner(first);
        same && named
            && job.defect().is_none()
            && !job.is_command
            && job.attempts == 0
            && job.timeout.is_none()
            && !self.is_out(job.id)
    }
}
