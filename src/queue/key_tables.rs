//! The keys of jobs in the table: which jobs of a key wait, and which are at work.

use std::rc::Rc;

use crate::logic::columns::JOBS;
use crate::logic::keys::{KeyId, Numbers, Rule};
use crate::pg::bgworker;
use crate::pg::datum::{self, Datum, Oid};
use crate::pg::error::Result;
use crate::pg::table::{Compare, Key, Lock, Row, Table};
use crate::shared::{SHARED, SLOTS, consumers};

use super::column;
use super::queues::Queue;

/// Columns of the index by id.
mod by_id {
    pub const QUEUE: i16 = 1;
    pub const OWNER: i16 = 2;
    pub const KEY: i16 = 3;
    pub const STATUS: i16 = 4;
    pub const ID: i16 = 5;
}

/// Columns of the index in the order of the claim, behind the key.
mod in_order {
    pub const PRIORITY: i16 = 4;
}

/// The most rows of a key that are at work and looked at.
const MOST_AT_WORK: usize = 10_000;

/// The key of a job.
#[derive(Clone)]
pub struct GroupKey {
    /// Its number.
    pub id: KeyId,
    /// Its text.
    pub text: Rc<[u8]>,
}

/// The keys of one queue and owner.
pub struct KeysOf<'a> {
    /// What the queue asks for.
    pub rule: Rule,
    /// Its name.
    pub queue: &'a [u8],
    /// Whose jobs.
    pub owner: Oid,
    numbers: Numbers,
}

impl<'a> KeysOf<'a> {
    /// Those of a role's jobs in a queue; `None` if it does not go by them.
    pub fn new(queue: &'a Queue, owner: Oid) -> Option<Self> {
        Some(KeysOf {
            rule: queue.by_key?,
            queue: &queue.name,
            owner,
            numbers: Numbers::of(bgworker::my_database(), &queue.name, owner),
        })
    }

    /// The same for a look; `None` if its keys do not have a rate each, either.
    pub fn of_look(queue: &'a Queue, owner: Oid) -> Option<Self> {
        queue.tells_keys().then(|| KeysOf {
            rule: queue.by_key.unwrap_or(Rule::NONE),
            queue: &queue.name,
            owner,
            numbers: Numbers::of(bgworker::my_database(), &queue.name, owner),
        })
    }

    /// The number of the key with that text.
    pub(super) fn number_of(&self, text: &[u8]) -> KeyId {
        self.numbers.number(text)
    }

    /// The number of the key that is this text.
    pub(super) fn number(&self, text: Datum<'_>) -> Result<KeyId> {
        datum::with_text(text, |text| self.numbers.number(text))
    }

    /// The key of a row, if it has one.
    pub(super) fn of_row(&self, row: &Row) -> Result<Option<GroupKey>> {
        let Some(text) = row.get(column::GROUP_KEY) else {
            return Ok(None);
        };
        let text: Rc<[u8]> = datum::as_text(text)?.into();
        let id = self.numbers.number(&text);
        Ok(Some(GroupKey { id, text }))
    }
}

/// The table of jobs by its indexes of keys. What it reads the active snapshot decides.
pub struct KeyTables {
    /// The table.
    pub(super) table: Oid,
    by_id: Table,
    in_order: Table,
    /// The row that was read last.
    pub(super) row: Row,
    pending: Datum<'static>,
    processing: Datum<'static>,
    blocked: Datum<'static>,
}

impl KeyTables {
    /// Opens it; what is needed lives in the current memory context.
    pub fn open(table: Oid, indexes: [Oid; 2], lock: Lock) -> Result<Self> {
        let by_id = Table::open(table, indexes[0], lock, &JOBS)?;
        let in_order = Table::open(table, indexes[1], lock, &JOBS)?;
        let row = by_id.row()?;
        Ok(KeyTables {
            table,
            by_id,
            in_order,
            row,
            pending: datum::text_datum(b"pending")?,
            processing: datum::text_datum(b"processing")?,
            blocked: datum::text_datum(b"blocked")?,
        })
    }

    pub fn close(self) -> Result<()> {
        self.row.end()?;
        self.in_order.close()?;
        self.by_id.close()
    }

    /// Reads the jobs of a key that have that status, by id, from one on, while `visit` says so.
    fn read(
        &self,
        of: &KeysOf,
        key: &[u8],
        status: Datum<'static>,
        from: Option<i64>,
        mut visit: impl FnMut(i64) -> Result<bool>,
    ) -> Result<()> {
        let (queue, text) = (datum::text_datum(of.queue)?, datum::text_datum(key)?);
        let behind = from.map(|id| Key::int8(by_id::ID, Compare::Greater, id.saturating_sub(1)));
        let keys: Vec<Key> = [
            Key::text(by_id::QUEUE, Compare::Equal, queue),
            Key::oid(by_id::OWNER, Compare::Equal, of.owner),
            Key::text(by_id::KEY, Compare::Equal, text),
            Key::word(by_id::STATUS, Compare::Equal, status),
        ]
        .into_iter()
        .chain(behind)
        .collect();
        let scan = self.by_id.scan(&keys)?;
        while scan.next(&self.row)? {
            if !visit(self.row.get(column::ID).map_or(0, datum::as_i64))? {
                break;
            }
        }
        scan.end()
    }

    /// The first job of a key that waits for other jobs.
    pub(super) fn first_blocked(&self, of: &KeysOf, key: &[u8]) -> Result<Option<i64>> {
        self.first(of, key, self.blocked)
    }

    fn first(&self, of: &KeysOf, key: &[u8], status: Datum<'static>) -> Result<Option<i64>> {
        let mut first = None;
        self.read(of, key, status, None, |id| {
            first = Some(id);
            Ok(false)
        })?;
        Ok(first)
    }

    /// The waiting jobs of a key by id, from one on, while `visit` says so; the row is read.
    pub fn waiting_from(
        &self,
        of: &KeysOf,
        key: &[u8],
        from: i64,
        visit: impl FnMut(i64) -> Result<bool>,
    ) -> Result<()> {
        self.read(of, key, self.pending, Some(from), visit)
    }

    /// The waiting jobs of a key in the order of the claim, behind a priority, while `visit` says so; the row is
    /// read.
    pub fn waiting_in_order(
        &self,
        of: &KeysOf,
        key: &[u8],
        above: Option<i32>,
        mut visit: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let (queue, text) = (datum::text_datum(of.queue)?, datum::text_datum(key)?);
        let above = above.map(|p| Key::int4(in_order::PRIORITY, Compare::Greater, p));
        let keys: Vec<Key> = [
            Key::text(by_id::QUEUE, Compare::Equal, queue),
            Key::oid(by_id::OWNER, Compare::Equal, of.owner),
            Key::text(by_id::KEY, Compare::Equal, text),
        ]
        .into_iter()
        .chain(above)
        .collect();
        let scan = self.in_order.scan(&keys)?;
        while scan.next(&self.row)? {
            if !visit()? {
                break;
            }
        }
        scan.end()
    }

    /// The jobs of a key that are at work as their rows say it: claimed commands, and leases for a time.
    pub fn at_work(&self, of: &KeysOf, key: &[u8]) -> Result<Vec<i64>> {
        let mut found = Vec::new();
        self.read(of, key, self.processing, None, |id| {
            found.push(id);
            Ok(found.len() < MOST_AT_WORK)
        })?;
        Ok(found)
    }

    /// The first job of a key that has not ended and is not at work, if it waits for nothing but its turn.
    pub fn head(&self, of: &KeysOf, key: &[u8]) -> Result<Head> {
        let pending = self.first(of, key, self.pending)?;
        let blocked = self.first(of, key, self.blocked)?;
        Ok(match (pending, blocked) {
            (Some(id), blocked) if blocked.is_none_or(|blocked| id < blocked) => Head::Waits(id),
            (_, Some(id)) => Head::Blocked(id),
            (_, None) => Head::None,
        })
    }
}

/// The first of the jobs of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// It may start, once it is due.
    Waits(i64),
    /// It waits for other jobs.
    Blocked(i64),
    /// There is none.
    None,
}

/// How many of the jobs that are at work as their rows say it nobody in shared memory is at.
pub(super) fn unaccounted(table: Oid, at_work: &[i64]) -> usize {
    if at_work.is_empty() {
        return 0;
    }
    let database = bgworker::my_database();
    let mut known = Vec::with_capacity(2 * SLOTS);
    SHARED.read(|state| known.extend(state.running_in(database)));
    let is_out = |job: i64| known.contains(&job) || consumers::of_job(table, job).is_some();
    at_work.iter().filter(|job| !is_out(**job)).count()
}
