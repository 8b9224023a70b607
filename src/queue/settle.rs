//! Ending attempts that did not go well: the next attempt, or the job's end. Statements, since
//! they are rare; each names the attempt that it settles, so that none is settled twice.
//!
//! The statements only: they are run by `end`, which has the end told.

use crate::logic::backoff;
use crate::logic::columns::history;
use crate::logic::counters::Ending;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, ToDatum, types};
use crate::pg::error::{PgError, Result};
use crate::pg::spi::Statement;
use crate::pg::{clock, guc, random, xact};

use super::queues::Queue;
use super::{as_owner, into_history, lists};

/// The longest error text that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 8192;

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

/// One entry of `errors`: what `$3`..`$9` say of the attempt.
macro_rules! error_entry {
    () => {
        "pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('attempt', $3, 'at', $4, \
         'sqlstate', $5, 'message', $6, 'detail', $7, 'hint', $8, 'context', $9))"
    };
}

const ENTRY_TYPES: [u32; 7] = [
    types::INT4,
    types::TIMESTAMPTZ,
    types::TEXT,
    types::TEXT,
    types::TEXT,
    types::TEXT,
    types::TEXT,
];

static RETRY: Statement = Statement::new(
    concat!(
        "UPDATE my_worker._jobs SET status = 'pending', attempts = $3, last_error = $6, run_at = $10, \
         started_at = $11, lease = NULL, lease_run_at = NULL, consumer = NULL, errors = \
         coalesce(errors, '[]'::pg_catalog.jsonb) || ",
        error_entry!(),
        " WHERE id = $1 AND attempts = $2"
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
        let errors = concat!(
            "coalesce(errors, '[]'::pg_catalog.jsonb) || ",
            error_entry!()
        );
        moved_to_history(
            "id = $1 AND attempts = $2",
            &[
                (history::STATUS, "'failed'"),
                (history::STARTED_AT, "coalesce($10, started_at)"),
                (history::ATTEMPTS, "$3"),
                (history::LAST_ERROR, "$6"),
                (history::FINISHED_AT, "$4"),
                (history::ERRORS, errors),
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

/// Ends a job that waits as cancelled, with an error that says why.
static CANCEL_FOR: Statement = Statement::made(
    || {
        let errors = concat!(
            "coalesce(errors, '[]'::pg_catalog.jsonb) || ",
            error_entry!()
        );
        moved_to_history(
            "id = $1 AND attempts = $2",
            &[
                (history::STATUS, "'cancelled'"),
                (history::LAST_ERROR, "$6"),
                (history::FINISHED_AT, "$4"),
                (history::ERRORS, errors),
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

/// Of a job whose end cannot be written down: what the attempt came to stays in its own row.
macro_rules! set_aside {
    ($more:literal) => {
        concat!(
            "UPDATE my_worker._jobs SET status = 'failed', unique_key = NULL, last_error = $2",
            $more,
            " WHERE ctid = ANY (ARRAY(SELECT ctid FROM my_worker._jobs \
             WHERE id = $1 AND status <> 'failed' \
             FOR UPDATE SKIP LOCKED))"
        )
    };
}

static SET_ASIDE: Statement = Statement::new(
    set_aside!(
        ", attempts = CASE WHEN status = 'processing' THEN attempts \
         ELSE least(attempts, 2147483646) + 1 END, \
         errors = coalesce(errors, '[]'::pg_catalog.jsonb) || \
         pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(\
         'attempt', attempts::pg_catalog.int8 + \
         CASE WHEN status = 'processing' THEN 0 ELSE 1 END, \
         'at', $3, 'sqlstate', $4, 'message', $5, 'detail', $6, 'hint', $7, 'context', $8))"
    ),
    &[
        types::INT8,
        types::TEXT,
        types::TIMESTAMPTZ,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::TEXT,
    ],
);

/// The same where even that cannot be written: an index of a user's may refuse a long text, or a
/// trigger any change.
static SET_ASIDE_BARELY: Statement = Statement::new(set_aside!(""), &[types::INT8, types::TEXT]);

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

/// Records a failed attempt and decides what follows; `None` if somebody else had settled it.
pub fn fail(
    extension: &Extension,
    queue: Option<&Queue>,
    attempt: &Attempt,
    max_attempts: i32,
    error: &PgError,
    delay: Option<Micros>,
) -> Result<Option<Ending>> {
    let Some(queue) = queue.filter(|_| attempt.ended < max_attempts) else {
        return fail_for_good(extension, attempt, error);
    };
    let now = clock::now();
    let backoff = || {
        backoff::delay(
            queue.backoff,
            queue.backoff_max,
            attempt.ended.max(1) as u32,
            random::unit(),
        )
    };
    let delay = delay.unwrap_or_else(backoff).max(0);
    let changed = as_owner(extension, |spi| {
        let mut arguments = entry(attempt, now, error)?;
        arguments.push(Some(now.saturating_add(delay).datum()));
        arguments.push(started(attempt));
        spi.run(&RETRY, &arguments).map(|rows| rows.count())
    })?;
    Ok((changed > 0).then_some(Ending::Retried))
}

/// Ends a job as failed whatever attempts it had left; `None` if somebody else had settled it.
pub fn fail_for_good(
    extension: &Extension,
    attempt: &Attempt,
    error: &PgError,
) -> Result<Option<Ending>> {
    let changed = into_history(extension, |spi| {
        let mut arguments = entry(attempt, clock::now(), error)?;
        arguments.push(started(attempt));
        spi.run(&FAIL, &arguments).map(|rows| rows.count())
    })?;
    Ok((changed > 0).then_some(Ending::Failed))
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

/// Sets a job aside: it stays in `my_queue` as `failed` until `retry()` or `purge_queue()`. `what` says
/// what is wrong about it, `error` says why. In a transaction; nothing else is undone. False if it is
/// gone, or somebody has its row.
pub fn set_aside(extension: &Extension, job: i64, what: &str, error: &PgError) -> Result<bool> {
    let code = error.sqlstate.text();
    let why = [what.as_bytes(), b": ", error.message.as_slice()].concat();
    let id = Some(job.datum());
    let full = xact::subtransaction(|| {
        let arguments = [
            id,
            Some(capped(&why)?),
            Some(clock::now().datum()),
            Some(datum::text_datum(code.as_bytes())?),
            Some(capped(&error.message)?),
            error.detail.as_deref().map(capped).transpose()?,
            error.hint.as_deref().map(capped).transpose()?,
            error.context.as_deref().map(capped).transpose()?,
        ];
        run_set_aside(extension, &SET_ASIDE, &arguments)
    });
    let set = match full {
        Ok(set) => set,
        Err(_) => {
            let why = format!("{what}: SQLSTATE {code}");
            let why = Some(datum::text_datum(why.as_bytes())?);
            let level = guc::Level::open();
            let set = guc::pass_by_triggers()
                .and_then(|()| run_set_aside(extension, &SET_ASIDE_BARELY, &[id, why]));
            level.end()?;
            set?
        }
    };
    Ok(set)
}

fn run_set_aside(
    extension: &Extension,
    statement: &Statement,
    arguments: &[Option<Datum<'_>>],
) -> Result<bool> {
    as_owner(extension, |spi| {
        let changed = spi.run(statement, arguments)?;
        Ok(changed.count() > 0)
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

/// A text cut to what is kept, between characters.
fn capped(text: &[u8]) -> Result<Datum<'static>> {
    let length = datum::clip_length(text, MAX_ERROR_BYTES);
    datum::text_datum(text.get(..length).unwrap_or_default())
}
