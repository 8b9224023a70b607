//! `cancel()`: ends a job that waits, or has its worker end it.

use crate::logic::columns::JOBS;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::datum::Micros;
use crate::pg::error::{PgError, QUERY_CANCELED, Result};
use crate::pg::holder::Holder;
use crate::pg::table::{Compare, Key, Lock, Table};
use crate::pg::{clock, identity, latch, marks, wait_event, xact};
use crate::shared::{Current, Phase, SHARED, SLOTS, Slot, own};

use super::end::{self, How};
use super::single::{self, Standing, still_there};
use super::{extension, leases, permit};

/// `cancel()`: true if the job was waiting, or runs and is being cancelled. A job of another role is
/// answered for as one that is not there.
pub fn cancel(job: i64) -> Result<bool> {
    let extension = extension()?;
    let Some(found) = single::find(&extension, job)? else {
        return Ok(false);
    };
    if !may_cancel(&found)? {
        return Ok(false);
    }
    if own::performs() && own::job() == Some(job) {
        // Nobody but this call can end it.
        let message = "canceling job due to user request";
        return Err(PgError::new(QUERY_CANCELED, message));
    }
    let mut pause_ms = 1;
    loop {
        if cancel_running(job) {
            return Ok(true);
        }
        // It may have become another one since it was found.
        if let Some(found) = single::find_locked(&extension, job)? {
            return Ok(may_cancel(&found)? && end_as_cancelled(&extension, &found)?);
        }
        // Locked, yet not running: a worker is taking it or settling it, it is gone, or another
        // transaction has cancelled it and may stay open for long.
        if !still_there(&extension, job)? || is_settling(job) {
            return Ok(false);
        }
        match holder(&extension, job)? {
            // It may wait for this one, and the server has to know. The row itself is not waited for:
            // a worker that is faster has it until the job ends.
            Some(holder) if !may_run(holder.pid, job) => xact::wait_for_end(holder.transaction)?,
            _ => {
                latch::wait(Some(pause_ms), wait_event::job_wait())?;
                pause_ms = (pause_ms * 2).min(100);
            }
        }
    }
}

fn may_cancel(job: &Standing) -> Result<bool> {
    Ok(!job.has_failed && identity::has_rights_of(identity::current_role(), job.owner)?)
}

/// Whose transaction keeps the job's row, as of this moment.
fn holder(extension: &Extension, job: i64) -> Result<Option<Holder>> {
    xact::with_latest_snapshot(|| {
        let table = Table::open(extension.jobs, extension.jobs_key, Lock::Read, &JOBS)?;
        let row = table.row()?;
        let found = table.first(&[Key::int8(1, Compare::Equal, job)], &row)?;
        let holder = if found { table.holder(row.id())? } else { None };
        row.end()?;
        table.close()?;
        Ok(holder)
    })
}

/// Cancels a job that no worker has; false if it is gone.
fn end_as_cancelled(extension: &Extension, job: &Standing) -> Result<bool> {
    let Some(started) = consumer_since(extension, job)? else {
        let written = end::write(extension, &job.end_of(false), How::CancelledWaiting)?;
        return Ok(written.tell_at_commit()?.is_some());
    };
    let mut of = job.end_of(true);
    of.attempt.started = started;
    let written = end::write(extension, &of, How::Cancelled)?;
    Ok(written.tell_at_commit()?.is_some())
}

/// Since when a consumer has a job whose row is locked; the lease ends when this transaction commits.
fn consumer_since(extension: &Extension, job: &Standing) -> Result<Option<Micros>> {
    match &job.lease {
        Some(lease) => {
            permit::timed_lease_ends(job.queue.as_ref())?;
            Ok(Some(lease.started))
        }
        None => leases::ended_with_job(extension.jobs, job.job),
    }
}

/// Cancels a job of a schedule that waits for an earlier one.
pub fn cancel_held(extension: &Extension, job: i64) -> Result<()> {
    match single::find(extension, job)? {
        Some(found) => end_as_cancelled(extension, &found).map(|_| ()),
        None => Ok(()),
    }
}

/// Whether that process is one of ours which may be about to run the job that it holds, or settles
/// it: it shows no other job, as it would long after.
fn may_run(pid: i32, job: i64) -> bool {
    SHARED
        .read(|state| {
            let mut slots = state.used_slots().iter();
            let ours = slots.find(|slot| slot.phase != Phase::Free && slot.pid == pid);
            let ours = ours.filter(|_| pid != 0)?;
            Some(ours.current().job().is_none_or(|current| current == job))
        })
        .flatten()
        .unwrap_or(false)
}

/// Signals the worker that runs the job. Under the lock, so that the worker, which takes it too
/// before it goes on, never lets the signal hit its next job.
/// What it was told outlives a crash of the server, and the launcher sees to it that the job heeds it.
fn cancel_running(job: i64) -> bool {
    let database = bgworker::my_database();
    // Without the file a crash forgets it.
    let _ = marks::open(SLOTS);
    let launcher = SHARED
        .write(|state| {
            let launcher = state.launcher_procno;
            let ours = |slot: &Slot| {
                let current = slot.current().job();
                slot.phase != Phase::Free && slot.database == database && current == Some(job)
            };
            let index = state.used_slots().iter().position(ours)?;
            let slot = state.slots.get(index)?;
            if slot.advance(Current::Running(job), Current::Cancelling(job)) {
                marks::note_cancel(index, job);
                bgworker::signal(slot.pid, libc::SIGINT);
                slot.cancel_now(clock::now());
            }
            (slot.current() == Current::Cancelling(job)).then_some(launcher)
        })
        .flatten();
    launcher.into_iter().for_each(latch::wake);
    launcher.is_some()
}

/// Whether the job's work is done and only its transaction is not.
fn is_settling(job: i64) -> bool {
    let database = bgworker::my_database();
    SHARED
        .read(|state| state.slot_of_job(database, job).map(|slot| slot.current()))
        .flatten()
        .is_some_and(|current| current == Current::Sealed(job))
}
