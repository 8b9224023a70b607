//! Whether jobs may run here, or came with a copy of another database.
//!
//! Each job and schedule carries the home of the database that it was made in. While one of another home is
//! there, or the database was copied by its files, nothing runs. The keeper finds out at each of its looks and
//! says so in shared memory, where workers and whoever enqueues read it; a COMMIT that brings such a row has it
//! look at once. Workers and the keeper also compare each row before they touch it, so none of another home
//! is ever run, charged or settled, however late that is noticed.

use crate::logic::columns::{JOBS, SCHEDULES};
use crate::pg::catalog::Extension;
use crate::pg::datum;
use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use crate::pg::table::{Lock, Row, Table};
use crate::pg::{bgworker, birth};
use crate::settings;
use crate::shared::SHARED;

use super::{column, extension};

/// What to do with a copy.
pub const HINT: &str =
    "If its jobs shall run here, and no more where they came from, use my_worker.adopt().";

/// The home of a job or schedule that was restored from a dump of this very home. No home has that number.
pub const RESTORED: i64 = -1;

/// Why a database is a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WhyCopy {
    /// Its files were copied.
    Files,
    /// Jobs are there that came from elsewhere.
    Jobs,
    /// Schedules are.
    Schedules,
}

impl WhyCopy {
    /// As `health()` and the log say it.
    pub fn reason(self) -> &'static str {
        match self {
            WhyCopy::Files => {
                "this database is a copy of another one: none of its jobs run before my_worker.adopt()"
            }
            WhyCopy::Jobs => {
                "this database is a copy: it has jobs of another one, and none run before my_worker.adopt()"
            }
            WhyCopy::Schedules => {
                "this database is a copy: it has schedules of another one, and no job runs before my_worker.adopt()"
            }
        }
    }
}

/// Whether a job is of this home, or may run although it is not.
pub fn is_own(row: &Row) -> bool {
    settings::RUN_COPIES.get() || row.get(column::HOME).map(datum::as_i64) == Some(birth::home())
}

/// The same of a row's column.
pub fn is_own_home(home: Option<i64>) -> bool {
    settings::RUN_COPIES.get() || home == Some(birth::home())
}

/// Why this database is a copy whose jobs may not run, if so, under the active snapshot. A few pages.
pub fn copied(extension: &Extension) -> Result<Option<WhyCopy>> {
    if settings::RUN_COPIES.get() {
        return Ok(None);
    }
    if extension.birth.moved.is_some() {
        return Ok(Some(WhyCopy::Files));
    }
    let [jobs, schedules] = extension.strangers;
    Ok(
        if has_any(Table::open(extension.jobs, jobs, Lock::Read, &JOBS)?)? {
            Some(WhyCopy::Jobs)
        } else if has_any(Table::open(
            extension.schedules,
            schedules,
            Lock::Read,
            &SCHEDULES,
        )?)? {
            Some(WhyCopy::Schedules)
        } else {
            None
        },
    )
}

fn has_any(table: Table) -> Result<bool> {
    let row = table.row()?;
    let found = table.first(&[], &row)?;
    row.end()?;
    table.close()?;
    Ok(found)
}

/// Whether the keeper has found that this database is a copy.
pub fn is_known_copy() -> bool {
    let database = bgworker::my_database();
    SHARED.read(|state| state.is_copy(database)) == Some(true)
}

/// An error where nothing runs, since this database is a copy: 55000.
pub fn refuse_copy() -> Result<()> {
    match copied(&extension()?)? {
        Some(copy) => Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, copy.reason()).hint(HINT)),
        None => Ok(()),
    }
}
