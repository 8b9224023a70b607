//! The pool: slots, lanes and databases, and every decision about them.
//!
//! A *slot* is a process of ours, or one that was asked for. A *lane* is a pair of database and
//! role for which there may be work. The table `my_worker._jobs` is the truth; what stands here is who
//! does what now, and who must look. Nothing here is needed to find a job again: after a crash all
//! of it starts from zero.
//!
//! Who writes: [L]auncher, [W]orker (the slot's own process, of any kind), [B]ackend.
//!
//! | field                               | by    | guarded by            |
//! |-------------------------------------|-------|-----------------------|
//! | `Unlocked`, and what slots say there | L W B | nothing: atomics      |
//! | the rest of a slot                  | L W B | the lock, exclusive   |
//! | lanes, databases, charges, counters | L W B | the lock, exclusive   |

mod boards;
mod charge;
mod database;
mod decide;
mod keepers;
mod keys;
mod lane;
mod launch;
mod permits;
mod places;
mod room;
mod slot;
mod text;
mod unlocked;
mod waiters;
mod wake;

#[cfg(test)]
mod histories;
#[cfg(test)]
mod key_histories;
#[cfg(test)]
mod key_looks;
#[cfg(test)]
mod key_world;
#[cfg(test)]
mod world;

use super::Micros;
use super::counters::Board;
use super::keys::freed::Freed;
use charge::{STOPS, Stop};

use boards::KeyBoards;
pub use boards::{KeyBoard, KeyBoardOf};
pub use charge::{CHARGES, Charge, Death};
pub use database::{Database, Known};
pub use decide::{Rules, Step, TURN};
pub use keys::TakenKey;
pub use lane::{Lane, SeenArrivals};
pub use launch::Refused;
pub use places::LeftOut;
pub use slot::{Current, Go, Kind, Phase, Slot, SlotId};
pub use text::Text;
pub use unlocked::{Unlocked, UnlockedSlot};
pub use wake::Wake;

/// An object identifier of the server.
pub type Oid = u32;

/// The most processes of ours, of all kinds.
pub const SLOTS: usize = 192;
/// The most databases served at a time.
pub const DATABASES: usize = 64;
/// The most databases without an entry that ask for one at a time.
const ASKERS: usize = 16;
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
    /// [B] databases without an entry that want one; 0: nobody.
    askers: [Oid; ASKERS],
    /// [B] more wanted one than there are places in `askers`.
    askers_lost: bool,
    /// [L] a database that is to be served has no entry.
    left_out: bool,
    /// [L] when a process was last asked to leave for want of a free slot of the server.
    room_at: Micros,
    /// [L] when a keeper last came back only to see what has changed.
    returned_at: Micros,
    generation: u32,
    /// Slots behind this were never taken.
    slots_used: usize,
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
    /// [W B] keys that were given back.
    pub freed: Freed,
    /// [W] what workers have passed by in queues that go by keys.
    boards: KeyBoards,
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

#[cfg(test)]
impl State {
    /// As the server makes it: all bytes zero.
    fn empty() -> Box<State> {
        let mut state = Box::new(State {
            launcher_pid: 0,
            launcher_procno: 0,
            launcher_since: 0,
            enabled: false,
            marks_read: false,
            resolve: false,
            askers: [0; ASKERS],
            askers_lost: false,
            left_out: false,
            room_at: 0,
            returned_at: 0,
            generation: 0,
            slots_used: 0,
            items_processed: 0,
            last_run: 0,
            stops_next: 0,
            counted: Board::empty(),
            timezone: Text::EMPTY,
            databases: [Database::new(0); DATABASES],
            freed: Freed::empty(),
            boards: KeyBoards::EMPTY,
            lanes_wanted: false,
            lanes: [Lane::new(0, 0, 0); LANES],
            charges: std::array::from_fn(|_| Charge::NONE),
            charges_open: 0,
            stops: [Stop::NONE; STOPS],
            waiters: [Waiter::NONE; WAITERS],
            slots: std::array::from_fn(|_| Slot::free()),
        });
        state.link(Unlocked::kept());
        state
    }
}

#[cfg(test)]
impl Waiter {
    const NONE: Waiter = Waiter {
        pid: 0,
        procno: 0,
        database: 0,
        job: 0,
        is_keeper: false,
    };
}

impl State {
    /// Says where each slot's part without the lock stands.
    pub fn link(&mut self, unlocked: &'static Unlocked) {
        for (slot, said) in self.slots.iter_mut().zip(&unlocked.slots) {
            slot.unlocked = Some(said);
        }
    }

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
