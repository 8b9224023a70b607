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

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum};
use crate::pg::error::{PgError, QUERY_CANCELED, Result};
use crate::pg::fmgr::Function;
use crate::pg::log::{self, Level};
use crate::pg::memcx::MemoryContext;
use crate::pg::table::Appender;
use crate::pg::{activity, clock, guc, identity, latch, marks, session, xact};
use crate::queue::claim::{Candidate, Ended, Job, Jobs};
use crate::queue::handler::{self, Handler, Shape};
use crate::queue::queues::Queue;
use crate::queue::settle::{self, Attempt, Verdict};
use crate::settings;
use crate::shared::{Current, SHARED, SlotId};

/// A batch stops taking jobs after this time, and cancels one that runs on when others are done.
pub const BUDGET_MS: i32 = 20;

/// Subtransactions that wrote, in one transaction: more spill out of the snapshots' cache.
const MAX_WRITERS: usize = 60;

/// What a batch came to, once it has committed.
#[derive(Default)]
pub struct Tally {
    /// Jobs that were taken and settled.
    pub settled: Vec<Settled>,
    /// Candidates that somebody else had locked.
    pub missed: Vec<i64>,
    /// A job was cancelled because others waited for it: run it alone.
    pub interrupted: bool,
    /// The session's temporary schema was used: drop what is in it.
    pub temporary: bool,
    /// Candidates that were not reached.
    pub left: usize,
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

/// One batch at work.
pub struct Batch<'a> {
    extension: &'a Extension,
    queue: &'a Queue,
    jobs: &'a Jobs,
    slot: SlotId,
    role: Oid,
    database: Oid,
    launcher: i32,
    history: Option<Appender>,
    scratch: MemoryContext,
    /// Where the functions are kept: scratch is emptied after each job.
    kept: MemoryContext,
    functions: Vec<(Vec<u8>, Handler, Function)>,
    completed_status: Datum,
    began: Micros,
    tally: Tally,
}

impl<'a> Batch<'a> {
    /// Prepares a batch within an open transaction.
    pub fn new(
        extension: &'a Extension,
        queue: &'a Queue,
        jobs: &'a Jobs,
        slot: SlotId,
        scratch: MemoryContext,
    ) -> Result<Self> {
        let history = if queue.retention > 0 {
            Some(Appender::open(extension.history)?)
        } else {
            None
        };
        Ok(Batch {
            extension,
            queue,
            jobs,
            slot,
            role: identity::current_role(),
            database: crate::pg::bgworker::my_database(),
            launcher: SHARED.read(|state| state.launcher_procno).unwrap_or(-1),
            history,
            scratch,
            kept: MemoryContext::current(),
            functions: Vec::new(),
            completed_status: datum::text_datum(b"completed")?,
            began: clock::now(),
            tally: Tally::default(),
        })
    }

    /// Takes and runs the candidates in order until `stop` says so or the time is up.
    pub fn run(mut self, candidates: &[Candidate], stop: impl Fn() -> bool) -> Result<Tally> {
        session::start_overrun_timer(BUDGET_MS, self.launcher)?;
        for (index, candidate) in candidates.iter().enumerate() {
            self.tally.left = candidates.len() - index;
            if self.is_full() || stop() {
                break;
            }
            match self.jobs.take(*candidate)? {
                Some(job) => self.run_job(&job)?,
                None => self.tally.missed.push(candidate.id),
            }
            self.claims_left(candidates.len() - index - 1);
            self.tally.left -= 1;
            if self.tally.interrupted {
                self.tally.left += 1;
                break;
            }
        }
        session::stop_overrun_timer()?;
        session::forget_cancel();
        if let Some(history) = self.history {
            history.end()?;
        }
        Ok(self.tally)
    }

    fn is_full(&self) -> bool {
        let done = !self.tally.settled.is_empty();
        done && (self.tally.temporary
            || clock::now().saturating_sub(self.began) >= Micros::from(BUDGET_MS) * 1000
            || xact::writing_subtransactions() >= MAX_WRITERS)
    }

    fn claims_left(&self, left: usize) {
        use std::sync::atomic::Ordering;
        SHARED.peek(|state| {
            if let Some(slot) = state.slots.get(self.slot.index) {
                slot.claims_left.store(left as i32, Ordering::Relaxed);
            }
        });
    }

    fn run_job(&mut self, job: &Job) -> Result<()> {
        let started = clock::now();
        if !self.tally.settled.is_empty() {
            session::overrun_cancels(self.launcher);
        }
        let scratch = self.scratch;
        let result = scratch.run(|| {
            let result = self.attempt(job, started);
            let settled = self.settle(job, started, result);
            self.set_current(Current::None, 0);
            marks::clear(self.slot.index);
            settled
        });
        scratch.reset()?;
        result
    }

    /// Executes the job: its effects stay if the answer is `Ok`, and are gone if not.
    fn attempt(&mut self, job: &Job, started: Micros) -> Result<Option<Datum>> {
        marks::set(self.slot.index, self.database, job.id, job.attempts);
        self.set_current(Current::Running(job.id), started);
        let level = guc::Level::open();
        session::forget_cancel();
        let result = self.attempt_in_level(job);
        session::hold_cancels();
        let ended = level.end();
        let left = session::discard_leftovers();
        self.tally.temporary |= session::touched_temporary();
        // A failure to clean up is no failure of the job: it fails the batch.
        result.and_then(|value| ended.and(left).map(|()| value))
    }

    fn attempt_in_level(&mut self, job: &Job) -> Result<Option<Datum>> {
        let index = self.find_function(job)?;
        let Some((name, handler, function)) = self.functions.get(index) else {
            return Err(PgError::internal("a handler was lost"));
        };
        let (shape, function) = (handler.shape, *function);
        activity::running(&[&handler.name, format!(" (job {})", job.id).as_bytes()].concat());
        let _ = name;
        let slot = self.slot;
        let timeout_ms = self.timeout_ms(job);
        xact::subtransaction(|| {
            session::set_read_only(session::default_read_only());
            clock::start_statement();
            if timeout_ms > 0 {
                session::start_statement_timeout(timeout_ms)?;
            }
            session::accept_cancels();
            let result = call(function, shape, job);
            session::hold_cancels();
            if timeout_ms > 0 {
                session::stop_statement_timeout()?;
            }
            let value = result?;
            seal(slot, job.id)?;
            Ok(value)
        })
        .inspect_err(|_| {
            session::hold_cancels();
            if timeout_ms > 0 {
                let _ = session::stop_statement_timeout();
            }
        })
    }

    /// The shortest of the job's, the queue's and the session's time-outs; 0 for none.
    fn timeout_ms(&self, job: &Job) -> i32 {
        let own = job
            .timeout
            .or(self.queue.timeout)
            .map(|us| (us / 1000).clamp(1, i32::MAX as i64));
        let session = i64::from(session::statement_timeout_ms());
        let session = (session > 0).then_some(session);
        own.into_iter().chain(session).min().unwrap_or(0) as i32
    }

    /// The function of the job's handler, looked up once a batch.
    fn find_function(&mut self, job: &Job) -> Result<usize> {
        let Some(name) = job.handler.as_ref().or(self.queue.handler.as_ref()) else {
            return Err(PgError::internal("a job without a handler was taken"));
        };
        if let Some(index) = self.functions.iter().position(|f| f.0 == *name) {
            return Ok(index);
        }
        let found = handler::resolve(name)?;
        handler::check_rights(&found, self.role)?;
        let function = self
            .kept
            .run(|| Function::new(found.function, found.result))?;
        self.functions.push((name.clone(), found, function));
        Ok(self.functions.len() - 1)
    }

    fn set_current(&self, current: Current, started: Micros) {
        SHARED.peek(|state| {
            if let Some(slot) = state.slots.get(self.slot.index) {
                slot.set_current(current, started);
            }
        });
    }

    fn settle(&mut self, job: &Job, started: Micros, result: Result<Option<Datum>>) -> Result<()> {
        let finished = clock::now();
        let outcome = match result {
            Ok(value) => {
                let ended = Ended {
                    status: self.completed_status,
                    started,
                    finished,
                    attempts: job.attempts.saturating_add(1),
                    result: value,
                };
                self.jobs.complete(job, &ended, self.history.as_ref())?;
                Outcome::Completed
            }
            Err(error) => match self.settle_error(job, started, &error)? {
                Some(outcome) => outcome,
                None => return Ok(()),
            },
        };
        self.log(job, outcome, finished - started)?;
        self.tally.settled.push(Settled {
            job: job.id,
            outcome,
            waited: started.saturating_sub(job.run_at).max(0),
            ran: finished.saturating_sub(started).max(0),
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
        let cancelling = self.is_cancelling(job.id);
        if cancelling {
            absorb_cancel();
            settle::cancel(self.extension, job.id, started)?;
            return Ok(Some(Outcome::Cancelled));
        }
        let waited_for = !self.tally.settled.is_empty();
        if error.sqlstate == QUERY_CANCELED && waited_for && session::has_overrun() {
            self.tally.interrupted = true;
            return Ok(None);
        }
        let attempt = Attempt {
            job: job.id,
            attempts: job.attempts,
            started,
        };
        let max_attempts = job.max_attempts.unwrap_or(self.queue.max_attempts);
        let verdict = settle::fail(self.extension, self.queue, &attempt, max_attempts, error)?;
        self.log_error(job, error)?;
        Ok(match verdict {
            Verdict::Retry => Some(Outcome::Retried),
            Verdict::Failed => Some(Outcome::Failed),
            Verdict::Gone => None,
        })
    }

    fn is_cancelling(&self, job: i64) -> bool {
        SHARED
            .peek(|state| state.slots.get(self.slot.index).map(|slot| slot.current()))
            .flatten()
            == Some(Current::Cancelling(job))
    }

    fn names(&self, job: &Job) -> String {
        let handler = job.handler.as_ref().or(self.queue.handler.as_ref());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "job {} (queue \"{}\", handler {})",
            job.id,
            text(&self.queue.name),
            handler.map(|h| text(h)).unwrap_or_default()
        )
    }

    fn log(&self, job: &Job, outcome: Outcome, ran: Micros) -> Result<()> {
        if settings::LOG_JOBS.get() != settings::LOG_ALL {
            return Ok(());
        }
        let what = match outcome {
            Outcome::Completed => "completed",
            Outcome::Retried => "will be retried",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "was cancelled",
        };
        let ms = ran as f64 / 1000.0;
        log::report(
            Level::Log,
            &format!("{} {what} after {ms:.3} ms", self.names(job)),
        )
    }

    /// The message may quote data, so the log gets the code alone; the owner reads the rest.
    fn log_error(&self, job: &Job, error: &PgError) -> Result<()> {
        if settings::LOG_JOBS.get() == settings::LOG_NONE {
            return Ok(());
        }
        let code = error.sqlstate.text();
        let attempt = job.attempts.saturating_add(1);
        let text = format!(
            "{} failed in attempt {attempt} with SQLSTATE {code}",
            self.names(job)
        );
        log::report(Level::Log, &text)
    }
}

/// Calls the handler as its signature wants it.
fn call(function: Function, shape: Shape, job: &Job) -> Result<Option<Datum>> {
    let value = match shape {
        Shape::IdAndPayload => function.call(&[job.id.datum(), job.payload]),
        Shape::Payload => function.call(&[job.payload]),
        Shape::Nothing => function.call(&[]),
        Shape::Batch => function.call(&[
            datum::array_datum(&[job.id.datum()], datum::types::INT8)?,
            datum::array_datum(&[job.payload], datum::types::JSONB)?,
        ]),
    }?;
    value.map(|value| function.to_jsonb(value)).transpose()
}

/// Marks the job's work as done, too late to cancel; an error if somebody was faster.
fn seal(slot: SlotId, job: i64) -> Result<()> {
    let sealed = SHARED
        .peek(|state| {
            let slot = state.slots.get(slot.index)?;
            Some(slot.advance(Current::Running(job), Current::Sealed(job)))
        })
        .flatten();
    match sealed {
        Some(false) => Err(PgError::new(
            QUERY_CANCELED,
            "canceling job due to user request",
        )),
        _ => Ok(()),
    }
}

/// The signal of a cancel is sent under the lock; having held it, and come back from the kernel
/// once, the signal has arrived and is forgotten, so that it does not hit the next job.
fn absorb_cancel() {
    SHARED.write(|_| ());
    crate::pg::bgworker::signal(crate::pg::bgworker::my_pid(), 0);
    session::forget_cancel();
    let _ = latch::check_for_interrupts();
}
