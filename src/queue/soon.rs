//! `run_soon()`: a job that waits for its time waits no longer.

use crate::pg::datum::{ToDatum, types};
use crate::pg::error::Result;
use crate::pg::identity;
use crate::pg::spi::Statement;
use crate::shared::consumers;

use super::{as_owner, extension, single};

/// A run of a schedule that waits for an earlier one stays held.
static RUN_SOON: Statement = Statement::new(
    "UPDATE my_worker._jobs AS j SET run_at = pg_catalog.clock_timestamp() \
     WHERE j.id = $1 AND j.status = 'pending' AND j.lease IS NULL AND j.run_at > pg_catalog.clock_timestamp() \
     AND (j.run_at < 'infinity' OR NOT EXISTS (SELECT FROM my_worker._schedules AS s \
     WHERE pg_catalog.cardinality(s.held_jobs) > 0 AND j.id = ANY (s.held_jobs)))",
    &[types::INT8],
);

/// `run_soon()`: true if the job waited for a later time, and is due now. A job of another role is answered
/// for as one that is not there.
pub fn run_soon(job: i64) -> Result<bool> {
    let extension = extension()?;
    let Some(found) = single::find(&extension, job)? else {
        return Ok(false);
    };
    if !identity::has_rights_of(identity::current_role(), found.owner)? {
        return Ok(false);
    }
    as_owner(&extension, |spi| {
        // Whoever has the row runs the job, or ends it.
        if !single::lock(spi, job)? {
            return Ok(false);
        }
        if consumers::of_job(extension.jobs, job).is_some() {
            return Ok(false);
        }
        Ok(spi.run(&RUN_SOON, &[Some(job.datum())])?.count() > 0)
    })
}
