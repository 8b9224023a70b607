//! Running jobs that a worker has taken, and settling them in the same transaction.
//!
//! A batch is one transaction. Each job runs in a subtransaction of its own, with its own level of
//! settings and its own memory; what it leaves in the session is taken away before the next one.
//! Its row is settled outside that subtransaction: a row that is locked outside and changed inside
//! would get a MultiXact each time.
//!
//! Jobs of a batch that are done wait for its commit. If a later one takes long, they would wait
//! with it; so once one is done, a timer cancels what runs too long, the batch commits what is
//! done, and the long job is run again alone, where nothing waits for it.
//!
//! A command cannot run in a transaction of ours: the batch claims it, ends, and `command` runs it.

pub mod aside;
pub mod call;
pub mod command;
mod end;
mod find;
mod pace;
pub mod snooze;
mod step;
mod stretch;
mod tally;
mod together;

use std::collections::VecDeque;

use crate::logic::consumers::Channel;
use crate::logic::low_water::Place;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{INTERNAL_ERROR, PgError, Result};
use crate::pg::fault::{fault, fault_here};
use crate::pg::{bgworker, clock, guc, identity, marks, session, stain, statements, table, xact};
use crate::queue::claim::{Candidate, Job, Jobs};
use crate::queue::handler;
use crate::queue::queues::Queue;
use crate::queue::record::{self, History};
use crate::shared::{Current, SHARED, SlotId, consumers, own};

pub use end::{Blame, Guilty, absorb_cancel, cancelled, is_cancelling, seal};
pub use tally::{Grant, Memory, Tally};

use call::{call, limited, refuse_late};
use find::Known;
use pace::Granted;
use together::Hold;

/// A batch stops taking jobs after this time, and cancels one that runs on when others are done. The
/// launcher is told of what runs for so long alone.
pub const BUDGET_MS: i32 = 20;

/// Loading a library takes longer, in microseconds: it is opened, mapped and linked.
const LOADING: Micros = 30;

/// Subtransactions that wrote, in one transaction: more spill out of the snapshots' cache.
const MAX_WRITERS: usize = 60;

/// Whether to take the next candidate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Next,
    End,
}

/// One batch at work.
pub struct Batch<'a> {
    extension: &'a Extension,
    queue: &'a Queue,
    jobs: &'a Jobs,
    slot: SlotId,
    role: Oid,
    database: Oid,
    launcher: i32,
    history: Option<History>,
    memory: Memory,
    functions: Vec<Known>,
    completed_status: Datum<'static>,
    began: Micros,
    /// When the last job ended or was missed, or this batch began.
    reached: Micros,
    /// The last job that was reached.
    last: Option<Place>,
    /// Consumers may have jobs of the queue, which has been given a handler since.
    leased: bool,
    /// Whether a batch handler may get several jobs in one call.
    together: bool,
    /// The execution that was the last one asked to come again after that.
    snoozed: Option<Micros>,
    /// The last job was one of a batch handler's call.
    called_batch: bool,
    /// It takes one job.
    single: bool,
    /// Starts that were allowed before, and came to nothing.
    kept: Vec<Grant>,
    /// Its transaction has one snapshot for all, which an error may doom.
    strict: bool,
    tally: Tally,
}

impl<'a> Batch<'a> {
    /// Prepares a batch within an open transaction.
    pub fn new(
        extension: &'a Extension,
        queue: &'a Queue,
        jobs: &'a Jobs,
        slot: SlotId,
        memory: Memory,
    ) -> Result<Self> {
        memory.batch.reset()?;
        jobs.prepare_keys(queue)?;
        statements::watch(together::refuse);
        let history = if queue.retention > 0 {
            Some(record::open_history(extension)?)
        } else {
            None
        };
        let began = clock::now();
        let strict = xact::is_strict();
        Ok(Batch {
            extension,
            queue,
            jobs,
            slot,
            role: identity::current_role(),
            database: bgworker::my_database(),
            launcher: SHARED.read(|state| state.launcher_procno).unwrap_or(-1),
            history,
            memory,
            functions: Vec::new(),
            completed_status: datum::text_datum(b"completed")?,
            began,
            reached: began,
            last: None,
            leased: queue.handler.is_some()
                && consumers::may_have(Channel {
                    database: bgworker::my_database(),
                    queue: queue.id,
                }),
            together: !strict,
            snoozed: None,
            called_batch: false,
            single: strict,
            kept: Vec::new(),
            strict,
            tally: Tally {
                queue: queue.id,
                ..Tally::default()
            },
        })
    }

    /// Takes one job only.
    pub fn one_by_one(mut self, alone: bool) -> Self {
        self.together &= !alone;
        self.single |= alone;
        self
    }

    /// Takes and runs the candidates in order until `stop` says so or the time is up. `more` reads
    /// up to so many behind a place, for a batch handler; `behind` looks for another round, or for
    /// its first job alone. After an error the tally tells whose fault it is.
    pub fn run(
        mut self,
        candidates: Vec<Candidate>,
        more: impl Fn(Place, usize) -> Result<Vec<Job>>,
        behind: impl Fn(Place, bool) -> Result<Vec<Candidate>>,
        stop: impl Fn() -> bool,
    ) -> (Result<()>, Tally) {
        let done = self.take_all(candidates, more, behind, stop);
        let stopped = session::stop_overrun_timer();
        session::forget_cancel();
        let done = done.and(stopped).and_then(|_| self.write_down());
        (done, self.tally)
    }

    fn take_all(
        &mut self,
        candidates: Vec<Candidate>,
        more: impl Fn(Place, usize) -> Result<Vec<Job>>,
        behind: impl Fn(Place, bool) -> Result<Vec<Candidate>>,
        stop: impl Fn() -> bool,
    ) -> Result<()> {
        let mut waiting = VecDeque::from(candidates);
        while !self.is_full() && !stop() {
            if waiting.is_empty() {
                let Some(last) = self.last else { break };
                // A batch handler takes the others by itself.
                waiting = behind(last, self.called_batch)?.into();
                if waiting.is_empty() {
                    break;
                }
            }
            let memory = self.memory;
            let step = memory.job.run(|| self.step(&mut waiting, &more));
            memory.job.reset()?;
            self.set_left(waiting.len());
            if step? == Step::End {
                break;
            }
        }
        self.tally.left = waiting.len();
        Ok(())
    }

    /// Writes what the jobs have left to be written.
    fn write_down(&mut self) -> Result<()> {
        // From here on an error is of what they leave to be written, or of the claim.
        if self.tally.command.is_none() {
            self.tally.blame = Blame::Settled;
        }
        self.history.take().map_or(Ok(()), History::end)?;
        fault!(Written);
        Ok(())
    }

    fn is_full(&self) -> bool {
        let done = !self.tally.untold.is_empty();
        done && (self.single
            || self.tally.temporary
            || self.tally.constraints
            || self.tally.cancelled
            || self.tally.stained
            || self.reached.saturating_sub(self.began) >= Micros::from(BUDGET_MS) * 1000
            || xact::writing_subtransactions() >= MAX_WRITERS)
    }

    fn set_left(&self, left: usize) {
        SHARED.peek(|unlocked| {
            if let Some(slot) = unlocked.slots.get(self.slot.index) {
                slot.set_left(left);
            }
        });
    }

    /// Runs one job and settles it. `known` is its function, or why there is none.
    fn run_job(&mut self, job: &Job, known: Result<usize>, granted: Granted) -> Result<()> {
        let started = clock::now();
        if job.is_expired(granted.unwrap_or(started)) {
            return self.expire(job);
        }
        self.watch_overrun()?;
        let result = match known {
            Ok(index) => self.attempt(&[job], Hold::Locked, index, started)?,
            Err(error) => {
                self.reached = clock::now();
                Err(error)
            }
        };
        // That may be a while ago, if it was run with others before.
        let started = granted.unwrap_or(started);
        let settled = self.settle(job, started, self.reached, result);
        fault_here!(Settled);
        self.leave();
        settled
    }

    /// No job runs any more. One that is cancelled, or yet to be charged, is nobody else's before
    /// that is committed.
    fn leave(&self) {
        if !matches!(self.tally.blame, Blame::Job(_)) && !self.tally.cancelled {
            self.set_current(Current::None, 0);
            marks::clear(self.slot.index);
        }
    }

    /// Before a job starts: the launcher is told if it takes long, as others may stand behind it; and
    /// it is cancelled then if others are done.
    fn watch_overrun(&self) -> Result<()> {
        if self.tally.untold.is_empty() {
            session::start_overrun_timer(BUDGET_MS, self.launcher)
        } else {
            session::overrun_cancels()
        }
    }

    /// Executes the jobs in one call, and notes when it was over: their effects stay if what it came to is `Ok`, and are
    /// gone if not. An error around that is none of the jobs': it fails the batch, so that nothing stays.
    fn attempt(
        &mut self,
        jobs: &[&Job],
        hold: Hold,
        index: usize,
        started: Micros,
    ) -> Result<Result<Option<Datum<'static>>>> {
        let (Some(known), Some(first)) = (self.functions.get(index), jobs.first()) else {
            return Err(PgError::internal("a handler was lost"));
        };
        let (shape, function) = (known.handler.shape, known.function);
        self.begin_call(jobs, index, started);
        fault!(Marked);
        let timeout_ms = self.timeout_ms(first);
        let (slot, job, table) = (self.slot, first.id, self.jobs);
        own::set_call(several(jobs));
        let level = guc::Level::open();
        snooze::take();
        let mut returned = None;
        let mut result = xact::subtransaction(|| {
            let jobs = hold.take(table, jobs)?;
            session::set_read_only(session::default_read_only());
            clock::start_statement();
            let value = limited(slot, timeout_ms, || call(function, shape, jobs))?;
            fault!(Called);
            let now = clock::now();
            returned = Some(now);
            hold.check()?;
            refuse_late(now.saturating_sub(started), timeout_ms)?;
            seal(slot, job)?;
            Ok(value)
        });
        self.reached = returned.unwrap_or_else(clock::now);
        session::hold_cancels();
        own::set_call(Vec::new());
        self.snoozed = snooze::take();
        if let Err(error) = &result
            && table::append_failed()
        {
            // Its statement was to see what jobs before it have left to be written.
            self.tally.blame = Blame::Settled;
            return Err(error.clone());
        }
        if let Err(error) = &result
            && error.sqlstate == INTERNAL_ERROR
            && !self.is_there(index)?
        {
            // Somebody dropped it just now, which the server calls an internal error.
            let name = self.functions.get(index).map(|known| &known.handler.name);
            result = Err(handler::unknown(name.map_or(b"", Vec::as_slice)));
        }
        if result.is_err() {
            // What an error cut short must not be called again.
            self.functions.clear();
        }
        let ended = level.end();
        let left = session::discard_leftovers();
        self.note_traces(self.reached.saturating_sub(started));
        ended.and(left)?;
        fault!(Sealed);
        Ok(result)
    }

    /// Before jobs are called: says that they run.
    fn begin_call(&self, jobs: &[&Job], index: usize, started: Micros) {
        let (Some(known), Some(first)) = (self.functions.get(index), jobs.first()) else {
            return;
        };
        call::show(&known.handler.name, jobs);
        let noted = marks::Noted {
            job: first.id,
            database: self.database,
            attempts: first.attempts,
            started,
            is_command: false,
        };
        marks::set(self.slot.index, &noted);
        self.set_current(Current::Running(first.id), started);
    }

    /// What a job has touched that outlives it. No library is loaded in so short a time as most of them take.
    fn note_traces(&mut self, took: Micros) {
        self.tally.temporary |= session::touched_temporary();
        self.tally.constraints |= session::touched_constraints();
        self.tally.stained |= !(0..LOADING).contains(&took) && stain::is_stained();
    }

    /// The shortest of the job's, the queue's and the session's time-outs; 0 for none.
    fn timeout_ms(&self, job: &Job) -> i32 {
        let session = session::statement_timeout_ms();
        let session = (session > 0).then_some(session);
        let own = command::own_timeout_ms(self.queue, job);
        own.into_iter().chain(session).min().unwrap_or(0)
    }

    fn set_current(&self, current: Current, started: Micros) {
        SHARED.peek(|unlocked| {
            if let Some(slot) = unlocked.slots.get(self.slot.index) {
                slot.set_current(current, started);
            }
        });
    }
}

/// The jobs of a call, if they are several.
fn several(jobs: &[&Job]) -> Vec<i64> {
    match jobs {
        [_, _, ..] => jobs.iter().map(|job| job.id).collect(),
        _ => Vec::new(),
    }
}
