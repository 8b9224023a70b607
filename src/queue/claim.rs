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
use crate::logic::consumers::sooner;
use crate::logic::low_water::{LowWater, Place, Reading};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{CHECK_VIOLATION, PgError, Result};
use crate::pg::table::{Compare, Key, Lock, Locked, OwnedRow, Row, RowId, Table};

use super::group_keys::{GroupKey, KeyTables, KeysOf};
use super::queues::{self, Queue};
use super::{column, home, ids};

/// Columns of the claim's index.
pub(super) mod key {
    pub const OWNER: i16 = 1;
    pub const QUEUE: i16 = 2;
    pub const PRIORITY: i16 = 3;
    pub const RUN_AT: i16 = 4;
    pub const ID: i16 = 5;
}

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

/// How a walk through the due jobs goes on.
pub(super) enum Walk {
    /// With the next one.
    On,
    /// With the next one; this one was for nobody.
    Past,
    /// With the first one behind a place.
    Behind(Place),
    /// Not at all.
    Enough,
}

/// What a look makes of the row of a job that it finds.
pub trait Found: Sized {
    /// Reads the row, which stands at that place.
    fn read(row: &Row, place: Place) -> Result<Self>;

    /// Where the job stands in the order.
    fn place(&self) -> Place;

    /// Its queue goes by keys, and this is its.
    fn set_key(&mut self, key: GroupKey);
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

/// A job as its row says it, in the memory context that was current then.
pub struct Job {
    /// Its id.
    pub id: i64,
    pub(super) row: RowId,
    place: Place,
    /// The transaction that wrote its row.
    pub(super) writer: u32,
    /// All columns of its row.
    pub(super) values: [Option<Datum<'static>>; column::COUNT],
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

    /// The command's text, copied.
    pub fn command(&self) -> Result<Vec<u8>> {
        value(&self.values, column::COMMAND).map_or(Ok(Vec::new()), datum::as_text)
    }
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

    /// Has the keys of a queue's jobs at hand, if it goes by them.
    pub fn prepare_keys(&self, queue: &Queue) -> Result<()> {
        match queue.by_key {
            Some(_) => self.keys().map(|_| ()),
            None => Ok(()),
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

    /// Walks the due jobs of a role's queue in order, from its marks on, as `visit` says; moves the
    /// marks. Answers when the next job is due that it came upon; 0: none.
    pub(super) fn walk_due(
        &self,
        owner: Oid,
        queue: Datum<'_>,
        now: Micros,
        low: &mut LowWater,
        mut visit: impl FnMut(&Row, Place) -> Result<Walk>,
    ) -> Result<Micros> {
        let mut later = 0;
        let owner = Key::oid(key::OWNER, Compare::Equal, owner);
        let queue = Key::text(key::QUEUE, Compare::Equal, queue);
        for stretch in low.stretches() {
            let below = stretch
                .below
                .map(|priority| Key::int4(key::PRIORITY, Compare::Less, priority));
            let mut from = stretch.from.map(place_key).transpose()?;
            let mut reading = Reading::new(low, &stretch, now);
            loop {
                let keys: Vec<Key> = [owner, queue]
                    .into_iter()
                    .chain(from)
                    .chain(below)
                    .collect();
                let scan = self.table.scan(&keys)?;
                from = None;
                while scan.next(&self.row)? {
                    let place = place(&self.row);
                    if place.run_at > now {
                        reading.keep(place);
                        later = sooner(later, place.run_at);
                        // The rest of this priority is due later still.
                        let next = Key::int4(key::PRIORITY, Compare::Greater, place.priority);
                        from = Some(next);
                        break;
                    }
                    match visit(&self.row, place)? {
                        Walk::On => reading.keep(place),
                        Walk::Past => reading.pass(place),
                        Walk::Behind(end) => {
                            reading.keep(place);
                            reading.leave_out(end);
                            from = Some(place_key(end.next())?);
                            break;
                        }
                        Walk::Enough => {
                            reading.keep(place);
                            return scan.end().map(|()| later);
                        }
                    }
                }
                scan.end()?;
                if from.is_none() {
                    break;
                }
            }
            reading.end();
        }
        Ok(later)
    }

    /// A job by its id, whenever it is due, with its queue; `None` if there is no such job, or none
    /// that a worker may run.
    pub fn find(&self, extension: &Extension, id: i64) -> Result<Option<(Candidate, Queue)>> {
        let by_id = Table::open(extension.jobs, extension.jobs_key, Lock::Write, &JOBS)?;
        let found = by_id.first(&[Key::int8(1, Compare::Equal, id)], &self.row)?;
        let queue = match self.row_value(found, column::QUEUE) {
            Some(name) => queues::find(extension, name)?,
            None => None,
        };
        let queue = queue.filter(|queue| is_runnable(&self.row, queue));
        let found = match queue {
            Some(queue) => {
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
                Some((candidate, queue))
            }
            None => None,
        };
        by_id.close()?;
        Ok(found)
    }

    /// Takes a candidate, if nobody was faster. Where it was found in a transaction before, another
    /// job's row may stand in its place by now.
    pub fn take(&self, candidate: &Candidate) -> Result<Option<Job>> {
        match self.table.lock_row(candidate.row, &self.row)? {
            Locked::Yes if place(&self.row).id == candidate.place.id => {
                Job::read(&self.row, candidate.place).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Locks a job that was not locked before. False if somebody else has it.
    pub fn lock(&self, job: &Job) -> Result<bool> {
        Ok(self.table.lock_row(job.row, &self.row)? == Locked::Yes)
    }

    /// Takes away jobs that were not locked before, in a subtransaction in which they are run: a
    /// rollback brings them back, and until the end of the transaction they are still to be seen in
    /// it. One change of a row in place of two. Ends with a job that somebody else has; answers how
    /// many were taken.
    pub fn take_away(&self, jobs: &[&Job]) -> Result<usize> {
        let rows: Vec<RowId> = jobs.iter().map(|job| job.row).collect();
        self.table.delete_unseen(&rows)
    }

    /// Ends a job that was taken well: its row vanishes. False if the job has changed its own row:
    /// another version of it may be there.
    pub(super) fn complete(&self, job: &Job) -> Result<bool> {
        self.table.delete(job.row)
    }
}

pub(super) fn place(row: &Row) -> Place {
    Place {
        priority: row.get(column::PRIORITY).map_or(0, datum::as_i32),
        run_at: row.get(column::RUN_AT).map_or(0, datum::as_i64),
        id: row.get(column::ID).map_or(0, datum::as_i64),
    }
}

pub(super) fn place_key(place: Place) -> Result<Key<'static>> {
    Key::from_place(key::PRIORITY, place.priority, place.run_at, place.id)
}

pub(super) fn value<'a>(values: &[Option<Datum<'a>>], column: i32) -> Option<Datum<'a>> {
    let index = usize::try_from(column).ok()?.checked_sub(1)?;
    values.get(index).copied().flatten()
}

fn read_job(row: OwnedRow, place: Place) -> Result<Job> {
    let values = row.values()?;
    let get = |column| value(&values, column);
    let number = |column| get(column).map_or(0, datum::as_i64);
    Ok(Job {
        id: number(column::ID),
        row: row.id,
        place,
        writer: row.writer(),
        handler: get(column::HANDLER).map(datum::as_text).transpose()?,
        handler_owner: get(column::HANDLER_OWNER).map(datum::as_oid),
        is_command: get(column::COMMAND).is_some(),
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
        values,
    })
}

/// Whether the job waits, is of this home, and says what to do, or its queue does. Others are held for other consumers;
/// one that was set aside has ended; and a command that has been claimed is its worker's, or the
/// keeper's, to settle.
pub fn is_runnable(row: &Row, queue: &Queue) -> bool {
    let status = row.get(column::STATUS);
    let says = |column| row.get(column).is_some();
    !queue.holds(says(column::HANDLER) || says(column::COMMAND))
        && status.is_some_and(|status| datum::text_is(status, b"pending"))
        && home::is_own(row)
}
