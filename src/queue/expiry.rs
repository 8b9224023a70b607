//! Jobs that come too late: `expires_at`.
//!
//! A job does not start at that time or later: whoever starts one compares, with the row locked. Looks pass over
//! such jobs, and the keeper ends them. It finds them by an index in the order in which they expire, the one of
//! rows of other homes.

use crate::logic::columns::JOBS;
use crate::pg::catalog::Extension;
use crate::pg::clock;
use crate::pg::datum::{self, Micros};
use crate::pg::error::{JOB_EXPIRED, PgError, Result};
use crate::pg::scan::{BoundedScan, Step};
use crate::pg::table::{Compare, Key, Lock, Row, Table};

use super::column;

/// Columns of the index.
mod key {
    pub const HOME: i16 = 1;
    pub const EXPIRES_AT: i16 = 2;
    pub const ID: i16 = 3;
}

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

/// What a look for jobs that have expired came to.
pub struct Expired {
    /// Those that wait, in order.
    pub jobs: Vec<Place>,
    /// Where to read on; `None`: these are all.
    pub unread: Option<Place>,
    /// When the next one expires; 0: none does, or it is not known yet.
    pub next: Micros,
}

/// Up to `most` jobs of this home that wait and have expired by `now`, behind a place; of `budget` entries of
/// the index. Under the active snapshot.
pub fn look(
    extension: &Extension,
    after: Option<Place>,
    now: Micros,
    most: usize,
    mut budget: i64,
) -> Result<Expired> {
    let index = extension.strangers[0];
    let table = Table::open(extension.jobs, index, Lock::Read, &JOBS)?;
    let row = table.row()?;
    let home = Key::int8(key::HOME, Compare::Equal, extension.birth.home);
    let time = |compare, at| Key::timestamp(key::EXPIRES_AT, compare, at);
    // Those of the same time behind that place, then those of later times.
    let scans = match after {
        Some((at, id)) => vec![
            vec![
                home,
                time(Compare::Equal, at),
                Key::int8(key::ID, Compare::Greater, id),
            ],
            vec![home, time(Compare::Greater, at)],
        ],
        None => vec![vec![home]],
    };
    let mut found = Expired {
        jobs: Vec::new(),
        unread: None,
        next: 0,
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
            let at = scan.value(i32::from(key::EXPIRES_AT));
            let entry = at.zip(scan.value(i32::from(key::ID)));
            let place = entry.map(|(at, id)| (datum::as_i64(at), datum::as_i64(id)));
            match (step, place) {
                (Step::Spent, place) => {
                    self.unread = place.or(*last);
                    return Ok(());
                }
                (Step::Row, Some(place)) if place.0 <= now => {
                    *last = Some(place);
                    if waits(row) {
                        self.jobs.push(place);
                    }
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

fn waits(row: &Row) -> bool {
    let status = row.get(column::STATUS);
    let is = |word: &[u8]| status.is_some_and(|status| datum::text_is(status, word));
    row.get(column::LEASE).is_none() && (is(b"pending") || is(b"blocked"))
}
