//! Random histories of jobs with keys: workers that look, take keys, run, commit, are rolled back and die, one small
//! step each in any order, while jobs come, come late, fail and are cancelled. Never do more of a key run than may, never
//! does a job of a fifo queue start before an earlier one has ended, and no job stays behind.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::{Micros, Phase, TakenKey};
use crate::logic::keys::freed::{Freed, Since};
use crate::logic::keys::passed::{Found, Passed};
use crate::logic::keys::verdict::Verdict;
use crate::logic::keys::{KeyId, Rule};
use crate::logic::low_water::{Place, Reading};

use super::key_world::*;

/// One look of a worker.
struct Sight<'a> {
    rule: Rule,
    table: &'a Table,
    /// The most jobs that it brings.
    limit: usize,
    /// What keys were found to let pass.
    known: HashMap<u64, Verdict>,
    found: Vec<(Place, i64)>,
}

impl World {
    fn step(&mut self, index: usize) {
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

    fn judge(rule: Rule, held: &[KeyId], table: &Table, of: u64) -> Verdict {
        let others = held.iter().filter(|held| **held == key(of)).count();
        match rule.is_fifo {
            true if others > 0 => Verdict::Nothing,
            true => Verdict::of_first(World::head(table, of).map(|job| job.place.id)),
            false => Verdict::of_room(rule, others, false),
        }
    }

    /// The jobs of a key in the order in which a worker tries them.
    fn jobs_of(rule: Rule, table: &Table, of: u64) -> Vec<Job> {
        let of_key = |job: &Job| job.key == of;
        match rule.is_fifo {
            true => table.values().filter(|j| of_key(j)).cloned().collect(),
            false => place_order(table).into_iter().filter(of_key).collect(),
        }
    }

    /// Looks at the jobs of one key that may be free; answers what the key lets pass behind them, and whether the
    /// worker is to look at it again.
    fn look_at_key(sight: &mut Sight, worker: &Worker, of: u64) -> (Verdict, bool) {
        let verdict = World::judge(sight.rule, &worker.held, sight.table, of);
        let mut stays = false;
        let mut last: Option<Place> = None;
        let jobs = World::jobs_of(sight.rule, sight.table, of);
        let most = if verdict == Verdict::Nothing { 0 } else { 99 };
        for job in jobs.iter().take(most) {
            let is_later = job.place.run_at > worker.now;
            let taken = worker.avoid.contains(&job.place.id);
            stays |= taken && !is_later;
            let is_behind = sight.rule.is_fifo && last.is_some_and(|last| job.place < last);
            if is_later || taken || is_behind {
                match sight.rule.is_fifo {
                    true => break,
                    false => continue,
                }
            }
            sight.found.push((job.place, job.place.id));
            last = Some(job.place);
            if sight.found.len() >= sight.limit {
                break;
            }
        }
        match sight.rule.is_fifo && last.is_some() {
            true => (Verdict::Nothing, stays),
            false => (verdict, stays),
        }
    }

    /// Looks at the keys that were passed over and may be free since.
    fn look_at_stirred(sight: &mut Sight, worker: &mut Worker) {
        let (now, mut after) = (worker.now, None);
        worker.passed.look(now, now);
        while let Some((place, id, text)) = worker.passed.stirred(after) {
            if sight.found.len() >= sight.limit {
                break;
            }
            after = Some((place, id));
            let of = u64::from(text.unwrap()[0]);
            let before = sight.found.len();
            let (verdict, stays) = World::look_at_key(sight, worker, of);
            sight.known.insert(of, verdict);
            if sight.found.len() == before && !stays {
                let is_empty = World::jobs_of(sight.rule, sight.table, of).is_empty();
                let what = match is_empty && verdict != Verdict::Nothing {
                    true => Found::Gone,
                    false => Found::Rests,
                };
                worker.passed.note(id, what, None);
            }
        }
    }

    /// Whether the key of a job lets it pass now; if not, the reading steps over it.
    fn lets(
        sight: &mut Sight,
        passed: &mut Passed,
        held: &[KeyId],
        reading: &mut Reading,
        job: &Job,
    ) -> bool {
        if job.key == 0 {
            return true;
        }
        let (rule, table) = (sight.rule, sight.table);
        let judge = || World::judge(rule, held, table, job.key);
        let verdict = sight.known.entry(job.key).or_insert_with(judge);
        if verdict.lets(job.place.id, false) {
            return true;
        }
        let text: Rc<[u8]> = Rc::from([job.key as u8].as_slice());
        match passed.remember(key(job.key), &Some(text), job.place, 0) {
            true => reading.pass(job.place),
            false => reading.keep(job.place),
        }
        false
    }

    /// Reads on where the low-water marks stand.
    fn walk(sight: &mut Sight, worker: &mut Worker) {
        let now = worker.now;
        let mut walked = 0;
        for stretch in worker.low.stretches() {
            let mut reading = Reading::new(&mut worker.low, &stretch, now);
            let within = |job: &&Job| {
                stretch.from.is_none_or(|from| job.place >= from)
                    && stretch.below.is_none_or(|below| job.place.priority < below)
            };
            let mut skip = None;
            for job in place_order(sight.table).iter().filter(within) {
                let place = job.place;
                if skip == Some(place.priority) {
                    continue;
                }
                if place.run_at > now {
                    reading.keep(place);
                    skip = Some(place.priority);
                    continue;
                }
                if worker.avoid.contains(&place.id) {
                    reading.keep(place);
                    continue;
                }
                let (passed, held) = (&mut worker.passed, &worker.held);
                if !World::lets(sight, passed, held, &mut reading, job) {
                    continue;
                }
                reading.keep(place);
                sight.found.push((place, place.id));
                walked += 1;
                if walked == sight.limit {
                    return;
                }
            }
            reading.end();
        }
    }

    fn look(&mut self, index: usize) {
        let (table, limit) = (self.table.clone(), self.limit);
        let mut sight = Sight {
            rule: self.rule,
            table: &table,
            limit,
            known: HashMap::new(),
            found: Vec::new(),
        };
        let worker = &mut self.workers[index];
        World::look_at_stirred(&mut sight, worker);
        World::walk(&mut sight, worker);
        let mut found = sight.found;
        found.sort();
        found.dedup();
        found.truncate(limit);
        // More than this one takes at once.
        if found.len() == limit {
            self.state.lane(DATABASE, ROLE).unwrap().set_pending();
        }
        worker.candidates = found.into_iter().rev().map(|(_, id)| id).collect();
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

    fn kill(&mut self, index: usize) {
        self.locked.retain(|_, by| *by != index);
        let wake = self.state.free_slot(self.workers[index].id);
        self.wake(wake);
        // Whoever ends in the middle has not looked at what it was to look at.
        self.state.lane(DATABASE, ROLE).unwrap().set_pending();
        self.workers[index] = self.new_worker();
    }
}

#[test]
fn keys_keep_their_order_and_their_limits_and_no_job_stays_behind() {
    for seed in 0..4_000 {
        let mut world = World::new(seed);
        for step in 0..600 {
            match world.rng.range(0, 40) {
                0..=2 if step < 300 => world.enqueue(),
                3 if step < 300 => world.cancel(),
                4..=6 => world.tell(),
                7 => world.pass_time(5),
                8 if step < 300 && world.rng.range(0, 4) == 0 => {
                    let index = world.rng.next() as usize % world.workers.len();
                    world.kill(index);
                }
                _ => {
                    let index = world.rng.next() as usize % world.workers.len();
                    world.step(index);
                }
            }
        }
        for _ in 0..100_000 {
            if world.table.is_empty() {
                break;
            }
            world.tell();
            if world.is_quiet() {
                let next = world.table.values().map(|job| job.place.run_at);
                let next = next.filter(|at| *at > world.now).min();
                let Some(next) = next else {
                    panic!("seed {seed}: {} jobs stay behind", world.table.len());
                };
                world.pass_time(next - world.now);
            }
            let index = world.rng.next() as usize % world.workers.len();
            world.step(index);
        }
        assert!(world.table.is_empty(), "seed {seed}: no end");
    }
}
