//! The SQL functions of the statistics. `sql/parts` declares them.

use super::sql::{Answer, sql_function};
use crate::logic::counters::Summary;
use crate::pg::datum::{self, Datum, Micros, ToDatum};
use crate::pg::error::Result;
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::shared::{self, SHARED};
use crate::stats::health::Facts;
use crate::stats::{self, queues};
use crate::sys;

sql_function!(mw_queue_stats, pg_finfo_mw_queue_stats, queue_stats);
sql_function!(mw_why, pg_finfo_mw_why, why);
sql_function!(mw_health, pg_finfo_mw_health, health);
sql_function!(mw_health_1_1, pg_finfo_mw_health_1_1, health_1_1);
sql_function!(mw_reset_stats, pg_finfo_mw_reset_stats, reset_stats);

/// The first time that there is (`MIN_TIMESTAMP`): a job that is due since -infinity has an age, too.
const FIRST_TIME: Micros = -211_813_488_000_000_000;

fn queue_stats(call: &Call) -> Answer {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    call.begin_set(false)?;
    for row in queues::rows()? {
        let (waiting, counters) = (&row.waiting, &row.counters);
        let mut values = vec![
            Some(datum::text_datum(&waiting.queue)?),
            Some(waiting.pending.datum()),
            Some(waiting.scheduled.datum()),
            Some(row.processing.datum()),
            (waiting.oldest != 0).then(|| waiting.oldest.max(FIRST_TIME).datum()),
            Some(counters.completed.datum()),
            Some(counters.failed.datum()),
            Some(counters.retried.datum()),
            Some(counters.cancelled.datum()),
            (counters.failed_at != 0).then(|| counters.failed_at.datum()),
        ];
        values.extend(summary(counters.wait.summary()));
        values.extend(summary(counters.run.summary()));
        call.add_row(&values)?;
    }
    Ok(None)
}

fn summary(summary: Option<Summary>) -> [Option<Datum>; 4] {
    match summary {
        Some(s) => [s.mean, s.p50, s.p95, s.p99].map(|ms| Some(ms.datum())),
        None => [None; 4],
    }
}

fn reset_stats(_: &Call) -> Answer {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    stats::reset();
    Ok(None)
}

fn why(call: &Call) -> Answer {
    let job = call.arg(0).map_or(0, datum::as_i64);
    Ok(Some(datum::text_datum(&stats::why::why(job)?)?))
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

fn first_facts(facts: &Facts) -> Result<[Option<Datum>; 11]> {
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
