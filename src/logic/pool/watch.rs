//! Who sleeps to the next start of a limited queue.
//!
//! Jobs that may not start yet are nobody's work. Of the workers of a lane one that idles, the watcher,
//! sleeps no longer than to the time at which the first of them may start. Where there is none, since all
//! are at work or have left, the launcher sees to it ([`State::decide`]).

use super::{Kind, Known, Lane, Micros, Oid, Phase, Slot, SlotId, State, Wake};

/// Nobody; generations begin with 1.
pub(super) const NOBODY: SlotId = SlotId {
    index: 0,
    generation: 0,
};

impl Lane {
    /// Something may start at that time (0: nothing that is known).
    pub fn note_start(&mut self, time: Micros) {
        self.watch_until = sooner(self.watch_until, time);
    }

    /// A worker is about to look: what may have started by now it sees.
    pub fn look(&mut self, now: Micros) {
        if self.watch_until <= now {
            self.watch_until = 0;
        }
    }
}

impl State {
    /// The worker idles, and has seen all that its lane has: some of it may start at `until` (0: nothing that
    /// waits for its time). Answers to when it is to sleep; 0: another one does, or nothing is known.
    pub fn watch(
        &mut self,
        id: SlotId,
        (database, role): (Oid, Oid),
        until: Micros,
        now: Micros,
    ) -> Micros {
        let Some(lane) = self.lane(database, role) else {
            return until;
        };
        let (watcher, known) = (lane.watcher, lane.watch_until);
        let ahead = if known > now { known } else { 0 };
        let is_watched = watcher != id && self.watches(watcher);
        if is_watched && (until == 0 || (ahead != 0 && ahead <= until)) {
            return 0;
        }
        let until = sooner(until, ahead);
        if let Some(lane) = self.lane(database, role) {
            lane.watch_until = until;
            lane.watcher = if until == 0 { NOBODY } else { id };
        }
        until
    }

    /// A job came, due at `run_at`, that its queue's rate lets start at `start`; answers the process to wake:
    /// nobody if that time is seen to.
    pub fn await_start(
        &mut self,
        (database, role): (Oid, Oid),
        run_at: Micros,
        start: Micros,
    ) -> Wake {
        let mut entries = self.databases.iter();
        let is_known = entries.any(|e| e.oid == database && e.known == Known::Present);
        let mut slots = self.used_slots().iter();
        let idles = |slot: &Slot| slot.phase == Phase::Idle && !slot.leaves();
        let some_idles = slots.any(|slot| slot.serves(Kind::Worker, database, role) && idles(slot));
        if !is_known || !self.enabled {
            return self.demand(database, role, run_at, 0);
        }
        let launcher = self.launcher_procno;
        match self.lane(database, role) {
            Some(lane) if lane.watch_until != 0 && lane.watch_until <= start => {
                lane.arrived(run_at);
                Wake::NOBODY
            }
            Some(lane) if !some_idles => {
                lane.arrived(run_at);
                lane.note_start(start);
                Wake::process(launcher)
            }
            // It looks, and sleeps to it.
            _ => self.demand(database, role, run_at, 0),
        }
    }

    /// Whether that process idles, and so wakes at its time.
    fn watches(&self, watcher: SlotId) -> bool {
        let slot = self.slots.get(watcher.index);
        slot.is_some_and(|slot| {
            slot.generation == watcher.generation
                && slot.phase == Phase::Idle
                && slot.kind == Kind::Worker
                && !slot.leaves()
        })
    }

    /// When something of a lane may start that no worker sleeps to; 0: nothing.
    pub(super) fn unwatched(&self, lane: &Lane) -> Micros {
        if lane.watch_until == 0 || self.watches(lane.watcher) {
            0
        } else {
            lane.watch_until
        }
    }

    /// Whether somebody sees to what may start at that time.
    pub fn is_expected(&self, database: Oid, role: Oid, time: Micros) -> bool {
        let mut lanes = self.lanes.iter();
        let lane = lanes.find(|lane| lane.database == database && lane.role == role);
        lane.is_some_and(|lane| lane.watch_until != 0 && lane.watch_until <= time)
    }
}

/// The sooner of two times of which 0 is never.
fn sooner(known: Micros, new: Micros) -> Micros {
    match (known, new) {
        (0, time) | (time, 0) => time,
        (known, new) => known.min(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::pool::{Rules, Step};

    const LANE: (Oid, Oid) = (5, 10);
    const RULES: Rules = Rules {
        most: 4,
        per_role: 0,
        nap: 10_000_000,
        completed: 0,
    };

    fn state() -> Box<State> {
        let mut state = State::empty();
        state.enabled = true;
        state.databases[0] = super::super::Database::new(LANE.0);
        state.databases[0].known = Known::Present;
        state.databases[0].look = false;
        state.lane(LANE.0, LANE.1);
        state
    }

    fn worker(state: &mut State, phase: Phase) -> SlotId {
        let id = state.take_slot(Kind::Worker, LANE.0, LANE.1, 1).unwrap();
        state.slot(id).unwrap().phase = phase;
        id
    }

    fn worker_step(state: &mut State, now: Micros) -> (Option<Step>, Micros) {
        let mut next = Micros::MAX;
        let mut step = state.decide(now, &RULES, &mut next);
        while matches!(step, Some(Step::StartKeeper(_))) {
            let keeper = state.take_slot(Kind::Keeper, LANE.0, 0, now).unwrap();
            state.slot(keeper).unwrap().phase = Phase::Idle;
            next = Micros::MAX;
            step = state.decide(now, &RULES, &mut next);
        }
        (step, next)
    }

    #[test]
    fn one_of_the_idle_sleeps_to_the_first_time() {
        let mut state = state();
        let (a, b) = (
            worker(&mut state, Phase::Idle),
            worker(&mut state, Phase::Idle),
        );
        assert_eq!(state.watch(a, LANE, 500, 100), 500);
        assert_eq!(state.watch(b, LANE, 500, 100), 0);
        assert_eq!(state.watch(b, LANE, 0, 100), 0);
        assert_eq!(state.watch(b, LANE, 400, 100), 400);
        assert!(state.is_expected(LANE.0, LANE.1, 400));
        assert!(!state.is_expected(LANE.0, LANE.1, 399));
        // That one is at work: the other takes over what it knew.
        state.slot(b).unwrap().phase = Phase::Running;
        assert_eq!(state.watch(a, LANE, 500, 200), 400);
        // What is over is no time to sleep to.
        assert_eq!(state.watch(a, LANE, 0, 400), 0);
        assert!(!state.is_expected(LANE.0, LANE.1, 400));
    }

    #[test]
    fn an_idle_worker_is_roused_where_nobody_sleeps_to_it() {
        let mut state = state();
        let busy = worker(&mut state, Phase::Running);
        state
            .slot(busy)
            .unwrap()
            .set_current(super::super::Current::Running(1), 1);
        let idle = worker(&mut state, Phase::Idle);
        state.slot(idle).unwrap().procno = 77;
        state.lane(LANE.0, LANE.1).unwrap().note_start(900_000);
        // The busy one may come back soon.
        assert_eq!(worker_step(&mut state, 10_000).0, None);
        let (step, _) = worker_step(&mut state, 100_000);
        assert_eq!(step, Some(Step::Wake(77)));
        state.begin_turn(idle, Phase::Idle);
        state.lane(LANE.0, LANE.1).unwrap().take_pending();
        assert_eq!(state.watch(idle, LANE, 0, 100_000), 900_000);
        assert_eq!(worker_step(&mut state, 100_000).0, None);
    }

    #[test]
    fn jobs_that_may_not_start_yet_wake_nobody_where_their_time_is_seen_to() {
        let mut state = state();
        state.launcher_procno = 3;
        assert_eq!(state.await_start(LANE, 50, 500), Wake::process(3));
        assert_eq!(state.await_start(LANE, 60, 500), Wake::NOBODY);
        assert_eq!(state.await_start(LANE, 60, 400), Wake::process(3));
        let idle = worker(&mut state, Phase::Idle);
        state.slot(idle).unwrap().procno = 77;
        assert_eq!(state.watch(idle, LANE, 0, 100), 400);
        assert_eq!(state.await_start(LANE, 60, 400), Wake::NOBODY);
        assert!(!state.lane(LANE.0, LANE.1).unwrap().pending);
        assert_eq!(state.await_start(LANE, 60, 300), Wake::process(77));
        assert!(state.lane(LANE.0, LANE.1).unwrap().pending);
    }

    #[test]
    fn a_worker_starts_in_time_where_there_is_none() {
        let mut state = state();
        state.lane(LANE.0, LANE.1).unwrap().note_start(900_000);
        let (step, next) = worker_step(&mut state, 100_000);
        assert_eq!((step, next.min(900_000)), (None, next));
        let (step, _) = worker_step(&mut state, 900_000);
        assert_eq!(step, Some(Step::StartWorker(LANE.0, LANE.1)));
    }
}
