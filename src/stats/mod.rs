//! What the processes say of themselves and of the queues: totals, `queue_stats`, what happened lately,
//! `health()`, `why()`, and the counters that outlive a restart.

pub mod failures;
pub mod health;
pub mod lately;
pub mod queues;
pub mod saved;
pub mod sight;
pub mod waits;
pub mod why;

use crate::pg::clock;
use crate::pg::datum::Micros;
use crate::settings;
use crate::shared::{Phase, SHARED};

/// What the status and `why()` say while work waits for a place of the server.
pub const WAITS_FOR_SLOT: &str = "waiting for a free worker slot (max_worker_processes)";

/// What `get_worker_stats()` shows.
pub struct Totals {
    /// Jobs that have ended since the server started.
    pub items_processed: i64,
    /// When the last one did; 0: never.
    pub last_run: Micros,
    /// What goes on, in words.
    pub status: String,
}

/// The totals; `None` without preload.
pub fn totals() -> Option<Totals> {
    let now = clock::now();
    let (items_processed, last_run, running, launcher, waits) = SHARED.read(|state| {
        let at_work =
            |s: &&crate::shared::Slot| s.phase != Phase::Free && s.current().job().is_some();
        let running = state.used_slots().iter().filter(at_work).count();
        (
            state.items_processed,
            state.last_run,
            running,
            state.launcher_pid,
            state.waits_for_slot(0, 0, now),
        )
    })?;
    let status = match (launcher, settings::ENABLED.get(), running) {
        (0, ..) => "launcher not running".to_string(),
        (_, false, 0) => "disabled".to_string(),
        (_, false, n) => format!("disabled, {n} running"),
        (_, _, 0) if waits => WAITS_FOR_SLOT.to_string(),
        (_, _, 0) => "idle".to_string(),
        (_, _, n) if waits => format!("running {n}, {WAITS_FOR_SLOT}"),
        (_, _, n) => format!("running {n}"),
    };
    Some(Totals {
        items_processed,
        last_run,
        status,
    })
}
