//! The SQL functions: arguments in, one call, result out. `sql/parts` declares them.

use crate::dynamic;
use crate::execute::snooze;
use crate::pg::datum::{self, Datum, ToDatum, types};
use crate::pg::error::{INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, PgError, Result};
use crate::pg::fmgr::Call;
use crate::pg::{guard, identity};
use crate::queue::enqueue::{self, NewJob, UniqueMode};
use crate::queue::{self, wait};
use crate::queue::{cancel, column, handler, incoming, queues, retry, rights, soon};
use crate::shared::{self, SHARED, own};
use crate::sys;
use crate::{perform, progress, stats};

/// Exports a function of the version-1 calling convention: the call itself and its record.
macro_rules! sql_function {
    ($name:ident, $record:ident, $body:path) => {
        /// The record of a version-1 function.
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $record() -> *const sys::Pg_finfo_record {
            static RECORD: sys::Pg_finfo_record = sys::Pg_finfo_record { api_version: 1 };
            &raw const RECORD
        }

        /// The function, as the server calls it.
        ///
        /// # Safety
        /// Called by the function manager alone.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(info: sys::FunctionCallInfo) -> sys::Datum {
            let outcome = guard::enter(0, || {
                // SAFETY: the server passes the running call.
                let call = unsafe { Call::new(info) };
                $body(&call).map(|value| call.give(value))
            });
            // SAFETY: this frame owns nothing.
            unsafe { guard::raise(outcome) }
        }
    };
}

pub(super) use sql_function;

sql_function!(mw_caller, pg_finfo_mw_caller, caller);
sql_function!(mw_before_write, pg_finfo_mw_before_write, before_write);
sql_function!(mw_before_delete, pg_finfo_mw_before_delete, before_delete);
sql_function!(
    mw_queues_changed,
    pg_finfo_mw_queues_changed,
    queues_changed
);
sql_function!(mw_only_owner, pg_finfo_mw_only_owner, only_owner);
sql_function!(mw_enqueue_1_1, pg_finfo_mw_enqueue_1_1, enqueue_one);
sql_function!(
    mw_enqueue_many_1_1,
    pg_finfo_mw_enqueue_many_1_1,
    enqueue_many
);
sql_function!(mw_run_1_1, pg_finfo_mw_run_1_1, run);
sql_function!(mw_send, pg_finfo_mw_send, send);
sql_function!(mw_send_many, pg_finfo_mw_send_many, send_many);
sql_function!(mw_cancel, pg_finfo_mw_cancel, cancel);
sql_function!(mw_retry, pg_finfo_mw_retry, retry);
sql_function!(mw_run_soon, pg_finfo_mw_run_soon, run_soon);
sql_function!(mw_snooze, pg_finfo_mw_snooze, snooze);
sql_function!(mw_give_up, pg_finfo_mw_give_up, give_up);
sql_function!(mw_wait, pg_finfo_mw_wait, wait_for);
sql_function!(mw_progress, pg_finfo_mw_progress, report_progress);
sql_function!(mw_current_job, pg_finfo_mw_current_job, current_job);
sql_function!(mw_perform, pg_finfo_mw_perform, perform_now);
sql_function!(
    mw_launch_dynamic_worker,
    pg_finfo_mw_launch_dynamic_worker,
    launch_integer
);
sql_function!(
    mw_launch_dynamic_worker_bigint,
    pg_finfo_mw_launch_dynamic_worker_bigint,
    launch_bigint
);
sql_function!(
    mw_get_worker_stats,
    pg_finfo_mw_get_worker_stats,
    get_worker_stats
);
// Functions of 1.0 that take more arguments now.
sql_function!(mw_enqueue, pg_finfo_mw_enqueue, superseded);
sql_function!(mw_enqueue_many, pg_finfo_mw_enqueue_many, superseded);
sql_function!(mw_run, pg_finfo_mw_run, superseded);
sql_function!(mw_create_queue, pg_finfo_mw_create_queue, superseded);
sql_function!(mw_alter_queue, pg_finfo_mw_alter_queue, superseded);
sql_function!(mw_running, pg_finfo_mw_running, running);
sql_function!(mw_at_work, pg_finfo_mw_at_work, running);
sql_function!(mw_is_running, pg_finfo_mw_is_running, is_running);
sql_function!(mw_workers, pg_finfo_mw_workers, workers);
sql_function!(mw_processes, pg_finfo_mw_processes, workers);
sql_function!(mw_installed, pg_finfo_mw_installed, installed);
sql_function!(mw_updated, pg_finfo_mw_updated, updated);

/// What a function answers.
pub(super) type Answer = Result<Option<Datum<'static>>>;

/// A `text` argument.
pub(super) fn text(call: &Call, index: usize) -> Result<Option<Vec<u8>>> {
    call.arg(index).map(datum::as_text).transpose()
}

/// A `text` argument that must not be NULL.
pub(super) fn required(call: &Call, index: usize, name: &str) -> Result<Vec<u8>> {
    text(call, index)?.ok_or_else(|| null(name))
}

/// The error for it.
pub(super) fn null(name: &str) -> PgError {
    PgError::new(NULL_VALUE_NOT_ALLOWED, format!("{name} must not be null"))
}

/// The elements of a `text[]`, none of which may be NULL.
pub(super) fn texts(array: Datum<'_>, name: &str) -> Result<Vec<Vec<u8>>> {
    let elements = datum::array_elements(array, types::TEXT)?;
    let texts = elements.into_iter().map(|element| match element {
        Some(text) => datum::as_text(text),
        None => {
            let message = format!("{name} must not contain null values");
            Err(PgError::new(INVALID_PARAMETER_VALUE, message))
        }
    });
    texts.collect()
}

fn bigint(call: &Call) -> i64 {
    call.arg(0).map_or(0, datum::as_i64)
}

fn caller(_: &Call) -> Answer {
    Ok(Some(identity::current_role().datum()))
}

fn before_write(call: &Call) -> Answer {
    incoming::before_write(call.trigger_row()?).map(Some)
}

fn before_delete(call: &Call) -> Answer {
    incoming::before_delete(&call.trigger_row()?).map(Some)
}

fn only_owner(call: &Call) -> Answer {
    rights::only_owner(call.trigger_table()?).map(|()| Some(Datum::VOID))
}

/// What an AFTER trigger returns is not looked at, but it is not NULL.
fn queues_changed(_: &Call) -> Answer {
    queues::changed().map(|()| Some(Datum::VOID))
}

/// Which columns of a job the arguments of the enqueueing functions give, in order.
const ENQUEUE: &[i32] = &[
    column::HANDLER,
    column::PAYLOAD,
    column::QUEUE,
    column::PRIORITY,
    column::RUN_AT,
    column::MAX_ATTEMPTS,
    column::TIMEOUT,
    column::UNIQUE_KEY,
    column::GROUP_KEY,
    column::AFTER,
    column::AFTER_FAILED,
    column::EXPIRES_AT,
];
const ENQUEUE_MANY: &[i32] = &[
    column::HANDLER,
    column::PAYLOAD,
    column::QUEUE,
    column::PRIORITY,
    column::RUN_AT,
    column::MAX_ATTEMPTS,
    column::TIMEOUT,
    column::GROUP_KEY,
    column::AFTER,
    column::AFTER_FAILED,
    column::EXPIRES_AT,
];
const RUN: &[i32] = &[
    column::COMMAND,
    column::QUEUE,
    column::PRIORITY,
    column::RUN_AT,
    column::MAX_ATTEMPTS,
    column::TIMEOUT,
    column::UNIQUE_KEY,
    column::GROUP_KEY,
    column::AFTER,
    column::AFTER_FAILED,
    column::EXPIRES_AT,
];

/// The job that a call describes. What has no argument, or NULL, is as in any new job.
fn new_job<'a>(call: &'a Call, columns: &[i32]) -> NewJob<'a> {
    let mut job = NewJob::new();
    for (index, column) in columns.iter().enumerate() {
        if let Some(value) = call.arg(index) {
            job.set(*column, Some(value));
        }
    }
    job
}

/// The argument behind those: what happens if the unique key is taken.
fn unique_mode(call: &Call, columns: &[i32]) -> Result<UniqueMode> {
    let mode = required(call, columns.len(), "unique_mode")?;
    UniqueMode::named(&mode)
}

/// The same of a call that names a handler, which is found as its caller finds it.
fn new_call<'a>(call: &'a Call, columns: &[i32]) -> Result<NewJob<'a>> {
    let handler = handler::name(&required(call, 0, "handler")?)?;
    let mut job = new_job(call, columns);
    job.set_handler(&handler)?;
    require_queue(&job)?;
    Ok(job)
}

fn require_queue(job: &NewJob<'_>) -> Result<()> {
    let queue = job.get(column::QUEUE);
    queue.map(|_| ()).ok_or_else(|| null("queue"))
}

fn enqueue_one(call: &Call) -> Answer {
    Ok(Some(
        enqueue::enqueue(new_call(call, ENQUEUE)?, unique_mode(call, ENQUEUE)?)?.datum(),
    ))
}

fn enqueue_many(call: &Call) -> Answer {
    let job = new_call(call, ENQUEUE_MANY)?;
    if job.get(column::PAYLOAD).is_none() {
        return Err(null("payloads"));
    }
    call.begin_set(true)?;
    for id in enqueue::enqueue_many(job)? {
        call.add_row(&[Some(id.datum())])?;
    }
    Ok(None)
}

fn run(call: &Call) -> Answer {
    let mut job = new_job(call, RUN);
    if job.get(column::COMMAND).is_none() {
        return Err(null("command"));
    }
    require_queue(&job)?;
    if job.get(column::MAX_ATTEMPTS).is_none() {
        job.set(column::MAX_ATTEMPTS, Some(1i32.datum()));
    }
    Ok(Some(
        enqueue::enqueue(job, unique_mode(call, RUN)?)?.datum(),
    ))
}

/// The same for `send()` and `send_many()`.
const SEND: &[i32] = &[
    column::QUEUE,
    column::PAYLOAD,
    column::KIND,
    column::HEADERS,
    column::PRIORITY,
    column::RUN_AT,
    column::MAX_ATTEMPTS,
    column::TIMEOUT,
    column::UNIQUE_KEY,
    column::GROUP_KEY,
    column::AFTER,
    column::AFTER_FAILED,
    column::EXPIRES_AT,
];
const SEND_MANY: &[i32] = &[
    column::QUEUE,
    column::PAYLOAD,
    column::KIND,
    column::HEADERS,
    column::PRIORITY,
    column::RUN_AT,
    column::MAX_ATTEMPTS,
    column::TIMEOUT,
    column::GROUP_KEY,
    column::AFTER,
    column::AFTER_FAILED,
    column::EXPIRES_AT,
];

fn send(call: &Call) -> Answer {
    let job = new_job(call, SEND);
    require_queue(&job)?;
    Ok(Some(enqueue::send(job, unique_mode(call, SEND)?)?.datum()))
}

fn send_many(call: &Call) -> Answer {
    let job = new_job(call, SEND_MANY);
    require_queue(&job)?;
    if job.get(column::PAYLOAD).is_none() {
        return Err(null("payloads"));
    }
    call.begin_set(true)?;
    for id in enqueue::send_many(job)? {
        call.add_row(&[Some(id.datum())])?;
    }
    Ok(None)
}

fn cancel(call: &Call) -> Answer {
    Ok(Some(cancel::cancel(bigint(call))?.datum()))
}

fn retry(call: &Call) -> Answer {
    Ok(Some(retry::retry(bigint(call))?.datum()))
}

fn run_soon(call: &Call) -> Answer {
    Ok(Some(soon::run_soon(bigint(call))?.datum()))
}

fn snooze(call: &Call) -> Answer {
    let delay = call.arg(0).map(datum::interval_micros).transpose()?;
    snooze::snooze(delay.ok_or_else(|| null("delay"))?).map(|()| None)
}

fn give_up(call: &Call) -> Answer {
    snooze::give_up(text(call, 0)?).map(|()| None)
}

fn wait_for(call: &Call) -> Answer {
    let job = call
        .arg(0)
        .map(datum::as_i64)
        .ok_or_else(|| null("job_id"))?;
    let status = wait::wait(job, call.arg(1).map(datum::interval_micros).transpose()?)?;
    wait::status_datum(status)
}

fn report_progress(call: &Call) -> Answer {
    let percent = call
        .arg(0)
        .map(datum::as_f32)
        .ok_or_else(|| null("percent"))?;
    progress::report(percent, text(call, 1)?.as_deref())?;
    Ok(None)
}

fn current_job(_: &Call) -> Answer {
    Ok(own::job().map(ToDatum::datum))
}

fn perform_now(call: &Call) -> Answer {
    perform::perform(bigint(call))
}

fn launch_integer(call: &Call) -> Answer {
    let job = call.arg(0).map_or(0, datum::as_i32);
    Ok(Some(dynamic::launch(i64::from(job))?.datum()))
}

fn launch_bigint(call: &Call) -> Answer {
    Ok(Some(dynamic::launch(bigint(call))?.datum()))
}

fn get_worker_stats(call: &Call) -> Answer {
    let totals = stats::totals().ok_or_else(shared::not_preloaded)?;
    let last_run = (totals.last_run != 0).then(|| totals.last_run.datum());
    let status = datum::text_datum(totals.status.as_bytes())?;
    call.row(&[Some(totals.items_processed.datum()), last_run, Some(status)])
        .map(Some)
}

fn running(call: &Call) -> Answer {
    call.begin_set(false)?;
    for job in progress::look(call, <[_]>::to_vec)? {
        let message = job.message.some().map(datum::text_datum).transpose()?;
        call.add_row(&[
            Some(job.id.datum()),
            Some(job.pid.datum()),
            Some(job.started.datum()),
            job.percent.map(ToDatum::datum),
            message,
            Some(job.is_consumer.datum()),
        ])?;
    }
    Ok(None)
}

fn is_running(call: &Call) -> Answer {
    let id = bigint(call);
    let runs = |jobs: &[progress::Running]| jobs.binary_search_by_key(&id, |job| job.id).is_ok();
    Ok(Some(progress::look(call, runs)?.datum()))
}

fn workers(call: &Call) -> Answer {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    call.begin_set(false)?;
    for process in progress::processes()? {
        let oid = |oid: datum::Oid| (oid != 0).then(|| oid.datum());
        let time = |time: datum::Micros| (time != 0).then(|| time.datum());
        call.add_row(&[
            process.slot.map(ToDatum::datum),
            (process.pid != 0).then(|| process.pid.datum()),
            Some(datum::text_datum(process.kind.as_bytes())?),
            oid(process.database),
            oid(process.role),
            Some(datum::text_datum(process.state.as_bytes())?),
            process.job.map(ToDatum::datum),
            process.queue.some().map(datum::text_datum).transpose()?,
            process.job.and_then(|_| time(process.job_started)),
            process.jobs_done.map(ToDatum::datum),
            time(process.started),
            (process.queue_id != 0).then(|| process.queue_id.datum()),
        ])?;
    }
    Ok(None)
}

/// What the script of an older version declares: says that the extension has to be updated.
fn superseded(_: &Call) -> Answer {
    queue::extension()?;
    Err(PgError::internal(
        "this function has another form in the extension's version",
    ))
}

fn updated(_: &Call) -> Answer {
    enqueue::updated().map(|()| None)
}

fn installed(_: &Call) -> Answer {
    enqueue::installed().map(|()| None)
}
