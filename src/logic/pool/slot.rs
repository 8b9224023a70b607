//! Slots: the processes of ours, and those that were asked for.

use std::ops::Deref;

use super::text::Text;
use super::unlocked::{NOWHERE, UnlockedSlot};
use super::{MESSAGE_BYTES, Micros, NAME_BYTES, Oid, State, Wake};
use crate::logic::keys::HeldKeys;
use crate::logic::reach::Reach;

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
    /// [L] when the launcher has asked it to end; 0: it has not.
    pub(super) told_at: Micros,
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
    /// [L] the job for which its process was terminated.
    pub put_down: i64,
    /// [W] `reach` is set.
    has_reach: bool,
    /// [W] the part of the queue that it has; others leave that alone for a while.
    reach: Reach,
    /// [W] the keys of the jobs that it has run or runs in its open transaction.
    pub(super) keys: HeldKeys,
    /// What it says without the lock, see [`Deref`]; set before there is any process.
    pub(super) unlocked: Option<&'static UnlockedSlot>,
}

/// A slot says more than the lock guards.
impl Deref for Slot {
    type Target = UnlockedSlot;

    fn deref(&self) -> &UnlockedSlot {
        self.unlocked.unwrap_or(&NOWHERE)
    }
}

/// The stage of the job that a slot runs, in the low bits of [`UnlockedSlot`]'s `current`.
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
    pub(super) fn pack(self) -> i64 {
        match self {
            Current::None => 0,
            Current::Running(job) => job << 2 | 1,
            Current::Sealed(job) => job << 2 | 2,
            Current::Cancelling(job) => job << 2 | 3,
        }
    }

    pub(super) fn unpack(packed: i64) -> Self {
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
    /// Nobody's.
    #[cfg(test)]
    pub(super) fn free() -> Slot {
        use crate::logic::low_water::Place;
        let place = Place {
            priority: 0,
            run_at: 0,
            id: 0,
        };
        Slot {
            phase: Phase::Free,
            kind: Kind::Worker,
            told_at: 0,
            go: Go::Wait,
            generation: 0,
            pid: 0,
            procno: 0,
            database: 0,
            role: 0,
            queue_id: 0,
            queue: Text::EMPTY,
            since: 0,
            jobs_done: 0,
            task: 0,
            progress: 0.0,
            message: Text::EMPTY,
            unlocked: None,
            put_down: 0,
            has_reach: false,
            reach: Reach {
                from: place,
                to: place,
            },
            keys: HeldKeys::NONE,
        }
    }

    /// Extends its reach to that, of which so many jobs are to be run.
    pub fn extend_reach(&mut self, to: Reach, jobs: usize) {
        self.reach = if self.has_reach {
            self.reach.with(to)
        } else {
            to
        };
        self.has_reach = true;
        self.set_left(jobs);
    }

    /// Gives it up.
    pub fn withdraw_reach(&mut self) {
        self.has_reach = false;
        self.set_left(0);
    }

    /// What others leave alone, unless the process sticks in a long job at `now`.
    pub fn respected_reach(&self, now: Micros) -> Option<Reach> {
        (self.has_reach && !self.is_overrunning(now)).then_some(self.reach)
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
        slot.set_leave(false);
        slot.told_at = 0;
        slot.set_halt(false);
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
        slot.set_cancel_due(0);
        slot.progress = -1.0;
        slot.message.set(b"");
        slot.set_current(Current::None, 0);
        slot.withdraw_reach();
        slot.keys.clear();
        Some(SlotId { index, generation })
    }

    /// A process begins a turn: false if it is to leave, or its slot is no longer its own.
    pub fn begin_turn(&mut self, id: SlotId, phase: Phase) -> bool {
        let Some(slot) = self.slot(id) else {
            return false;
        };
        let leaves = slot.leaves();
        slot.phase = if leaves { Phase::Stopping } else { phase };
        !leaves
    }

    /// Frees the slot if that process still has it; answers the process to wake, as
    /// [`State::leave_queue`] does.
    pub fn free_slot(&mut self, id: SlotId) -> Wake {
        self.leave_keys(id);
        let wake = self.leave_queue(id);
        if let Some(slot) = self.slot(id) {
            slot.phase = Phase::Free;
            slot.pid = 0;
            slot.procno = -1;
            slot.set_cancel_due(0);
            slot.set_current(Current::None, 0);
            slot.withdraw_reach();
        }
        wake
    }

    /// Has an idle worker of the lane look, if there is one; answers the process to wake.
    pub(super) fn rouse_idle(&mut self, database: Oid, role: Oid) -> Option<i32> {
        let slot = self.used_slots_mut().iter_mut().find(|slot| {
            slot.phase == Phase::Idle && slot.serves(Kind::Worker, database, role) && !slot.leaves()
        })?;
        // Not idle for the next one who looks, so that two commits wake two workers.
        slot.phase = Phase::Running;
        Some(slot.procno)
    }

    /// The keeper of a database, once its process is there.
    pub fn keeper(&self, oid: Oid) -> Option<&Slot> {
        self.used_slots()
            .iter()
            .find(|slot| slot.serves(Kind::Keeper, oid, 0) && slot.procno >= 0)
    }

    /// Asks the workers of a database to leave after their jobs. Adds whom to wake: one that slept on would keep
    /// its place of the pool.
    pub fn dismiss_workers(&mut self, database: Oid, wake: &mut Vec<Wake>) {
        for slot in self.used_slots_mut() {
            if slot.phase != Phase::Free && slot.database == database && slot.kind == Kind::Worker {
                slot.set_leave(true);
                wake.push(Wake::process(slot.procno));
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

    /// The jobs that run in a database, or whose end is being written.
    pub fn running_in(&self, database: Oid) -> impl Iterator<Item = i64> {
        let ours = move |slot: &&Slot| slot.phase != Phase::Free && slot.database == database;
        let slots = self.used_slots().iter().filter(ours);
        slots.flat_map(|slot| {
            let ending = Some(slot.ending()).filter(|job| *job != 0);
            slot.current().job().into_iter().chain(ending)
        })
    }
}
