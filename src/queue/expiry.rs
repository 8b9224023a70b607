//! Jobs that come too late: `expires_at`.
//!
//! A job does not start at that time or later: whoever starts one compares, with the row locked. Looks pass over
//! such jobs, and the keeper ends them. It finds them in `_expiring`, where each has a row that its INSERT brings,
//! and an UPDATE of the time. A row says when to look at the job, nothing else: the job may have ended, or have another
//! time.

use crate::logic::columns::{EXPIRING, expiring};
use crate::pg::catalog::Extension;
use crate::pg::clock;
use crate::pg::datum::{self, Datum, Micros, ToDatum, types};
use crate::pg::error::{JOB_EXPIRED, PgError, Result};
use crate::pg::fmgr::TriggerRow;
use crate::pg::scan::{BoundedScan, Step};
use crate::pg::spi::{self, Statement};
use crate::pg::table::{Compare, Key, Lock, Row, Table};

use super::{as_owner, column, wake};

/// A row that an earlier life of the job has left is written again, so that it is not taken for one of a job that
/// is gone.
static ADD: Statement = Statement::new(
    "INSERT INTO my_worker._expiring AS e (expires_at, job) VALUES ($1, $2) \
     ON CONFLICT (expires_at, job) DO UPDATE SET job = e.job",
    &[types::TIMESTAMPTZ, types::INT8],
);

static FORGET: Statement = Statement::new(
    "DELETE FROM my_worker._expiring AS e WHERE e.ctid = ANY (ARRAY(SELECT f.ctid FROM my_worker._expiring AS f \
     WHERE f.expires_at = $1 AND f.job = $2 FOR UPDATE SKIP LOCKED))",
    &[types::TIMESTAMPTZ, types::INT8],
);

/// Some rows behind a place, and whether their jobs are there.
static STANDING: Statement = Statement::new(
    "SELECT e.expires_at, e.job, (SELECT j.id FROM my_worker._jobs AS j WHERE j.id = e.job LIMIT 1) IS NOT NULL \
     FROM (SELECT f.expires_at, f.job FROM my_worker._expiring AS f WHERE (f.expires_at, f.job) > ($1, $2) \
     ORDER BY f.expires_at, f.job LIMIT $3) AS e",
    &[types::TIMESTAMPTZ, types::INT8, types::INT8],
);

/// When a job expires, and its id: jobs expire in this order.
pub type Place = (Micros, i64);

/// Whether the job of a row has expired by now.
pub fn is_over(row: &Row) -> bool {
    let at = row.get(column::EXPIRES_AT).map(datum::as_i64);
    at.is_some_and(|at| at <= clock::now())
}

/// What such a job ends with.
pub fn error() -> PgError {
    PgError::new(JOB_EXPIRED, "the job was not started before it expired")
        .detail("The time is that of its column \"expires_at\".")
}

/// A job that expires was written: the keeper looks at it then, if this transaction commits.
pub(super) fn note(row: &TriggerRow, extension: &Extension) -> Result<()> {
    let at = |value: Option<Datum<'_>>| value.map(datum::as_i64);
    let expires_at = at(row.get(column::EXPIRES_AT));
    let Some(time) = expires_at.filter(|time| *time != Micros::MAX) else {
        return Ok(());
    };
    let is_known = row.is_update && at(row.old(column::EXPIRES_AT)) == expires_at;
    if !is_known && extension.is_current() {
        let job = row.get(column::ID).map_or(0, datum::as_i64);
        let arguments = [Some(datum::timestamptz(time)), Some(job.datum())];
        as_owner(extension, |spi| spi.run(&ADD, &arguments).map(|_| ()))?;
    }
    wake::due_at_commit(time)
}

/// Deletes a row, unless somebody has it locked.
pub fn forget(extension: &Extension, place: Place) -> Result<()> {
    let arguments = [Some(datum::timestamptz(place.0)), Some(place.1.datum())];
    as_owner(extension, |spi| spi.run(&FORGET, &arguments).map(|_| ()))
}

/// Deletes rows of jobs that are gone, of up to `most` behind a place; answers where to go on, if there may be more.
pub fn tidy(extension: &Extension, after: Place, most: usize) -> Result<Option<Place>> {
    let arguments = [
        Some(datum::timestamptz(after.0)),
        Some(after.1.datum()),
        Some((most as i64).datum()),
    ];
    let rows: Vec<(Place, bool)> = as_owner(extension, |spi| {
        let rows = spi.run(&STANDING, &arguments)?;
        let row = |row: spi::Row<'_>| {
            let place = (row.i64(1).unwrap_or(0), row.i64(2).unwrap_or(0));
            (place, row.bool(3))
        };
        Ok(rows.iter().map(row).collect())
    })?;
    let mut gone = rows.iter().filter(|(_, is_there)| !is_there);
    gone.try_for_each(|(place, _)| forget(extension, *place))?;
    let last = rows.last().filter(|_| rows.len() >= most);
    Ok(last.map(|(place, _)| *place))
}

/// What a look for jobs that have expired came to.
pub struct Expired {
    /// Rows of such jobs, in order.
    pub jobs: Vec<Place>,
    /// Where to read on; `None`: these are all.
    pub unread: Option<Place>,
    /// When the next one expires; 0: none does, or it is not known yet.
    pub next: Micros,
}

/// Up to `most` jobs that have expired by `now`, behind a place; of `budget` entries of the index. Under the active
/// snapshot.
pub fn look(
    extension: &Extension,
    after: Option<Place>,
    now: Micros,
    most: usize,
    mut budget: i64,
) -> Result<Expired> {
    let mut found = Expired::none();
    if extension.expiring_key == 0 {
        return Ok(found);
    }
    let (table, index) = (extension.expiring, extension.expiring_key);
    let table = Table::open(table, index, Lock::Read, &EXPIRING)?;
    let row = table.row()?;
    let (at, job) = (expiring::EXPIRES_AT as i16, expiring::JOB as i16);
    // Those of the same time behind that place, then those of later times.
    let scans = match after {
        Some((time, id)) => vec![
            vec![
                Key::timestamp(at, Compare::Equal, time),
                Key::int8(job, Compare::Greater, id),
            ],
            vec![Key::timestamp(at, Compare::Greater, time)],
        ],
        None => vec![Vec::new()],
    };
    let mut last = after;
    for keys in scans {
        let scan = table.bounded_scan(&keys)?;
        found.read(&scan, &row, &mut last, now, most, &mut budget)?;
        scan.end()?;
        if found.unread.is_some() || found.next != 0 {
            break;
        }
    }
    row.end()?;
    table.close()?;
    Ok(found)
}

impl Expired {
    /// None.
    pub fn none() -> Expired {
        Expired {
            jobs: Vec::new(),
            unread: None,
            next: 0,
        }
    }

    /// Reads on until it is known where to stop. `last`: the last place that was read.
    fn read(
        &mut self,
        scan: &BoundedScan<'_>,
        row: &Row,
        last: &mut Option<Place>,
        now: Micros,
        most: usize,
        budget: &mut i64,
    ) -> Result<()> {
        loop {
            let step = scan.next(row, budget)?;
            let entry = scan
                .value(expiring::EXPIRES_AT)
                .zip(scan.value(expiring::JOB));
            let place = entry.map(|(at, job)| (datum::as_i64(at), datum::as_i64(job)));
            match (step, place) {
                (Step::Spent, place) => {
                    self.unread = place.or(*last);
                    return Ok(());
                }
                (Step::Row, Some(place)) if place.0 <= now => {
                    *last = Some(place);
                    self.jobs.push(place);
                    if self.jobs.len() >= most {
                        self.unread = *last;
                        return Ok(());
                    }
                }
                (Step::Row, Some(place)) => {
                    self.next = place.0;
                    return Ok(());
                }
                (Step::End | Step::Row, _) => return Ok(()),
            }
        }
    }
}
