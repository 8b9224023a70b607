//! The databases that are served.

use super::{Micros, Oid, Phase, State, Step, Wake};

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
    /// [B] a consumer was, too: the keeper tells those that wait.
    pub consumer_refused: bool,
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
    /// [B] jobs came although it is taken to be without the extension.
    pub asked: bool,
    /// [L] its keeper gave way to work.
    pub away: bool,
    /// [L] since when.
    pub away_at: Micros,
    /// [W] transactions of the server that had completed when its keeper last looked.
    pub seen: u64,
    /// [L] when the server last had no free slot for its keeper; 0: it has had since.
    pub no_slot_at: Micros,
    /// [W] when a keeper has found that it is absent.
    pub absent_at: Micros,
    /// [W] transactions of the server that had completed then.
    pub absent_seen: u64,
    /// [W] it is a copy of another one: nothing runs in it.
    pub copy: bool,
    /// [W B] there is news for its keeper, see [`super::News`].
    pub news: bool,
    /// [W B] some of it was lost: the keeper is to look at everything.
    pub sweep: bool,
}

impl Database {
    /// An entry of which nothing is known yet; 0: not in use.
    pub(super) fn new(oid: Oid) -> Self {
        Database {
            oid,
            known: Known::Nothing,
            look: oid != 0,
            refused: false,
            consumer_refused: false,
            next_due: 0,
            blocked_until: 0,
            retry_at: 0,
            waits_for_lane: false,
            probe: false,
            asked: false,
            away: false,
            away_at: 0,
            seen: 0,
            no_slot_at: 0,
            absent_at: 0,
            absent_seen: 0,
            copy: false,
            news: false,
            sweep: false,
        }
    }
}

impl Database {
    /// Somebody has jobs or schedules where the extension was found gone: a keeper is to see at once. The one that found
    /// it may have looked in the moment between the COMMIT of CREATE EXTENSION and the server's word of it.
    pub(super) fn is_there_again(&mut self) {
        (self.asked, self.look) = (true, true);
    }
}

impl State {
    /// The entry of a served database.
    pub fn database(&mut self, oid: Oid) -> Option<&mut Database> {
        self.databases
            .iter_mut()
            .find(|database| database.oid == oid && oid != 0)
    }

    /// Whether a database is a copy of another one, as its keeper has found.
    pub fn is_copy(&self, oid: Oid) -> bool {
        let mut entries = self.databases.iter();
        entries.any(|database| database.oid == oid && oid != 0 && database.copy)
    }

    /// Notes whether a database is a copy: then its workers leave, and no new ones come. Adds whom to wake.
    pub fn set_copy(&mut self, oid: Oid, copy: bool, wake: &mut Vec<Wake>) {
        if let Some(database) = self.database(oid) {
            database.copy = copy;
        }
        if copy {
            self.dismiss_workers(oid, wake);
        }
    }

    /// Notes a time at which something is due; answers the process to wake, if it is sooner than
    /// all before.
    pub fn due_at(&mut self, oid: Oid, time: Micros) -> Wake {
        let Some(database) = self.database(oid) else {
            return self.ask_place(oid);
        };
        if database.known == Known::Absent {
            database.is_there_again();
        }
        if database.next_due != 0 && database.next_due <= time {
            return Wake::NOBODY;
        }
        database.next_due = time;
        self.keeper_or_launcher(oid)
    }

    /// Has the keeper of a database look at its queue; answers the process to wake. The launcher
    /// decides about a database that it does not know: it may have been created just now.
    pub fn ask_look(&mut self, oid: Oid) -> Wake {
        let Some(database) = self.database(oid) else {
            self.resolve = true;
            // Which is the launcher as well, or it was told.
            self.ask_place(oid).is_awake();
            return Wake::process(self.launcher_procno);
        };
        database.look = true;
        self.keeper_or_launcher(oid)
    }

    pub(super) fn keeper_or_launcher(&self, database: Oid) -> Wake {
        let keeper = self.keeper(database);
        Wake::process(keeper.map_or(self.launcher_procno, |slot| slot.procno))
    }

    /// Lets processes of ours into a database again; answers the process to wake.
    pub fn unblock(&mut self, oid: Oid) -> Wake {
        self.resolve = true;
        let Some(entry) = self.database(oid) else {
            return Wake::NOBODY;
        };
        entry.blocked_until = 0;
        entry.retry_at = 0;
        Wake::process(self.launcher_procno)
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

    /// Whether a process of ours is there, or was asked for.
    pub fn has_process(&self, database: u32) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.phase != Phase::Free && slot.database == database)
    }

    /// Has our processes leave a database and stay out of it until that time. Adds whom to wake.
    pub fn keep_out(&mut self, database: Oid, until: Micros, wake: &mut Vec<Wake>) {
        if let Some(entry) = self.database(database) {
            entry.blocked_until = until;
        }
        for slot in self.used_slots_mut() {
            if slot.phase != Phase::Free && slot.database == database {
                slot.set_leave(true);
                wake.push(Wake::process(slot.procno));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Known, State, Wake};
    use super::Database;

    fn found_gone() -> Box<State> {
        let mut state = State::empty();
        state.launcher_procno = 3;
        let entry = state.databases.first_mut().unwrap();
        *entry = Database::new(7);
        (entry.known, entry.look) = (Known::Absent, false);
        state
    }

    #[test]
    fn jobs_where_the_extension_was_found_gone_have_a_keeper_see() {
        let mut state = found_gone();
        assert_eq!(state.demand(7, 10, 0, 0), Wake::process(3));
        assert!(state.database(7).unwrap().look);
        let mut state = found_gone();
        assert_eq!(state.due_at(7, 500), Wake::process(3));
        assert!(state.database(7).unwrap().look);
    }
}
