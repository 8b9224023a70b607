//! Keys of jobs that processes of ours hold, and whom to wake for those that are given back.

use super::{Kind, Oid, Phase, Slot, SlotId, State, Wake};
use crate::logic::keys::{KeyId, Rule};

/// What became of the wish for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TakenKey {
    /// The process has it from now on.
    Now,
    /// It had it before.
    Before,
    /// As many have it as may.
    Refused,
    /// The process has as many keys as it may have.
    Full,
}

impl State {
    fn holding(&self, database: Oid, role: Oid) -> impl Iterator<Item = (usize, &Slot)> {
        let slots = self.used_slots().iter().enumerate();
        slots.filter(move |(_, slot)| {
            slot.phase != Phase::Free && slot.database == database && slot.role == role
        })
    }

    /// The keys that processes of a role hold, other than that slot's; once for each holder.
    pub fn keys_held(&self, database: Oid, role: Oid, but: usize) -> impl Iterator<Item = KeyId> {
        let slots = self.holding(database, role);
        let others = slots.filter(move |(index, _)| *index != but);
        others.flat_map(|(_, slot)| slot.keys.list().iter().copied())
    }

    /// How many processes of a role hold that key.
    pub fn key_holders(&self, database: Oid, role: Oid, key: KeyId) -> usize {
        let slots = self.holding(database, role);
        slots.filter(|(_, slot)| slot.keys.has(key)).count()
    }

    /// The keys that a slot holds.
    pub fn keys_of(&self, id: SlotId) -> &[KeyId] {
        let slot = self.slots.get(id.index);
        slot.map_or(&[], |slot| slot.keys.list())
    }

    /// Has a process take a key of which `leased` leases are out.
    pub fn take_key(&mut self, id: SlotId, key: KeyId, rule: Rule, leased: usize) -> TakenKey {
        let Some(slot) = self.slot(id) else {
            return TakenKey::Refused;
        };
        if slot.keys.has(key) {
            return TakenKey::Before;
        }
        let (database, role) = (slot.database, slot.role);
        let holders = self.key_holders(database, role, key);
        if holders.saturating_add(leased) >= rule.most {
            return TakenKey::Refused;
        }
        match self.slot(id).is_some_and(|slot| slot.keys.add(key)) {
            true => TakenKey::Now,
            false => TakenKey::Full,
        }
    }

    /// A process gives back a key that it has taken in vain; answers the process to wake.
    pub fn drop_key(&mut self, id: SlotId, key: KeyId) -> Wake {
        let Some(slot) = self.slot(id) else {
            return Wake::NOBODY;
        };
        slot.keys.remove(key);
        let (database, role) = (slot.database, slot.role);
        self.freed.add(key);
        self.rouse(database, role, false)
    }

    /// A process gives back all its keys, once the transaction in which it had them has ended: another one of
    /// its lane may go on with them. Answers the process to wake.
    pub fn give_back_keys(&mut self, id: SlotId) -> Wake {
        let alone = self.slot(id).is_some_and(|s| s.kind == Kind::Dynamic);
        match self.release_keys(id) {
            Some((database, role)) => self.rouse(database, role, alone),
            None => Wake::NOBODY,
        }
    }

    /// A process that ends gives back its keys: the launcher, which is woken, has somebody look.
    pub(super) fn leave_keys(&mut self, id: SlotId) {
        if let Some((database, role)) = self.release_keys(id)
            && let Some(lane) = self.lane(database, role)
        {
            lane.set_pending();
        }
    }

    /// Takes the keys of a slot back; answers whose they were, if there were any.
    fn release_keys(&mut self, id: SlotId) -> Option<(Oid, Oid)> {
        let index = self.slot(id).map(|_| id.index)?;
        let slot = self.slots.get_mut(index)?;
        if slot.keys.list().is_empty() {
            return None;
        }
        slot.keys.list().iter().for_each(|key| self.freed.add(*key));
        slot.keys.clear();
        Some((slot.database, slot.role))
    }

    /// A key of a role was given back by somebody who is no worker, or a job of it has gone; answers the process
    /// to wake.
    pub fn free_key(&mut self, database: Oid, role: Oid, key: KeyId) -> Wake {
        self.freed.add(key);
        self.rouse(database, role, true)
    }

    /// Has a worker of a lane look, from where its marks stand; answers the process to wake.
    pub fn look_on(&mut self, database: Oid, role: Oid) -> Wake {
        self.rouse(database, role, true)
    }

    /// Has a worker of a lane look, from where its marks stand: an idle one, else, where nobody of the lane goes
    /// on by himself, one that the launcher starts.
    fn rouse(&mut self, database: Oid, role: Oid, starts: bool) -> Wake {
        if self.database(database).is_none_or(|entry| entry.copy) {
            return Wake::NOBODY;
        }
        let (enabled, launcher) = (self.enabled, self.launcher_procno);
        match self.lane(database, role) {
            Some(lane) => lane.set_pending(),
            None => return self.want_lane(database),
        }
        if !enabled {
            return Wake::NOBODY;
        }
        if let Some(worker) = self.rouse_idle(database, role) {
            return Wake::process(worker);
        }
        let lane = self.lane(database, role).filter(|_| starts);
        let untold = lane.is_some_and(|lane| !std::mem::replace(&mut lane.told, true));
        Wake::from(untold.then_some(launcher))
    }
}
