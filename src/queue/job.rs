//! A job as its row says it.

use crate::logic::low_water::Place;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{CHECK_VIOLATION, PgError, Result};
use crate::pg::table::{OwnedRow, Row};

use super::key_tables::GroupKey;
use super::{column, ids};

/// What a look makes of the row of a job that it finds.
pub trait Found: Sized {
    /// Reads the row, which stands at that place.
    fn read(row: &Row, place: Place) -> Result<Self>;

    /// Where the job stands in the order.
    fn place(&self) -> Place;

    /// Its queue goes by keys, and this is its.
    fn set_key(&mut self, key: GroupKey);
}

/// A job as its row says it, in the memory context that was current then.
pub struct Job {
    /// Its id.
    pub id: i64,
    pub(super) row: OwnedRow,
    pub(super) place: Place,
    /// What it calls, if it says so itself.
    pub handler: Option<Vec<u8>>,
    /// See [`super::handler::Named`].
    pub handler_owner: Option<Oid>,
    /// Whether it runs a command.
    pub is_command: bool,
    /// Its argument.
    pub payload: Option<Datum<'static>>,
    /// Executions that have ended.
    pub attempts: i32,
    /// Executions before it is failed, if it says so itself.
    pub max_attempts: Option<i32>,
    /// How long an attempt may take, if it says so itself.
    pub timeout: Option<Micros>,
    /// When it was due: its `run_at`, or if that is -infinity, when it was enqueued.
    pub due: Micros,
    /// Its key, where its queue goes by keys.
    pub key: Option<GroupKey>,
    /// When it expires; `Micros::MAX`: never.
    expires_at: Micros,
}

impl Found for Job {
    fn read(row: &Row, place: Place) -> Result<Self> {
        read_job(row.copy()?, place)
    }

    fn place(&self) -> Place {
        self.place
    }

    fn set_key(&mut self, key: GroupKey) {
        self.key = Some(key);
    }
}

impl Job {
    /// Why nobody can run the job, whatever it does: only a hand can have written such a row.
    pub fn defect(&self) -> Option<PgError> {
        let message = if self.id == 0
            || self.id >= ids::FIRST_TOO_LARGE
            || self.id <= -ids::FIRST_TOO_LARGE
        {
            "the id of the job is out of range"
        } else if self.handler.is_some() && self.is_command {
            "a job has either a handler or a command"
        } else if self.attempts < 0 || self.attempts == i32::MAX {
            "the attempts of the job are out of range"
        } else if self.payload.is_none() {
            "the job has no payload"
        } else {
            return None;
        };
        Some(PgError::new(CHECK_VIOLATION, message))
    }

    /// Whether it must not start at that time any more.
    pub fn is_expired(&self, now: Micros) -> bool {
        self.expires_at <= now
    }

    /// The command's text, copied.
    pub fn command(&self) -> Result<Vec<u8>> {
        self.value(column::COMMAND)
            .map_or(Ok(Vec::new()), datum::as_text)
    }

    /// A column of its row.
    pub fn value(&self, column: i32) -> Option<Datum<'static>> {
        self.row.get(column)
    }
}

pub(super) fn place(row: &Row) -> Place {
    Place {
        priority: row.get(column::PRIORITY).map_or(0, datum::as_i32),
        run_at: row.get(column::RUN_AT).map_or(0, datum::as_i64),
        id: row.get(column::ID).map_or(0, datum::as_i64),
    }
}

fn read_job(row: OwnedRow, place: Place) -> Result<Job> {
    let get = |column| row.get(column);
    // What it says itself rests in a dead-letter queue.
    let is_letter = get(column::ORIGIN).is_some();
    let own = |column| get(column).filter(|_| !is_letter);
    let number = |column| get(column).map_or(0, datum::as_i64);
    Ok(Job {
        id: number(column::ID),
        row,
        place,
        handler: own(column::HANDLER).map(datum::as_text).transpose()?,
        handler_owner: get(column::HANDLER_OWNER).map(datum::as_oid),
        is_command: own(column::COMMAND).is_some(),
        payload: get(column::PAYLOAD),
        attempts: get(column::ATTEMPTS).map_or(0, datum::as_i32),
        max_attempts: get(column::MAX_ATTEMPTS).map(datum::as_i32),
        timeout: get(column::TIMEOUT)
            .map(datum::interval_micros)
            .transpose()?,
        due: match number(column::RUN_AT) {
            Micros::MIN => number(column::CREATED_AT),
            run_at => run_at,
        },
        key: None,
        expires_at: get(column::EXPIRES_AT).map_or(Micros::MAX, datum::as_i64),
    })
}

/// Whether a job says itself what to do; `has`: whether it has a value in a column. What it says rests while
/// it stands in a dead-letter queue.
pub fn says_itself(has: impl Fn(i32) -> bool) -> bool {
    (has(column::HANDLER) || has(column::COMMAND)) && !has(column::ORIGIN)
}
