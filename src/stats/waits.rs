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
use crate::queue::{after, any_extension, keys, rates, rerun};

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
    let is = |status: &[u8]| {
        let of_job = found.value(column::STATUS);
        of_job.is_some_and(|of_job| datum::text_is(of_job, status))
    };
    let (is_blocked, waits) = (is(b"blocked"), is(b"pending") || is(b"blocked"));
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
    match is_blocked {
        true => others(extension, &found),
        false => reasons(jobs, &queue, &found),
    }
}

/// The jobs whose end a blocked job waits for.
fn others(extension: &Extension, job: &Job) -> Result<Vec<String>> {
    let mut all = Vec::new();
    all.extend(rerun::waits_for(extension, job.id)?);
    if job.value(column::AFTER).is_some() {
        all.push(after::waits_for(extension, job.id)?);
    }
    Ok(all)
}

/// What holds a job back that could start else.
fn reasons(jobs: &Jobs, queue: &Queue, job: &Job) -> Result<Vec<String>> {
    let mut all = Vec::new();
    if queue.by_key.is_some() {
        all.extend(keys::waits(jobs.keys()?, queue, job)?);
    }
    let group_key = job.value(column::GROUP_KEY);
    let limited = rates::reason(queue, job.owner(), group_key)?;
    all.extend(limited.map(|reason| format!("its queue {}", reason.words())));
    Ok(all)
}
