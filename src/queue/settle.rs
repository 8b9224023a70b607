//! Ending attempts that did not go well: the next attempt, or the job's end. Statements, since
//! they are rare; each names the attempt that it settles, so that none is settled twice.
//!
//! The statements only: they are run by `end`, which has the end told.

use crate::logic::columns::history;
use crate::logic::counters::Ending;
use crate::logic::{backoff, retry_rules};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, ToDatum, types};
use crate::pg::error::{PgError, Result};
use crate::pg::fault::fault;
use crate::pg::spi::Statement;
use crate::pg::{clock, random};

use super::queues::{self, Queue};
use super::{as_owner, capped, into_history, lists};

/// An attempt that ended, of the job as it was found.
#[derive(Clone, Copy)]
pub struct Attempt {
    /// The job.
    pub job: i64,
    /// What its row says of `attempts`: if it says otherwise, somebody else has settled it.
    pub attempts: i32,
    /// Executions, this one included.
    pub ended: i32,
    /// When it began; 0 if it never did.
    pub started: Micros,
}

/// What follows from a failed attempt, if the job has one left.
#[derive(Clone, Copy)]
pub enum Next {
    /// Another one, after the queue's backoff.
    Backoff,
    /// Another one at once; after several such in a row, after the backoff.
    Quick,
    /// Another one after that delay.
    After(Micros),
    /// None.
    Never,
}

/// One entry of `errors`: what `$3`..`$9` say of the attempt.
macro_rules! error_entry {
    () => {
        "pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('attempt', $3, 'at', $4, \
         'sqlstate', $5, 'message', $6, 'detail', $7, 'hint', $8, 'context', $9))"
    };
}

/// A job's errors with that entry.
const ERRORS: &str = concat!(
    "coalesce(errors, '[]'::pg_catalog.jsonb) || ",
    error_entry!()
);

const ENTRY_TYPES: [u32; 7] = [
    types::INT4,
    types::TIMESTAMPTZ,
    types::TEXT,
    types::TEXT,
    types::TEXT,
    types::TEXT,
    types::TEXT,
];

/// `$10`: after the backoff; `$12`: at once, unless as many attempts in a row as may be have met others.
static RETRY: Statement = Statement::made(
    || {
        let codes = retry_rules::CONFLICTS.map(|code| String::from_utf8_lossy(code));
        let codes = codes.join("', '");
        let most = retry_rules::QUICK_IN_A_ROW;
        let met = |n| format!("errors -> -{n} ->> 'sqlstate' = ANY (ARRAY['{codes}'])");
        let in_a_row = (1..=most).map(met).collect::<Vec<_>>().join(" AND ");
        // An attempt of before a retry() counts no more.
        let run_at =
            format!("CASE WHEN $12 IS NULL OR $3 > {most} AND {in_a_row} THEN $10 ELSE $12 END");
        let entry = error_entry!();
        format!(
            "UPDATE my_worker._jobs SET status = 'pending', attempts = $3, last_error = $6, \
             run_at = {run_at}, started_at = $11, lease = NULL, lease_run_at = NULL, consumer = NULL, \
             errors = coalesce(errors, '[]'::pg_catalog.jsonb) || {entry} \
             WHERE id = $1 AND attempts = $2"
        )
    },
    &[
        types::INT8,
        types::INT4,
        ENTRY_TYPES[0],
        ENTRY_TYPES[1],
        ENTRY_TYPES[2],
        ENTRY_TYPES[3],
        ENTRY_TYPES[4],
        ENTRY_TYPES[5],
        ENTRY_TYPES[6],
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
    ],
);

/// Moves the jobs of a condition into the history. Answers whether one was there, also where a trigger of
/// the history's owner keeps no row.
fn moved_to_history(condition: &str, changes: &[(i32, &str)]) -> String {
    let kept = lists::insert_ended("gone", changes);
    format!(
        "WITH gone AS (DELETE FROM my_worker._jobs WHERE {condition} RETURNING *), \
         kept AS ({kept}) SELECT id FROM gone"
    )
}

/// While a row has a lease, its own `run_at` says when that ends.
const LEASED_RUN_AT: (i32, &str) = (history::RUN_AT, "coalesce(lease_run_at, run_at)");

static FAIL: Statement = Statement::made(
    || {
        moved_to_history(
            "id = $1 AND attempts = $2",
            &[
                (history::STATUS, "'failed'"),
                (history::STARTED_AT, "coalesce($10, started_at)"),
                (history::ATTEMPTS, "$3"),
                (history::LAST_ERROR, "$6"),
                (history::FINISHED_AT, "$4"),
                (history::ERRORS, ERRORS),
                LEASED_RUN_AT,
            ],
        )
    },
    &[
        types::INT8,
        types::INT4,
        ENTRY_TYPES[0],
        ENTRY_TYPES[1],
        ENTRY_TYPES[2],
        ENTRY_TYPES[3],
        ENTRY_TYPES[4],
        ENTRY_TYPES[5],
        ENTRY_TYPES[6],
        types::TIMESTAMPTZ,
    ],
);

/// The execution is as if it had not been, for the job.
static SNOOZE: Statement = Statement::new(
    "UPDATE my_worker._jobs SET status = 'pending', run_at = $3, started_at = $4, attempts = $5 \
     WHERE id = $1 AND attempts = $2",
    &[
        types::INT8,
        types::INT4,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::INT4,
    ],
);

/// Ends a job that waits as cancelled, with an error that says why.
static CANCEL_FOR: Statement = Statement::made(
    || {
        moved_to_history(
            "id = $1 AND attempts = $2",
            &[
                (history::STATUS, "'cancelled'"),
                (history::LAST_ERROR, "$6"),
                (history::FINISHED_AT, "$4"),
                (history::ERRORS, ERRORS),
                LEASED_RUN_AT,
            ],
        )
    },
    &[
        types::INT8,
        types::INT4,
        ENTRY_TYPES[0],
        ENTRY_TYPES[1],
        ENTRY_TYPES[2],
        ENTRY_TYPES[3],
        ENTRY_TYPES[4],
        ENTRY_TYPES[5],
        ENTRY_TYPES[6],
    ],
);

static CANCEL: Statement = Statement::made(
    || {
        moved_to_history(
            "id = $1",
            &[
                (history::STATUS, "'cancelled'"),
                (history::STARTED_AT, "coalesce($2, started_at)"),
                (history::ATTEMPTS, "coalesce($3, attempts)"),
                LEASED_RUN_AT,
                (history::FINISHED_AT, "$4"),
            ],
        )
    },
    &[
        types::INT8,
        types::TIMESTAMPTZ,
        types::INT4,
        types::TIMESTAMPTZ,
    ],
);

/// Claims a command: from here on it is charged.
static CLAIM: Statement = Statement::new(
    "UPDATE my_worker._jobs SET status = 'processing', started_at = $2, \
     attempts = attempts + 1 WHERE id = $1",
    &[types::INT8, types::TIMESTAMPTZ],
);

static COMPLETE: Statement = Statement::made(
    || {
        let kept = lists::insert_ended(
            "gone WHERE $5",
            &[
                (history::STATUS, "'completed'"),
                (history::FINISHED_AT, "$3"),
                (history::RESULT, "pg_catalog.to_jsonb($4)"),
            ],
        );
        format!(
            "WITH gone AS (DELETE FROM my_worker._jobs WHERE id = $1 \
             AND attempts = $2 RETURNING *) {kept}"
        )
    },
    &[
        types::INT8,
        types::INT4,
        types::TIMESTAMPTZ,
        types::TEXT,
        types::BOOL,
    ],
);

/// Has a job that has failed for good go on in the dead-letter queue `$10`; not where it has been before.
static GO_ON: Statement = Statement::new(
    concat!(
        "UPDATE my_worker._jobs SET queue = $10, origin = coalesce(origin, queue), status = 'pending', attempts = 0, \
         last_error = $6, run_at = $4, started_at = NULL, lease = NULL, lease_run_at = NULL, consumer = NULL, \
         errors = coalesce(errors, '[]'::pg_catalog.jsonb) || ",
        error_entry!(),
        " WHERE id = $1 AND attempts = $2 AND queue <> $10 AND origin IS DISTINCT FROM $10"
    ),
    &[
        types::INT8,
        types::INT4,
        ENTRY_TYPES[0],
        ENTRY_TYPES[1],
        ENTRY_TYPES[2],
        ENTRY_TYPES[3],
        ENTRY_TYPES[4],
        ENTRY_TYPES[5],
        ENTRY_TYPES[6],
        types::TEXT,
    ],
);

/// Takes away what is left of a job that has ended.
static FORGET: Statement =
    Statement::new("DELETE FROM my_worker._jobs WHERE id = $1", &[types::INT8]);

/// Takes back the charge of a command that was told to stop.
static RELEASE: Statement = Statement::new(
    "UPDATE my_worker._jobs SET status = 'pending', \
     attempts = attempts - 1 WHERE id = $1 \
     AND status = 'processing'",
    &[types::INT8],
);

/// Removes the row of a job that has ended, and that the job itself has updated or deleted.
pub fn forget(extension: &Extension, job: i64) -> Result<()> {
    as_owner(extension, |spi| {
        spi.run(&FORGET, &[Some(job.datum())]).map(|_| ())
    })
}

/// Records a failed attempt, and has `next` follow; `None` if somebody else had settled it.
pub fn fail(
    extension: &Extension,
    queue: Option<&Queue>,
    attempt: &Attempt,
    max_attempts: i32,
    error: &PgError,
    next: Next,
) -> Result<Option<Ending>> {
    let has_more = attempt.ended < max_attempts && !matches!(next, Next::Never);
    let Some(found) = queue.filter(|_| has_more) else {
        return fail_for_good(extension, queue, attempt, error);
    };
    let now = clock::now();
    let after = |delay: Micros| Some(now.saturating_add(delay.max(0)).datum());
    let delay = match next {
        Next::After(delay) => delay,
        _ => backoff::delay(
            found.backoff,
            found.backoff_max,
            attempt.ended.max(1) as u32,
            random::unit(),
        ),
    };
    // A shorter backoff stays.
    let quick = matches!(next, Next::Quick).then(|| retry_rules::quick_delay(random::unit()));
    let quick = quick.map(|quick| quick.min(delay));
    let changed = as_owner(extension, |spi| {
        let mut arguments = entry(attempt, now, error)?;
        arguments.push(after(delay));
        arguments.push(started(attempt));
        arguments.push(quick.and_then(after));
        spi.run(&RETRY, &arguments).map(|rows| rows.count())
    })?;
    Ok((changed > 0).then_some(Ending::Retried))
}

/// Ends a job as failed whatever attempts it had left; `None` if somebody else had settled it. It goes on in its
/// queue's dead-letter queue, if that is there.
fn fail_for_good(
    extension: &Extension,
    queue: Option<&Queue>,
    attempt: &Attempt,
    error: &PgError,
) -> Result<Option<Ending>> {
    if let Some(letters) = queue.and_then(|queue| queue.dead_letter.as_deref())
        && queues::hold_if_free(extension, letters)?
    {
        let moved = as_owner(extension, |spi| {
            let mut arguments = entry(attempt, clock::now(), error)?;
            arguments.push(Some(datum::text_datum(letters)?));
            spi.run(&GO_ON, &arguments).map(|rows| rows.count())
        })?;
        if moved > 0 {
            fault!(DeadLetter);
            return Ok(Some(Ending::Failed));
        }
    }
    let changed = into_history(extension, |spi| {
        let mut arguments = entry(attempt, clock::now(), error)?;
        arguments.push(started(attempt));
        spi.run(&FAIL, &arguments).map(|rows| rows.count())
    })?;
    Ok((changed > 0).then_some(Ending::Failed))
}

/// Has a job come again after a delay, uncharged. True if it was there.
pub fn snooze(extension: &Extension, attempt: &Attempt, delay: Micros) -> Result<bool> {
    as_owner(extension, |spi| {
        let arguments = [
            Some(attempt.job.datum()),
            Some(attempt.attempts.datum()),
            Some(datum::timestamptz(clock::now().saturating_add(delay))),
            started(attempt),
            Some(attempt.ended.saturating_sub(1).datum()),
        ];
        spi.run(&SNOOZE, &arguments).map(|rows| rows.count() > 0)
    })
}

/// Ends a job as cancelled, in an attempt or while it waited. True if it was there.
pub fn cancel(extension: &Extension, job: i64, attempt: Option<&Attempt>) -> Result<bool> {
    into_history(extension, |spi| {
        let arguments = [
            Some(job.datum()),
            attempt.and_then(started),
            attempt.map(|attempt| attempt.ended.datum()),
            Some(clock::now().datum()),
        ];
        spi.run(&CANCEL, &arguments).map(|rows| rows.count() > 0)
    })
}

/// Ends a job that waits as cancelled, for that reason. True if it was there.
pub fn cancel_for(extension: &Extension, attempt: &Attempt, error: &PgError) -> Result<bool> {
    into_history(extension, |spi| {
        let arguments = entry(attempt, clock::now(), error)?;
        let rows = spi.run(&CANCEL_FOR, &arguments)?;
        Ok(rows.count() > 0)
    })
}

/// Charges a command that this transaction has locked, before it runs.
pub fn claim_command(extension: &Extension, job: i64, started: Micros) -> Result<()> {
    as_owner(extension, |spi| {
        let arguments = [Some(job.datum()), Some(started.datum())];
        spi.run(&CLAIM, &arguments).map(|_| ())
    })
}

/// Ends a command well; `tag` is what it answered, `keeps` whether the history gets it.
pub fn complete_command(
    extension: &Extension,
    keeps: bool,
    attempt: &Attempt,
    tag: &str,
) -> Result<()> {
    into_history(extension, |spi| {
        let arguments = [
            Some(attempt.job.datum()),
            Some(attempt.attempts.datum()),
            Some(clock::now().datum()),
            Some(datum::text_datum(tag.as_bytes())?),
            Some(keeps.datum()),
        ];
        spi.run(&COMPLETE, &arguments).map(|_| ())
    })
}

/// Lets a command that was told to stop be run again, as if it had not been.
pub fn release_command(extension: &Extension, job: i64) -> Result<()> {
    as_owner(extension, |spi| {
        spi.run(&RELEASE, &[Some(job.datum())]).map(|_| ())
    })
}

fn started(attempt: &Attempt) -> Option<Datum<'static>> {
    (attempt.started != 0).then(|| attempt.started.datum())
}

/// `$1`..`$9` of the statements: which attempt, and its error.
fn entry(attempt: &Attempt, now: Micros, error: &PgError) -> Result<Vec<Option<Datum<'static>>>> {
    Ok(vec![
        Some(attempt.job.datum()),
        Some(attempt.attempts.datum()),
        Some(attempt.ended.datum()),
        Some(now.datum()),
        Some(datum::text_datum(error.sqlstate.text().as_bytes())?),
        Some(capped(&error.message)?),
        error.detail.as_deref().map(capped).transpose()?,
        error.hint.as_deref().map(capped).transpose()?,
        error.context.as_deref().map(capped).transpose()?,
    ])
}
