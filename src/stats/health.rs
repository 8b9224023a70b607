//! The facts that `health()` judges: what stands in shared memory and in the settings.

use crate::logic::consumers::Channel;
use crate::pg::datum;
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::pg::{bgworker, catalog, clock, columns};
use crate::queue::{as_owner, extension, queues};
use crate::settings::{self, Served};
use crate::shared::{Kind, Known, Phase, SHARED, consumers};

use super::sight::Sight;

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

/// What is wrong with the columns of our tables, a line each.
pub fn altered_columns() -> Result<Vec<String>> {
    let tables = catalog::extension()?.map(|extension| extension.tables());
    tables.map_or_else(|| Ok(Vec::new()), columns::altered)
}

/// Whether the jobs of a queue are for consumers, and one of them holds some, or waits for some.
pub fn has_consumer(queue: &[u8]) -> Result<bool> {
    let name = datum::text_datum(queue)?;
    let Some(queue) = queues::find(&extension()?, name)?.filter(|q| q.handler.is_none()) else {
        return Ok(false);
    };
    let channel = Channel {
        database: bgworker::my_database(),
        queue: queue.id,
    };
    let found = consumers::write(|consumers| {
        let mut waiting = consumers.head.waiting.sessions(channel.database);
        waiting.any(|(_, _, queue)| queue == channel.queue) || consumers.count(channel) > 0
    });
    Ok(found == Some(true))
}

/// The names in `my_worker.database`, none for `*`; one `None` if the value was refused at the start.
pub fn named_databases() -> Vec<Option<Vec<u8>>> {
    if settings::list_was_refused() {
        return vec![None];
    }
    match settings::served() {
        Served::All => Vec::new(),
        Served::Named(names) => names.into_iter().map(Some).collect(),
    }
}

static LATE: Statement = Statement::new(
    "SELECT name, owner, disabled_reason IS NOT NULL FROM my_worker._schedules \
     WHERE disabled_reason IS NOT NULL OR (active AND next_run_at < \
     (pg_catalog.clock_timestamp() - '1 min'::pg_catalog.interval))",
    &[],
);

/// A schedule that is late by a minute, or was disabled by an error.
pub struct LateSchedule {
    /// Its name.
    pub name: Vec<u8>,
    /// It was disabled.
    pub is_disabled: bool,
}

/// Those that the caller sees.
pub fn late_schedules() -> Result<Vec<LateSchedule>> {
    let sight = Sight::of_caller()?;
    let mut late = Vec::new();
    let all = as_owner(&extension()?, |spi| {
        let rows = spi.read(&LATE, &[])?;
        rows.iter()
            .map(|row| Ok((row.text(1)?.unwrap_or_default(), row.oid(2), row.bool(3))))
            .collect::<Result<Vec<_>>>()
    })?;
    for (name, owner, is_disabled) in all {
        if sight.sees(owner.unwrap_or(0))? {
            late.push(LateSchedule { name, is_disabled });
        }
    }
    Ok(late)
}
