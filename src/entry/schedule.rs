//! The SQL functions of schedules.

use super::sql::{Answer, null, required, sql_function, text};
use crate::pg::datum::{self, Oid, ToDatum};
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::schedule::import::{self, Source};
use crate::schedule::{self, Definition};
use crate::sys;

sql_function!(mw_schedule, pg_finfo_mw_schedule, define);
sql_function!(mw_unschedule, pg_finfo_mw_unschedule, unschedule);
sql_function!(mw_pause_schedule, pg_finfo_mw_pause_schedule, pause);
sql_function!(mw_resume_schedule, pg_finfo_mw_resume_schedule, resume);
sql_function!(mw_run_now, pg_finfo_mw_run_now, run_now);
sql_function!(mw_next_runs, pg_finfo_mw_next_runs, next_runs);
sql_function!(
    mw_import_pg_cron_job,
    pg_finfo_mw_import_pg_cron_job,
    import_pg_cron_job
);
sql_function!(
    mw_before_schedule_write,
    pg_finfo_mw_before_schedule_write,
    before_write
);

fn define(call: &Call) -> Answer {
    let definition = Definition {
        name: required(call, 0, "name")?,
        schedule: required(call, 1, "schedule")?,
        command: text(call, 2)?,
        handler: text(call, 3)?,
        payload: call.arg(4),
        queue: required(call, 5, "queue")?,
        timezone: text(call, 6)?,
        overlap: required(call, 7, "overlap")?,
        catchup: required(call, 8, "catchup")?,
        max_attempts: call.arg(9).map(datum::as_i32),
        timeout: call.arg(10),
    };
    Ok(Some(schedule::schedule(&definition)?.datum()))
}

fn owner(call: &Call) -> Option<Oid> {
    call.arg(1).map(datum::as_oid)
}

fn unschedule(call: &Call) -> Answer {
    schedule::unschedule(&required(call, 0, "name")?, owner(call))?;
    Ok(Some(true.datum()))
}

fn pause(call: &Call) -> Answer {
    schedule::pause(&required(call, 0, "name")?, owner(call)).map(|()| None)
}

fn resume(call: &Call) -> Answer {
    schedule::resume(&required(call, 0, "name")?, owner(call)).map(|()| None)
}

fn run_now(call: &Call) -> Answer {
    let job = schedule::run_now(&required(call, 0, "name")?, owner(call))?;
    Ok(Some(job.datum()))
}

fn next_runs(call: &Call) -> Answer {
    let rule = required(call, 0, "schedule")?;
    let count = call.arg(1).map(datum::as_i32).ok_or_else(|| null("n"))?;
    let (zone, after) = (text(call, 2)?, call.arg(3).map(datum::as_i64));
    call.begin_set(true)?;
    schedule::next_runs(&rule, count, zone.as_deref(), after, |time| {
        call.add_row(&[Some(time.datum())])
    })?;
    Ok(None)
}

fn import_pg_cron_job(call: &Call) -> Answer {
    let source = Source {
        id: call.arg(0).map_or(0, datum::as_i64),
        name: text(call, 1)?,
        schedule: required(call, 2, "schedule")?,
        command: required(call, 3, "command")?,
        host: text(call, 4)?.unwrap_or_default(),
        port: call.arg(5).map_or(0, datum::as_i32),
        database: text(call, 6)?.unwrap_or_default(),
        role: text(call, 7)?.unwrap_or_default(),
        is_active: call.arg(8).is_some_and(datum::as_bool),
    };
    let write = call.arg(9).is_some_and(datum::as_bool);
    let verdict = import::import(&source, write)?;
    let texts = [&verdict.name, verdict.outcome.as_bytes(), &verdict.detail];
    let texts = texts.map(datum::text_datum);
    let [name, outcome, detail] = texts;
    datum::array_datum(&[name?, outcome?, detail?], datum::types::TEXT).map(Some)
}

fn before_write(call: &Call) -> Answer {
    let mut row = call.trigger_row()?;
    schedule::written(&mut row)?;
    Ok(Some(row.result()))
}
