//! Defining queues: makes, changes, pauses and drops them.

use crate::pg::datum::{self, ToDatum, types};
use crate::pg::error::{DUPLICATE_OBJECT, OBJECT_IN_USE, PgError, Result};
use crate::pg::latch;
use crate::pg::spi::{Rows, Statement};
use crate::pg::wait_event;
use crate::pg::xact;

use super::given::{self, Given};
use super::handler::quoted;
use super::purge::purge_waiting;
use super::{as_owner, extension, letters, queues, wake};

static SET_PAUSED: Statement = Statement::new(
    "UPDATE my_worker.queues SET paused = $2 WHERE name = $1 RETURNING id",
    &[types::TEXT, types::BOOL],
);

static DROP_QUEUE: Statement = Statement::new(
    "DELETE FROM my_worker.queues WHERE name = $1",
    &[types::TEXT],
);

/// A role that may receive from other queues keeps its rights.
static REVOKE_CONSUME: Statement = Statement::new(
    "SELECT my_worker.revoke_consume(c.queue, c.role) FROM my_worker._consumers AS c \
     JOIN pg_catalog.pg_roles AS r ON r.oid = c.role WHERE c.queue = $1",
    &[types::TEXT],
);

/// Those of roles that were dropped.
static DROP_CONSUMERS: Statement = Statement::new(
    "DELETE FROM my_worker._consumers WHERE queue = $1",
    &[types::TEXT],
);

static HAS_JOBS: Statement = Statement::new(
    "SELECT EXISTS (SELECT FROM my_worker._jobs WHERE queue = $1)",
    &[types::TEXT],
);

/// How often `drop_queue(force)` looks for jobs that it could not delete, and how many milliseconds lie between.
const LOOKS: u32 = 25;
const LOOK_AGAIN_MS: i64 = 20;

/// `create_queue()`
pub fn create_queue(given: &Given<'_>) -> Result<()> {
    given.check()?;
    given.check_whole()?;
    let handler = given.handler()?;
    let arguments = given.arguments(handler.as_ref())?;
    // Only a restored dump may replace the queue that always exists: see the trigger of the table.
    let extension = extension()?;
    if given.names_letters() {
        letters::hold_names(&extension)?;
    }
    let created = given.name != b"default"
        && as_owner(&extension, |spi| {
            let rows = spi.run(&given::CREATE, &arguments)?;
            given.check_together(&rows)?;
            let is_new = rows.count() > 0;
            if is_new && given.names_letters() {
                letters::check(spi, &given.name)?;
            }
            Ok(is_new)
        })?;
    if !created {
        let message = quoted("queue ", &given.name, " already exists");
        return Err(PgError::new(DUPLICATE_OBJECT, message)
            .hint("Change its settings with my_worker.alter_queue()."));
    }
    Ok(())
}

/// `alter_queue()`: only what is given changes.
pub fn alter_queue(given: &Given<'_>) -> Result<()> {
    given.check()?;
    let handler = given.handler()?;
    let arguments = given.arguments(handler.as_ref())?;
    let extension = extension()?;
    if given.names_letters() {
        letters::hold_names(&extension)?;
    }
    as_owner(&extension, |spi| {
        let rows = spi.run(&given::ALTER, &arguments)?;
        if given.check_together(&rows)? {
            halt(&rows)?;
        }
        there(rows.count() > 0, &given.name)?;
        match given.names_letters() {
            true => letters::check(spi, &given.name),
            false => Ok(()),
        }
    })
}

/// `reset_queue()`: these settings are as in a new queue.
pub fn reset_queue(name: &[u8], settings: &[Vec<u8>]) -> Result<()> {
    given::check_settings(settings)?;
    let names = settings.iter().map(|name| datum::text_datum(name));
    let names = names.collect::<Result<Vec<_>>>()?;
    let arguments = [
        Some(datum::text_datum(name)?),
        Some(datum::array_datum(&names, types::TEXT)?),
    ];
    as_owner(&extension()?, |spi| {
        let rows = spi.run(&given::RESET, &arguments)?;
        if given::check_together(&rows)? {
            halt(&rows)?;
        }
        there(rows.count() > 0, name)
    })
}

/// Whoever is at work on a queue with a rate takes no more of its jobs by the settings as they were.
fn halt(rows: &Rows<'_>) -> Result<()> {
    let id = rows.first().and_then(|row| row.i32(5));
    id.map_or(Ok(()), wake::halt_at_commit)
}

fn there(is_there: bool, name: &[u8]) -> Result<()> {
    match is_there {
        true => Ok(()),
        false => Err(queues::unknown(name)),
    }
}

/// `pause_queue()` and `resume_queue()`
pub fn set_paused(name: &[u8], paused: bool) -> Result<()> {
    let arguments = [Some(datum::text_datum(name)?), Some(paused.datum())];
    let changed = as_owner(&extension()?, |spi| {
        let rows = spi.run(&SET_PAUSED, &arguments)?;
        Ok(rows.first().and_then(|row| row.i32(1)))
    })?;
    match changed {
        None => Err(queues::unknown(name)),
        Some(queue_id) if paused => wake::halt_at_commit(queue_id),
        Some(_) => Ok(()),
    }
}

/// `drop_queue()`
pub fn drop_queue(name: &[u8], force: bool) -> Result<()> {
    if name == b"default" {
        return Err(PgError::new(OBJECT_IN_USE, "cannot drop queue \"default\""));
    }
    let extension = extension()?;
    let argument = [Some(datum::text_datum(name)?)];
    letters::hold_names(&extension)?;
    as_owner(&extension, |spi| letters::refuse_named(spi, name))?;
    // Whoever enqueues holds the queue, too: from here on no job is added.
    queues::hold(&extension, name, true)?;
    as_owner(&extension, |spi| {
        let has_jobs = || {
            xact::with_latest_snapshot(|| {
                let rows = spi.read(&HAS_JOBS, &argument)?;
                Ok(rows.first().is_some_and(|row| row.bool(1)))
            })
        };
        let mut has_some = has_jobs()?;
        // The keeper holds a job for a moment, such as one whose consumer was lost: it is no running job.
        let mut looks = if force { LOOKS } else { 0 };
        while has_some && looks > 0 {
            if looks < LOOKS {
                latch::wait(Some(LOOK_AGAIN_MS), wait_event::job_wait())?;
            }
            purge_waiting(&extension, spi, name)?.tell_at_commit(None)?;
            has_some = has_jobs()?;
            looks -= 1;
        }
        if has_some {
            let message = quoted("queue ", name, " still has jobs");
            return Err(PgError::new(OBJECT_IN_USE, message).hint(if force {
                "Its running jobs must end first."
            } else {
                "Let them end, or use drop_queue(name, force := true)."
            }));
        }
        spi.run(&REVOKE_CONSUME, &argument)?;
        spi.run(&DROP_CONSUMERS, &argument)?;
        match spi.run(&DROP_QUEUE, &argument)?.count() {
            0 => Err(queues::unknown(name)),
            _ => Ok(()),
        }
    })
}
