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

mod together;

use std::collections::VecDeque;
use std::io::Write;

use crate::command::Claimed;
use crate::logic::low_water::Place;
use crate::logic::repeats::Repeats;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum};
use crate::pg::error::{INTERNAL_ERROR, PgError, QUERY_CANCELED, Result};
use crate::pg::fmgr::Function;
use crate::pg::local::Local;
use crate::pg::log::{self, Level};
use crate::pg::memcx::MemoryContext;
use crate::pg::{
    activity, bgworker, clock, guc, identity, latch, marks, session, statements, xact,
};
use crate::queue::claim::{self, Candidate, Ended, History, Job, Jobs};
use crate::queue::handler::{self, Handler, Shape};
use crate::queue::queues::Queue;
use crate::queue::settle::{self, Attempt, Verdict};
use crate::settings;
use crate::shared::{Current, SHARED, SlotId};

use together::Hold;

/// A batch stops taking jobs after this time, and cancels one that runs on when others are done. The
/// launcher is told of what runs for so long alone.
pub const BUDGET_MS: i32 = 20;

/// Subtransactions that wrote, in one transaction: more spill out of the snapshots' cache.
const MAX_WRITERS: usize = 60;

/// What a batch came to, once it has committed.
#[derive(Default)]
pub struct Tally {
    /// The queue, as shared memory knows it.
    pub queue: i32,
    /// Jobs that were taken and settled.
    pub settled: Vec<Settled>,
    /// Candidates that somebody else had locked.
    pub missed: Vec<i64>,
    /// A job was cancelled because others waited for it: run it alone.
    pub interrupted: bool,
    /// The session's temporary schema was used: drop what is in it.
    pub temporary: bool,
    /// SET CONSTRAINTS was used, which lasts until the commit.
    pub constraints: bool,
    /// Candidates that were not reached.
    pub left: usize,
    /// So many jobs failed in one call of their batch handler: each is run alone next.
    pub split: usize,
    /// A command that was claimed, to run once the batch has committed.
    pub command: Option<Claimed>,
}

/// One job that was settled.
#[derive(Clone, Copy)]
pub struct Settled {
    /// Its id.
    pub job: i64,
    /// How.
    pub outcome: Outcome,
    /// From due to start.
    pub waited: Micros,
    /// From start to end.
    pub ran: Micros,
    /// Executions that had ended before.
    pub attempts: i32,
    /// Executions before it is failed.
    pub max_attempts: i32,
    /// When it started.
    pub started: Micros,
}

/// What one execution came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work.
    Completed,
    /// It failed and is tried again.
    Retried,
    /// It failed for good.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// Memory of a worker: what lives for a batch, and what lives for a job.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Reset before each batch.
    pub batch: MemoryContext,
    /// Reset after each job.
    pub job: MemoryContext,
}

impl Memory {
    /// The two contexts of a process.
    pub fn new() -> Result<Self> {
        Ok(Memory {
            batch: MemoryContext::new(c"my_worker batch")?,
            job: MemoryContext::new(c"my_worker job")?,
        })
    }
}

/// A handler that was looked up for this batch, by the name in the job.
struct Known {
    name: Vec<u8>,
    handler: Handler,
    function: Function,
}

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
    completed_status: Datum,
    began: Micros,
    /// When the last job ended or was missed, or this batch began.
    reached: Micros,
    /// The last job that was reached.
    last: Option<Place>,
    /// Whether a batch handler may get several jobs in one call.
    together: bool,
    /// The last job was one of a batch handler's call.
    called_batch: bool,
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
        statements::watch(together::refuse);
        let history = if queue.retention > 0 {
            Some(claim::open_history(extension)?)
        } else {
            None
        };
        let began = clock::now();
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
            together: true,
            called_batch: false,
            tally: Tally {
                queue: queue.id,
                ..Tally::default()
            },
        })
    }

    /// Has a batch handler called for each job alone.
    pub fn one_by_one(mut self, alone: bool) -> Self {
        self.together = !alone;
        self
    }

    /// Takes and runs the candidates in order until `stop` says so or the time is up. `more` reads
    /// up to so many behind a place, for a batch handler; `behind` looks for another round, or for
    /// its first job alone.
    pub fn run(
        mut self,
        candidates: Vec<Candidate>,
        more: impl Fn(Place, usize) -> Result<Vec<Job>>,
        behind: impl Fn(Place, bool) -> Result<Vec<Candidate>>,
        stop: impl Fn() -> bool,
    ) -> Result<Tally> {
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
        session::stop_overrun_timer()?;
        session::forget_cancel();
        if let Some(history) = self.history {
            history.end()?;
        }
        self.tally.left = waiting.len();
        Ok(self.tally)
    }

    /// Takes the next candidate and runs it, alone or with others of its batch handler.
    fn step(
        &mut self,
        waiting: &mut VecDeque<Candidate>,
        more: impl Fn(Place, usize) -> Result<Vec<Job>>,
    ) -> Result<Step> {
        let Some(candidate) = waiting.front().copied() else {
            return Ok(Step::End);
        };
        let Some(job) = self.jobs.take(candidate)? else {
            self.tally.missed.push(candidate.place.id);
            self.last = Some(candidate.place);
            self.reached = clock::now();
            waiting.pop_front();
            return Ok(Step::Next);
        };
        if let Some(defect) = job.defect() {
            waiting.pop_front();
            self.last = Some(candidate.place);
            return self.refuse(&job, &defect).map(|()| Step::Next);
        }
        let first = self.tally.settled.is_empty();
        if job.is_command {
            if first {
                waiting.pop_front();
                self.claim(&job)?;
            }
            return Ok(Step::End);
        }
        let known = self.find_function(&job);
        if let Ok(index) = known
            && self.together
            && self.shape(index) == Some(Shape::Batch)
            && job.attempts == 0
        {
            waiting.clear();
            return self.run_together(job, index, more);
        }
        self.called_batch = false;
        self.run_job(&job, known)?;
        if self.tally.interrupted {
            return Ok(Step::End);
        }
        waiting.pop_front();
        self.last = Some(candidate.place);
        Ok(Step::Next)
    }

    /// Fails a job that nobody can run; if even that cannot be written, it is set aside.
    fn refuse(&mut self, job: &Job, defect: &PgError) -> Result<()> {
        let ended = job.attempts.saturating_add(1);
        let started = clock::now();
        let attempt = Attempt {
            job: job.id,
            attempts: job.attempts,
            ended,
            started,
        };
        let failed =
            xact::subtransaction(|| settle::fail_for_good(self.extension, &attempt, defect));
        if failed.is_err() {
            settle::set_aside_for(self.extension, job.id, "the job cannot be run", defect)?;
        }
        log_failure(&self.names(job), ended, defect)?;
        self.count(job, started, started, Outcome::Failed)
    }

    fn is_full(&self) -> bool {
        let done = !self.tally.settled.is_empty();
        done && (self.tally.temporary
            || self.tally.constraints
            || self.reached.saturating_sub(self.began) >= Micros::from(BUDGET_MS) * 1000
            || xact::writing_subtransactions() >= MAX_WRITERS)
    }

    fn set_left(&self, left: usize) {
        use std::sync::atomic::Ordering;
        SHARED.peek(|state| {
            if let Some(slot) = state.slots.get(self.slot.index) {
                slot.left.store(left as i32, Ordering::Relaxed);
            }
        });
    }

    /// Charges a command and hands it out of the batch.
    fn claim(&mut self, job: &Job) -> Result<()> {
        let started = clock::now();
        let attempts = job.attempts.saturating_add(1);
        marks::set(self.slot.index, self.database, job.id, attempts);
        self.set_current(Current::Running(job.id), started);
        settle::claim_command(self.extension, job.id, started)?;
        self.tally.command = Some(Claimed {
            text: job.command()?,
            attempt: Attempt {
                job: job.id,
                attempts,
                ended: attempts,
                started,
            },
            max_attempts: job.max_attempts.unwrap_or(self.queue.max_attempts),
            timeout_ms: self.own_timeout_ms(job).unwrap_or(0),
            waited: started.saturating_sub(job.due).max(0),
            queue: self.queue.clone(),
        });
        Ok(())
    }

    /// Runs one job and settles it. `known` is its function, or why there is none.
    fn run_job(&mut self, job: &Job, known: Result<usize>) -> Result<()> {
        let started = clock::now();
        self.watch_overrun()?;
        let result = match known {
            Ok(index) => self.attempt(&[job], Hold::Locked, index, started)?,
            Err(error) => Err(error),
        };
        self.reached = clock::now();
        let settled = self.settle(job, started, self.reached, result);
        self.set_current(Current::None, 0);
        marks::clear(self.slot.index);
        settled
    }

    /// Before a job starts: the launcher is told if it takes long, as others may stand behind it; and
    /// it is cancelled then if others are done.
    fn watch_overrun(&self) -> Result<()> {
        if self.tally.settled.is_empty() {
            session::start_overrun_timer(BUDGET_MS, self.launcher)
        } else {
            session::overrun_cancels()
        }
    }

    fn shape(&self, index: usize) -> Option<Shape> {
        self.functions.get(index).map(|known| known.handler.shape)
    }

    /// Executes the jobs in one call: their effects stay if what it came to is `Ok`, and are gone if
    /// not. An error around that is none of the jobs': it fails the batch, so that nothing stays.
    fn attempt(
        &mut self,
        jobs: &[&Job],
        hold: Hold,
        index: usize,
        started: Micros,
    ) -> Result<Result<Option<Datum>>> {
        let (Some(known), Some(first)) = (self.functions.get(index), jobs.first()) else {
            return Err(PgError::internal("a handler was lost"));
        };
        let (shape, function) = (known.handler.shape, known.function);
        activity::running(&describe(&known.handler.name, jobs));
        marks::set(self.slot.index, self.database, first.id, first.attempts);
        self.set_current(Current::Running(first.id), started);
        let timeout_ms = self.timeout_ms(first);
        let (slot, job, table) = (self.slot, first.id, self.jobs);
        let level = guc::Level::open();
        let mut result = xact::subtransaction(|| {
            let jobs = hold.take(table, jobs)?;
            session::set_read_only(session::default_read_only());
            clock::start_statement();
            let value = limited(timeout_ms, || call(function, shape, jobs))?;
            hold.check()?;
            refuse_late(started, timeout_ms)?;
            seal(slot, job)?;
            Ok(value)
        });
        session::hold_cancels();
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
        self.tally.temporary |= session::touched_temporary();
        self.tally.constraints |= session::touched_constraints();
        ended.and(left)?;
        Ok(result)
    }

    /// The shortest of the job's, the queue's and the session's time-outs; 0 for none.
    fn timeout_ms(&self, job: &Job) -> i32 {
        let session = session::statement_timeout_ms();
        let session = (session > 0).then_some(session);
        let own = self.own_timeout_ms(job);
        own.into_iter().chain(session).min().unwrap_or(0)
    }

    /// The job's time-out, else the queue's.
    fn own_timeout_ms(&self, job: &Job) -> Option<i32> {
        let own = job.timeout.or(self.queue.timeout)?;
        Some((own / 1000).clamp(1, i64::from(i32::MAX)) as i32)
    }

    /// Whether a function that was looked up earlier in this batch has not been dropped since.
    fn is_there(&self, index: usize) -> Result<bool> {
        match self.functions.get(index) {
            Some(known) => catalog::function_exists(known.handler.function),
            None => Ok(false),
        }
    }

    /// The function of the job's handler, looked up once a batch.
    fn find_function(&mut self, job: &Job) -> Result<usize> {
        let Some(name) = job.handler.as_ref().or(self.queue.handler.as_ref()) else {
            return Err(PgError::internal("a job without a handler was taken"));
        };
        let known = self.functions.iter().position(|known| known.name == *name);
        if let Some(index) = known {
            if self.is_there(index)? {
                return Ok(index);
            }
            self.functions.clear();
        }
        let role = self.role;
        let look_up = |handler: Handler| {
            let function = Function::new(handler.function, handler.result)?;
            Ok((handler, function))
        };
        let recalled = match handler::recall(name) {
            Some(handler) if catalog::may_execute(handler.function, role)? => Some(handler),
            _ => None,
        };
        let (handler, function) = match recalled {
            Some(handler) => look_up(handler)?,
            None => xact::subtransaction(|| {
                let handler = handler::resolve(name)?;
                handler::check_rights(&handler, role)?;
                let found = look_up(handler)?;
                handler::remember(name, &found.0);
                Ok(found)
            })?,
        };
        self.functions.push(Known {
            name: name.clone(),
            handler,
            function,
        });
        Ok(self.functions.len() - 1)
    }

    fn set_current(&self, current: Current, started: Micros) {
        SHARED.peek(|state| {
            if let Some(slot) = state.slots.get(self.slot.index) {
                slot.set_current(current, started);
            }
        });
    }

    fn settle(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        result: Result<Option<Datum>>,
    ) -> Result<()> {
        let outcome = match result {
            Ok(value) => {
                self.record(job, started, finished, value)?;
                if !self.jobs.complete(job)? {
                    settle::forget(self.extension, job.id)?;
                    xact::fire_deferred()?;
                }
                Outcome::Completed
            }
            Err(error) => {
                let outcome = self.settle_error(job, started, &error)?;
                xact::fire_deferred()?;
                match outcome {
                    Some(outcome) => outcome,
                    None => return Ok(()),
                }
            }
        };
        self.count(job, started, finished, outcome)
    }

    /// Writes a completed job into the history, if its queue keeps one.
    fn record(
        &self,
        job: &Job,
        started: Micros,
        finished: Micros,
        result: Option<Datum>,
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
        claim::record(job, &ended, history)
    }

    /// Counts a job that was settled.
    fn count(
        &mut self,
        job: &Job,
        started: Micros,
        finished: Micros,
        outcome: Outcome,
    ) -> Result<()> {
        let ran = finished.saturating_sub(started).max(0);
        if settings::LOG_JOBS.get() == settings::LOG_ALL {
            log_job(&self.names(job), outcome, ran)?;
        }
        self.tally.settled.push(Settled {
            job: job.id,
            outcome,
            waited: started.saturating_sub(job.due).max(0),
            ran,
            attempts: job.attempts,
            max_attempts: job.max_attempts.unwrap_or(self.queue.max_attempts),
            started,
        });
        Ok(())
    }

    /// Settles what did not go well; `None` if it was interrupted for the others' sake.
    fn settle_error(
        &mut self,
        job: &Job,
        started: Micros,
        error: &PgError,
    ) -> Result<Option<Outcome>> {
        let ended = job.attempts.saturating_add(1);
        let attempt = Attempt {
            job: job.id,
            attempts: job.attempts,
            ended,
            started,
        };
        if !leave_running(self.slot, job.id) {
            absorb_cancel();
            settle::cancel(self.extension, job.id, Some(&attempt))?;
            return Ok(Some(Outcome::Cancelled));
        }
        if self.is_in_the_way(error) {
            self.tally.interrupted = true;
            return Ok(None);
        }
        let max_attempts = job.max_attempts.unwrap_or(self.queue.max_attempts);
        let verdict = settle::fail(self.extension, self.queue, &attempt, max_attempts, error)?;
        log_failure(&self.names(job), ended, error)?;
        Ok(match verdict {
            Verdict::Retry => Some(Outcome::Retried),
            Verdict::Failed => Some(Outcome::Failed),
            Verdict::Gone => None,
        })
    }

    /// Whether the overrun timer cancelled what others wait for.
    fn is_in_the_way(&self, error: &PgError) -> bool {
        let waited_for = !self.tally.settled.is_empty();
        error.sqlstate == QUERY_CANCELED && waited_for && session::has_overrun()
    }

    fn names(&self, job: &Job) -> String {
        let handler = job.handler.as_ref().or(self.queue.handler.as_ref());
        names(job.id, &self.queue.name, handler.map(Vec::as_slice))
    }
}

/// What `pg_stat_activity` shows: the handler and its jobs.
fn describe(handler: &[u8], jobs: &[&Job]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(handler.len() + 48);
    shown.extend_from_slice(handler);
    // Writing to a Vec does not fail.
    let _ = match jobs {
        [only] => write!(shown, " (job {})", only.id),
        [first, ..] => write!(shown, " ({} jobs from {})", jobs.len(), first.id),
        [] => Ok(()),
    };
    shown
}

/// Runs user code: cancels reach it, and so does its time limit in milliseconds (0: none).
fn limited<T>(timeout_ms: i32, body: impl FnOnce() -> Result<T>) -> Result<T> {
    if timeout_ms > 0 {
        session::start_statement_timeout(timeout_ms)?;
    }
    session::accept_cancels();
    let result = body();
    session::hold_cancels();
    if timeout_ms > 0 {
        session::stop_statement_timeout()?;
    }
    result
}

/// A handler that caught the cancel of its time limit and went on has failed all the same.
fn refuse_late(began: Micros, timeout_ms: i32) -> Result<()> {
    let took = clock::now().saturating_sub(began);
    if timeout_ms > 0 && took > Micros::from(timeout_ms) * 1000 {
        let message = "canceling statement due to statement timeout";
        return Err(PgError::new(QUERY_CANCELED, message));
    }
    Ok(())
}

/// Whether somebody cancels the job that the slot runs.
pub fn is_cancelling(slot: SlotId, job: i64) -> bool {
    let current = SHARED.peek(|state| state.slots.get(slot.index).map(|slot| slot.current()));
    current.flatten() == Some(Current::Cancelling(job))
}

/// A job in log lines: ids and names, never what it says.
pub fn names(job: i64, queue: &[u8], handler: Option<&[u8]>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let what = match handler {
        Some(handler) => format!("handler {}", text(handler)),
        None => "command".to_string(),
    };
    format!("job {job} (queue \"{}\", {what})", text(queue))
}

/// Logs the end of a job, if all are to be logged.
pub fn log_job(names: &str, outcome: Outcome, ran: Micros) -> Result<()> {
    if settings::LOG_JOBS.get() != settings::LOG_ALL {
        return Ok(());
    }
    let what = match outcome {
        Outcome::Completed => "completed",
        Outcome::Retried => "will be retried",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "was cancelled",
    };
    log::report(
        Level::Log,
        &format!("{names} {what} after {:.3} ms", ran as f64 / 1000.0),
    )
}

/// Failures that were logged lately.
static REPEATS: Local<Repeats> = Local::new(Repeats::NONE);

/// Logs a failed attempt, those of one kind at most once a second. The message may quote data, so
/// the log gets the code alone; the owner reads the rest.
pub fn log_failure(names: &str, attempt: i32, error: &PgError) -> Result<()> {
    if settings::LOG_JOBS.get() == settings::LOG_NONE {
        return Ok(());
    }
    let code = error.sqlstate.text();
    let place = names.split_once('(').map_or(names, |(_, place)| place);
    let kind = format!("({place} with SQLSTATE {code}");
    let now = clock::now();
    let all = settings::LOG_JOBS.get() == settings::LOG_ALL;
    let held = match REPEATS.with(|repeats| repeats.admit(&kind, now)) {
        None if !all => return Ok(()),
        Some(n) if n > 0 && !all => format!(" ({n} more like it)"),
        _ => String::new(),
    };
    let text = format!("{names} failed in attempt {attempt} with SQLSTATE {code}{held}");
    log::report(Level::Log, &text)
}

/// Logs how many failures were held back, of those kinds that have been quiet since.
pub fn log_held_back() -> Result<()> {
    let now = clock::now();
    for (kind, count) in REPEATS.with(|repeats| repeats.overdue(now)) {
        log::report(Level::Log, &format!("{count} more jobs {kind} failed"))?;
    }
    Ok(())
}

/// Calls the handler as its signature wants it; its result as `jsonb`.
fn call(function: Function, shape: Shape, jobs: &[&Job]) -> Result<Option<Datum>> {
    let Some(first) = jobs.first() else {
        return Ok(None);
    };
    let value = match shape {
        Shape::IdAndPayload => function.call(&[first.id.datum(), first.payload]),
        Shape::Payload => function.call(&[first.payload]),
        Shape::Nothing => function.call(&[]),
        Shape::Batch => {
            let ids: Vec<Datum> = jobs.iter().map(|job| job.id.datum()).collect();
            let payloads: Vec<Datum> = jobs.iter().map(|job| job.payload).collect();
            function.call(&[
                datum::array_datum(&ids, datum::types::INT8)?,
                datum::array_datum(&payloads, datum::types::JSONB)?,
            ])
        }
    }?;
    value.map(|value| function.to_jsonb(value)).transpose()
}

/// Marks the job's work as done, too late to cancel; an error if somebody was faster.
pub fn seal(slot: SlotId, job: i64) -> Result<()> {
    let sealed = SHARED
        .peek(|state| {
            let slot = state.slots.get(slot.index)?;
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
fn leave_running(slot: SlotId, job: i64) -> bool {
    SHARED
        .peek(|state| {
            let slot = state.slots.get(slot.index)?;
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
