//! A database with jobs that have keys, in miniature, for tests: workers that look, take keys, run, commit, are rolled
//! back and die, one small step each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Database, Kind, Known, Micros, Phase, SeenArrivals, SlotId, State, TakenKey, Wake};
use crate::logic::keys::freed::{self, Freed, Since};
use crate::logic::keys::passed::Passed;
use crate::logic::keys::verdict::Verdict;
use crate::logic::keys::{KeyId, Rule};
use crate::logic::low_water::{LowWater, Place};
use crate::logic::testing::Rng;

const DATABASE: u32 = 1;
const ROLE: u32 = 10;
const LAUNCHER: i32 = 1;

#[derive(Clone)]
pub struct Job {
    pub place: Place,
    /// 0: none.
    pub key: u64,
    pub fails: u32,
}

pub type Table = BTreeMap<i64, Job>;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum At {
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

pub struct Worker {
    pub id: SlotId,
    pub at: At,
    pub low: LowWater,
    pub passed: Passed,
    pub seen: SeenArrivals,
    pub freed: freed::Read,
    pub now: Micros,
    pub held: Vec<KeyId>,
    pub avoid: BTreeSet<i64>,
    pub candidates: Vec<i64>,
    pub changes: Vec<(i64, Option<Job>)>,
    pub worked: bool,
}

pub struct World {
    state: Box<State>,
    rule: Rule,
    pub rng: Rng,
    pub now: Micros,
    pub table: Table,
    locked: BTreeMap<i64, usize>,
    pub workers: Vec<Worker>,
    /// What is committed and not announced yet: `run_at` of jobs, or keys that are free.
    untold: Vec<(Option<Micros>, KeyId)>,
    next_id: i64,
    limit: usize,
}

pub fn key(number: u64) -> KeyId {
    KeyId::test(number)
}

pub fn place_order(table: &Table) -> Vec<Job> {
    let mut jobs: Vec<Job> = table.values().cloned().collect();
    jobs.sort_by_key(|job| job.place);
    jobs
}

impl World {
    pub fn new(seed: u64) -> World {
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

    fn new_worker(&mut self) -> Worker {
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

    fn wake(&mut self, wake: Wake) {
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

    fn launcher(&mut self) {
        if self.state.lane(DATABASE, ROLE).unwrap().pending
            && let Some(procno) = self.state.rouse_idle(DATABASE, ROLE)
        {
            self.wake(Wake::process(procno));
        }
    }

    pub fn enqueue(&mut self) {
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

    pub fn cancel(&mut self) {
        let ids: Vec<i64> = self.table.keys().copied().collect();
        if let Some(id) = (!ids.is_empty()).then(|| *self.rng.pick(&ids))
            && !self.locked.contains_key(&id)
            && let Some(job) = self.table.remove(&id)
        {
            self.untold.push((None, key(job.key)));
        }
    }

    pub fn tell(&mut self) {
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
    pub fn pass_time(&mut self, by: Micros) {
        let before = self.now;
        self.now += by;
        let due = |job: &Job| job.place.run_at > before && job.place.run_at <= self.now;
        if self.table.values().any(due) {
            self.state.lane(DATABASE, ROLE).unwrap().set_pending();
            self.launcher();
        }
    }

    pub fn step(&mut self, index: usize) {
        match self.workers[index].at {
            At::Asleep => {}
            At::Begin => self.begin(index),
            At::Hold => {
                let id = self.workers[index].id;
                let held = self.state.keys_held(DATABASE, ROLE, id.index).collect();
                let locked = self.locked.iter().filter(|(_, by)| **by != index);
                self.workers[index].avoid = locked.map(|(id, _)| *id).collect();
                self.workers[index].held = held;
                self.workers[index].now = self.now;
                self.workers[index].at = At::Look;
            }
            At::Look => self.look(index),
            At::Take => self.take(index),
            At::Test(job) => self.test(index, job),
            At::Run(job) => self.run(index, job),
            At::Commit => self.commit(index),
            At::Announce => {
                let changes = std::mem::take(&mut self.workers[index].changes);
                for (_, job) in changes {
                    let run_at = job.map_or(Micros::MAX, |job| job.place.run_at);
                    if run_at <= self.now {
                        let wake = self.state.demand(DATABASE, ROLE, run_at, 0);
                        self.wake(wake);
                    }
                }
                self.workers[index].at = At::GiveBack;
            }
            At::GiveBack => {
                let wake = self.state.give_back_keys(self.workers[index].id);
                self.wake(wake);
                self.workers[index].at = match self.workers[index].worked {
                    true => At::Begin,
                    false => At::Rest,
                };
            }
            At::Rest => {
                let pending = self.state.lane(DATABASE, ROLE).unwrap().pending;
                self.workers[index].at = At::Begin;
                if !pending {
                    let slot = self.state.slot(self.workers[index].id).unwrap();
                    slot.phase = Phase::Idle;
                    self.workers[index].at = At::Asleep;
                }
            }
        }
    }

    fn begin(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        self.state.slot(worker.id).unwrap().phase = Phase::Running;
        let lane = self.state.lane(DATABASE, ROLE).unwrap();
        let late = lane.arrivals_since(&mut worker.seen);
        lane.take_pending();
        if let Some(run_at) = late {
            worker.low.step_back(run_at);
        }
        let mut list = Vec::with_capacity(Freed::ROOM);
        match self.state.freed.since(&mut worker.freed, &mut list) {
            Since::These => list.iter().for_each(|key| worker.passed.stir(*key)),
            Since::All => worker.passed.stir_all(),
        }
        worker.worked = false;
        worker.at = At::Hold;
    }

    /// The first of a key, by id.
    fn head(table: &Table, of: u64) -> Option<&Job> {
        table.values().find(|job| job.key == of)
    }

    pub fn judge(rule: Rule, held: &[KeyId], table: &Table, of: u64) -> Verdict {
        let others = held.iter().filter(|held| **held == key(of)).count();
        match rule.is_fifo {
            true if others > 0 => Verdict::Nothing,
            true => Verdict::of_first(World::head(table, of).map(|job| job.place.id)),
            false => Verdict::of_room(rule, others, false),
        }
    }

    fn look(&mut self, index: usize) {
        let (rule, table, limit) = (self.rule, self.table.clone(), self.limit);
        let worker = &mut self.workers[index];
        let mut known: HashMap<u64, Verdict> = HashMap::new();
        let mut found = Vec::new();
        for (id, text) in worker.passed.stirred() {
            if found.len() < limit {
                let of = u64::from(text[0]);
                let verdict = worker.look_at_key(id, of, rule, &table, limit, &mut found);
                known.insert(of, verdict);
            }
        }
        worker.walk(rule, &table, limit, &mut known, &mut found);
        found.sort();
        found.dedup();
        found.truncate(limit);
        // More than this one takes at once.
        if found.len() == limit {
            self.state.lane(DATABASE, ROLE).unwrap().set_pending();
        }
        worker.candidates = found.into_iter().rev().map(|place| place.id).collect();
        worker.at = At::Take;
    }

    fn take(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let Some(job) = worker.candidates.pop() else {
            worker.at = match worker.changes.is_empty() {
                true => At::GiveBack,
                false => At::Commit,
            };
            return;
        };
        let of = self.table.get(&job).map_or(0, |job| job.key);
        worker.at = At::Test(job);
        if of != 0 {
            let taken = self.state.take_key(worker.id, key(of), self.rule, 0);
            if taken == TakenKey::Refused {
                worker.at = At::Take;
            }
        }
    }

    fn test(&mut self, index: usize, id: i64) {
        self.workers[index].at = At::Take;
        let mut table = self.table.clone();
        for (id, job) in &self.workers[index].changes {
            match job {
                Some(job) => table.insert(*id, job.clone()),
                None => table.remove(id),
            };
        }
        let worker = &mut self.workers[index];
        let free = !self.locked.contains_key(&id);
        let Some(job) = table
            .get(&id)
            .filter(|job| free && job.place.run_at <= worker.now)
        else {
            // The row is another one's, or has changed: its key stays until the batch ends.
            return;
        };
        let of = job.key;
        let is_first = World::head(&table, of).is_none_or(|first| first.place.id == id);
        if of != 0 && self.rule.is_fifo && !is_first {
            let in_use = worker
                .changes
                .iter()
                .any(|(id, _)| self.table.get(id).is_some_and(|job| job.key == of));
            if !in_use {
                let wake = self.state.drop_key(worker.id, key(of));
                self.wake(wake);
            }
            return;
        }
        self.locked.insert(id, index);
        self.check(of);
        self.workers[index].at = At::Run(id);
    }

    /// Never more of a key than may.
    fn check(&self, of: u64) {
        let same = |id: &i64| self.table.get(id).is_some_and(|job| job.key == of);
        let at_work: BTreeSet<usize> = (self.locked.iter())
            .filter(|(id, _)| same(id))
            .map(|(_, by)| *by)
            .collect();
        assert!(of == 0 || at_work.len() <= self.rule.most, "{at_work:?}");
    }

    fn run(&mut self, index: usize, id: i64) {
        let mut job = self.table[&id].clone();
        let change = match job.fails {
            0 => None,
            _ => {
                job.fails -= 1;
                job.place.run_at = self.now + self.rng.range(0, 40);
                Some(job)
            }
        };
        let commits = self.rng.range(0, 3) == 0;
        let worker = &mut self.workers[index];
        worker.changes.push((id, change));
        worker.worked = true;
        worker.at = if commits { At::Commit } else { At::Take };
    }

    fn commit(&mut self, index: usize) {
        let aborts = self.rng.range(0, 9) == 0;
        self.locked.retain(|_, by| *by != index);
        let worker = &mut self.workers[index];
        if aborts {
            worker.changes.clear();
        }
        for (id, job) in &worker.changes {
            match job {
                Some(job) => self.table.insert(*id, job.clone()),
                None => self.table.remove(id),
            };
        }
        worker.at = At::Announce;
    }

    pub fn kill(&mut self, index: usize) {
        self.locked.retain(|_, by| *by != index);
        let wake = self.state.free_slot(self.workers[index].id);
        self.wake(wake);
        // Whoever ends in the middle has not looked at what it was to look at.
        self.state.lane(DATABASE, ROLE).unwrap().set_pending();
        self.workers[index] = self.new_worker();
    }

    pub fn is_quiet(&self) -> bool {
        self.untold.is_empty() && self.workers.iter().all(|w| w.at == At::Asleep)
    }
}
