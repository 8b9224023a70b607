//! Making room: which process leaves for another one.

use super::{Kind, Micros, Phase, Slot, SlotId, State, Step, TURN};

impl State {
    /// Makes room for a lane that has so many workers: asks an idle worker to leave, else one of a
    /// lane that has at least two more, else, for a lane that has none, the one that has been at
    /// work for longest, after its turn; answers whom to wake. Long jobs are not waited for: who is
    /// at one leaves room when it ends.
    pub(super) fn dismiss_for(
        &mut self,
        wanting_has: usize,
        now: Micros,
        next: &mut Micros,
    ) -> Option<i32> {
        if let Some(procno) = self.dismiss_idle() {
            return Some(procno);
        }
        *next = (*next).min(now.saturating_add(TURN));
        let leaving = |s: &Slot| s.leave && s.kind == Kind::Worker && !s.is_overrunning(now);
        if self
            .slots
            .iter()
            .any(|s| s.phase != Phase::Free && leaving(s))
        {
            return None;
        }
        let may_leave = |s: &Slot| {
            s.phase == Phase::Running
                && s.kind == Kind::Worker
                && !s.leave
                && !s.is_overrunning(now)
        };
        let served = |slot: &Slot| {
            let same = |s: &&Slot| s.serves(Kind::Worker, slot.database, slot.role);
            self.slots.iter().filter(same).count()
        };
        let candidates = || self.slots.iter().enumerate().filter(|(_, s)| may_leave(s));
        let rich = candidates().find(|(_, slot)| served(slot) >= wanting_has.saturating_add(2));
        let longest = || {
            candidates()
                .filter(|(_, s)| wanting_has == 0 && now.saturating_sub(s.since) >= TURN)
                .min_by_key(|(_, s)| s.since)
        };
        let index = rich.or_else(longest).map(|(index, _)| index)?;
        let slot = self.slots.get_mut(index)?;
        slot.leave = true;
        Some(slot.procno)
    }

    /// `max_workers` was lowered: an idle worker leaves, else the youngest, after its job. Answers
    /// whom to wake.
    pub(super) fn dismiss_surplus(&mut self, most: usize) -> Option<i32> {
        let stays = |s: &Slot| s.phase != Phase::Free && s.kind == Kind::Worker && !s.leave;
        if self.slots.iter().filter(|s| stays(s)).count() <= most {
            return None;
        }
        self.dismiss_idle().or_else(|| {
            let staying = self.slots.iter_mut().filter(|s| stays(s));
            let youngest = staying.max_by_key(|slot| slot.since)?;
            youngest.leave = true;
            Some(youngest.procno)
        })
    }

    /// The server has no place for this step's process: one of ours makes room, if any can.
    pub fn make_room(&mut self, step: Step, now: Micros) -> Option<i32> {
        let have = match step {
            Step::StartWorker(database, role) => {
                let same = |s: &&Slot| s.serves(Kind::Worker, database, role);
                self.slots.iter().filter(same).count()
            }
            _ => 0,
        };
        self.dismiss_for(have, now, &mut 0)
    }

    /// Asks an idle worker to leave.
    fn dismiss_idle(&mut self) -> Option<i32> {
        let idle = self
            .slots
            .iter_mut()
            .find(|s| s.phase == Phase::Idle && s.kind == Kind::Worker && !s.leave)?;
        idle.leave = true;
        Some(idle.procno)
    }

    /// A process could not start, or ended by an error: its slot is free, and its lane or database
    /// waits a little longer each time. The keeper looks whether the role may log in at all. Answers
    /// whom to wake.
    #[must_use]
    pub fn start_failed(&mut self, id: SlotId, now: Micros) -> [Option<i32>; 2] {
        let Some(slot) = self.slot(id) else {
            return [None; 2];
        };
        let (kind, database, role) = (slot.kind, slot.database, slot.role);
        let mut wake = [self.free_slot(id), None];
        match kind {
            Kind::Keeper => {
                if let Some(entry) = self.database(database) {
                    entry.retry_at = now.saturating_add(1_000_000);
                }
            }
            Kind::Worker => {
                if let Some(lane) = self.lane(database, role) {
                    lane.retry_at = now.saturating_add(50_000i64 << lane.failures.min(10));
                    lane.failures = lane.failures.saturating_add(1);
                }
                wake[1] = self.ask_look(database);
            }
            Kind::Dynamic => {}
        }
        wake
    }

    /// Tries the step again at that time, not before.
    pub fn delay(&mut self, step: Step, until: Micros) {
        match step {
            Step::StartKeeper(database) => {
                if let Some(entry) = self.database(database) {
                    entry.retry_at = until;
                }
            }
            Step::StartWorker(database, role) => {
                if let Some(lane) = self.lane(database, role) {
                    lane.retry_at = until;
                }
            }
            Step::Wake(_) | Step::Dismiss(_) => {}
        }
    }
}
