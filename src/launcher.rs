//! The launcher: one process for the server, without a database. It owns the slots.
//!
//! It decides which databases need a keeper and which lanes need a worker, asks the postmaster for
//! them, notices those that could not start, and asks idle ones to leave when others need their
//! place. It never touches a job: a job's error cannot reach it, and what it cannot start it tries
//! again later. All it knows stands in shared memory, so it may die and come back at any time.

use crate::absent::Absent;
use crate::pg::bgworker::{self, Handle, Status, Worker};
use crate::pg::catalog;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{INSUFFICIENT_RESOURCES, Result};
use crate::pg::log::{self, Level};
use crate::pg::{activity, clock, guc, latch, marks, session, wait_event, xact};
use crate::schedule;
use crate::settings::{self, Served};
use crate::shared::{
    Charge, DATABASES, Database, Death, Kind, Known, OVERRUN, Phase, SHARED, SLOTS, Slot, SlotId,
    State,
};
use crate::{greeting, watchdog};

/// `backend_type` of every process of the pool.
pub const PROCESS_TYPE: &str = "my_custom_worker";

/// A worker that was asked for and is not there by then will not come.
const START_LIMIT: Micros = 60_000_000;

/// How long a worker may be at it while a lane has none.
const TURN: Micros = 250_000;

/// How soon a start is tried again after a worker was asked to leave for it.
const ROOM_SOON: Micros = 20_000;

/// A database without the extension is looked at again after so many naps, if the server has
/// changed: who has created it by COMMIT PREPARED tells nobody.
const PROBE_NAPS: Micros = 10;

/// How often it is logged that the server has no place for another worker.
const WARN_EVERY: Micros = 600_000_000;

/// Registers the launcher. From `_PG_init` while preloading.
pub fn register() {
    let worker = Worker {
        name: "my_worker launcher",
        kind: PROCESS_TYPE,
        entry: c"my_worker_main",
        argument: 0,
        restart_seconds: Some(1),
        notify: false,
    };
    worker.register();
}

/// The life of the launcher.
pub fn main() -> Result<()> {
    activity::application_name("my_worker launcher");
    session::hold_cancels();
    let (pid, procno, now) = (bgworker::my_pid(), latch::my_procno(), clock::now());
    SHARED.write(|state| {
        state.launcher_pid = pid;
        state.launcher_procno = procno;
        state.launcher_since = now;
    });
    bgworker::before_exit(at_exit)?;
    read_marks()?;
    greeting::log()?;
    let mut launcher = Launcher {
        handles: Vec::new(),
        seen: None,
        left_out: 0,
        absent: Absent::default(),
        last_resolve: 0,
        last_probe: 0,
        warned_slots: 0,
    };
    launcher.forget_unborn();
    schedule::publish_timezone();
    loop {
        if guc::reload_if_asked()? {
            schedule::publish_timezone();
        }
        session::forget_cancel();
        launcher.turn()?;
    }
}

/// Has `ps` show how many workers there are.
fn show() {
    let most = settings::MAX_WORKERS.get();
    let worker = |slot: &&Slot| slot.phase != Phase::Free && slot.kind == Kind::Worker;
    let workers = SHARED.read(|state| state.slots.iter().filter(worker).count());
    let enabled = if settings::ENABLED.get() {
        ""
    } else {
        ", disabled"
    };
    let workers = workers.unwrap_or(0);
    activity::title(format!("{workers} of {most} workers{enabled}").as_bytes());
}

fn at_exit(_code: i32) {
    SHARED.write(|state| {
        state.launcher_pid = 0;
        state.launcher_procno = -1;
    });
}

/// Once in a server's life: what the former one left half done is charged.
fn read_marks() -> Result<()> {
    if let Err(error) = marks::open(SLOTS) {
        let text = format!("could not open the file that counts crashes of jobs: {error}");
        log::report(Level::Warning, &text)?;
    }
    let left = marks::left_behind();
    let first = SHARED.write(|state| !std::mem::replace(&mut state.marks_read, true));
    if first != Some(true) {
        return Ok(());
    }
    for mark in left {
        let death = match mark.cancelled {
            true => Death::Cancelled,
            false => Death::Crash,
        };
        if !mark.cancelled && (mark.bystander || mark.stopped) {
            // Of a command the keeper learns by it that it may run again.
            if !mark.command {
                marks::clear_if_left(mark);
            }
            continue;
        }
        let charge = Charge {
            job: mark.job,
            database: mark.database,
            attempts: mark.attempts,
            death,
        };
        SHARED.write(|state| state.charge(charge));
    }
    Ok(())
}

/// What the launcher means to do next, found under the lock and done outside of it.
#[derive(Clone, Copy)]
enum Step {
    StartKeeper(Oid),
    StartWorker(Oid, Oid),
    /// This idle worker shall look.
    Wake(i32),
    /// There are too many, or no place is free for another lane's: this process leaves.
    Dismiss(i32),
}

struct Launcher {
    /// Workers that were asked for and have not shown up in their slots.
    handles: Vec<(SlotId, Handle)>,
    /// Databases that there was no place for.
    left_out: usize,
    /// Names of `my_worker.database` that no database answers to.
    absent: Absent,
    /// Transactions that had completed when the databases were looked up last.
    seen: Option<u64>,
    last_resolve: Micros,
    last_probe: Micros,
    /// When it was logged that max_worker_processes is exhausted; 0: never.
    warned_slots: Micros,
}

impl Launcher {
    fn turn(&mut self) -> Result<()> {
        self.resolve_databases()?;
        self.probe();
        self.reap()?;
        let mut next = self.nap_end();
        watchdog::look(&mut next)?;
        let enabled = settings::ENABLED.get();
        SHARED.write(|state| state.enabled = enabled);
        if enabled {
            // Each step changes what the next one sees; their number is bounded by the slots.
            for _ in 0..SLOTS {
                match self.next_step(&mut next) {
                    Some(step) if self.take(step)? => {}
                    Some(_) => {
                        next = next.min(clock::now() + TURN);
                        break;
                    }
                    None => break,
                }
            }
        }
        self.note_retry(&mut next);
        show();
        let wait_ms = (next.saturating_sub(clock::now()).max(0) + 999) / 1000;
        latch::wait(Some(wait_ms), wait_event::launcher_main())
    }

    /// Starts that a former launcher had under way are lost with its handles.
    fn forget_unborn(&self) {
        SHARED.write(|state| {
            for slot in &mut state.slots {
                if slot.phase == Phase::Starting && slot.pid == 0 && slot.kind != Kind::Dynamic {
                    slot.phase = Phase::Free;
                }
            }
        });
    }

    fn nap_end(&self) -> Micros {
        clock::now().saturating_add(Micros::from(settings::NAPTIME.get()) * 1_000_000)
    }

    /// Looks up the databases that are served: at the start, when an unknown one has asked, and
    /// after a nap in which the server has changed.
    fn resolve_databases(&mut self) -> Result<()> {
        let now = clock::now();
        let nap = Micros::from(settings::NAPTIME.get()) * 1_000_000;
        let asked = SHARED.write(|state| {
            let unknown = state.databases.iter().any(|d| d.oid != 0 && d.look);
            std::mem::take(&mut state.resolve) || unknown
        });
        let due = self.last_resolve == 0 || now.saturating_sub(self.last_resolve) >= nap;
        if !due && asked != Some(true) {
            return Ok(());
        }
        let completed = catalog::completed_transactions();
        self.last_resolve = now;
        if self.seen == Some(completed) {
            return Ok(());
        }
        self.seen = Some(completed);
        let all = xact::catalog_transaction(catalog::databases)?;
        let served = settings::served();
        let wanted: Vec<Oid> = all
            .iter()
            .filter(|database| database.usable)
            .filter(|database| match &served {
                Served::All => true,
                Served::Named(names) => names.contains(&database.name),
            })
            .map(|database| database.oid)
            .collect();
        let wake = SHARED.write(|state| state.serve(&wanted));
        wake.flatten().into_iter().for_each(latch::wake);
        self.absent.report(&served, &all)?;
        self.warn_too_many(wanted.len())
    }

    /// Once a nap has a keeper see whether one of the databases without the extension has it now.
    fn probe(&mut self) {
        let now = clock::now();
        let nap = Micros::from(settings::NAPTIME.get()) * 1_000_000;
        if (0..nap).contains(&now.saturating_sub(self.last_probe)) {
            return;
        }
        self.last_probe = now;
        let completed = catalog::completed_transactions();
        SHARED.write(|state| state.probe(now, completed, nap * PROBE_NAPS));
    }

    /// Says so, whenever the number changes, if there are more databases to serve than places.
    fn warn_too_many(&mut self, wanted: usize) -> Result<()> {
        let left_out = wanted.saturating_sub(DATABASES);
        if left_out == std::mem::replace(&mut self.left_out, left_out) || left_out == 0 {
            return Ok(());
        }
        let text = format!("{left_out} databases are not served: there are places for {DATABASES}");
        let hint = "Name those that have the extension in \"my_worker.database\".";
        log::report_hint(Level::Warning, INSUFFICIENT_RESOURCES, &text, hint)
    }

    /// Frees the slots of workers that could not start, and lets their lanes wait a little.
    fn reap(&mut self) -> Result<()> {
        let now = clock::now();
        let mut failed = Vec::new();
        self.handles.retain(|(id, handle)| {
            let status = handle.status();
            let (there, since) = SHARED
                .write(|state| state.slot(*id).map(|slot| (slot.pid != 0, slot.since)))
                .flatten()
                .unwrap_or((true, now));
            if status == Status::Stopped && !there {
                failed.push(*id);
                return false;
            }
            if !there && now.saturating_sub(since) > START_LIMIT {
                handle.terminate();
                failed.push(*id);
                return false;
            }
            !there
        });
        for id in failed {
            SHARED.write(|state| state.start_failed(id, now));
        }
        Ok(())
    }

    fn next_step(&mut self, next: &mut Micros) -> Option<Step> {
        let most = usize::try_from(settings::MAX_WORKERS.get()).unwrap_or(1);
        let now = clock::now();
        SHARED
            .write(|state| state.next_step(now, most, next))
            .flatten()
    }

    /// Does one step; false if it makes no sense to go on now.
    fn take(&mut self, step: Step) -> Result<bool> {
        let (kind, database, role) = match step {
            Step::Wake(procno) | Step::Dismiss(procno) => {
                latch::wake(procno);
                return Ok(true);
            }
            Step::StartKeeper(database) => (Kind::Keeper, database, 0),
            Step::StartWorker(database, role) => (Kind::Worker, database, role),
        };
        let now = clock::now();
        let taken = SHARED
            .write(|state| state.take_slot(kind, database, role, now))
            .flatten();
        let Some(id) = taken else { return Ok(false) };
        match start(kind, id)? {
            Some(handle) => {
                self.handles.push((id, handle));
                SHARED.write(|state| state.note_served(kind, database, role, now));
                Ok(true)
            }
            None => {
                let wake = SHARED.write(|state| state.free_slot(id));
                wake.flatten().into_iter().for_each(latch::wake);
                if SHARED.write(|state| state.put_off_probe(step, now)) == Some(true) {
                    return Ok(true);
                }
                self.no_slot(step, now)?;
                Ok(false)
            }
        }
    }

    /// The server has no place for another worker: an idle one of ours goes, or all wait.
    fn no_slot(&mut self, step: Step, now: Micros) -> Result<()> {
        let leaving = SHARED.write(|state| {
            let leaving = state.make_room(step, now);
            let again = if leaving.is_some() { ROOM_SOON } else { TURN };
            state.delay(step, now + again);
            leaving
        });
        leaving.flatten().into_iter().for_each(latch::wake);
        if self.warned_slots != 0 && now.saturating_sub(self.warned_slots) < WARN_EVERY {
            return Ok(());
        }
        self.warned_slots = now;
        log::report_hint(
            Level::Warning,
            INSUFFICIENT_RESOURCES,
            "no free background worker slot for my_worker, jobs wait",
            "You might need to increase \"max_worker_processes\".",
        )
    }

    /// A lane or database that is to be tried again later decides when to wake.
    fn note_retry(&self, next: &mut Micros) {
        if !self.handles.is_empty() {
            // The postmaster tells of a start and of a failed one; this is for a lost word.
            *next = (*next).min(clock::now() + 1_000_000);
        }
    }
}

fn start(kind: Kind, id: SlotId) -> Result<Option<Handle>> {
    let name = format!("my_worker {}", kind.name());
    let worker = Worker {
        name: &name,
        kind: PROCESS_TYPE,
        entry: c"my_worker_main",
        argument: id.pack() as usize,
        restart_seconds: None,
        notify: true,
    };
    worker.start()
}

impl State {
    /// Serves these databases from now on, and no others. Answers the process to wake.
    fn serve(&mut self, wanted: &[Oid]) -> Option<i32> {
        for entry in &mut self.databases {
            if entry.oid != 0 && !wanted.contains(&entry.oid) {
                entry.oid = 0;
            }
        }
        for oid in wanted {
            if self.databases.iter().any(|entry| entry.oid == *oid) {
                continue;
            }
            if let Some(entry) = self.databases.iter_mut().find(|entry| entry.oid == 0) {
                entry.oid = *oid;
                entry.known = Known::Nothing;
                entry.look = true;
                entry.refused = false;
                entry.next_due = 0;
                entry.blocked_until = 0;
                entry.retry_at = 0;
                entry.probe = false;
                entry.waits_for_lane = false;
            }
        }
        self.drop_lanes()
    }

    /// Chooses the database that has been without the extension for longest, of those that may have
    /// changed and were left alone for that long.
    fn probe(&mut self, now: Micros, completed: u64, pause: Micros) {
        let due = |entry: &&mut Database| {
            entry.oid != 0
                && entry.known == Known::Absent
                && entry.absent_seen != completed
                && !(0..pause).contains(&now.saturating_sub(entry.absent_at))
        };
        let absent = self.databases.iter_mut().filter(due);
        if let Some(entry) = absent.min_by_key(|entry| entry.absent_at) {
            entry.probe = true;
        }
    }

    /// Nobody makes room for a keeper that is only to see whether the extension is there; false if
    /// the step is for something else.
    fn put_off_probe(&mut self, step: Step, now: Micros) -> bool {
        let Step::StartKeeper(database) = step else {
            return false;
        };
        let entry = self.database(database);
        let probed = entry.filter(|entry| entry.known == Known::Absent && !entry.look);
        probed.is_some_and(|entry| {
            entry.absent_at = now;
            std::mem::take(&mut entry.probe)
        })
    }

    /// Decides on the next step, if any, and when to look again (`next` only moves down).
    fn next_step(&mut self, now: Micros, most: usize, next: &mut Micros) -> Option<Step> {
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

    fn note_served(&mut self, kind: Kind, database: Oid, role: Oid, now: Micros) {
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
        let mut have = 0;
        let mut stuck_with_others = false;
        for slot in self
            .slots
            .iter()
            .filter(|s| s.serves(Kind::Worker, database, role))
        {
            have += 1;
            if slot.phase == Phase::Starting && !slot.leave {
                return None;
            }
            if slot.phase == Phase::Idle {
                continue;
            }
            if !slot.is_overrunning(now) {
                // It will be at the next job soon; if not, look again.
                if lane.pending && !lane.crowded {
                    *next = (*next).min(now + OVERRUN);
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

    /// Makes room for a lane that has so many workers: asks an idle worker to leave, else one of a
    /// lane that has at least two more, else, for a lane that has none, the one that has been at
    /// work for longest, after its turn; answers whom to wake. Long jobs are not waited for: who is
    /// at one leaves room when it ends.
    fn dismiss_for(&mut self, wanting_has: usize, now: Micros, next: &mut Micros) -> Option<i32> {
        if let Some(procno) = self.dismiss_idle() {
            return Some(procno);
        }
        *next = (*next).min(now + TURN);
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
        let rich = candidates().find(|(_, slot)| served(slot) >= wanting_has + 2);
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
    fn dismiss_surplus(&mut self, most: usize) -> Option<i32> {
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
    fn make_room(&mut self, step: Step, now: Micros) -> Option<i32> {
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
    /// waits a little longer each time. The keeper looks whether the role may log in at all.
    pub fn start_failed(&mut self, id: SlotId, now: Micros) {
        let Some(slot) = self.slot(id) else { return };
        let (kind, database, role) = (slot.kind, slot.database, slot.role);
        self.free_slot(id).into_iter().for_each(latch::wake);
        match kind {
            Kind::Keeper => {
                if let Some(entry) = self.database(database) {
                    entry.retry_at = now + 1_000_000;
                }
            }
            Kind::Worker => {
                if let Some(lane) = self.lane(database, role) {
                    lane.retry_at = now + (50_000i64 << lane.failures.min(10));
                    lane.failures = lane.failures.saturating_add(1);
                }
                if let Some(procno) = self.ask_look(database) {
                    latch::wake(procno);
                }
            }
            Kind::Dynamic => {}
        }
    }

    fn delay(&mut self, step: Step, until: Micros) {
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

/// The main function of every process of the pool: the launcher without an argument, else what
/// its slot is for.
pub fn process_main(argument: usize) -> Result<()> {
    bgworker::accept_signals();
    if argument == 0 {
        bgworker::connect_to_no_database()?;
        return main();
    }
    enter_slot(SlotId::unpack(argument as u64))
}

/// Attaches to the slot and lives the life that it is for.
pub fn enter_slot(id: SlotId) -> Result<()> {
    let _ = marks::open(SLOTS);
    let Some((kind, database, role)) = crate::worker::attach(id)? else {
        return Ok(());
    };
    bgworker::connect(database, role)?;
    match kind {
        Kind::Worker => crate::worker::main(id, database, role),
        Kind::Keeper => crate::keeper::main(id, database),
        Kind::Dynamic => crate::dynamic::main(id, database),
    }
}
