//! The SQL functions of consumers. `sql/parts` declares them.

use super::sql::{Answer, null, required, sql_function, text, texts};
use crate::consume::finish::{self, Shown};
use crate::consume::grants;
use crate::consume::receive::{self, Request};
use crate::logic::columns::job as column;
use crate::pg::datum::{self, Datum, Micros, ToDatum, types};
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::sys;

sql_function!(mw_receive, pg_finfo_mw_receive, receive);
sql_function!(mw_ack, pg_finfo_mw_ack, ack);
sql_function!(mw_ack_many, pg_finfo_mw_ack_many, ack_many);
sql_function!(mw_nack, pg_finfo_mw_nack, nack);
sql_function!(mw_release, pg_finfo_mw_release, release);
sql_function!(mw_extend, pg_finfo_mw_extend, extend);
sql_function!(
    mw_lease_progress,
    pg_finfo_mw_lease_progress,
    lease_progress
);
sql_function!(
    mw_lease_progress_of,
    pg_finfo_mw_lease_progress_of,
    progress_of
);
sql_function!(mw_may_consume, pg_finfo_mw_may_consume, may_consume);

fn micros(call: &Call, index: usize) -> Result<Option<Micros>> {
    call.arg(index).map(datum::interval_micros).transpose()
}

fn receive(call: &Call) -> Answer {
    let count = call.arg(1).map(datum::as_i32).ok_or_else(|| null("n"))?;
    let request = Request {
        queue: required(call, 0, "queue")?,
        count,
        wait: micros(call, 2)?.ok_or_else(|| null("wait"))?,
        lease: micros(call, 3)?,
        kinds: kinds(call)?,
    };
    call.begin_set(false)?;
    let (queue, leased) = receive::receive(&request)?;
    for leased in leased {
        let job = &leased.job;
        let max_attempts = job.max_attempts.unwrap_or(queue.max_attempts);
        call.add_row(&[
            Some(job.id.datum()),
            Some(leased.token.datum()),
            job.value(column::KIND),
            job.value(column::PAYLOAD),
            job.value(column::HEADERS),
            Some(job.attempts.saturating_add(1).datum()),
            Some(max_attempts.datum()),
            job.value(column::PRIORITY),
            job.value(column::RUN_AT),
            job.value(column::CREATED_AT),
            job.value(column::OWNER),
            job.value(column::GROUP_KEY),
        ])?;
    }
    Ok(None)
}

fn kinds(call: &Call) -> Result<Vec<Vec<u8>>> {
    let Some(array) = call.arg(4) else {
        return Ok(Vec::new());
    };
    let kinds = texts(array, "kinds")?;
    if kinds.is_empty() {
        let error = PgError::new(INVALID_PARAMETER_VALUE, "kinds must not be empty");
        return Err(error.hint("Pass NULL for jobs of any kind."));
    }
    Ok(kinds)
}

/// The job and the lease that a call shows; NULL shows nothing.
fn shown(call: &Call) -> Option<Shown> {
    let job = call.arg(0).map(datum::as_i64)?;
    let token = call.arg(1).map(datum::as_i64)?;
    Some(Shown { job, token })
}

fn ack(call: &Call) -> Answer {
    let Some(shown) = shown(call) else {
        return Ok(Some(false.datum()));
    };
    let done = finish::ack(c"my_worker.ack()", &[shown], call.arg(2))?;
    Ok(Some((!done.is_empty()).datum()))
}

fn ack_many(call: &Call) -> Answer {
    let ids = numbers(call.arg(0).ok_or_else(|| null("job_ids"))?)?;
    let tokens = numbers(call.arg(1).ok_or_else(|| null("leases"))?)?;
    if ids.len() != tokens.len() {
        let message = "job_ids and leases must have the same number of elements";
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message));
    }
    let mut all: Vec<Shown> = ids
        .into_iter()
        .zip(tokens)
        .filter_map(|(job, token)| {
            Some(Shown {
                job: job?,
                token: token?,
            })
        })
        .collect();
    // The same lease twice is one.
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|shown| seen.insert((shown.job, shown.token)));
    let done = finish::ack(c"my_worker.ack_many()", &all, None)?;
    let done: Vec<Datum> = done.into_iter().map(ToDatum::datum).collect();
    Ok(Some(datum::array_datum(&done, types::INT8)?))
}

fn numbers(array: Datum<'_>) -> Result<Vec<Option<i64>>> {
    let elements = datum::array_elements(array, types::INT8)?;
    Ok(elements
        .into_iter()
        .map(|number| number.map(datum::as_i64))
        .collect())
}

fn nack(call: &Call) -> Answer {
    let Some(shown) = shown(call) else {
        return Ok(Some(false.datum()));
    };
    let for_good = call.arg(4).is_some_and(datum::as_bool);
    let done = finish::nack(shown, text(call, 2)?, micros(call, 3)?, for_good)?;
    Ok(Some(done.datum()))
}

fn release(call: &Call) -> Answer {
    let Some(shown) = shown(call) else {
        return Ok(Some(false.datum()));
    };
    Ok(Some(finish::release(shown, micros(call, 2)?)?.datum()))
}

fn extend(call: &Call) -> Answer {
    let by = micros(call, 2)?.ok_or_else(|| null("by"))?;
    let Some(shown) = shown(call) else {
        return Ok(Some(false.datum()));
    };
    Ok(Some(finish::extend(shown, by)?.datum()))
}

fn lease_progress(call: &Call) -> Answer {
    let percent = call.arg(2).map(datum::as_f32);
    let percent = percent.ok_or_else(|| null("percent"))?;
    let Some(shown) = shown(call) else {
        return Ok(Some(false.datum()));
    };
    let done = finish::progress(shown, percent, text(call, 3)?.as_deref())?;
    Ok(Some(done.datum()))
}

/// STRICT, so both are given.
fn progress_of(call: &Call) -> Answer {
    let said = match shown(call) {
        Some(shown) => crate::progress::of_lease(shown.job, shown.token)?,
        None => None,
    };
    let words = said.as_ref().and_then(|(_, words)| words.some());
    let percent = said.as_ref().map(|(percent, _)| percent.datum());
    call.row(&[percent, words.map(datum::text_datum).transpose()?])
        .map(Some)
}

fn may_consume(call: &Call) -> Answer {
    let queue = required(call, 0, "queue")?;
    Ok(Some(grants::of_caller(call, &queue)?.datum()))
}
