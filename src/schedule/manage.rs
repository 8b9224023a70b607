//! The other functions of schedules: unschedule, pause, resume, run_now, next_runs.
//!
//! They take a name. The caller's own schedule of that name is meant, else the only one of a role
//! whose rights the caller has; where there are several, `owner` says which.

use super::row::{ids, job_of};
use crate::pg::datum::{self, Micros, Oid, ToDatum, types};
use crate::pg::error::UNDEFINED_OBJECT;
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::spi::{Row, Spi, Statement};
use crate::pg::{clock, identity, latch};
use crate::queue::enqueue;
use crate::queue::handler::quoted;
use crate::queue::{admit, as_owner, bar, cancel, column, extension};

static FIND: Statement = Statement::new(
    "SELECT id, owner FROM my_worker._schedules WHERE name = $1",
    &[types::TEXT],
);

static DELETE: Statement = Statement::new(
    "DELETE FROM my_worker._schedules WHERE id = $1 RETURNING held_jobs",
    &[types::INT8],
);

static PAUSE: Statement = Statement::new(
    "UPDATE my_worker._schedules SET active = false, next_run_at = NULL, disabled_reason = NULL \
     WHERE id = $1",
    &[types::INT8],
);

static LOCK_FOR_RESUME: Statement = Statement::new(
    "SELECT schedule, timezone, anchor, active, next_run_at, last_due \
     FROM my_worker._schedules WHERE id = $1 FOR UPDATE",
    &[types::INT8],
);

static RESUME: Statement = Statement::new(
    "UPDATE my_worker._schedules SET active = true, next_run_at = $2, disabled_reason = NULL, \
     anchor = $3, last_due = CASE WHEN last_due <= $4 THEN last_due END \
     WHERE id = $1",
    &[
        types::INT8,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
    ],
);

static LOCK: Statement = Statement::new(
    "SELECT command, handler, payload, queue, max_attempts, timeout, handler_owner, owner \
     FROM my_worker._schedules WHERE id = $1 FOR UPDATE",
    &[types::INT8],
);

static NOTE_RUN: Statement = Statement::new(
    "UPDATE my_worker._schedules SET last_job_id = $2, last_enqueued_at = $3, \
     live_jobs = live_jobs || $2, runs = runs + 1 WHERE id = $1",
    &[types::INT8, types::INT8, types::TIMESTAMPTZ],
);

/// `unschedule()`: forgets the schedule. Its jobs that wait for an earlier one are cancelled, all
/// others go on.
pub fn unschedule(name: &[u8], owner: Option<Oid>) -> Result<()> {
    let id = find(name, owner)?;
    let extension = extension()?;
    let held = as_owner(&extension, |spi| {
        let rows = spi.run(&DELETE, &[Some(id.datum())])?;
        match rows.first() {
            Some(row) => ids(row.datum(1)),
            None => Err(unknown(name)),
        }
    })?;
    for job in held {
        cancel::cancel_held(&extension, job)?;
    }
    Ok(())
}

/// `pause_schedule()`: nothing is due until it is resumed.
pub fn pause(name: &[u8], owner: Option<Oid>) -> Result<()> {
    let id = find(name, owner)?;
    as_owner(&extension()?, |spi| {
        match spi.run(&PAUSE, &[Some(id.datum())])?.count() {
            0 => Err(unknown(name)),
            _ => Ok(()),
        }
    })
}

/// `resume_schedule()`: due again from now on; what was missed in between is left out. One that is
/// active comes back to its rule, if what it waits for lies further ahead.
pub fn resume(name: &[u8], owner: Option<Oid>) -> Result<()> {
    let id = find(name, owner)?;
    let now = super::now();
    let believable = super::believable(now);
    as_owner(&extension()?, |spi| {
        let rows = spi.run(&LOCK_FOR_RESUME, &[Some(id.datum())])?;
        let Some(row) = rows.first() else {
            return Ok(());
        };
        let schedule = row.text(1)?.unwrap_or_default();
        let zone = super::timezone(row.text(2)?.as_deref())?;
        let anchor = row.i64(3).filter(|anchor| *anchor <= believable);
        let anchor = anchor.unwrap_or(now);
        let rule = super::parse_rule(&schedule, anchor)?;
        let next = rule
            .next_after(now, &zone)
            .ok_or_else(|| super::refused(&schedule, &crate::logic::rule::RuleError::NeverDue))?;
        let last = row.i64(6).unwrap_or(Micros::MIN);
        let known = row.i64(5).filter(|_| row.bool(4));
        let is_near = |known: Micros| last > now || known <= super::near(now, next);
        if last <= believable && known.is_some_and(is_near) {
            return Ok(());
        }
        let times = [next, anchor, believable].map(|time| Some(time.datum()));
        let [next, anchor, believable] = times;
        spi.run(&RESUME, &[Some(id.datum()), next, anchor, believable])?;
        Ok(())
    })
}

/// `run_now()`: enqueues a job beside the regular ones, whatever `overlap` says, and answers its
/// id. It is the schedule's last run, and later due times regard it as one.
pub fn run_now(name: &[u8], owner: Option<Oid>) -> Result<i64> {
    admit::refuse_restricted()?;
    let id = find(name, owner)?;
    admit::warn_unserved()?;
    as_owner(&extension()?, |spi| {
        let rows = spi.run(&LOCK, &[Some(id.datum())])?;
        let row = rows.first().ok_or_else(|| unknown(name))?;
        bar::warn(row.oid(8).unwrap_or(0))?;
        let mut job = job_of(&row, 1);
        job.set(column::RUN_AT, Some(clock::now().datum()));
        job.set(column::SCHEDULE_ID, Some(id.datum()));
        let job = enqueue::insert_one(spi, &job)?;
        note_run(spi, id, job)?;
        Ok(job)
    })
}

fn note_run(spi: &Spi, id: i64, job: i64) -> Result<()> {
    let arguments = [
        Some(id.datum()),
        Some(job.datum()),
        Some(super::now().datum()),
    ];
    spi.run(&NOTE_RUN, &arguments).map(|_| ())
}

/// `next_runs()`: the next `count` due times of a rule after `after`, from which `every` counts.
/// Calls `give` for each.
pub fn next_runs(
    schedule: &[u8],
    count: i32,
    timezone: Option<&[u8]>,
    after: Option<Micros>,
    mut give: impl FnMut(Micros) -> Result<()>,
) -> Result<()> {
    if count < 0 {
        let message = "number of runs must not be negative";
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message));
    }
    let zone = super::timezone(timezone)?;
    let mut last = after.unwrap_or_else(super::now);
    let rule = super::parse_rule(schedule, last)?;
    for _ in 0..count {
        latch::check_for_interrupts()?;
        let Some(next) = rule.next_after(last, &zone) else {
            break;
        };
        give(next)?;
        last = next;
    }
    Ok(())
}

/// The schedule that is meant.
fn find(name: &[u8], owner: Option<Oid>) -> Result<i64> {
    let caller = identity::current_role();
    let name_datum = datum::text_datum(name)?;
    let all = as_owner(&extension()?, |spi| {
        let rows = spi.run(&FIND, &[Some(name_datum)])?;
        let pair = |row: Row<'_>| (row.i64(1).unwrap_or(0), row.oid(2).unwrap_or(0));
        Ok(rows.iter().map(pair).collect::<Vec<_>>())
    })?;
    if let Some(owner) = owner {
        // Another role's is answered for as one that is not there.
        let known = identity::has_rights_of(caller, owner)?;
        let id = of_owner(&all, owner).filter(|_| known);
        return id.ok_or_else(|| unknown(name));
    }
    if let Some(id) = of_owner(&all, caller) {
        return Ok(id);
    }
    let mut others = Vec::new();
    for (id, owner) in all {
        if identity::has_rights_of(caller, owner)? {
            others.push(id);
        }
    }
    match others.as_slice() {
        [] => Err(unknown(name)),
        [id] => Ok(*id),
        _ => Err(PgError::new(
            INVALID_PARAMETER_VALUE,
            quoted("there is more than one schedule ", name, ""),
        )
        .hint("Say whose is meant by the parameter \"owner\".")),
    }
}

fn of_owner(all: &[(i64, Oid)], owner: Oid) -> Option<i64> {
    all.iter().find(|row| row.1 == owner).map(|row| row.0)
}

fn unknown(name: &[u8]) -> PgError {
    PgError::new(
        UNDEFINED_OBJECT,
        quoted("schedule ", name, " does not exist"),
    )
    .hint("See my_worker.schedules for your schedules.")
}
