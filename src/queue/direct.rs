//! Jobs that go into the table without a statement, or by less than a whole one: what `enqueue()` and its like have checked, and
//! what comes by INSERT.
//!
//! What a statement would do is done here: the defaults, the entries in the indexes, and what the trigger tells
//! (`incoming`). Jobs that take more, as those with a unique key do, go by a statement, and so do all while the
//! extension's owner has changed the table.

use crate::logic::columns::{self, JOBS};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::shortcut::{Belongs, NewRow, Target, Way};
use crate::pg::table::{Indexes, Inserter, OurTrigger, Rows};
use crate::pg::{clock, latch, sequence};

use super::incoming;
use super::new_job::NewJob;
use super::{column, lists};

/// What rows of `_jobs` are like.
static ROWS: Rows<{ column::COUNT }> = Rows {
    types: lists::JOB_TYPES,
    filled: columns::LIVE_FILLED,
    check: None,
    triggers: &[
        OurTrigger {
            name: c"jobs_before_write",
            per_row: true,
        },
        OurTrigger {
            name: c"jobs_before_delete",
            per_row: true,
        },
        OurTrigger {
            name: c"jobs_only_owner",
            per_row: false,
        },
    ],
};

/// The columns that only statements can set: they look for other jobs, or write to other tables and indexes.
const BY_STATEMENT: [i32; 4] = [
    column::UNIQUE_KEY,
    column::GROUP_KEY,
    column::AFTER,
    column::EXPIRES_AT,
];

/// Jobs on their way into the table.
struct Incoming<'a> {
    extension: &'a Extension,
    inserter: Inserter<{ column::COUNT }>,
    job: NewJob<'a>,
}

/// The indexes of `_jobs`: those that have an entry of each job, and those with a condition.
fn indexes(extension: &Extension) -> ([Oid; 2], [Oid; 5]) {
    (
        [extension.jobs_key, extension.claim_index],
        [
            extension.later_index,
            extension.unique_index,
            extension.key_indexes[0],
            extension.key_indexes[1],
            extension.strangers[0],
        ],
    )
}

/// How an INSERT writes to the table: the way for most jobs, unless its owner has changed it.
pub fn way(target: &Target) -> Result<Option<Way>> {
    let extension = catalog::extension()?.filter(Extension::is_current);
    let Some(extension) = extension.filter(|found| found.jobs == target.table()) else {
        return Ok(None);
    };
    let (whole, partial) = indexes(&extension);
    let indexes = Indexes {
        whole: &whole,
        partial: &partial,
    };
    // All jobs of a database that has moved belong into the index of strangers.
    if extension.birth.moved.is_some() || !target.takes_rows(&JOBS, &ROWS, &indexes)? {
        return Ok(None);
    }
    Ok(Some(Way {
        whole,
        partial: extension.later_index,
        judge: belongs,
        with: extension.birth.home(),
    }))
}

/// The conditions of the indexes, as the scripts in `sql/parts` have them.
fn belongs(job: &NewRow<'_>, home: i64) -> Belongs {
    let has = |column| job.get(column, types::TEXT).is_some();
    let number = |column, of| job.get(column, of).map(datum::as_i64);
    let status = job.get(column::STATUS, types::TEXT);
    let is_pending = status.is_some_and(|status| datum::text_is(status, b"pending"));
    let is_own = number(column::HOME, types::INT8) == Some(home);
    let time = |column| number(column, types::TIMESTAMPTZ);
    if has(column::UNIQUE_KEY) || has(column::GROUP_KEY) || !is_pending || !is_own {
        Belongs::Others
    } else if time(column::RUN_AT) > time(column::CREATED_AT) {
        Belongs::Partial
    } else {
        Belongs::Whole
    }
}

/// Inserts a checked job, which has an owner, and answers its id; `None` if a statement must do it.
pub(super) fn insert(extension: &Extension, job: &NewJob<'_>) -> Result<Option<i64>> {
    let Some(mut incoming) = Incoming::open(extension, job)? else {
        return Ok(None);
    };
    let id = incoming.insert()?;
    incoming.inserter.close().map(|()| Some(id))
}

/// The same for each element of its payload, which is a `jsonb[]`.
pub(super) fn insert_each(extension: &Extension, job: &NewJob<'_>) -> Result<Option<Vec<i64>>> {
    let payloads = match job.get(column::PAYLOAD) {
        Some(payloads) => datum::array_elements(payloads, datum::types::JSONB)?,
        None => Vec::new(),
    };
    let mut job = job.clone();
    job.set(column::PAYLOAD, None);
    let Some(mut incoming) = Incoming::open(extension, &job)? else {
        return Ok(None);
    };
    let empty = incoming.job.get(column::PAYLOAD);
    let mut ids = Vec::new();
    for payload in payloads {
        latch::check_for_interrupts()?;
        incoming.job.set(column::PAYLOAD, payload.or(empty));
        ids.push(incoming.insert()?);
    }
    incoming.inserter.close().map(|()| Some(ids))
}

impl<'a> Incoming<'a> {
    fn open(extension: &'a Extension, job: &NewJob<'a>) -> Result<Option<Self>> {
        let takes_more = BY_STATEMENT.iter().any(|column| job.get(*column).is_some());
        // A job of a database that has moved belongs into the index of strangers, too.
        if takes_more || !extension.is_current() || extension.birth.moved.is_some() {
            return Ok(None);
        }
        let now = clock::transaction_start();
        let is_later = job.get(column::RUN_AT).map(datum::as_i64) > Some(now);
        let (whole, all_partial) = indexes(extension);
        let indexes = Indexes {
            whole: &whole,
            partial: &all_partial,
        };
        // 0: its owner has dropped it.
        let later = [extension.later_index];
        let partial: &[Oid] = match is_later && later != [0] {
            true => &later,
            false => &[],
        };
        let table = extension.jobs;
        let Some(inserter) = Inserter::open(table, &JOBS, &ROWS, &indexes, partial)? else {
            return Ok(None);
        };
        let mut incoming = Incoming {
            extension,
            inserter,
            job: job.clone(),
        };
        incoming.complete()?;
        if incoming.lacks_any() {
            // The statement says what is wrong.
            return incoming.inserter.close().map(|()| None);
        }
        Ok(Some(incoming))
    }

    /// Sets what the table has defaults for.
    fn complete(&mut self) -> Result<()> {
        let now = datum::timestamptz(clock::transaction_start());
        let defaults = [
            (column::STATUS, datum::text_datum(b"pending")?),
            (column::PAYLOAD, datum::jsonb_datum(b"{}")?),
            (column::RUN_AT, now),
            (column::CREATED_AT, now),
            (column::ATTEMPTS, 0i32.datum()),
            (column::HOME, self.extension.birth.home().datum()),
            (column::RERUN, false.datum()),
        ];
        for (column, value) in defaults {
            let given = self.job.get(column);
            self.job.set(column, given.or(Some(value)));
        }
        Ok(())
    }

    /// Whether a column besides the id has no value that must have one.
    fn lacks_any(&self) -> bool {
        let must = |place: i32| columns::LIVE_FILLED & (1 << place.saturating_sub(1)) != 0;
        let mut all = (1..).zip(self.job.values());
        all.any(|(place, value)| place != column::ID && must(place) && value.is_none())
    }

    fn insert(&mut self) -> Result<i64> {
        let id = sequence::next(self.extension.jobs_sequence)?;
        self.job.set(column::ID, Some(id.datum()));
        incoming::new_job(self.extension, id, |column| self.job.get(column))?;
        self.inserter.insert(self.job.values())?;
        Ok(id)
    }
}
