//! The failures that `health()` tells of: jobs that nobody has retried or purged.
//!
//! They are read role by role: a role that sees only its own must not pay for the failures of others, and who
//! sees all must not pay for more than it is told. Those of dropped queues are left out, since nobody can mend them.

use crate::pg::clock;
use crate::pg::datum::{self, Micros, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::{Spi, Statement};
use crate::queue::{as_owner, extension};

use super::sight::Sight;

/// So many are counted.
const MOST: usize = 1000;

/// Those of a day are told.
const DAY: Micros = 24 * 60 * 60 * 1_000_000;

/// The roles that have any. Each is one step in an index from the one before.
static ROLES: Statement = Statement::made(
    || {
        let steps = |name: &str, table: &str| {
            let first = |after: &str| {
                format!(
                    "SELECT t.owner FROM {table} AS t WHERE t.status = 'failed'{after} ORDER BY t.owner LIMIT 1"
                )
            };
            let (start, next) = (first(""), first(" AND t.owner > s.owner"));
            format!(
                "{name} AS (({start}) UNION ALL \
                 SELECT n.owner FROM {name} AS s CROSS JOIN LATERAL ({next}) AS n)"
            )
        };
        format!(
            "WITH RECURSIVE {}, {} SELECT owner FROM past UNION SELECT owner FROM live",
            steps("past", "my_worker.history"),
            steps("live", "my_worker._jobs")
        )
    },
    &[],
);

/// Those of a role after a time, the last ones.
static AFTER: Statement = Statement::made(|| of_role(">", MOST), &[types::OID, types::TIMESTAMPTZ]);

/// The last one of a role up to a time.
static UP_TO: Statement = Statement::made(|| of_role("<=", 1), &[types::OID, types::TIMESTAMPTZ]);

fn of_role(when: &str, most: usize) -> String {
    let failed = |table: &str, at: &str| {
        format!(
            "(SELECT t.queue, {at} FROM {table} AS t WHERE t.status = 'failed' AND t.owner = $1 AND {at} {when} $2 \
             AND (SELECT true FROM my_worker.queues AS q WHERE q.name = t.queue) ORDER BY 2 DESC LIMIT {most})"
        )
    };
    format!(
        "{} UNION ALL {}",
        failed("my_worker.history", "t.finished_at"),
        failed("my_worker._jobs", "coalesce(t.started_at, t.run_at)")
    )
}

/// How many jobs of a queue have failed within a day; 0: none, and one failed before.
pub struct FailedJobs {
    /// The queue's name.
    pub queue: Vec<u8>,
    /// At most [`MOST`] in all queues.
    pub count: i64,
    /// When the last one of them did.
    pub last: Option<Micros>,
}

/// A failure: its queue and when it was.
type Failure = (Vec<u8>, Micros);

/// Of those that the caller sees.
pub fn failed_jobs() -> Result<Vec<FailedJobs>> {
    let extension = extension()?;
    let sight = Sight::of_caller()?;
    let all = as_owner(&extension, |spi| {
        let rows = spi.read(&ROLES, &[])?;
        Ok(rows.iter().filter_map(|row| row.oid(1)).collect::<Vec<_>>())
    })?;
    let mut roles = Vec::new();
    for role in all {
        if sight.sees(role)? {
            roles.push(role);
        }
    }
    as_owner(&extension, |spi| {
        let day_ago = clock::now().saturating_sub(DAY);
        let mut found = by_queue(lately(spi, &roles, day_ago)?);
        if let Some((queue, at)) = before(spi, &roles, day_ago)? {
            found.push(FailedJobs {
                queue,
                count: 0,
                last: Some(at),
            });
        }
        Ok(found)
    })
}

/// The last ones of all these roles since that time, the latest first.
fn lately(spi: &Spi, roles: &[Oid], since: Micros) -> Result<Vec<Failure>> {
    let (mut found, mut since) = (Vec::new(), since);
    for role in roles {
        found.append(&mut read(spi, &AFTER, *role, since)?);
        found.sort_unstable_by_key(|(_, at)| std::cmp::Reverse(*at));
        found.truncate(MOST);
        // Of the next role only those count that are later than what there is.
        if let Some((_, at)) = found.last().filter(|_| found.len() == MOST) {
            since = *at;
        }
    }
    Ok(found)
}

fn before(spi: &Spi, roles: &[Oid], time: Micros) -> Result<Option<Failure>> {
    let mut last: Option<Failure> = None;
    for role in roles {
        let found = read(spi, &UP_TO, *role, time)?;
        last = last.into_iter().chain(found).max_by_key(|(_, at)| *at);
    }
    Ok(last)
}

fn read(spi: &Spi, statement: &Statement, role: Oid, time: Micros) -> Result<Vec<Failure>> {
    let time = datum::timestamptz(time);
    let rows = spi.read(statement, &[Some(role.datum()), Some(time)])?;
    let failure = |row: crate::pg::spi::Row<'_>| {
        Ok((row.text(1)?.unwrap_or_default(), row.i64(2).unwrap_or(0)))
    };
    rows.iter().map(failure).collect()
}

fn by_queue(failures: Vec<Failure>) -> Vec<FailedJobs> {
    let mut queues: Vec<FailedJobs> = Vec::new();
    for (queue, at) in failures {
        match queues.iter_mut().find(|known| known.queue == queue) {
            Some(known) => known.count = known.count.saturating_add(1),
            None => queues.push(FailedJobs {
                queue,
                count: 1,
                last: Some(at),
            }),
        }
    }
    queues
}
