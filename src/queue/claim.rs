//! Finding due jobs, taking them, and ending them well: what every job pays for.
//!
//! Candidates are read without a lock, in the order of the claim's index, and each is locked only
//! when it starts. So a job that takes long holds up none behind it: the others are free for
//! every other worker. What a worker means to do next it publishes in its slot, so that two of
//! them do not try the same rows; that is a hint, the row lock decides.
//!
//! Future jobs cost nothing: within one priority they stand behind the due ones, and the scan
//! goes on to the next priority by a new descent of the index.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum};
use crate::pg::error::Result;
use crate::pg::table::{Appender, Compare, Key, Lock, Locked, Row, RowId, Table};

use super::column;
use super::queues::Queue;

/// Columns of the claim's index.
mod key {
    pub const OWNER: i16 = 1;
    pub const QUEUE: i16 = 2;
    pub const PRIORITY: i16 = 3;
    pub const RUN_AT: i16 = 4;
}

/// A job that could be taken.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// Its id.
    pub id: i64,
    /// Where its row stands.
    pub row: RowId,
}

/// `my_queue`, open to take jobs from. Lives within one transaction.
pub struct Jobs {
    table: Table,
    row: Row,
}

/// A job that this transaction has locked. Its values point into the row until the next job is
/// taken.
pub struct Job {
    /// Its id.
    pub id: i64,
    row: RowId,
    /// What it calls, if it says so itself.
    pub handler: Option<Vec<u8>>,
    /// What it runs, if it is a command.
    pub command: Option<Vec<u8>>,
    /// Its argument.
    pub payload: Datum,
    /// Executions that have ended.
    pub attempts: i32,
    /// Executions before it is failed, if it says so itself.
    pub max_attempts: Option<i32>,
    /// How long an attempt may take, if it says so itself.
    pub timeout: Option<Micros>,
    /// When it was due.
    pub run_at: Micros,
}

/// A queue of a role, and whether something in it is due.
pub struct Found {
    /// The queue's name, as a `text` in the current memory context.
    pub queue: Datum,
    /// Whether a job is due.
    pub due: bool,
    /// When the next one is, if none is; 0: never.
    pub next: Micros,
}

impl Jobs {
    /// Opens the table. The active snapshot decides what is seen.
    pub fn open(extension: &Extension) -> Result<Self> {
        let table = Table::open(extension.queue, extension.claim_index, Lock::Write)?;
        let row = table.row()?;
        Ok(Jobs { table, row })
    }

    /// Closes it; the lock on the table stays until the transaction ends.
    pub fn close(self) -> Result<()> {
        self.row.end()?;
        self.table.close()
    }

    /// The first role after `after` that has jobs.
    pub fn next_owner(&self, after: Oid) -> Result<Option<Oid>> {
        let found = self
            .table
            .first(&[Key::oid(key::OWNER, Compare::Greater, after)], &self.row)?;
        Ok(found.then(|| self.row.get(column::OWNER).map_or(0, datum::as_oid)))
    }

    /// The first queue after `after` that has jobs of the role; its name is copied into the
    /// current memory context.
    pub fn next_queue(&self, owner: Oid, after: Option<Datum>) -> Result<Option<Datum>> {
        let owner_key = Key::oid(key::OWNER, Compare::Equal, owner);
        let found = match after {
            None => self.table.first(&[owner_key], &self.row)?,
            Some(after) => {
                let beyond = Key::text(key::QUEUE, Compare::Greater, after);
                self.table.first(&[owner_key, beyond], &self.row)?
            }
        };
        match self.row_value(found, column::QUEUE) {
            Some(name) => Ok(Some(datum::text_datum(&datum::as_text(name)?)?)),
            None => Ok(None),
        }
    }

    fn row_value(&self, found: bool, column: i32) -> Option<Datum> {
        if found { self.row.get(column) } else { None }
    }

    /// Walks the due jobs of a role's queue in order until `visit` answers false.
    fn walk_due(
        &self,
        owner: Oid,
        queue: Datum,
        now: Micros,
        mut visit: impl FnMut(&Row) -> Result<bool>,
    ) -> Result<()> {
        let owner = Key::oid(key::OWNER, Compare::Equal, owner);
        let queue = Key::text(key::QUEUE, Compare::Equal, queue);
        let mut keys = vec![owner, queue];
        loop {
            let scan = self.table.scan(&keys)?;
            let mut beyond = None;
            while scan.next(&self.row)? {
                if self.row.get(column::RUN_AT).map_or(0, datum::as_i64) > now {
                    // The rest of this priority is due later still.
                    beyond = self.row.get(column::PRIORITY).map(datum::as_i32);
                    break;
                }
                if !visit(&self.row)? {
                    break;
                }
            }
            scan.end()?;
            let Some(priority) = beyond else {
                return Ok(());
            };
            keys.truncate(2);
            keys.push(Key::int4(key::PRIORITY, Compare::Greater, priority));
        }
    }

    /// Up to `limit` due jobs that nobody else has taken or announced, in order.
    pub fn candidates(
        &self,
        owner: Oid,
        queue: &Queue,
        now: Micros,
        limit: usize,
        announced: &[i64],
    ) -> Result<Vec<Candidate>> {
        let name = datum::text_datum(&queue.name)?;
        let mut found = Vec::with_capacity(limit);
        self.walk_due(owner, name, now, |row| {
            let id = row.get(column::ID).map_or(0, datum::as_i64);
            if is_runnable(row, queue) && announced.binary_search(&id).is_err() {
                found.push(Candidate { id, row: row.id() });
            }
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    /// A job by its id, with its queue's name, copied into the current memory context.
    pub fn find(&self, extension: &Extension, id: i64) -> Result<Option<(Candidate, Datum)>> {
        let by_id = Table::open(extension.queue, extension.queue_key, Lock::Write)?;
        let found = by_id.first(&[Key::int8(1, Compare::Equal, id)], &self.row)?;
        let candidate = Candidate {
            id,
            row: self.row.id(),
        };
        let queue = self
            .row_value(found, column::QUEUE)
            .map(datum::as_text)
            .transpose()?;
        by_id.close()?;
        match queue {
            Some(name) => Ok(Some((candidate, datum::text_datum(&name)?))),
            None => Ok(None),
        }
    }

    /// When the next job of a role's queue is due that is not due at `now`; 0 if there is none.
    pub fn next_due(&self, owner: Oid, queue: Datum, now: Micros) -> Result<Micros> {
        let owner = Key::oid(key::OWNER, Compare::Equal, owner);
        let queue = Key::text(key::QUEUE, Compare::Equal, queue);
        let mut keys = vec![owner, queue];
        let mut next = 0;
        // One descent a priority for its first row, one for its first row after `now`.
        while self.table.first(&keys, &self.row)? {
            let priority = self.row.get(column::PRIORITY).map_or(0, datum::as_i32);
            let same = Key::int4(key::PRIORITY, Compare::Equal, priority);
            let later = Key::timestamp(key::RUN_AT, Compare::Greater, now);
            if self.table.first(&[owner, queue, same, later], &self.row)? {
                let due = self.row.get(column::RUN_AT).map_or(0, datum::as_i64);
                next = if next == 0 { due } else { next.min(due) };
            }
            keys.truncate(2);
            keys.push(Key::int4(key::PRIORITY, Compare::Greater, priority));
        }
        Ok(next)
    }

    /// Takes a candidate, if nobody was faster.
    pub fn take(&self, candidate: Candidate) -> Result<Option<Job>> {
        match self.table.lock_row(candidate.row, &self.row)? {
            Locked::Yes => self.read_job(candidate.row).map(Some),
            Locked::No => Ok(None),
        }
    }

    fn read_job(&self, row: RowId) -> Result<Job> {
        let text = |column| self.row.get(column).map(datum::as_text).transpose();
        Ok(Job {
            id: self.row.get(column::ID).map_or(0, datum::as_i64),
            row,
            handler: text(column::HANDLER)?,
            command: text(column::COMMAND)?,
            payload: self.row.get(column::PAYLOAD).unwrap_or(0),
            attempts: self.row.get(column::ATTEMPTS).map_or(0, datum::as_i32),
            max_attempts: self.row.get(column::MAX_ATTEMPTS).map(datum::as_i32),
            timeout: self.row.get(column::TIMEOUT).map(datum::interval_micros),
            run_at: self.row.get(column::RUN_AT).map_or(0, datum::as_i64),
        })
    }

    /// Ends the job that was taken last well: its row moves to the history, or vanishes if its
    /// queue keeps none.
    pub fn complete(&self, job: &Job, ended: &Ended, history: Option<&Appender>) -> Result<()> {
        if let Some(history) = history {
            history.append(&self.history_row(ended)?)?;
        }
        self.table.delete(job.row)
    }

    fn history_row(&self, ended: &Ended) -> Result<Vec<Option<Datum>>> {
        let mut values: Vec<Option<Datum>> = (column::ID..=column::LAST_ERROR)
            .map(|c| self.row.get(c))
            .collect();
        let mut put = |column: i32, value: Datum| {
            if let Some(place) = values.get_mut(column as usize - 1) {
                *place = Some(value);
            }
        };
        put(column::STATUS, ended.status);
        put(column::STARTED_AT, ended.started.datum());
        put(column::ATTEMPTS, ended.attempts.datum());
        values.push(Some(ended.finished.datum()));
        values.push(ended.result);
        values.push(self.row.get(column::ERRORS));
        Ok(values)
    }
}

/// How a job ended, for its row in the history.
pub struct Ended {
    /// The final status, as a `text`.
    pub status: Datum,
    /// Start of the last attempt.
    pub started: Micros,
    /// Its end.
    pub finished: Micros,
    /// Executions, the last one included.
    pub attempts: i32,
    /// What the handler returned, as `jsonb`.
    pub result: Option<Datum>,
}

/// Whether the job says what to do, or its queue does. Others are held for other consumers.
fn is_runnable(row: &Row, queue: &Queue) -> bool {
    queue.handler.is_some()
        || row.get(column::HANDLER).is_some()
        || row.get(column::COMMAND).is_some()
}
