//! Dealing with queues and with single jobs: all by statements, as the extension's owner.

use crate::counted::Ends;
use crate::logic::counters::{Ending, SEVERAL_ROLES};
use crate::logic::limits;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Oid, ToDatum, types};
use crate::pg::error::{DUPLICATE_OBJECT, NULL_VALUE_NOT_ALLOWED, OBJECT_IN_USE, PgError, Result};
use crate::pg::scan::Freed;
use crate::pg::spi::{Spi, Statement};
use crate::pg::table::{Compare, Holder, Key, Lock, Row, Table};
use crate::pg::{identity, latch, marks, wait_event, xact};
use crate::shared::{Current, Phase, SHARED, SLOTS, Slot, own};
use crate::watchdog;

use super::handler::{self, Named, quoted};
use super::queues::{self, Queue};
use super::{allowed, as_owner, column, extension, settle, wait, wake};

static CREATE_QUEUE: Statement = Statement::new(
    "INSERT INTO my_worker.queues (name, handler, concurrency, max_attempts, backoff, \
     backoff_max, timeout, retention, handler_owner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     ON CONFLICT (name) DO NOTHING",
    QUEUE_TYPES,
);

static ALTER_QUEUE: Statement = Statement::new(
    "UPDATE my_worker.queues SET handler = coalesce($2, handler), \
     concurrency = coalesce($3, concurrency), max_attempts = coalesce($4, max_attempts), \
     backoff = coalesce($5, backoff), backoff_max = coalesce($6, backoff_max), \
     timeout = coalesce($7, timeout), retention = coalesce($8, retention), \
     handler_owner = CASE WHEN $2 IS NULL THEN handler_owner ELSE $9 END \
     WHERE name = $1",
    QUEUE_TYPES,
);

const QUEUE_TYPES: &[Oid] = &[
    types::TEXT,
    types::TEXT,
    types::INT4,
    types::INT4,
    types::INTERVAL,
    types::INTERVAL,
    types::INTERVAL,
    types::INTERVAL,
    types::REGROLE,
];

static SET_PAUSED: Statement = Statement::new(
    "UPDATE my_worker.queues SET paused = $2 WHERE name = $1 RETURNING id",
    &[types::TEXT, types::BOOL],
);

static DROP_QUEUE: Statement = Statement::new(
    "DELETE FROM my_worker.queues WHERE name = $1",
    &[types::TEXT],
);

static HAS_JOBS: Statement = Statement::new(
    "SELECT EXISTS (SELECT FROM my_worker._jobs WHERE queue = $1)",
    &[types::TEXT],
);

static PURGE_WAITING: Statement = Statement::new(
    "DELETE FROM my_worker._jobs WHERE ctid = ANY (ARRAY(\
     SELECT ctid FROM my_worker._jobs WHERE queue = $1 \
     AND status = ANY (ARRAY['pending', 'failed']) \
     AND (id = my_worker.current_job()) IS NOT TRUE FOR UPDATE SKIP LOCKED))",
    &[types::TEXT],
);

static PURGE_FINISHED: Statement = Statement::new(
    "DELETE FROM my_worker.history WHERE queue = $1",
    &[types::TEXT],
);

macro_rules! find_job {
    () => {
        "SELECT owner, queue, attempts, max_attempts, status = 'processing', \
         handler, command IS NOT NULL, status = 'failed' FROM my_worker._jobs WHERE id = $1"
    };
}

static FIND_JOB: Statement = Statement::new(find_job!(), &[types::INT8]);

static FIND_WAITING: Statement = Statement::new(
    "SELECT j.owner, j.status = 'processing', \
     coalesce(j.handler, j.command, q.handler) IS NOT NULL, \
     j.status = 'failed' FROM my_worker._jobs AS j \
     LEFT JOIN my_worker.queues AS q ON q.name = j.queue \
     WHERE j.id = $1",
    &[types::INT8],
);

static LOCK_JOB: Statement = Statement::new(
    concat!(find_job!(), " FOR UPDATE SKIP LOCKED"),
    &[types::INT8],
);

/// The settings of a queue as SQL passes them: name, handler, concurrency, max_attempts, backoff,
/// backoff_max, timeout, retention.
pub struct QueueSettings {
    /// The name.
    pub name: Vec<u8>,
    /// The handler's name as given.
    pub handler: Option<Vec<u8>>,
    /// `integer`
    pub concurrency: Option<i32>,
    /// `integer`
    pub max_attempts: Option<i32>,
    /// `interval` each: backoff, backoff_max, timeout, retention.
    pub intervals: [Option<Datum>; 4],
}

impl QueueSettings {
    fn check(&self) -> Result<()> {
        queues::check_name(&self.name)?;
        if let Some(concurrency) = self.concurrency {
            allowed(limits::concurrency(concurrency))?;
        }
        if let Some(attempts) = self.max_attempts {
            allowed(limits::max_attempts(attempts))?;
        }
        let names = ["backoff", "backoff_max", "timeout", "retention"];
        for (name, value) in names.into_iter().zip(self.intervals) {
            let Some(micros) = value.map(datum::interval_micros) else {
                continue;
            };
            allowed(match name {
                "timeout" => limits::positive_interval(name, micros),
                _ => limits::interval(name, micros),
            })?;
        }
        Ok(())
    }

    fn arguments(&self, handler: Option<&Named>) -> Result<[Option<Datum>; 9]> {
        let [backoff, backoff_max, timeout, retention] = self.intervals;
        Ok([
            Some(datum::text_datum(&self.name)?),
            handler.map(|h| datum::text_datum(&h.name)).transpose()?,
            self.concurrency.map(ToDatum::datum),
            self.max_attempts.map(ToDatum::datum),
            backoff,
            backoff_max,
            timeout,
            retention,
            handler.and_then(|h| h.owner).map(ToDatum::datum),
        ])
    }

    /// The handler, found, so that a typing error shows now.
    fn named_handler(&self) -> Result<Option<Named>> {
        self.handler.as_deref().map(handler::name).transpose()
    }
}

/// `create_queue()`
pub fn create_queue(settings: &QueueSettings) -> Result<()> {
    settings.check()?;
    let required = [
        settings.intervals[0],
        settings.intervals[1],
        settings.intervals[3],
    ];
    if settings.max_attempts.is_none() || required.contains(&None) {
        return Err(PgError::new(
            NULL_VALUE_NOT_ALLOWED,
            "max_attempts, backoff, backoff_max and retention must not be null",
        ));
    }
    let handler = settings.named_handler()?;
    let arguments = settings.arguments(handler.as_ref())?;
    // Only a restored dump may replace the queue that always exists: see the trigger of the table.
    let created = match settings.name.as_slice() {
        b"default" => 0,
        _ => as_owner(&extension()?, |spi| {
            spi.run(&CREATE_QUEUE, &arguments).map(|rows| rows.count())
        })?,
    };
    if created == 0 {
        let message = quoted("queue ", &settings.name, " already exists");
        return Err(PgError::new(DUPLICATE_OBJECT, message)
            .hint("Change its settings with my_worker.alter_queue()."));
    }
    Ok(())
}

/// `alter_queue()`: only what is given changes.
pub fn alter_queue(settings: &QueueSettings) -> Result<()> {
    settings.check()?;
    let handler = settings.named_handler()?;
    let arguments = settings.arguments(handler.as_ref())?;
    change_queue(&ALTER_QUEUE, &settings.name, &arguments)
}

/// `pause_queue()` and `resume_queue()`
pub fn set_paused(name: &[u8], paused: bool) -> Result<()> {
    let arguments = [Some(datum::text_datum(name)?), Some(paused.datum())];
    let changed = as_owner(&extension()?, |spi| {
        let rows = spi.run(&SET_PAUSED, &arguments)?;
        Ok(rows.first().and_then(|row| row.i32(1)))
    })?;
    match changed {
        None => Err(queues::unknown(name)),
        Some(queue_id) if paused => wake::halt_at_commit(queue_id),
        Some(_) => Ok(()),
    }
}

/// Changes one queue.
fn change_queue(statement: &Statement, name: &[u8], arguments: &[Option<Datum>]) -> Result<()> {
    let changed = as_owner(&extension()?, |spi| {
        spi.run(statement, arguments).map(|rows| rows.count())
    })?;
    if changed == 0 {
        return Err(queues::unknown(name));
    }
    Ok(())
}

/// `drop_queue()`
pub fn drop_queue(name: &[u8], force: bool) -> Result<()> {
    if name == b"default" {
        return Err(PgError::new(OBJECT_IN_USE, "cannot drop queue \"default\""));
    }
    let extension = extension()?;
    let argument = [Some(datum::text_datum(name)?)];
    // Whoever enqueues holds the queue, too: from here on no job is added.
    queues::hold(&extension, name, true)?;
    as_owner(&extension, |spi| {
        if force {
            purge_waiting(&extension, spi, name)?;
        }
        let has_jobs = xact::with_latest_snapshot(|| {
            Ok(spi
                .read(&HAS_JOBS, &argument)?
                .first()
                .is_some_and(|row| row.bool(1)))
        })?;
        if has_jobs {
            let message = quoted("queue ", name, " still has jobs");
            return Err(PgError::new(OBJECT_IN_USE, message).hint(if force {
                "Its running jobs must end first."
            } else {
                "Let them end, or use drop_queue(name, force := true)."
            }));
        }
        match spi.run(&DROP_QUEUE, &argument)?.count() {
            0 => Err(queues::unknown(name)),
            _ => Ok(()),
        }
    })
}

/// `purge_queue()`: how many jobs are gone.
pub fn purge_queue(name: &[u8]) -> Result<i64> {
    let extension = extension()?;
    let name_datum = datum::text_datum(name)?;
    let Some(queue) = queues::find(&extension, name_datum)? else {
        return Err(queues::unknown(name));
    };
    let (waiting, finished) = as_owner(&extension, |spi| {
        let waiting = purge_waiting(&extension, spi, &queue.name)?;
        let finished = spi.run(&PURGE_FINISHED, &[Some(name_datum)])?.count() as i64;
        Ok((waiting, finished))
    })?;
    if waiting > 0 {
        // They waited and will not run: whoever counts what comes and what goes misses none.
        wake::count_many_at_commit(Ends {
            queue: queue.id,
            role: SEVERAL_ROLES,
            end: Ending::Cancelled,
            count: waiting,
        })?;
    }
    Ok(waiting + finished)
}

/// Deletes the waiting jobs of a queue that nobody has, as a statement sees them now; how many.
fn purge_waiting(extension: &Extension, spi: &Spi, queue: &[u8]) -> Result<i64> {
    let walked = xact::with_next_snapshot(|| walk_and_purge(extension, queue))?;
    xact::next_command()?;
    Ok(match walked {
        (purged, true) => purged,
        // Triggers are to hear of it, or another version of a row was there in time.
        (purged, false) => {
            let argument = [Some(datum::text_datum(queue)?)];
            purged + spi.run(&PURGE_WAITING, &argument)?.count() as i64
        }
    })
}

/// One walk through the table, and no list of its rows. How many were deleted, and whether that was all.
fn walk_and_purge(extension: &Extension, queue: &[u8]) -> Result<(i64, bool)> {
    let table = Table::open(extension.jobs, extension.claim_index, Lock::Write)?;
    let (mut purged, mut all) = (0, !table.tells_of_deletes());
    if all {
        let own = own::job();
        let row = table.row()?;
        let scan = table.scan_all()?;
        while scan.next(&row)? {
            let job = row.get(column::ID).map(datum::as_i64);
            if job == own || !waits_in(&row, queue) {
                continue;
            }
            match table.delete_free(row.id())? {
                Freed::Deleted => purged += 1,
                Freed::Changed => all = false,
                Freed::Held => {}
            }
        }
        scan.end()?;
        row.end()?;
    }
    table.close()?;
    Ok((purged, all))
}

/// Whether the row is of a job that waits in the queue, or was set aside in it.
fn waits_in(row: &Row, queue: &[u8]) -> bool {
    let of_queue = match row.get(column::QUEUE) {
        // What is compared without a copy is short; names are.
        Some(name) => datum::text_is(name, queue),
        None => false,
    };
    let status = row.get(column::STATUS);
    let is = |word: &[u8]| status.is_some_and(|status| datum::text_is(status, word));
    of_queue && (is(b"pending") || is(b"failed"))
}

/// `cancel()`: true if the job was waiting, or runs and is being cancelled. A job of another role is
/// answered for as one that is not there.
pub fn cancel(job: i64) -> Result<bool> {
    let extension = extension()?;
    let found = as_owner(&extension, |spi| {
        let rows = spi.run(&FIND_JOB, &[Some(job.datum())])?;
        let needed =
            |row: crate::pg::spi::Row| Ok((row.oid(1).unwrap_or(0), row.text(2)?, row.bool(8)));
        rows.first().map(needed).transpose()
    })?;
    let Some((owner, queue, has_failed)) = found else {
        return Ok(false);
    };
    if has_failed || !identity::has_rights_of(identity::current_role(), owner)? {
        return Ok(false);
    }
    let mut pause_ms = 1;
    loop {
        if cancel_running(job) {
            return Ok(true);
        }
        if as_owner(&extension, |spi| lock(spi, job))? {
            return end_as_cancelled(&extension, job, owner, &queue.unwrap_or_default());
        }
        // Locked, yet not running: a worker is taking it or settling it, it is gone, or another
        // transaction has cancelled it and may stay open for long.
        if !still_there(&extension, job)? || is_settling(job) {
            return Ok(false);
        }
        match holder(&extension, job)? {
            // It may wait for this one, and the server has to know. The row itself is not waited for:
            // a worker that is faster has it until the job ends.
            Some(holder) if !may_run(holder.pid, job) => xact::wait_for_end(holder.transaction)?,
            _ => {
                latch::wait(Some(pause_ms), wait_event::job_wait())?;
                pause_ms = (pause_ms * 2).min(100);
            }
        }
    }
}

/// Whose transaction keeps the job's row, as of this moment.
fn holder(extension: &Extension, job: i64) -> Result<Option<Holder>> {
    xact::with_latest_snapshot(|| {
        let table = Table::open(extension.jobs, extension.jobs_key, Lock::Read)?;
        let row = table.row()?;
        let found = table.first(&[Key::int8(1, Compare::Equal, job)], &row)?;
        let holder = if found { table.holder(row.id())? } else { None };
        row.end()?;
        table.close()?;
        Ok(holder)
    })
}

/// Cancels a job that no worker has; false if it is gone.
fn end_as_cancelled(extension: &Extension, job: i64, owner: Oid, queue: &[u8]) -> Result<bool> {
    let cancelled = settle::cancel(extension, job, None)?;
    if cancelled {
        count_at_commit(extension, queue, owner, Ending::Cancelled)?;
    }
    wait::tell_keeper(job)?;
    Ok(cancelled)
}

/// Cancels a job of a schedule that waits for an earlier one.
pub fn cancel_held(extension: &Extension, job: i64) -> Result<()> {
    match place_of(extension, job)? {
        Some((owner, queue)) => end_as_cancelled(extension, job, owner, &queue).map(|_| ()),
        None => Ok(()),
    }
}

/// Whether that process is one of ours which may be about to run the job that it holds, or settles
/// it: it shows no other job, as it would long after.
fn may_run(pid: i32, job: i64) -> bool {
    SHARED
        .read(|state| {
            let mut slots = state.used_slots().iter();
            let ours = slots.find(|slot| slot.phase != Phase::Free && slot.pid == pid);
            let ours = ours.filter(|_| pid != 0)?;
            Some(ours.current().job().is_none_or(|current| current == job))
        })
        .flatten()
        .unwrap_or(false)
}

/// Counts a job that ended without a worker.
pub fn count_at_commit(extension: &Extension, queue: &[u8], owner: Oid, end: Ending) -> Result<()> {
    match queues::find(extension, datum::text_datum(queue)?)? {
        Some(queue) => wake::count_at_commit(queue.id, owner, end),
        None => Ok(()),
    }
}

/// Signals the worker that runs the job. Under the lock, so that the worker, which takes it too
/// before it goes on, never lets the signal hit its next job.
/// What it was told outlives a crash of the server, and the launcher sees to it that the job heeds it.
fn cancel_running(job: i64) -> bool {
    let database = bgworker::my_database();
    // Without the file a crash forgets it.
    let _ = marks::open(SLOTS);
    let launcher = SHARED
        .write(|state| {
            let launcher = state.launcher_procno;
            let ours = |slot: &Slot| {
                let current = slot.current().job();
                slot.phase != Phase::Free && slot.database == database && current == Some(job)
            };
            let index = state.used_slots().iter().position(ours)?;
            let slot = state.slots.get(index)?;
            if slot.advance(Current::Running(job), Current::Cancelling(job)) {
                marks::note_cancel(index, job);
                bgworker::signal(slot.pid, libc::SIGINT);
                watchdog::note_cancel(slot);
            }
            (slot.current() == Current::Cancelling(job)).then_some(launcher)
        })
        .flatten();
    launcher.into_iter().for_each(latch::wake);
    launcher.is_some()
}

/// Whether the job's work is done and only its transaction is not.
fn is_settling(job: i64) -> bool {
    let database = bgworker::my_database();
    SHARED
        .read(|state| state.slot_of_job(database, job).map(|slot| slot.current()))
        .flatten()
        .is_some_and(|current| current == Current::Sealed(job))
}

/// Locks a job's row, without waiting; false if somebody else has it, or it is gone.
pub fn lock(spi: &Spi, job: i64) -> Result<bool> {
    Ok(spi.run(&LOCK_JOB, &[Some(job.datum())])?.count() > 0)
}

fn still_there(extension: &Extension, job: i64) -> Result<bool> {
    as_owner(extension, |spi| {
        Ok(spi.run(&FIND_JOB, &[Some(job.datum())])?.count() > 0)
    })
}

/// A job that is to be launched.
pub struct Waiting {
    /// Whose it is.
    pub owner: Oid,
    /// It is a command that has been claimed.
    pub is_claimed: bool,
    /// It says what to do, or its queue does.
    pub is_runnable: bool,
    /// It has failed, and the history did not take it.
    pub has_failed: bool,
}

/// For `launch_dynamic_worker`: a job that has not ended.
pub fn find_waiting(extension: &Extension, job: i64) -> Result<Option<Waiting>> {
    as_owner(extension, |spi| {
        let rows = spi.run(&FIND_WAITING, &[Some(job.datum())])?;
        Ok(rows.first().map(|row| Waiting {
            owner: row.oid(1).unwrap_or(0),
            is_claimed: row.bool(2),
            is_runnable: row.bool(3),
            has_failed: row.bool(4),
        }))
    })
}

/// A live job as the keeper needs to know it.
pub struct Live {
    /// Whose it is.
    pub owner: Oid,
    /// Its queue.
    pub queue: Queue,
    /// What its row says of `attempts`.
    pub attempts: i32,
    /// Executions before it is failed.
    pub max_attempts: i32,
    /// Whether it is a command that has been claimed, and charged with it.
    pub claimed: bool,
    /// What it calls; `None` for a command.
    pub handler: Option<Vec<u8>>,
}

/// What the keeper gets of a job that it means to settle.
pub enum Taken {
    /// It, locked until the transaction ends.
    Live(Live),
    /// Nothing: it has ended.
    Gone,
    /// Nothing yet: somebody else has its row.
    Locked,
}

/// For the keeper: takes a job that has not ended, without waiting for whoever has its row.
pub fn take(extension: &Extension, job: i64) -> Result<Taken> {
    let found = as_owner(extension, |spi| {
        let rows = spi.run(&LOCK_JOB, &[Some(job.datum())])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let name = row.text(2)?.unwrap_or_default();
        Ok(Some((
            row.oid(1).unwrap_or(0),
            name,
            row.i32(3).unwrap_or(0),
            row.i32(4),
            row.bool(5),
            row.text(6)?,
            row.bool(7),
            row.bool(8),
        )))
    })?;
    let Some((owner, name, attempts, max_attempts, claimed, handler, is_command, has_failed)) =
        found
    else {
        return Ok(match still_there(extension, job)? {
            true => Taken::Locked,
            false => Taken::Gone,
        });
    };
    if has_failed {
        return Ok(Taken::Gone);
    }
    let queue = queues::find(extension, datum::text_datum(&name)?)?;
    Ok(queue.map_or(Taken::Gone, |queue| {
        let max_attempts = max_attempts.unwrap_or(queue.max_attempts);
        let calls = || handler.or_else(|| queue.handler.clone());
        Taken::Live(Live {
            owner,
            handler: if is_command { None } else { calls() },
            queue,
            attempts,
            max_attempts,
            claimed,
        })
    }))
}

/// For the keeper: the owner and the queue of a job that has not ended.
pub fn place_of(extension: &Extension, job: i64) -> Result<Option<(Oid, Vec<u8>)>> {
    as_owner(extension, |spi| {
        let rows = spi.run(&FIND_JOB, &[Some(job.datum())])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let queue = row.text(2)?;
        Ok(row.oid(1).zip(queue))
    })
}
