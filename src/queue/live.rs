//! How many jobs wait in each queue, for the statistics: exact while they are few, cheap always.
//!
//! Up to [`EXACT`] waiting jobs are counted row by row under the snapshot of the statement. With
//! more, the entries of the claim's index are estimated by its leaf pages; queues with few jobs are
//! still counted row by row. What the pages say includes rows that others have inserted and not
//! committed, and rows deleted a moment ago; it follows within a claim or a vacuum. Where there are
//! some thousands of pages, some of each queue's tell about the rest of them (`leaves.c`).

use std::collections::BTreeMap;

use crate::logic::columns::JOBS;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::Result;
use crate::pg::table::{Compare, Key, Lock, Row, Table};

use super::claim::key;
use super::column;
use super::due::Due;

/// So many rows are counted one by one in all, and of one queue and role when there are more.
const EXACT: i64 = 2_000;
const EXACT_OF_ONE: i64 = 500;

/// So many priorities of a queue and role are looked at for the oldest job.
const PRIORITIES: usize = 100;

/// What waits, by the names of queues.
pub type ByQueue = BTreeMap<Vec<u8>, Waiting>;

/// What waits in one queue.
#[derive(Default, Clone)]
pub struct Waiting {
    /// Due, and not running.
    pub pending: i64,
    /// Due later.
    pub scheduled: i64,
    /// Waiting for jobs that they come after.
    pub blocked: i64,
    /// Since when the job that is due for longest has been due; 0: none is due.
    pub oldest: Micros,
    /// How many there are is an estimate.
    pub estimated: bool,
}

/// Jobs that wait for others, by owner and queue: how many of them are due by their own time, and how many are not.
pub type Blocked = BTreeMap<(Oid, Vec<u8>), (i64, i64)>;

/// What is counted, and what is left out.
pub struct Scope<'a> {
    /// What is due by then is pending.
    pub now: Micros,
    /// Jobs that run, sorted, with their queues.
    pub running: &'a [(i64, Vec<u8>)],
    /// Of roles for which it answers false nothing is counted.
    pub sees: &'a dyn Fn(Oid) -> Result<bool>,
}

/// What waits in each queue that has jobs.
pub fn waiting(extension: &Extension, scope: &Scope<'_>, blocked: &Blocked) -> Result<ByQueue> {
    let table = Table::open(extension.jobs, extension.claim_index, Lock::Read, &JOBS)?;
    let row = table.row()?;
    let look = Look {
        table: &table,
        row: &row,
        scope,
    };
    let mut found = ByQueue::new();
    if !look.count_rows(&[], EXACT, &mut found)? {
        found = look.count_pages(blocked)?;
    }
    row.end()?;
    table.close()?;
    for ((owner, queue), (due, later)) in blocked {
        if (scope.sees)(*owner)? {
            found.entry(queue.clone()).or_default().blocked += due + later;
        }
    }
    Ok(found)
}

/// Since when the job of each queue has been due that has been due for longest, where one is. Counts nothing.
pub fn oldest(extension: &Extension, scope: &Scope<'_>) -> Result<BTreeMap<Vec<u8>, Micros>> {
    let due = Due::open(extension)?;
    let table = Table::open(extension.jobs, extension.claim_index, Lock::Read, &JOBS)?;
    let row = table.row()?;
    let look = Look {
        table: &table,
        row: &row,
        scope,
    };
    let (mut found, mut role) = (BTreeMap::new(), None);
    while let Some(owner) = due.next_owner(role)? {
        role = Some(owner);
        let mut last: Option<Vec<u8>> = None;
        while (scope.sees)(owner)?
            && let Some(queue) = due.next_queue(owner, last.as_deref())?
        {
            let oldest = look.oldest_due(owner, &queue)?;
            if oldest != 0 {
                let known = found.entry(queue.clone()).or_insert(oldest);
                *known = oldest.min(*known);
            }
            last = Some(queue);
        }
    }
    row.end()?;
    table.close()?;
    due.close()?;
    Ok(found)
}

struct Look<'a> {
    table: &'a Table,
    row: &'a Row,
    scope: &'a Scope<'a>,
}

impl Look<'_> {
    fn value(&self, column: i32) -> Datum<'_> {
        self.row.get(column).unwrap_or(Datum::VOID)
    }

    /// Whether the row is of a job that runs, or is claimed by a process that is gone.
    fn is_running(&self) -> Result<bool> {
        let id = datum::as_i64(self.value(column::ID));
        let runs = self
            .scope
            .running
            .binary_search_by_key(&id, |(job, _)| *job)
            .is_ok();
        Ok(runs || datum::as_text(self.value(column::STATUS))? != b"pending")
    }

    /// Adds the rows of a scan to `found`; false if there are more than `most`.
    fn count_rows(&self, keys: &[Key], most: i64, found: &mut ByQueue) -> Result<bool> {
        let scan = self.table.scan(keys)?;
        let mut seen = 0;
        let mut asked: Option<(Oid, bool)> = None;
        // Rows come in the order of owner and queue.
        let mut part: Option<(Vec<u8>, Waiting)> = None;
        while seen < most && scan.next(self.row)? {
            seen += 1;
            let owner = datum::as_oid(self.value(column::OWNER));
            let visible = match asked {
                Some((role, visible)) if role == owner => visible,
                _ => (self.scope.sees)(owner)?,
            };
            asked = Some((owner, visible));
            if !visible || self.is_running()? {
                continue;
            }
            let name = datum::as_text(self.value(column::QUEUE))?;
            let known = part.take_if(|(queue, _)| *queue != name);
            known.into_iter().for_each(|known| merge(found, known));
            let (_, entry) = part.get_or_insert_with(|| (name, Waiting::default()));
            entry.add(datum::as_i64(self.value(column::RUN_AT)), self.scope.now);
        }
        scan.end()?;
        part.into_iter().for_each(|known| merge(found, known));
        Ok(seen < most)
    }

    /// By the pages of the index.
    fn count_pages(&self, blocked: &Blocked) -> Result<ByQueue> {
        let mut found = ByQueue::new();
        let mut left = EXACT;
        for group in self.table.count_entries(self.scope.now)? {
            if !(self.scope.sees)(group.first)? {
                continue;
            }
            let total = group.until.saturating_add(group.after);
            if total < EXACT_OF_ONE && total <= left {
                left -= total;
                let mut exact = ByQueue::new();
                let keys = keys_of(group.first, &group.second)?;
                if self.count_rows(&keys, EXACT_OF_ONE, &mut exact)? {
                    exact.into_iter().for_each(|entry| merge(&mut found, entry));
                    continue;
                }
            }
            let oldest = self.oldest_due(group.first, &group.second)?;
            let pair = (group.first, group.second);
            let (due, later) = blocked.get(&pair).copied().unwrap_or_default();
            let entry = Waiting {
                pending: group.until.saturating_sub(due),
                scheduled: group.after.saturating_sub(later),
                oldest,
                estimated: true,
                ..Waiting::default()
            };
            merge(&mut found, (pair.1, entry));
        }
        self.take_out_running(&mut found);
        Ok(found)
    }

    /// Entries of jobs that run are counted with the others.
    fn take_out_running(&self, found: &mut ByQueue) {
        for (_, queue) in self.scope.running {
            if let Some(entry) = found.get_mut(queue)
                && entry.estimated
            {
                entry.pending = entry.pending.saturating_sub(1).max(0);
            }
        }
    }

    /// When the job was due that has been due for longest; 0: none is. One descent a priority.
    fn oldest_due(&self, owner: Oid, queue: &[u8]) -> Result<Micros> {
        let keys = keys_of(owner, queue)?;
        let (mut oldest, mut after) = (0, None);
        for _ in 0..PRIORITIES {
            let beyond = after.map(|p| Key::int4(key::PRIORITY, Compare::Greater, p));
            let keys: Vec<Key> = keys.iter().copied().chain(beyond).collect();
            let scan = self.table.scan(&keys)?;
            let mut more = scan.next(self.row)?;
            while more && self.is_running()? {
                more = scan.next(self.row)?;
            }
            if more {
                let run_at = datum::as_i64(self.value(column::RUN_AT));
                oldest = earlier(oldest, run_at, self.scope.now);
                after = Some(datum::as_i32(self.value(column::PRIORITY)));
            }
            scan.end()?;
            if !more {
                break;
            }
        }
        Ok(oldest)
    }
}

/// A role's part of a queue.
fn keys_of(owner: Oid, queue: &[u8]) -> Result<[Key<'static>; 2]> {
    let name = datum::text_datum(queue)?;
    Ok([
        Key::oid(key::OWNER, Compare::Equal, owner),
        Key::text(key::QUEUE, Compare::Equal, name),
    ])
}

impl Waiting {
    fn add(&mut self, run_at: Micros, now: Micros) {
        if run_at > now {
            self.scheduled += 1;
        } else {
            self.pending += 1;
        }
        self.oldest = earlier(self.oldest, run_at, now);
    }
}

/// The earlier of two times of which 0 is none, unless the new one is after `now`.
fn earlier(known: Micros, new: Micros, now: Micros) -> Micros {
    match known {
        _ if new > now => known,
        0 => new,
        known => known.min(new),
    }
}

fn merge(found: &mut ByQueue, (queue, new): (Vec<u8>, Waiting)) {
    let entry = found.entry(queue).or_default();
    entry.pending += new.pending;
    entry.scheduled += new.scheduled;
    entry.estimated |= new.estimated;
    entry.oldest = match (entry.oldest, new.oldest) {
        (0, oldest) | (oldest, 0) => oldest,
        (a, b) => a.min(b),
    };
}
