//! `reassign()`: hands the jobs and schedules of one role over to another one, as REASSIGN OWNED does with
//! what the server knows of.

use crate::pg::datum::{Oid, ToDatum, types};
use crate::pg::error::{INSUFFICIENT_PRIVILEGE, PgError, Result, UNDEFINED_OBJECT};
use crate::pg::identity;
use crate::pg::spi::Statement;
use crate::queue::{as_owner, bar, extension};

/// What runs stays who it is; a worker that has a row ends it first.
static HAND_JOBS: Statement = Statement::new(
    "UPDATE my_worker._jobs SET owner = $2 WHERE owner = $1 AND status <> 'processing'",
    &[types::REGROLE, types::REGROLE],
);

static HAND_SCHEDULES: Statement = Statement::new(
    "UPDATE my_worker._schedules SET owner = $2 WHERE owner = $1",
    &[types::REGROLE, types::REGROLE],
);

static IS_THERE: Statement = Statement::new(
    "SELECT FROM pg_catalog.pg_roles WHERE oid = $1",
    &[types::OID],
);

/// Hands them over, and answers how many there were.
pub fn reassign(old: Oid, new: Oid) -> Result<i64> {
    let found = extension()?;
    let caller = identity::current_role();
    let is_there = as_owner(&found, |spi| {
        Ok(spi.run(&IS_THERE, &[Some(new.datum())])?.count() > 0)
    })?;
    if !is_there {
        let message = format!("role with OID {new} does not exist");
        return Err(PgError::new(UNDEFINED_OBJECT, message));
    }
    if !identity::has_rights_of(caller, old)? || !identity::has_rights_of(caller, new)? {
        return Err(PgError::new(
            INSUFFICIENT_PRIVILEGE,
            "permission denied to reassign jobs and schedules",
        )
        .detail("Only roles with the rights of both owners may do that."));
    }
    bar::warn(new)?;
    let owners = [Some(old.datum()), Some(new.datum())];
    as_owner(&found, |spi| {
        let jobs = spi.run(&HAND_JOBS, &owners)?.count();
        let schedules = spi.run(&HAND_SCHEDULES, &owners)?.count();
        Ok(jobs.saturating_add(schedules) as i64)
    })
}
