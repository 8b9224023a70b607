//! Making room: which process leaves for another one.

use super::{
    Database, Kind, Known, Lane, Micros, Oid, Phase, Rules, Slot, SlotId, State, Step, TURN, Wake,
};

/// How soon a start is tried again after a process was asked to leave for it.
const ROOM_SOON: Micros = 20_000;
/// A process that was asked to leave has so long to go before another one is asked.
const ROOM_PAUSE: Micros = 100_000;
/// A worker that was asked to leave and sticks, without a job, is not waited for longer than this.
const PATIENCE: Micros = 1_000_000;
/// Work that the server had no free slot for waits for one; each failed start renews this.
const WAIT_SHOWN: Micros = 2_000_000;

impl Slot {
    /// Asks the process to leave.
    pub(super) fn dismiss(&mut self, now: Micros) {
        self.set_leave(true);
        self.told_at = now;
    }

    fn is_worker(&self) -> bool {
        self.phase != Phase::Free && self.kind == Kind::Worker
    }

    /// Whether it was asked to leave, and is not in a long job.
    fn is_leaving(&self, now: Micros) -> bool {
        let patience = (0..PATIENCE).contains(&now.saturating_sub(self.told_at));
        self.is_worker() && self.leaves() && patience && !self.is_overrunning(now)
    }

    /// Whether it is between jobs, or in a short one.
    fn is_between(&self, now: Micros) -> bool {
        self.is_worker()
            && self.phase == Phase::Running
            && !self.leaves()
            && !self.is_overrunning(now)
    }
}

impl State {
    /// Makes room for a lane that has so many workers: asks an idle worker to leave, else one of a
    /// lane that has at least two more, else, for a lane that has none, the one that has been at
    /// work for longest, after its turn; of one role only if `within` names it. Answers whom to
    /// wake. Long jobs are not waited for: a worker in one leaves room when it ends.
    pub(super) fn dismiss_for(
        &mut self,
        wanting_has: usize,
        within: Option<Oid>,
        now: Micros,
        next: &mut Micros,
    ) -> Option<i32> {
        if let Some(procno) = self.dismiss_idle(within, now) {
            return Some(procno);
        }
        *next = (*next).min(now.saturating_add(TURN));
        let ours = |s: &&Slot| within.is_none_or(|role| s.role == role);
        let slots = || self.used_slots().iter().filter(ours);
        if slots().any(|s| s.is_leaving(now)) {
            return None;
        }
        let served = |slot: &Slot| {
            let same = |s: &&Slot| s.serves(Kind::Worker, slot.database, slot.role);
            self.used_slots().iter().filter(same).count()
        };
        let candidates = || slots().filter(|s| s.is_between(now));
        let enough = wanting_has.saturating_add(2);
        let rich = candidates().find(|slot| served(slot) >= enough);
        let longest = || {
            candidates()
                .filter(|s| wanting_has == 0 && now.saturating_sub(s.since) >= TURN)
                .min_by_key(|s| s.since)
        };
        let generation = rich.or_else(longest)?.generation;
        self.dismiss_first(now, |slot| slot.generation == generation)
    }

    /// Whether a worker will leave, or end its turn, within a moment.
    pub(super) fn leaves_soon(&self, now: Micros) -> bool {
        let starting = |s: &Slot| s.is_worker() && s.phase == Phase::Starting && !s.leaves();
        let mut slots = self.used_slots().iter();
        slots.any(|s| s.is_leaving(now) || s.is_between(now) || starting(s))
    }

    /// There are more workers than the settings allow, since a setting was lowered: an idle one
    /// leaves, else the youngest, after its job. Answers whom to wake.
    pub(super) fn dismiss_surplus(&mut self, now: Micros, rules: &Rules) -> Option<i32> {
        let stays = |s: &Slot| s.is_worker() && !s.leaves();
        let staying = |role: Option<Oid>| {
            let of_role = |s: &&Slot| stays(s) && role.is_none_or(|role| s.role == role);
            self.used_slots().iter().filter(of_role).count()
        };
        let workers = staying(None);
        let roles = || {
            self.used_slots()
                .iter()
                .filter(|s| stays(s))
                .map(|s| s.role)
        };
        let beyond = workers.saturating_sub(rules.most);
        // The place beyond `max_workers` is for a role that has one worker.
        let reserved = beyond == 1 && roles().any(|role| staying(Some(role)) == 1);
        let within = if beyond > 0 && !reserved {
            None
        } else {
            let cap = rules.cap();
            if cap >= workers {
                return None;
            }
            Some(roles().find(|role| staying(Some(*role)) > cap)?)
        };
        self.dismiss_idle(within, now).or_else(|| {
            let ours = |s: &&Slot| stays(s) && within.is_none_or(|role| s.role == role);
            let youngest = self
                .used_slots()
                .iter()
                .filter(ours)
                .max_by_key(|s| s.since)?;
            let generation = youngest.generation;
            self.dismiss_first(now, |slot| slot.generation == generation)
        })
    }

    /// Asks an idle worker to leave, of one role only if `within` names it.
    fn dismiss_idle(&mut self, within: Option<Oid>, now: Micros) -> Option<i32> {
        self.dismiss_first(now, |s| {
            s.phase == Phase::Idle
                && s.is_worker()
                && !s.leaves()
                && within.is_none_or(|role| s.role == role)
        })
    }

    fn dismiss_first(&mut self, now: Micros, which: impl Fn(&Slot) -> bool) -> Option<i32> {
        let held = |s: &&mut Slot| s.phase != Phase::Free && which(s);
        let slot = self.used_slots_mut().iter_mut().find(held)?;
        slot.dismiss(now);
        Some(slot.procno)
    }

    /// The server has no place for this step's process: an idle one of ours leaves, if any can, and
    /// the step is tried again. Answers whom to wake.
    pub fn no_room(&mut self, step: Step, now: Micros) -> Wake {
        let leaves = self.make_room(step, now);
        let again = if self.makes_room(now) {
            ROOM_SOON
        } else {
            TURN
        };
        self.wait_for_slot(step, now, now.saturating_add(again));
        Wake::from(leaves)
    }

    /// Asks one of ours to leave, unless one was asked a moment ago: an idle worker, else a keeper
    /// with nothing due, else a worker as in [`State::dismiss_for`].
    fn make_room(&mut self, step: Step, now: Micros) -> Option<i32> {
        if self.makes_room(now) {
            return None;
        }
        let have = match step {
            Step::StartWorker(database, role) => {
                let same = |s: &&Slot| s.serves(Kind::Worker, database, role);
                self.used_slots().iter().filter(same).count()
            }
            _ => 0,
        };
        let nap = self.is_nap(step, now);
        let keeper = matches!(step, Step::StartKeeper(_));
        let leaves = self
            .dismiss_idle(None, now)
            .or_else(|| self.send_keeper_away(have == 0 && !nap, keeper, now))
            .or_else(|| match nap {
                true => None,
                false => self.dismiss_for(have, None, now, &mut 0),
            });
        if leaves.is_some() {
            self.room_at = now;
        }
        leaves
    }

    /// The same for a process that a session launches itself.
    pub fn make_room_for_launch(&mut self, now: Micros) -> Wake {
        if self.makes_room(now) {
            return Wake::NOBODY;
        }
        let idle = self.dismiss_idle(None, now);
        let leaves = idle.or_else(|| self.send_keeper_away(false, false, now));
        if leaves.is_some() {
            self.room_at = now;
        }
        Wake::from(leaves)
    }

    /// Whether one of ours was asked to leave for another one a moment ago.
    pub fn makes_room(&self, now: Micros) -> bool {
        (0..ROOM_PAUSE).contains(&now.saturating_sub(self.room_at))
    }

    /// The step is tried again at that time; until then it is known what it waits for.
    fn wait_for_slot(&mut self, step: Step, now: Micros, until: Micros) {
        match step {
            Step::StartKeeper(database) => {
                let nap = self.is_nap(step, now);
                if let Some(entry) = self.database(database) {
                    entry.retry_at = until;
                    entry.no_slot_at = if nap { 0 } else { now };
                }
            }
            Step::StartWorker(database, role) => {
                if let Some(lane) = self.lane(database, role) {
                    lane.retry_at = until;
                    lane.no_slot_at = now;
                }
            }
            Step::Wake(_) | Step::Dismiss(_) => {}
        }
    }

    /// The clock was set back by so much: whoever waits for a time waits for as long as before.
    pub fn clock_set_back(&mut self, by: Micros) {
        let back = |time: &mut Micros| {
            if *time != 0 {
                *time = time.saturating_sub(by).max(1);
            }
        };
        self.lanes
            .iter_mut()
            .for_each(|lane| back(&mut lane.retry_at));
        for entry in &mut self.databases {
            back(&mut entry.retry_at);
            back(&mut entry.blocked_until);
        }
    }

    /// Whether work of this database and role, of any if 0, waits for a place of the server.
    pub fn waits_for_slot(&self, database: Oid, role: Oid, now: Micros) -> bool {
        let since = |at: Micros| at != 0 && (0..WAIT_SHOWN).contains(&now.saturating_sub(at));
        let here = |oid: Oid| oid != 0 && (database == 0 || database == oid);
        let lane = |lane: &Lane| {
            here(lane.database)
                && (role == 0 || lane.role == role)
                && lane.pending
                && since(lane.no_slot_at)
        };
        let keeper = |entry: &Database| {
            here(entry.oid) && entry.known != Known::Absent && since(entry.no_slot_at)
        };
        self.lanes.iter().any(lane) || self.databases.iter().any(keeper)
    }

    /// Whether a process could not be started, or ended by an error, and is tried again later.
    pub fn refuses(&self, now: Micros) -> bool {
        let lane = |l: &Lane| l.pending && l.no_slot_at == 0 && l.retry_at > now;
        let keeper = |e: &Database| e.oid != 0 && !e.away && e.no_slot_at == 0 && e.retry_at > now;
        self.lanes.iter().any(lane) || self.databases.iter().any(keeper)
    }

    /// How many roles with work have as many workers as one may have; 0 means no cap.
    pub fn capped_roles(&self, cap: usize) -> usize {
        let waits = |l: &Lane| l.database != 0 && l.pending && self.workers_of(l.role) >= cap;
        let before = |index: usize, role: Oid| {
            let mut lanes = self.lanes.iter().take(index);
            lanes.any(|l| l.role == role && waits(l))
        };
        let lanes = self.lanes.iter().enumerate().filter(|_| cap != 0);
        lanes
            .filter(|(index, l)| waits(l) && !before(*index, l.role))
            .count()
    }

    /// A process could not start, or ended by an error: its slot is free, and its lane or database
    /// waits a little longer each time. The keeper looks whether the role may log in at all. Answers
    /// whom to wake.
    pub fn start_failed(&mut self, id: SlotId, now: Micros) -> [Wake; 2] {
        let Some(slot) = self.slot(id) else {
            return [Wake::NOBODY; 2];
        };
        let (kind, database, role) = (slot.kind, slot.database, slot.role);
        let permit = self.free_slot(id);
        let mut keeper = Wake::NOBODY;
        match kind {
            Kind::Keeper => {
                if let Some(entry) = self.database(database) {
                    entry.no_slot_at = 0;
                    entry.retry_at = now.saturating_add(1_000_000);
                }
            }
            Kind::Worker => {
                if let Some(lane) = self.lane(database, role) {
                    lane.no_slot_at = 0;
                    let pause = 50_000_i64 << lane.failures.min(10);
                    lane.retry_at = now.saturating_add(pause);
                    lane.failures = lane.failures.saturating_add(1);
                }
                keeper = self.ask_look(database);
            }
            Kind::Dynamic => {}
        }
        [permit, keeper]
    }
}
