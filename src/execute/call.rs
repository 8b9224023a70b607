//! Calling a handler: user code, within its time limit.

use crate::pg::activity::{self, DIGITS, decimal};
use crate::pg::datum::{self, Datum, Micros, ToDatum};
use crate::pg::error::{PgError, QUERY_CANCELED, Result};
use crate::pg::fmgr::Function;
use crate::pg::session;
use crate::queue::claim::Job;
use crate::queue::handler::Shape;
use crate::shared::SlotId;
use crate::watchdog;

/// Has `pg_stat_activity` show the handler and its jobs.
pub(super) fn show(handler: &[u8], jobs: &[&Job]) {
    let (mut count, mut id) = ([0; DIGITS], [0; DIGITS]);
    let Some(first) = jobs.first() else {
        return activity::running(handler);
    };
    let id = decimal(first.id, &mut id);
    match i64::try_from(jobs.len()) {
        Ok(1) => activity::running_all(&[handler, b" (job ", id, b")"]),
        several => {
            let count = decimal(several.unwrap_or(i64::MAX), &mut count);
            activity::running_all(&[handler, b" (", count, b" jobs from ", id, b")"]);
        }
    }
}

/// Runs user code: cancels reach it, and so does its time limit in milliseconds (0: none). The
/// launcher sees to it that it heeds them.
pub(super) fn limited<T>(
    slot: SlotId,
    timeout_ms: i32,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if timeout_ms > 0 {
        session::start_statement_timeout(timeout_ms)?;
    }
    watchdog::begin(slot, timeout_ms);
    session::accept_cancels();
    let result = body();
    session::hold_cancels();
    watchdog::end(slot);
    if timeout_ms > 0 {
        session::stop_statement_timeout()?;
    }
    result
}

/// A handler that caught the cancel of its time limit and went on has failed all the same.
pub(super) fn refuse_late(took: Micros, timeout_ms: i32) -> Result<()> {
    if timeout_ms > 0 && took > Micros::from(timeout_ms) * 1000 {
        let message = "canceling statement due to statement timeout";
        return Err(PgError::new(QUERY_CANCELED, message));
    }
    Ok(())
}

/// Calls the handler as its signature wants it; its result as `jsonb`.
pub fn call(function: Function, shape: Shape, jobs: &[&Job]) -> Result<Option<Datum<'static>>> {
    let Some(first) = jobs.first() else {
        return Ok(None);
    };
    let value = match shape {
        Shape::IdAndPayload => function.call([first.id.datum(), payload(first)?]),
        Shape::Payload => function.call([payload(first)?]),
        Shape::Nothing => function.call([]),
        Shape::Batch => {
            let ids: Vec<Datum<'_>> = jobs.iter().map(|job| job.id.datum()).collect();
            let payloads = jobs.iter().map(|job| payload(job));
            let payloads = payloads.collect::<Result<Vec<Datum<'_>>>>()?;
            function.call([
                datum::array_datum(&ids, datum::types::INT8)?,
                datum::array_datum(&payloads, datum::types::JSONB)?,
            ])
        }
    }?;
    value.map(|value| function.to_jsonb(value)).transpose()
}

/// A job without one is a defect, which is told before it is called.
fn payload(job: &Job) -> Result<Datum<'static>> {
    job.payload
        .ok_or_else(|| PgError::internal("a job without payload was to be called"))
}
