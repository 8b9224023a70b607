//! What jobs wait for beside their time and a worker: the column `waits_for` of the view `jobs`, and `why()`.
//!
//! Each reason has a function of its own, in the room that knows it.

use crate::consume;
use crate::logic::columns::job as column;
use crate::pg::catalog::Extension;
use crate::pg::datum;
use crate::pg::error::Result;
use crate::pg::{identity, xact};
use crate::queue::claim::{Job, Jobs};
use crate::queue::queues::{self, Queue};
use crate::queue::{any_extension, keys};

/// The reasons of a job, for a caller who may know; `None`: it waits for nothing, or has ended.
pub fn waits_for(job: i64) -> Result<Option<Vec<u8>>> {
    let extension = any_extension()?;
    if !extension.is_current() {
        return Ok(None);
    }
    let jobs = Jobs::open_by_id_to_read(&extension)?;
    let reasons = xact::with_latest_snapshot(|| of_job(&extension, &jobs, job))?;
    jobs.close()?;
    let reasons = reasons.join(", ").into_bytes();
    Ok((!reasons.is_empty()).then_some(reasons))
}

fn of_job(extension: &Extension, jobs: &Jobs, job: i64) -> Result<Vec<String>> {
    let Some(found) = jobs.by_id(job)? else {
        return Ok(Vec::new());
    };
    let waits = found
        .value(column::STATUS)
        .is_some_and(|status| datum::text_is(status, b"pending"));
    let Some(name) = found.value(column::QUEUE).filter(|_| waits) else {
        return Ok(Vec::new());
    };
    let name = datum::as_text(name)?;
    let (caller, owner) = (identity::current_role(), found.owner());
    if !consume::may_consume(extension, caller, owner, &name)? {
        return Ok(Vec::new());
    }
    let Ok(queue) = queues::kept(extension, &name) else {
        return Ok(Vec::new());
    };
    reasons(jobs, &queue, &found)
}

/// All of them.
fn reasons(jobs: &Jobs, queue: &Queue, job: &Job) -> Result<Vec<String>> {
    let mut all = Vec::new();
    if queue.by_key.is_some() {
        all.extend(keys::waits(jobs.keys()?, queue, job)?);
    }
    Ok(all)
}
