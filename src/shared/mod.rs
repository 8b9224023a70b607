//! What the processes share: slots, lanes and databases, under the one LWLock "my_worker".
//!
//! A *slot* is a process of ours, or one that was asked for. A *lane* is a pair of database and
//! role for which there may be work. The table `my_queue` is the truth; what stands here is who
//! does what now, and who must look. Nothing here is needed to find a job again: after a crash all
//! of it starts from zero.
//!
//! Who writes: [L]auncher, [W]orker (the slot's own process, of any kind), [B]ackend.
//!
//! | field                               | by    | guarded by            |
//! |-------------------------------------|-------|-----------------------|
//! | Slot.current, job_started, left,    | W, B  | atomics               |
//! | Slot.cancel_due, State.deaths_told  | W, B  | atomics               |
//! | State.queue_changes                 | W, B  | atomics               |
//! | the rest of a slot                  | L W B | the lock, exclusive   |
//! | lanes, databases, charges, counters | L W B | the lock, exclusive   |

mod charge;
mod lane;

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};

use crate::logic::counters::Board;
use crate::logic::reach::Reach;
use crate::logic::repeats::Ration;
use crate::pg::datum::{Micros, Oid};
use crate::pg::shmem::{Shared, Text, Zeroed};
use charge::{STOPS, Stop};

pub use charge::{CHARGES, Charge, Death};
pub use lane::{Lane, SeenArrivals};

/// The shared struct.
pub static SHARED: Shared<State> = Shared::new(c"my_worker");

/// The most processes of ours, of all kinds.
pub const SLOTS: usize = 192;
/// The most databases served at a time.
pub const DATABASES: usize = 64;
/// The most pairs of database and role with work at a time; the keeper's looks serve the rest.
pub const LANES: usize = 256;
/// A name, as long as PostgreSQL's identifiers.
pub const NAME_BYTES: usize = 64;
/// The longest progress message, in bytes.
pub const MESSAGE_BYTES: usize = 160;
/// The most sessions that wait without polling.
pub const WAITERS: usize = 128;
/// The longest name of a time zone, TZ_STRLEN_MAX.
pub const ZONE_BYTES: usize = 255;

/// A job that runs longer than this no longer keeps others from the rest of its batch.
pub const OVERRUN: Micros = 20_000;

/// What a slot is for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Runs jobs of one role.
    Worker = 0,
    /// Looks after one database.
    Keeper,
    /// Runs one job for `launch_dynamic_worker`.
    Dynamic,
}

impl Kind {
    /// As the view `workers` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Worker => "worker",
            Kind::Keeper => "keeper",
            Kind::Dynamic => "dynamic",
        }
    }
}

/// What a slot's process is at.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nobody has the slot.
    Free = 0,
    /// Asked for, not yet there.
    Starting,
    /// Waiting for work.
    Idle,
    /// At work.
    Running,
    /// On its way out.
    Stopping,
}

impl Phase {
    /// As the view `workers` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Free => "free",
            Phase::Starting => "starting",
            Phase::Idle => "idle",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
        }
    }
}

/// Whether a dynamic worker may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Go {
    /// The caller's transaction is open.
    Wait = 0,
    /// It has committed.
    Yes,
    /// It was rolled back.
    No,
}

/// Identifies the holder of a slot: the generation tells it from those before and after.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SlotId {
    /// Index of the slot.
    pub index: usize,
    /// Counts the holders of all slots.
    pub generation: u32,
}

impl SlotId {
    /// As the argument of a worker's main function.
    pub fn pack(self) -> u64 {
        (u64::from(self.generation) << 16) | self.index as u64
    }

    /// Back from [`SlotId::pack`].
    pub fn unpack(packed: u64) -> Self {
        SlotId {
            index: (packed & 0xffff) as usize,
            generation: (packed >> 16) as u32,
        }
    }
}

/// A process of ours.
#[repr(C)]
pub struct Slot {
    /// [L B] takes and frees; [W] frees.
    pub phase: Phase,
    /// What it is for.
    pub kind: Kind,
    /// [L B] asks the process to end after its job.
    pub leave: bool,
    /// [B] asks to take no more jobs of `queue_id`: it was paused. [W] clears.
    pub halt: bool,
    /// Dynamic workers: [B] tells what became of the caller's transaction.
    pub go: Go,
    /// See [`SlotId`].
    pub generation: u32,
    /// [W] 0 until the process is there.
    pub pid: i32,
    /// [W] by which it is woken.
    pub procno: i32,
    /// Where it works.
    pub database: Oid,
    /// As whom; 0 for keepers.
    pub role: Oid,
    /// [W] the queue that it works on, as its id: holds one of the queue's permits. 0: none.
    pub queue_id: i32,
    /// [W] that queue's name.
    pub queue: Text<NAME_BYTES>,
    /// When it was asked for.
    pub since: Micros,
    /// [W] jobs that it has finished.
    pub jobs_done: i64,
    /// Dynamic workers: the job to run.
    pub task: i64,
    /// [W] what `progress()` said last; negative: nothing.
    pub progress: f32,
    /// [W] its words.
    pub message: Text<MESSAGE_BYTES>,
    /// [W B] the job that runs, with its stage: see [`Current`].
    pub current: AtomicI64,
    /// [W] when it started.
    pub job_started: AtomicI64,
    /// [W] how many jobs it means to run after this one.
    pub left: AtomicI32,
    /// [W B] when user code that runs was, or is to be, cancelled; 0: none runs. See `watchdog`.
    pub cancel_due: AtomicI64,
    /// [L] the job for which its process was terminated.
    pub put_down: i64,
    /// [W] `reach` is set.
    has_reach: bool,
    /// [W] the part of the queue that it has; others leave that alone for a while.
    reach: Reach,
}

/// What is known of a database.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// Nothing yet: a keeper shall find out.
    Nothing = 0,
    /// It has no extension, or one of another version; its CREATE EXTENSION tells, or the launcher
    /// has a keeper see now and then.
    Absent,
    /// A keeper has found the extension.
    Present,
}

/// A database that is served.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Database {
    /// 0: not in use.
    pub oid: Oid,
    /// See [`Known`].
    pub known: Known,
    /// [B L] the keeper shall look at the queue now.
    pub look: bool,
    /// [W] somebody was refused by a queue's limit: look again when there is room.
    pub refused: bool,
    /// [W B] the next time at which a job or schedule is due; 0: none.
    pub next_due: Micros,
    /// [B] no process of ours before this time: somebody drops, renames or copies it.
    pub blocked_until: Micros,
    /// [L] a keeper that could not start is not asked for before this time.
    pub retry_at: Micros,
    /// [B W] there was work for which no lane was free: look when one is.
    pub waits_for_lane: bool,
    /// [L] a keeper shall see whether the extension has come without a word.
    pub probe: bool,
    /// [W] when a keeper has found that it is absent.
    pub absent_at: Micros,
    /// [W] transactions of the server that had completed then.
    pub absent_seen: u64,
}

/// A session that waits for a job to end.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Waiter {
    /// 0: not in use.
    pub pid: i32,
    /// By which it is woken.
    pub procno: i32,
    /// Its database.
    pub database: Oid,
    /// The job.
    pub job: i64,
    /// It is the keeper, which shall look.
    pub is_keeper: bool,
}

/// All of it. Zero bytes are its first state.
#[repr(C)]
pub struct State {
    /// [L] its process id, 0 if it is not there.
    pub launcher_pid: i32,
    /// [L] by which it is woken.
    pub launcher_procno: i32,
    /// [L] since when.
    pub launcher_since: Micros,
    /// [L] `my_worker.enabled`, so that nobody is woken in vain while it is off.
    pub enabled: bool,
    /// [L] a server's life begins with it: marks of the former one have been read.
    pub marks_read: bool,
    /// [B] a database that the launcher does not know has, or lost, the extension.
    pub resolve: bool,
    generation: u32,
    /// Slots behind this were never taken.
    slots_used: usize,
    /// [B] counts the commits that changed settings of queues.
    pub queue_changes: AtomicU64,
    /// [W] jobs that have ended since the server started.
    pub items_processed: i64,
    /// [W] when the last one did.
    pub last_run: Micros,
    stops_next: u32,
    /// [W] jobs that have failed for good and had a line of their own in the log.
    pub deaths_told: Ration,
    /// [W B] what was counted of each queue, kept over a clean restart.
    pub counted: Board,
    /// [L] name of the server's time zone.
    pub timezone: Text<ZONE_BYTES>,
    /// See [`Database`].
    pub databases: [Database; DATABASES],
    /// Some of them wait for a lane.
    lanes_wanted: bool,
    /// See [`Lane`].
    pub lanes: [Lane; LANES],
    /// See [`Charge`].
    pub charges: [Charge; CHARGES],
    charges_open: usize,
    stops: [Stop; STOPS],
    /// See [`Waiter`].
    pub waiters: [Waiter; WAITERS],
    /// See [`Slot`]. Who looks for one by what it says asks `used_slots`.
    pub slots: [Slot; SLOTS],
}

// SAFETY: every field has a valid all-zero value, and none is a pointer.
unsafe impl Zeroed for State {}

/// The stage of the job that a slot runs, in the low bits of `Slot::current`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Current {
    /// No job.
    None,
    /// It runs, and may be cancelled.
    Running(i64),
    /// Its work is done; too late to cancel.
    Sealed(i64),
    /// Somebody cancels it.
    Cancelling(i64),
}

impl Current {
    fn pack(self) -> i64 {
        match self {
            Current::None => 0,
            Current::Running(job) => job << 2 | 1,
            Current::Sealed(job) => job << 2 | 2,
            Current::Cancelling(job) => job << 2 | 3,
        }
    }

    fn unpack(packed: i64) -> Self {
        match packed & 3 {
            1 => Current::Running(packed >> 2),
            2 => Current::Sealed(packed >> 2),
            3 => Current::Cancelling(packed >> 2),
            _ => Current::None,
        }
    }

    /// The job, whatever its stage; `None` if there is none.
    pub fn job(self) -> Option<i64> {
        match self {
            Current::None => None,
            Current::Running(job) | Current::Sealed(job) | Current::Cancelling(job) => Some(job),
        }
    }
}

impl Slot {
    /// The job that runs.
    pub fn current(&self) -> Current {
        Current::unpack(self.current.load(Ordering::Acquire))
    }

    /// Starts or ends a job.
    pub fn set_current(&self, current: Current, started: Micros) {
        self.job_started.store(started, Ordering::Relaxed);
        self.current.store(current.pack(), Ordering::Release);
    }

    /// One step of a job, if it is still at `from`.
    pub fn advance(&self, from: Current, to: Current) -> bool {
        let (from, to) = (from.pack(), to.pack());
        self.current
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Extends its reach to that, of which so many jobs are to be run.
    pub fn extend_reach(&mut self, to: Reach, jobs: usize) {
        self.reach = if self.has_reach {
            self.reach.with(to)
        } else {
            to
        };
        self.has_reach = true;
        self.left.store(jobs as i32, Ordering::Release);
    }

    /// Gives it up.
    pub fn withdraw_reach(&mut self) {
        self.has_reach = false;
        self.left.store(0, Ordering::Release);
    }

    /// What others leave alone, unless the process sticks in a long job at `now`.
    pub fn respected_reach(&self, now: Micros) -> Option<Reach> {
        (self.has_reach && !self.is_overrunning(now)).then_some(self.reach)
    }

    /// Whether the job has been running for longer than [`OVERRUN`].
    pub fn is_overrunning(&self, now: Micros) -> bool {
        self.current() != Current::None
            && now.saturating_sub(self.job_started.load(Ordering::Relaxed)) >= OVERRUN
    }

    /// Whether the slot is held by a process of that kind for that lane.
    pub fn serves(&self, kind: Kind, database: Oid, role: Oid) -> bool {
        self.phase != Phase::Free
            && self.kind == kind
            && self.database == database
            && self.role == role
    }
}

impl State {
    /// The slots that were ever taken, which are few: the others need not be read.
    pub fn used_slots(&self) -> &[Slot] {
        self.slots.get(..self.slots_used).unwrap_or(&self.slots)
    }

    /// The same, to change them.
    pub fn used_slots_mut(&mut self) -> &mut [Slot] {
        let used = self.slots_used.min(SLOTS);
        self.slots.get_mut(..used).unwrap_or_default()
    }

    /// The slot, if it is still held by that process.
    pub fn slot(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.index)
            .filter(|slot| slot.phase != Phase::Free && slot.generation == id.generation)
    }

    /// Takes a free slot for a process that is about to be asked for.
    pub fn take_slot(
        &mut self,
        kind: Kind,
        database: Oid,
        role: Oid,
        now: Micros,
    ) -> Option<SlotId> {
        let index = self
            .slots
            .iter()
            .position(|slot| slot.phase == Phase::Free)?;
        self.generation = self.generation.wrapping_add(1).max(1);
        self.slots_used = self.slots_used.max(index.saturating_add(1));
        let generation = self.generation;
        let slot = self.slots.get_mut(index)?;
        slot.phase = Phase::Starting;
        slot.kind = kind;
        slot.leave = false;
        slot.halt = false;
        slot.go = Go::Wait;
        slot.generation = generation;
        slot.pid = 0;
        slot.procno = -1;
        slot.database = database;
        slot.role = role;
        slot.queue_id = 0;
        slot.queue.set(b"");
        slot.since = now;
        slot.jobs_done = 0;
        slot.task = 0;
        slot.put_down = 0;
        slot.cancel_due.store(0, Ordering::Relaxed);
        slot.progress = -1.0;
        slot.message.set(b"");
        slot.set_current(Current::None, 0);
        slot.withdraw_reach();
        Some(SlotId { index, generation })
    }

    /// A process begins a turn: false if it is to leave, or its slot is no longer its own.
    pub fn begin_turn(&mut self, id: SlotId, phase: Phase) -> bool {
        let Some(slot) = self.slot(id) else {
            return false;
        };
        slot.phase = if slot.leave { Phase::Stopping } else { phase };
        !slot.leave
    }

    /// Frees the slot if that process still has it; answers the process to wake, as
    /// [`State::leave_queue`] does.
    #[must_use]
    pub fn free_slot(&mut self, id: SlotId) -> Option<i32> {
        let wake = self.leave_queue(id);
        if let Some(slot) = self.slot(id) {
            slot.phase = Phase::Free;
            slot.pid = 0;
            slot.procno = -1;
            slot.cancel_due.store(0, Ordering::Relaxed);
            slot.set_current(Current::None, 0);
            slot.withdraw_reach();
        }
        wake
    }

    /// The entry of a served database.
    pub fn database(&mut self, oid: Oid) -> Option<&mut Database> {
        self.databases
            .iter_mut()
            .find(|database| database.oid == oid && oid != 0)
    }

    /// Has an idle worker of the lane look, if there is one; answers the process to wake.
    pub fn rouse_idle(&mut self, database: Oid, role: Oid) -> Option<i32> {
        let slot = self.used_slots_mut().iter_mut().find(|slot| {
            slot.phase == Phase::Idle && slot.serves(Kind::Worker, database, role) && !slot.leave
        })?;
        // Not idle for the next one who looks, so that two commits wake two workers.
        slot.phase = Phase::Running;
        Some(slot.procno)
    }

    /// Notes a time at which something is due; answers the process to wake, if it is sooner than
    /// all before.
    pub fn due_at(&mut self, oid: Oid, time: Micros) -> Option<i32> {
        let database = self.database(oid)?;
        if database.next_due != 0 && database.next_due <= time {
            return None;
        }
        database.next_due = time;
        Some(
            self.keeper(oid)
                .map_or(self.launcher_procno, |slot| slot.procno),
        )
    }

    /// Has the keeper of a database look at its queue; answers the process to wake. The launcher
    /// decides about a database that it does not know: it may have been created just now.
    pub fn ask_look(&mut self, oid: Oid) -> Option<i32> {
        let Some(database) = self.database(oid) else {
            self.resolve = true;
            return Some(self.launcher_procno);
        };
        database.look = true;
        Some(
            self.keeper(oid)
                .map_or(self.launcher_procno, |slot| slot.procno),
        )
    }

    /// Asks the workers of a database to leave after their jobs; they notice within a nap.
    pub fn dismiss_workers(&mut self, database: Oid) {
        for slot in self.used_slots_mut() {
            if slot.phase != Phase::Free && slot.database == database && slot.kind == Kind::Worker {
                slot.leave = true;
            }
        }
    }

    /// Lets processes of ours into a database again; answers the process to wake.
    pub fn unblock(&mut self, oid: Oid) -> Option<i32> {
        self.resolve = true;
        let entry = self.database(oid)?;
        entry.blocked_until = 0;
        entry.retry_at = 0;
        Some(self.launcher_procno)
    }

    /// The keeper of a database, once its process is there.
    pub fn keeper(&self, oid: Oid) -> Option<&Slot> {
        self.used_slots()
            .iter()
            .find(|slot| slot.serves(Kind::Keeper, oid, 0) && slot.procno >= 0)
    }

    /// The slots that run a job of that queue now.
    pub fn running_in_queue(&self, database: Oid, queue_id: i32) -> usize {
        self.used_slots()
            .iter()
            .filter(|slot| {
                slot.phase != Phase::Free && slot.database == database && slot.queue_id == queue_id
            })
            .count()
    }

    /// Has a slot work on a queue of which at most `limit` may run; `None` if so many do, else
    /// whether there is room for one more. Whoever is refused is remembered.
    pub fn enter_queue(
        &mut self,
        id: SlotId,
        database: Oid,
        queue_id: i32,
        name: &[u8],
        limit: usize,
    ) -> Option<bool> {
        let running = self.running_in_queue(database, queue_id);
        if running >= limit {
            if let Some(entry) = self.database(database) {
                entry.refused = true;
            }
            return None;
        }
        let slot = self.slot(id)?;
        slot.queue_id = queue_id;
        slot.queue.set(name);
        slot.halt = false;
        Some(running + 1 < limit)
    }

    /// Has a slot work on no queue any more, and give back its permit; answers the process to wake
    /// if somebody was refused one. Who was refused himself and has none to give back leaves that to
    /// those who have.
    #[must_use]
    pub fn leave_queue(&mut self, id: SlotId) -> Option<i32> {
        let slot = self.slot(id)?;
        slot.queue.set(b"");
        if std::mem::take(&mut slot.queue_id) == 0 {
            return None;
        }
        let oid = slot.database;
        let entry = self.database(oid)?;
        if std::mem::take(&mut entry.refused) {
            self.ask_look(oid)
        } else {
            None
        }
    }

    /// Has those who work on a queue take no more of its jobs.
    pub fn halt_queue(&mut self, database: Oid, queue_id: i32) {
        for slot in self.used_slots_mut() {
            if slot.database == database && slot.queue_id == queue_id {
                slot.halt = true;
            }
        }
    }

    /// The slot that runs the job.
    pub fn slot_of_job(&self, database: Oid, job: i64) -> Option<&Slot> {
        self.used_slots().iter().find(|slot| {
            slot.phase != Phase::Free
                && slot.database == database
                && slot.current().job() == Some(job)
        })
    }

    /// The jobs that run in a database.
    pub fn running_in(&self, database: Oid) -> impl Iterator<Item = i64> {
        let ours = move |slot: &&Slot| slot.phase != Phase::Free && slot.database == database;
        let slots = self.used_slots().iter().filter(ours);
        slots.filter_map(|slot| slot.current().job())
    }
}

/// The error of whatever needs shared memory without preload.
pub fn not_preloaded() -> crate::pg::error::PgError {
    use crate::pg::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError};
    PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "my_worker must be loaded via \"shared_preload_libraries\"",
    )
    .hint(
        "Add my_worker to \"shared_preload_libraries\" in postgresql.conf and restart the server.",
    )
}
