//! Jobs whose end cannot be written: they are set aside.

use super::report::{self, Dead};
use crate::logic::counters::Ending;
use crate::logic::settled::Settled;
use crate::pg::error::{DISK_FULL, IO_ERROR, OUT_OF_MEMORY, PgError, Result, SqlState};
use crate::pg::{catalog, identity, xact};
use crate::queue::queues::Queue;
use crate::queue::settle;

/// What writing down an end came to: nothing if somebody else had done it.
pub type End = Option<(Ending, Option<Dead>)>;

/// What no job can help, and what ends with the server's trouble.
pub fn is_servers(code: SqlState) -> bool {
    [DISK_FULL, IO_ERROR, OUT_OF_MEMORY].contains(&code)
}

/// The line of a job of this process's role that has failed for good. In a transaction.
pub fn dead(queue: &Queue, job: &Settled, attempts: i32, error: &PgError) -> Result<Dead> {
    let owner = identity::current_role();
    report::dead(job.job, &queue.name, owner, attempts, error)
}

/// Outside a transaction: the job stays in `my_queue` as failed. Where that is refused, too, the
/// process ends.
pub fn set_aside(queue: &Queue, job: &Settled, attempts: i32, refused: &PgError) -> Result<End> {
    xact::transaction(|| {
        let Some(extension) = catalog::hold_extension()? else {
            return Ok(None);
        };
        if !settle::set_aside(&extension, job.job, refused)? {
            return Err(refused.clone());
        }
        let dead = dead(queue, job, attempts, refused)?;
        Ok(Some((Ending::Failed, Some(dead))))
    })
}
