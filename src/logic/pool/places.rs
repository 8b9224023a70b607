//! Which databases have one of the entries in shared memory.
//!
//! An entry without the extension gives way to a database that wants one: to one that asks, since
//! CREATE EXTENSION or an INSERT was committed there, to one that nobody has looked at yet, and
//! in turn to those that were looked at longest ago. An entry with the extension keeps its place.

use super::{ASKERS, Database, Known, Micros, Oid, State, Wake};

/// A database that is to be served, and has no entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// Which.
    pub oid: Oid,
    /// When a keeper last found no extension there; 0: nobody has looked.
    pub absent_at: Micros,
    /// Transactions of the server that had completed then.
    pub absent_seen: u64,
}

impl LeftOut {
    fn is_new(&self) -> bool {
        self.absent_at == 0
    }
}

impl State {
    /// Serves these databases, in order of their OIDs, from now on, and no others. Those without an
    /// entry stand in `out`, which has room for all. Answers the process to wake.
    pub fn serve(&mut self, wanted: &[Oid], out: &mut Vec<LeftOut>) -> Wake {
        let is_wanted = |oid: Oid| wanted.binary_search(&oid).is_ok();
        for entry in &mut self.databases {
            if entry.oid != 0 && !is_wanted(entry.oid) {
                *entry = Database::new(0);
            }
        }
        out.retain(|left| is_wanted(left.oid));
        for oid in wanted {
            let known = self.databases.iter().any(|entry| entry.oid == *oid)
                || out.iter().any(|left| left.oid == *oid);
            if !known && out.len() < out.capacity() {
                out.push(LeftOut {
                    oid: *oid,
                    absent_at: 0,
                    absent_seen: 0,
                });
            }
        }
        self.give_places(out);
        self.drop_lanes()
    }

    /// Gives entries to those that want one, while entries without the extension are left. Answers
    /// how many databases wait for one since others with the extension have all.
    pub fn give_places(&mut self, out: &mut Vec<LeftOut>) -> usize {
        if std::mem::take(&mut self.askers_lost) {
            out.iter_mut().for_each(|left| left.absent_at = 0);
        }
        for index in 0..ASKERS {
            let asker = self.askers.get(index).copied().unwrap_or(0);
            let place = out.iter().position(|left| left.oid == asker);
            let settled = place.is_none_or(|place| self.exchange(out, place));
            if let Some(asker) = self.askers.get_mut(index).filter(|_| settled) {
                *asker = 0;
            }
        }
        while let Some(place) = out.iter().position(LeftOut::is_new) {
            if !self.exchange(out, place) {
                break;
            }
        }
        self.left_out = !out.is_empty();
        if self.databases.iter().any(|e| e.known != Known::Present) {
            return 0;
        }
        let waits = |left: &&LeftOut| left.is_new() || self.askers.contains(&left.oid);
        out.iter().filter(waits).count()
    }

    /// Gives an entry to the database at that place of `out`, which the one that is evicted takes.
    /// False if no entry can be had.
    fn exchange(&mut self, out: &mut Vec<LeftOut>, place: usize) -> bool {
        let Some(index) = self.entry_to_give() else {
            return false;
        };
        let (Some(entry), Some(left)) = (self.databases.get_mut(index), out.get_mut(place)) else {
            return false;
        };
        let evicted = LeftOut {
            oid: entry.oid,
            // Never "nobody has looked": it would be back at once.
            absent_at: entry.absent_at.max(1),
            absent_seen: entry.absent_seen,
        };
        *entry = Database::new(left.oid);
        if evicted.oid == 0 {
            out.swap_remove(place);
        } else {
            *left = evicted;
        }
        true
    }

    /// An entry that nobody has, else the one that has been without the extension for longest, if no
    /// keeper is or shall be there.
    fn entry_to_give(&self) -> Option<usize> {
        let entries = || self.databases.iter().enumerate();
        if let Some((index, _)) = entries().find(|(_, entry)| entry.oid == 0) {
            return Some(index);
        }
        let empty = |e: &Database| {
            e.known == Known::Absent
                && !e.look
                && !e.probe
                && !e.asked
                && e.blocked_until == 0
                && !self.has_process(e.oid)
        };
        let empty = entries().filter(|(_, entry)| empty(entry));
        empty
            .min_by_key(|(_, e)| e.absent_at)
            .map(|(index, _)| index)
    }

    /// Whether other databases, which have the extension, have all entries.
    pub fn is_left_out(&self, database: Oid) -> bool {
        let others = |e: &Database| e.known == Known::Present && e.oid != database;
        self.databases.iter().all(others)
    }

    /// A database without an entry wants one; answers the process to wake, unless it was told.
    pub(super) fn ask_place(&mut self, database: Oid) -> Wake {
        if !self.left_out && !self.resolve || self.askers.contains(&database) {
            return Wake::NOBODY;
        }
        match self.askers.iter_mut().find(|asker| **asker == 0) {
            Some(free) => *free = database,
            None => self.askers_lost = true,
        }
        Wake::process(self.launcher_procno)
    }

    /// Chooses the database that a keeper shall see now although nobody has told of the extension:
    /// first one where jobs came, else of those that may have changed, and were left alone for that
    /// long, the one that was looked at longest ago. It gets an entry if it has none.
    pub fn probe(&mut self, now: Micros, completed: u64, pause: Micros, out: &mut Vec<LeftOut>) {
        let rested = |absent_at: Micros, seen: u64| {
            seen != completed && !(0..pause).contains(&now.saturating_sub(absent_at))
        };
        let due = |e: &&mut Database| {
            e.oid != 0
                && e.known == Known::Absent
                && (e.asked || rested(e.absent_at, e.absent_seen))
        };
        let left = out.iter().enumerate();
        let left = left.filter(|(_, left)| rested(left.absent_at, left.absent_seen));
        let left = left.min_by_key(|(_, left)| left.absent_at);
        let left = left.map(|(place, left)| (left.absent_at, place));
        let absent = self.databases.iter_mut().filter(due);
        let entry = absent.min_by_key(|entry| (!entry.asked, entry.absent_at));
        match (entry, left) {
            (Some(entry), Some((absent_at, place)))
                if !entry.asked && absent_at < entry.absent_at =>
            {
                self.exchange(out, place);
            }
            (Some(entry), _) => {
                entry.asked = false;
                entry.probe = true;
            }
            (None, Some((_, place))) => {
                self.exchange(out, place);
            }
            (None, None) => {}
        }
    }
}
