//! The facts that `health()` judges: what stands in shared memory and in the settings.

use crate::logic::consumers::Channel;
use crate::pg::datum::{self, Micros, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::pg::{bgworker, catalog, clock, columns, identity};
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

/// Jobs that have failed and that nobody has retried or purged, the last thousand of a day, those of
/// dropped queues left out, since nobody can mend them; and the last one before. Each part walks the index by
/// time backwards until it has enough: a join, or one list of all, would read every failure that is kept. The times are no
/// parameters, so that the server can tell how many rows are of a day, and walks.
static FAILED: Statement = Statement::made(
    || {
        let may_see = |owner| {
            format!("($1 OR {owner} = ANY ((SELECT m.roles FROM mine AS m)::pg_catalog.oid[]))")
        };
        let is_there =
            |queue| format!("(SELECT true FROM my_worker.queues AS q WHERE q.name = {queue})");
        let last = |when: &str, most: u32| {
            let time = format!("{when} pg_catalog.now() - '1 day'::pg_catalog.interval");
            let (ended, settled) = ("h.finished_at", "coalesce(j.started_at, j.run_at)");
            format!(
                "(SELECT f.queue, f.at FROM (\
                 (SELECT h.queue, {ended} AS at FROM my_worker.history AS h WHERE h.status = 'failed' \
                 AND {ended} {time} AND {} AND {} ORDER BY {ended} DESC LIMIT {most}) \
                 UNION ALL (SELECT j.queue, {settled} FROM my_worker._jobs AS j WHERE j.status = 'failed' \
                 AND {settled} {time} AND {} AND {} ORDER BY 2 DESC LIMIT {most})) AS f ORDER BY f.at DESC LIMIT {most})",
                may_see("h.owner"),
                is_there("h.queue"),
                may_see("j.owner"),
                is_there("j.queue"),
            )
        };
        format!(
            "WITH mine AS (SELECT ARRAY(SELECT r.oid FROM pg_catalog.pg_roles AS r \
             WHERE NOT $1 AND pg_catalog.pg_has_role($2, r.oid, 'USAGE')) AS roles) \
             SELECT l.queue, pg_catalog.count(*), pg_catalog.max(l.at) FROM {} AS l GROUP BY l.queue \
             UNION ALL SELECT b.queue, 0, b.at FROM {} AS b",
            last(">", 1000),
            last("<=", 1)
        )
    },
    &[types::BOOL, types::OID],
);

/// How many jobs of a queue have failed within a day; 0: none, and one failed before.
pub struct FailedJobs {
    /// The queue's name.
    pub queue: Vec<u8>,
    /// At most 1,000.
    pub count: i64,
    /// When the last one of them did.
    pub last: Option<Micros>,
}

/// Of those that the caller sees.
pub fn failed_jobs() -> Result<Vec<FailedJobs>> {
    let sight = Sight::of_caller()?;
    let arguments = [
        Some(sight.is_full().datum()),
        Some(identity::current_role().datum()),
    ];
    as_owner(&extension()?, |spi| {
        let rows = spi.read(&FAILED, &arguments)?;
        rows.iter()
            .map(|row| {
                Ok(FailedJobs {
                    queue: row.text(1)?.unwrap_or_default(),
                    count: row.i64(2).unwrap_or(0),
                    last: row.i64(3),
                })
            })
            .collect()
    })
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
