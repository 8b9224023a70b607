//! Forgetting finished jobs: deletes from the history what its queue no longer keeps, a part of the
//! table or of the time at once.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::Statement;

use super::as_owner;

/// How long jobs are kept that no queue keeps, and at least those that are not completed.
pub const WEEK: Micros = 7 * 24 * 3_600_000_000;

/// A row's place is its page times this, and its number there, of which no page has so many.
pub const PAGE: i64 = 2048;

/// Rows that have expired, of those that `$part` names: `$1` and `$2` are queues' names and the time
/// until which each has forgotten, `$3` that time for what no queue keeps. Rows that somebody has
/// locked are left.
macro_rules! prune {
    ($part:literal) => {
        concat!(
            "DELETE FROM my_worker.history WHERE ctid = ANY (ARRAY(\
             SELECT h.ctid FROM my_worker.history AS h \
             LEFT JOIN unnest($1, $2) AS q (name, before) ON q.name = h.queue \
             WHERE ",
            $part,
            " AND h.finished_at < \
             CASE WHEN h.status = 'completed' THEN coalesce(q.before, $3) \
             ELSE least(q.before, $3) END FOR UPDATE OF h SKIP LOCKED))"
        )
    };
}

static PRUNE_PLACES: Statement = Statement::new(
    prune!(
        "h.ctid >= pg_catalog.format('(%s,%s)', \
         $4 / 2048, $4 % 2048)::pg_catalog.tid \
         AND h.ctid < pg_catalog.format('(%s,%s)', \
         $5 / 2048, $5 % 2048)::pg_catalog.tid"
    ),
    PLACE_TYPES,
);

static PRUNE_TIME: Statement = Statement::new(
    prune!("h.finished_at >= $4 AND h.finished_at < $5"),
    &[
        types::TEXT_ARRAY,
        types::TIMESTAMPTZ_ARRAY,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
    ],
);

const PLACE_TYPES: &[Oid] = &[
    types::TEXT_ARRAY,
    types::TIMESTAMPTZ_ARRAY,
    types::TIMESTAMPTZ,
    types::INT8,
    types::INT8,
];

static PAGES: Statement = Statement::new(
    "SELECT pg_catalog.pg_relation_size('my_worker.history'::pg_catalog.regclass) \
     / pg_catalog.current_setting('block_size')::pg_catalog.int8",
    &[],
);

static RETENTIONS: Statement = Statement::new("SELECT name, retention FROM my_worker.queues", &[]);

/// What queues keep: their names and for how long.
pub type Retentions = Vec<(Vec<u8>, Micros)>;

/// Reads what queues keep, and how many pages the history has.
pub fn retentions(extension: &Extension) -> Result<(Retentions, i64)> {
    as_owner(extension, |spi| {
        let rows = spi.run(&RETENTIONS, &[])?;
        let queues = rows
            .iter()
            .map(|row| {
                let retention = row.datum(2).map_or(Ok(WEEK), datum::interval_micros)?;
                Ok((row.text(1)?.unwrap_or_default(), retention))
            })
            .collect::<Result<Retentions>>()?;
        let rows = spi.run(&PAGES, &[])?;
        let pages = rows.first().and_then(|row| row.i64(1)).unwrap_or(0);
        Ok((queues, pages))
    })
}

/// Forgets what had expired at `now`, of the places from `from` to before `to`.
pub fn places(
    extension: &Extension,
    queues: &Retentions,
    now: Micros,
    [from, to]: [i64; 2],
) -> Result<usize> {
    run(extension, &PRUNE_PLACES, queues, now, [from, to])
}

/// The same of jobs that finished at `from` or later, and before `to`.
pub fn window(
    extension: &Extension,
    queues: &Retentions,
    now: Micros,
    [from, to]: [Micros; 2],
) -> Result<usize> {
    run(extension, &PRUNE_TIME, queues, now, [from, to])
}

fn run(
    extension: &Extension,
    statement: &Statement,
    queues: &Retentions,
    now: Micros,
    [from, to]: [i64; 2],
) -> Result<usize> {
    as_owner(extension, |spi| {
        let names = queues.iter().map(|(name, _)| datum::text_datum(name));
        let names = names.collect::<Result<Vec<Datum<'_>>>>()?;
        let before: Vec<Datum<'_>> = queues
            .iter()
            .map(|(_, retention)| now.saturating_sub(*retention).datum())
            .collect();
        let arguments = [
            Some(datum::array_datum(&names, types::TEXT)?),
            Some(datum::array_datum(&before, types::TIMESTAMPTZ)?),
            Some(now.saturating_sub(WEEK).datum()),
            Some(from.datum()),
            Some(to.datum()),
        ];
        spi.run(statement, &arguments).map(|rows| rows.count())
    })
}
