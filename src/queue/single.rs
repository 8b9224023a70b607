//! Single jobs by their id: finds, locks and counts one.

use crate::logic::counters::Ending;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::{Spi, Statement};

use super::queues::{self, Queue};
use super::{as_owner, wake};

macro_rules! find_job {
    () => {
        "SELECT owner, queue, attempts, max_attempts, status = 'processing', \
         handler, command IS NOT NULL, status = 'failed' FROM my_worker._jobs WHERE id = $1"
    };
}

pub(super) static FIND_JOB: Statement = Statement::new(find_job!(), &[types::INT8]);

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

/// Counts a job that ended without a worker.
pub fn count_at_commit(extension: &Extension, queue: &[u8], owner: Oid, end: Ending) -> Result<()> {
    match queues::find(extension, datum::text_datum(queue)?)? {
        Some(queue) => wake::count_at_commit(queue.id, owner, end),
        None => Ok(()),
    }
}

/// Locks a job's row, without waiting; false if somebody else has it, or it is gone.
pub fn lock(spi: &Spi, job: i64) -> Result<bool> {
    Ok(spi.run(&LOCK_JOB, &[Some(job.datum())])?.count() > 0)
}

pub(super) fn still_there(extension: &Extension, job: i64) -> Result<bool> {
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
