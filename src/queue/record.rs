//! Writing jobs that have ended well into the history: appended without a statement, as long as its
//! owner has changed nothing about the table.

use crate::logic::columns::{self, history, job as column};
use crate::pg::catalog::Extension;
use crate::pg::datum::{Datum, Micros, ToDatum};
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::pg::table::{self, Appender};

use super::claim::Job;
use super::{into_history, lists};

/// `history`, open to append to.
pub enum History {
    /// As the extension made it.
    Pristine(Appender<{ history::COUNT }>),
    /// Its owner has added columns, constraints, triggers or the like.
    Changed,
}

/// What rows of the history are like.
static ROWS: table::Rows<{ history::COUNT }> = table::Rows {
    types: lists::HISTORY_TYPES,
    filled: columns::FILLED,
    check: Some(c"(status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text]))"),
    triggers: &[table::OurTrigger {
        name: c"history_only_owner",
        per_row: false,
    }],
};

static RECORD: Statement = Statement::made(lists::insert_history, &ROWS.types);

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
    let row = history_row(job, ended);
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

fn history_row<'a>(job: &Job, ended: &Ended<'a>) -> [Option<Datum<'a>>; history::COUNT] {
    let mut row = [None; history::COUNT];
    for ((place, value), in_jobs) in (1..).zip(&mut row).zip(columns::IN_JOBS) {
        *value = match place {
            history::STATUS => Some(ended.status),
            history::STARTED_AT => Some(ended.started.datum()),
            history::ATTEMPTS => Some(ended.attempts.datum()),
            history::FINISHED_AT => Some(ended.finished.datum()),
            history::RESULT => ended.result,
            // While a row has a lease, its own `run_at` says when that ends.
            history::RUN_AT => job
                .value(column::LEASE_RUN_AT)
                .or_else(|| job.value(in_jobs)),
            _ => job.value(in_jobs),
        };
    }
    row
}

/// How a job ended, for its row in the history.
pub struct Ended<'a> {
    /// The final status, as a `text`.
    pub status: Datum<'static>,
    /// Start of the last attempt.
    pub started: Micros,
    /// Its end.
    pub finished: Micros,
    /// Executions, the last one included.
    pub attempts: i32,
    /// What the handler returned, as `jsonb`.
    pub result: Option<Datum<'a>>,
}
