//! Messages of another queue system, which become jobs for consumers: for `import_pgmq()`.

use crate::pg::datum::{self, Datum, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::Statement;

use super::enqueue::{self, NewJob};
use super::{as_owner, column, queues};

static INSERT: Statement = Statement::new(
    "INSERT INTO my_worker._jobs (queue, owner, payload, headers, run_at, created_at, attempts) \
     SELECT $1, $2, coalesce(m.payload, 'null'::pg_catalog.jsonb), m.headers, m.run_at, \
     least(m.created_at, pg_catalog.now()), greatest(0, least(m.attempts, $8 - 1)) \
     FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), \
     pg_catalog.unnest($7)) WITH ORDINALITY AS m (payload, headers, run_at, created_at, attempts, place) \
     ORDER BY m.place RETURNING id",
    &[
        types::TEXT,
        types::REGROLE,
        types::JSONB_ARRAY,
        types::JSONB_ARRAY,
        types::TIMESTAMPTZ_ARRAY,
        types::TIMESTAMPTZ_ARRAY,
        types::INT8_ARRAY,
        types::INT8,
    ],
);

/// Messages, an array for each of their columns.
pub struct Messages<'a> {
    /// The queue that they go into.
    pub queue: Datum<'a>,
    /// What they say: `jsonb`.
    pub payloads: Datum<'a>,
    /// And what is not payload.
    pub headers: Datum<'a>,
    /// From when on they can be received.
    pub run_at: Datum<'a>,
    /// When they were sent.
    pub created_at: Datum<'a>,
    /// How often they were received.
    pub attempts: Datum<'a>,
}

/// Makes them jobs of the caller's, in that order, and answers their ids. None has used up its attempts.
pub fn take_over(messages: &Messages<'_>) -> Result<Vec<i64>> {
    let mut job = NewJob::new();
    job.set(column::QUEUE, Some(messages.queue));
    let extension = enqueue::admit_message(&mut job)?;
    let most = queues::kept(&extension, &job.queue()?)?.max_attempts;
    let arguments = [
        Some(messages.queue),
        job.get(column::OWNER),
        Some(messages.payloads),
        Some(messages.headers),
        Some(messages.run_at),
        Some(messages.created_at),
        Some(messages.attempts),
        Some(i64::from(most).datum()),
    ];
    as_owner(&extension, |spi| {
        let rows = spi.run(&INSERT, &arguments)?;
        Ok(rows.iter().filter_map(|row| row.i64(1)).collect())
    })
}

/// Their ids as a `bigint[]`.
pub fn ids(jobs: &[i64]) -> Result<Datum<'static>> {
    let ids: Vec<Datum<'_>> = jobs.iter().map(|id| id.datum()).collect();
    datum::array_datum(&ids, types::INT8)
}
