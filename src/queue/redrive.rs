//! `redrive()`: sends jobs of a dead-letter queue back to where they came from.
//!
//! In few statements, whatever the number of jobs. What somebody has at that moment is left: a worker by its
//! row's lock, a consumer by its lease.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, ToDatum, types};
use crate::pg::error::PgError;
use crate::pg::error::{INVALID_PARAMETER_VALUE, OBJECT_IN_USE, Result, UNIQUE_VIOLATION};
use crate::pg::log::{self, Level};
use crate::pg::spi::Statement;
use crate::pg::{bgworker, identity, xact};
use crate::shared::consumers;

use super::handler::quoted;
use super::{admit, as_owner, extension, queues};

/// So often it looks again that came upon a unique key which somebody has just taken.
const LOOKS: usize = 10;

/// The jobs that wait in queue `$1`, came from another one, and belong to a role whose rights role `$2` has;
/// `$3`: only that job.
macro_rules! letters {
    () => {
        "FROM my_worker._jobs AS j WHERE j.queue = $1 AND j.origin IS NOT NULL AND j.status = 'pending' \
         AND pg_catalog.pg_has_role($2, j.owner::pg_catalog.oid, 'USAGE') AND ($3 IS NULL OR j.id = $3)"
    };
}

/// Whether a job is live where that one comes from and has its unique key.
macro_rules! key_is_taken {
    () => {
        "EXISTS (SELECT FROM my_worker._jobs AS o WHERE o.queue = j.origin AND o.owner = j.owner \
         AND o.unique_key = j.unique_key AND o.rerun = j.rerun AND o.origin IS NULL)"
    };
}

static ORIGINS: Statement = Statement::new(
    concat!(
        "SELECT j.origin, pg_catalog.count(*) ",
        letters!(),
        " GROUP BY j.origin ORDER BY j.origin"
    ),
    &[types::TEXT, types::OID, types::INT8],
);

static LOCK: Statement = Statement::new(
    concat!(
        "SELECT j.id ",
        letters!(),
        " AND j.origin = ANY ($4) AND j.id <> ALL ($5) AND (j.unique_key IS NULL OR NOT ",
        key_is_taken!(),
        ") ORDER BY j.id LIMIT $6 FOR UPDATE SKIP LOCKED"
    ),
    &[
        types::TEXT,
        types::OID,
        types::INT8,
        types::TEXT_ARRAY,
        types::INT8_ARRAY,
        types::INT8,
    ],
);

/// Of several that share a unique key the oldest goes.
static SEND_BACK: Statement = Statement::new(
    "UPDATE my_worker._jobs SET queue = origin, origin = NULL, attempts = 0, run_at = pg_catalog.now(), \
     started_at = NULL WHERE id = ANY (ARRAY(SELECT pg_catalog.min(j.id) FROM my_worker._jobs AS j \
     WHERE j.id = ANY ($1) GROUP BY j.origin, j.owner, coalesce(j.unique_key, ''), \
     CASE WHEN j.unique_key IS NULL THEN j.id END))",
    &[types::INT8_ARRAY],
);

static TAKEN: Statement = Statement::new(
    concat!(
        "SELECT pg_catalog.count(*), pg_catalog.min(j.id) ",
        letters!(),
        " AND j.origin = ANY ($4) AND j.unique_key IS NOT NULL AND ",
        key_is_taken!()
    ),
    &[types::TEXT, types::OID, types::INT8, types::TEXT_ARRAY],
);

static FIND: Statement = Statement::new(
    "SELECT queue, owner FROM my_worker._jobs WHERE id = $1 AND origin IS NOT NULL AND status = 'pending'",
    &[types::INT8],
);

/// `redrive()`: how many jobs of the queue went back, the oldest first, at most `most`.
pub fn redrive(queue: &[u8], most: Option<i32>) -> Result<i64> {
    if most.is_some_and(|most| most < 1) {
        let message = "n must be greater than zero";
        return Err(PgError::new(INVALID_PARAMETER_VALUE, message));
    }
    let extension = extension()?;
    if queues::find(&extension, datum::text_datum(queue)?)?.is_none() {
        return Err(queues::unknown(queue));
    }
    send_back(&extension, queue, None, most.map(i64::from))
}

/// For `retry()`: the same of one job; `None` if it stands in no dead-letter queue, or is another role's.
pub(super) fn one(extension: &Extension, job: i64) -> Result<Option<bool>> {
    let found = as_owner(extension, |spi| {
        let rows = spi.run(&FIND, &[Some(job.datum())])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some((
            row.text(1)?.unwrap_or_default(),
            row.oid(2).unwrap_or(0),
        )))
    })?;
    match found {
        Some((queue, owner)) if identity::has_rights_of(identity::current_role(), owner)? => {
            let count = send_back(extension, &queue, Some(job), None)?;
            Ok(Some(count > 0))
        }
        _ => Ok(None),
    }
}

fn send_back(
    extension: &Extension,
    queue: &[u8],
    only: Option<i64>,
    most: Option<i64>,
) -> Result<i64> {
    let letters = [
        Some(datum::text_datum(queue)?),
        Some(identity::current_role().datum()),
        only.map(ToDatum::datum),
    ];
    let origins = hold_origins(extension, queue, &letters)?;
    if origins.is_empty() {
        return Ok(0);
    }
    let origins = origins.iter().map(|name| datum::text_datum(name));
    let origins = origins.collect::<Result<Vec<_>>>()?;
    let origins = datum::array_datum(&origins, types::TEXT)?;
    let mut looks = 1;
    let count = loop {
        match xact::subtransaction(|| move_some(extension, &letters, origins, most)) {
            // Somebody has enqueued a job with the key of one of them.
            Err(error) if error.sqlstate == UNIQUE_VIOLATION && looks < LOOKS => looks += 1,
            moved => break moved?,
        }
    };
    warn_of_keys(extension, queue, &letters, origins)?;
    Ok(count)
}

/// The queues that the jobs came from and that are there, held until the transaction ends.
fn hold_origins(
    extension: &Extension,
    queue: &[u8],
    letters: &[Option<Datum<'_>>; 3],
) -> Result<Vec<Vec<u8>>> {
    let all = as_owner(extension, |spi| {
        let rows = spi.run(&ORIGINS, letters)?;
        let origins = rows
            .iter()
            .map(|row| Ok((row.text(1)?.unwrap_or_default(), row.i64(2))));
        origins.collect::<Result<Vec<_>>>()
    })?;
    let mut there = Vec::with_capacity(all.len());
    for (origin, count) in all {
        if admit::holds_queue(&origin)? {
            there.push(origin);
            continue;
        }
        let why = quoted("Queue ", &origin, " does not exist.");
        warn_stays(count.unwrap_or(0), queue, &why)?;
    }
    Ok(there)
}

fn move_some(
    extension: &Extension,
    letters: &[Option<Datum<'_>>; 3],
    origins: Datum<'_>,
    most: Option<i64>,
) -> Result<i64> {
    let [queue, caller, only] = *letters;
    as_owner(extension, |spi| {
        let leased: Vec<_> = leased().iter().map(|job| job.datum()).collect();
        let arguments = [
            queue,
            caller,
            only,
            Some(origins),
            Some(datum::array_datum(&leased, types::INT8)?),
            most.map(ToDatum::datum),
        ];
        let rows = spi.run(&LOCK, &arguments)?;
        // A consumer that has published a lease before the row was locked is seen now; one that does so later
        // finds the row locked, and leaves it.
        let now = self::leased();
        let ids = rows.iter().filter_map(|row| row.i64(1));
        let free = ids.filter(|id| now.binary_search(id).is_err());
        let free: Vec<_> = free.map(|id| id.datum()).collect();
        if free.is_empty() {
            return Ok(0);
        }
        let free = datum::array_datum(&free, types::INT8)?;
        Ok(spi.run(&SEND_BACK, &[Some(free)])?.count() as i64)
    })
}

/// The jobs of this database that sessions of consumers have, sorted.
fn leased() -> Vec<i64> {
    let room = consumers::out();
    let mut jobs = Vec::with_capacity(room);
    if room > 0 {
        consumers::write(|consumers| {
            let here = consumers.of_database(bgworker::my_database());
            jobs.extend(here.map(|lease| lease.key.job).take(room));
        });
        jobs.sort_unstable();
    }
    jobs
}

fn warn_of_keys(
    extension: &Extension,
    queue: &[u8],
    letters: &[Option<Datum<'_>>; 3],
    origins: Datum<'_>,
) -> Result<()> {
    let [name, caller, only] = *letters;
    let (count, first) = as_owner(extension, |spi| {
        let rows = spi.run(&TAKEN, &[name, caller, only, Some(origins)])?;
        let first = rows.first();
        Ok(first.map_or((0, None), |row| (row.i64(1).unwrap_or(0), row.i64(2))))
    })?;
    let Some(first) = first else { return Ok(()) };
    let why = match count {
        1 => format!("Another job has the unique key of job {first}."),
        _ => format!("Other jobs have their unique keys; the first is job {first}."),
    };
    warn_stays(count, queue, why.as_bytes())
}

fn warn_stays(count: i64, queue: &[u8], why: &[u8]) -> Result<()> {
    let jobs = match count {
        1 => "1 job stays".to_string(),
        _ => format!("{count} jobs stay"),
    };
    let message = quoted(&format!("{jobs} in queue "), queue, "");
    log::report_with(Level::Warning, OBJECT_IN_USE, &message, Some(why), None)
}
