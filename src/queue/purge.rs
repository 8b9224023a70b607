//! `purge_queue()`: deletes the jobs of a queue that nobody runs.

use crate::counted::Ends;
use crate::logic::columns::JOBS;
use crate::logic::counters::{Ending, SEVERAL_ROLES};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, types};
use crate::pg::error::Result;
use crate::pg::scan::Freed;
use crate::pg::spi::{Spi, Statement};
use crate::pg::table::{Lock, Row, Table};
use crate::pg::xact;
use crate::shared::own;

use super::{as_owner, column, extension, queues, wake};

static PURGE_WAITING: Statement = Statement::new(
    "DELETE FROM my_worker._jobs WHERE ctid = ANY (ARRAY(\
     SELECT ctid FROM my_worker._jobs WHERE queue = $1 \
     AND status = ANY (ARRAY['pending', 'failed']) \
     AND (id = my_worker.current_job()) IS NOT TRUE FOR UPDATE SKIP LOCKED))",
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
    let (waiting, finished) = as_owner(&extension, |spi| {
        let waiting = purge_waiting(&extension, spi, &queue.name)?;
        let finished = spi.run(&PURGE_FINISHED, &[Some(name_datum)])?.count() as i64;
        Ok((waiting, finished))
    })?;
    if waiting > 0 {
        // They waited and will not run: whoever counts what comes and what goes misses none.
        wake::count_many_at_commit(Ends {
            queue: queue.id,
            role: SEVERAL_ROLES,
            end: Ending::Cancelled,
            count: waiting,
        })?;
    }
    Ok(waiting + finished)
}

/// Deletes the waiting jobs of a queue that nobody has, as a statement sees them now; how many.
pub(super) fn purge_waiting(extension: &Extension, spi: &Spi, queue: &[u8]) -> Result<i64> {
    let walked = xact::with_next_snapshot(|| walk_and_purge(extension, queue))?;
    xact::next_command()?;
    Ok(match walked {
        (purged, true) => purged,
        // Triggers are to hear of it, or another version of a row was there in time.
        (purged, false) => {
            let argument = [Some(datum::text_datum(queue)?)];
            purged + spi.run(&PURGE_WAITING, &argument)?.count() as i64
        }
    })
}

/// One walk through the table, and no list of its rows. How many were deleted, and whether that was all.
fn walk_and_purge(extension: &Extension, queue: &[u8]) -> Result<(i64, bool)> {
    let table = Table::open(extension.jobs, extension.claim_index, Lock::Write, &JOBS)?;
    let (mut purged, mut all) = (0, !table.tells_of_deletes());
    if all {
        let own = own::job();
        let row = table.row()?;
        let scan = table.scan_all()?;
        while scan.next(&row)? {
            let job = row.get(column::ID).map(datum::as_i64);
            if job == own || !waits_in(&row, queue) {
                continue;
            }
            match table.delete_free(row.id())? {
                Freed::Deleted => purged += 1,
                Freed::Changed => all = false,
                Freed::Held => {}
            }
        }
        scan.end()?;
        row.end()?;
    }
    table.close()?;
    Ok((purged, all))
}

/// Whether the row is of a job that waits in the queue, or was set aside in it.
fn waits_in(row: &Row, queue: &[u8]) -> bool {
    let of_queue = match row.get(column::QUEUE) {
        // What is compared without a copy is short; names are.
        Some(name) => datum::text_is(name, queue),
        None => false,
    };
    let status = row.get(column::STATUS);
    let is = |word: &[u8]| status.is_some_and(|status| datum::text_is(status, word));
    of_queue && (is(b"pending") || is(b"failed"))
}
