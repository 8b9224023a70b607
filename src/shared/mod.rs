//! The pool's state, shared by all processes under the one LWLock "my_worker".
//!
//! The state and every decision about it are plain data and pure code: see `logic::pool`.

pub mod consumers;
pub mod own;
pub mod rates;
pub mod recent;

use crate::logic::consumers::Head;
use crate::logic::consumers::lease::Lease;
pub use crate::logic::pool::*;
use crate::pg::shmem::{self, Guarded, Shared, Zeroed};

/// The shared struct.
pub static SHARED: Shared<State> = Shared::new(c"my_worker");

// SAFETY: every field has a valid all-zero value, and none points to memory of one process.
unsafe impl Zeroed for State {}
// SAFETY: as above.
unsafe impl Zeroed for Unlocked {}
// SAFETY: as above.
unsafe impl Zeroed for Head {}
// SAFETY: as above; the stage of zero bytes is `Free`, the loss `None`.
unsafe impl Zeroed for Lease {}
// SAFETY: as above.
unsafe impl Zeroed for crate::logic::rates::Head {}
// SAFETY: as above; zero bytes are a free entry.
unsafe impl Zeroed for crate::logic::rates::Entry {}
// SAFETY: as above; zero bytes run a handler.
unsafe impl Zeroed for crate::logic::recent::Head {}
// SAFETY: a byte.
unsafe impl Zeroed for u8 {}
// SAFETY: every field is an atomic, or made of some.
unsafe impl shmem::Unlocked for Unlocked {}

impl Guarded for State {
    type Unlocked = Unlocked;

    fn link(&mut self, unlocked: &'static Unlocked) {
        State::link(self, unlocked);
    }
}

/// Changes the pool under the lock, and then wakes the process that is to know.
pub fn tell(change: impl FnOnce(&mut State) -> Wake) {
    wake(SHARED.change(change));
}

/// Wakes a process, if it is one. Safe in the commit callback: raises nothing, allocates nothing.
pub fn wake(wake: Wake) {
    wake.procno().into_iter().for_each(crate::pg::latch::wake);
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
