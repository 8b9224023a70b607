//! What the keeper does with schedules that are due.
//!
//! Due schedules are taken in batches; each is decided, its jobs inserted and its row advanced in
//! one subtransaction, so that a row that cannot be fired costs itself alone. It disables itself
//! and says why, unless the error is one that passes (no space, no memory, a deadlock): then it is
//! tried again after a while. Rows that somebody else has locked are left for a second, also those
//! that are to be disabled.
//! Runs that have to wait for an earlier one are `hold`'s.

use super::hold::{HELD, release_held};
use super::row::{Found, array, find, first_column};
use crate::logic::rule::RuleError;
use crate::logic::schedule::{self, Look, Overlap, Plan};
use crate::pg::catalog::{self, Barred, Extension};
use crate::pg::datum::{self, Micros, Oid, ToDatum, types};
use crate::pg::error::{INVALID_AUTHORIZATION, PgError, Result};
use crate::pg::log::{self, Level};
use crate::pg::spi::{Spi, Statement};
use crate::pg::{latch, xact};
use crate::queue::as_owner;
use crate::queue::enqueue;
use crate::queue::handler::quoted;

/// How late a due time may be and still count as on time. Longer than the server takes to come
/// back from a crash, shorter than what anybody calls downtime.
const GRACE: Micros = 4_000_000;
/// Schedules that one transaction fires; each costs it a subtransaction, and 64 are cheap.
pub const BATCH: i64 = 50;
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

static NEXT: Statement = Statement::new(
    "SELECT next_run_at FROM my_worker._schedules WHERE active \
     AND next_run_at IS NOT NULL AND id OPERATOR(pg_catalog.<>) ALL ($1) \
     ORDER BY next_run_at LIMIT 1",
    &[types::INT8_ARRAY],
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

static LOCK: Statement = Statement::new(
    "SELECT FROM my_worker._schedules WHERE id OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED",
    &[types::INT8],
);

static DISABLE: Statement = Statement::new(
    "UPDATE my_worker._schedules SET active = false, next_run_at = NULL, disabled_reason = $2 \
     WHERE id OPERATOR(pg_catalog.=) $1 AND active RETURNING name",
    &[types::INT8, types::TEXT],
);

/// What firing one row came to.
pub enum Fired {
    /// Nothing is left to do now.
    Done,
    /// Somebody has it locked.
    Locked,
}

/// Rows that this look leaves alone, and when to look again because of them.
#[derive(Default)]
pub struct Left {
    ids: Vec<i64>,
    /// How many of them because of an error.
    failed: usize,
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
pub fn in_extension<T>(body: impl FnOnce(&Extension) -> Result<T>) -> Result<Option<T>> {
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
pub fn fenced(
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
            left.failed += 1;
            // What hits one is likely to hit all: a full disk does not want more lines of log.
            if left.failed > 1 {
                return Ok(());
            }
            let message = format!("schedule {id} is put off: {}", error.summary());
            log::report(Level::Log, &message)
        }
        Err(error) => {
            match xact::subtransaction(|| disable(extension, id, &error)) {
                Ok(Fired::Done) => {}
                Ok(Fired::Locked) => left.add(id, LOCKED_FOR),
                Err(second) => {
                    left.add(id, FAILED_FOR);
                    log::report_error(Level::Log, &second)?;
                }
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
fn disable(extension: &Extension, id: i64, error: &PgError) -> Result<Fired> {
    as_owner(extension, |spi| {
        // The error has cost us the lock.
        if spi.run(&LOCK, &[Some(id.datum())])?.count() == 0 {
            return Ok(Fired::Locked);
        }
        let reason = datum::text_datum(&error.message)?;
        let rows = spi.run(&DISABLE, &[Some(id.datum()), Some(reason)])?;
        let Some(row) = rows.first() else {
            return Ok(Fired::Done);
        };
        let name = row.text(1)?.unwrap_or_default();
        let mut message = quoted("schedule ", &name, " is disabled: ");
        message.extend_from_slice(&error.message);
        let hint =
            b"Define it again with my_worker.schedule(), or use my_worker.resume_schedule().";
        log::report_with(Level::Log, error.sqlstate, &message, None, Some(hint))?;
        Ok(Fired::Done)
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
    if plan.next_run_at.is_none() {
        return Err(super::refused(&found.schedule, &RuleError::NeverDue));
    }
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

/// When the next schedule is due that this look did not leave alone.
fn next_due(extension: &Extension, left: &Left) -> Result<Option<Micros>> {
    as_owner(extension, |spi| {
        let rows = spi.run(&NEXT, &[Some(array(&left.ids)?)])?;
        Ok(rows.first().and_then(|row| row.i64(1)))
    })
}
