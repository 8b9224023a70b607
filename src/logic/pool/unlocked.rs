//! What is read and changed without the lock: atomics, apart from what the lock guards, so that neither is
//! taken for the other.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};

use super::{Current, Filters, Micros, OVERRUN, SLOTS};
use crate::logic::repeats::Ration;

/// All of it. Zero bytes are its first state.
#[repr(C)]
pub struct Unlocked {
    /// [B] counts the commits that changed settings of queues.
    pub queue_changes: AtomicU64,
    /// [W] jobs that have failed for good and had a line of their own in the log.
    pub deaths_told: Ration,
    /// [W] which jobs others may come after.
    pub dependents: Filters,
    /// What each slot says without the lock.
    pub slots: [UnlockedSlot; SLOTS],
}

/// What a slot says without the lock. Each has a cache line of its own: processes write to theirs for
/// every job.
#[derive(Default)]
#[repr(C, align(64))]
pub struct UnlockedSlot {
    /// [W B] the job that runs, with its stage: see [`Current`].
    current: AtomicI64,
    /// [W] when it started.
    job_started: AtomicI64,
    /// [W] a command that has run, and whose end is written while the next one is claimed; 0: none.
    ending: AtomicI64,
    /// [W B] when user code that runs was, or is to be, cancelled; 0: none runs. See `watchdog`.
    cancel_due: AtomicI64,
    /// [W] how many jobs it means to run after this one.
    left: AtomicI32,
    /// [L B] asks the process to end after its job.
    leave: AtomicBool,
    /// [B] asks to take no more jobs of the queue: it was paused. [W] clears.
    halt: AtomicBool,
}

impl UnlockedSlot {
    /// The job that runs.
    pub fn current(&self) -> Current {
        Current::unpack(self.current.load(Ordering::Acquire))
    }

    /// When it started.
    pub fn job_started(&self) -> Micros {
        self.job_started.load(Ordering::Relaxed)
    }

    /// Starts or ends a job.
    pub fn set_current(&self, current: Current, started: Micros) {
        self.job_started.store(started, Ordering::Relaxed);
        self.current.store(current.pack(), Ordering::Release);
    }

    /// The command whose end is written while the next one is claimed; 0: none.
    pub fn ending(&self) -> i64 {
        self.ending.load(Ordering::Acquire)
    }

    /// Says which.
    pub fn set_ending(&self, job: i64) {
        self.ending.store(job, Ordering::Release);
    }

    /// One step of a job, if it is still at `from`.
    pub fn advance(&self, from: Current, to: Current) -> bool {
        let (from, to) = (from.pack(), to.pack());
        self.current
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether the job has been running for longer than [`OVERRUN`].
    pub fn is_overrunning(&self, now: Micros) -> bool {
        self.current() != Current::None && now.saturating_sub(self.job_started()) >= OVERRUN
    }

    /// How many jobs it means to run after this one.
    pub fn left(&self) -> i32 {
        self.left.load(Ordering::Relaxed)
    }

    /// Says how many.
    pub fn set_left(&self, jobs: usize) {
        self.left.store(jobs as i32, Ordering::Release);
    }

    /// When user code that runs was, or is to be, cancelled; 0: none runs.
    pub fn cancel_due(&self) -> Micros {
        self.cancel_due.load(Ordering::SeqCst)
    }

    /// Says when.
    pub fn set_cancel_due(&self, due: Micros) {
        self.cancel_due.store(due, Ordering::SeqCst);
    }

    /// User code that runs is cancelled at `now`, if it was not to be sooner.
    pub fn cancel_now(&self, now: Micros) {
        let sooner = |due: Micros| (due > now).then_some(now);
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        let _ = self.cancel_due.fetch_update(set, get, sooner);
    }

    /// Whether the process is to end after its job.
    pub fn leaves(&self) -> bool {
        self.leave.load(Ordering::Acquire)
    }

    /// Asks it to, or not.
    pub(super) fn set_leave(&self, leave: bool) {
        self.leave.store(leave, Ordering::Release);
    }

    /// Whether the process is to take no more jobs of its queue.
    pub fn takes_no_more(&self) -> bool {
        self.leaves() || self.halt.load(Ordering::Acquire)
    }

    /// Asks it to take none of its queue, or no longer asks.
    pub(super) fn set_halt(&self, halt: bool) {
        self.halt.store(halt, Ordering::Release);
    }
}

/// What a slot says that is in no shared memory.
pub(super) static NOWHERE: UnlockedSlot = UnlockedSlot {
    current: AtomicI64::new(0),
    job_started: AtomicI64::new(0),
    ending: AtomicI64::new(0),
    cancel_due: AtomicI64::new(0),
    left: AtomicI32::new(0),
    leave: AtomicBool::new(false),
    halt: AtomicBool::new(false),
};

#[cfg(test)]
impl Unlocked {
    /// A new one, which stays until the test program ends, as shared memory stays until the server does.
    pub(super) fn kept() -> &'static Unlocked {
        static KEPT: std::sync::Mutex<Vec<&Unlocked>> = std::sync::Mutex::new(Vec::new());
        let new: &'static Unlocked = Box::leak(Box::new(Unlocked {
            queue_changes: AtomicU64::new(0),
            deaths_told: Ration::default(),
            dependents: Filters::empty(),
            slots: std::array::from_fn(|_| UnlockedSlot::default()),
        }));
        KEPT.lock().unwrap().push(new);
        new
    }
}
