//! `queue_stats`: what waits in each queue, what runs, and what was counted.

use std::collections::BTreeMap;

use crate::counted;
use crate::logic::counters::Counters;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::clock;
use crate::pg::datum::{self, Micros, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::{Row, Statement};
use crate::queue::live::{self, Blocked, Scope, Waiting};
use crate::queue::{as_owner, extension, queues, rates};
use crate::shared::{Phase, SHARED, SLOTS, consumers};

use super::sight::Sight;

static QUEUES: Statement = Statement::new(
    "SELECT name, id, rate IS NOT NULL FROM my_worker.queues ORDER BY name",
    &[],
);

static LEASED: Statement = Statement::new(
    "SELECT queue, owner, pg_catalog.count(*) FROM my_worker._jobs \
     WHERE status = 'processing' AND lease IS NOT NULL GROUP BY queue, owner",
    &[],
);

static BLOCKED: Statement = Statement::new(
    "SELECT queue, owner, pg_catalog.count(*) FILTER (WHERE run_at <= $1), \
     pg_catalog.count(*) FILTER (WHERE run_at > $1) FROM my_worker._jobs \
     WHERE status = 'blocked' GROUP BY queue, owner",
    &[types::TIMESTAMPTZ],
);

/// One row of the view.
pub struct QueueRow {
    /// Its name.
    pub queue: Vec<u8>,
    /// What waits.
    pub waiting: Waiting,
    /// Jobs that run.
    pub processing: i64,
    /// What was counted since the server's start; `None` if it is of jobs that the caller does not see.
    pub counters: Option<Box<Counters>>,
    /// Jobs wait that its rate does not let start yet.
    pub is_limited: bool,
}

/// A queue of this database.
pub(super) struct Named {
    /// Its name.
    pub(super) name: Vec<u8>,
    /// Its number.
    pub(super) id: i32,
    has_rate: bool,
}

/// All queues of this database, with what the caller sees of each.
pub fn rows() -> Result<Vec<QueueRow>> {
    let extension = extension()?;
    let sight = Sight::of_caller()?;
    let queues = names(&extension)?;
    let running = at_work(sight, &queues)?;
    let leased = leased(&extension, sight)?;
    let now: Micros = clock::now();
    let blocked = blocked(&extension, now)?;
    let scope = Scope {
        now,
        running: &running,
        sees: &|owner| sight.sees(owner),
    };
    let mut waiting = live::waiting(&extension, &scope, &blocked)?;
    let mut processing: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (_, queue) in &running {
        *processing.entry(queue).or_default() += 1;
    }
    for (queue, count) in &leased {
        *processing.entry(queue).or_default() += count;
    }
    let row = |queue: Named| {
        let waiting = waiting.remove(&queue.name).unwrap_or_default();
        let (counters, whose) = counted::counters(queue.id);
        let waits = queue.has_rate && waiting.pending > 0;
        Ok(QueueRow {
            is_limited: waits && is_limited(&extension, &queue.name)?,
            processing: processing.get(queue.name.as_slice()).copied().unwrap_or(0),
            counters: sight.sees(whose)?.then(|| Box::new(counters)),
            queue: queue.name,
            waiting,
        })
    };
    queues.into_iter().map(row).collect()
}

/// Since when jobs have been due, of each queue the one that has been due for longest, as the caller sees them.
pub fn oldest() -> Result<BTreeMap<Vec<u8>, Micros>> {
    let extension = extension()?;
    let sight = Sight::of_caller()?;
    let running = at_work(sight, &names(&extension)?)?;
    let scope = Scope {
        now: clock::now(),
        running: &running,
        sees: &|owner| sight.sees(owner),
    };
    live::oldest(&extension, &scope)
}

/// The jobs that run, or that sessions hold, sorted, with their queues.
fn at_work(sight: Sight, queues: &[Named]) -> Result<Vec<(i64, Vec<u8>)>> {
    let mut running = running(sight)?;
    running.extend(held_by_sessions(sight, queues)?);
    running.sort_unstable();
    Ok(running)
}

/// All queues of this database by name.
pub(super) fn names(extension: &Extension) -> Result<Vec<Named>> {
    as_owner(extension, |spi| {
        let rows = spi.read(&QUEUES, &[])?;
        let named = |row: Row<'_>| {
            Ok(Named {
                name: row.text(1)?.unwrap_or_default(),
                id: row.i32(2).unwrap_or(0),
                has_rate: row.bool(3),
            })
        };
        rows.iter().map(named).collect()
    })
}

fn is_limited(extension: &Extension, queue: &[u8]) -> Result<bool> {
    let queue = queues::find(extension, datum::text_datum(queue)?)?;
    Ok(queue.is_some_and(|queue| rates::is_limited(&queue)))
}

/// How many wait for jobs that they come after.
fn blocked(extension: &Extension, now: Micros) -> Result<Blocked> {
    as_owner(extension, |spi| {
        let rows = spi.read(&BLOCKED, &[Some(now.datum())])?;
        let blocked = |row: Row<'_>| {
            let pair = (row.oid(2).unwrap_or(0), row.text(1)?.unwrap_or_default());
            Ok((pair, (row.i64(3).unwrap_or(0), row.i64(4).unwrap_or(0))))
        };
        rows.iter().map(blocked).collect()
    })
}

/// The jobs that sessions of consumers hold and that the caller sees, with their queues.
fn held_by_sessions(sight: Sight, queues: &[Named]) -> Result<Vec<(i64, Vec<u8>)>> {
    let database = bgworker::my_database();
    let mut held = Vec::with_capacity(consumers::out());
    if held.capacity() > 0 {
        consumers::write(|consumers| {
            let room = held.capacity();
            let leases = consumers
                .of_database(database)
                .filter(|lease| lease.is_valid());
            let leases = leases.map(|l| (l.key.job, l.owner, l.channel.queue));
            held.extend(leases.take(room));
        });
    }
    let mut jobs = Vec::new();
    for (job, owner, queue) in held {
        let named = queues.iter().find(|named| named.id == queue);
        if let Some(named) = named
            && sight.sees(owner)?
        {
            jobs.push((job, named.name.clone()));
        }
    }
    Ok(jobs)
}

/// How many jobs of each queue have a lease in their rows, of those that the caller sees.
fn leased(extension: &Extension, sight: Sight) -> Result<Vec<(Vec<u8>, i64)>> {
    let counted = as_owner(extension, |spi| {
        let rows = spi.read(&LEASED, &[])?;
        let row = |row: Row| Ok((row.text(1)?.unwrap_or_default(), row.oid(2), row.i64(3)));
        rows.iter().map(row).collect::<Result<Vec<_>>>()
    })?;
    let mut leased = Vec::new();
    for (queue, owner, count) in counted {
        if sight.sees(owner.unwrap_or(0))? {
            leased.push((queue, count.unwrap_or(0)));
        }
    }
    Ok(leased)
}

/// The jobs that run in this database and that the caller sees, sorted, with their queues.
fn running(sight: Sight) -> Result<Vec<(i64, Vec<u8>)>> {
    let database = bgworker::my_database();
    // Room for all before the lock: nothing allocates under it.
    let mut found = Vec::with_capacity(SLOTS);
    SHARED.read(|state| {
        for slot in state.slots.iter().filter(|slot| slot.database == database) {
            if let Some(job) = slot.current().job().filter(|_| slot.phase != Phase::Free) {
                found.push((job, slot.role, slot.queue));
            }
        }
    });
    let mut jobs = Vec::new();
    for (job, role, queue) in found {
        if sight.sees(role)? {
            jobs.push((job, queue.get().to_vec()));
        }
    }
    jobs.sort_unstable();
    Ok(jobs)
}
