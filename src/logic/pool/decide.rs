//! What the launcher does next.

use super::{Kind, Known, Micros, OVERRUN, Oid, Phase, Slot, State};

/// How long a worker may be at it while a lane has none.
pub const TURN: Micros = 250_000;

/// What the launcher means to do next, found under the lock and done outside of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// This database needs its keeper.
    StartKeeper(Oid),
    /// This database and role need a worker.
    StartWorker(Oid, Oid),
    /// This idle worker shall look.
    Wake(i32),
    /// There are too many, or no place is free for another lane's: this process leaves.
    Dismiss(i32),
}

impl State {
    /// Decides on the next step, if any, and when to look again (`next` only moves down).
    pub fn next_step(&mut self, now: Micros, most: usize, next: &mut Micros) -> Option<Step> {
        self.keeper_step(now, next)
            .or_else(|| self.dismiss_surplus(most).map(Step::Dismiss))
            .or_else(|| self.worker_step(now, most, next))
    }

    /// A database needs its keeper: to find out about it, or because it has the extension.
    fn keeper_step(&self, now: Micros, next: &mut Micros) -> Option<Step> {
        for entry in self.databases.iter().filter(|entry| entry.oid != 0) {
            let has = |slot: &Slot| slot.serves(Kind::Keeper, entry.oid, 0);
            let wanted = entry.known != Known::Absent || entry.look || entry.probe;
            if self.slots.iter().any(has) || !wanted {
                continue;
            }
            let at = entry.blocked_until.max(entry.retry_at);
            if at > now {
                *next = (*next).min(at);
                continue;
            }
            return Some(Step::StartKeeper(entry.oid));
        }
        None
    }

    /// A lane has work that none of its workers is about to take.
    fn worker_step(&mut self, now: Micros, most: usize, next: &mut Micros) -> Option<Step> {
        let mut wanting: Option<(usize, Micros, Oid, Oid)> = None;
        let mut idle = None;
        for lane in self.lanes.iter().filter(|lane| lane.database != 0) {
            let (database, role) = (lane.database, lane.role);
            let Some(have) = self.workers_if_wanting(database, role, now, next) else {
                continue;
            };
            let rests = |s: &Slot| {
                s.phase == Phase::Idle && !s.leave && s.serves(Kind::Worker, database, role)
            };
            if self.slots.iter().any(rests) {
                idle = Some((database, role));
                break;
            }
            let at = lane.retry_at.max(self.ready_at(database));
            if at > now {
                *next = (*next).min(at);
                continue;
            }
            // The lane with the fewest workers goes first, of those the one served longest ago.
            let this = (have, lane.served_at, database, role);
            if wanting.is_none_or(|first| this < first) {
                wanting = Some(this);
            }
        }
        if let Some((database, role)) = idle {
            // Also for what a worker left behind that sticks in a long job.
            if let Some(lane) = self.lane(database, role) {
                lane.set_pending();
            }
            return self.rouse_idle(database, role).map(Step::Wake);
        }
        let (have, _, database, role) = wanting?;
        let busy = self
            .slots
            .iter()
            .filter(|s| s.phase != Phase::Free && s.kind == Kind::Worker);
        if busy.count() < most {
            return Some(Step::StartWorker(database, role));
        }
        self.dismiss_for(have, now, next).map(Step::Dismiss)
    }

    /// A process was asked for.
    pub fn note_served(&mut self, kind: Kind, database: Oid, role: Oid, now: Micros) {
        if kind == Kind::Worker
            && let Some(lane) = self.lane(database, role)
        {
            lane.served_at = now;
        }
    }

    /// How many workers the lane has, if it could use one more now.
    fn workers_if_wanting(
        &self,
        database: Oid,
        role: Oid,
        now: Micros,
        next: &mut Micros,
    ) -> Option<usize> {
        let lane = self
            .lanes
            .iter()
            .find(|l| l.database == database && l.role == role)?;
        let mut have = 0_usize;
        let mut stuck_with_others = false;
        for slot in self
            .slots
            .iter()
            .filter(|s| s.serves(Kind::Worker, database, role))
        {
            have = have.saturating_add(1);
            if slot.phase == Phase::Starting && !slot.leave {
                return None;
            }
            if slot.phase == Phase::Idle {
                continue;
            }
            if !slot.is_overrunning(now) {
                // It will be at the next job soon; if not, look again.
                if lane.pending && !lane.crowded {
                    *next = (*next).min(now.saturating_add(OVERRUN));
                }
            } else if slot.left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                stuck_with_others = true;
            }
        }
        let all_stuck = self
            .slots
            .iter()
            .filter(|s| s.serves(Kind::Worker, database, role))
            .all(|slot| slot.phase == Phase::Idle || slot.is_overrunning(now));
        let wanting = match lane.pending {
            true => lane.crowded || have == 0 || all_stuck,
            false => stuck_with_others && all_stuck,
        };
        wanting.then_some(have)
    }

    /// When workers may start in a database: not before its keeper has been there, nor while
    /// somebody wants to drop it.
    fn ready_at(&self, oid: Oid) -> Micros {
        let never = Micros::MAX;
        let Some(entry) = self.databases.iter().find(|entry| entry.oid == oid) else {
            return never;
        };
        match entry.known {
            Known::Present => entry.blocked_until,
            Known::Nothing | Known::Absent => never,
        }
    }
}
