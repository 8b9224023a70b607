//! Counters over a clean restart: one file, written by the postmaster when all else has ended, read
//! when the next server starts, and removed then, so that a crash starts from zero. So does an
//! immediate shutdown, after which the server recovers as after a crash and forgets its own
//! statistics, too: the control file tells.
//!
//! Without the file nothing is lost but numbers, so what goes wrong is skipped: the file is
//! checked as a whole, and what does not fit is ignored.

use std::fs;

use crate::pg::shmem;
use crate::shared::SHARED;

/// Beside the server's own statistics; the working directory is the data directory.
const PATH: &str = "pg_stat/my_worker.stat";
const NEW: &str = "pg_stat/my_worker.stat.tmp";

/// Takes over what the last server left. In the startup hook.
pub fn load() {
    let Ok(bytes) = fs::read(PATH) else { return };
    let _ = fs::remove_file(PATH);
    if shmem::was_shut_down().unwrap_or(false) {
        SHARED.alone(|state| state.counted.load(&bytes));
    }
}

/// Leaves the counters to the next server. At the postmaster's exit.
pub fn save() {
    let Some(bytes) = SHARED.alone(|state| state.counted.to_bytes()) else {
        return;
    };
    if fs::write(NEW, bytes)
        .and_then(|()| fs::rename(NEW, PATH))
        .is_err()
    {
        let _ = fs::remove_file(NEW);
    }
}
