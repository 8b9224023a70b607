//! Releasing jobs that come after others: what the keeper writes of `_dependencies`.
//!
//! A row of the table is deleted once the job that it names has ended. A blocked job without a row left is
//! released; it is cancelled if one of those jobs ended badly. Both happen in the transaction that deletes the
//! rows, so after a crash each row that is left is looked at again, and nothing else need be remembered.

use std::collections::{BTreeMap, BTreeSet};

use crate::pg::catalog::Extension;
use crate::pg::datum::{ToDatum, types};
use crate::pg::error::{DEPENDENCY_FAILED, PgError, Result};
use crate::pg::fault::fault;
use crate::pg::spi::{Spi, Statement};

use super::after::array;
use super::end::{self, How};
use super::fate::{Ended, Fate};
use super::single::{self, Taken};
use super::{as_owner, home};

static LOCK: Statement = Statement::new(
    "SELECT j.id, j.status = 'blocked', j.home, j.after_failed IS DISTINCT FROM 'run' \
     FROM my_worker._jobs AS j WHERE j.id = ANY ($1) ORDER BY j.id FOR UPDATE SKIP LOCKED",
    &[types::INT8_ARRAY],
);

static ARE_THERE: Statement = Statement::new(
    "SELECT j.id FROM my_worker._jobs AS j WHERE j.id = ANY ($1)",
    &[types::INT8_ARRAY],
);

static FORGET: Statement = Statement::new(
    "DELETE FROM my_worker._dependencies AS d WHERE d.ctid = ANY (ARRAY(SELECT f.ctid \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS e (job, after) CROSS JOIN LATERAL \
     (SELECT g.ctid FROM my_worker._dependencies AS g WHERE g.job = e.job AND g.after = e.after LIMIT 1) AS f))",
    &[types::INT8_ARRAY, types::INT8_ARRAY],
);

/// Rows of jobs that nobody of us has locked, but for those that somebody else has.
static FORGET_FREE: Statement = Statement::new(
    "DELETE FROM my_worker._dependencies AS d WHERE d.ctid = ANY (ARRAY(SELECT f.ctid \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS e (job, after) CROSS JOIN LATERAL \
     (SELECT g.ctid FROM my_worker._dependencies AS g WHERE g.job = e.job AND g.after = e.after LIMIT 1 \
     FOR UPDATE SKIP LOCKED) AS f))",
    &[types::INT8_ARRAY, types::INT8_ARRAY],
);

static FORGET_ALL: Statement = Statement::new(
    "DELETE FROM my_worker._dependencies AS d WHERE d.job = $1",
    &[types::INT8],
);

/// The first that each job waits for, from an id on.
static FIRST_LEFT: Statement = Statement::new(
    "SELECT e.job, (SELECT d.after FROM my_worker._dependencies AS d WHERE d.job = e.job AND d.after >= e.least \
     ORDER BY d.after LIMIT 1) \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS e (job, least)",
    &[types::INT8_ARRAY, types::INT8_ARRAY],
);

/// It is due from now on, like what was enqueued at this moment.
static RELEASE: Statement = Statement::new(
    "UPDATE my_worker._jobs AS j SET status = 'pending', \
     run_at = greatest(j.run_at, pg_catalog.clock_timestamp()) WHERE j.id = ANY ($1) AND j.status = 'blocked' \
     AND NOT j.rerun AND (SELECT d.job FROM my_worker._dependencies AS d WHERE d.job = j.id LIMIT 1) IS NULL \
     RETURNING j.id",
    &[types::INT8_ARRAY],
);

/// The first job that each job was found to wait for: where the next look at it begins. It may forget.
pub type Known = BTreeMap<i64, i64>;

/// What became of some rows.
pub struct Applied {
    /// Jobs that somebody has locked, which are left.
    pub locked: Vec<i64>,
    /// Jobs have ended.
    pub ends_any: bool,
}

/// Deletes these rows, and releases or cancels the jobs that need not wait any more. In a transaction; if that is
/// rolled back, `known` is to be forgotten.
pub fn apply(extension: &Extension, ended: &[Ended], known: &mut Known) -> Result<Applied> {
    let jobs: BTreeSet<i64> = ended.iter().map(|one| one.job).collect();
    let jobs: Vec<i64> = jobs.into_iter().collect();
    let mut cancel: BTreeMap<i64, &Ended> = BTreeMap::new();
    let locked = as_owner(extension, |spi| {
        let Held {
            waiting,
            locked,
            foreign,
        } = hold(spi, &jobs)?;
        let stays = |job| locked.contains(&job) || foreign.contains(&job);
        let mut gone = Vec::new();
        for one in ended.iter().filter(|one| !stays(one.job)) {
            match (&one.fate, waiting.get(&one.job)) {
                (Fate::Badly(_), Some(true)) => {
                    cancel.entry(one.job).or_insert(one);
                }
                _ => gone.push((one.job, one.after)),
            }
        }
        gone.retain(|(job, _)| !cancel.contains_key(job));
        let (ours, others): (Vec<_>, Vec<_>) = gone
            .into_iter()
            .partition(|(job, _)| waiting.contains_key(job));
        forget(spi, &FORGET, &ours)?;
        forget(spi, &FORGET_FREE, &others)?;
        let released: BTreeSet<i64> = ours.iter().map(|(job, _)| *job).collect();
        release(spi, &released.into_iter().collect::<Vec<_>>(), known)?;
        Ok(locked)
    })?;
    let ends_any = !cancel.is_empty();
    for (job, one) in cancel {
        cancel_one(extension, job, one)?;
        known.remove(&job);
    }
    fault!(Unblocked);
    Ok(Applied { locked, ends_any })
}

/// The jobs of some rows.
struct Held {
    /// Those that wait, locked: whether a failure cancels them.
    waiting: BTreeMap<i64, bool>,
    /// Those that somebody else has locked.
    locked: Vec<i64>,
    /// Those of other homes.
    foreign: Vec<i64>,
}

fn hold(spi: &Spi, jobs: &[i64]) -> Result<Held> {
    let count = jobs.len();
    let jobs = [Some(array(jobs)?)];
    let mut held = Held {
        waiting: BTreeMap::new(),
        locked: Vec::new(),
        foreign: Vec::new(),
    };
    let mut others = BTreeSet::new();
    for row in spi.run(&LOCK, &jobs)?.iter() {
        let job = row.i64(1).unwrap_or(0);
        if !home::is_own_home(row.i64(3)) {
            held.foreign.push(job);
        } else if row.bool(2) {
            held.waiting.insert(job, row.bool(4));
        } else {
            others.insert(job);
        }
    }
    let seen = held.waiting.len() + others.len() + held.foreign.len();
    if seen == count {
        return Ok(held);
    }
    for row in spi.run(&ARE_THERE, &jobs)?.iter() {
        let job = row.i64(1).unwrap_or(0);
        let is_known = held.waiting.contains_key(&job) || others.contains(&job);
        if !is_known && !held.foreign.contains(&job) {
            held.locked.push(job);
        }
    }
    Ok(held)
}

fn forget(spi: &Spi, statement: &Statement, gone: &[(i64, i64)]) -> Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let jobs: Vec<i64> = gone.iter().map(|(job, _)| *job).collect();
    let after: Vec<i64> = gone.iter().map(|(_, after)| *after).collect();
    let arguments = [Some(array(&jobs)?), Some(array(&after)?)];
    spi.run(statement, &arguments).map(|_| ())
}

/// Releases those of the jobs that wait for nothing any more. What a look finds that a job still waits for is where
/// the next one begins, so that it does not step over all rows that were deleted.
fn release(spi: &Spi, jobs: &[i64], known: &mut Known) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let (waited, mut free): (Vec<i64>, Vec<i64>) =
        jobs.iter().partition(|job| known.contains_key(job));
    free.extend(look_at(spi, &waited, known)?);
    if free.is_empty() {
        return Ok(());
    }
    let mut left: BTreeSet<i64> = free.iter().copied().collect();
    for row in spi.run(&RELEASE, &[Some(array(&free)?)])?.iter() {
        let job = row.i64(1).unwrap_or(0);
        known.remove(&job);
        left.remove(&job);
    }
    let left: Vec<i64> = left.into_iter().collect();
    look_at(spi, &left, known).map(|_| ())
}

/// Finds out what each job waits for; answers those for which nothing was found.
fn look_at(spi: &Spi, jobs: &[i64], known: &mut Known) -> Result<Vec<i64>> {
    let mut free = Vec::new();
    if jobs.is_empty() {
        return Ok(free);
    }
    let least = jobs.iter().map(|job| known.get(job).copied());
    let least: Vec<i64> = least.map(|known| known.unwrap_or(i64::MIN)).collect();
    let arguments = [Some(array(jobs)?), Some(array(&least)?)];
    for row in spi.run(&FIRST_LEFT, &arguments)?.iter() {
        let job = row.i64(1).unwrap_or(0);
        match row.i64(2) {
            Some(first) => {
                known.insert(job, first);
            }
            None => {
                known.remove(&job);
                free.push(job);
            }
        }
    }
    Ok(free)
}

/// Cancels a job that this transaction has locked.
fn cancel_one(extension: &Extension, job: i64, one: &Ended) -> Result<()> {
    let (Fate::Badly(message), Taken::Live(live)) = (&one.fate, single::take(extension, job)?)
    else {
        // Its queue is not there, perhaps not yet.
        return Ok(());
    };
    let after = one.after;
    let error = PgError::new(DEPENDENCY_FAILED, message.clone())
        .detail(format!("It comes after job {after}."))
        .hint("Use after_failed := 'run' for a job that runs all the same.");
    let written = end::write(extension, &live.end_of(false), How::CancelledFor(&error))?;
    written.tell_at_commit()?;
    as_owner(extension, |spi| {
        spi.run(&FORGET_ALL, &[Some(job.datum())]).map(|_| ())
    })
}
