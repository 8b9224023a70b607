//! What is asked of every job that comes in, by a function or by a row, and what a transaction
//! remembers of the answers.

use crate::logic::limits;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{INSUFFICIENT_PRIVILEGE, INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::identity;
use crate::pg::local::Local;

use super::handler::{Named, quoted};
use super::{after, allowed, any_extension, bar, column, extension, queues, served, wake};

/// The queue that this transaction found last.
static KNOWN_QUEUE: Local<Option<Vec<u8>>> = Local::new(None);
/// The last qualified handler that a plain INSERT named, its stored name, and in which statement.
pub(super) static KNOWN_HANDLER: Local<Option<KnownHandler>> = Local::new(None);

pub(super) struct KnownHandler {
    pub(super) asked: Vec<u8>,
    pub(super) stored: Named,
    pub(super) role: Oid,
    pub(super) statement: Micros,
}

pub(super) fn forget() {
    KNOWN_QUEUE.set(None);
    KNOWN_HANDLER.set(None);
    after::forget();
    served::forget();
    bar::forget_warning();
}

/// Refuses numbers, times and keys that no job can have.
pub(super) fn check_limits(
    max_attempts: Option<i32>,
    timeout: Option<Datum<'_>>,
    unique_key: Option<&[u8]>,
) -> Result<()> {
    if let Some(attempts) = max_attempts {
        allowed(limits::max_attempts(attempts))?;
    }
    if let Some(timeout) = timeout {
        let timeout = datum::interval_micros(timeout)?;
        allowed(limits::positive_interval("timeout", timeout))?;
    }
    if let Some(key) = unique_key {
        allowed(limits::unique_key(key))?;
    }
    Ok(())
}

/// Refuses a kind and a group key that are empty or too long.
pub(super) fn check_texts(kind: Option<&[u8]>, group_key: Option<&[u8]>) -> Result<()> {
    if let Some(kind) = kind {
        allowed(limits::short_text("kind", kind))?;
    }
    if let Some(key) = group_key {
        allowed(limits::short_text("group_key", key))?;
    }
    Ok(())
}

/// Refuses what no job can wait for; `get`: the value of a column.
pub(super) fn check_flow<'a>(get: impl Fn(i32) -> Option<Datum<'a>>) -> Result<()> {
    let after_failed = get(column::AFTER_FAILED).map(datum::as_text).transpose()?;
    if let Some(name) = after_failed
        && !matches!(name.as_slice(), b"cancel" | b"run")
    {
        let message = quoted("after_failed must not be ", &name, "");
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message).hint("It is cancel or run."));
    }
    Ok(())
}

/// An index expression or a maintenance command of a stranger's table is no place to enqueue from.
pub fn refuse_restricted() -> Result<()> {
    if identity::in_restricted_operation() {
        return Err(PgError::new(
            INSUFFICIENT_PRIVILEGE,
            "cannot enqueue a job within security-restricted operation",
        ));
    }
    Ok(())
}

/// The queue is there, and stays until this transaction ends.
pub fn check_queue(name: &[u8]) -> Result<()> {
    wake::on_any_end(forget)?;
    if KNOWN_QUEUE.with(|known| known.as_deref() == Some(name)) {
        return Ok(());
    }
    queues::hold(&any_extension()?, name, false)?;
    KNOWN_QUEUE.set(Some(name.to_vec()));
    Ok(())
}

/// Like [`check_queue`]; false if there is no such queue.
pub fn holds_queue(name: &[u8]) -> Result<bool> {
    let there = queues::find(&extension()?, datum::text_datum(name)?)?.is_some();
    if there {
        check_queue(name)?;
    }
    Ok(there)
}

/// Says once a transaction that nobody will run the jobs of this database.
pub fn warn_unserved() -> Result<()> {
    wake::on_any_end(forget)?;
    served::warn()
}
