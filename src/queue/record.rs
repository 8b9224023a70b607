//! Writing jobs that have ended well into the history: appended without a statement, as long as its
//! owner has changed nothing about the table.

use crate::pg::catalog::Extension;
use crate::pg::datum::{Datum, Micros, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::pg::table::{self, Appender};

use super::claim::{Job, value};
use super::{column, into_history};

/// `history`, open to append to.
pub enum History {
    /// As the extension made it.
    Pristine(Appender<{ column::OF_HISTORY }>),
    /// Its owner has added columns, constraints, triggers or the like.
    Changed,
}

/// What rows of the history are like.
static ROWS: table::Rows<{ column::OF_HISTORY }> = {
    use types::{INT4, INT8, INTERVAL, JSONB, REGROLE, TEXT, TIMESTAMPTZ};
    table::Rows {
        types: [
            INT8,
            TEXT,
            TEXT,
            TEXT,
            TEXT,
            JSONB,
            INT4,
            TIMESTAMPTZ,
            TIMESTAMPTZ,
            TIMESTAMPTZ,
            INT4,
            INT4,
            INTERVAL,
            TEXT,
            REGROLE,
            TEXT,
            TIMESTAMPTZ,
            JSONB,
            JSONB,
            REGROLE,
        ],
        // Those that are NOT NULL: id, queue, status, payload, priority, run_at, created_at,
        // attempts, owner, finished_at; and started_at, which a job that has run has.
        filled: 0b001_0100_0111_1110_0111,
        check: c"(status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text]))",
    }
};

static RECORD: Statement = Statement::new(
    "INSERT INTO my_worker.history (id, queue, status, handler, command, payload, priority, \
     run_at, created_at, started_at, attempts, max_attempts, timeout, unique_key, owner, \
     last_error, finished_at, result, errors, handler_owner) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
    &ROWS.types,
);

/// Opens it.
pub fn open_history(extension: &Extension) -> Result<History> {
    Ok(match Appender::open(extension.history, &ROWS)? {
        Some(appender) => History::Pristine(appender),
        None => History::Changed,
    })
}

/// Writes a job that ended into the history.
pub(super) fn record(
    extension: &Extension,
    job: &Job,
    ended: &Ended,
    history: &History,
) -> Result<()> {
    let row = history_row(&job.values, ended);
    match history {
        History::Pristine(appender) => appender.append(&row),
        History::Changed => into_history(extension, |spi| spi.run(&RECORD, &row).map(|_| ())),
    }
}

impl History {
    /// Writes what waits and closes the table.
    pub fn end(self) -> Result<()> {
        match self {
            History::Pristine(appender) => appender.end(),
            History::Changed => Ok(()),
        }
    }
}

fn history_row(
    row: &[Option<Datum<'static>>],
    ended: &Ended,
) -> [Option<Datum<'static>>; column::OF_HISTORY] {
    std::array::from_fn(|index| match index as i32 + 1 {
        column::STATUS => Some(ended.status),
        column::STARTED_AT => Some(ended.started.datum()),
        column::ATTEMPTS => Some(ended.attempts.datum()),
        column::FINISHED_AT => Some(ended.finished.datum()),
        column::RESULT => ended.result,
        column::HISTORY_ERRORS => value(row, column::ERRORS),
        column::HISTORY_HANDLER_OWNER => value(row, column::HANDLER_OWNER),
        same => value(row, same),
    })
}

/// How a job ended, for its row in the history.
pub struct Ended {
    /// The final status, as a `text`.
    pub status: Datum<'static>,
    /// Start of the last attempt.
    pub started: Micros,
    /// Its end.
    pub finished: Micros,
    /// Executions, the last one included.
    pub attempts: i32,
    /// What the handler returned, as `jsonb`.
    pub result: Option<Datum<'static>>,
}
