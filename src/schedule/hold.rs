//! Runs that wait for an earlier one (`overlap = queue`).
//!
//! They are enqueued at their due time like all others, but *held*: their `run_at` is infinity
//! until the run before has ended. The keeper has itself told of that end ([`wait::watch`]), and
//! each of its looks releases what may go. One whose row somebody has locked, to cancel it perhaps,
//! is left for a second, and so are those behind it.

use super::fire::{BATCH, Fired, Left, fenced, in_extension};
use super::row::{array, find, first_column};
use crate::logic::schedule::Overlap;
use crate::pg::datum::{Micros, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::latch;
use crate::pg::spi::{Spi, Statement};
use crate::queue::{as_owner, manage, wait};

/// The `run_at` of a held job.
pub const HELD: Micros = Micros::MAX;

static HOLDING: Statement = Statement::new(
    "SELECT id FROM my_worker._schedules WHERE pg_catalog.cardinality(held_jobs) \
     OPERATOR(pg_catalog.>) 0 AND id OPERATOR(pg_catalog.>) $1 ORDER BY id LIMIT $2",
    &[types::INT8, types::INT8],
);

static SET_JOBS: Statement = Statement::new(
    "UPDATE my_worker._schedules SET live_jobs = $2, held_jobs = $3 \
     WHERE id OPERATOR(pg_catalog.=) $1",
    &[types::INT8, types::INT8_ARRAY, types::INT8_ARRAY],
);

static RELEASE: Statement = Statement::new(
    "UPDATE my_worker._jobs SET run_at = pg_catalog.clock_timestamp() \
     WHERE id OPERATOR(pg_catalog.=) $1 AND run_at OPERATOR(pg_catalog.=) 'infinity'",
    &[types::INT8],
);

/// Lets held jobs run whose turn it is, and has itself told of the end of those they wait for.
pub fn release_held(left: &mut Left) -> Result<()> {
    // What ended between a round and its watch is seen by another round. There is no end to it
    // where sessions that wait have taken all places; then naps must do.
    for _ in 0..3 {
        let running = release_all(left)?;
        if !wait::watch(&running) {
            break;
        }
    }
    Ok(())
}

/// One round over all schedules that hold jobs. Answers the jobs that the others wait for.
fn release_all(left: &mut Left) -> Result<Vec<i64>> {
    let mut after = 0;
    let mut running = Vec::new();
    loop {
        latch::check_for_interrupts()?;
        let last = in_extension(|extension| {
            let holding = as_owner(extension, |spi| {
                first_column(&spi.run(&HOLDING, &[Some(after.datum()), Some(BATCH.datum())])?)
            })?;
            for id in &holding {
                fenced(extension, *id, left, |spi| release(spi, *id, &mut running))?;
            }
            Ok(holding.last().copied())
        })?;
        match last.flatten() {
            Some(last) => after = last,
            None => return Ok(running),
        }
    }
}

/// Releases the next held job of a schedule if none is unfinished; all of them if the schedule
/// queues its runs no more. Adds the jobs whose end the others wait for to `running`.
fn release(spi: &Spi, id: i64, running: &mut Vec<i64>) -> Result<Fired> {
    let Some(mut found) = find(spi, id)? else {
        return Ok(Fired::Locked);
    };
    let most = match found.overlap {
        Overlap::Queue => usize::from(found.live.is_empty()),
        _ => found.held.len(),
    };
    let mut count = 0;
    for job in found.held.iter().take(most) {
        if !manage::lock(spi, *job)? {
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
