//! All access to `my_worker._jobs`, `my_worker.queues` and `my_worker.history`.
//!
//! Two ways lead to the tables. What a worker does for every job goes by OID (`pg::table`): no
//! plan, no name, no right is looked up, so nothing that a job did to its session matters. What is
//! rare goes by SQL, as the extension's owner with a pinned search path (`pg::identity`).

pub mod admit;
pub mod after;
pub mod arrivals;
mod aside;
pub mod bar;
pub mod bound;
pub mod cancel;
pub mod claim;
mod consumed;
pub mod define;
mod dependents;
pub mod direct;
pub mod due;
pub mod end;
mod ended;
pub mod enqueue;
pub mod expiry;
pub mod fate;
pub mod given;
pub mod handler;
pub mod home;
pub mod ids;
pub mod incoming;
pub mod job;
pub mod key_look;
pub mod key_tables;
pub mod keys;
mod lease_change;
pub mod lease_row;
pub mod leases;
mod letters;
pub mod lists;
pub mod live;
pub mod messages;
mod new_job;
pub mod offer;
pub mod permit;
mod promise;
pub mod prune;
pub mod purge;
pub mod queues;
pub mod rates;
pub mod record;
pub mod redrive;
pub mod release;
pub mod report;
pub mod rerun;
pub mod reruns;
pub mod retry;
pub mod rights;
mod rules;
pub mod scoped;
pub mod served;
mod settle;
pub mod single;
pub mod soon;
pub mod stirred;
mod target;
pub mod told;
mod unique;
pub mod wait;
pub mod wake;
mod walk;

/// The places of the columns of `_jobs`.
pub use crate::logic::columns::job as column;
use crate::logic::limits::LimitError;
use crate::pg::catalog::{self, Extension, Fit};
use crate::pg::datum::{self, Datum};
use crate::pg::error::{
    INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result,
};
use crate::pg::spi::{self, Spi};
use crate::pg::{guc, identity, table, xact};

/// Where the extension is; an error if this database does not have it (any more), or if this library
/// cannot work with it.
pub fn extension() -> Result<Extension> {
    let extension = catalog::extension()?.ok_or_else(not_installed)?;
    match extension.fit {
        Fit::Good => Ok(extension),
        Fit::OtherVersion => Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the library and the extension \"my_worker\" have different versions",
        )
        .hint("Use ALTER EXTENSION my_worker UPDATE, or install the library that fits.")),
        Fit::Incomplete => Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "a table or an index of extension \"my_worker\" is missing or invalid",
        )
        .hint("See my_worker.health().")),
        Fit::Altered(altered) => Err(altered.error()),
    }
}

/// The same whatever its version: what is enqueued waits for the update.
pub fn any_extension() -> Result<Extension> {
    catalog::extension()?.ok_or_else(not_installed)
}

/// Where it is, and keeps it: for transactions of our processes, which run jobs in them.
pub fn hold_extension() -> Result<Extension> {
    match catalog::hold_extension()? {
        Some(extension) => Ok(extension),
        // It is there, but this library cannot work with it.
        None => Err(extension().err().unwrap_or_else(not_installed)),
    }
}

/// The error for a database without the extension.
pub fn not_installed() -> PgError {
    PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "extension \"my_worker\" is not installed in this database",
    )
    .hint("Use CREATE EXTENSION my_worker.")
}

/// What `logic::limits` refuses, as the error that SQL sees.
pub fn allowed(checked: std::result::Result<(), LimitError>) -> Result<()> {
    checked.map_err(|refused| {
        let error = PgError::new(INVALID_PARAMETER_VALUE, refused.to_string());
        match refused.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

/// The longest error text that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 8192;

/// A text cut to what is kept, between characters.
fn capped(text: &[u8]) -> Result<Datum<'static>> {
    let length = datum::clip_length(text, MAX_ERROR_BYTES);
    datum::text_datum(text.get(..length).unwrap_or_default())
}

/// Runs statements of ours as the extension's owner.
pub fn as_owner<T>(extension: &Extension, body: impl FnOnce(&Spi) -> Result<T>) -> Result<T> {
    identity::as_owner(extension.owner, connected(extension, body))
}

/// The same for those that add to the history, and fires what its owner's triggers put off.
pub fn into_history<T>(extension: &Extension, body: impl FnOnce(&Spi) -> Result<T>) -> Result<T> {
    if !table::has_deferred_triggers(extension.history)? {
        return as_owner(extension, body);
    }
    let added = identity::as_owner_deferring(extension.owner, connected(extension, body))?;
    identity::as_owner(extension.owner, xact::fire_deferred)?;
    Ok(added)
}

fn connected<'a, T: 'a>(
    extension: &'a Extension,
    body: impl FnOnce(&Spi) -> Result<T> + 'a,
) -> impl FnOnce() -> Result<T> + 'a {
    move || {
        // Our statements look rows up by key; a plan made while a table was tiny must not scan it
        // for ever.
        guc::set_for_level(c"enable_seqscan", c"off")?;
        // A scan that cannot be avoided then counts as ruinous, and its plan would be compiled.
        guc::set_for_level(c"jit", c"off")?;
        spi::connect(extension, body)
    }
}

/// A superuser takes a dump back.
pub fn is_restore() -> Result<bool> {
    Ok(guc::is_restoring()? && identity::is_superuser()?)
}
