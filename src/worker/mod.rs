//! A worker of the pool: logged in as one role of one database, it takes that role's due jobs,
//! lingers a little when there are none, and leaves.
//!
//! The launcher has taken a slot for it and passes it as the argument. Whoever enqueues wakes it
//! by its latch; what it finds then stands in the table. It owns no job outside of a transaction,
//! so it may die at any point. It ends with exit code 1, and the launcher starts another when there
//! is work.

pub mod blame;
mod look;
mod passed;
mod renew;

use std::collections::BTreeMap;

use crate::counted;
use crate::execute::{self, Batch, Memory, Tally, command};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::log::{self, Level};
use crate::pg::{activity, bgworker, clock, guc, latch, marks, session, stain, wait_event, xact};
use crate::queue::bar;
use crate::queue::claim::Jobs;
use crate::queue::queues::Queue;
use crate::queue::wait;
use crate::settings;
use crate::shared::{Current, Death, Kind, Phase, SHARED, SeenArrivals, SlotId, own};
use blame::Suspects;
use look::{Known, MAX_ROUND, Round};
use passed::Passed;

/// Takes over the slot that was prepared for this process; `None` if it is no longer wanted.
pub fn attach(id: SlotId) -> Result<Option<(Kind, Oid, Oid)>> {
    let procno = latch::my_procno();
    let pid = bgworker::my_pid();
    own::set_slot(id);
    bgworker::before_exit(at_exit)?;
    Ok(SHARED
        .write(|state| {
            let slot = state.slot(id).filter(|slot| !slot.leave)?;
            slot.pid = pid;
            slot.procno = procno;
            Some((slot.kind, slot.database, slot.role))
        })
        .flatten())
}

/// However the process ends: its slot is free, and the launcher looks whether work is left.
fn at_exit(code: i32) {
    let Some(id) = own::take_slot() else {
        return;
    };
    let attempts = marks::noted_attempts(id.index).unwrap_or(-1);
    let now = clock::now();
    let (mut cancelled, mut cut_off) = (false, None);
    let wake = SHARED.write(|state| {
        let (mut keeper, mut look, mut failed) = (None, None, [None; 2]);
        if let Some(slot) = state.slot(id) {
            let (database, role) = (slot.database, slot.role);
            let (current, told, kind) = (slot.current(), slot.leave, slot.kind);
            let put_down = slot.put_down;
            let in_job = current.job().filter(|job| code != 0 && *job != put_down);
            cut_off = in_job.map(|job| (job, slot.queue));
            cancelled = matches!(current, Current::Cancelling(_));
            let meant = told || put_down != 0 || slot.phase == Phase::Stopping;
            if code != 0 && !meant {
                failed = state.start_failed(id, now);
            }
            keeper = state.free_slot(id);
            if let Some(job) = current.job() {
                let uncounted = told || put_down != 0 || kind == Kind::Dynamic;
                counted::stopped(state, database, role, job, uncounted);
                let death = match cancelled {
                    true => Some(Death::Cancelled),
                    false => (put_down == job).then_some(Death::Deaf),
                };
                if let Some(death) = death {
                    look = state.charge_now(job, database, attempts, death);
                }
            }
        }
        let [first, second] = failed;
        [Some(state.launcher_procno), keeper, look, first, second]
    });
    if cancelled {
        marks::leave(id.index);
    } else if command::is_running() {
        marks::leave_stopped(id.index);
    } else {
        marks::clear(id.index);
    }
    wake.into_iter().flatten().flatten().for_each(latch::wake);
    if let Some((job, queue)) = cut_off {
        let queue = String::from_utf8_lossy(queue.get()).into_owned();
        let text = format!("job {job} (queue \"{queue}\") was cut off: its process has ended");
        let _ = log::report(Level::Log, &text);
    }
    let _ = execute::log_held_back(true);
}

/// The life of a worker.
pub fn main(id: SlotId, database: Oid, role: Oid) -> Result<()> {
    activity::application_name("my_worker worker");
    marks::excuse_on_quit(id.index);
    session::hold_cancels();
    session::watch_constraints();
    // What is there before any job does not count.
    stain::is_stained();
    let mut worker = Worker {
        id,
        database,
        role,
        memory: Memory::new()?,
        known: BTreeMap::new(),
        arrivals: SeenArrivals::default(),
        queue: None,
        first: None,
        rested: false,
        passed: Passed::default(),
        gone: false,
        alone: 0,
        role_settings: None,
        compared_at: 0,
    };
    while worker.turn()? {}
    execute::log_held_back(true)
}

struct Worker {
    id: SlotId,
    database: Oid,
    role: Oid,
    memory: Memory,
    /// The queues whose jobs it has looked for.
    known: BTreeMap<Vec<u8>, Known>,
    /// What of its lane's arrivals the marks in `known` account for.
    arrivals: SeenArrivals,
    /// The queue of the last batch: the next one starts behind it.
    queue: Option<Vec<u8>>,
    /// The queue, by its id, that the next look begins with.
    first: Option<i32>,
    /// It has slept since its last look.
    rested: bool,
    /// When it tries again what somebody else had locked.
    passed: Passed,
    /// It is to leave: the extension was dropped, the role may run nothing any more, or a job has left
    /// in this process what cannot be taken away.
    gone: bool,
    /// So many jobs are run one a transaction, since a batch failed as a whole.
    alone: usize,
    /// What ALTER ROLE and ALTER DATABASE ... SET said when this session began.
    role_settings: Option<u64>,
    /// When that was last compared.
    compared_at: Micros,
}

impl Worker {
    /// One turn of the loop: a batch, or a sleep. False to leave.
    fn turn(&mut self) -> Result<bool> {
        guc::reload_if_asked()?;
        latch::check_for_interrupts()?;
        session::forget_cancel();
        if self.must_leave() {
            return Ok(false);
        }
        let again = self.passed.take_turn(clock::now());
        if again {
            self.known.values_mut().for_each(|known| known.skip.clear());
        }
        let woken_in_vain = self.rested && !again && !self.is_wanted();
        if settings::ENABLED.get() && !woken_in_vain && self.batch()? {
            return Ok(true);
        }
        self.known.values_mut().for_each(|known| known.skip.clear());
        if self.gone { Ok(false) } else { self.idle() }
    }

    fn must_leave(&self) -> bool {
        let (id, database, role) = (self.id, self.database, self.role);
        let stays = SHARED.write(|state| {
            let stays = state.begin_turn(id, Phase::Running);
            // What came while others left its reach alone nobody has looked at.
            if !stays
                && !self.rested
                && let Some(lane) = state.lane(database, role)
            {
                lane.set_pending();
            }
            stays
        });
        stays != Some(true)
    }

    /// Whether there may be work that nobody has looked at: what comes while it sleeps is announced.
    fn is_wanted(&self) -> bool {
        let (database, role) = (self.database, self.role);
        SHARED
            .write(|state| state.lane(database, role).is_none_or(|lane| lane.pending))
            .unwrap_or(true)
    }

    /// Sleeps until there may be work; false when it has slept for long enough.
    fn idle(&mut self) -> Result<bool> {
        let enabled = settings::ENABLED.get();
        let (id, database, role) = (self.id, self.database, self.role);
        let work = SHARED.write(|state| {
            let pending = state.lane(database, role).is_some_and(|lane| lane.pending);
            if pending && enabled {
                return true;
            }
            if let Some(slot) = state.slot(id) {
                slot.phase = Phase::Idle;
            }
            false
        });
        if work == Some(true) {
            return Ok(true);
        }
        execute::log_held_back(false)?;
        activity::idle();
        activity::title(b"idle");
        activity::flush_last_statistics()?;
        let since = clock::now();
        let stay_ms = i64::from(settings::IDLE_TIMEOUT.get()) * 1000;
        // While somebody has a job that is due it stays, unless others need its place.
        let again_ms = self.passed.rest_ms(since);
        let rest_ms = again_ms.unwrap_or(stay_ms);
        let sleep_ms = execute::held_back_ms().map_or(rest_ms, |ms| ms.min(rest_ms));
        latch::wait(Some(sleep_ms), wait_event::worker_idle())?;
        self.rested = true;
        session::forget_cancel();
        let slept_ms = clock::now().saturating_sub(since) / 1000;
        Ok(again_ms.is_some() || slept_ms < stay_ms || !self.may_retire())
    }

    /// Leaves, unless work came at the last moment.
    fn may_retire(&self) -> bool {
        let (id, database, role) = (self.id, self.database, self.role);
        SHARED
            .write(|state| {
                if state.lane(database, role).is_some_and(|lane| lane.pending) {
                    return false;
                }
                match state.slot(id) {
                    Some(slot) if slot.phase == Phase::Idle => {
                        slot.phase = Phase::Stopping;
                        true
                    }
                    Some(_) => false,
                    None => true,
                }
            })
            .unwrap_or(true)
    }

    /// Runs one batch in one transaction; false if there was nothing to do.
    fn batch(&mut self) -> Result<bool> {
        let (database, role) = (self.database, self.role);
        let mut seen = self.arrivals;
        let (late, queue_id, wake) = SHARED
            .write(|state| match state.lane(database, role) {
                Some(lane) => {
                    let late = lane.arrivals_since(&mut seen);
                    (late, lane.take_pending(), state.lane_is_free())
                }
                None => (Some(Micros::MIN), 0, None),
            })
            .unwrap_or_default();
        wake.into_iter().for_each(latch::wake);
        self.arrivals = seen;
        // The others had nothing when it went to sleep.
        self.first = std::mem::take(&mut self.rested).then_some(queue_id);
        if let Some(run_at) = late {
            self.known
                .values_mut()
                .for_each(|k| k.low.step_back(run_at));
        }
        let result = self
            .batch_in_transaction()
            .and_then(|tally| self.run_command(tally));
        // The extension went between two looks at the catalogs. Any other error ends the process
        // at the job that its slot shows, which is held against the job if it comes again.
        if let Err(error) = result.as_ref()
            && (error.sqlstate != OBJECT_NOT_IN_PREREQUISITE_STATE || extension_is_there()?)
        {
            return result.map(|_| false);
        }
        self.end_batch();
        match result {
            Ok(Some(tally)) => self.after_commit(tally),
            Ok(None) => Ok(false),
            Err(_) => {
                self.gone = true;
                self.ask_keeper();
                Ok(false)
            }
        }
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

    /// At the start of a transaction: where the extension is, if this role may run jobs of it.
    fn enter(&mut self) -> Result<Option<Extension>> {
        let Some(extension) = catalog::hold_extension()? else {
            self.gone = true;
            return Ok(None);
        };
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
        queue: Queue,
        mut round: Round,
        suspects: &mut Option<Suspects>,
    ) -> Result<Tally> {
        activity::title(&[b"running ", queue.name.as_slice()].concat());
        let batch =
            Batch::new(extension, &queue, jobs, self.id, self.memory)?.one_by_one(self.alone > 0);
        let stop = || self.stopped();
        let candidates = std::mem::take(&mut round.candidates);
        let behind = |last, one| self.next_round(jobs, &queue, &round, last, one);
        let more = |last, limit| self.more(jobs, &queue, &round, last, limit);
        let (done, mut tally) = batch.run(candidates, more, behind, stop);
        *suspects = Suspects::of(&queue, &mut tally);
        done?;
        self.learn(&queue, &tally);
        Ok(tally)
    }

    /// Runs the command that the batch claimed, if any, now that the claim is committed.
    fn run_command(&self, tally: Option<Tally>) -> Result<Option<Tally>> {
        let Some(mut tally) = tally else {
            return Ok(None);
        };
        if let Some(claimed) = tally.command.take() {
            let (settled, dead) = command::execute(self.id, &claimed, self.memory.job)?;
            tally.settled.push(settled);
            tally.dead.extend(dead);
            tally.stained |= stain::is_stained();
        }
        Ok(Some(tally))
    }

    fn ask_keeper(&self) {
        let database = self.database;
        let keeper = SHARED.write(|state| state.ask_look(database));
        keeper.flatten().into_iter().for_each(latch::wake);
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
    fn stopped(&self) -> bool {
        let asked = SHARED
            .peek(|state| {
                state
                    .slots
                    .get(self.id.index)
                    .is_none_or(|slot| slot.leave || slot.halt)
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
        let fast = tally.settled.iter().all(|settled| settled.ran < 2_000);
        *size = match (tally.interrupted, fast) {
            (true, _) => 1,
            (_, false) => (*size / 2).max(1),
            _ if tally.left == 0 && !tally.settled.is_empty() => (*size * 2).min(MAX_ROUND),
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
        let wake = SHARED.write(|state| {
            if let Some(slot) = state.slot(id) {
                slot.set_current(Current::None, 0);
                slot.withdraw_reach();
                slot.progress = -1.0;
                slot.message.set(b"");
            }
            state.leave_queue(id)
        });
        wake.flatten().into_iter().for_each(latch::wake);
        marks::clear(self.id.index);
    }

    fn after_commit(&mut self, tally: Tally) -> Result<bool> {
        let worked = !tally.settled.is_empty();
        let (database, role) = (self.database, self.role);
        SHARED.write(|state| {
            if let Some(lane) = state.lane(database, role) {
                lane.failures = 0;
                // What was not reached is there for the next one, should this worker leave.
                let left = tally.left > 0 || tally.interrupted || tally.split > 0;
                if left || tally.stained {
                    lane.set_pending();
                }
            }
        });
        counted::count(self.id, tally.queue, &tally.settled);
        wait::tell_waiters(&tally.settled);
        for dead in &tally.dead {
            execute::log_dead(dead)?;
        }
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
        Ok(worked || tally.interrupted || tally.split > 0 || !tally.missed.is_empty())
    }
}

/// Whether the database has the extension now.
fn extension_is_there() -> Result<bool> {
    xact::transaction(|| {
        catalog::forget_extension();
        Ok(catalog::extension()?.is_some())
    })
}
