//! Why no job of a role can run.

use crate::pg::catalog::{self, Barred};
use crate::pg::datum::Oid;
use crate::pg::error::{INSUFFICIENT_PRIVILEGE, INVALID_AUTHORIZATION, PgError, Result};
use crate::pg::identity;
use crate::settings;

/// Why no job of the role can run, if so.
pub fn bar(owner: Oid) -> Result<Option<PgError>> {
    let name = || identity::role_name(owner);
    let error = match catalog::barred(owner)? {
        Some(Barred::Gone) => PgError::new(
            INVALID_AUTHORIZATION,
            format!("owner of the job was dropped (role with OID {owner})"),
        ),
        Some(Barred::NoLogin) => PgError::new(
            INVALID_AUTHORIZATION,
            format!("role \"{}\" is not permitted to log in", name()),
        )
        .hint("Use ALTER ROLE ... LOGIN, then my_worker.retry()."),
        Some(Barred::NoConnect) => PgError::new(
            INSUFFICIENT_PRIVILEGE,
            format!(
                "role \"{}\" is not permitted to connect to the database",
                name()
            ),
        )
        .hint("Use GRANT CONNECT ON DATABASE, then my_worker.retry()."),
        None if !settings::SUPERUSER_JOBS.get() && identity::role_is_superuser(owner)? => {
            PgError::new(
                INSUFFICIENT_PRIVILEGE,
                format!("jobs of superuser \"{}\" are not allowed", name()),
            )
            .hint("See the setting my_worker.superuser_jobs.")
        }
        None => return Ok(None),
    };
    Ok(Some(error))
}
