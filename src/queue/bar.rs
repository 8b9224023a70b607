//! Why no job of a role can run, and a warning for whoever enqueues one all the same.

use crate::pg::catalog::{self, Barred};
use crate::pg::datum::Oid;
use crate::pg::error::{INSUFFICIENT_PRIVILEGE, INVALID_AUTHORIZATION, PgError, Result};
use crate::pg::identity;
use crate::pg::local::Local;
use crate::pg::log::{self, Level};
use crate::settings;

/// The role that this transaction was warned of, or need not be.
static WARNED: Local<Oid> = Local::new(0);

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
            format!("role \"{}\" is not permitted to log in", name()?),
        )
        .hint("Use ALTER ROLE ... LOGIN, then my_worker.retry()."),
        Some(Barred::NoConnect) => PgError::new(
            INSUFFICIENT_PRIVILEGE,
            format!(
                "role \"{}\" is not permitted to connect to the database",
                name()?
            ),
        )
        .hint("Use GRANT CONNECT ON DATABASE, then my_worker.retry()."),
        None if !settings::SUPERUSER_JOBS.get() && identity::role_is_superuser(owner)? => {
            PgError::new(
                INSUFFICIENT_PRIVILEGE,
                format!("jobs of superuser \"{}\" are not allowed", name()?),
            )
            .hint("See the setting my_worker.superuser_jobs.")
        }
        None => return Ok(None),
    };
    Ok(Some(error))
}

/// A role whose jobs run, while this process hears of no change of rights.
static CLEAR: Local<Option<(Oid, u64, bool)>> = Local::new(None);

/// At the end of a transaction: the next one is warned again.
pub fn forget_warning() {
    WARNED.set(0);
}

/// Says once a transaction that the jobs of the role, which are being enqueued, will fail.
pub fn warn(owner: Oid) -> Result<()> {
    if WARNED.replace(owner) == owner {
        return Ok(());
    }
    let standing = Some((
        owner,
        catalog::name_changes(),
        settings::SUPERUSER_JOBS.get(),
    ));
    if CLEAR.get() == standing {
        return Ok(());
    }
    let Some(reason) = bar(owner)? else {
        CLEAR.set(standing);
        return Ok(());
    };
    let name = identity::role_name(owner)?;
    let message = [
        format!("jobs of role \"{name}\" will not run: ").as_bytes(),
        reason.message.as_slice(),
    ]
    .concat();
    let hint = match reason.sqlstate {
        INVALID_AUTHORIZATION => "Use ALTER ROLE ... LOGIN, or enqueue as another role.",
        _ if settings::SUPERUSER_JOBS.get() => {
            "Use GRANT CONNECT ON DATABASE, or enqueue as another role."
        }
        _ => "See the setting my_worker.superuser_jobs.",
    };
    log::report_with(
        Level::Warning,
        reason.sqlstate,
        &message,
        None,
        Some(hint.as_bytes()),
    )
}
