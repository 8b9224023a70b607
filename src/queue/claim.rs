//! Finding due jobs, taking them, and ending them well: what every job pays for.
//!
//! Candidates are read without a lock, in the order of the claim's index, and each is locked only
//! when it starts. So a job that takes long holds up none behind it: the others are free for
//! every other worker. What a worker has and means to do next it publishes in its slot as a stretch
//! of the order (its reach), so that others read past it; that is a hint, the row lock decides.
//!
//! Future jobs cost nothing: within one priority they stand behind the due ones, and the scan
//! goes on to the next priority by a new descent of the index.

use std::cell::OnceCell;

use crate::logic::columns::JOBS;
use crate::logic::low_water::{LowWater, Place};
use crate::logic::reach::Reaches;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{PgError, Result};
use crate::pg::holder::Holder;
use crate::pg::table::{Compare, Key, Lock, Locked, Row, RowId, Table};

pub(super) use super::job::place;
pub use super::job::{Found, Job, says_itself};
use super::key_look::{KeyLook, Turn};
use super::key_tables::{GroupKey, KeyTables, KeysOf};
use super::queues::{self, Queue};
use super::rates::Pace;
use super::stirred::{self, Fit, Wish};
pub use super::walk::Patience;
pub(super) use super::walk::{Walk, key, place_key, walk_due};
use super::{column, expiry, home};

/// A job that could be taken.
#[derive(Clone)]
pub struct Candidate {
    /// Its place in the order.
    pub place: Place,
    /// Where its row stands.
    pub row: RowId,
    /// Its key, where its queue goes by keys.
    pub key: Option<GroupKey>,
}

/// What a look for candidates leaves out.
#[derive(Default)]
pub struct Avoid<'k> {
    /// What other workers have of the queue.
    pub others: Reaches,
    /// Jobs that run, or that somebody had locked; sorted.
    pub jobs: Vec<i64>,
    /// Those of these jobs that the look came upon.
    pub passed: Vec<i64>,
    /// What its queue's rate lets start.
    pub pace: Pace,
    /// What its queue asks for of jobs with a key.
    pub keys: Option<KeyLook<'k>>,
    /// What stands before this place, or at it, is left out.
    pub behind: Option<Place>,
    /// How many jobs that are for nobody the look passes by.
    pub patience: Patience,
}

impl Found for Candidate {
    fn read(row: &Row, place: Place) -> Result<Self> {
        Ok(Candidate {
            place,
            row: row.id(),
            key: None,
        })
    }

    fn place(&self) -> Place {
        self.place
    }

    fn set_key(&mut self, key: GroupKey) {
        self.key = Some(key);
    }
}

/// `my_queue`, open to take jobs from. Lives within one transaction.
pub struct Jobs {
    pub(super) table: Table,
    pub(super) row: Row,
    /// Opened where keys matter.
    keys: OnceCell<KeyTables>,
    of: Extension,
    lock: Lock,
}

impl Jobs {
    /// Opens the table. The active snapshot decides what is seen.
    pub fn open(extension: &Extension) -> Result<Self> {
        Jobs::open_with(extension, extension.claim_index, Lock::Write)
    }

    /// The same, with that index.
    pub(super) fn open_with(extension: &Extension, index: Oid, lock: Lock) -> Result<Self> {
        let table = Table::open(extension.jobs, index, lock, &JOBS)?;
        let row = table.row()?;
        Ok(Jobs {
            table,
            row,
            keys: OnceCell::new(),
            of: *extension,
            lock,
        })
    }

    /// Closes it; the lock on the table stays until the transaction ends.
    pub fn close(self) -> Result<()> {
        self.row.end()?;
        self.keys.into_inner().map_or(Ok(()), KeyTables::close)?;
        self.table.close()
    }

    /// The table by its indexes of keys, which is first asked for in a memory context that outlives this.
    pub fn keys(&self) -> Result<&KeyTables> {
        if self.keys.get().is_none() {
            let opened = KeyTables::open(self.of.jobs, self.of.key_indexes, self.lock)?;
            let _ = self.keys.set(opened);
        }
        self.keys
            .get()
            .ok_or_else(|| PgError::internal("an index of keys was not opened"))
    }

    /// Has the keys of a queue's jobs at hand, if looks at it tell them apart.
    pub fn prepare_keys(&self, queue: &Queue) -> Result<()> {
        match queue.tells_keys() {
            true => self.keys().map(|_| ()),
            false => Ok(()),
        }
    }

    /// How many jobs the role has, at most `limit`.
    pub fn count_of(&self, owner: Oid, limit: i64) -> Result<i64> {
        let scan = self
            .table
            .scan(&[Key::oid(key::OWNER, Compare::Equal, owner)])?;
        let mut found = 0;
        while found < limit && scan.next(&self.row)? {
            found += 1;
        }
        scan.end()?;
        Ok(found)
    }

    /// The first queue after `after` and before `before` that has jobs of the role; its name is
    /// copied into the current memory context.
    pub fn next_queue(
        &self,
        owner: Oid,
        after: Option<Datum<'_>>,
        before: Option<Datum<'_>>,
    ) -> Result<Option<Datum<'static>>> {
        let keys: Vec<Key> = std::iter::once(Key::oid(key::OWNER, Compare::Equal, owner))
            .chain(after.map(|name| Key::text(key::QUEUE, Compare::Greater, name)))
            .chain(before.map(|name| Key::text(key::QUEUE, Compare::Less, name)))
            .collect();
        let found = self.table.first(&keys, &self.row)?;
        match self.row_value(found, column::QUEUE) {
            Some(name) => Ok(Some(datum::text_datum(&datum::as_text(name)?)?)),
            None => Ok(None),
        }
    }

    fn row_value(&self, found: bool, column: i32) -> Option<Datum<'_>> {
        if found { self.row.get(column) } else { None }
    }

    /// Walks the due jobs of a role's queue: see [`walk_due`].
    pub(super) fn walk_due(
        &self,
        of: (Oid, Datum<'_>),
        now: Micros,
        low: &mut LowWater,
        patience: &mut Patience,
        visit: impl FnMut(&Row, Place) -> Result<Walk>,
    ) -> Result<Micros> {
        walk_due((&self.table, &self.row), of, now, low, patience, visit)
    }

    /// Up to `limit` due jobs in order. The active snapshot is younger than what is to be avoided,
    /// so that what others have done with since is not seen.
    pub fn look<F: Found>(
        &self,
        owner: Oid,
        queue: &Queue,
        now: Micros,
        limit: usize,
        avoid: &mut Avoid<'_>,
        low: &mut LowWater,
    ) -> Result<Vec<F>> {
        let stirred = self.look_at_stirred(queue, Wish { now, limit }, avoid)?;
        let Avoid {
            others,
            jobs,
            passed,
            pace,
            keys,
            patience,
            ..
        } = avoid;
        let name = datum::text_datum(&queue.name)?;
        let mut found = Vec::with_capacity(limit);
        self.walk_due((owner, name), now, low, patience, |row, place| {
            if let Some(end) = others.end_of(place) {
                return Ok(Walk::Behind(end));
            }
            if jobs.binary_search(&place.id).is_ok() {
                passed.push(place.id);
                return Ok(Walk::On);
            }
            if !is_runnable(row, queue) {
                return Ok(Walk::Past);
            }
            let turn = match keys {
                Some(keys) => keys.may_start(row, place, pace)?,
                None => Turn::Now(None),
            };
            let key = match turn {
                Turn::Now(key) => key,
                Turn::Passed => return Ok(Walk::Past),
                Turn::Later => return Ok(Walk::On),
            };
            let mut job = F::read(row, place)?;
            if let Some(key) = key {
                job.set_key(key);
            }
            found.push(job);
            Ok(if found.len() < limit {
                Walk::On
            } else {
                Walk::Enough
            })
        })?;
        if let Some(keys) = keys {
            keys.end(pace);
        }
        Ok(stirred::merged(found, stirred, limit))
    }

    /// Of the jobs that the marks have passed by, those that may start now, in order.
    fn look_at_stirred<F: Found>(
        &self,
        queue: &Queue,
        wish: Wish,
        avoid: &mut Avoid<'_>,
    ) -> Result<Vec<F>> {
        let Avoid {
            others,
            jobs,
            passed,
            pace,
            keys: Some(keys),
            behind,
            ..
        } = avoid
        else {
            return Ok(Vec::new());
        };
        keys.stirred((&self.table, &self.row), wish, pace, |row, place| {
            if behind.is_some_and(|last| place <= last) {
                return Ok(Fit::Before);
            }
            if jobs.binary_search(&place.id).is_ok() {
                passed.push(place.id);
                return Ok(Fit::Taken);
            }
            Ok(match others.end_of(place) {
                Some(_) => Fit::Taken,
                None if is_runnable(row, queue) => Fit::Yes,
                None => Fit::No,
            })
        })
    }

    /// A job by its id, whenever it is due, with its queue; `None` if there is no such job, or none
    /// that a worker may run. Its group key is copied into the current memory context.
    pub fn find(
        &self,
        extension: &Extension,
        id: i64,
    ) -> Result<Option<(Candidate, Queue, Option<Datum<'static>>)>> {
        let by_id = Table::open(extension.jobs, extension.jobs_key, Lock::Write, &JOBS)?;
        let found = by_id.first(&[Key::int8(1, Compare::Equal, id)], &self.row)?;
        let queue = match self.row_value(found, column::QUEUE) {
            Some(name) => queues::find(extension, name)?,
            None => None,
        };
        let queue = queue.filter(|queue| is_runnable(&self.row, queue));
        let Some(queue) = queue else {
            return by_id.close().map(|()| None);
        };
        let owner = self.row.get(column::OWNER).map_or(0, datum::as_oid);
        let key = match KeysOf::new(&queue, owner) {
            Some(of) => of.of_row(&self.row)?,
            None => None,
        };
        let candidate = Candidate {
            place: place(&self.row),
            row: self.row.id(),
            key,
        };
        let group_key = self.row.get(column::GROUP_KEY).map(datum::as_text);
        let group_key = group_key.transpose()?;
        let group_key = group_key.as_deref().map(datum::text_datum).transpose()?;
        by_id.close()?;
        Ok(Some((candidate, queue, group_key)))
    }

    /// Takes a candidate that was found in this transaction, if nobody was faster.
    pub fn take(&self, candidate: &Candidate) -> Result<Option<Job>> {
        self.take_into(candidate, &self.row)
    }

    /// The same within a subtransaction, by a row of its own: the buffer that a row holds belongs to the
    /// (sub)transaction in which it was read.
    pub fn take_into(&self, candidate: &Candidate, row: &Row) -> Result<Option<Job>> {
        if self.table.lock_row(candidate.row, row)? == Locked::No {
            return Ok(None);
        }
        let job = Job::read(row, candidate.place)?;
        Ok(Some(job).filter(|job| job.id == candidate.place.id))
    }

    /// Takes a candidate that was found in a transaction before.
    pub fn take_from_before(&self, candidate: &Candidate) -> Result<Option<Job>> {
        match self.is_there(candidate)? {
            true => self.take(candidate),
            false => Ok(None),
        }
    }

    /// Reads the row of a candidate. Where it was found in a transaction before, another job's row, or
    /// none, may stand in its place by now.
    pub(super) fn is_there(&self, candidate: &Candidate) -> Result<bool> {
        Ok(self.table.fetch(candidate.row, &self.row)? && id(&self.row) == candidate.place.id)
    }

    /// A row to read into.
    pub fn row(&self) -> Result<Row> {
        self.table.row()
    }

    /// Locks a job that was not locked before. False if somebody else has it.
    pub fn lock(&self, job: &Job) -> Result<bool> {
        Ok(self.table.lock_row(job.row.id, &self.row)? == Locked::Yes)
    }

    /// Who keeps others from the row of a job.
    pub fn holder(&self, job: &Job) -> Result<Option<Holder>> {
        self.table.holder(job.row.id)
    }

    /// Takes away jobs that were not locked before, in a subtransaction in which they are run: a
    /// rollback brings them back, and until the end of the transaction they are still to be seen in
    /// it. One change of a row in place of two. Ends with a job that somebody else has; answers how
    /// many were taken.
    pub fn take_away(&self, jobs: &[&Job]) -> Result<usize> {
        let rows: Vec<RowId> = jobs.iter().map(|job| job.row.id).collect();
        self.table.delete_unseen(&rows)
    }

    /// Ends a job that was taken well: its row vanishes. False if the job has changed its own row:
    /// another version of it may be there.
    pub fn complete(&self, job: &Job) -> Result<bool> {
        self.table.delete(job.row.id)
    }
}

fn id(row: &Row) -> i64 {
    row.get(column::ID).map_or(0, datum::as_i64)
}

/// Whether the job waits, is of this home, has not expired, and says what to do, or its queue does. Others are held
/// for other consumers; one that was set aside has ended; and a command that has been claimed is its worker's, or
/// the keeper's, to settle.
pub fn is_runnable(row: &Row, queue: &Queue) -> bool {
    let status = row.get(column::STATUS);
    !queue.holds(says_itself(|column| row.get(column).is_some()))
        && status.is_some_and(|status| datum::text_is(status, b"pending"))
        && home::is_own(row)
        && !expiry::is_over(row)
}
