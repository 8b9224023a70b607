//! What the launcher does next: one step at a time, from what stands in shared memory.
//!
//! The launcher asks [`State::decide`] for a step, carries it out, notes the outcome, and asks again
//! until there is no step left. Each step changes what the next one sees.

use super::{Kind, Known, Lane, Micros, OVERRUN, Oid, Phase, State};

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

/// What the settings say.
#[derive(Clone, Copy)]
pub struct Rules {
    /// `my_worker.max_workers`
    pub most: usize,
    /// `my_worker.max_workers_per_role`; 0: no cap.
    pub per_role: usize,
    /// `my_worker.naptime`
    pub nap: Micros,
    /// Transactions of the server that have completed.
    pub completed: u64,
}

impl Rules {
    /// The most workers of one role.
    pub fn cap(&self) -> usize {
        match self.per_role {
            0 => usize::MAX,
            cap => cap,
        }
    }
}

/// The workers of one lane.
struct Crew {
    have: usize,
    /// Workers of the lane's role in all databases.
    of_role: usize,
    starting: bool,
    /// One is idle, and stays.
    rests: bool,
    /// Each is idle or in a long job.
    all_stuck: bool,
    /// One that is in a long job has others behind it.
    jobs_behind: bool,
}

/// A lane that could use a worker. The lane with the fewest goes first, then the one whose role has
/// the fewest, then the one that was served longest ago.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanting {
    have: usize,
    of_role: usize,
    served_at: Micros,
    database: Oid,
    role: Oid,
}

/// The first lanes that could use a worker, of three kinds.
#[derive(Default)]
struct Line {
    /// This lane's role has no more workers than it may have.
    any: Option<Wanting>,
    /// This lane's role has no worker at all.
    none: Option<Wanting>,
    /// This lane's role has as many workers as it may have.
    capped: Option<Wanting>,
    /// This lane has a worker that idles.
    idle: Option<(Oid, Oid)>,
}

fn goes_first(place: &mut Option<Wanting>, this: Wanting) {
    if place.is_none_or(|first| this < first) {
        *place = Some(this);
    }
}

impl State {
    /// Decides on the next step, if any, and when to look again (`next` only moves down).
    pub fn decide(&mut self, now: Micros, rules: &Rules, next: &mut Micros) -> Option<Step> {
        self.keeper_step(now, rules, next)
            .or_else(|| self.dismiss_surplus(now, rules).map(Step::Dismiss))
            .or_else(|| self.worker_step(now, rules, next))
            .or_else(|| self.returning_step(now, rules, next))
    }

    /// A lane has work that none of its workers is about to take.
    fn worker_step(&mut self, now: Micros, rules: &Rules, next: &mut Micros) -> Option<Step> {
        let line = self.line(now, rules, next);
        if let Some((database, role)) = line.idle {
            // Also for what a worker left behind that sticks in a long job.
            if let Some(lane) = self.lane(database, role) {
                lane.set_pending();
            }
            return self.rouse_idle(database, role).map(Step::Wake);
        }
        self.worker_for(&line, now, rules, next).or_else(|| {
            // A role at its cap takes turns with itself, from database to database.
            let capped = line.capped?;
            let leaves = self.dismiss_for(capped.have, Some(capped.role), now, next);
            leaves.map(Step::Dismiss)
        })
    }

    /// A place of the pool for one of these lanes, or one that leaves for it.
    fn worker_for(
        &mut self,
        line: &Line,
        now: Micros,
        rules: &Rules,
        next: &mut Micros,
    ) -> Option<Step> {
        let first = line.any?;
        let workers = self.workers();
        if workers < rules.most {
            return Some(Step::StartWorker(first.database, first.role));
        }
        if let Some(leaves) = self.dismiss_for(first.have, None, now, next) {
            return Some(Step::Dismiss(leaves));
        }
        // One place beyond is for roles that run nothing, so that no role can hold all.
        let reserved = line.none.filter(|_| workers == rules.most)?;
        if self.leaves_soon(now) {
            return None;
        }
        Some(Step::StartWorker(reserved.database, reserved.role))
    }

    /// Workers of the pool.
    pub fn workers(&self) -> usize {
        let held = |s: &&super::Slot| s.phase != Phase::Free && s.kind == Kind::Worker;
        self.used_slots().iter().filter(held).count()
    }

    /// Workers of a role, in all databases.
    pub fn workers_of(&self, role: Oid) -> usize {
        let slots = self.used_slots().iter();
        slots
            .filter(|s| s.phase != Phase::Free && s.kind == Kind::Worker && s.role == role)
            .count()
    }

    /// Which lanes could use a worker now.
    fn line(&self, now: Micros, rules: &Rules, next: &mut Micros) -> Line {
        let mut line = Line::default();
        for lane in self.lanes.iter().filter(|lane| lane.database != 0) {
            let (database, role) = (lane.database, lane.role);
            let crew = self.crew(database, role, now);
            if crew.starting {
                continue;
            }
            let wanting = match lane.pending {
                true => lane.crowded || crew.have == 0 || crew.all_stuck,
                false => {
                    crew.all_stuck && (crew.jobs_behind || self.must_see(lane, &crew, now, next))
                }
            };
            if !crew.all_stuck && lane.pending && !lane.crowded {
                // A worker will be at the next job soon; if not, look again.
                *next = (*next).min(now.saturating_add(OVERRUN));
            }
            if !wanting {
                continue;
            }
            if crew.rests {
                line.idle = Some((database, role));
                return line;
            }
            let at = lane.retry_at.max(self.ready_at(database));
            if at > now {
                *next = (*next).min(at);
                continue;
            }
            let this = Wanting {
                have: crew.have,
                of_role: crew.of_role,
                served_at: lane.served_at,
                database,
                role,
            };
            if crew.of_role >= rules.cap() {
                goes_first(&mut line.capped, this);
                continue;
            }
            goes_first(&mut line.any, this);
            if crew.of_role == 0 {
                goes_first(&mut line.none, this);
            }
        }
        line
    }

    /// Whether somebody must see to what a queue's rate holds back: an idle worker at once, so that it sleeps to
    /// it, else a new one in time.
    fn must_see(&self, lane: &Lane, crew: &Crew, now: Micros, next: &mut Micros) -> bool {
        let at = self.unwatched(lane);
        if at == 0 || crew.rests || at <= now {
            return at != 0;
        }
        *next = (*next).min(at);
        false
    }

    fn crew(&self, database: Oid, role: Oid, now: Micros) -> Crew {
        let mut crew = Crew {
            have: 0,
            of_role: 0,
            starting: false,
            rests: false,
            all_stuck: true,
            jobs_behind: false,
        };
        let of_role =
            |s: &&super::Slot| s.phase != Phase::Free && s.kind == Kind::Worker && s.role == role;
        for slot in self.used_slots().iter().filter(of_role) {
            crew.of_role = crew.of_role.saturating_add(1);
            if slot.database != database {
                continue;
            }
            crew.have = crew.have.saturating_add(1);
            crew.starting |= slot.phase == Phase::Starting && !slot.leaves();
            if slot.phase == Phase::Idle {
                crew.rests |= !slot.leaves();
                continue;
            }
            let sticks = slot.is_overrunning(now);
            crew.all_stuck &= sticks;
            crew.jobs_behind |= sticks && slot.left() > 0;
        }
        crew
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

    /// The step was carried out: the process was asked for.
    pub fn started(&mut self, step: Step, now: Micros) {
        match step {
            Step::StartKeeper(database) => {
                if let Some(entry) = self.database(database) {
                    entry.away = false;
                    entry.no_slot_at = 0;
                }
            }
            Step::StartWorker(database, role) => {
                if let Some(lane) = self.lane(database, role) {
                    lane.served_at = now;
                    lane.no_slot_at = 0;
                }
            }
            Step::Wake(_) | Step::Dismiss(_) => {}
        }
    }
}
