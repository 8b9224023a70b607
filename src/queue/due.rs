//! What the keeper looks for: whose jobs are due, when the next one is, and rows that nobody takes.
//!
//! One role's rows must not keep the others waiting, so each look here is bounded, whatever a role
//! has put into the table: a million priorities, or a million entries of rows that are gone. Owners
//! and queues are found by one descent each. Jobs that were enqueued for later, or wait for their
//! next attempt, stand in an index of their own by owner, queue and time, so that the next due time
//! is one descent, too. What is due at once, and nobody has announced, is looked for in the order of
//! the claim, some hundred entries at a time: the keeper comes back for the rest ([`Walked`]).

use std::cell::OnceCell;

use crate::logic::columns::JOBS;
use crate::logic::low_water::Place;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::Result;
use crate::pg::scan::Step;
use crate::pg::table::{Compare, Key, Lock, Row, Table};

use super::claim::{self, key};
use super::column;
use super::home;
use super::keys::KeyTables;
use super::queues::Queue;

/// The most entries that a look reads for one role's queue in each of the two indexes.
const LOOK: i64 = 400;
/// When to look again for a next due time that was not found within that.
const AGAIN: Micros = 1_000_000;

/// Columns of the index of what is later.
mod later {
    pub const STATUS: i16 = 1;
    pub const OWNER: i16 = 2;
    pub const QUEUE: i16 = 3;
    pub const RUN_AT: i16 = 4;
}

/// The table of jobs, open to be looked at. Lives within one transaction.
pub struct Due {
    of: Extension,
    /// Opened where keys matter.
    keys: OnceCell<KeyTables>,
    table: Table,
    /// By the other index; `None` if somebody has dropped that.
    later: Option<Table>,
    row: Row,
    pending: Datum<'static>,
}

/// What a look at one role's queue has found.
pub struct Seen {
    /// A job that is due may run.
    pub is_due: bool,
    /// Where to read on, if that is not known.
    pub unread: Option<Place>,
    /// When the next job is due; 0: none is.
    pub next: Micros,
}

/// How far a walk came.
pub struct Walked {
    /// Where to read on; `None`: at the end, or the visitor had enough.
    pub unread: Option<Place>,
    /// The earliest time that it came upon which lies ahead; 0: none.
    pub next: Micros,
}

/// Whether to go on with a walk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// With the next one.
    On,
    /// Not at all.
    Enough,
}

/// A job that somebody has to do something about, as its row says it.
pub struct Found {
    /// Its id.
    pub id: i64,
    /// Its status.
    pub status: Vec<u8>,
}

impl Due {
    /// Opens the table. The active snapshot decides what is seen.
    pub fn open(extension: &Extension) -> Result<Self> {
        let table = Table::open(extension.jobs, extension.claim_index, Lock::Read, &JOBS)?;
        let later = match extension.later_index {
            0 => None,
            index => Some(Table::open(extension.jobs, index, Lock::Read, &JOBS)?),
        };
        let row = table.row()?;
        let pending = datum::text_datum(b"pending")?;
        Ok(Due {
            of: *extension,
            keys: OnceCell::new(),
            table,
            later,
            row,
            pending,
        })
    }

    /// Closes it.
    pub fn close(self) -> Result<()> {
        self.row.end()?;
        self.keys.into_inner().map_or(Ok(()), KeyTables::close)?;
        if let Some(later) = self.later {
            later.close()?;
        }
        self.table.close()
    }

    /// The first role after `after` that has jobs, or had some a while ago.
    pub fn next_owner(&self, after: Option<Oid>) -> Result<Option<Oid>> {
        let keys: Vec<Key> = after
            .map(|after| Key::oid(key::OWNER, Compare::Greater, after))
            .into_iter()
            .collect();
        let found = self.table.first_entry::<1>(&keys)?;
        Ok(found.map(|[owner]| owner.map_or(0, datum::as_oid)))
    }

    /// The first queue after `after` that has jobs of the role, or had some a while ago.
    pub fn next_queue(&self, owner: Oid, after: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let mut keys = vec![Key::oid(key::OWNER, Compare::Equal, owner)];
        if let Some(after) = after {
            let after = datum::text_datum(after)?;
            keys.push(Key::text(key::QUEUE, Compare::Greater, after));
        }
        match self.table.first_entry::<2>(&keys)? {
            Some([_, Some(queue)]) => datum::as_text(queue).map(Some),
            _ => Ok(None),
        }
    }

    /// The table by its indexes of keys, for a queue whose looks tell them apart.
    pub fn keys(&self, queue: &Queue) -> Result<Option<&KeyTables>> {
        if queue.tells_keys() && self.keys.get().is_none() {
            let opened = KeyTables::open(self.of.jobs, self.of.key_indexes, Lock::Read)?;
            let _ = self.keys.set(opened);
        }
        Ok(self.keys.get().filter(|_| queue.tells_keys()))
    }

    /// Looks at one role's queue; `starts`: whether a job that is due may start. Bounded.
    pub fn look(
        &self,
        owner: Oid,
        queue: &Queue,
        now: Micros,
        mut starts: impl FnMut(&Row, Place) -> Result<bool>,
    ) -> Result<Seen> {
        let (mut is_due, mut next) = self.look_later(owner, queue, now, &mut starts)?;
        let mut unread = None;
        if !is_due {
            let mut budget = LOOK;
            let walked = self.walk(owner, queue, now, None, &mut budget, |row, place| {
                is_due = starts(row, place)?;
                Ok(if is_due { Visit::Enough } else { Visit::On })
            })?;
            unread = walked.unread;
            next = earlier(next, walked.next);
        }
        Ok(Seen {
            is_due,
            unread,
            next,
        })
    }

    /// Of the jobs that were enqueued for later: whether one is due by now, and when the next one is.
    fn look_later(
        &self,
        owner: Oid,
        queue: &Queue,
        now: Micros,
        starts: &mut impl FnMut(&Row, Place) -> Result<bool>,
    ) -> Result<(bool, Micros)> {
        let Some(table) = &self.later else {
            return Ok((false, 0));
        };
        let name = datum::text_datum(&queue.name)?;
        let mut keys = vec![
            Key::word(later::STATUS, Compare::Equal, self.pending),
            Key::oid(later::OWNER, Compare::Equal, owner),
            Key::text(later::QUEUE, Compare::Equal, name),
        ];
        let (mut budget, mut is_due, mut next) = (LOOK, false, 0);
        let scan = table.bounded_scan(&keys)?;
        let mut step = scan.next(&self.row, &mut budget)?;
        while step == Step::Row {
            let run_at = self.row.get(column::RUN_AT).map_or(0, datum::as_i64);
            if run_at > now {
                next = run_at;
                break;
            }
            if starts(&self.row, claim::place(&self.row))? {
                is_due = true;
                break;
            }
            step = scan.next(&self.row, &mut budget)?;
        }
        scan.end()?;
        if next != 0 || step == Step::End {
            return Ok((is_due, next));
        }
        // Behind what is due, or gone.
        keys.push(Key::timestamp(later::RUN_AT, Compare::Greater, now));
        let scan = table.bounded_scan(&keys)?;
        let mut budget = LOOK;
        next = match scan.next(&self.row, &mut budget)? {
            Step::Row => self.row.get(column::RUN_AT).map_or(0, datum::as_i64),
            Step::End => 0,
            Step::Spent => now.saturating_add(AGAIN),
        };
        scan.end()?;
        Ok((is_due, next))
    }

    /// Walks a role's due jobs of a queue in the order of the claim, from a place on, until `visit` has
    /// enough or the budget of entries is spent.
    pub fn walk(
        &self,
        owner: Oid,
        queue: &Queue,
        now: Micros,
        from: Option<Place>,
        budget: &mut i64,
        mut visit: impl FnMut(&Row, Place) -> Result<Visit>,
    ) -> Result<Walked> {
        let owner = Key::oid(key::OWNER, Compare::Equal, owner);
        let name = datum::text_datum(&queue.name)?;
        let name = Key::text(key::QUEUE, Compare::Equal, name);
        let mut from = from.map(claim::place_key).transpose()?;
        let mut walked = Walked {
            unread: None,
            next: 0,
        };
        loop {
            let keys: Vec<Key> = [owner, name].into_iter().chain(from.take()).collect();
            let scan = self.table.bounded_scan(&keys)?;
            loop {
                match scan.next(&self.row, budget)? {
                    Step::Row => {}
                    Step::End => break,
                    Step::Spent => {
                        walked.unread = place_of_entry(&scan);
                        break;
                    }
                }
                let place = claim::place(&self.row);
                if place.run_at > now {
                    walked.next = earlier(walked.next, place.run_at);
                    // The rest of this priority is due later still.
                    let next = Key::int4(key::PRIORITY, Compare::Greater, place.priority);
                    from = Some(next);
                    if *budget <= 0 {
                        walked.unread = Some(place);
                    }
                    break;
                }
                if visit(&self.row, place)? == Visit::Enough {
                    scan.end()?;
                    return Ok(walked);
                }
            }
            scan.end()?;
            if from.is_none() || walked.unread.is_some() {
                return Ok(walked);
            }
        }
    }

    /// Up to `most` jobs whose leases, which stand in their rows, have ended by `now`, and when the next one
    /// ends (0: none that was seen). Of `budget` entries; owners and queues are found by one descent each.
    pub fn ended_leases(
        &self,
        now: Micros,
        most: usize,
        mut budget: i64,
    ) -> Result<(Vec<i64>, Micros)> {
        let (mut ended, mut next) = (Vec::new(), 0);
        let Some(table) = &self.later else {
            return Ok((ended, next));
        };
        let processing = datum::text_datum(b"processing")?;
        let status = Key::word(later::STATUS, Compare::Equal, processing);
        let mut after: Vec<Key> = Vec::new();
        let mut owner = None;
        while ended.len() < most && budget > 0 {
            let keys: Vec<Key> = std::iter::once(status)
                .chain(after.iter().copied())
                .collect();
            let Some([_, Some(of), Some(queue)]) = table.first_entry::<3>(&keys)? else {
                // The last queue of this owner: on with the next owner.
                match owner.take() {
                    Some(last) => {
                        after = vec![Key::oid(later::OWNER, Compare::Greater, last)];
                        continue;
                    }
                    None => break,
                }
            };
            let of = datum::as_oid(of);
            let group = [
                status,
                Key::oid(later::OWNER, Compare::Equal, of),
                Key::text(later::QUEUE, Compare::Equal, queue),
            ];
            let scan = table.bounded_scan(&group)?;
            loop {
                match scan.next(&self.row, &mut budget)? {
                    Step::Row => {}
                    Step::End => break,
                    Step::Spent => {
                        next = earlier(next, now.saturating_add(AGAIN));
                        break;
                    }
                }
                let until = self.row.get(column::RUN_AT).map_or(0, datum::as_i64);
                if until > now {
                    next = earlier(next, until);
                    break;
                }
                if self.row.get(column::LEASE).is_some() && ended.len() < most {
                    ended.push(self.row.get(column::ID).map_or(0, datum::as_i64));
                }
            }
            scan.end()?;
            budget -= 1;
            after = vec![
                Key::oid(later::OWNER, Compare::Equal, of),
                Key::text(later::QUEUE, Compare::Greater, queue),
            ];
            owner = Some(of);
        }
        if ended.len() >= most || budget <= 0 {
            next = earlier(next, now.saturating_add(AGAIN));
        }
        Ok((ended, next))
    }

    /// Up to `most` rows that are neither pending nor blocked nor set aside: commands that have been claimed, and
    /// what only a hand can have written. Of `budget` entries; those of `avoid`, sorted, are left out.
    pub fn odd(&self, avoid: &[i64], most: usize, mut budget: i64) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let Some(table) = &self.later else {
            return Ok(found);
        };
        let mut after: Option<Vec<u8>> = None;
        while found.len() < most && budget > 0 {
            let value = after.as_deref().map(datum::text_datum).transpose()?;
            let beyond = value.map(|value| Key::word(later::STATUS, Compare::Greater, value));
            let keys: Vec<Key> = beyond.into_iter().collect();
            let Some([Some(status)]) = table.first_entry::<1>(&keys)? else {
                break;
            };
            let name = datum::as_text(status)?;
            if !matches!(name.as_slice(), b"pending" | b"blocked" | b"failed") {
                let keys = [Key::word(later::STATUS, Compare::Equal, status)];
                let scan = table.bounded_scan(&keys)?;
                while found.len() < most && scan.next(&self.row, &mut budget)? == Step::Row {
                    let id = self.row.get(column::ID).map_or(0, datum::as_i64);
                    // A consumer's is for the reclaimer.
                    if self.row.get(column::LEASE).is_none()
                        && avoid.binary_search(&id).is_err()
                        && home::is_own(&self.row)
                    {
                        let status = name.clone();
                        found.push(Found { id, status });
                    }
                }
                scan.end()?;
            }
            budget -= 1;
            after = Some(name);
        }
        Ok(found)
    }
}

/// Where the entry stands that a scan of the claim's index was given up at.
fn place_of_entry(scan: &crate::pg::scan::BoundedScan<'_>) -> Option<Place> {
    Some(Place {
        priority: datum::as_i32(scan.value(i32::from(key::PRIORITY))?),
        run_at: datum::as_i64(scan.value(i32::from(key::RUN_AT))?),
        id: datum::as_i64(scan.value(i32::from(key::ID))?),
    })
}

/// The earlier of two times of which 0 is none.
pub fn earlier(known: Micros, new: Micros) -> Micros {
    match (known, new) {
        (0, time) | (time, 0) => time,
        (known, new) => known.min(new),
    }
}
