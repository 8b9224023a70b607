//! Putting jobs in: the functions.
//!
//! They check their arguments and insert without a statement (`direct`), or as the extension's owner; the
//! trigger (`incoming`) then only notes whom to wake.

use crate::counted;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Oid, ToDatum, types};
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::identity;
use crate::pg::spi::{Spi, Statement};

use super::admit::{
    check_flow, check_limits, check_queue, check_texts, refuse_restricted, warn_unserved,
};
use super::handler::quoted;
use super::lists::{self, GIVEN_TYPES};
use super::rerun::UniqueKey;
use super::unique::{DEFAULTS, Enqueued};
use super::{as_owner, bar, column, direct, extension, queues, wake};

pub use super::new_job::NewJob;
pub use super::unique::UniqueMode;

static INSERT_ONE: Statement = Statement::made(
    || lists::insert_job(&DEFAULTS, &[], "RETURNING id"),
    &GIVEN_TYPES,
);

/// One statement for all: a row costs a fraction of a statement of its own.
static INSERT_MANY: Statement = Statement::made(
    || {
        let payloads = lists::parameter(column::PAYLOAD);
        let changes = DEFAULTS.map(|(place, value)| match place {
            column::PAYLOAD => (place, "coalesce(p.payload, '{}'::pg_catalog.jsonb)"),
            _ => (place, value),
        });
        let rest = format!("FROM pg_catalog.unnest({payloads}) AS p (payload) RETURNING id");
        lists::insert_job(&changes, &[], &rest)
    },
    &lists::given_types_with(column::PAYLOAD, types::JSONB_ARRAY),
);

static FIND_UNIQUE: Statement = Statement::new(
    "SELECT id FROM my_worker._jobs WHERE queue = $1 \
     AND owner = $2 AND unique_key = $3 AND origin IS NULL ORDER BY rerun LIMIT 1",
    &[types::TEXT, types::REGROLE, types::TEXT],
);

/// Enqueues the job and answers its id, or if a live job has its unique key, what `mode` says.
pub fn enqueue(mut job: NewJob<'_>, mode: UniqueMode) -> Result<i64> {
    let extension = admit(&mut job)?;
    enqueue_one(&extension, &job, mode)
}

/// Enqueues the job once for each payload and answers the ids in order: its payload is a `jsonb[]`.
pub fn enqueue_many(mut job: NewJob<'_>) -> Result<Vec<i64>> {
    let extension = admit(&mut job)?;
    insert_many(&extension, &job)
}

fn enqueue_one(extension: &Extension, job: &NewJob<'_>, mode: UniqueMode) -> Result<i64> {
    let arguments = job.arguments();
    match UniqueKey::of(|column| job.get(column))? {
        Some(key) => Enqueued { arguments, key }.enqueue(extension, mode),
        None => match direct::insert(extension, job)? {
            Some(id) => Ok(id),
            None => as_owner(extension, |spi| insert_one(spi, job)),
        },
    }
}

fn insert_many(extension: &Extension, job: &NewJob<'_>) -> Result<Vec<i64>> {
    if let Some(ids) = direct::insert_each(extension, job)? {
        return Ok(ids);
    }
    as_owner(extension, |spi| {
        let inserted = spi.run(&INSERT_MANY, &job.arguments())?;
        Ok(inserted.iter().filter_map(|row| row.i64(1)).collect())
    })
}

/// Checks a message that becomes a job for a consumer; the caller becomes its owner.
pub(super) fn admit_message(job: &mut NewJob<'_>) -> Result<Extension> {
    let extension = admit_any(job)?;
    refuse_handler(&extension, job).map(|()| extension)
}

/// The same of a job for a consumer. 55000 if its queue has a handler, by which the server would run it.
pub fn send(mut job: NewJob<'_>, mode: UniqueMode) -> Result<i64> {
    let extension = admit_any(&mut job)?;
    refuse_handler(&extension, &job)?;
    enqueue_one(&extension, &job, mode)
}

/// The same for each payload of a `jsonb[]`.
pub fn send_many(mut job: NewJob<'_>) -> Result<Vec<i64>> {
    let extension = admit_any(&mut job)?;
    refuse_handler(&extension, &job)?;
    insert_many(&extension, &job)
}

fn refuse_handler(extension: &Extension, job: &NewJob<'_>) -> Result<()> {
    let name = job.queue()?;
    let kept = queues::kept(extension, &name)?;
    if kept.handler.is_none() {
        return Ok(());
    }
    let message = quoted("queue ", &name, " has a handler");
    Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint(
        "Use my_worker.enqueue(), or send to a queue without a handler, from which consumers receive.",
    ))
}

/// Checks what the functions were given, and warns a role that may run nothing; the caller becomes the job's
/// owner.
fn admit(job: &mut NewJob<'_>) -> Result<Extension> {
    let extension = admit_any(job)?;
    bar::warn(identity::current_role())?;
    Ok(extension)
}

/// The same without the warning: nobody logs in as that role for a consumer's job.
fn admit_any(job: &mut NewJob<'_>) -> Result<Extension> {
    refuse_restricted()?;
    check(job)?;
    let extension = extension()?;
    check_queue(&job.queue()?)?;
    warn_unserved()?;
    job.set(column::OWNER, Some(identity::current_role().datum()));
    Ok(extension)
}

/// Inserts one checked job, which has an owner and no unique key, and answers its id.
pub fn insert_one(spi: &Spi, job: &NewJob<'_>) -> Result<i64> {
    let inserted = spi.run(&INSERT_ONE, &job.arguments())?;
    let id = inserted.first().and_then(|row| row.i64(1));
    id.ok_or_else(|| PgError::internal("a job was not inserted"))
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
    let unique_key = job.get(column::UNIQUE_KEY).map(datum::as_text);
    check_limits(
        job.get(column::MAX_ATTEMPTS).map(datum::as_i32),
        job.get(column::TIMEOUT),
        unique_key.transpose()?.as_deref(),
    )?;
    let text = |column| job.get(column).map(datum::as_text).transpose();
    let (kind, group_key) = (text(column::KIND)?, text(column::GROUP_KEY)?);
    check_texts(kind.as_deref(), group_key.as_deref())?;
    check_flow(|column| job.get(column))
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
