//! Permits: how many of a queue's jobs run at once.

use super::{Oid, Phase, SlotId, State, Wake};

impl State {
    /// The slots that run a job of that queue now.
    pub fn running_in_queue(&self, database: Oid, queue_id: i32) -> usize {
        self.used_slots()
            .iter()
            .filter(|slot| {
                slot.phase != Phase::Free && slot.database == database && slot.queue_id == queue_id
            })
            .count()
    }

    /// Has a slot work on a queue of which at most `limit` may run; `None` if so many do, else
    /// whether there is room for one more. Whoever is refused is remembered.
    pub fn enter_queue(
        &mut self,
        id: SlotId,
        database: Oid,
        queue_id: i32,
        name: &[u8],
        limit: usize,
    ) -> Option<bool> {
        let running = self.running_in_queue(database, queue_id);
        if running >= limit {
            if let Some(entry) = self.database(database) {
                entry.refused = true;
            }
            return None;
        }
        let slot = self.slot(id)?;
        slot.queue_id = queue_id;
        slot.queue.set(name);
        slot.set_halt(false);
        Some(running.saturating_add(1) < limit)
    }

    /// Has a slot that was let in work on no queue after all: it is as if it had been refused.
    pub fn withdraw(&mut self, id: SlotId) {
        let Some(slot) = self.slot(id) else {
            return;
        };
        slot.queue.set(b"");
        slot.queue_id = 0;
        let oid = slot.database;
        if let Some(entry) = self.database(oid) {
            entry.refused = true;
        }
    }

    /// Has a slot work on no queue any more, and give back its permit; answers the process to wake
    /// if somebody was refused one. Who was refused himself and has none to give back leaves that to
    /// those who have.
    pub fn leave_queue(&mut self, id: SlotId) -> Wake {
        let Some(slot) = self.slot(id) else {
            return Wake::NOBODY;
        };
        slot.queue.set(b"");
        if std::mem::take(&mut slot.queue_id) == 0 {
            return Wake::NOBODY;
        }
        let oid = slot.database;
        let entry = self.database(oid);
        match entry.is_some_and(|entry| std::mem::take(&mut entry.refused)) {
            true => self.ask_look(oid),
            false => Wake::NOBODY,
        }
    }

    /// So many jobs of a queue run that a consumer may have none: it is told when a permit is given back.
    pub fn refuse_consumer(&mut self, database: Oid) {
        if let Some(entry) = self.database(database) {
            (entry.refused, entry.consumer_refused) = (true, true);
        }
    }

    /// A permit was given back by somebody who is no process of ours; answers the process to wake if
    /// somebody was refused one.
    pub fn permit_is_free(&mut self, database: Oid) -> Wake {
        match self
            .database(database)
            .map(|entry| std::mem::take(&mut entry.refused))
        {
            Some(true) => self.ask_look(database),
            _ => Wake::NOBODY,
        }
    }

    /// Has those who work on a queue take no more of its jobs.
    pub fn halt_queue(&mut self, database: Oid, queue_id: i32) {
        for slot in self.used_slots_mut() {
            if slot.database == database && slot.queue_id == queue_id {
                slot.set_halt(true);
            }
        }
    }
}
