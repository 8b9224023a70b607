//! Runs that wait for an earlier one (`overlap = queue`).
//!
//! They are enqueued at their due time like all others, but *held*: their `run_at` is infinity
//! until the run before has ended. The keeper has itself told of that end ([`wait::watch`]), and
//! each of its looks releases what may go. One whose row somebody has locked, to cancel it perhaps,
//! is left for a second, and so are those behind it.

use super::fire::{BATCH, Fired, Left, fenced, in_extension};
use super::row::{array, find};
use crate::logic::schedule::Overlap;
use crate::pg::catalog::Extension;
use crate::pg::datum::{ToDatum, types};
use crate::pg::error::Result;
use crate::pg::fault::fault;
use crate::pg::spi::{Row, Spi, Statement};
use crate::queue::{as_owner, single, wait};
use crate::shared;

/// Schedules that one step looks at.
const READ: i64 = 200;

/// Schedules that hold jobs, and one unfinished job for which they wait, if they do.
static HOLDING: Statement = Statement::new(
    "SELECT s.id, CASE WHEN s.overlap = 'queue' THEN \
     (SELECT q.id FROM pg_catalog.unnest(s.live_jobs) AS live JOIN my_worker._jobs AS q \
     ON q.id = live AND q.status <> 'failed' AND q.origin IS NULL LIMIT 1) END \
     FROM my_worker._schedules AS s WHERE pg_catalog.cardinality(s.held_jobs) \
     > 0 AND s.id > $1 ORDER BY s.id LIMIT $2",
    &[types::INT8, types::INT8],
);

static SET_JOBS: Statement = Statement::new(
    "UPDATE my_worker._schedules SET live_jobs = $2, held_jobs = $3 \
     WHERE id = $1",
    &[types::INT8, types::INT8_ARRAY, types::INT8_ARRAY],
);

static RELEASE: Statement = Statement::new(
    "UPDATE my_worker._jobs SET run_at = pg_catalog.clock_timestamp() \
     WHERE id = $1 AND run_at = 'infinity'",
    &[types::INT8],
);

/// Lets held jobs run whose turn it is, some schedules in each step, and has itself told of the end of
/// those that the others wait for.
#[derive(Default)]
pub struct Releaser {
    /// A round shall begin.
    wanted: bool,
    /// One is under way, behind this schedule.
    round: Option<i64>,
    /// What the others wait for, of this round.
    running: Vec<i64>,
}

impl Releaser {
    /// Runs may have ended that others wait for.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether there is something to do.
    pub fn is_wanted(&self) -> bool {
        self.wanted || self.round.is_some()
    }

    /// Looks at some of the schedules that hold jobs.
    pub fn step(&mut self, left: &mut Left) -> Result<()> {
        let after = self.round.unwrap_or(i64::MIN);
        if self.round.is_none() {
            self.wanted = false;
            self.running.clear();
        }
        self.round = None;
        let last = in_extension(|extension| self.release_some(extension, after, left))?;
        self.round = last.flatten();
        if self.round.is_none() {
            fault!(Unwatched);
            // What ended between a round and its watch is seen by another round. Where sessions that wait have taken
            // all places, naps must do.
            self.wanted |= wait::watch(&self.running);
        }
        Ok(())
    }

    /// Answers the last schedule that was looked at; `None`: there are no more.
    fn release_some(
        &mut self,
        extension: &Extension,
        after: i64,
        left: &mut Left,
    ) -> Result<Option<i64>> {
        let holding = as_owner(extension, |spi| {
            let rows = spi.run(&HOLDING, &[Some(after.datum()), Some(READ.datum())])?;
            let held = |row: Row<'_>| (row.i64(1).unwrap_or(after), row.i64(2));
            Ok(rows.iter().map(held).collect::<Vec<_>>())
        })?;
        let alone = left.ids();
        let (mut last, mut fenced_off) = (None, 0);
        for (id, waits_for) in holding {
            last = Some(id);
            if let Some(job) = waits_for {
                // Sessions that wait need places, too: more are not watched anyway.
                if self.running.len() < shared::WAITERS {
                    self.running.push(job);
                }
            } else if alone.binary_search(&id).is_err() {
                fenced(extension, id, left, |spi| {
                    release(spi, id, &mut self.running)
                })?;
                fenced_off += 1;
            }
            if fenced_off >= BATCH {
                break;
            }
        }
        Ok(last)
    }
}

/// Releases the next held job of a schedule if none is unfinished; all of them if the schedule
/// queues its runs no more. Adds the jobs whose end the others wait for to `running`.
fn release(spi: &Spi, id: i64, running: &mut Vec<i64>) -> Result<Fired> {
    let Some(mut found) = find(spi, id)?.filter(|found| found.is_own) else {
        return Ok(Fired::Locked);
    };
    let most = match found.overlap {
        Overlap::Queue => usize::from(found.live.is_empty()),
        _ => found.held.len(),
    };
    let mut count = 0;
    for job in found.held.iter().take(most) {
        if !single::lock(spi, *job)? {
            break;
        }
        spi.run(&RELEASE, &[Some(job.datum())])?;
        count += 1;
    }
    let locked = count < most.min(found.held.len());
    let rest = found.held.split_off(count);
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
    Ok(if locked { Fired::Locked } else { Fired::Done })
}
