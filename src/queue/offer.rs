//! Finding due jobs for consumers: in the order of the claim, by the same index and marks, without a
//! row lock. Who finds a job publishes a lease, and then looks at the row again (`Jobs::is_free`).

use crate::logic::columns::job as column;
use crate::logic::consumers::sooner;
use crate::logic::low_water::LowWater;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Micros, Oid};
use crate::pg::error::Result;
use crate::pg::table::{Compare, Key, Lock, Row};
use crate::pg::xact;

use super::claim::{self, Candidate, Found, Job, Jobs, Patience, Walk};
use super::key_look::{KeyLook, Turn};
use super::queues::Queue;
use super::rates::Pace;
use super::stirred::{self, Fit, Wish};
use super::{expiry, home};

/// Which jobs of a queue a consumer takes.
pub struct Wanted<'a> {
    /// The queue, which has no handler.
    pub queue: &'a Queue,
    /// The kinds; empty: any.
    pub kinds: &'a [Vec<u8>],
    /// Jobs that are out already, sorted.
    pub leased: &'a [i64],
    /// Jobs that are due by then.
    pub now: Micros,
    /// How many.
    pub limit: usize,
}

impl Wanted<'_> {
    fn holds(&self, row: &Row, id: i64) -> Result<bool> {
        if self.leased.binary_search(&id).is_ok() || !is_for_consumers(row) {
            return Ok(false);
        }
        if self.kinds.is_empty() {
            return Ok(true);
        }
        let kind = row.get(column::KIND).map(datum::as_text).transpose()?;
        Ok(kind.is_some_and(|kind| self.kinds.contains(&kind)))
    }
}

/// Whether the job waits, is of this home, has not expired and says nothing of what to do: where its queue says nothing either, it is for a
/// consumer.
fn is_for_consumers(row: &Row) -> bool {
    let waits = row.get(column::STATUS);
    !claim::says_itself(|column| row.get(column).is_some())
        && waits.is_some_and(|status| datum::text_is(status, b"pending"))
        && home::is_own(row)
        && !expiry::is_over(row)
}

/// What a look for a consumer came to.
pub struct Offer {
    /// The jobs, in order, copied into the current memory context.
    pub jobs: Vec<Job>,
    /// When the next one is due; 0: none that was seen.
    pub next: Micros,
}

impl Jobs {
    /// Opens the table to read, in the order of the claim.
    pub fn open_to_read(extension: &Extension) -> Result<Self> {
        Jobs::open_with(extension, extension.claim_index, Lock::Read)
    }

    /// Opens the table to read jobs by their ids.
    pub fn open_by_id_to_read(extension: &Extension) -> Result<Self> {
        Jobs::open_with(extension, extension.jobs_key, Lock::Read)
    }

    /// Opens the table to find jobs by their ids.
    pub fn open_by_id(extension: &Extension) -> Result<Self> {
        Jobs::open_with(extension, extension.jobs_key, Lock::Write)
    }

    /// A job by its id, whatever it says, as the active snapshot sees it; copied into the current memory
    /// context. Of a table that was opened so.
    pub fn by_id(&self, id: i64) -> Result<Option<Job>> {
        match self
            .table
            .first(&[Key::int8(1, Compare::Equal, id)], &self.row)?
        {
            true => Job::read(&self.row, claim::place(&self.row)).map(Some),
            false => Ok(None),
        }
    }

    /// The job of a candidate, whatever it says, if its row is still there.
    pub fn at(&self, candidate: Candidate) -> Result<Option<Job>> {
        match self.is_there(&candidate)? {
            true => Job::read(&self.row, claim::place(&self.row)).map(Some),
            false => Ok(None),
        }
    }

    /// Up to so many due jobs of a role for a consumer, in order, and when the next one is due.
    pub fn offer(
        &self,
        owner: Oid,
        wanted: &Wanted,
        low: &mut LowWater,
        mut keys: Option<KeyLook>,
    ) -> Result<Offer> {
        let name = datum::text_datum(&wanted.queue.name)?;
        let mut pace = Pace::new(wanted.queue, owner);
        let mut jobs = Vec::new();
        let wish = Wish {
            now: wanted.now,
            limit: wanted.limit,
        };
        let stirred = match &mut keys {
            Some(keys) => {
                keys.stirred((&self.table, &self.row), wish, &mut pace, |row, place| {
                    Ok(match wanted.holds(row, place.id)? {
                        true => Fit::Yes,
                        false => Fit::No,
                    })
                })?
            }
            None => Vec::new(),
        };
        let (of, mut patience) = ((owner, name), Patience::ENDLESS);
        let next = self.walk_due(of, wanted.now, low, &mut patience, |row, place| {
            if !wanted.holds(row, place.id)? {
                return Ok(Walk::Past);
            }
            let turn = match &mut keys {
                Some(keys) => keys.turn(row, place, &pace)?,
                None => Turn::Now(None),
            };
            let key = match turn {
                Turn::Now(key) => key,
                Turn::Passed => return Ok(Walk::Past),
                Turn::Later => return Ok(Walk::On),
            };
            let mut job = Job::read(row, place)?;
            job.key = key;
            // What this transaction has brought is there for others once it is committed, and then announced.
            if job.is_own() || job.defect().is_some() {
                return Ok(Walk::Past);
            }
            if let Some(keys) = &mut keys {
                match keys.pace(row, place, &mut pace)? {
                    Turn::Now(_) => {}
                    Turn::Passed => return Ok(Walk::Past),
                    Turn::Later => return Ok(Walk::On),
                }
            }
            jobs.push(job);
            Ok(if jobs.len() < wanted.limit {
                Walk::On
            } else {
                Walk::Enough
            })
        })?;
        if let Some(keys) = &keys {
            keys.end(&mut pace);
        }
        let mut jobs = stirred::merged(jobs, stirred, wanted.limit);
        jobs.retain(|job| !job.is_own() && job.defect().is_none());
        let next = sooner(next, pace.next);
        Ok(Offer { jobs, next })
    }

    /// The first role after that one that has jobs, of whatever queue, or had some a while ago.
    pub fn next_owner(&self, after: Option<Oid>) -> Result<Option<Oid>> {
        let beyond = after.map(|owner| Key::oid(claim::key::OWNER, Compare::Greater, owner));
        let keys: Vec<Key> = beyond.into_iter().collect();
        let found = self.table.first_entry::<1>(&keys)?;
        Ok(found.and_then(|[owner]| owner.map(datum::as_oid)))
    }

    /// Whether the version of the job's row is the newest under the active snapshot, and nobody has it.
    pub fn is_free(&self, job: &Job) -> Result<bool> {
        self.table.is_free(job.row.id)
    }
}

impl Job {
    /// Where its row stands, to lock it without a search.
    pub fn candidate(&self) -> Candidate {
        Candidate {
            place: self.place(),
            row: self.row.id,
            key: self.key.clone(),
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> Oid {
        self.value(column::OWNER).map_or(0, datum::as_oid)
    }

    /// When it is due, or while its row has a lease, when that ends.
    pub fn run_at(&self) -> Micros {
        self.value(column::RUN_AT).map_or(0, datum::as_i64)
    }

    /// Whether this transaction has written its row.
    pub fn is_own(&self) -> bool {
        xact::is_own(self.row.writer())
    }
}
