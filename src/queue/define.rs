//! Defining queues: makes, changes, pauses and drops them.

use crate::logic::limits;
use crate::pg::datum::{self, Datum, Oid, ToDatum, types};
use crate::pg::error::{DUPLICATE_OBJECT, NULL_VALUE_NOT_ALLOWED, OBJECT_IN_USE, PgError, Result};
use crate::pg::spi::Statement;
use crate::pg::xact;

use super::handler::{self, Named, quoted};
use super::purge::purge_waiting;
use super::{allowed, as_owner, extension, queues, wake};

static CREATE_QUEUE: Statement = Statement::new(
    "INSERT INTO my_worker.queues (name, handler, concurrency, max_attempts, backoff, \
     backoff_max, timeout, retention, handler_owner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     ON CONFLICT (name) DO NOTHING",
    QUEUE_TYPES,
);

static ALTER_QUEUE: Statement = Statement::new(
    "UPDATE my_worker.queues SET handler = coalesce($2, handler), \
     concurrency = coalesce($3, concurrency), max_attempts = coalesce($4, max_attempts), \
     backoff = coalesce($5, backoff), backoff_max = coalesce($6, backoff_max), \
     timeout = coalesce($7, timeout), retention = coalesce($8, retention), \
     handler_owner = CASE WHEN $2 IS NULL THEN handler_owner ELSE $9 END \
     WHERE name = $1",
    QUEUE_TYPES,
);

const QUEUE_TYPES: &[Oid] = &[
    types::TEXT,
    types::TEXT,
    types::INT4,
    types::INT4,
    types::INTERVAL,
    types::INTERVAL,
    types::INTERVAL,
    types::INTERVAL,
    types::REGROLE,
];

static SET_PAUSED: Statement = Statement::new(
    "UPDATE my_worker.queues SET paused = $2 WHERE name = $1 RETURNING id",
    &[types::TEXT, types::BOOL],
);

static DROP_QUEUE: Statement = Statement::new(
    "DELETE FROM my_worker.queues WHERE name = $1",
    &[types::TEXT],
);

static DROP_CONSUMERS: Statement = Statement::new(
    "DELETE FROM my_worker._consumers WHERE queue = $1",
    &[types::TEXT],
);

static HAS_JOBS: Statement = Statement::new(
    "SELECT EXISTS (SELECT FROM my_worker._jobs WHERE queue = $1)",
    &[types::TEXT],
);

/// The settings of a queue as SQL passes them: name, handler, concurrency, max_attempts, backoff,
/// backoff_max, timeout, retention.
pub struct QueueSettings<'a> {
    /// The name.
    pub name: Vec<u8>,
    /// The handler's name as given.
    pub handler: Option<Vec<u8>>,
    /// `integer`
    pub concurrency: Option<i32>,
    /// `integer`
    pub max_attempts: Option<i32>,
    /// `interval` each: backoff, backoff_max, timeout, retention.
    pub intervals: [Option<Datum<'a>>; 4],
}

impl<'a> QueueSettings<'a> {
    fn check(&self) -> Result<()> {
        queues::check_name(&self.name)?;
        if let Some(concurrency) = self.concurrency {
            allowed(limits::concurrency(concurrency))?;
        }
        if let Some(attempts) = self.max_attempts {
            allowed(limits::max_attempts(attempts))?;
        }
        let names = ["backoff", "backoff_max", "timeout", "retention"];
        for (name, value) in names.into_iter().zip(self.intervals) {
            let Some(micros) = value.map(datum::interval_micros).transpose()? else {
                continue;
            };
            allowed(match name {
                "timeout" => limits::positive_interval(name, micros),
                _ => limits::interval(name, micros),
            })?;
        }
        Ok(())
    }

    fn arguments(&self, handler: Option<&Named>) -> Result<[Option<Datum<'a>>; 9]> {
        let [backoff, backoff_max, timeout, retention] = self.intervals;
        Ok([
            Some(datum::text_datum(&self.name)?),
            handler.map(|h| datum::text_datum(&h.name)).transpose()?,
            self.concurrency.map(ToDatum::datum),
            self.max_attempts.map(ToDatum::datum),
            backoff,
            backoff_max,
            timeout,
            retention,
            handler.and_then(|h| h.owner).map(ToDatum::datum),
        ])
    }

    /// The handler, found, so that a typing error shows now.
    fn named_handler(&self) -> Result<Option<Named>> {
        self.handler.as_deref().map(handler::name).transpose()
    }
}

/// `create_queue()`
pub fn create_queue(settings: &QueueSettings<'_>) -> Result<()> {
    settings.check()?;
    let required = [
        settings.intervals[0],
        settings.intervals[1],
        settings.intervals[3],
    ];
    if settings.max_attempts.is_none() || required.iter().any(Option::is_none) {
        return Err(PgError::new(
            NULL_VALUE_NOT_ALLOWED,
            "max_attempts, backoff, backoff_max and retention must not be null",
        ));
    }
    let handler = settings.named_handler()?;
    let arguments = settings.arguments(handler.as_ref())?;
    // Only a restored dump may replace the queue that always exists: see the trigger of the table.
    let created = match settings.name.as_slice() {
        b"default" => 0,
        _ => as_owner(&extension()?, |spi| {
            spi.run(&CREATE_QUEUE, &arguments).map(|rows| rows.count())
        })?,
    };
    if created == 0 {
        let message = quoted("queue ", &settings.name, " already exists");
        return Err(PgError::new(DUPLICATE_OBJECT, message)
            .hint("Change its settings with my_worker.alter_queue()."));
    }
    Ok(())
}

/// `alter_queue()`: only what is given changes.
pub fn alter_queue(settings: &QueueSettings<'_>) -> Result<()> {
    settings.check()?;
    let handler = settings.named_handler()?;
    let arguments = settings.arguments(handler.as_ref())?;
    change_queue(&ALTER_QUEUE, &settings.name, &arguments)
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

/// Changes one queue.
fn change_queue(statement: &Statement, name: &[u8], arguments: &[Option<Datum<'_>>]) -> Result<()> {
    let changed = as_owner(&extension()?, |spi| {
        spi.run(statement, arguments).map(|rows| rows.count())
    })?;
    if changed == 0 {
        return Err(queues::unknown(name));
    }
    Ok(())
}

/// `drop_queue()`
pub fn drop_queue(name: &[u8], force: bool) -> Result<()> {
    if name == b"default" {
        return Err(PgError::new(OBJECT_IN_USE, "cannot drop queue \"default\""));
    }
    let extension = extension()?;
    let argument = [Some(datum::text_datum(name)?)];
    // Whoever enqueues holds the queue, too: from here on no job is added.
    queues::hold(&extension, name, true)?;
    as_owner(&extension, |spi| {
        if force {
            purge_waiting(&extension, spi, name)?.tell_at_commit(None)?;
        }
        let has_jobs = xact::with_latest_snapshot(|| {
            Ok(spi
                .read(&HAS_JOBS, &argument)?
                .first()
                .is_some_and(|row| row.bool(1)))
        })?;
        if has_jobs {
            let message = quoted("queue ", name, " still has jobs");
            return Err(PgError::new(OBJECT_IN_USE, message).hint(if force {
                "Its running jobs must end first."
            } else {
                "Let them end, or use drop_queue(name, force := true)."
            }));
        }
        spi.run(&DROP_CONSUMERS, &argument)?;
        match spi.run(&DROP_QUEUE, &argument)?.count() {
            0 => Err(queues::unknown(name)),
            _ => Ok(()),
        }
    })
}
