//! A schedule's row as the keeper and `run_now()` read it.

use crate::logic::schedule::{Catchup, Overlap};
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::spi::{Row, Rows, Spi, Statement};
use crate::queue::column;
use crate::queue::enqueue::NewJob;
use crate::queue::handler::quoted;
use crate::queue::home;

/// A row with its unfinished jobs.
static LOCK: Statement = Statement::new(
    "SELECT command, handler, payload, queue, max_attempts, timeout, handler_owner, owner, schedule, \
     timezone, overlap, catchup, next_run_at, anchor, last_due, active, \
     ARRAY(SELECT q.id FROM pg_catalog.unnest(s.live_jobs) AS live \
     JOIN my_worker._jobs AS q ON q.id = live \
     AND q.status <> 'failed' AND q.origin IS NULL ORDER BY q.id), \
     ARRAY(SELECT q.id FROM pg_catalog.unnest(s.held_jobs) AS held \
     JOIN my_worker._jobs AS q ON q.id = held \
     AND q.status <> 'failed' AND q.origin IS NULL ORDER BY q.id), home \
     FROM my_worker._schedules AS s WHERE s.id = $1 \
     FOR UPDATE OF s SKIP LOCKED",
    &[types::INT8],
);

/// A schedule as the keeper found and locked it. Its values are those of the SPI connection.
pub struct Found<'a> {
    /// Its id.
    pub id: i64,
    /// What its jobs are like.
    pub job: NewJob<'a>,
    /// Its rule as text.
    pub schedule: Vec<u8>,
    /// Its zone's name.
    pub timezone: Vec<u8>,
    /// See [`Overlap`].
    pub overlap: Overlap,
    /// See [`Catchup`].
    pub catchup: Catchup,
    /// When it is due.
    pub next_run_at: Option<Micros>,
    /// What `every` counts from.
    pub anchor: Micros,
    /// The last due time that was enqueued.
    pub last_due: Option<Micros>,
    /// Whose jobs they are.
    pub owner: Oid,
    /// It is of this home, not of a copy's.
    pub is_own: bool,
    /// Neither paused nor disabled.
    pub active: bool,
    /// Unfinished jobs that may run.
    pub live: Vec<i64>,
    /// Jobs that wait for those.
    pub held: Vec<i64>,
}

/// Locks and reads a row; `None` if somebody else has it locked, or it is gone.
pub fn find(spi: &Spi, id: i64) -> Result<Option<Found<'_>>> {
    let rows = spi.run(&LOCK, &[Some(id.datum())])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    found(&row, id).map(Some)
}

/// What such a statement answers of a schedule.
pub fn found<'a>(row: &Row<'a>, id: i64) -> Result<Found<'a>> {
    let mut job = job_of(row, 1);
    job.set(column::SCHEDULE_ID, Some(id.datum()));
    let overlap = row.text(11)?.unwrap_or_default();
    let catchup = row.text(12)?.unwrap_or_default();
    Ok(Found {
        id,
        job,
        schedule: row.text(9)?.unwrap_or_default(),
        timezone: row.text(10)?.unwrap_or_default(),
        overlap: Overlap::from_name(&overlap).ok_or_else(|| unknown_word(&overlap))?,
        catchup: Catchup::from_name(&catchup).ok_or_else(|| unknown_word(&catchup))?,
        next_run_at: row.i64(13),
        anchor: row.i64(14).unwrap_or(0),
        last_due: row.i64(15),
        owner: row.oid(8).unwrap_or(0),
        is_own: home::is_own_home(row.i64(19)),
        active: row.bool(16),
        live: ids(row.datum(17))?,
        held: ids(row.datum(18))?,
    })
}

/// The job that a schedule's row describes: command, handler, payload, queue, max_attempts, timeout,
/// handler_owner and owner stand in it from column `first` on.
pub fn job_of<'a>(row: &Row<'a>, first: i32) -> NewJob<'a> {
    let columns = [
        column::COMMAND,
        column::HANDLER,
        column::PAYLOAD,
        column::QUEUE,
        column::MAX_ATTEMPTS,
        column::TIMEOUT,
        column::HANDLER_OWNER,
        column::OWNER,
    ];
    let mut job = NewJob::new();
    for (column, at) in columns.into_iter().zip(first..) {
        job.set(column, row.datum(at));
    }
    if job.get(column::HANDLER).is_none() {
        job.set(column::HANDLER_OWNER, None);
    }
    job
}

/// The elements of a `bigint[]`; none for NULL.
pub fn ids(array: Option<Datum<'_>>) -> Result<Vec<i64>> {
    let elements = array
        .map(|array| datum::array_elements(array, types::INT8))
        .transpose()?
        .unwrap_or_default();
    Ok(elements.into_iter().flatten().map(datum::as_i64).collect())
}

/// What only a hand that wrote into the table can have put there.
fn unknown_word(word: &[u8]) -> PgError {
    PgError::new(
        INVALID_PARAMETER_VALUE,
        quoted("overlap or catchup ", word, " is not known"),
    )
}

/// The `bigint`s of a result's first column.
pub fn first_column(rows: &Rows<'_>) -> Result<Vec<i64>> {
    Ok(rows.iter().filter_map(|row| row.i64(1)).collect())
}

/// A `timestamptz[]`.
pub fn times(times: impl Iterator<Item = Micros>) -> Result<Datum<'static>> {
    let values: Vec<Datum<'_>> = times.map(|time| time.datum()).collect();
    datum::array_datum(&values, types::TIMESTAMPTZ)
}

/// A `bigint[]`.
pub fn array(ids: &[i64]) -> Result<Datum<'static>> {
    let values: Vec<Datum<'_>> = ids.iter().map(|id| id.datum()).collect();
    datum::array_datum(&values, types::INT8)
}
