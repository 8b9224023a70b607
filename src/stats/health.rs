//! The facts that `health()` judges: what stands in shared memory and in the settings.

use crate::pg::error::Result;
use crate::pg::{bgworker, catalog, clock};
use crate::settings;
use crate::shared::{Kind, Known, Phase, SHARED};

/// See `my_worker.health()`.
#[derive(Default)]
pub struct Facts {
    /// Loaded when the server started.
    pub loaded: bool,
    /// This server is a standby.
    pub recovery: bool,
    /// `my_worker.database` names this database.
    pub served: bool,
    /// `my_worker.enabled`
    pub enabled: bool,
    /// Process id of the launcher; 0: not running.
    pub launcher: i32,
    /// Databases with the extension.
    pub keepers: i32,
    /// Workers of the pool.
    pub workers: i32,
    /// `my_worker.max_workers`
    pub max_workers: i32,
    /// Places for further processes in shared memory.
    pub free_slots: i32,
    /// A process was asked for a moment ago and could not be started.
    pub refused: bool,
    /// Work waits for a free background worker slot of the server.
    pub no_slot: bool,
    /// Keepers that gave way to work.
    pub away: i32,
    /// Roles with work that have as many workers as one may have.
    pub capped: i32,
}

/// All of them, also without preload.
pub fn facts() -> Result<Facts> {
    let now = clock::now();
    let mut facts = Facts {
        loaded: SHARED.is_attached(),
        recovery: bgworker::in_recovery(),
        served: settings::serves(&catalog::current_database()?),
        enabled: settings::ENABLED.get(),
        max_workers: settings::MAX_WORKERS.get(),
        ..Facts::default()
    };
    let cap = usize::try_from(settings::MAX_WORKERS_PER_ROLE.get()).unwrap_or(0);
    SHARED.read(|state| {
        facts.launcher = state.launcher_pid;
        let databases = state.databases.iter().filter(|entry| entry.oid != 0);
        facts.keepers = databases
            .filter(|entry| entry.known == Known::Present)
            .count() as i32;
        for slot in &state.slots {
            let worker = slot.phase != Phase::Free && slot.kind == Kind::Worker;
            facts.workers += i32::from(worker);
            facts.free_slots += i32::from(slot.phase == Phase::Free);
        }
        facts.no_slot = state.waits_for_slot(0, 0, now);
        facts.away = state.keepers_away() as i32;
        facts.capped = state.capped_roles(cap) as i32;
        facts.refused = state.refuses(now);
    });
    Ok(facts)
}
