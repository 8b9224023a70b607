//! The SQL functions of the statistics. `sql/parts` declares them.

use super::sql::{Answer, required, sql_function};
use crate::counted;
use crate::logic::counters::{Counters, Summary};
use crate::pg::datum::{self, Datum, Micros, ToDatum};
use crate::pg::error::Result;
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::pg::spi;
use crate::shared::{self, SHARED};
use crate::stats::health::Facts;
use crate::stats::{self, lately, queues};
use crate::sys;

sql_function!(mw_queue_stats, pg_finfo_mw_queue_stats, queue_stats);
sql_function!(
    mw_queue_stats_1_1,
    pg_finfo_mw_queue_stats_1_1,
    queue_stats_1_1
);
sql_function!(
    mw_queue_minutes_since,
    pg_finfo_mw_queue_minutes_since,
    queue_minutes_since
);
sql_function!(mw_handler_stats, pg_finfo_mw_handler_stats, handler_stats);
sql_function!(mw_stats_reach, pg_finfo_mw_stats_reach, stats_reach);
sql_function!(mw_why, pg_finfo_mw_why, why);
sql_function!(mw_waits_for, pg_finfo_mw_waits_for, waits_for);
sql_function!(mw_health, pg_finfo_mw_health, health);
sql_function!(
    mw_named_databases,
    pg_finfo_mw_named_databases,
    named_databases
);
sql_function!(
    mw_altered_columns,
    pg_finfo_mw_altered_columns,
    altered_columns
);
sql_function!(
    mw_late_schedules,
    pg_finfo_mw_late_schedules,
    late_schedules
);
sql_function!(mw_has_consumer, pg_finfo_mw_has_consumer, has_consumer);
sql_function!(mw_oldest_jobs, pg_finfo_mw_oldest_jobs, oldest_jobs);
sql_function!(mw_failed_jobs, pg_finfo_mw_failed_jobs, failed_jobs);
sql_function!(
    mw_run_outside_script_sql,
    pg_finfo_mw_run_outside_script_sql,
    run_outside_script
);
sql_function!(mw_health_1_1, pg_finfo_mw_health_1_1, health_1_1);
sql_function!(mw_reset_stats, pg_finfo_mw_reset_stats, reset_stats);

/// The first time that there is (`MIN_TIMESTAMP`): a job that is due since -infinity has an age, too.
const FIRST_TIME: Micros = -211_813_488_000_000_000;

/// As 1.0 declares it.
fn queue_stats(call: &Call) -> Answer {
    add_queues(call, |_| Vec::new())
}

fn queue_stats_1_1(call: &Call) -> Answer {
    add_queues(call, |row| {
        let (blocked, is_limited) = (row.waiting.blocked, row.is_limited);
        let estimated = row.waiting.estimated;
        vec![
            Some(blocked.datum()),
            Some(is_limited.datum()),
            Some(estimated.datum()),
        ]
    })
}

fn oldest_jobs(call: &Call) -> Answer {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    call.begin_set(false)?;
    for (queue, oldest) in queues::oldest()? {
        let oldest = oldest.max(FIRST_TIME).datum();
        call.add_row(&[Some(datum::text_datum(&queue)?), Some(oldest)])?;
    }
    Ok(None)
}

/// `more`: what the function answers of a queue behind what 1.0 did.
fn add_queues(call: &Call, more: fn(&queues::QueueRow) -> Vec<Option<Datum<'static>>>) -> Answer {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    call.begin_set(false)?;
    for row in queues::rows()? {
        let (waiting, counters) = (&row.waiting, row.counters.as_deref());
        let count = |of: fn(&Counters) -> i64| counters.map(|all| of(all).datum());
        let failed_at = counters.map_or(0, |all| all.failed_at);
        let mut values = vec![
            Some(datum::text_datum(&row.queue)?),
            Some(waiting.pending.datum()),
            Some(waiting.scheduled.datum()),
            Some(row.processing.datum()),
            (waiting.oldest != 0).then(|| waiting.oldest.max(FIRST_TIME).datum()),
            count(|all| all.completed),
            count(|all| all.failed),
            count(|all| all.retried),
            count(|all| all.cancelled),
            (failed_at != 0).then(|| failed_at.datum()),
        ];
        values.extend(summary(counters.and_then(|all| all.wait.summary())));
        values.extend(summary(counters.and_then(|all| all.run.summary())));
        values.extend(more(&row));
        call.add_row(&values)?;
    }
    Ok(None)
}

fn queue_minutes_since(call: &Call) -> Answer {
    let since = call.arg(0).map_or(Micros::MIN, datum::as_i64);
    call.begin_set(false)?;
    for (minute, queue, folded) in lately::minutes(since)?.rows() {
        let [completed, failed, retried, cancelled] = folded.counts.map(ToDatum::datum);
        call.add_row(&[
            Some(datum::text_datum(queue)?),
            Some(minute.datum()),
            Some(completed),
            Some(failed),
            Some(retried),
            Some(cancelled),
            folded.wait_p95().map(ToDatum::datum),
            folded.run_p95().map(ToDatum::datum),
        ])?;
    }
    Ok(None)
}

fn handler_stats(call: &Call) -> Answer {
    call.begin_set(false)?;
    for handler in lately::handlers()? {
        let name = handler.name().map(datum::text_datum).transpose()?;
        let mut values = vec![
            name,
            Some(datum::text_datum(lately::runs(&handler).as_bytes())?),
            Some(handler.calls.datum()),
            Some(handler.failures.datum()),
            Some(handler.called_at.datum()),
        ];
        values.extend(summary(handler.run.summary()));
        call.add_row(&values)?;
    }
    Ok(None)
}

fn stats_reach(call: &Call) -> Answer {
    call.begin_set(false)?;
    for (name, reach) in lately::reach()? {
        let gave_way = i64::try_from(reach.gave_way).unwrap_or(i64::MAX);
        call.add_row(&[
            Some(datum::text_datum(name.as_bytes())?),
            Some(reach.since.datum()),
            Some(gave_way.datum()),
        ])?;
    }
    Ok(None)
}

fn has_consumer(call: &Call) -> Answer {
    let queue = required(call, 0, "queue")?;
    Ok(Some(crate::stats::health::has_consumer(&queue)?.datum()))
}

fn summary(summary: Option<Summary>) -> [Option<Datum<'static>>; 4] {
    match summary {
        Some(s) => [s.mean, s.p50, s.p95, s.p99].map(|ms| Some(ms.datum())),
        None => [None; 4],
    }
}

fn reset_stats(_: &Call) -> Answer {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    counted::reset();
    Ok(None)
}

fn waits_for(call: &Call) -> Answer {
    let job = call.arg(0).map_or(0, datum::as_i64);
    let reasons = stats::waits::waits_for(job)?;
    reasons.map(|text| datum::text_datum(&text)).transpose()
}

fn why(call: &Call) -> Answer {
    let job = call.arg(0).map_or(0, datum::as_i64);
    Ok(Some(datum::text_datum(&stats::why::why(job)?)?))
}

fn named_databases(call: &Call) -> Answer {
    call.begin_set(true)?;
    for name in stats::health::named_databases() {
        let name = name.as_deref().map(datum::text_datum).transpose()?;
        call.add_row(&[name])?;
    }
    Ok(None)
}

fn altered_columns(call: &Call) -> Answer {
    call.begin_set(true)?;
    for trouble in stats::health::altered_columns()? {
        call.add_row(&[Some(datum::text_datum(trouble.as_bytes())?)])?;
    }
    Ok(None)
}

fn late_schedules(call: &Call) -> Answer {
    call.begin_set(false)?;
    for late in stats::health::late_schedules()? {
        let name = datum::text_datum(&late.name)?;
        call.add_row(&[Some(name), Some(late.is_disabled.datum())])?;
    }
    Ok(None)
}

fn failed_jobs(call: &Call) -> Answer {
    call.begin_set(false)?;
    for failed in stats::failures::failed_jobs()? {
        let queue = datum::text_datum(&failed.queue)?;
        call.add_row(&[
            Some(queue),
            Some(failed.count.datum()),
            failed.last.map(ToDatum::datum),
        ])?;
    }
    Ok(None)
}

fn run_outside_script(call: &Call) -> Answer {
    spi::run_outside_script(&required(call, 0, "statement")?)?;
    Ok(None)
}

/// As 1.0 declares it.
fn health(call: &Call) -> Answer {
    let facts = stats::health::facts()?;
    call.row(&first_facts(&facts)?).map(Some)
}

fn health_1_1(call: &Call) -> Answer {
    let facts = stats::health::facts()?;
    let mut row = first_facts(&facts)?.to_vec();
    row.push(Some(facts.no_slot.datum()));
    row.push(Some(facts.away.datum()));
    row.push(Some(facts.capped.datum()));
    call.row(&row).map(Some)
}

fn first_facts(facts: &Facts) -> Result<[Option<Datum<'static>>; 11]> {
    let version = datum::text_datum(env!("CARGO_PKG_VERSION").as_bytes())?;
    Ok([
        Some(facts.loaded.datum()),
        Some(facts.recovery.datum()),
        Some(facts.served.datum()),
        Some(facts.enabled.datum()),
        (facts.launcher != 0).then(|| facts.launcher.datum()),
        Some(facts.keepers.datum()),
        Some(facts.workers.datum()),
        Some(facts.max_workers.datum()),
        Some(facts.free_slots.datum()),
        Some(facts.refused.datum()),
        Some(version),
    ])
}
