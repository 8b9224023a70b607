//! Jobs that come after others: what is looked at when one is enqueued, and what it waits for.
//!
//! A job that comes after jobs which have not ended is `blocked`, and `_dependencies` has a row for each of
//! these. The keeper does the rest (`dependents`): each COMMIT of such a job has it look at the job, so one that
//! ends between the look here and that COMMIT is seen then.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::{FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::fmgr::TriggerRow;
use crate::pg::local::Local;
use crate::pg::spi::Statement;
use crate::pg::{clock, identity, xact};

use super::{as_owner, column, wake};

/// The most jobs that one comes after.
const MOST: usize = 10_000;

/// Of each of these jobs: whose it is, whether it is there and has not ended, and how it ended. The subqueries have
/// limits so that each is a look by the index, whatever the server takes the tables to be like.
static STANDING: Statement = Statement::new(
    "SELECT a.id, coalesce(q.owner, h.owner), q.status <> 'failed' AND q.origin IS NULL, \
     q.id IS NOT NULL OR h.status <> 'completed' \
     FROM pg_catalog.unnest($1) AS a (id) LEFT JOIN LATERAL (SELECT j.id, j.owner, j.status, j.origin \
     FROM my_worker._jobs AS j WHERE j.id = a.id LIMIT 1) AS q ON true \
     LEFT JOIN LATERAL (SELECT p.owner, p.status FROM my_worker.history AS p \
     WHERE q.id IS NULL AND p.id = a.id ORDER BY p.finished_at DESC LIMIT 1) AS h ON true",
    &[types::INT8_ARRAY],
);

/// The last id that the table's sequence has given; NULL before the first.
static LAST_ID: Statement = Statement::new(
    "SELECT CASE WHEN s.is_called THEN s.last_value END FROM my_worker._jobs_id_seq AS s",
    &[],
);

static ADD: Statement = Statement::new(
    "INSERT INTO my_worker._dependencies (job, after) \
     SELECT $1, a.id FROM pg_catalog.unnest($2) AS a (id) ON CONFLICT DO NOTHING",
    &[types::INT8, types::INT8_ARRAY],
);

/// What an earlier life of a job that `retry()` sends back has left.
static FORGET: Statement = Statement::new(
    "DELETE FROM my_worker._dependencies AS d WHERE d.job = $1",
    &[types::INT8],
);

/// How many a job waits for, and the first of them.
static WAITS: Statement = Statement::new(
    "SELECT pg_catalog.count(*), pg_catalog.min(d.after) FROM my_worker._dependencies AS d \
     CROSS JOIN LATERAL (SELECT FROM my_worker._jobs AS q WHERE q.id = d.after AND q.status <> 'failed' \
     AND q.origin IS NULL LIMIT 1) AS q WHERE d.job = $1",
    &[types::INT8],
);

/// What a job is to come after.
#[derive(PartialEq, Eq, Clone)]
struct Asked {
    owner: Oid,
    ids: Vec<i64>,
    /// It runs also if one of them fails.
    runs: bool,
    /// `retry()` sends it back.
    again: bool,
}

/// What a statement that enqueues many jobs was told last: which of the ids each waits for.
static KNOWN: Local<Option<(Asked, Micros, Vec<i64>)>> = Local::new(None);
/// `retry()` is at work.
static RETRYING: Local<bool> = Local::new(false);

/// Forgets what only holds for a transaction.
pub(super) fn forget() {
    KNOWN.set(None);
}

/// Runs `body`, which sends a job back into the queue: it waits for what has not ended, and for nothing else,
/// however the others ended.
pub(super) fn retrying<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    RETRYING.set(true);
    let result = body();
    RETRYING.set(false);
    result
}

/// Looks at what a new job is to come after; if it has to wait, makes it `blocked`, and true. 22023 for ids that
/// it cannot have.
pub(super) fn resolve(row: &mut TriggerRow, extension: &Extension) -> Result<bool> {
    let Some(given) = row.get(column::AFTER) else {
        return Ok(false);
    };
    let job = row.get(column::ID).map_or(0, datum::as_i64);
    let all = datum::array_elements(given, types::INT8)?;
    let ids = ids(&all)?;
    if ids.contains(&job) {
        return Err(wrong("a job cannot come after itself"));
    }
    let after_failed = row.get(column::AFTER_FAILED);
    let asked = Asked {
        owner: row.get(column::OWNER).map_or(0, datum::as_oid),
        runs: after_failed.is_some_and(|word| datum::text_is(word, b"run")),
        again: RETRYING.get(),
        ids,
    };
    let waits_for = look(extension, &asked)?;
    let mut changes = Vec::new();
    if asked.ids.len() < all.len() {
        changes.push((column::AFTER, Some(array(&asked.ids)?)));
    }
    let is_blocked = !waits_for.is_empty();
    if is_blocked {
        let arguments = [Some(job.datum()), Some(array(&waits_for)?)];
        as_owner(extension, |spi| {
            if asked.again {
                spi.run(&FORGET, &[Some(job.datum())])?;
            }
            spi.run(&ADD, &arguments).map(|_| ())
        })?;
        changes.push((column::STATUS, Some(datum::text_datum(b"blocked")?)));
        wake::blocked_at_commit(job)?;
    }
    row.set(&changes)?;
    Ok(is_blocked)
}

/// An UPDATE leaves it as it is.
pub(super) fn refuse_change(row: &TriggerRow) -> Result<()> {
    if datum::are_same(row.old(column::AFTER), row.get(column::AFTER))? {
        return Ok(());
    }
    Err(PgError::new(
        FEATURE_NOT_SUPPORTED,
        "cannot change what a job comes after",
    )
    .hint("Cancel the job and enqueue it again."))
}

/// Each id once, in the order in which they were given.
fn ids(all: &[Option<Datum<'_>>]) -> Result<Vec<i64>> {
    if all.len() > MOST {
        return Err(wrong(&format!(
            "a job can come after at most {MOST} others"
        )));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut ids = Vec::with_capacity(all.len());
    for one in all {
        let Some(id) = one.map(datum::as_i64) else {
            return Err(wrong("\"after\" must not contain null values"));
        };
        if seen.insert(id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Those of the ids that the job has to wait for. One that failed counts as if it had not ended, unless the job
/// runs all the same: the keeper cancels it right after COMMIT.
fn look(extension: &Extension, asked: &Asked) -> Result<Vec<i64>> {
    if asked.ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = clock::statement_start();
    let known = KNOWN.with(|known| {
        let same = known.as_ref().filter(|k| k.0 == *asked && k.1 == statement);
        same.map(|known| known.2.clone())
    });
    if let Some(known) = known {
        return Ok(known);
    }
    // Also what this transaction has just enqueued.
    xact::next_command()?;
    let waits_for = xact::with_latest_snapshot(|| look_now(extension, asked))?;
    KNOWN.set(Some((asked.clone(), statement, waits_for.clone())));
    Ok(waits_for)
}

fn look_now(extension: &Extension, asked: &Asked) -> Result<Vec<i64>> {
    let mut waits_for = Vec::new();
    let mut last = None;
    as_owner(extension, |spi| {
        let rows = spi.read(&STANDING, &[Some(array(&asked.ids)?)])?;
        for row in rows.iter() {
            let id = row.i64(1).unwrap_or(0);
            let (is_live, ended_badly) = (row.bool(3), row.bool(4) && !row.bool(3));
            match row.oid(2) {
                Some(owner) if !identity::has_rights_of(asked.owner, owner)? => {
                    if !asked.again {
                        return Err(unknown(id));
                    }
                }
                Some(_) if is_live || ended_badly && !asked.runs && !asked.again => {
                    waits_for.push(id);
                }
                Some(_) => {}
                // It is gone without a trace, or never was.
                None => {
                    let given = match last {
                        Some(given) => given,
                        None => {
                            let rows = spi.read(&LAST_ID, &[])?;
                            rows.first().and_then(|row| row.i64(1)).unwrap_or(0)
                        }
                    };
                    last = Some(given);
                    if !asked.again && !(1..=given).contains(&id) {
                        return Err(unknown(id));
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(waits_for)
}

fn wrong(message: &str) -> PgError {
    PgError::new(INVALID_PARAMETER_VALUE, message)
}

/// The same for a job of somebody else and for one that never was: nobody learns which.
fn unknown(id: i64) -> PgError {
    wrong(&format!("job {id} does not exist"))
        .detail("No job has had this id yet, or it belongs to a role whose rights the job's owner does not have.")
        .hint("Pass ids that my_worker.enqueue() or INSERT ... RETURNING id gave.")
}

/// A `bigint[]`.
pub(super) fn array(ids: &[i64]) -> Result<Datum<'static>> {
    let values: Vec<Datum<'_>> = ids.iter().map(|id| id.datum()).collect();
    datum::array_datum(&values, types::INT8)
}

/// What a blocked job waits for, as `why()` says it.
pub fn waits_for(extension: &Extension, job: i64) -> Result<String> {
    let (count, first) = as_owner(extension, |spi| {
        let rows = spi.read(&WAITS, &[Some(job.datum())])?;
        let row = rows.first();
        let count = row.as_ref().and_then(|row| row.i64(1)).unwrap_or(0);
        Ok((count, row.and_then(|row| row.i64(2)).unwrap_or(0)))
    })?;
    Ok(match count {
        0 => "the jobs that it comes after have ended: the keeper will release it".to_string(),
        1 => format!("comes after job {first}"),
        more => format!("comes after job {first} and {} more", more - 1),
    })
}
