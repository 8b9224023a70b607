//! What the keeper does with schedules that are due.
//!
//! Due schedules are taken in batches; each is decided, its jobs inserted and its row advanced in
//! one subtransaction, so that a row that cannot be fired costs itself alone. It disables itself
//! and says why, unless the error is one that passes (no space, no memory, a deadlock): then it is
//! tried again after a while. Rows that somebody else has locked are left for a second.
//!
//! Runs under `overlap = queue` that have to wait are enqueued at their due time like all others,
//! but *held*: their `run_at` is infinity until the run before has ended. The keeper has itself
//! told of that end ([`wait::watch`]), and each look releases what may go.

use super::manage::{ids, job_of};
use crate::logic::schedule::{self, Catchup, Look, Overlap, Plan};
use crate::pg::catalog::{self, Barred, Extension};
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::{INVALID_AUTHORIZATION, INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::log::{self, Level};
use crate::pg::spi::{Rows, Spi, Statement};
use crate::pg::{latch, xact};
use crate::queue::enqueue::{self, NewJob};
use crate::queue::handler::quoted;
use crate::queue::{as_owner, wait};

/// How late a due time may be and still count as on time. Longer than the server takes to come
/// back from a crash, shorter than what anybody calls downtime.
const GRACE: Micros = 4_000_000;
/// Schedules that one transaction fires; each costs it a subtransaction, and 64 are cheap.
const BATCH: i64 = 50;
/// How long a row that somebody has locked is left alone.
const LOCKED_FOR: Micros = 1_000_000;
/// How long a row is left alone after an error that passes.
const FAILED_FOR: Micros = 10_000_000;
/// Unfinished jobs that a row remembers.
const REMEMBERED: usize = 1000;

static DUE: Statement = Statement::new(
    "SELECT id FROM my_worker._schedules WHERE active \
     AND next_run_at OPERATOR(pg_catalog.<=) $1 AND id OPERATOR(pg_catalog.<>) ALL ($2) \
     ORDER BY next_run_at, id LIMIT $3",
    &[types::TIMESTAMPTZ, types::INT8_ARRAY, types::INT8],
);

static HOLDING: Statement = Statement::new(
    "SELECT id FROM my_worker._schedules WHERE pg_catalog.cardinality(held_jobs) \
     OPERATOR(pg_catalog.>) 0 AND id OPERATOR(pg_catalog.>) $1 ORDER BY id LIMIT $2",
    &[types::INT8, types::INT8],
);

static NEXT: Statement = Statement::new(
    "SELECT next_run_at FROM my_worker._schedules WHERE active \
     AND next_run_at IS NOT NULL AND id OPERATOR(pg_catalog.<>) ALL ($1) \
     ORDER BY next_run_at LIMIT 1",
    &[types::INT8_ARRAY],
);

/// A row with its unfinished jobs.
static LOCK: Statement = Statement::new(
    "SELECT command, handler, payload, queue, max_attempts, timeout, schedule, timezone, \
     overlap, catchup, next_run_at, anchor, last_due, owner, active, \
     ARRAY(SELECT q.id FROM pg_catalog.unnest(s.live_jobs) AS live \
     JOIN @queue@ AS q ON q.id OPERATOR(pg_catalog.=) live ORDER BY q.id), \
     ARRAY(SELECT q.id FROM pg_catalog.unnest(s.held_jobs) AS held \
     JOIN @queue@ AS q ON q.id OPERATOR(pg_catalog.=) held ORDER BY q.id) \
     FROM my_worker._schedules AS s WHERE s.id OPERATOR(pg_catalog.=) $1 \
     FOR UPDATE OF s SKIP LOCKED",
    &[types::INT8],
);

static ADVANCE: Statement = Statement::new(
    "UPDATE my_worker._schedules SET next_run_at = $2, last_due = coalesce($3, last_due), \
     last_job_id = coalesce($4, last_job_id), \
     last_enqueued_at = CASE WHEN $4 IS NULL THEN last_enqueued_at ELSE $5 END, \
     last_skipped_at = CASE WHEN $6 THEN $5 ELSE last_skipped_at END, \
     live_jobs = $7, held_jobs = $8 WHERE id OPERATOR(pg_catalog.=) $1",
    &[
        types::INT8,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::INT8,
        types::TIMESTAMPTZ,
        types::BOOL,
        types::INT8_ARRAY,
        types::INT8_ARRAY,
    ],
);

static SET_JOBS: Statement = Statement::new(
    "UPDATE my_worker._schedules SET live_jobs = $2, held_jobs = $3 \
     WHERE id OPERATOR(pg_catalog.=) $1",
    &[types::INT8, types::INT8_ARRAY, types::INT8_ARRAY],
);

static RELEASE: Statement = Statement::new(
    "UPDATE @queue@ SET run_at = pg_catalog.clock_timestamp() \
     WHERE id OPERATOR(pg_catalog.=) $1 AND run_at OPERATOR(pg_catalog.=) 'infinity'",
    &[types::INT8],
);

static DISABLE: Statement = Statement::new(
    "UPDATE my_worker._schedules SET active = false, next_run_at = NULL, disabled_reason = $2 \
     WHERE id OPERATOR(pg_catalog.=) $1 AND active RETURNING name",
    &[types::INT8, types::TEXT],
);

/// The `run_at` of a held job.
const HELD: Micros = Micros::MAX;

/// A schedule as the keeper found and locked it. Its values are SPI's, so it lives no longer than
/// the connection.
struct Found {
    id: i64,
    job: NewJob,
    payload: Option<Datum>,
    schedule: Vec<u8>,
    timezone: Vec<u8>,
    overlap: Overlap,
    catchup: Catchup,
    next_run_at: Option<Micros>,
    anchor: Micros,
    last_due: Option<Micros>,
    owner: Oid,
    active: bool,
    /// Unfinished jobs that may run.
    live: Vec<i64>,
    /// Jobs that wait for those.
    held: Vec<i64>,
}

/// What firing one row came to.
enum Fired {
    Done,
    /// Somebody has it locked.
    Locked,
}

/// Rows that this look leaves alone, and when to look again because of them.
#[derive(Default)]
struct Left {
    ids: Vec<i64>,
    again_at: Option<Micros>,
}

impl Left {
    fn add(&mut self, id: i64, wait: Micros) {
        let at = super::now().saturating_add(wait);
        self.ids.push(id);
        self.again_at = Some(self.again_at.map_or(at, |known| known.min(at)));
    }
}

/// Fires what is due and releases what was held. Answers, in real time, when the next schedule is
/// due; `None`: never. Outside a transaction.
pub fn look() -> Result<Option<Micros>> {
    let mut left = Left::default();
    while fire_batch(&mut left)? {
        latch::check_for_interrupts()?;
    }
    release_held(&mut left)?;
    let next = in_extension(|extension| next_due(extension, &left))?.flatten();
    let next = match (next, left.again_at) {
        (Some(next), Some(again)) => Some(next.min(again)),
        (next, again) => next.or(again),
    };
    Ok(next.map(super::real))
}

/// A transaction of ours, if the database still has the extension.
fn in_extension<T>(body: impl FnOnce(&Extension) -> Result<T>) -> Result<Option<T>> {
    xact::transaction(|| match catalog::extension()? {
        Some(extension) => body(&extension).map(Some),
        None => Ok(None),
    })
}

/// Fires some schedules in one transaction; false if none is left.
fn fire_batch(left: &mut Left) -> Result<bool> {
    let full = in_extension(|extension| {
        let due = as_owner(extension, |spi| {
            let arguments = [
                Some(super::now().datum()),
                Some(array(&left.ids)?),
                Some(BATCH.datum()),
            ];
            first_column(&spi.run(&DUE, &arguments)?)
        })?;
        for id in &due {
            fenced(extension, *id, left, |spi| fire(spi, *id))?;
        }
        Ok(!due.is_empty())
    })?;
    Ok(full.unwrap_or(false))
}

/// Runs `body` for one row: an error disables the row or puts it off, and reaches no other row.
fn fenced(
    extension: &Extension,
    id: i64,
    left: &mut Left,
    body: impl FnOnce(&Spi) -> Result<Fired>,
) -> Result<()> {
    match xact::subtransaction(|| as_owner(extension, body)) {
        Ok(Fired::Done) => Ok(()),
        Ok(Fired::Locked) => {
            left.add(id, LOCKED_FOR);
            Ok(())
        }
        Err(error) if passes(&error) => {
            left.add(id, FAILED_FOR);
            log::report_error(
                Level::Log,
                &PgError {
                    message: format!("schedule {id} is put off: {}", error.summary()).into(),
                    ..error
                },
            )
        }
        Err(error) => {
            if let Err(second) = xact::subtransaction(|| disable(extension, id, &error)) {
                left.add(id, FAILED_FOR);
                log::report_error(Level::Log, &second)?;
            }
            Ok(())
        }
    }
}

/// Whether an error is of the moment and not of the row: rollbacks, resources, operators, the
/// system, objects in use, a read-only server.
fn passes(error: &PgError) -> bool {
    let code = error.sqlstate.text();
    ["40", "53", "57", "58", "XX", "25", "55P03", "55006"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// Disables a schedule and says why, in its row and in the log.
fn disable(extension: &Extension, id: i64, error: &PgError) -> Result<()> {
    as_owner(extension, |spi| {
        let reason = datum::text_datum(&error.message)?;
        let rows = spi.run(&DISABLE, &[Some(id.datum()), Some(reason)])?;
        let Some(row) = rows.first() else {
            return Ok(());
        };
        let name = row.text(1)?.unwrap_or_default();
        let mut message = quoted("schedule ", &name, " is disabled: ");
        message.extend_from_slice(&error.message);
        let hint =
            b"Define it again with my_worker.schedule(), or use my_worker.resume_schedule().";
        log::report_with(Level::Log, error.sqlstate, &message, None, Some(hint))
    })
}

/// Decides one schedule, enqueues its jobs and advances it.
fn fire(spi: &Spi, id: i64) -> Result<Fired> {
    let Some(mut found) = find(spi, id)? else {
        return Ok(Fired::Locked);
    };
    let now = super::now();
    let Some(next_run_at) = found
        .next_run_at
        .filter(|next| found.active && *next <= now)
    else {
        return Ok(Fired::Done);
    };
    refuse_orphan(found.owner)?;
    let zone = super::timezone(Some(&found.timezone))?;
    let rule = super::parse_rule(&found.schedule, found.anchor)?;
    let look = Look {
        next_run_at,
        last_due: found.last_due,
        unfinished: (found.live.len() + found.held.len()) as u64,
        catchup: found.catchup,
        overlap: found.overlap,
        grace: GRACE,
    };
    let plan = schedule::plan(&look, &rule, &zone, now);
    let last_job = insert_jobs(spi, &mut found, &plan)?;
    advance(spi, &found, &plan, last_job, now)?;
    Ok(Fired::Done)
}

fn refuse_orphan(owner: Oid) -> Result<()> {
    if catalog::barred(owner)? != Some(Barred::Gone) {
        return Ok(());
    }
    let message = format!("owner of the schedule was dropped (role with OID {owner})");
    Err(PgError::new(INVALID_AUTHORIZATION, message))
}

/// Enqueues a job for each due time of the plan and answers the last one's id.
fn insert_jobs(spi: &Spi, found: &mut Found, plan: &Plan) -> Result<Option<i64>> {
    enqueue::check_queue(&found.job.queue)?;
    let mut last_job = None;
    for due in &plan.enqueue {
        let waits =
            found.overlap == Overlap::Queue && !(found.live.is_empty() && found.held.is_empty());
        found.job.run_at = Some(if waits { HELD } else { super::real(*due) });
        let job = enqueue::insert_one(spi, &found.job, found.payload, found.owner)?;
        if waits {
            found.held.push(job);
        } else {
            found.live.push(job);
        }
        last_job = Some(job);
    }
    Ok(last_job)
}

fn advance(
    spi: &Spi,
    found: &Found,
    plan: &Plan,
    last_job: Option<i64>,
    now: Micros,
) -> Result<()> {
    // What must not be forgotten are the held ones, so that they are released.
    let remembered = found.live.len().saturating_sub(REMEMBERED);
    let live = found.live.get(remembered..).unwrap_or_default();
    let arguments = [
        Some(found.id.datum()),
        plan.next_run_at.map(ToDatum::datum),
        plan.enqueue.last().map(|due| due.datum()),
        last_job.map(ToDatum::datum),
        Some(now.datum()),
        Some(plan.left_out.datum()),
        Some(array(live)?),
        Some(array(&found.held)?),
    ];
    spi.run(&ADVANCE, &arguments).map(|_| ())
}

/// Lets held jobs run whose turn it is.
fn release_held(left: &mut Left) -> Result<()> {
    let mut after = 0;
    let mut running = Vec::new();
    loop {
        let batch = in_extension(|extension| {
            let holding = as_owner(extension, |spi| {
                first_column(&spi.run(&HOLDING, &[Some(after.datum()), Some(BATCH.datum())])?)
            })?;
            for id in &holding {
                let running = &mut running;
                fenced(extension, *id, left, |spi| release(spi, *id, running))?;
            }
            Ok(holding.last().copied())
        })?;
        match batch.flatten() {
            Some(last) => after = last,
            None => break,
        }
        latch::check_for_interrupts()?;
    }
    wait::watch(&running);
    Ok(())
}

/// Releases the next held job of a schedule if none is unfinished; all of them if the schedule
/// queues its runs no more. Adds the jobs whose end the others wait for to `running`.
fn release(spi: &Spi, id: i64, running: &mut Vec<i64>) -> Result<Fired> {
    let Some(mut found) = find(spi, id)? else {
        return Ok(Fired::Locked);
    };
    let count = match found.overlap {
        Overlap::Queue => usize::from(found.live.is_empty()),
        _ => found.held.len(),
    };
    let rest = found.held.split_off(count.min(found.held.len()));
    for job in &found.held {
        spi.run(&RELEASE, &[Some(job.datum())])?;
    }
    found.live.append(&mut found.held);
    if !rest.is_empty() {
        running.extend(&found.live);
    }
    let arguments = [
        Some(id.datum()),
        Some(array(&found.live)?),
        Some(array(&rest)?),
    ];
    if count > 0 || rest.is_empty() {
        spi.run(&SET_JOBS, &arguments)?;
    }
    Ok(Fired::Done)
}

/// When the next schedule is due that this look did not leave alone.
fn next_due(extension: &Extension, left: &Left) -> Result<Option<Micros>> {
    as_owner(extension, |spi| {
        let rows = spi.run(&NEXT, &[Some(array(&left.ids)?)])?;
        Ok(rows.first().and_then(|row| row.i64(1)))
    })
}

fn find(spi: &Spi, id: i64) -> Result<Option<Found>> {
    let rows = spi.run(&LOCK, &[Some(id.datum())])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let overlap = row.text(9)?.unwrap_or_default();
    let catchup = row.text(10)?.unwrap_or_default();
    Ok(Some(Found {
        id,
        job: job_of(&row, 1, 0)?,
        payload: row.datum(3),
        schedule: row.text(7)?.unwrap_or_default(),
        timezone: row.text(8)?.unwrap_or_default(),
        overlap: Overlap::from_name(&overlap).ok_or_else(|| unknown_word(&overlap))?,
        catchup: Catchup::from_name(&catchup).ok_or_else(|| unknown_word(&catchup))?,
        next_run_at: row.i64(11),
        anchor: row.i64(12).unwrap_or(0),
        last_due: row.i64(13),
        owner: row.oid(14).unwrap_or(0),
        active: row.bool(15),
        live: ids(row.datum(16))?,
        held: ids(row.datum(17))?,
    }))
}

/// What only a hand that wrote into the table can have put there.
fn unknown_word(word: &[u8]) -> PgError {
    PgError::new(
        INVALID_PARAMETER_VALUE,
        quoted("overlap or catchup ", word, " is not known"),
    )
}

fn first_column(rows: &Rows) -> Result<Vec<i64>> {
    Ok(rows.iter().filter_map(|row| row.i64(1)).collect())
}

/// A `bigint[]`.
fn array(ids: &[i64]) -> Result<Datum> {
    let values: Vec<Datum> = ids.iter().map(|id| id.datum()).collect();
    datum::array_datum(&values, types::INT8)
}
