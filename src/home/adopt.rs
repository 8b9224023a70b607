//! `adopt()`: this database becomes the home of all that is in it.
//!
//! It locks the tables against whoever enqueues, so that nothing comes between its look and its COMMIT. It
//! refuses where jobs could only fail: a queue or an owner is missing, as in the middle of a restore. It
//! sets sequences right.

use crate::pg::catalog::Extension;
use crate::pg::datum::{ToDatum, types};
use crate::pg::error::{INSUFFICIENT_PRIVILEGE, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::log::{self, Level};
use crate::pg::spi::{Spi, Statement};
use crate::queue::{as_owner, extension, ids, rights, wake};

use super::{LOCK, LOCK_ALONE, draw, take_all};

/// What jobs and schedules of other homes need that is not there: a list of names each.
static MISSING: Statement = Statement::new(
    "WITH needed AS (SELECT queue, owner FROM my_worker._jobs WHERE home <> $1 AND status <> 'failed' \
     UNION SELECT queue, owner FROM my_worker._schedules WHERE home <> $1 AND active), \
     queues AS (SELECT DISTINCT n.queue AS name FROM needed AS n \
     WHERE NOT EXISTS (SELECT FROM my_worker.queues AS q WHERE q.name = n.queue)), \
     owners AS (SELECT DISTINCT n.owner::pg_catalog.oid AS id, r.rolname AS name, r.rolcanlogin AS may \
     FROM needed AS n LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = n.owner::pg_catalog.oid) \
     SELECT (SELECT pg_catalog.string_agg('\"' || name || '\"', ', ' ORDER BY name) FROM queues), \
     (SELECT pg_catalog.string_agg(id::pg_catalog.text, ', ' ORDER BY id) FROM owners WHERE name IS NULL), \
     (SELECT pg_catalog.string_agg('\"' || name || '\"', ', ' ORDER BY name) FROM owners WHERE NOT may)",
    &[types::INT8],
);

/// Where jobs that come after others were brought without what they wait for, as by logical replication of a table.
static MEND: Statement = Statement::new(
    "INSERT INTO my_worker._dependencies (job, after) SELECT DISTINCT j.id, a.id FROM my_worker._jobs AS j \
     CROSS JOIN LATERAL pg_catalog.unnest(j.after) AS a (id) WHERE j.status = 'blocked' AND a.id IS NOT NULL \
     AND (SELECT d.job FROM my_worker._dependencies AS d WHERE d.job = j.id LIMIT 1) IS NULL",
    &[],
);

/// A dump does not bring when jobs expire.
static MEND_EXPIRING: Statement = Statement::new(
    "INSERT INTO my_worker._expiring (expires_at, job) SELECT j.expires_at, j.id FROM my_worker._jobs AS j \
     WHERE j.expires_at < 'infinity' ON CONFLICT DO NOTHING",
    &[],
);

/// Makes this database the home of its jobs and schedules, and says how many came from elsewhere.
/// `force`: also where some of them can only fail.
pub fn adopt(force: bool) -> Result<String> {
    let found = extension()?;
    if !rights::is_owner(&found)? {
        let message = "must be owner of extension my_worker";
        return Err(PgError::new(INSUFFICIENT_PRIVILEGE, message));
    }
    let lock = match found.birth.moved {
        None => &LOCK,
        Some(_) => &LOCK_ALONE,
    };
    as_owner(&found, |spi| spi.run(lock, &[]).map(|_| ()))?;
    // Somebody may have been faster.
    let found = extension()?;
    let taken = as_owner(&found, |spi| {
        check(spi, &found, force)?;
        let home = match found.birth.moved {
            None => found.birth.home,
            Some(_) => draw(spi)?,
        };
        let taken = take_all(spi, home)?;
        spi.run(&MEND, &[])?;
        spi.run(&MEND_EXPIRING, &[])?;
        Ok(taken)
    })?;
    ids::mend(&found)?;
    wake::look_at_commit()?;
    let (jobs, schedules) = (taken.jobs, taken.schedules);
    Ok(format!(
        "this database is the home of {jobs} more jobs and {schedules} more schedules"
    ))
}

/// Looks whether what came can run.
fn check(spi: &Spi, extension: &Extension, force: bool) -> Result<()> {
    // Where the files were copied, no row has this number.
    let home = match extension.birth.moved {
        None => extension.birth.home,
        Some(_) => -2,
    };
    let rows = spi.run(&MISSING, &[Some(home.datum())])?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    if let Some(queues) = row.text(1)? {
        let hint = "Create them, or wait until the restore has ended.";
        refuse(force, b"queues do not exist: ", &queues, hint)?;
    }
    if let Some(owners) = row.text(2)? {
        let hint = "Hand over what they own with my_worker.reassign(), or delete it.";
        refuse(
            force,
            b"owners do not exist, by their OIDs: ",
            &owners,
            hint,
        )?;
    }
    if let Some(roles) = row.text(3)? {
        let message = [
            b"jobs of roles that may not log in will fail: ",
            roles.as_slice(),
        ]
        .concat();
        let hint = b"Use ALTER ROLE ... LOGIN, or hand them over with my_worker.reassign().";
        log::report_with(
            Level::Warning,
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            &message,
            None,
            Some(hint),
        )?;
    }
    Ok(())
}

/// An error, or with `force` a warning, about what jobs need.
fn refuse(force: bool, what: &[u8], names: &[u8], hint: &'static str) -> Result<()> {
    let detail = [b"Some of its ", what, names].concat();
    let code = OBJECT_NOT_IN_PREREQUISITE_STATE;
    if force {
        let message = "jobs that came with this database will fail";
        let (message, hint) = (message.as_bytes(), hint.as_bytes());
        return log::report_with(Level::Warning, code, message, Some(&detail), Some(hint));
    }
    let message = "cannot adopt jobs of which some can only fail";
    Err(PgError::new(code, message).detail(detail).hint(hint))
}
