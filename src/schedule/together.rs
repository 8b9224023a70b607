//! Schedules that are due at one time, fired together: three statements for all of them.
//!
//! That is for those of which one due time has come and no earlier run is unfinished, which is what a schedule nearly
//! always looks like. The others are left to [`super::fire`], which takes them one by one, and so are all of them if
//! anything goes wrong: then only the one at which it does is put off or disabled.

use super::plan::plan;
use super::row::{Found, array, found, times};
use crate::logic::schedule::Plan;
use crate::pg::catalog::Extension;
use crate::pg::datum::{Micros, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::fault::fault;
use crate::pg::spi::{Spi, Statement};
use crate::pg::xact;
use crate::queue::{admit, as_owner};

/// The columns as `row` reads them. Nothing is unfinished of these.
static LOCK: Statement = Statement::new(
    "SELECT command, handler, payload, queue, max_attempts, timeout, handler_owner, owner, schedule, \
     timezone, overlap, catchup, next_run_at, anchor, last_due, active, \
     '{}'::pg_catalog.int8[], '{}'::pg_catalog.int8[], home, id \
     FROM my_worker._schedules AS s WHERE s.id = ANY ($1) AND s.active AND NOT EXISTS (\
     SELECT FROM pg_catalog.unnest(s.live_jobs || s.held_jobs) AS earlier \
     JOIN my_worker._jobs AS q ON q.id = earlier \
     AND q.status <> 'failed' AND q.origin IS NULL) \
     FOR UPDATE OF s SKIP LOCKED",
    &[types::INT8_ARRAY],
);

/// The jobs, as their schedules describe them.
static INSERT: Statement = Statement::new(
    "INSERT INTO my_worker._jobs (queue, handler, command, payload, run_at, max_attempts, timeout, \
     owner, handler_owner, schedule_id) \
     SELECT s.queue, s.handler, s.command, coalesce(s.payload, '{}'::pg_catalog.jsonb), due.run_at, \
     s.max_attempts, s.timeout, s.owner, CASE WHEN s.handler IS NOT NULL THEN s.handler_owner END, s.id \
     FROM unnest($1, $2) WITH ORDINALITY AS due (schedule, run_at, turn) \
     JOIN my_worker._schedules AS s ON s.id = due.schedule ORDER BY due.turn RETURNING id, schedule_id",
    &[types::INT8_ARRAY, types::TIMESTAMPTZ_ARRAY],
);

static ADVANCE: Statement = Statement::new(
    "UPDATE my_worker._schedules AS s SET next_run_at = fired.next, last_due = fired.due, \
     last_job_id = fired.job, last_enqueued_at = $5, live_jobs = ARRAY[fired.job], held_jobs = '{}', \
     runs = runs + 1 FROM unnest($1, $2, $3, $4) AS fired (schedule, job, next, due) \
     WHERE s.id = fired.schedule",
    &[
        types::INT8_ARRAY,
        types::INT8_ARRAY,
        types::TIMESTAMPTZ_ARRAY,
        types::TIMESTAMPTZ_ARRAY,
        types::TIMESTAMPTZ,
    ],
);

/// One run of a schedule: which one, when it is due, and when the next one is.
struct Run {
    schedule: i64,
    due: Micros,
    next: Micros,
}

/// Fires those of the schedules for which that can be done together, in one subtransaction; answers which. None
/// after an error.
pub(super) fn fire(extension: &Extension, ids: &[i64]) -> Vec<i64> {
    let fired = xact::subtransaction(|| as_owner(extension, |spi| fire_all(spi, ids)));
    fired.unwrap_or_default()
}

fn fire_all(spi: &Spi, ids: &[i64]) -> Result<Vec<i64>> {
    let now = super::now();
    let mut runs = Vec::with_capacity(ids.len());
    for row in spi.run(&LOCK, &[Some(array(ids)?)])?.iter() {
        let found = found(&row, row.i64(20).unwrap_or(0))?;
        runs.extend(run(&found, now)?);
    }
    // Row by row in the order in which they are due, as one by one.
    let turn = |run: &Run| ids.iter().position(|id| *id == run.schedule);
    runs.sort_by_key(turn);
    if !runs.is_empty() {
        enqueue(spi, &runs, now)?;
    }
    fault!(Fired);
    Ok(runs.iter().map(|run| run.schedule).collect())
}

/// The run of a schedule, if one is due, and nothing else is to be noted of it.
fn run(found: &Found<'_>, now: Micros) -> Result<Option<Run>> {
    if !found.is_own || found.next_run_at.is_none_or(|next| next > now) {
        return Ok(None);
    }
    let Some(plan) = plan(found, now)? else {
        return Ok(None);
    };
    let (Plan { enqueue, .. }, Some(next)) = (&plan, plan.next_run_at) else {
        return Ok(None);
    };
    match enqueue.as_slice() {
        [due] if !plan.left_out => {
            admit::check_queue(&found.job.queue()?)?;
            Ok(Some(Run {
                schedule: found.id,
                due: *due,
                next,
            }))
        }
        _ => Ok(None),
    }
}

fn enqueue(spi: &Spi, runs: &[Run], now: Micros) -> Result<()> {
    let schedules: Vec<i64> = runs.iter().map(|run| run.schedule).collect();
    let run_at = runs.iter().map(|run| super::real(run.due));
    let arguments = [Some(array(&schedules)?), Some(times(run_at)?)];
    let inserted = spi.run(&INSERT, &arguments)?;
    let jobs = inserted.iter();
    let mut jobs: Vec<(i64, i64)> = jobs
        .filter_map(|row| Some((row.i64(2)?, row.i64(1)?)))
        .collect();
    jobs.sort_unstable();
    let job = |run: &Run| {
        let index = jobs.binary_search_by_key(&run.schedule, |(schedule, _)| *schedule);
        index
            .ok()
            .and_then(|index| jobs.get(index))
            .map(|job| job.1)
    };
    let jobs: Vec<i64> = runs.iter().filter_map(job).collect();
    let arguments = [
        Some(array(&schedules)?),
        Some(array(&jobs)?),
        Some(times(runs.iter().map(|run| run.next))?),
        Some(times(runs.iter().map(|run| run.due))?),
        Some(now.datum()),
    ];
    spi.run(&ADVANCE, &arguments).map(|_| ())
}
