//! What a consumer says of a job that it has received: done, failed, given back, still at work.
//!
//! Each call shows the job's id and the lease's number, and follows the caller's (sub)transaction: the job's
//! row and its lease are as before if that is rolled back. With a lease that was lost nothing changes, and
//! the answer is false.

use std::cell::Cell;
use std::ffi::CStr;
use std::rc::Rc;

use super::{admitted, may_consume};
use crate::logic::columns::job as column;
use crate::logic::consumers::lease::{JobKey, Lease, LeaseId, Undone};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, RAISE_EXCEPTION, Result};
use crate::pg::fault::fault;
use crate::pg::{bgworker, clock, identity, latch, xact};
use crate::queue::claim::{Job, Jobs};
use crate::queue::end::{self, Attempt, Completion, EndOf, Execution, How, Said};
use crate::queue::queues::{self, Queue};
use crate::queue::record::{self, History};
use crate::queue::report::Runs;
use crate::queue::{keys, lease_row, leases, permit, wake};
use crate::shared::MESSAGE_BYTES;
use crate::shared::{self, SHARED, consumers};

/// The longest delay, and the lengths that `extend()` takes.
const LONGEST_DELAY: Micros = 1000 * 365 * 86_400_000_000;
const EXTENSION: std::ops::RangeInclusive<Micros> = 1_000_000..=86_400_000_000;

/// How many leases are marked by one hold of the lock.
const AT_ONCE: usize = 256;

/// A lease as its consumer shows it.
#[derive(Clone, Copy)]
pub struct Shown {
    /// The job.
    pub job: i64,
    /// The lease's number.
    pub token: i64,
}

/// A job whose lease was shown and is valid. Its row is locked.
struct Valid {
    job: Job,
    queue: Option<Rc<Queue>>,
    queue_name: Vec<u8>,
    /// The session's lease; `None`: the row says it.
    session: Option<(LeaseId, Lease)>,
    started: Micros,
}

/// One call, for any number of leases.
struct Desk {
    extension: Extension,
    jobs: Jobs,
    caller: Oid,
}

impl Desk {
    fn open(call: &'static CStr) -> Result<Self> {
        let extension = admitted(call, true)?;
        Ok(Desk {
            jobs: Jobs::open_by_id(&extension)?,
            extension,
            caller: identity::current_role(),
        })
    }

    /// Marks the sessions' leases among these as ended by this transaction.
    fn begin_ends(&self, shown: &[Shown]) -> Vec<Option<(LeaseId, Lease)>> {
        let (table, pid) = (self.extension.jobs, bgworker::my_pid());
        let mut begun = Vec::with_capacity(shown.len());
        if !consumers::any_out() {
            begun.resize(shown.len(), None);
            return begun;
        }
        for part in shown.chunks(AT_ONCE) {
            consumers::write(|consumers| {
                begun.extend(part.iter().map(|shown| {
                    let key = JobKey {
                        table,
                        job: shown.job,
                    };
                    consumers.begin_end(key, shown.token, pid)
                }));
            });
        }
        // Each has an answer, also where nothing is shared.
        begun.resize(shown.len(), None);
        begun
    }

    /// Undoes that.
    fn undo(&self, id: LeaseId) {
        let pid = bgworker::my_pid();
        let undone = consumers::write(|consumers| consumers.undo_end(id, pid));
        if undone == Some(Undone::Lost) {
            let database = bgworker::my_database();
            let keeper = SHARED.change(|state| state.ask_look(database));
            shared::wake(keeper);
        }
    }

    /// The job of a lease that is valid, locked. `begun`: the session's lease, if it is one.
    fn validate(&self, shown: Shown, begun: Option<(LeaseId, Lease)>) -> Result<Option<Valid>> {
        let valid = self.find(shown, begun);
        if let (Some((id, _)), Ok(None) | Err(_)) = (begun, &valid) {
            self.undo(id);
        }
        valid
    }

    fn find(&self, shown: Shown, begun: Option<(LeaseId, Lease)>) -> Result<Option<Valid>> {
        fault!(LeaseBegun);
        let Some((job, started)) = self.lock(shown, begun)? else {
            return Ok(None);
        };
        fault!(LeaseLocked);
        let queue_name = queue_of(&job)?;
        let queue = queues::kept_as_told(&self.extension, &queue_name);
        let session = begun.filter(|_| job.value(column::LEASE).is_none());
        Ok(Some(Valid {
            job,
            queue: queue.ok().map(|kept| kept.queue),
            queue_name,
            session,
            started,
        }))
    }

    /// Since when a job is out under the lease that is shown; `None` if that is not valid, or the caller has
    /// no right to the job.
    fn started(
        &self,
        job: &Job,
        shown: Shown,
        begun: Option<(LeaseId, Lease)>,
    ) -> Result<Option<Micros>> {
        let in_row = job.value(column::LEASE).map(datum::as_i64);
        let started = match (begun, in_row) {
            (Some((_, lease)), None) if lease.attempts == job.attempts => lease.since,
            // Also one that this very transaction has received, which is published besides.
            (_, Some(token)) if token == shown.token && job.run_at() > clock::now() => {
                job.value(column::STARTED_AT).map_or(0, datum::as_i64)
            }
            _ => return Ok(None),
        };
        let may = may_consume(&self.extension, self.caller, job.owner(), &queue_of(job)?)?;
        Ok(may.then_some(started))
    }

    /// The job's row as it is now, locked, and since when it is out; waits for whoever has it. A row is locked
    /// only for a caller who has a right to it and shows its lease: a lock keeps the job from running, and a worker
    /// may hold it for long.
    fn lock(&self, shown: Shown, begun: Option<(LeaseId, Lease)>) -> Result<Option<(Job, Micros)>> {
        // Most often it stands where this session has found it, and is there whatever the snapshot.
        let place = begun.and_then(|(lease, _)| leases::row_of(lease));
        if let Some(place) = place
            && let Some(job) = self.jobs.at(place)?
            && let Some(started) = self.started(&job, shown, begun)?
            && self.jobs.lock(&job)?
        {
            return Ok(Some((job, started)));
        }
        let Some((job, started)) = self.look_up(shown, begun)? else {
            return Ok(None);
        };
        // What this transaction wrote nobody else can have.
        if job.is_own() || xact::with_latest_snapshot(|| self.jobs.lock(&job))? {
            return Ok(Some((job, started)));
        }
        lease_row::lock(&self.extension, shown.job)?;
        self.look_up(shown, begun)
    }

    /// The job by its id, and since when it is out.
    fn look_up(
        &self,
        shown: Shown,
        begun: Option<(LeaseId, Lease)>,
    ) -> Result<Option<(Job, Micros)>> {
        let found = xact::with_latest_snapshot(|| self.jobs.by_id(shown.job))?;
        let Some(job) = found else { return Ok(None) };
        let started = self.started(&job, shown, begun)?;
        Ok(started.map(|started| (job, started)))
    }

    fn close(self) -> Result<()> {
        self.jobs.close()
    }
}

fn queue_of(job: &Job) -> Result<Vec<u8>> {
    job.value(column::QUEUE)
        .map_or(Ok(Vec::new()), datum::as_text)
}

impl Valid {
    fn end_of(&self) -> EndOf<'_> {
        let job = &self.job;
        let of_queue = self.queue.as_ref().map(|queue| queue.max_attempts);
        EndOf {
            queue: self.queue.as_deref(),
            queue_name: &self.queue_name,
            owner: job.owner(),
            runs: Runs::Consumer,
            attempt: Attempt {
                job: job.id,
                attempts: job.attempts,
                ended: job.attempts.saturating_add(1),
                started: self.started,
            },
            max_attempts: job.max_attempts.or(of_queue).unwrap_or(1),
            execution: Some(Execution {
                due: match self.session {
                    Some((_, lease)) => lease.due,
                    None => job
                        .value(column::LEASE_RUN_AT)
                        .map_or(job.due, datum::as_i64),
                },
                finished: clock::now(),
            }),
        }
    }

    /// The lease goes when this transaction commits.
    fn release(&self, gives_back: bool) -> Result<()> {
        match self.session {
            Some((id, _)) => leases::ended(id, gives_back),
            None => permit::timed_lease_ends(self.queue.as_deref()),
        }
    }
}

/// `ack()`, `ack_many()`: the jobs are completed; answers which.
pub fn ack(call: &'static CStr, shown: &[Shown], result: Option<Datum<'_>>) -> Result<Vec<i64>> {
    let desk = Desk::open(call)?;
    let mut counter = Counter {
        history: None,
        status: datum::text_datum(b"completed")?,
        result,
    };
    let begun = desk.begin_ends(shown);
    let mut done = Vec::with_capacity(shown.len());
    let ended = shown.iter().zip(&begun).try_for_each(|(shown, begun)| {
        latch::check_for_interrupts()?;
        if let Some(valid) = desk.validate(*shown, *begun)? {
            valid.release(false)?;
            counter.complete(&desk, &valid)?;
            done.push(shown.job);
        }
        Ok(())
    });
    if let Err(error) = ended {
        // The rest was marked, and is nobody's to end.
        begun.iter().flatten().for_each(|(id, _)| desk.undo(*id));
        return Err(error);
    }
    if let Some(history) = counter.history {
        history.end()?;
    }
    desk.close()?;
    Ok(done)
}

/// What the acknowledgements of a call share.
struct Counter<'a> {
    history: Option<History>,
    status: Datum<'static>,
    result: Option<Datum<'a>>,
}

impl Counter<'_> {
    fn complete(&mut self, desk: &Desk, valid: &Valid) -> Result<()> {
        let keeps = valid.queue.as_ref().is_none_or(|queue| queue.retention > 0);
        if keeps && self.history.is_none() {
            self.history = Some(record::open_history(&desk.extension)?);
        }
        let is_own = valid.job.is_own();
        if is_own {
            end::forget(&desk.extension, valid.job.id)?;
        }
        let completion = Completion {
            job: &valid.job,
            jobs: &desk.jobs,
            history: self.history.as_ref().filter(|_| keeps),
            status: self.status,
            result: self.result,
            is_away: is_own,
            recorded: &Cell::new(false),
        };
        let written = end::write(&desk.extension, &valid.end_of(), How::Completed(completion))?;
        fault!(LeaseEnded);
        // A session's lease takes its key with it.
        if valid.session.is_none()
            && let Some(key) = valid.job.value(column::GROUP_KEY)
        {
            let queue = valid.queue.as_ref().map_or(0, |queue| queue.id);
            keys::free_at_commit((&valid.queue_name, queue), valid.job.owner(), key)?;
        }
        written.tell_at_commit().map(|_| ())
    }
}

/// `nack()`: the attempt has failed.
pub fn nack(
    shown: Shown,
    error: Option<Vec<u8>>,
    delay: Option<Micros>,
    for_good: bool,
) -> Result<bool> {
    check_delay(delay)?;
    with_one(c"my_worker.nack()", shown, |desk, valid| {
        let message = error.unwrap_or_else(|| b"the consumer gave no reason".to_vec());
        let error = PgError::new(RAISE_EXCEPTION, message);
        valid.release(false)?;
        let how = match (for_good, delay) {
            (true, _) => How::FailedForGood(&error, Said::No),
            (false, None) => How::Failed(&error, Said::No),
            (false, Some(delay)) => How::FailedFor(&error, delay),
        };
        queues::look_at(&desk.extension, &valid.queue_name)?;
        let written = end::write(&desk.extension, &valid.end_of(), how)?;
        fault!(LeaseEnded);
        written.tell_at_commit().map(|outcome| outcome.is_some())
    })
}

/// `release()`: the job waits again, and nothing is charged.
pub fn release(shown: Shown, delay: Option<Micros>) -> Result<bool> {
    check_delay(delay)?;
    with_one(c"my_worker.release()", shown, |desk, valid| {
        valid.release(true)?;
        fault!(LeaseReleased);
        if valid.session.is_some() && delay.is_none() {
            return Ok(true);
        }
        let run_at = delay.map(|delay| clock::now().saturating_add(delay));
        queues::look_at(&desk.extension, &valid.queue_name)?;
        lease_row::release(&desk.extension, valid.job.id, run_at)
    })
}

/// `extend()`: a lease for a time ends so much after now, but no later than the attempt may take.
pub fn extend(shown: Shown, by: Micros) -> Result<bool> {
    if !EXTENSION.contains(&by) {
        let message = "by must be between 1 second and 1 day";
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message));
    }
    with_one(c"my_worker.extend()", shown, |desk, valid| {
        if let Some((id, _)) = valid.session {
            desk.undo(id);
            return Ok(true);
        }
        let of_queue = valid.queue.as_ref().and_then(|queue| queue.timeout);
        let until = clock::now().saturating_add(by);
        let last = valid.job.timeout.or(of_queue);
        let last = last.map_or(Micros::MAX, |timeout| valid.started.saturating_add(timeout));
        let until = until.min(last);
        lease_row::extend(&desk.extension, valid.job.id, until)?;
        fault!(LeaseExtended);
        wake::due_at_commit(until)?;
        Ok(true)
    })
}

/// `progress()`: what the views show of the job.
pub fn progress(shown: Shown, percent: f32, message: Option<&[u8]>) -> Result<bool> {
    if !(0.0..=100.0).contains(&percent) {
        let message = "percent must be between 0 and 100";
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message));
    }
    let extension = admitted(c"my_worker.progress()", false)?;
    let key = JobKey {
        table: extension.jobs,
        job: shown.job,
    };
    let message = message.unwrap_or_default();
    let words = message.get(..datum::clip_length(message, MESSAGE_BYTES));
    let words = words.unwrap_or_default();
    if !is_valid(&extension, key, shown.token)? {
        return Ok(false);
    }
    consumers::write(|consumers| {
        let notes = &mut consumers.head.notes;
        notes.set(key, shown.token, percent, words);
    });
    Ok(true)
}

/// Whether a lease is valid at this moment, and the caller has a right to its job. Locks nothing.
fn is_valid(extension: &Extension, key: JobKey, token: i64) -> Result<bool> {
    let caller = identity::current_role();
    let jobs = Jobs::open_by_id(extension)?;
    let found = xact::with_latest_snapshot(|| jobs.by_id(key.job))?;
    jobs.close()?;
    let Some(job) = found else { return Ok(false) };
    if !may_consume(extension, caller, job.owner(), &queue_of(&job)?)? {
        return Ok(false);
    }
    Ok(match job.value(column::LEASE).map(datum::as_i64) {
        Some(in_row) => in_row == token && job.run_at() > clock::now(),
        None => {
            let found = consumers::of_job(key.table, key.job);
            found.is_some_and(|lease| lease.token == token && lease.is_valid())
        }
    })
}

fn check_delay(delay: Option<Micros>) -> Result<()> {
    match delay {
        Some(delay) if !(0..=LONGEST_DELAY).contains(&delay) => Err(PgError::new(
            INVALID_PARAMETER_VALUE,
            "delay must be between 0 and 1000 years",
        )),
        _ => Ok(()),
    }
}

/// Runs `body` with the job of a lease, if that is valid; else false.
fn with_one(
    call: &'static CStr,
    shown: Shown,
    body: impl FnOnce(&Desk, &Valid) -> Result<bool>,
) -> Result<bool> {
    let desk = Desk::open(call)?;
    let begun = desk.begin_ends(&[shown]).pop().flatten();
    let Some(valid) = desk.validate(shown, begun)? else {
        desk.close()?;
        return Ok(false);
    };
    let answer = body(&desk, &valid);
    if let (Err(_), Some((id, _))) = (&answer, valid.session) {
        desk.undo(id);
    }
    let answer = answer?;
    desk.close()?;
    Ok(answer)
}
