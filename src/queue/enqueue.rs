//! Putting jobs in: the functions.
//!
//! They check their arguments and insert as the extension's owner; the trigger (`incoming`) then only
//! notes whom to wake.

use crate::counted;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::identity;
use crate::pg::spi::{Spi, Statement};

use super::admit::{check_limits, check_queue, refuse_restricted, warn_unserved};
use super::handler::Named;
use super::{as_owner, bar, bound, extension, wake};

/// A job as the functions take it.
pub struct NewJob<'a> {
    /// What to call; `None` for a command or the queue's handler.
    pub handler: Option<Named>,
    /// What to run.
    pub command: Option<Vec<u8>>,
    /// The queue's name.
    pub queue: Vec<u8>,
    /// Lower goes first.
    pub priority: i32,
    /// Not before this time; `None`: now.
    pub run_at: Option<Micros>,
    /// Executions before it is failed; `None`: as the queue says.
    pub max_attempts: Option<i32>,
    /// An `interval`; `None`: as the queue says.
    pub timeout: Option<Datum<'a>>,
    /// At most one live job of queue and owner has it.
    pub unique_key: Option<Vec<u8>>,
}

/// The INSERT of the functions: its payload, and what follows.
macro_rules! insert {
    ($payload:literal, $rest:literal) => {
        concat!(
            "INSERT INTO my_worker._jobs (handler, command, payload, queue, priority, run_at, \
             max_attempts, timeout, unique_key, owner, handler_owner) \
             SELECT $1, $2, coalesce(",
            $payload,
            ", '{}'::pg_catalog.jsonb), $4, $5, coalesce($6, pg_catalog.now()), $7, $8, $9, $10, $11 ",
            $rest
        )
    };
}

const INSERT_TYPES: &[Oid] = &[
    types::TEXT,
    types::TEXT,
    types::JSONB,
    types::TEXT,
    types::INT4,
    types::TIMESTAMPTZ,
    types::INT4,
    types::INTERVAL,
    types::TEXT,
    types::REGROLE,
    types::REGROLE,
];

static INSERT_ONE: Statement = Statement::new(insert!("$3", "RETURNING id"), INSERT_TYPES);

/// One statement for all: a row costs a fraction of a statement of its own.
static INSERT_MANY: Statement = Statement::new(
    insert!(
        "p.payload",
        "FROM pg_catalog.unnest($3) AS p (payload) RETURNING id"
    ),
    &[
        types::TEXT,
        types::TEXT,
        types::JSONB_ARRAY,
        types::TEXT,
        types::INT4,
        types::TIMESTAMPTZ,
        types::INT4,
        types::INTERVAL,
        types::TEXT,
        types::REGROLE,
        types::REGROLE,
    ],
);

static INSERT_UNIQUE: Statement = Statement::new(
    insert!(
        "$3",
        "ON CONFLICT (queue, owner, unique_key) WHERE unique_key IS NOT NULL DO NOTHING \
         RETURNING id"
    ),
    INSERT_TYPES,
);

static FIND_UNIQUE: Statement = Statement::new(
    "SELECT id FROM my_worker._jobs WHERE queue = $1 \
     AND owner = $2 AND unique_key = $3",
    &[types::TEXT, types::REGROLE, types::TEXT],
);

/// Enqueues the job and answers its id. With a unique key that a live job has, nothing is added
/// and that job's id is the answer.
pub fn enqueue(job: &NewJob<'_>, payload: Option<Datum<'_>>) -> Result<i64> {
    let extension = admit(job)?;
    let caller = identity::current_role();
    as_owner(&extension, |spi| insert_one(spi, job, payload, caller))
}

/// Enqueues the job once for each element of a `jsonb[]` and answers the ids in order.
pub fn enqueue_many(job: &NewJob<'_>, payloads: Datum<'_>) -> Result<Vec<i64>> {
    let extension = admit(job)?;
    let arguments = arguments(job, Some(payloads), identity::current_role())?;
    as_owner(&extension, |spi| {
        let inserted = spi.run(&INSERT_MANY, &arguments)?;
        Ok(inserted.iter().filter_map(|row| row.i64(1)).collect())
    })
}

/// Checks what the functions were given.
fn admit(job: &NewJob<'_>) -> Result<Extension> {
    refuse_restricted()?;
    check(job)?;
    let extension = extension()?;
    check_queue(&job.queue)?;
    warn_unserved()?;
    bar::warn(identity::current_role())?;
    Ok(extension)
}

/// What the statements take, in the order of [`INSERT_TYPES`].
fn arguments<'a>(
    job: &NewJob<'a>,
    payload: Option<Datum<'a>>,
    caller: Oid,
) -> Result<[Option<Datum<'a>>; 11]> {
    let text = |value: &Option<Vec<u8>>| value.as_deref().map(datum::text_datum).transpose();
    let handler = job.handler.as_ref();
    Ok([
        handler.map(|h| datum::text_datum(&h.name)).transpose()?,
        text(&job.command)?,
        payload,
        Some(datum::text_datum(&job.queue)?),
        Some(job.priority.datum()),
        job.run_at.map(ToDatum::datum),
        job.max_attempts.map(ToDatum::datum),
        job.timeout,
        text(&job.unique_key)?,
        Some(caller.datum()),
        handler.and_then(|h| h.owner).map(ToDatum::datum),
    ])
}

/// Inserts one checked job for `caller`, its owner, and answers its id.
pub fn insert_one(
    spi: &Spi,
    job: &NewJob<'_>,
    payload: Option<Datum<'_>>,
    caller: Oid,
) -> Result<i64> {
    let arguments = arguments(job, payload, caller)?;
    let statement = if job.unique_key.is_some() {
        &INSERT_UNIQUE
    } else {
        &INSERT_ONE
    };
    let [_, _, _, queue, .., key, owner, _] = arguments;
    // A row that is only tried counts as one more of the role.
    let bounded = job.unique_key.is_some() && bound::is_set();
    for attempt in 0..10 {
        if !bounded || attempt > 0 {
            let inserted = spi.run(statement, &arguments)?;
            if let Some(id) = inserted.first().and_then(|row| row.i64(1)) {
                return Ok(id);
            }
        }
        // Somebody's job has the key, unless it has ended just now.
        let found = spi.run(&FIND_UNIQUE, &[queue, owner, key])?;
        if let Some(id) = found.first().and_then(|row| row.i64(1)) {
            return Ok(id);
        }
    }
    Err(PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "could not decide whether the unique key is in use",
    )
    .hint("Retry the transaction in READ COMMITTED isolation."))
}

/// The live job of that owner that has the key, if any.
pub fn find_unique(spi: &Spi, queue: &[u8], owner: Oid, key: &[u8]) -> Result<Option<i64>> {
    let arguments = [
        Some(datum::text_datum(queue)?),
        Some(owner.datum()),
        Some(datum::text_datum(key)?),
    ];
    let found = spi.run(&FIND_UNIQUE, &arguments)?;
    Ok(found.first().and_then(|row| row.i64(1)))
}

/// Refuses numbers, times and keys that no job can have.
pub fn check(job: &NewJob<'_>) -> Result<()> {
    check_limits(job.max_attempts, job.timeout, job.unique_key.as_deref())
}

/// After ALTER EXTENSION UPDATE: the launcher learns at COMMIT that the library fits, and jobs run at
/// once. It had given the database up for one without the extension.
pub fn updated() -> Result<()> {
    match bgworker::in_recovery() {
        true => Ok(()),
        false => wake::look_at_commit(),
    }
}

/// After CREATE EXTENSION: the launcher learns of it at COMMIT. The numbers of queues start anew,
/// so what an earlier one of this database has counted is not theirs.
pub fn installed() -> Result<()> {
    if bgworker::in_recovery() {
        return Ok(());
    }
    counted::reset();
    warn_unserved()?;
    wake::look_at_commit()
}
