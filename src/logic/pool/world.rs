//! A server in miniature, for tests of the pool: processes that start, work, sleep and leave, a
//! launcher that carries out what [`State::decide`] says, and time that jumps from event to event.
//!
//! The launcher's nap lasts an hour, and so do those of the keepers: a lost wake-up shows as a job
//! that has not run after a few minutes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Current, Database, Kind, Known, LeftOut, Micros, OVERRUN, Oid, Phase, Rules, SlotId, State,
    Step, TURN, Wake,
};

pub const MS: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;
const HOUR: Micros = 3_600 * SECOND;
const LAUNCHER: i32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Logs in.
    Starting,
    /// About to begin a turn.
    Turn,
    /// Runs a job until then.
    Job(i64),
    /// Sleeps until it is woken, or until it may retire.
    Asleep,
}

struct Process {
    id: SlotId,
    kind: Kind,
    database: Oid,
    role: Oid,
    at: At,
    /// When it goes on.
    when: Micros,
    rested: bool,
}

struct Job {
    id: i64,
    due: Micros,
    length: Micros,
}

pub struct World {
    pub state: Box<State>,
    pub rules: Rules,
    pub now: Micros,
    /// How many processes of ours the server has places for.
    pub capacity: usize,
    pub idle_timeout: Micros,
    processes: BTreeMap<i32, Process>,
    /// When places of processes that have ended are free again.
    reaped: Vec<Micros>,
    jobs: BTreeMap<(Oid, Oid), Vec<Job>>,
    next_id: i64,
    next_procno: i32,
    launcher_at: Micros,
    /// When each job started, by its id.
    pub started: BTreeMap<i64, Micros>,
    pub ended: BTreeSet<i64>,
    pub waiting: usize,
}

impl World {
    pub fn new(databases: &[Oid], rules: Rules, capacity: usize) -> World {
        let mut state = State::empty();
        state.launcher_pid = 1;
        state.launcher_procno = LAUNCHER;
        state.enabled = true;
        let mut out: Vec<LeftOut> = Vec::with_capacity(databases.len());
        state.serve(databases, &mut out).is_awake();
        World {
            state,
            rules: Rules { nap: HOUR, ..rules },
            now: 10 * SECOND,
            capacity,
            idle_timeout: 60 * SECOND,
            processes: BTreeMap::new(),
            reaped: Vec::new(),
            jobs: BTreeMap::new(),
            next_id: 1,
            next_procno: 100,
            launcher_at: 0,
            started: BTreeMap::new(),
            ended: BTreeSet::new(),
            waiting: 0,
        }
    }

    /// Commits a job that is due after `delay` and takes so long.
    pub fn enqueue(&mut self, database: Oid, role: Oid, delay: Micros, length: Micros) -> i64 {
        let (id, due) = (self.next_id, self.now + delay);
        self.next_id += 1;
        self.waiting += 1;
        let jobs = self.jobs.entry((database, role)).or_default();
        jobs.push(Job { id, due, length });
        let wake = match delay {
            0 => self.state.demand(database, role, due, 0),
            _ => self.state.due_at(database, due),
        };
        self.wake(wake);
        id
    }

    fn wake(&mut self, wake: Wake) {
        let soon = self.now + MS / 10;
        match wake.procno() {
            None | Some(-1) => {}
            Some(LAUNCHER) => self.launcher_at = self.launcher_at.min(soon),
            Some(procno) => {
                let process = self.processes.get_mut(&procno);
                if let Some(process) = process.filter(|process| process.at == At::Asleep) {
                    process.at = At::Turn;
                    process.when = soon;
                }
            }
        }
    }

    /// Lets time pass until then, or until all jobs have ended.
    pub fn run_until(&mut self, end: Micros) {
        while self.waiting > 0 {
            let process = self.processes.iter().min_by_key(|(_, p)| p.when);
            let process = process.map(|(procno, p)| (p.when, *procno));
            let event = process
                .unwrap_or((Micros::MAX, 0))
                .min((self.launcher_at, LAUNCHER));
            if event.0 > end {
                break;
            }
            self.now = self.now.max(event.0);
            match event.1 {
                LAUNCHER => self.launcher_turn(),
                procno => self.go_on(procno),
            }
            self.check();
        }
        self.now = self.now.max(end);
    }

    /// Never more workers than allowed, also of a role, and no slot is shared.
    fn check(&self) {
        let workers: Vec<Oid> = (self.processes.values())
            .filter(|p| p.kind == Kind::Worker)
            .map(|p| p.role)
            .collect();
        let of = |role: Oid| workers.iter().filter(|r| **r == role).count();
        let single = workers.iter().any(|role| of(*role) == 1);
        let most = self.rules.most + usize::from(single);
        assert!(workers.len() <= most, "{} workers", workers.len());
        let cap = self.rules.cap();
        assert!(
            workers.iter().all(|role| of(*role) <= cap),
            "role over its cap"
        );
        let slots: BTreeSet<usize> = self.processes.values().map(|p| p.id.index).collect();
        assert_eq!(slots.len(), self.processes.len(), "a slot is shared");
        let keepers: Vec<Oid> = (self.processes.values())
            .filter(|p| p.kind == Kind::Keeper)
            .map(|p| p.database)
            .collect();
        let different: BTreeSet<&Oid> = keepers.iter().collect();
        assert_eq!(different.len(), keepers.len(), "two keepers of a database");
    }

    fn launcher_turn(&mut self) {
        let mut next = self.now + HOUR;
        for round in 0.. {
            assert!(round < 2_000, "the launcher does not come to an end");
            let Some(step) = self.state.decide(self.now, &self.rules, &mut next) else {
                break;
            };
            let (kind, database, role) = match step {
                Step::Wake(procno) | Step::Dismiss(procno) => {
                    self.wake(Wake::process(procno));
                    continue;
                }
                Step::StartKeeper(database) => (Kind::Keeper, database, 0),
                Step::StartWorker(database, role) => (Kind::Worker, database, role),
            };
            let Some(id) = self.state.take_slot(kind, database, role, self.now) else {
                next = next.min(self.now + TURN);
                break;
            };
            self.reaped.retain(|at| *at > self.now);
            if self.processes.len() + self.reaped.len() < self.capacity {
                let process = Process {
                    id,
                    kind,
                    database,
                    role,
                    at: At::Starting,
                    when: self.now + 3 * MS,
                    rested: false,
                };
                self.processes.insert(self.next_procno, process);
                self.next_procno += 1;
                self.state.started(step, self.now);
                continue;
            }
            let wake = self.state.free_slot(id);
            self.wake(wake);
            if !self.state.put_off_probe(step, self.now) {
                let wake = self.state.no_room(step, self.now);
                self.wake(wake);
            }
        }
        self.launcher_at = next.max(self.now + 1);
    }

    fn set(&mut self, procno: i32, at: At, when: Micros) {
        if let Some(process) = self.processes.get_mut(&procno) {
            process.at = at;
            process.when = when;
        }
    }

    fn go_on(&mut self, procno: i32) {
        let process = &self.processes[&procno];
        let (id, kind, at) = (process.id, process.kind, process.at);
        match at {
            At::Starting => match self.state.slot(id).filter(|slot| !slot.leaves()) {
                Some(slot) => {
                    slot.pid = procno;
                    slot.procno = procno;
                    self.set(procno, At::Turn, self.now);
                }
                None => self.exit(procno),
            },
            At::Job(job) => {
                self.ended.insert(job);
                self.waiting -= 1;
                if let Some(slot) = self.state.slot(id) {
                    slot.set_current(Current::None, 0);
                    slot.set_left(0);
                }
                self.set(procno, At::Turn, self.now);
            }
            At::Turn if kind == Kind::Keeper => self.keeper_turn(procno),
            At::Turn => self.worker_turn(procno),
            At::Asleep if kind == Kind::Keeper => self.set(procno, At::Turn, self.now),
            At::Asleep => self.retire(procno),
        }
    }

    /// The postmaster notices a little later.
    fn exit(&mut self, procno: i32) {
        if let Some(process) = self.processes.remove(&procno) {
            let wake = self.state.free_slot(process.id);
            self.wake(wake);
            self.wake(Wake::process(LAUNCHER));
            self.reaped.push(self.now + 5 * MS);
        }
    }

    fn worker_turn(&mut self, procno: i32) {
        let process = &self.processes[&procno];
        let (id, database, role) = (process.id, process.database, process.role);
        let rested = process.rested;
        if !self.state.begin_turn(id, Phase::Running) {
            if !rested && let Some(lane) = self.state.lane(database, role) {
                lane.set_pending();
            }
            self.exit(procno);
            return;
        }
        let pending = self.state.lane(database, role).is_none_or(|l| l.pending);
        if !rested || pending {
            if let Some(lane) = self.state.lane(database, role) {
                lane.take_pending();
            }
            if let Some(process) = self.processes.get_mut(&procno) {
                process.rested = false;
            }
            if self.begin_job(procno) {
                return;
            }
        }
        let pending = self.state.lane(database, role).is_some_and(|l| l.pending);
        if pending {
            return;
        }
        if let Some(slot) = self.state.slot(id) {
            slot.phase = Phase::Idle;
        }
        let retires = self.now + self.idle_timeout;
        self.set(procno, At::Asleep, retires);
        if let Some(process) = self.processes.get_mut(&procno) {
            process.rested = true;
        }
    }

    fn begin_job(&mut self, procno: i32) -> bool {
        let process = &self.processes[&procno];
        let (id, lane) = (process.id, (process.database, process.role));
        let now = self.now;
        let Some(jobs) = self.jobs.get_mut(&lane) else {
            return false;
        };
        let Some(first) = jobs.iter().position(|job| job.due <= now) else {
            return false;
        };
        let job = jobs.remove(first);
        let behind = jobs.iter().filter(|job| job.due <= now).count();
        self.started.insert(job.id, now);
        if let Some(slot) = self.state.slot(id) {
            slot.set_current(Current::Running(job.id), now);
            slot.set_left(behind);
        }
        self.set(procno, At::Job(job.id), now + job.length);
        if job.length >= OVERRUN {
            // The timer of the job wakes the launcher.
            self.launcher_at = self.launcher_at.min(now + OVERRUN);
        }
        true
    }

    fn retire(&mut self, procno: i32) {
        let process = &self.processes[&procno];
        let (id, database, role) = (process.id, process.database, process.role);
        let pending = self.state.lane(database, role).is_some_and(|l| l.pending);
        let idle = self.state.slot(id).is_some_and(|s| s.phase == Phase::Idle);
        if pending || !idle {
            self.set(procno, At::Turn, self.now);
        } else {
            self.exit(procno);
        }
    }

    fn keeper_turn(&mut self, procno: i32) {
        let process = &self.processes[&procno];
        let (id, database, rested) = (process.id, process.database, process.rested);
        let now = self.now;
        if self.entry(database).known == Known::Nothing {
            let entry = self.entry(database);
            entry.known = Known::Present;
            entry.look = true;
        } else if !rested {
            self.entry(database).look = true;
        }
        if let Some(process) = self.processes.get_mut(&procno) {
            process.rested = true;
        }
        if !self.state.begin_turn(id, Phase::Idle) {
            self.exit(procno);
            return;
        }
        let entry = self.entry(database);
        let due = entry.next_due != 0 && entry.next_due <= now;
        if std::mem::take(&mut entry.look) || due {
            self.look(database);
        }
        let due = self.entry(database).next_due;
        let until = if due == 0 { now + HOUR } else { due };
        self.set(procno, At::Asleep, until.max(now + 1));
    }

    fn entry(&mut self, database: Oid) -> &mut Database {
        self.state.database(database).expect("served")
    }

    fn look(&mut self, database: Oid) {
        let now = self.now;
        self.entry(database).next_due = 0;
        for lane in self.state.lanes.iter_mut() {
            if lane.database == database {
                lane.pending &= lane.failures == 0;
                lane.told = false;
            }
        }
        let lanes: Vec<(Oid, bool, Option<Micros>)> = (self.jobs.iter())
            .filter(|((at, _), _)| *at == database)
            .map(|((_, role), jobs)| {
                let later = jobs.iter().map(|job| job.due).filter(|due| *due > now);
                (*role, jobs.iter().any(|job| job.due <= now), later.min())
            })
            .collect();
        for (role, due, later) in lanes {
            if due {
                let wake = self.state.demand(database, role, now, 0);
                self.wake(wake);
            }
            if let Some(later) = later {
                let entry = self.entry(database);
                if entry.next_due == 0 || later < entry.next_due {
                    entry.next_due = later;
                }
            }
        }
    }

    /// How many processes of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.processes.values().filter(|p| p.kind == kind).count()
    }

    /// How many workers a role has.
    pub fn workers_of(&self, role: Oid) -> usize {
        let worker = |p: &&Process| p.kind == Kind::Worker && p.role == role;
        self.processes.values().filter(worker).count()
    }
}
