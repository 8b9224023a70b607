//! The world that the histories of keys happen in: a table, the pool, and what happens but for the workers' steps.

use std::collections::{BTreeMap, BTreeSet};

use super::{Database, Kind, Known, Micros, Phase, SeenArrivals, SlotId, State, Wake};
use crate::logic::keys::freed;
use crate::logic::keys::passed::Passed;
use crate::logic::keys::{KeyId, Rule};
use crate::logic::low_water::{LowWater, Place};
use crate::logic::testing::Rng;

pub(super) const DATABASE: u32 = 1;
pub(super) const ROLE: u32 = 10;
pub(super) const LAUNCHER: i32 = 1;

#[derive(Clone)]
pub(super) struct Job {
    pub(super) place: Place,
    /// 0: none.
    pub(super) key: u64,
    pub(super) fails: u32,
}

pub(super) type Table = BTreeMap<i64, Job>;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum At {
    Asleep,
    Begin,
    Hold,
    Look,
    Take,
    Test(i64),
    Run(i64),
    Commit,
    Announce,
    GiveBack,
    Rest,
}

pub(super) struct Worker {
    pub(super) id: SlotId,
    pub(super) at: At,
    pub(super) low: LowWater,
    pub(super) passed: Passed,
    pub(super) seen: SeenArrivals,
    pub(super) freed: freed::Read,
    pub(super) now: Micros,
    pub(super) held: Vec<KeyId>,
    pub(super) avoid: BTreeSet<i64>,
    pub(super) candidates: Vec<i64>,
    pub(super) changes: Vec<(i64, Option<Job>)>,
    pub(super) worked: bool,
}

pub(super) struct World {
    pub(super) state: Box<State>,
    pub(super) rule: Rule,
    pub(super) rng: Rng,
    pub(super) now: Micros,
    pub(super) table: Table,
    pub(super) locked: BTreeMap<i64, usize>,
    pub(super) workers: Vec<Worker>,
    /// What is committed and not announced yet: `run_at` of jobs, or keys that are free.
    pub(super) untold: Vec<(Option<Micros>, KeyId)>,
    pub(super) next_id: i64,
    pub(super) limit: usize,
}

pub(super) fn key(number: u64) -> KeyId {
    KeyId::test(number)
}

pub(super) fn place_order(table: &Table) -> Vec<Job> {
    let mut jobs: Vec<Job> = table.values().cloned().collect();
    jobs.sort_by_key(|job| job.place);
    jobs
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let mut state = State::empty();
        state.launcher_procno = LAUNCHER;
        state.enabled = true;
        state.databases[0] = Database::new(DATABASE);
        state.databases[0].known = Known::Present;
        let rule = match rng.range(0, 2) {
            0 => Rule::of(Some(rng.range(1, 3) as i32), false),
            _ => Rule::of(None, true),
        };
        let limit = rng.range(1, 4) as usize;
        let count = rng.range(1, 4);
        let mut world = World {
            state,
            rule: rule.unwrap(),
            rng,
            now: 1_000,
            table: Table::new(),
            locked: BTreeMap::new(),
            workers: Vec::new(),
            untold: Vec::new(),
            next_id: 1,
            limit,
        };
        for _ in 0..count {
            let worker = world.new_worker();
            world.workers.push(worker);
        }
        world
    }

    pub(super) fn new_worker(&mut self) -> Worker {
        let id = self.state.take_slot(Kind::Worker, DATABASE, ROLE, self.now);
        let id = id.unwrap();
        let slot = self.state.slot(id).unwrap();
        slot.procno = 100 + id.index as i32;
        slot.phase = Phase::Running;
        Worker {
            id,
            at: At::Begin,
            low: LowWater::default(),
            passed: Passed::default(),
            seen: SeenArrivals::default(),
            freed: freed::Read::default(),
            now: 0,
            held: Vec::new(),
            avoid: BTreeSet::new(),
            candidates: Vec::new(),
            changes: Vec::new(),
            worked: false,
        }
    }

    pub(super) fn wake(&mut self, wake: Wake) {
        match wake.procno() {
            None => {}
            Some(LAUNCHER) => self.launcher(),
            Some(procno) => {
                let mut all = self.workers.iter_mut();
                let of = all.find(|w| 100 + w.id.index as i32 == procno).unwrap();
                if of.at == At::Asleep {
                    of.at = At::Begin;
                }
            }
        }
    }

    pub(super) fn launcher(&mut self) {
        if self.state.lane(DATABASE, ROLE).unwrap().pending
            && let Some(procno) = self.state.rouse_idle(DATABASE, ROLE)
        {
            self.wake(Wake::process(procno));
        }
    }

    pub(super) fn enqueue(&mut self) {
        let delay = *self.rng.pick(&[0, 0, 0, -300, 50]);
        let job = Job {
            place: Place {
                priority: *self.rng.pick(&[0, 0, 1]),
                run_at: self.now + delay,
                id: self.next_id,
            },
            key: self.rng.range(0, 3) as u64,
            fails: *self.rng.pick(&[0, 0, 0, 1, 2]),
        };
        self.next_id += 1;
        self.untold.push((Some(job.place.run_at), KeyId::NONE));
        self.table.insert(job.place.id, job);
    }

    pub(super) fn cancel(&mut self) {
        let ids: Vec<i64> = self.table.keys().copied().collect();
        if let Some(id) = (!ids.is_empty()).then(|| *self.rng.pick(&ids))
            && !self.locked.contains_key(&id)
            && let Some(job) = self.table.remove(&id)
        {
            self.untold.push((None, key(job.key)));
        }
    }

    pub(super) fn tell(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        let index = self.rng.next() as usize % self.untold.len();
        let wake = match self.untold.remove(index) {
            (Some(run_at), _) if run_at <= self.now => self.state.demand(DATABASE, ROLE, run_at, 0),
            (Some(_), _) => Wake::NOBODY,
            (None, KeyId::NONE) => Wake::NOBODY,
            (None, key) => self.state.free_key(DATABASE, ROLE, key),
        };
        self.wake(wake);
    }

    /// Who waits for a time is woken then, and by nothing else that tells of jobs.
    pub(super) fn pass_time(&mut self, by: Micros) {
        let before = self.now;
        self.now += by;
        let due = |job: &Job| job.place.run_at > before && job.place.run_at <= self.now;
        if self.table.values().any(due) {
            self.state.lane(DATABASE, ROLE).unwrap().set_pending();
            self.launcher();
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.untold.is_empty() && self.workers.iter().all(|w| w.at == At::Asleep)
    }
}
