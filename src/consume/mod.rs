//! Consumers: client sessions, in any language, that take jobs by SQL and do the work themselves.
//!
//! A *lease* is a consumer's right to one attempt of one job. A session's lease stands in shared memory
//! alone and writes nothing; one for a length of time stands in the job's row. Either is shown by its
//! number, which nobody can guess, to whatever ends it.
//!
//! `receive` finds jobs as a worker does, publishes a lease of each, and then looks at the row again
//! under a newer snapshot: whoever changes a job locks its row first and looks for its lease then, so one
//! of the two sees the other.

pub mod finish;
pub mod grants;
mod leased;
pub mod receive;
mod seek;

use crate::pg::catalog::Extension;
use crate::pg::datum::Oid;
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::xact;
use crate::queue::{extension, served};
use crate::shared::{self, SHARED, own};

/// The extension, for a call of a consumer. 25006 on a standby, and if the call `writes` in a transaction
/// that is read only; 55000 without preload, within a job, and where nobody serves jobs.
fn admitted(call: &'static std::ffi::CStr, writes: bool) -> Result<Extension> {
    xact::refuse_recovery(call)?;
    if writes {
        xact::refuse_read_only(call)?;
    }
    if own::slot().is_some() || own::performs() {
        return Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot call {} within a job", call.to_string_lossy()),
        )
        .hint("Enqueue a job that names a handler instead."));
    }
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    if let Some((reason, hint)) = served::unserved()? {
        return Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, reason).hint(hint));
    }
    extension()
}

/// Whether a role may deal with the jobs of an owner in a queue.
pub fn may_consume(extension: &Extension, caller: Oid, owner: Oid, queue: &[u8]) -> Result<bool> {
    Ok(crate::pg::identity::has_rights_of(caller, owner)?
        || grants::holds(extension, caller, queue)?)
}
