//! How many jobs wait in each queue, for the statistics: exact while they are few, cheap always.
//!
//! Up to [`EXACT`] waiting jobs are counted row by row under the snapshot of the statement. With
//! more, the entries of the claim's index are counted by its leaf pages, which takes a few
//! milliseconds a million; queues with few jobs are still counted row by row. What the pages say
//! includes rows that others have inserted and not committed, and rows deleted a moment ago; it
//! follows within a claim or a vacuum.

use crate::logic::columns::JOBS;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::Result;
use crate::pg::table::{Compare, Key, Lock, Row, Table};

use super::claim::key;
use super::column;

/// So many rows are counted one by one in all, and of one queue and role when there are more.
const EXACT: i64 = 2_000;
const EXACT_OF_ONE: i64 = 500;

/// So many priorities of a queue and role are looked at for the oldest job.
const PRIORITIES: usize = 100;

/// What waits in one queue.
#[derive(Default, Clone)]
pub struct Waiting {
    /// The queue's name.
    pub queue: Vec<u8>,
    /// Due, and not running.
    pub pending: i64,
    /// Due later.
    pub scheduled: i64,
    /// Waiting for jobs that they come after.
    pub blocked: i64,
    /// Since when the job that is due for longest has been due; 0: none is due.
    pub oldest: Micros,
}

/// What waits in each queue that has jobs, by name; without those of `running`, which are sorted
/// and stand with their queues' names. Of roles that `sees` answers false for nothing is counted.
pub fn waiting(
    extension: &Extension,
    now: Micros,
    running: &[(i64, Vec<u8>)],
    blocked: &[Blocked],
    sees: &dyn Fn(Oid) -> Result<bool>,
) -> Result<Vec<Waiting>> {
    let table = Table::open(extension.jobs, extension.claim_index, Lock::Read, &JOBS)?;
    let row = table.row()?;
    let look = Look {
        table: &table,
        row: &row,
        now,
        running,
        blocked,
        sees,
    };
    let mut found = Vec::new();
    if !look.count_rows(&[], EXACT, &mut found)? {
        found = look.count_pages()?;
    }
    row.end()?;
    table.close()?;
    for one in blocked {
        if sees(one.owner)? {
            let index = place(&mut found, &one.queue);
            if let Some(entry) = found.get_mut(index) {
                entry.blocked += one.due + one.later;
            }
        }
    }
    Ok(found)
}

/// Jobs of a queue and role that wait for others, by their own time.
pub struct Blocked {
    /// The queue's name.
    pub queue: Vec<u8>,
    /// Whose they are.
    pub owner: Oid,
    /// How many are due.
    pub due: i64,
    /// How many are not.
    pub later: i64,
}

struct Look<'a> {
    table: &'a Table,
    row: &'a Row,
    now: Micros,
    running: &'a [(i64, Vec<u8>)],
    blocked: &'a [Blocked],
    sees: &'a dyn Fn(Oid) -> Result<bool>,
}

impl Look<'_> {
    fn value(&self, column: i32) -> Datum<'_> {
        self.row.get(column).unwrap_or(Datum::VOID)
    }

    /// Whether the row is of a job that runs, or is claimed by a process that is gone.
    fn is_running(&self) -> Result<bool> {
        let id = datum::as_i64(self.value(column::ID));
        let runs = self
            .running
            .binary_search_by_key(&id, |(job, _)| *job)
            .is_ok();
        Ok(runs || datum::as_text(self.value(column::STATUS))? != b"pending")
    }

    /// Adds the rows of a scan to `found`; false if there are more than `most`.
    fn count_rows(&self, keys: &[Key], most: i64, found: &mut Vec<Waiting>) -> Result<bool> {
        let scan = self.table.scan(keys)?;
        let (mut seen, mut last) = (0, 0);
        let mut asked: Option<(Oid, bool)> = None;
        while seen < most && scan.next(self.row)? {
            seen += 1;
            let owner = datum::as_oid(self.value(column::OWNER));
            let visible = match asked {
                Some((role, visible)) if role == owner => visible,
                _ => (self.sees)(owner)?,
            };
            asked = Some((owner, visible));
            if !visible {
                continue;
            }
            let name = datum::as_text(self.value(column::QUEUE))?;
            if self.is_running()? {
                continue;
            }
            // Rows come in the order of owner and queue, so it is the last one nearly always.
            if found.get(last).is_none_or(|entry| entry.queue != name) {
                last = place(found, &name);
            }
            if let Some(entry) = found.get_mut(last) {
                entry.add(datum::as_i64(self.value(column::RUN_AT)), self.now);
            }
        }
        scan.end()?;
        Ok(seen < most)
    }

    /// By the pages of the index.
    fn count_pages(&self) -> Result<Vec<Waiting>> {
        let mut found: Vec<Waiting> = Vec::new();
        let mut left = EXACT;
        for group in self.table.count_entries(self.now)? {
            if !(self.sees)(group.first)? {
                continue;
            }
            let total = group.until.saturating_add(group.after);
            let name = datum::text_datum(&group.second)?;
            let keys = [
                Key::oid(key::OWNER, Compare::Equal, group.first),
                Key::text(key::QUEUE, Compare::Equal, name),
            ];
            if total < EXACT_OF_ONE && total <= left {
                left -= total;
                let mut exact = Vec::new();
                if self.count_rows(&keys, EXACT_OF_ONE, &mut exact)? {
                    exact.into_iter().for_each(|entry| merge(&mut found, entry));
                    continue;
                }
            }
            let oldest = self.oldest_due(&keys)?;
            let mut blocked = self.blocked.iter();
            let same = |one: &&Blocked| one.owner == group.first && one.queue == group.second;
            let (due, later) = blocked.find(same).map_or((0, 0), |b| (b.due, b.later));
            let entry = Waiting {
                pending: group.until.saturating_sub(due),
                scheduled: group.after.saturating_sub(later),
                queue: group.second,
                oldest,
                ..Waiting::default()
            };
            merge(&mut found, entry);
        }
        self.take_out_running(&mut found);
        Ok(found)
    }

    /// Entries of jobs that run are counted with the others.
    fn take_out_running(&self, found: &mut [Waiting]) {
        for entry in found {
            let of_queue = |job: &&(i64, Vec<u8>)| job.1 == entry.queue;
            let running = self.running.iter().filter(of_queue).count() as i64;
            if entry.pending >= EXACT_OF_ONE {
                entry.pending = entry.pending.saturating_sub(running);
            }
        }
    }

    /// When the job was due that has been due for longest; 0: none is. One descent a priority.
    fn oldest_due(&self, keys: &[Key; 2]) -> Result<Micros> {
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
                oldest = earlier(oldest, datum::as_i64(self.value(column::RUN_AT)), self.now);
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

/// The index of a queue's entry, made if there is none.
fn place(found: &mut Vec<Waiting>, queue: &[u8]) -> usize {
    let known = found.iter().position(|entry| entry.queue == queue);
    known.unwrap_or_else(|| {
        found.push(Waiting {
            queue: queue.to_vec(),
            ..Waiting::default()
        });
        found.len() - 1
    })
}

fn merge(found: &mut Vec<Waiting>, new: Waiting) {
    let index = place(found, &new.queue);
    if let Some(entry) = found.get_mut(index) {
        entry.pending += new.pending;
        entry.scheduled += new.scheduled;
        entry.oldest = match (entry.oldest, new.oldest) {
            (0, oldest) | (oldest, 0) => oldest,
            (a, b) => a.min(b),
        };
    }
}
