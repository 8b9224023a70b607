//! `retry()`: sends a job that has ended back into the queue.
//!
//! Where the queue cannot take it, a WARNING says why and the answer is false, so that a call for many
//! jobs goes on. Nothing leaves the history that does not come into the queue.

use crate::pg::catalog::Extension;
use crate::pg::datum::{Micros, Oid, ToDatum, types};
use crate::pg::error::{OBJECT_IN_USE, Result};
use crate::pg::identity;
use crate::pg::log::{self, Level};
use crate::pg::spi::Statement;

use super::handler::quoted;
use super::{admit, after, as_owner, enqueue, extension, ids, lists, redrive};

/// A job that has not ended, or was set aside.
static FIND_LIVE: Statement = Statement::new(
    "SELECT owner, status = 'failed' FROM my_worker._jobs \
     WHERE id = $1",
    &[types::INT8],
);

/// The rows of one id may belong to several owners, and be several lives of one job: the newest of
/// those whose owner's rights the caller has. No other is locked.
static FIND_FINISHED: Statement = Statement::new(
    "SELECT owner, queue, finished_at, unique_key FROM my_worker.history \
     WHERE id = $1 \
     AND status = ANY (ARRAY['failed', 'cancelled']) \
     AND pg_catalog.pg_has_role($2, owner::pg_catalog.oid, 'USAGE') \
     ORDER BY finished_at DESC LIMIT 1 FOR UPDATE",
    &[types::INT8, types::OID],
);

/// A time to expire at, unless that is over.
const NOT_OVER: &str = "CASE WHEN expires_at > pg_catalog.clock_timestamp() THEN expires_at END";

/// Takes nothing out of the history that does not come into the queue.
static RETRY: Statement = Statement::made(
    || {
        let columns = lists::retried();
        // What has expired is sent back to run.
        let values = columns.replace("expires_at", NOT_OVER);
        format!(
            "WITH back AS (INSERT INTO my_worker._jobs ({columns}) \
             OVERRIDING SYSTEM VALUE SELECT {values} FROM my_worker.history \
             WHERE id = $1 AND owner = $2 \
             AND finished_at = $3 \
             AND status = ANY (ARRAY['failed', 'cancelled']) LIMIT 1 \
             ON CONFLICT DO NOTHING RETURNING id) \
             DELETE FROM my_worker.history WHERE id = ANY (ARRAY(SELECT id FROM back)) \
             AND owner = $2 AND finished_at = $3 \
             AND status = ANY (ARRAY['failed', 'cancelled'])"
        )
    },
    &[types::INT8, types::REGROLE, types::TIMESTAMPTZ],
);

static RETRY_SET_ASIDE: Statement = Statement::new(
    "UPDATE my_worker._jobs SET status = 'pending', attempts = 0, run_at = pg_catalog.now(), \
     started_at = NULL, expires_at = CASE WHEN expires_at > pg_catalog.clock_timestamp() THEN expires_at END \
     WHERE id = $1 \
     AND status = 'failed'",
    &[types::INT8],
);

/// A row of the history that may be retried.
struct Finished {
    owner: Oid,
    queue: Vec<u8>,
    finished_at: Micros,
    unique_key: Option<Vec<u8>>,
}

/// `retry()`: true if the job was failed or cancelled and waits again. Where the queue cannot take it,
/// a WARNING says why, and a call for many jobs goes on.
pub fn retry(job: i64) -> Result<bool> {
    let extension = extension()?;
    let Some(finished) = find_finished(&extension, job)? else {
        return match redrive::one(&extension, job)? {
            Some(went) => Ok(went),
            None => retry_set_aside(&extension, job),
        };
    };
    if !ids::is_good(job) {
        warn_no_retry(job, b"Its id is out of range.")?;
        return Ok(false);
    }
    if !admit::holds_queue(&finished.queue)? {
        warn_no_retry(job, &quoted("Queue ", &finished.queue, " does not exist."))?;
        return Ok(false);
    }
    let arguments = [
        Some(job.datum()),
        Some(finished.owner.datum()),
        Some(finished.finished_at.datum()),
    ];
    for _ in 0..10 {
        let back = after::retrying(|| {
            as_owner(&extension, |spi| Ok(spi.run(&RETRY, &arguments)?.count()))
        })?;
        if back > 0 {
            return Ok(true);
        }
        if let Some(reason) = why_no_retry(&extension, job, &finished)? {
            warn_no_retry(job, &reason)?;
            return Ok(false);
        }
        // The job that had the key has ended just now.
    }
    Ok(false)
}

/// The newest row of that id whose owner's rights the caller has, locked.
fn find_finished(extension: &Extension, job: i64) -> Result<Option<Finished>> {
    let arguments = [Some(job.datum()), Some(identity::current_role().datum())];
    as_owner(extension, |spi| {
        let rows = spi.run(&FIND_FINISHED, &arguments)?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(Finished {
            owner: row.oid(1).unwrap_or(0),
            queue: row.text(2)?.unwrap_or_default(),
            finished_at: row.i64(3).unwrap_or(0),
            unique_key: row.text(4)?,
        }))
    })
}

/// Which live job keeps this one out of the queue; `None` if there is none any more.
fn why_no_retry(extension: &Extension, job: i64, finished: &Finished) -> Result<Option<Vec<u8>>> {
    as_owner(extension, |spi| {
        if spi.run(&FIND_LIVE, &[Some(job.datum())])?.count() > 0 {
            return Ok(Some(b"A job of that id has not ended.".to_vec()));
        }
        let Some(key) = finished.unique_key.as_deref() else {
            return Ok(None);
        };
        let holder = enqueue::find_unique(spi, &finished.queue, finished.owner, key)?;
        Ok(holder.map(|id| format!("Job {id} has its unique key.").into_bytes()))
    })
}

fn warn_no_retry(job: i64, reason: &[u8]) -> Result<()> {
    let message = format!("job {job} was not retried");
    log::report_with(
        Level::Warning,
        OBJECT_IN_USE,
        message.as_bytes(),
        Some(reason),
        None,
    )
}

/// The same of a job that stands in `my_queue`, as the history did not take its end.
fn retry_set_aside(extension: &Extension, job: i64) -> Result<bool> {
    let owner = as_owner(extension, |spi| {
        let rows = spi.run(&FIND_LIVE, &[Some(job.datum())])?;
        let failed = rows.first().filter(|row| row.bool(2));
        Ok(failed.map(|row| row.oid(1).unwrap_or(0)))
    })?;
    let Some(owner) = owner else {
        return Ok(false);
    };
    if !identity::has_rights_of(identity::current_role(), owner)? {
        return Ok(false);
    }
    if !ids::is_good(job) {
        warn_no_retry(job, b"Its id is out of range.")?;
        return Ok(false);
    }
    as_owner(extension, |spi| {
        let back = spi.run(&RETRY_SET_ASIDE, &[Some(job.datum())])?;
        Ok(back.count() > 0)
    })
}
