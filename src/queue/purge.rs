//! `purge_queue()`: deletes the jobs of a queue that nobody runs.

use crate::logic::columns::JOBS;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, types};
use crate::pg::error::Result;
use crate::pg::scan::Freed;
use crate::pg::spi::{Spi, Statement};
use crate::pg::table::{Lock, Row, Table};
use crate::pg::xact;
use crate::shared::{consumers, own};

use super::told::Purged;
use super::{as_owner, column, extension, queues};

static PURGE_WAITING: Statement = Statement::new(
    "DELETE FROM my_worker._jobs WHERE ctid = ANY (ARRAY(\
     SELECT ctid FROM my_worker._jobs WHERE queue = $1 \
     AND status = ANY (ARRAY['pending', 'failed', 'blocked']) \
     AND (id = my_worker.current_job()) IS NOT TRUE FOR UPDATE SKIP LOCKED)) \
     RETURNING status = 'failed'",
    &[types::TEXT],
);

static PURGE_FINISHED: Statement = Statement::new(
    "DELETE FROM my_worker.history WHERE queue = $1",
    &[types::TEXT],
);

/// `purge_queue()`: how many jobs are gone.
pub fn purge_queue(name: &[u8]) -> Result<i64> {
    let extension = extension()?;
    let name_datum = datum::text_datum(name)?;
    let Some(queue) = queues::find(&extension, name_datum)? else {
        return Err(queues::unknown(name));
    };
    let (purged, finished) = as_owner(&extension, |spi| {
        let purged = purge_waiting(&extension, spi, &queue.name)?;
        let finished = spi.run(&PURGE_FINISHED, &[Some(name_datum)])?.count() as i64;
        Ok((purged, finished))
    })?;
    let count = purged.count() + finished;
    purged.tell_at_commit(Some(queue.id))?;
    Ok(count)
}

/// Deletes the waiting jobs of a queue that nobody has, as a statement sees them now, and those that
/// were set aside.
pub(super) fn purge_waiting(extension: &Extension, spi: &Spi, queue: &[u8]) -> Result<Purged> {
    let mut purged = Purged::NONE;
    let all = xact::with_next_snapshot(|| walk_and_purge(extension, queue, &mut purged))?;
    xact::next_command()?;
    if !all {
        // Triggers are to hear of it, or another version of a row was there in time.
        let rows = spi.run(&PURGE_WAITING, &[Some(datum::text_datum(queue)?)])?;
        rows.iter().for_each(|row| purged.add(row.bool(1)));
    }
    Ok(purged)
}

/// One walk through the table, and no list of its rows. Whether all were deleted that could be.
fn walk_and_purge(extension: &Extension, queue: &[u8], purged: &mut Purged) -> Result<bool> {
    let table = Table::open(extension.jobs, extension.claim_index, Lock::Write, &JOBS)?;
    let mut all = !table.tells_of_deletes();
    if all {
        let own = own::job();
        let row = table.row()?;
        let scan = table.scan_all()?;
        while scan.next(&row)? {
            let job = row.get(column::ID).map(datum::as_i64);
            let Some(was_aside) = stands_in(&row, queue).filter(|_| job != own) else {
                continue;
            };
            // A consumer has it.
            if job.is_some_and(|job| {
                consumers::of_job(extension.jobs, job).is_some_and(|l| l.is_valid())
            }) {
                continue;
            }
            match table.delete_free(row.id())? {
                Freed::Deleted => purged.add(was_aside),
                Freed::Changed => all = false,
                Freed::Held => {}
            }
        }
        scan.end()?;
        row.end()?;
    }
    table.close()?;
    Ok(all)
}

/// Whether the row is of a job that was set aside in the queue; `None` if of none that waits there,
/// either.
fn stands_in(row: &Row, queue: &[u8]) -> Option<bool> {
    let of_queue = match row.get(column::QUEUE) {
        // What is compared without a copy is short; names are.
        Some(name) => datum::text_is(name, queue),
        None => false,
    };
    let status = row.get(column::STATUS);
    let is = |word: &[u8]| status.is_some_and(|status| datum::text_is(status, word));
    match of_queue {
        true if is(b"failed") => Some(true),
        true if is(b"pending") || is(b"blocked") => Some(false),
        _ => None,
    }
}
