//! Looks for jobs that wait for the end of one that is gone: what a crash, or a way past the door for ends and
//! past the triggers, has left behind.

use crate::logic::columns::JOBS;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Micros, Oid};
use crate::pg::error::Result;
use crate::pg::scan::Step;
use crate::pg::table::{Compare, Key, Lock, Table};

use super::claim::{Found, Job, place};
use super::{column, rerun};

/// Columns of the index of what is later, or not pending.
mod later {
    pub const STATUS: i16 = 1;
    pub const OWNER: i16 = 2;
    pub const QUEUE: i16 = 3;
    pub const RUN_AT: i16 = 4;
}

/// How far a walk through the blocked jobs has come.
#[derive(Default)]
pub struct Walk {
    /// The last group that was read, or is being read.
    group: Option<(Oid, Vec<u8>)>,
    /// It is being read.
    is_within: bool,
    /// Up to when; `None`: from its start.
    run_at: Option<Micros>,
    /// There is nothing left.
    pub is_done: bool,
    /// Those that wait for nobody.
    pub forgotten: Vec<i64>,
    /// Somebody had one of these.
    pub locked: bool,
}

impl Walk {
    /// Reads on, by about so many entries of the index.
    pub fn go_on(&mut self, extension: &Extension, mut budget: i64) -> Result<()> {
        if extension.later_index == 0 {
            self.is_done = true;
            return Ok(());
        }
        let table = Table::open(extension.jobs, extension.later_index, Lock::Read, &JOBS)?;
        while budget > 0 && !self.is_done {
            budget -= 1;
            if !self.is_within && !self.next_group(&table)? {
                self.is_done = true;
            } else {
                self.read_group(extension, &table, &mut budget)?;
            }
        }
        table.close()
    }

    /// Goes on to the next owner and queue with blocked jobs; false if there is none.
    fn next_group(&mut self, table: &Table) -> Result<bool> {
        let blocked = datum::text_datum(b"blocked")?;
        let status = Key::word(later::STATUS, Compare::Equal, blocked);
        let mut keys = vec![vec![status]];
        if let Some((owner, queue)) = &self.group {
            let queue = datum::text_datum(queue)?;
            keys = vec![
                vec![
                    status,
                    Key::oid(later::OWNER, Compare::Equal, *owner),
                    Key::text(later::QUEUE, Compare::Greater, queue),
                ],
                vec![status, Key::oid(later::OWNER, Compare::Greater, *owner)],
            ];
        }
        for keys in keys {
            if let Some([_, Some(owner), Some(queue)]) = table.first_entry::<3>(&keys)? {
                self.group = Some((datum::as_oid(owner), datum::as_text(queue)?));
                (self.is_within, self.run_at) = (true, None);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads of a group, from where it stopped. Jobs of one time are read together, however many.
    fn read_group(&mut self, extension: &Extension, table: &Table, budget: &mut i64) -> Result<()> {
        let Some((owner, queue)) = &self.group else {
            return Ok(());
        };
        let mut keys = vec![
            Key::word(
                later::STATUS,
                Compare::Equal,
                datum::text_datum(b"blocked")?,
            ),
            Key::oid(later::OWNER, Compare::Equal, *owner),
            Key::text(later::QUEUE, Compare::Equal, datum::text_datum(queue)?),
        ];
        if let Some(from) = self.run_at {
            keys.push(Key::timestamp(later::RUN_AT, Compare::Greater, from));
        }
        let row = table.row()?;
        let scan = table.bounded_scan(&keys)?;
        let (mut last, mut is_done) = (None, false);
        let mut whole = i64::MAX;
        loop {
            *budget -= 1;
            if scan.next(&row, &mut whole)? != Step::Row {
                is_done = true;
                break;
            }
            let run_at = row.get(column::RUN_AT).map_or(0, datum::as_i64);
            if *budget <= 0 && last.is_some_and(|last| run_at > last) {
                break;
            }
            last = Some(run_at);
            if row.get(column::RERUN).is_some_and(datum::as_bool) {
                let job = Job::read(&row, place(&row))?;
                if rerun::is_forgotten(extension, &job)? {
                    self.forgotten.push(job.id);
                }
            }
        }
        scan.end()?;
        row.end()?;
        (self.is_within, self.run_at) = (!is_done, last);
        Ok(())
    }
}
