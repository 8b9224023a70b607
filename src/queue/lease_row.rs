//! Leases for a length of time, which stand in the rows of their jobs: `status` says "processing", `lease` has
//! the number, `run_at` says when the lease ends, and `lease_run_at` what `run_at` was before.

use crate::pg::activity;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Micros, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::pg::xact;

use super::as_owner;
use super::queues::Queue;

static COUNT_TIMED: Statement = Statement::new(
    "SELECT pg_catalog.count(*) FROM my_worker._jobs WHERE status = 'processing' AND queue = $1 \
     AND lease IS NOT NULL",
    &[types::TEXT],
);

static LEASE: Statement = Statement::new(
    "UPDATE my_worker._jobs AS j SET status = 'processing', lease = l.token, lease_run_at = j.run_at, \
     run_at = least($3, $4 + coalesce(j.timeout, $5 * '1 us'::pg_catalog.interval)), started_at = $4, consumer = $6 \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS l (id, token) WHERE j.id = l.id RETURNING j.run_at",
    &[
        types::INT8_ARRAY,
        types::INT8_ARRAY,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::FLOAT8,
        types::TEXT,
    ],
);

static LOCK: Statement = Statement::new(
    "SELECT FROM my_worker._jobs WHERE id = $1 FOR UPDATE",
    &[types::INT8],
);

static RELEASE: Statement = Statement::new(
    "UPDATE my_worker._jobs SET status = 'pending', run_at = coalesce($2, lease_run_at, run_at), \
     started_at = NULL, lease = NULL, lease_run_at = NULL, consumer = NULL WHERE id = $1",
    &[types::INT8, types::TIMESTAMPTZ],
);

static EXTEND: Statement = Statement::new(
    "UPDATE my_worker._jobs SET run_at = $2 WHERE id = $1",
    &[types::INT8, types::TIMESTAMPTZ],
);

/// How many of a queue's jobs have one, as of this moment.
pub fn count(extension: &Extension, queue: &Queue) -> Result<usize> {
    let name = datum::text_datum(&queue.name)?;
    let count = xact::with_latest_snapshot(|| {
        as_owner(extension, |spi| {
            let rows = spi.read(&COUNT_TIMED, &[Some(name)])?;
            Ok(rows.first().and_then(|row| row.i64(1)))
        })
    })?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// Writes leases of that length, which begin at `now`, into the rows of jobs that this transaction has locked;
/// none lasts longer than the attempt may. Answers when the first ends.
pub fn write(
    extension: &Extension,
    queue: &Queue,
    jobs: &[(i64, i64)],
    now: Micros,
    length: Micros,
) -> Result<Option<Micros>> {
    let ids: Vec<_> = jobs.iter().map(|(job, _)| job.datum()).collect();
    let tokens: Vec<_> = jobs.iter().map(|(_, token)| token.datum()).collect();
    let arguments = [
        Some(datum::array_datum(&ids, types::INT8)?),
        Some(datum::array_datum(&tokens, types::INT8)?),
        Some(datum::timestamptz(now.saturating_add(length))),
        Some(datum::timestamptz(now)),
        queue.timeout.map(|timeout| (timeout as f64).datum()),
        Some(datum::text_datum(&activity::application()?)?),
    ];
    as_owner(extension, |spi| {
        let rows = spi.run(&LEASE, &arguments)?;
        Ok(rows.iter().filter_map(|row| row.i64(1)).min())
    })
}

/// Waits for whoever has the row.
pub fn lock(extension: &Extension, job: i64) -> Result<()> {
    as_owner(extension, |spi| {
        spi.run(&LOCK, &[Some(job.datum())]).map(|_| ())
    })
}

/// Has a job wait again, from that time on, or as before. True if it is there.
pub fn release(extension: &Extension, job: i64, run_at: Option<Micros>) -> Result<bool> {
    as_owner(extension, |spi| {
        let arguments = [Some(job.datum()), run_at.map(datum::timestamptz)];
        spi.run(&RELEASE, &arguments).map(|rows| rows.count() > 0)
    })
}

/// Has a lease end at that time.
pub fn extend(extension: &Extension, job: i64, until: Micros) -> Result<()> {
    as_owner(extension, |spi| {
        let arguments = [Some(job.datum()), Some(datum::timestamptz(until))];
        spi.run(&EXTEND, &arguments).map(|_| ())
    })
}
