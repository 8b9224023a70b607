//! The databases that are served.

use super::{Micros, Oid, Phase, State, Step};

/// What is known of a database.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// Nothing yet: a keeper shall find out.
    Nothing = 0,
    /// It has no extension, or one of another version; its CREATE EXTENSION tells, or the launcher
    /// has a keeper see now and then.
    Absent,
    /// A keeper has found the extension.
    Present,
}

/// A database that is served.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Database {
    /// 0: not in use.
    pub oid: Oid,
    /// See [`Known`].
    pub known: Known,
    /// [B L] the keeper shall look at the queue now.
    pub look: bool,
    /// [W] somebody was refused by a queue's limit: look again when there is room.
    pub refused: bool,
    /// [W B] the next time at which a job or schedule is due; 0: none.
    pub next_due: Micros,
    /// [B] no process of ours before this time: somebody drops, renames or copies it.
    pub blocked_until: Micros,
    /// [L] a keeper that could not start is not asked for before this time.
    pub retry_at: Micros,
    /// [B W] there was work for which no lane was free: look when one is.
    pub waits_for_lane: bool,
    /// [L] a keeper shall see whether the extension has come without a word.
    pub probe: bool,
    /// [W] when a keeper has found that it is absent.
    pub absent_at: Micros,
    /// [W] transactions of the server that had completed then.
    pub absent_seen: u64,
}

impl State {
    /// The entry of a served database.
    pub fn database(&mut self, oid: Oid) -> Option<&mut Database> {
        self.databases
            .iter_mut()
            .find(|database| database.oid == oid && oid != 0)
    }

    /// Notes a time at which something is due; answers the process to wake, if it is sooner than
    /// all before.
    pub fn due_at(&mut self, oid: Oid, time: Micros) -> Option<i32> {
        let database = self.database(oid)?;
        if database.next_due != 0 && database.next_due <= time {
            return None;
        }
        database.next_due = time;
        Some(
            self.keeper(oid)
                .map_or(self.launcher_procno, |slot| slot.procno),
        )
    }

    /// Has the keeper of a database look at its queue; answers the process to wake. The launcher
    /// decides about a database that it does not know: it may have been created just now.
    pub fn ask_look(&mut self, oid: Oid) -> Option<i32> {
        let Some(database) = self.database(oid) else {
            self.resolve = true;
            return Some(self.launcher_procno);
        };
        database.look = true;
        Some(
            self.keeper(oid)
                .map_or(self.launcher_procno, |slot| slot.procno),
        )
    }

    /// Lets processes of ours into a database again; answers the process to wake.
    pub fn unblock(&mut self, oid: Oid) -> Option<i32> {
        self.resolve = true;
        let entry = self.database(oid)?;
        entry.blocked_until = 0;
        entry.retry_at = 0;
        Some(self.launcher_procno)
    }

    /// Serves these databases from now on, and no others. Answers the process to wake.
    pub fn serve(&mut self, wanted: &[Oid]) -> Option<i32> {
        for entry in &mut self.databases {
            if entry.oid != 0 && !wanted.contains(&entry.oid) {
                entry.oid = 0;
            }
        }
        for oid in wanted {
            if self.databases.iter().any(|entry| entry.oid == *oid) {
                continue;
            }
            if let Some(entry) = self.databases.iter_mut().find(|entry| entry.oid == 0) {
                entry.oid = *oid;
                entry.known = Known::Nothing;
                entry.look = true;
                entry.refused = false;
                entry.next_due = 0;
                entry.blocked_until = 0;
                entry.retry_at = 0;
                entry.probe = false;
                entry.waits_for_lane = false;
            }
        }
        self.drop_lanes()
    }

    /// Chooses the database that has been without the extension for longest, of those that may have
    /// changed and were left alone for that long.
    pub fn probe(&mut self, now: Micros, completed: u64, pause: Micros) {
        let due = |entry: &&mut Database| {
            entry.oid != 0
                && entry.known == Known::Absent
                && entry.absent_seen != completed
                && !(0..pause).contains(&now.saturating_sub(entry.absent_at))
        };
        let absent = self.databases.iter_mut().filter(due);
        if let Some(entry) = absent.min_by_key(|entry| entry.absent_at) {
            entry.probe = true;
        }
    }

    /// Nobody makes room for a keeper that is only to see whether the extension is there; false if
    /// the step is for something else.
    pub fn put_off_probe(&mut self, step: Step, now: Micros) -> bool {
        let Step::StartKeeper(database) = step else {
            return false;
        };
        let entry = self.database(database);
        let probed = entry.filter(|entry| entry.known == Known::Absent && !entry.look);
        probed.is_some_and(|entry| {
            entry.absent_at = now;
            std::mem::take(&mut entry.probe)
        })
    }

    /// Whether a process of ours is or may come there.
    pub fn concerns(&self, database: u32) -> bool {
        database != 0
            && (self.databases.iter().any(|entry| entry.oid == database)
                || self.has_process(database))
    }

    pub fn has_process(&self, database: u32) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.phase != Phase::Free && slot.database == database)
    }
}
