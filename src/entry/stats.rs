//! The SQL functions of the statistics. `sql/parts` declares them.

use super::sql::{Answer, sql_function};
use crate::logic::counters::Summary;
use crate::pg::datum::{self, Datum, ToDatum};
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::shared::{self, SHARED};
use crate::stats::{self, queues};
use crate::sys;

sql_function!(mw_queue_stats, pg_finfo_mw_queue_stats, queue_stats);
sql_function!(mw_reset_stats, pg_finfo_mw_reset_stats, reset_stats);

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
            (waiting.oldest != 0).then(|| waiting.oldest.datum()),
            Some(counters.completed.datum()),
            Some(counters.failed.datum()),
            Some(counters.retried.datum()),
            Some(counters.cancelled.datum()),
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
