//! `perform()`: runs a waiting job of the caller's at once, in the caller's session and transaction.
//!
//! The job is taken by its row lock, as a worker takes it; its handler is called in a subtransaction; its end is
//! written by the door for ends. All of that is the caller's transaction: its COMMIT makes it one fact, its
//! ROLLBACK leaves the job waiting. An error of the handler is the caller's, and charges nothing.
//!
//! The handler runs where the caller is, with the settings of its session. So the caller has to be the job's
//! owner, and nothing runs within a function that lends its owner's rights.

use std::cell::Cell;

use crate::dynamic;
use crate::execute::call::call;
use crate::execute::snooze;
use crate::logic::consumers::lease::JobKey;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros};
use crate::pg::error::{
    CONFIGURATION_LIMIT_EXCEEDED, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, OBJECT_IN_USE,
    OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result, UNDEFINED_OBJECT,
};
use crate::pg::fault::fault;
use crate::pg::fmgr::Function;
use crate::pg::{bgworker, clock, identity, xact};
use crate::queue::claim::{Job, Jobs};
use crate::queue::end::{self, Attempt, Completion, EndOf, Execution, How};
use crate::queue::handler::{self, Shape};
use crate::queue::queues::Queue;
use crate::queue::rates::{self, Start};
use crate::queue::record;
use crate::queue::report::Runs;
use crate::queue::single::{self, Standing, Taken};
use crate::queue::{column, extension, home, permit, wake};
use crate::shared::own::{self, Performing};
use crate::shared::{Go, Phase, SHARED, SlotId, consumers};

/// The `run_at` of a job that waits for another one.
const HELD: Micros = Micros::MAX;

/// Runs the job and answers what its handler returned.
pub fn perform(id: i64) -> Result<Option<Datum<'static>>> {
    let extension = admitted()?;
    check(id, &find(&extension, id)?, &extension)?;
    let (job, queue) = take(&extension, id)?;
    permit(&extension, id, &queue)?;
    let name = job.handler.as_ref().or(queue.handler.as_ref());
    let name = name.ok_or_else(|| PgError::internal("a job without a handler was taken"))?;
    let (function, shape) = find_function(name, &job, &queue)?;
    let started = start(id, &job, &queue)?;
    snooze::take();
    let value = {
        let _performing = Performing::begin(id);
        xact::subtransaction(|| call(function, shape, &[&job]))?
    };
    fault!(Performed);
    let snoozed = snooze::take();
    let of = EndOf {
        queue: Some(&queue),
        queue_name: &queue.name,
        owner: job.owner(),
        runs: Runs::Handler(name),
        attempt: Attempt {
            job: id,
            attempts: job.attempts,
            ended: job.attempts.saturating_add(1),
            started,
        },
        max_attempts: job.max_attempts.unwrap_or(queue.max_attempts),
        execution: Some(Execution {
            due: job.due,
            finished: clock::now(),
        }),
    };
    match snoozed {
        Some(delay) => {
            end::write(&extension, &of, How::Snoozed(delay))?.tell_at_commit()?;
        }
        None => complete(&extension, &job, &of, value)?,
    }
    Ok(value)
}

/// 25006 on a standby and in a transaction that is read only; 42501 where the role in force is not the
/// session's to use; 55000 within a job, and in a copy.
fn admitted() -> Result<Extension> {
    xact::refuse_recovery(c"my_worker.perform()")?;
    xact::refuse_read_only(c"my_worker.perform()")?;
    if identity::in_restricted_operation() || identity::in_changed_role() {
        return Err(PgError::new(
            INSUFFICIENT_PRIVILEGE,
            "cannot perform a job within a function that runs with its owner's rights",
        )
        .hint("Enqueue the job there, and let a worker run it."));
    }
    if own::slot().is_some() || own::performs() {
        return Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "cannot perform a job within a job",
        )
        .hint("Call its handler as a function, or let a worker run it."));
    }
    home::refuse_copy()?;
    extension()
}

/// The job as its row says it. Of a role whose rights the caller lacks it is answered for as one that is not there.
fn find(extension: &Extension, id: i64) -> Result<Standing> {
    let caller = identity::current_role();
    let found = xact::with_next_snapshot(|| single::find(extension, id))?;
    let found = match found {
        Some(found) if identity::has_rights_of(caller, found.owner)? => found,
        _ => return Err(gone(id)),
    };
    if found.owner == caller {
        return Ok(found);
    }
    let owner = identity::role_name(found.owner)?;
    let message = format!("permission denied to perform a job of role \"{owner}\"");
    Err(PgError::new(INSUFFICIENT_PRIVILEGE, message)
        .hint("A job runs as its owner: use SET ROLE, or let a worker run it."))
}

fn gone(id: i64) -> PgError {
    PgError::new(UNDEFINED_OBJECT, format!("job {id} does not exist"))
        .hint("Only jobs that wait in my_queue can be performed.")
}

fn in_use(id: i64) -> PgError {
    PgError::new(OBJECT_IN_USE, format!("job {id} is already running"))
        .hint("Watch it in my_worker.jobs.")
}

/// Refuses what is no waiting call of a handler.
fn check(id: i64, found: &Standing, extension: &Extension) -> Result<()> {
    let key = JobKey {
        table: extension.jobs,
        job: id,
    };
    if found.is_command() {
        return Err(
            PgError::new(FEATURE_NOT_SUPPORTED, format!("job {id} is a command"))
                .detail("A command runs at top level, outside of any transaction.")
                .hint("Use launch_dynamic_worker(), or run the command yourself."),
        );
    }
    if found.lease.is_some() || consumers::of_job(key.table, key.job).is_some() {
        let message = format!("job {id} is held by a consumer");
        return Err(PgError::new(OBJECT_IN_USE, message)
            .hint("Wait until its consumer has ended it, or cancel it."));
    }
    let (message, hint) = if found.has_failed {
        (
            format!("job {id} has failed"),
            "Send it back to the queue with my_worker.retry().",
        )
    } else if found.is_blocked {
        (
            format!("job {id} waits for other jobs"),
            "It starts when they have ended; see my_worker.why().",
        )
    } else if found.expires_at.is_some_and(|at| at <= clock::now()) {
        (
            format!("job {id} has expired"),
            "It was not started before its expires_at, and is about to be cancelled.",
        )
    } else if found.is_held() {
        (
            format!("job {id} has no handler, nor has its queue"),
            "It waits for a consumer: take it with my_worker.receive().",
        )
    } else {
        return Ok(());
    };
    Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint(hint))
}

/// Locks the job, without waiting for whoever has it, and reads it.
fn take(extension: &Extension, id: i64) -> Result<(Job, Queue)> {
    let taken = xact::with_next_snapshot(|| single::take(extension, id))?;
    let queue = match taken {
        Taken::Live(found) => found.queue.ok_or_else(|| gone(id))?,
        Taken::Locked => return Err(in_use(id)),
        Taken::Gone => return Err(gone(id)),
    };
    let jobs = Jobs::open_by_id(extension)?;
    let job = xact::with_latest_snapshot(|| jobs.by_id(id))?;
    jobs.close()?;
    let job = job.ok_or_else(|| gone(id))?;
    if let Some(defect) = job.defect() {
        return Err(defect);
    }
    if job.run_at() == HELD {
        let message = format!("job {id} waits for another job, or for ever");
        return Err(
            PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint("See my_worker.why().")
        );
    }
    Ok((job, queue))
}

/// Takes one of the permits of a queue that has few, and the job's key, until the transaction ends: a place beside
/// the pool shows both to the workers. One place is enough for all jobs of the queue that the transaction performs.
fn permit(extension: &Extension, id: i64, queue: &Queue) -> Result<()> {
    let is_bound = queue.concurrency.is_some() || queue.by_key.is_some();
    if !is_bound || !SHARED.is_attached() {
        return Ok(());
    }
    let slot = match wake::permit_of(queue.id) {
        Some(slot) => slot,
        None => enter(extension, id, queue)?,
    };
    let jobs = Jobs::open(extension)?;
    // The caller's statement may have enqueued the job.
    let found = xact::with_latest_snapshot(|| jobs.find(extension, id))?;
    jobs.close()?;
    let Some((candidate, queue, _)) = found else {
        return Err(gone(id));
    };
    if dynamic::has_key(slot, extension, &queue, &candidate)? {
        return Ok(());
    }
    let message = format!("job {id} waits for others of its key");
    Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint("See my_worker.why()."))
}

/// Takes a place beside the pool, which works on that queue.
fn enter(extension: &Extension, id: i64, queue: &Queue) -> Result<SlotId> {
    let slot = dynamic::take_slot(id, identity::current_role())?;
    wake::permit_until_end(slot, queue.id)?;
    let pid = bgworker::my_pid();
    SHARED.write(|state| {
        let taken = state.slot(slot);
        taken.map(|slot| (slot.phase, slot.pid, slot.go) = (Phase::Running, pid, Go::No))
    });
    match permit::enter(extension, queue, slot)? {
        Some(_) => Ok(slot),
        None => {
            let message = handler::quoted("concurrency of queue ", &queue.name, " is used up");
            Err(PgError::new(CONFIGURATION_LIMIT_EXCEEDED, message)
                .hint("Wait until one of its jobs has ended."))
        }
    }
}

/// Starts the job, if its queue's rate allows that now.
fn start(id: i64, job: &Job, queue: &Queue) -> Result<Micros> {
    let Some(rate) = queue.rate.filter(|_| SHARED.is_attached()) else {
        return Ok(clock::now());
    };
    match rates::start(queue, &rate, job.owner(), job.value(column::GROUP_KEY))? {
        Start::At(time) => Ok(time),
        Start::Not(_) => {
            let message = format!("the rate of its queue does not let job {id} start yet");
            Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                .hint("See my_worker.why() for when it may."))
        }
    }
}

/// The function that the job calls, as a worker finds it, with the caller's right to execute it.
fn find_function(name: &[u8], job: &Job, queue: &Queue) -> Result<(Function, Shape)> {
    let role = identity::current_role();
    let handler = handler::resolve_stored(name)?;
    handler::check_rights(&handler, role)?;
    let recorded = match job.handler {
        Some(_) => job.handler_owner,
        None => queue.handler_owner,
    };
    handler::check_author(&handler, recorded, role)?;
    let function = handler::callable(&handler)?;
    Ok((function.within_query(), handler.shape))
}

/// Writes the end, which the COMMIT tells.
fn complete(
    extension: &Extension,
    job: &Job,
    of: &EndOf<'_>,
    result: Option<Datum<'_>>,
) -> Result<()> {
    let keeps = of.queue.is_some_and(|queue| queue.retention > 0);
    let history = match keeps {
        true => Some(record::open_history(extension)?),
        false => None,
    };
    // By its id: the handler may have changed its own row.
    end::forget(extension, job.id)?;
    let jobs = Jobs::open_by_id(extension)?;
    let completion = Completion {
        job,
        jobs: &jobs,
        history: history.as_ref(),
        status: datum::text_datum(b"completed")?,
        result,
        is_away: true,
        recorded: &Cell::new(false),
    };
    let written = end::write(extension, of, How::Completed(completion))?;
    written.tell_at_commit()?;
    jobs.close()?;
    history.map_or(Ok(()), record::History::end)
}
