//! One batch of a worker: what it takes, runs and learns from it, and what follows its COMMIT.

use std::rc::Rc;

use crate::execute::{Batch, Grant, Tally};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::Micros;
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::fault::fault;
use crate::pg::{activity, clock, marks, session, stain, xact};
use crate::queue::bar;
use crate::queue::claim::Jobs;
use crate::queue::home;
use crate::queue::keys::{self, Admitted};
use crate::queue::queues::Queue;
use crate::settings;
use crate::shared::{self, Current, SHARED, UnlockedSlot, Wake};

use super::Worker;
use super::blame::{self, Suspects};
use super::look::{MAX_ROUND, Round};

/// The most starts that a worker keeps for jobs that it runs again.
const MAX_KEPT: usize = 10_000;

impl Worker {
    /// Runs one batch in one transaction; false if there was nothing to do.
    pub(super) fn batch(&mut self) -> Result<bool> {
        let (database, role) = (self.database, self.role);
        let mut seen = self.arrivals;
        let now = clock::now();
        let mut alone = 0;
        let (late, queue_id, wake) = SHARED.change(|state| match state.lane(database, role) {
            Some(lane) => {
                lane.look(now);
                let late = lane.arrivals_since(&mut seen);
                alone = std::mem::take(&mut lane.alone);
                (late, lane.take_pending(), state.lane_is_free())
            }
            None => (Some(Micros::MIN), 0, Wake::NOBODY),
        });
        shared::wake(wake);
        self.alone = self.alone.max(usize::try_from(alone).unwrap_or(0));
        self.arrivals = seen;
        // The others had nothing when it went to sleep, or as far as it has read.
        let begins = std::mem::take(&mut self.rested) | std::mem::take(&mut self.reads_on);
        if queue_id != 0 {
            self.named = queue_id;
        }
        self.first = begins.then(|| std::mem::take(&mut self.named));
        if let Some(run_at) = late {
            self.known
                .values_mut()
                .for_each(|k| k.low.step_back(run_at));
        }
        self.hear_of_keys();
        let result = self
            .batch_in_transaction()
            .and_then(Self::committed)
            .and_then(|tally| self.run_commands(tally));
        // The extension went between two looks at the catalogs. Any other error ends the process
        // at the job that its slot shows, which is held against the job if it comes again.
        if let Err(error) = result.as_ref()
            && (error.sqlstate != OBJECT_NOT_IN_PREREQUISITE_STATE || extension_is_there()?)
        {
            return result.map(|_| false);
        }
        self.end_batch();
        match result {
            Ok(Some(tally)) => Ok(self.after_commit(tally)? || self.reads_on && !self.gone),
            Ok(None) => Ok(self.reads_on),
            Err(_) => {
                self.gone = true;
                self.ask_keeper();
                Ok(false)
            }
        }
    }

    /// The transaction has committed, if there was one.
    fn committed(tally: Option<Tally>) -> Result<Option<Tally>> {
        if tally.is_some() {
            fault!(Committed);
        }
        Ok(tally)
    }

    fn batch_in_transaction(&mut self) -> Result<Option<Tally>> {
        let mut suspects = None;
        let result = if xact::is_strict() {
            self.strict_batch(&mut suspects)
        } else {
            xact::job_transaction(|| {
                let Some(extension) = self.enter()? else {
                    return Ok(None);
                };
                let jobs = Jobs::open(&extension)?;
                let tally = match self.next_work(&extension, &jobs)? {
                    Some((queue, round)) => {
                        Some(self.run(&extension, &jobs, queue, round, &mut suspects)?)
                    }
                    None => None,
                };
                jobs.close()?;
                Ok(tally)
            })
        };
        match (result, suspects) {
            (Err(error), Some(suspects)) => self.blame(suspects, error).map(Some),
            // Before any job of it has run: it waits as it did.
            (Err(error), None) if blame::is_conflict(error.sqlstate) => Ok(Some(Tally {
                interrupted: true,
                ..Tally::default()
            })),
            (result, _) => result,
        }
    }

    /// One job, in a transaction that reads nothing but its row: what others do to the queue meanwhile
    /// is no conflict with it.
    fn strict_batch(&mut self, suspects: &mut Option<Suspects>) -> Result<Option<Tally>> {
        let found = xact::transaction(|| {
            let Some(extension) = self.enter()? else {
                return Ok(None);
            };
            let jobs = Jobs::open(&extension)?;
            let found = self.next_work(&extension, &jobs)?;
            jobs.close()?;
            Ok(found)
        })?;
        let Some((queue, mut round)) = found else {
            return Ok(None);
        };
        round.candidates.truncate(1);
        // Its own transaction has one snapshot for all, which would be older than its key.
        if !self.admit_first(&queue, &round)? {
            return Ok(None);
        }
        xact::job_transaction(|| {
            let Some(extension) = self.enter()? else {
                return Ok(None);
            };
            let jobs = Jobs::open(&extension)?;
            let tally = self.run(&extension, &jobs, queue, round, suspects)?;
            jobs.close()?;
            Ok(Some(tally))
        })
    }

    /// Takes the key of the first candidate, if it has one; false if it is not its turn.
    fn admit_first(&self, queue: &Queue, round: &Round) -> Result<bool> {
        let Some(first) = round.candidates.first() else {
            return Ok(false);
        };
        let Some(key) = &first.key else {
            return Ok(true);
        };
        let admitted = xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                return Ok(Admitted::No);
            };
            let jobs = Jobs::open(&extension)?;
            let admitted = keys::admit(&jobs, self.id, queue, self.role, key, first.place.id)?;
            jobs.close()?;
            Ok(admitted)
        })?;
        Ok(admitted == Admitted::Yes)
    }

    /// At the start of a transaction: where the extension is, if this role may run jobs of it.
    fn enter(&mut self) -> Result<Option<Extension>> {
        let Some(extension) = catalog::hold_extension()? else {
            self.gone = true;
            return Ok(None);
        };
        // The keeper finds out whether it still is one.
        if home::is_known_copy() || extension.birth.moved.is_some() && !settings::RUN_COPIES.get() {
            self.gone = true;
            self.ask_keeper();
            return Ok(None);
        }
        // Its session is older than what forbids it. The keeper ends the jobs, saying why.
        if bar::bar(self.role)?.is_some() {
            self.gone = true;
            self.ask_keeper();
            return Ok(None);
        }
        if self.has_old_settings()? {
            self.make_way();
            return Ok(None);
        }
        activity::introduce(Some(self.role))?;
        session::set_read_only(false);
        Ok(Some(extension))
    }

    /// Runs jobs of the queue, those of the round first.
    fn run(
        &mut self,
        extension: &Extension,
        jobs: &Jobs,
        queue: Rc<Queue>,
        mut round: Round,
        suspects: &mut Option<Suspects>,
    ) -> Result<Tally> {
        activity::title(&[b"running ", queue.name.as_slice()].concat());
        let batch =
            Batch::new(extension, &queue, jobs, self.id, self.memory)?.one_by_one(self.alone > 0);
        let batch = batch.with_kept(self.kept.clone());
        let stop = || self.stopped();
        let candidates = std::mem::take(&mut round.candidates);
        let behind = |last, one| self.next_round(jobs, &queue, &round, last, one);
        let more = |last, limit| self.more(jobs, &queue, &round, last, limit);
        let (done, mut tally) = batch.run(candidates, more, behind, stop);
        self.keep(std::mem::take(&mut tally.grants), done.is_err(), &tally);
        *suspects = Suspects::of(&queue, &mut tally);
        done?;
        self.learn(&queue, &tally);
        Ok(tally)
    }

    /// What the queue's rate has allowed in a batch that failed, or to jobs that are run again: they need not ask
    /// again. Those of a batch that fails at its COMMIT ask.
    fn keep(&mut self, grants: Vec<Grant>, has_failed: bool, tally: &Tally) {
        if grants.is_empty() && self.kept.is_empty() {
            return;
        }
        if tally.limited {
            // Another job stands first, and waits for its time: these wait behind it.
            self.kept.clear();
        }
        let used = |kept: &Grant| grants.iter().any(|grant| grant.job == kept.job);
        self.kept.retain(|kept| !used(kept));
        if has_failed || tally.interrupted || tally.split > 0 {
            let ended = tally.untold.list();
            let is_left = |grant: &Grant| has_failed || !ended.iter().any(|e| e.job == grant.job.0);
            self.kept.extend(grants.into_iter().filter(is_left));
            self.kept.truncate(MAX_KEPT);
        }
    }

    pub(super) fn ask_keeper(&self) {
        let database = self.database;
        shared::tell(|state| state.ask_look(database));
    }

    /// A batch that failed is rolled back as a whole. Who is known to be guilty, or was alone, is
    /// charged; if it may have been any of several, each is run alone next, which finds the guilty one.
    fn blame(&mut self, suspects: Suspects, error: PgError) -> Result<Tally> {
        let count = suspects.count();
        self.alone = match suspects.settle(self.id, &error)? {
            true => self.alone.max(count),
            false => self.alone.saturating_sub(1),
        };
        Ok(Tally {
            interrupted: true,
            stained: stain::is_stained(),
            ..Tally::default()
        })
    }

    /// Whether to take no more of this batch.
    pub(super) fn stopped(&self) -> bool {
        let asked = SHARED
            .peek(|unlocked| {
                let slot = unlocked.slots.get(self.id.index);
                slot.is_none_or(UnlockedSlot::takes_no_more)
            })
            .unwrap_or(true);
        asked || !settings::ENABLED.get()
    }

    /// A queue whose jobs are fast is taken from in larger batches.
    fn learn(&mut self, queue: &Queue, tally: &Tally) {
        let known = self.known.entry(queue.name.clone()).or_default();
        known.proved = true;
        known.size = known.size.max(1);
        let size = &mut known.size;
        let fast = tally
            .untold
            .list()
            .iter()
            .all(|settled| settled.ran < 2_000);
        *size = match (tally.interrupted, fast) {
            (true, _) => 1,
            (_, false) => (*size / 2).max(1),
            _ if tally.left == 0 && !tally.untold.is_empty() => (*size * 2).min(MAX_ROUND),
            _ => *size,
        };
        self.alone = match (tally.interrupted, tally.split) {
            (true, _) => 1,
            (false, 0) => self.alone.saturating_sub(1),
            (false, split) => split,
        };
    }

    /// Gives back what the batch held in shared memory; a queue with a limit has room again.
    fn end_batch(&self) {
        let id = self.id;
        if self.goes_by_keys() {
            keys::give_back(id, self.role);
        }
        shared::tell(|state| {
            if let Some(slot) = state.slot(id) {
                slot.set_current(Current::None, 0);
                slot.withdraw_reach();
                slot.progress = -1.0;
                slot.message.set(b"");
            }
            state.leave_queue(id)
        });
        marks::clear(self.id.index);
    }

    fn after_commit(&mut self, tally: Tally) -> Result<bool> {
        let worked = !tally.untold.is_empty();
        fault!(GivenBack);
        let (database, role) = (self.database, self.role);
        let alone = u32::try_from(self.alone).unwrap_or(u32::MAX);
        SHARED.write(|state| {
            if let Some(lane) = state.lane(database, role) {
                lane.failures = 0;
                if tally.stained {
                    // This process ends, and forgets what it was to run one by one.
                    lane.alone = lane.alone.max(alone);
                }
                // What was not reached is there for the next one, should this worker leave.
                let left = tally.left > 0 || tally.interrupted || tally.split > 0;
                if left || tally.stained {
                    lane.set_pending();
                }
            }
        });
        tally.untold.tell(self.id, tally.queue)?;
        if let Some(known) = self
            .queue
            .as_ref()
            .and_then(|name| self.known.get_mut(name))
        {
            known.skip.extend(&tally.missed);
        }
        if !tally.missed.is_empty() {
            self.passed.missed(clock::now());
        }
        if tally.temporary {
            xact::transaction(session::drop_temporary)?;
        }
        activity::flush_statistics()?;
        if tally.stained {
            self.gone = true;
            return Ok(false);
        }
        let others = tally.split > 0 || !tally.missed.is_empty() || tally.limited;
        Ok(worked || tally.interrupted || others)
    }
}

/// Whether the database has the extension now.
fn extension_is_there() -> Result<bool> {
    xact::transaction(|| {
        catalog::forget_extension();
        Ok(catalog::extension()?.is_some())
    })
}
