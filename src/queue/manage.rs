//! Dealing with queues and with single jobs: all by statements, as the extension's owner.

use crate::logic::counters::{Ending, SEVERAL_ROLES};
use crate::logic::limits;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Oid, ToDatum, types};
use crate::pg::error::{DUPLICATE_OBJECT, NULL_VALUE_NOT_ALLOWED, OBJECT_IN_USE, PgError, Result};
use crate::pg::spi::{Spi, Statement};
use crate::pg::table::{Compare, Holder, Key, Lock, Table};
use crate::pg::{identity, latch, wait_event, xact};
use crate::shared::{Current, Phase, SHARED};
use crate::stats::Ends;

use super::handler::quoted;
use super::queues::{self, Queue};
use super::{allowed, as_owner, enqueue, extension, settle, wait, wake};

static CREATE_QUEUE: Statement = Statement::new(
    "INSERT INTO my_worker.queues (name, handler, concurrency, max_attempts, backoff, \
     backoff_max, timeout, retention) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
     ON CONFLICT (name) DO NOTHING",
    QUEUE_TYPES,
);

static ALTER_QUEUE: Statement = Statement::new(
    "UPDATE my_worker.queues SET handler = coalesce($2, handler), \
     concurrency = coalesce($3, concurrency), max_attempts = coalesce($4, max_attempts), \
     backoff = coalesce($5, backoff), backoff_max = coalesce($6, backoff_max), \
     timeout = coalesce($7, timeout), retention = coalesce($8, retention) \
     WHERE name OPERATOR(pg_catalog.=) $1",
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
];

static SET_PAUSED: Statement = Statement::new(
    "UPDATE my_worker.queues SET paused = $2 WHERE name OPERATOR(pg_catalog.=) $1 RETURNING id",
    &[types::TEXT, types::BOOL],
);

static DROP_QUEUE: Statement = Statement::new(
    "DELETE FROM my_worker.queues WHERE name OPERATOR(pg_catalog.=) $1",
    &[types::TEXT],
);

static HAS_JOBS: Statement = Statement::new(
    "SELECT EXISTS (SELECT FROM @queue@ WHERE queue OPERATOR(pg_catalog.=) $1)",
    &[types::TEXT],
);

static PURGE_WAITING: Statement = Statement::new(
    "DELETE FROM @queue@ WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(\
     SELECT ctid FROM @queue@ WHERE queue OPERATOR(pg_catalog.=) $1 \
     AND status OPERATOR(pg_catalog.=) 'pending' \
     AND (id OPERATOR(pg_catalog.=) my_worker.current_job()) IS NOT TRUE FOR UPDATE SKIP LOCKED))",
    &[types::TEXT],
);

static PURGE_FINISHED: Statement = Statement::new(
    "DELETE FROM my_worker.history WHERE queue OPERATOR(pg_catalog.=) $1",
    &[types::TEXT],
);

static PRUNE: Statement = Statement::new(
    "DELETE FROM my_worker.history WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(\
     SELECT h.ctid FROM my_worker.history AS h \
     LEFT JOIN my_worker.queues AS q ON q.name OPERATOR(pg_catalog.=) h.queue \
     WHERE h.finished_at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) \
     (SELECT least(pg_catalog.min(retention), '7 days'::pg_catalog.interval) \
     FROM my_worker.queues)) \
     AND (pg_catalog.now() OPERATOR(pg_catalog.-) h.finished_at) OPERATOR(pg_catalog.>) \
     CASE WHEN h.status OPERATOR(pg_catalog.=) 'completed' \
     THEN coalesce(q.retention, '7 days'::pg_catalog.interval) \
     ELSE greatest(q.retention, '7 days'::pg_catalog.interval) END \
     LIMIT $1 FOR UPDATE OF h SKIP LOCKED))",
    &[types::INT8],
);

static DUE_JOBS_OF: Statement = Statement::new(
    "SELECT j.id, j.attempts, j.queue, \
     CASE WHEN j.command IS NULL THEN coalesce(j.handler, q.handler) END FROM @queue@ AS j \
     JOIN my_worker.queues AS q ON q.name OPERATOR(pg_catalog.=) j.queue \
     WHERE j.owner OPERATOR(pg_catalog.=) $1 AND j.status OPERATOR(pg_catalog.=) 'pending' \
     AND j.run_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() \
     AND NOT q.paused AND coalesce(j.handler, j.command, q.handler) IS NOT NULL \
     LIMIT $2 FOR UPDATE OF j SKIP LOCKED",
    &[types::OID, types::INT8],
);

static CLAIMED: Statement = Statement::new(
    "SELECT id FROM @queue@ WHERE status OPERATOR(pg_catalog.=) 'processing' LIMIT 1000",
    &[],
);

macro_rules! find_job {
    () => {
        "SELECT owner, queue, attempts, max_attempts, status OPERATOR(pg_catalog.=) 'processing', \
         handler, command IS NOT NULL FROM @queue@ WHERE id OPERATOR(pg_catalog.=) $1"
    };
}

static FIND_JOB: Statement = Statement::new(find_job!(), &[types::INT8]);

static FIND_WAITING: Statement = Statement::new(
    "SELECT j.owner, j.status OPERATOR(pg_catalog.=) 'processing', \
     coalesce(j.handler, j.command, q.handler) IS NOT NULL FROM @queue@ AS j \
     LEFT JOIN my_worker.queues AS q ON q.name OPERATOR(pg_catalog.=) j.queue \
     WHERE j.id OPERATOR(pg_catalog.=) $1",
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

    fn arguments(&self, handler: Option<&[u8]>) -> Result<[Option<Datum>; 8]> {
        let [backoff, backoff_max, timeout, retention] = self.intervals;
        Ok([
            Some(datum::text_datum(&self.name)?),
            handler.map(datum::text_datum).transpose()?,
            self.concurrency.map(ToDatum::datum),
            self.max_attempts.map(ToDatum::datum),
            backoff,
            backoff_max,
            timeout,
            retention,
        ])
    }

    /// The handler, found and qualified, so that a typing error shows now.
    fn qualified_handler(&self) -> Result<Option<Vec<u8>>> {
        self.handler
            .as_deref()
            .map(enqueue::qualified_handler)
            .transpose()
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
    let handler = settings.qualified_handler()?;
    let arguments = settings.arguments(handler.as_deref())?;
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
    let handler = settings.qualified_handler()?;
    let arguments = settings.arguments(handler.as_deref())?;
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
            spi.run(&PURGE_WAITING, &argument)?;
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
        let waiting = spi.run(&PURGE_WAITING, &[Some(name_datum)])?.count() as i64;
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

/// `cancel()`: true if the job was waiting, or runs and is being cancelled. A job of another role is
/// answered for as one that is not there.
pub fn cancel(job: i64) -> Result<bool> {
    let extension = extension()?;
    let found = as_owner(&extension, |spi| {
        let rows = spi.run(&FIND_JOB, &[Some(job.datum())])?;
        let owner_and_queue =
            |row: crate::pg::spi::Row| Ok((row.oid(1).unwrap_or(0), row.text(2)?));
        rows.first().map(owner_and_queue).transpose()
    })?;
    let Some((owner, queue)) = found else {
        return Ok(false);
    };
    if !identity::has_rights_of(identity::current_role(), owner)? {
        return Ok(false);
    }
    let mut pause_ms = 1;
    loop {
        if cancel_running(job) {
            return Ok(true);
        }
        if as_owner(&extension, |spi| lock(spi, job))? {
            let cancelled = settle::cancel(&extension, job, None)?;
            if cancelled {
                let queue = queue.unwrap_or_default();
                count_at_commit(&extension, &queue, owner, Ending::Cancelled)?;
            }
            wait::tell_keeper(job)?;
            return Ok(cancelled);
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
        let table = Table::open(extension.queue, extension.queue_key, Lock::Read)?;
        let row = table.row()?;
        let found = table.first(&[Key::int8(1, Compare::Equal, job)], &row)?;
        let holder = if found { table.holder(row.id())? } else { None };
        row.end()?;
        table.close()?;
        Ok(holder)
    })
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
fn cancel_running(job: i64) -> bool {
    let database = bgworker::my_database();
    SHARED
        .write(|state| {
            let slot = state.slot_of_job(database, job)?;
            if slot.advance(Current::Running(job), Current::Cancelling(job)) {
                bgworker::signal(slot.pid, libc::SIGINT);
            }
            (slot.current() == Current::Cancelling(job)).then_some(())
        })
        .flatten()
        .is_some()
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
}

/// For `launch_dynamic_worker`: a job that has not ended.
pub fn find_waiting(extension: &Extension, job: i64) -> Result<Option<Waiting>> {
    as_owner(extension, |spi| {
        let rows = spi.run(&FIND_WAITING, &[Some(job.datum())])?;
        Ok(rows.first().map(|row| Waiting {
            owner: row.oid(1).unwrap_or(0),
            is_claimed: row.bool(2),
            is_runnable: row.bool(3),
        }))
    })
}

/// A job that is due, and that its owner may not run.
pub struct Due {
    /// Its id.
    pub id: i64,
    /// Executions that have ended.
    pub attempts: i32,
    /// Its queue's name.
    pub queue: Vec<u8>,
    /// What it would call; `None` for a command.
    pub handler: Option<Vec<u8>>,
}

/// For the keeper: due jobs of a role, locked.
pub fn due_jobs_of(extension: &Extension, owner: Oid, limit: i64) -> Result<Vec<Due>> {
    as_owner(extension, |spi| {
        let rows = spi.run(&DUE_JOBS_OF, &[Some(owner.datum()), Some(limit.datum())])?;
        rows.iter()
            .map(|row| {
                Ok(Due {
                    id: row.i64(1).unwrap_or(0),
                    attempts: row.i32(2).unwrap_or(0),
                    queue: row.text(3)?.unwrap_or_default(),
                    handler: row.text(4)?,
                })
            })
            .collect()
    })
}

/// For the keeper: commands that have been claimed.
pub fn claimed_commands(extension: &Extension) -> Result<Vec<i64>> {
    as_owner(extension, |spi| {
        let rows = spi.run(&CLAIMED, &[])?;
        Ok(rows.iter().filter_map(|row| row.i64(1)).collect())
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
        )))
    })?;
    let Some((owner, name, attempts, max_attempts, claimed, handler, is_command)) = found else {
        return Ok(match still_there(extension, job)? {
            true => Taken::Locked,
            false => Taken::Gone,
        });
    };
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

/// For the keeper: forgets up to `limit` finished jobs that their queue no longer keeps.
pub fn prune(extension: &Extension, limit: i64) -> Result<i64> {
    as_owner(extension, |spi| {
        Ok(spi.run(&PRUNE, &[Some(limit.datum())])?.count() as i64)
    })
}
