//! The launcher: one process for the server, without a database. It owns the slots.
//!
//! It decides which databases need a keeper and which lanes need a worker, asks the postmaster for
//! them, notices those that could not start, and asks idle ones to leave when others need their
//! place. It never touches a job: a job's error cannot reach it, and what it cannot start it tries
//! again later. All it knows stands in shared memory, so it may die and come back at any time.

use crate::absent::Absent;
use crate::logic::jumps::Jumps;
use crate::pg::bgworker::{self, Handle, Status, Worker};
use crate::pg::catalog;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{INSUFFICIENT_RESOURCES, Result};
use crate::pg::fault::fault;
use crate::pg::log::{self, Level};
use crate::pg::{activity, clock, guc, latch, marks, session, wait_event, xact};
use crate::schedule;
use crate::settings::{self, Served};
use crate::shared::{
    self, Charge, DATABASES, Death, Kind, LANES, LeftOut, Phase, Rules, SHARED, SLOTS, Slot,
    SlotId, Step, TURN, rates, recent,
};
use crate::{greeting, watchdog};

/// `backend_type` of every process of the pool.
pub const PROCESS_TYPE: &str = "my_custom_worker";

/// A worker that was asked for and is not there by then will not come.
const START_LIMIT: Micros = 60_000_000;

/// A database without the extension is looked at again after so many naps, if the server has
/// changed: who has created it by COMMIT PREPARED tells nobody.
const PROBE_NAPS: Micros = 10;

/// The most steps of one turn of the loop.
const STEPS: usize = 2 * (SLOTS + DATABASES + LANES);

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
    fault!(LauncherStart);
    read_marks()?;
    greeting::log()?;
    let mut launcher = Launcher {
        handles: Vec::new(),
        seen: None,
        absent: Absent::default(),
        out: Vec::new(),
        crowded_out: 0,
        last_resolve: 0,
        last_probe: 0,
        warned_slots: 0,
        clock: Jumps::default(),
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
    let most = usize::try_from(most).unwrap_or(0);
    // The place for a role that runs nothing.
    let beyond = if workers > most {
        " and one beyond"
    } else {
        ""
    };
    let workers = workers.min(most);
    activity::title(format!("{workers} of {most} workers{beyond}{enabled}").as_bytes());
}

fn at_exit(_code: i32) {
    SHARED.write(|state| {
        state.launcher_pid = 0;
        state.launcher_procno = -1;
    });
}

/// Once in a server's life: what the former one left half done is charged.
fn read_marks() -> Result<()> {
    rates::begin(clock::now());
    if let Err(error) = marks::open(SLOTS) {
        let text = format!("could not open the file that counts crashes of jobs: {error}");
        log::report(Level::Warning, &text)?;
    }
    let left = marks::left_behind();
    let first = SHARED.read(|state| !state.marks_read);
    if first != Some(true) {
        return Ok(());
    }
    for mark in left {
        let death = match mark.cancelled {
            true => Death::Cancelled,
            false if mark.begun => Death::CrashInCommand,
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
            started: mark.started,
            death,
        };
        SHARED.write(|state| state.charge(charge));
    }
    // From here on who asks what is charged is told all.
    SHARED.write(|state| state.marks_read = true);
    Ok(())
}

struct Launcher {
    /// Workers that were asked for and have not shown up in their slots.
    handles: Vec<(SlotId, Handle)>,
    /// Names of `my_worker.database` that no database answers to.
    absent: Absent,
    /// Databases that are to be served, and have no entry in shared memory.
    out: Vec<LeftOut>,
    /// How many of them wait for one since others with the extension have all.
    crowded_out: usize,
    /// Transactions that had completed when the databases were looked up last.
    seen: Option<u64>,
    last_resolve: Micros,
    last_probe: Micros,
    /// When it was logged that max_worker_processes is exhausted; 0: never.
    warned_slots: Micros,
    clock: Jumps,
}

impl Launcher {
    fn turn(&mut self) -> Result<()> {
        fault!(LauncherTurn);
        if let Some(by) = self.clock.set_back(clock::now(), clock::steady()) {
            SHARED.write(|state| state.clock_set_back(by));
        }
        self.resolve_databases()?;
        self.probe();
        self.give_places()?;
        self.reap()?;
        let mut next = self.nap_end();
        watchdog::look(&mut next)?;
        let enabled = settings::ENABLED.get();
        SHARED.write(|state| state.enabled = enabled);
        if enabled {
            let rules = rules();
            // Each step changes what the next one sees; their number is bounded by what may start,
            // wait for room and leave.
            for _ in 0..STEPS {
                match self.next_step(&rules, &mut next) {
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
        let counted = recent::databases();
        let all = xact::catalog_transaction(catalog::databases)?;
        let served = settings::served();
        let mut wanted: Vec<Oid> = all
            .iter()
            .filter(|database| database.usable)
            .filter(|database| match &served {
                Served::All => true,
                Served::Named(names) => names.contains(&database.name),
            })
            .map(|database| database.oid)
            .collect();
        wanted.sort_unstable();
        // Room for all before the lock: nothing allocates under it.
        self.out.reserve(wanted.len());
        let out = &mut self.out;
        shared::tell(|state| state.serve(&wanted, out));
        let is_gone = |oid: &Oid| all.iter().all(|database| database.oid != *oid);
        counted.into_iter().filter(is_gone).for_each(recent::forget);
        marks::forget_databases(|oid| is_gone(&oid));
        self.absent.report(&served, &all)
    }

    /// Gives entries in shared memory to databases that want one, and says so, whenever their number
    /// changes, if there are more of them than places.
    fn give_places(&mut self) -> Result<()> {
        if self.out.is_empty() && self.crowded_out == 0 {
            return Ok(());
        }
        let out = &mut self.out;
        let crowded_out = SHARED.write(|state| state.give_places(out)).unwrap_or(0);
        if crowded_out == std::mem::replace(&mut self.crowded_out, crowded_out) || crowded_out == 0
        {
            return Ok(());
        }
        let text = format!(
            "{crowded_out} databases are not served: {DATABASES} others have the extension, and all places"
        );
        let hint = "Name those to be served in \"my_worker.database\".";
        log::report_hint(Level::Warning, INSUFFICIENT_RESOURCES, &text, hint)
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
        let out = &mut self.out;
        SHARED.write(|state| state.probe(now, completed, nap * PROBE_NAPS, out));
    }

    /// Frees the slots of workers that could not start, and lets their lanes wait a little.
    fn reap(&mut self) -> Result<()> {
        let now = clock::now();
        let mut failed = Vec::new();
        for (id, handle) in std::mem::take(&mut self.handles) {
            // Before the slot is read: one that has stopped by then will not come.
            let stopped = handle.status() == Status::Stopped;
            let (there, since) = SHARED
                .write(|state| state.slot(id).map(|slot| (slot.pid != 0, slot.since)))
                .flatten()
                .unwrap_or((true, now));
            let late = now.saturating_sub(since) > START_LIMIT;
            if !there && !stopped && !late {
                self.handles.push((id, handle));
                continue;
            }
            if !there {
                failed.push(id);
                if !stopped {
                    handle.terminate();
                }
            }
            handle.forget();
        }
        for id in failed {
            let wake = SHARED.change(|state| state.start_failed(id, now));
            wake.into_iter().for_each(shared::wake);
        }
        Ok(())
    }

    fn next_step(&mut self, rules: &Rules, next: &mut Micros) -> Option<Step> {
        let now = clock::now();
        SHARED
            .write(|state| state.decide(now, rules, next))
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
        fault!(LauncherTakes);
        if let Some(handle) = start(kind, id)? {
            self.handles.push((id, handle));
            SHARED.write(|state| state.started(step, now));
            return Ok(true);
        }
        shared::tell(|state| state.free_slot(id));
        if SHARED.write(|state| state.put_off_probe(step, now)) != Some(true) {
            self.no_room(step, now)?;
        }
        Ok(true)
    }

    /// The server has no place for another worker: an idle one of ours goes, or all wait.
    fn no_room(&mut self, step: Step, now: Micros) -> Result<()> {
        shared::tell(|state| state.no_room(step, now));
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

/// What the settings say now.
fn rules() -> Rules {
    Rules {
        most: usize::try_from(settings::MAX_WORKERS.get()).unwrap_or(1),
        per_role: usize::try_from(settings::MAX_WORKERS_PER_ROLE.get()).unwrap_or(0),
        nap: Micros::from(settings::NAPTIME.get()) * 1_000_000,
        completed: catalog::completed_transactions(),
    }
}

fn start(kind: Kind, id: SlotId) -> Result<Option<Handle>> {
    let name = format!("my_worker {}", kind.name());
    let worker = Worker {
        name: &name,
        kind: PROCESS_TYPE,
        entry: c"my_worker_main",
        argument: id.pack(),
        restart_seconds: None,
        notify: true,
    };
    worker.start()
}

/// The main function of every process of the pool: the launcher without an argument, else what
/// its slot is for.
pub fn process_main(argument: u64) -> Result<()> {
    bgworker::accept_signals();
    if argument == 0 {
        bgworker::connect_to_no_database()?;
        return main();
    }
    enter_slot(SlotId::unpack(argument))
}

/// Attaches to the slot and lives the life that it is for.
pub fn enter_slot(id: SlotId) -> Result<()> {
    let _ = marks::open(SLOTS);
    let Some((kind, database, role)) = crate::worker::attach(id)? else {
        return Ok(());
    };
    fault!(Attached);
    bgworker::connect(database, role)?;
    match kind {
        Kind::Worker => crate::worker::main(id, database, role),
        Kind::Keeper => crate::keeper::main(id, database),
        Kind::Dynamic => crate::dynamic::main(id, database),
    }
}
