//! The pool: slots, lanes and databases, and every decision about them.
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
//! | Slot.current, job_started, left     | W, B  | atomics               |
//! | State.queue_changes                 | W, B  | atomics               |
//! | the rest of a slot                  | L W B | the lock, exclusive   |
//! | lanes, databases, charges, counters | L W B | the lock, exclusive   |

mod charge;
mod database;
mod decide;
mod lane;
mod permits;
mod room;
mod slot;
mod text;

use std::sync::atomic::AtomicU64;

use super::Micros;
use super::counters::Board;
use charge::{STOPS, Stop};

pub use charge::{CHARGES, Charge, Death};
pub use database::{Database, Known};
pub use decide::{Step, TURN};
pub use lane::{Lane, SeenArrivals};
pub use slot::{Current, Go, Kind, Phase, Slot, SlotId};
pub use text::Text;

/// An object identifier of the server.
pub type Oid = u32;

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
}
