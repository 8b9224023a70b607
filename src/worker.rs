//! A worker of the pool: logged in as one role of one database, it takes that role's due jobs,
//! lingers a little when there are none, and leaves.
//!
//! The launcher has taken a slot for it and passes it as the argument. Whoever enqueues wakes it
//! by its latch; what it finds then stands in the table. It owns no job outside of a transaction,
//! so it may die at any point. It ends with exit code 1, and the launcher starts another when there
//! is work.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::command;
use crate::execute::{self, Batch, Memory, Outcome, Settled, Tally};
use crate::keeper;
use crate::logic::low_water::{LowWater, Place};
use crate::logic::reach::{Reach, Reaches};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Micros, Oid};
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::local::Local;
use crate::pg::log::{self, Level};
use crate::pg::{activity, bgworker, clock, guc, latch, marks, session, wait_event, xact};
use crate::queue::claim::{Avoid, Candidate, Found, Jobs};
use crate::queue::queues::{self, Queue};
use crate::queue::settle::{self, Attempt, Verdict};
use crate::queue::wait;
use crate::settings;
use crate::shared::{Current, Kind, Phase, SHARED, SeenArrivals, SlotId, State};
use crate::stats;

/// A queue whose jobs prove fast is taken from in rounds that grow up to this.
const MAX_ROUND: usize = 1024;

/// So often a worker looks again that was slower than another, before it tries what it has found.
const LOOKS: usize = 3;

/// The most queues that a worker remembers.
const MAX_KNOWN: usize = 64;

/// This process's slot, for the callback at its end.
static MY_SLOT: Local<Option<SlotId>> = Local::new(None);

/// The slot of this process, if it is one of ours.
pub fn my_slot() -> Option<SlotId> {
    MY_SLOT.get()
}

/// The job that this process runs.
pub fn current_job() -> Option<i64> {
    let slot = MY_SLOT.get()?;
    SHARED
        .peek(|state| state.slots.get(slot.index)?.current().job())
        .flatten()
}

/// Takes over the slot that was prepared for this process; `None` if it is no longer wanted.
pub fn attach(id: SlotId) -> Result<Option<(Kind, Oid, Oid)>> {
    let procno = latch::my_procno();
    let pid = bgworker::my_pid();
    MY_SLOT.set(Some(id));
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
    let Some(id) = MY_SLOT.take() else { return };
    if command::is_running() {
        marks::leave_stopped(id.index);
    } else {
        marks::clear(id.index);
    }
    let now = clock::now();
    let launcher = SHARED.write(|state| {
        if let Some(slot) = state.slot(id) {
            let (database, role) = (slot.database, slot.role);
            let (job, told, kind) = (slot.current().job(), slot.leave, slot.kind);
            let meant = told || slot.phase == Phase::Stopping;
            if code != 0 && !meant {
                state.start_failed(id, now);
            }
            state.free_slot(id);
            if let Some(job) = job {
                stats::stopped(state, database, role, job, told || kind == Kind::Dynamic);
            }
        }
        state.launcher_procno
    });
    launcher.into_iter().for_each(latch::wake);
}

/// The life of a worker.
pub fn main(id: SlotId, database: Oid, role: Oid) -> Result<()> {
    activity::application_name("my_worker worker");
    marks::excuse_on_quit(id.index);
    session::hold_cancels();
    session::watch_constraints();
    let mut worker = Worker {
        id,
        database,
        role,
        memory: Memory::new()?,
        known: BTreeMap::new(),
        arrivals: SeenArrivals::default(),
        queue: None,
        gone: false,
        alone: 0,
    };
    while worker.turn()? {}
    Ok(())
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
    /// The extension was dropped, or the role may run nothing any more.
    gone: bool,
    /// So many jobs are run one a transaction, since a batch failed as a whole.
    alone: usize,
}

/// What a worker knows of a queue.
#[derive(Clone, Default)]
struct Known {
    /// How many of its jobs to take at once; 0: not tried yet.
    size: usize,
    /// It has run some.
    proved: bool,
    /// From where to look for more.
    low: LowWater,
    /// Jobs that somebody else had locked when we tried them, since we last slept.
    skip: Vec<i64>,
}

impl Known {
    /// The same behind a job.
    fn behind(&self, last: Place) -> Known {
        Known {
            low: self.low.behind(last),
            skip: self.skip.clone(),
            ..*self
        }
    }
}

/// The first look of a batch, for those that follow it in the same transaction.
struct Round {
    candidates: Vec<Candidate>,
    known: Known,
    /// Other workers shall come if a round is full.
    crowds: bool,
    /// They may.
    room: bool,
    /// How many jobs a round has at most.
    limit: usize,
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
        if settings::ENABLED.get() && self.batch()? {
            return Ok(true);
        }
        self.known.values_mut().for_each(|known| known.skip.clear());
        if self.gone { Ok(false) } else { self.idle() }
    }

    fn must_leave(&self) -> bool {
        SHARED
            .write(|state| match state.slot(self.id) {
                Some(slot) if !slot.leave => {
                    slot.phase = Phase::Running;
                    false
                }
                Some(slot) => {
                    slot.phase = Phase::Stopping;
                    true
                }
                None => true,
            })
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
        execute::log_held_back()?;
        activity::idle();
        activity::title(b"idle");
        activity::flush_last_statistics()?;
        let since = clock::now();
        let stay_ms = i64::from(settings::IDLE_TIMEOUT.get()) * 1000;
        latch::wait(Some(stay_ms), wait_event::worker_idle())?;
        session::forget_cancel();
        let slept_ms = clock::now().saturating_sub(since) / 1000;
        Ok(slept_ms < stay_ms || !self.may_retire())
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
        let late = SHARED
            .write(|state| match state.lane(database, role) {
                Some(lane) => {
                    lane.pending = false;
                    lane.told = false;
                    lane.arrivals_since(&mut seen)
                }
                None => Some(Micros::MIN),
            })
            .flatten();
        self.arrivals = seen;
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
        let mut at_work = None;
        let result = xact::transaction(|| {
            let Some(extension) = catalog::hold_extension()? else {
                self.gone = true;
                return Ok(None);
            };
            // Its session is older than what forbids it. The keeper ends the jobs, saying why.
            if keeper::bar(self.role)?.is_some() {
                self.gone = true;
                self.ask_keeper();
                return Ok(None);
            }
            activity::introduce(Some(self.role))?;
            session::set_read_only(false);
            let jobs = Jobs::open(&extension)?;
            let tally = match self.next_work(&extension, &jobs)? {
                Some((queue, mut round)) => {
                    activity::title(&[b"running ", queue.name.as_slice()].concat());
                    let batch = Batch::new(&extension, &queue, &jobs, self.id, self.memory)?
                        .one_by_one(self.alone > 0);
                    let stop = || self.stopped();
                    let candidates = std::mem::take(&mut round.candidates);
                    let behind = |last, one| self.next_round(&jobs, &queue, &round, last, one);
                    let more = |last, limit| self.more(&jobs, &queue, &round, last, limit);
                    let tally = batch.run(candidates, more, behind, stop)?;
                    self.learn(&queue, &tally);
                    at_work = Some((queue, tally.settled.clone()));
                    Some(tally)
                }
                None => None,
            };
            jobs.close()?;
            Ok(tally)
        });
        match (result, at_work) {
            (Err(error), Some((queue, settled))) => {
                self.blame(&queue, &settled, &error)?;
                Ok(Some(Tally {
                    interrupted: true,
                    ..Tally::default()
                }))
            }
            (result, _) => result,
        }
    }

    /// Runs the command that the batch claimed, if any, now that the claim is committed.
    fn run_command(&self, tally: Option<Tally>) -> Result<Option<Tally>> {
        let Some(mut tally) = tally else {
            return Ok(None);
        };
        if let Some(claimed) = tally.command.take() {
            tally
                .settled
                .push(command::execute(self.id, &claimed, self.memory.job)?);
        }
        Ok(Some(tally))
    }

    fn ask_keeper(&self) {
        let database = self.database;
        let keeper = SHARED.write(|state| state.ask_look(database));
        keeper.flatten().into_iter().for_each(latch::wake);
    }

    /// A batch that failed at COMMIT is rolled back as a whole. If it held several jobs, each is
    /// run alone next, which finds the guilty one; if it held one, that one is charged.
    fn blame(&mut self, queue: &Queue, settled: &[Settled], error: &PgError) -> Result<()> {
        let [only] = settled else {
            self.alone = settled.len();
            return Ok(());
        };
        charge_commit(self.id, queue, only, error)
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

    /// The next queue with due jobs that may run, in turn, and its first jobs.
    fn next_work(&mut self, extension: &Extension, jobs: &Jobs) -> Result<Option<(Queue, Round)>> {
        let last = self.queue.take();
        let mut wrapped = last.is_none();
        let mut at = last.clone();
        loop {
            let next = self.queue_after(jobs, at.as_deref())?;
            let Some(name) =
                next.filter(|name| !wrapped || last.is_none() || Some(name) <= last.as_ref())
            else {
                if wrapped {
                    return Ok(None);
                }
                wrapped = true;
                at = None;
                continue;
            };
            match queues::find(extension, datum::text_datum(&name)?)? {
                Some(queue) => {
                    if let Some(round) = self.first_round(extension, jobs, &queue)? {
                        self.queue = Some(name);
                        return Ok(Some((queue, round)));
                    }
                }
                None => drop(self.known.remove(&name)),
            }
            at = Some(name);
        }
    }

    /// The first queue behind `after` that has jobs, or had some when we last looked: looking for
    /// others reads nothing of its part of the index.
    fn queue_after(&self, jobs: &Jobs, after: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let known = self
            .known
            .range::<[u8], _>((lower, Bound::Unbounded))
            .next();
        let known = known.map(|(name, _)| name.as_slice());
        let text = |name: Option<&[u8]>| name.map(datum::text_datum).transpose();
        let found = jobs.next_queue(self.role, text(after)?, text(known)?)?;
        match found {
            Some(name) => datum::as_text(name).map(Some),
            None => Ok(known.map(<[u8]>::to_vec)),
        }
    }

    /// Due jobs of a queue that this worker may start now, announced in its slot.
    fn first_round(
        &mut self,
        extension: &Extension,
        jobs: &Jobs,
        queue: &Queue,
    ) -> Result<Option<Round>> {
        if queue.paused {
            return Ok(None);
        }
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&queue.name) {
            self.known.clear();
        }
        let limit = self.batch_size(queue);
        let mut known = self.known.remove(&queue.name).unwrap_or_default();
        let found = self.find(jobs, queue, limit, &mut known);
        let proved = known.proved;
        let mut behind = Known {
            low: known.low.clone(),
            skip: known.skip.clone(),
            ..Known::default()
        };
        self.known.insert(queue.name.clone(), known);
        let mut candidates = found?;
        if candidates.is_empty() {
            return Ok(None);
        }
        let Some(room) = self.enter_queue(queue) else {
            return Ok(None);
        };
        // From here on a pause reaches the slot; one that came before is seen now.
        if !queues::is_open(extension, queue)? {
            self.leave_queue();
            return Ok(None);
        }
        if queue.concurrency.is_some() {
            // What was found before we had the permit left out what its last holder meant to take
            // and did not: that goes first.
            candidates = self.find(jobs, queue, limit, &mut behind)?;
        }
        let mut round = Round {
            candidates: Vec::new(),
            known: behind,
            // A queue of unknown jobs may be done with by one worker; the overrun timer sees if not.
            crowds: room && proved,
            room,
            limit,
        };
        let look = || self.find(jobs, queue, limit, &mut round.known.clone());
        round.candidates = self.secure(candidates, &round, look)?;
        if round.candidates.is_empty() {
            self.leave_queue();
            return Ok(None);
        }
        Ok(Some(round))
    }

    /// What is behind `last`, or the next one alone, for the same transaction: the first round went
    /// so fast that there is time for more.
    fn next_round(
        &self,
        jobs: &Jobs,
        queue: &Queue,
        first: &Round,
        last: Place,
        one: bool,
    ) -> Result<Vec<Candidate>> {
        if first.limit < self.most() {
            return Ok(Vec::new());
        }
        let limit = if one { 1 } else { first.limit };
        self.more(jobs, queue, first, last, limit)
    }

    /// Up to `limit` jobs behind `last`, announced.
    fn more<F: Found>(
        &self,
        jobs: &Jobs,
        queue: &Queue,
        first: &Round,
        last: Place,
        limit: usize,
    ) -> Result<Vec<F>> {
        let look = || self.find(jobs, queue, limit, &mut first.known.behind(last));
        self.secure(look()?, first, look)
    }

    /// Announces what was found, or what is found instead if another worker was faster.
    fn secure<F: Found>(
        &self,
        mut found: Vec<F>,
        round: &Round,
        look: impl Fn() -> Result<Vec<F>>,
    ) -> Result<Vec<F>> {
        for _ in 0..LOOKS {
            if found.is_empty() || self.announce(&found, round) {
                break;
            }
            found = look()?;
        }
        Ok(found)
    }

    /// Keeps others from trying the same jobs; false if one of them has announced some of these.
    /// Wakes the launcher if there are too many.
    fn announce<F: Found>(&self, found: &[F], round: &Round) -> bool {
        let places: Vec<Place> = found.iter().map(F::place).collect();
        let (Some(from), Some(to)) = (places.first().copied(), places.last().copied()) else {
            return true;
        };
        let crowded = found.len() == round.limit;
        let (id, database, role) = (self.id, self.database, self.role);
        let now = clock::now();
        let launcher = SHARED.write(|state| {
            let queue_id = state.slot(id)?.queue_id;
            if self.others(state, queue_id, now).hold_any(&places) {
                return None;
            }
            if let Some(slot) = state.slot(id) {
                slot.extend_reach(Reach { from, to }, found.len());
            }
            let launcher = state.launcher_procno;
            let Some(lane) = state.lane(database, role) else {
                return Some(None);
            };
            // More than this worker takes at once, and others may help with it.
            lane.pending |= crowded && round.room;
            lane.crowded = crowded && round.crowds;
            Some(lane.crowded.then_some(launcher))
        });
        let launcher = launcher.flatten();
        // Those of later rounds need not wake it again.
        if round.candidates.is_empty() {
            launcher.flatten().into_iter().for_each(latch::wake);
        }
        launcher.is_some()
    }

    /// What other workers have of a queue.
    fn others(&self, state: &State, queue_id: i32, now: Micros) -> Reaches {
        let slots = state.slots.iter().enumerate();
        let others = slots.filter(|(index, slot)| {
            *index != self.id.index
                && slot.queue_id == queue_id
                && slot.serves(Kind::Worker, self.database, self.role)
        });
        Reaches::new(
            others
                .filter_map(|(_, slot)| slot.respected_reach(now))
                .collect(),
        )
    }

    /// Up to `limit` due jobs of a queue that no other worker runs or is about to run.
    fn find<F: Found>(
        &self,
        jobs: &Jobs,
        queue: &Queue,
        limit: usize,
        known: &mut Known,
    ) -> Result<Vec<F>> {
        let now = clock::now();
        let (others, running) = SHARED
            .read(|state| (self.others(state, queue.id, now), self.running(state)))
            .unwrap_or_default();
        let mut avoid = Avoid {
            others,
            jobs: running,
            passed: Vec::new(),
        };
        avoid.jobs.extend(&known.skip);
        avoid.jobs.sort_unstable();
        let (role, low) = (self.role, &mut known.low);
        let found =
            xact::with_next_snapshot(|| jobs.look(role, queue, now, limit, &mut avoid, low))?;
        avoid.passed.sort_unstable();
        known
            .skip
            .retain(|id| avoid.passed.binary_search(id).is_ok());
        Ok(found)
    }

    /// The jobs that other processes of this database run.
    fn running(&self, state: &State) -> Vec<i64> {
        let slots = state.slots.iter().enumerate();
        let others = slots.filter(|(index, slot)| {
            *index != self.id.index && slot.phase != Phase::Free && slot.database == self.database
        });
        others
            .filter_map(|(_, slot)| slot.current().job())
            .collect()
    }

    fn batch_size(&self, queue: &Queue) -> usize {
        let size = self.known.get(&queue.name).map_or(1, |known| known.size);
        if self.alone > 0 {
            1
        } else {
            size.clamp(1, self.most())
        }
    }

    /// The most jobs of one round.
    fn most(&self) -> usize {
        let most = usize::try_from(settings::MAX_ITEMS.get()).unwrap_or(1);
        most.clamp(1, MAX_ROUND)
    }

    /// Takes one of the queue's permits; `None` if it has none left, else whether it has more.
    fn enter_queue(&self, queue: &Queue) -> Option<bool> {
        let (id, database) = (self.id, self.database);
        SHARED
            .write(|state| state.enter_queue(id, database, queue.id, &queue.name, queue.limit()))
            .flatten()
    }

    fn leave_queue(&self) {
        let id = self.id;
        SHARED.write(|state| {
            if let Some(slot) = state.slot(id) {
                slot.queue_id = 0;
                slot.queue.set(b"");
            }
        });
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
        let (id, database) = (self.id, self.database);
        let keeper = SHARED.write(|state| {
            if let Some(slot) = state.slot(id) {
                slot.set_current(Current::None, 0);
                slot.withdraw_reach();
                slot.queue_id = 0;
                slot.queue.set(b"");
                slot.progress = -1.0;
                slot.message.set(b"");
            }
            let entry = state.database(database)?;
            if std::mem::take(&mut entry.refused) {
                state.ask_look(database)
            } else {
                None
            }
        });
        keeper.flatten().into_iter().for_each(latch::wake);
        marks::clear(self.id.index);
    }

    fn after_commit(&mut self, tally: Tally) -> Result<bool> {
        let worked = !tally.settled.is_empty();
        let (database, role) = (self.database, self.role);
        SHARED.write(|state| {
            if let Some(lane) = state.lane(database, role) {
                lane.failures = 0;
                // What was not reached is there for the next one, should this worker leave.
                lane.pending |= tally.left > 0 || tally.interrupted || tally.split > 0;
            }
        });
        stats::count(self.id, &tally);
        wait::tell_waiters(&tally);
        if let Some(known) = self
            .queue
            .as_ref()
            .and_then(|name| self.known.get_mut(name))
        {
            known.skip.extend(&tally.missed);
        }
        if tally.temporary {
            xact::transaction(session::drop_temporary)?;
        }
        activity::flush_statistics()?;
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

/// Charges an attempt whose transaction failed at COMMIT, and was rolled back with the job's end.
pub fn charge_commit(id: SlotId, queue: &Queue, only: &Settled, error: &PgError) -> Result<()> {
    let attempt = Attempt {
        job: only.job,
        attempts: only.attempts,
        ended: only.attempts.saturating_add(1),
        started: only.started,
    };
    let max_attempts = only.max_attempts;
    let outcome = xact::transaction(|| {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(Verdict::Gone);
        };
        session::set_read_only(false);
        settle::fail(&extension, queue, &attempt, max_attempts, error)
    })?;
    let outcome = match outcome {
        Verdict::Retry => Outcome::Retried,
        Verdict::Failed => Outcome::Failed,
        Verdict::Gone => return Ok(()),
    };
    let tally = Tally {
        queue: queue.id,
        settled: vec![Settled { outcome, ..*only }],
        ..Tally::default()
    };
    stats::count(id, &tally);
    wait::tell_waiters(&tally);
    if settings::LOG_JOBS.get() == settings::LOG_NONE {
        return Ok(());
    }
    let (job, queue, code) = (
        only.job,
        String::from_utf8_lossy(&queue.name),
        error.sqlstate.text(),
    );
    let text = format!("job {job} (queue \"{queue}\") failed at COMMIT with SQLSTATE {code}");
    log::report(Level::Log, &text)
}

/// Whether a job of the tally ended, so that somebody may wait for it.
pub fn is_final(outcome: Outcome) -> bool {
    outcome != Outcome::Retried
}
