//! Writing jobs that have ended well into the history: appended without a statement, as long as its
//! owner has changed nothing about the table.

use crate::logic::columns::{self, history, job as column};
use crate::pg::catalog::Extension;
use crate::pg::datum::{Datum, Micros, ToDatum};
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::pg::table::{self, Appender, Rare, RowValues};

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

/// What those have for which there are indexes of their own.
static RARE: [Rare; 2] = [
    Rare::Text(history::STATUS, "failed"),
    Rare::Set(history::SCHEDULE_ID),
];

static RECORD: Statement = Statement::made(lists::insert_history, &ROWS.types);

/// Opens it.
pub fn open_history(extension: &Extension) -> Result<History> {
    Ok(match Appender::open(extension.history, &ROWS, &RARE)? {
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
    let row = history_row(job, ended)?;
    match history {
        History::Pristine(appender) => appender.append(&row),
        History::Changed => into_history(extension, |spi| spi.run(&RECORD, &row.row()).map(|_| ())),
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

fn history_row<'a>(job: &'a Job, ended: &Ended<'a>) -> Result<RowValues<'a, { history::COUNT }>> {
    let mut row = RowValues::new(&ROWS.types);
    row.take_over(&job.row, &columns::IN_JOBS);
    // While a row has a lease, its own `run_at` says when that ends.
    if let Some(run_at) = job.value(column::LEASE_RUN_AT) {
        row.set(history::RUN_AT, Some(run_at))?;
    }
    row.set(history::STATUS, Some(ended.status))?;
    row.set(history::STARTED_AT, Some(ended.started.datum()))?;
    row.set(history::ATTEMPTS, Some(ended.attempts.datum()))?;
    row.set(history::FINISHED_AT, Some(ended.finished.datum()))?;
    row.set(history::RESULT, ended.result)?;
    Ok(row)
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
