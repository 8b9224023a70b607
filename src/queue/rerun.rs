//! Jobs that start when the one that has their unique key has ended.
//!
//! A key of a queue and owner has two places in the unique index: `rerun` false and true. The second is for a
//! job that waits, with the status "blocked", until the one in the first place has ended. Then it moves up and
//! is announced as a new job is. The door for ends sees to it, in the transaction that ends the other job
//! ([`following`]). Where that cannot be, or passes by a transaction that adds such a job, the keeper is asked
//! to look: `logic::reruns` says when. What else takes jobs away, such as DELETE, comes here by the triggers.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::logic::reruns::{BUCKETS, Side, Word};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::fmgr::TriggerRow;
use crate::pg::local::Local;
use crate::pg::spi::Statement;
use crate::pg::table::{Compare, Key, Lock};
use crate::pg::{bgworker, guc, xact};
use crate::shared::SHARED;

use super::claim::{Found, Job, Jobs, place};
use super::{as_owner, column, home, wake};

/// Columns of the unique index.
mod key {
    pub const QUEUE: i16 = 1;
    pub const OWNER: i16 = 2;
    pub const KEY: i16 = 3;
}

/// Lets a job go that waits, unless somebody has its row. It may still have to wait for jobs that it comes after.
static RELEASE: Statement = Statement::new(
    "UPDATE my_worker._jobs AS j SET rerun = false, status = CASE WHEN (SELECT d.job \
     FROM my_worker._dependencies AS d WHERE d.job = j.id LIMIT 1) IS NULL THEN 'pending' ELSE 'blocked' END, \
     run_at = greatest(run_at, pg_catalog.clock_timestamp()) \
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM my_worker._jobs WHERE id = $1 \
     AND rerun AND status = 'blocked' FOR UPDATE SKIP LOCKED))",
    &[types::INT8],
);

/// The unique key of jobs of a queue and owner.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UniqueKey {
    /// The queue's name.
    pub queue: Vec<u8>,
    /// Whose jobs they are.
    pub owner: Oid,
    /// The key.
    pub key: Vec<u8>,
}

impl UniqueKey {
    /// The one that a row has, whose columns `get` reads. It rests in a dead-letter queue.
    pub fn of<'a>(get: impl Fn(i32) -> Option<Datum<'a>>) -> Result<Option<UniqueKey>> {
        let key = get(column::UNIQUE_KEY).filter(|_| get(column::ORIGIN).is_none());
        let Some(key) = key else {
            return Ok(None);
        };
        Ok(Some(UniqueKey {
            queue: get(column::QUEUE).map_or(Ok(Vec::new()), datum::as_text)?,
            owner: get(column::OWNER).map_or(0, datum::as_oid),
            key: datum::as_text(key)?,
        }))
    }

    /// As `logic::reruns` knows it.
    fn bucket(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (bgworker::my_database(), self).hash(&mut hasher);
        1 << (hasher.finish() % BUCKETS as u64)
    }

    /// The open transaction does this to the key, and says so at its COMMIT; `since` is of before it looked.
    pub fn say_at_commit(&self, side: Side, since: u64) -> Result<()> {
        wake::reruns_at_commit(Word {
            side,
            buckets: self.bucket(),
            since,
        })
    }
}

/// The clock of what is said of keys.
pub fn clock() -> u64 {
    SHARED.read(|state| state.reruns.clock()).unwrap_or(0)
}

impl Jobs {
    /// Opens the table to find jobs by their unique keys.
    pub fn open_by_unique_key(extension: &Extension, lock: Lock) -> Result<Self> {
        Jobs::open_with(extension, extension.unique_index, lock)
    }

    /// The jobs that have the key, as the active snapshot sees them: one that waits for nobody's end, and
    /// one that waits for the end of that.
    pub fn of_key(&self, of: &UniqueKey) -> Result<[Option<Job>; 2]> {
        let (queue, text) = (datum::text_datum(&of.queue)?, datum::text_datum(&of.key)?);
        let keys = [
            Key::text(key::QUEUE, Compare::Equal, queue),
            Key::oid(key::OWNER, Compare::Equal, of.owner),
            Key::text(key::KEY, Compare::Equal, text),
        ];
        let (mut first, mut waiting) = (None, None);
        let scan = self.table.scan(&keys)?;
        while scan.next(&self.row)? {
            let job = Job::read(&self.row, place(&self.row))?;
            match job.value(column::RERUN).is_some_and(datum::as_bool) {
                true => waiting = Some(job),
                false => first = Some(job),
            }
        }
        scan.end()?;
        Ok([first, waiting])
    }
}

/// The jobs that have the key, as of this moment.
pub fn look(extension: &Extension, of: &UniqueKey) -> Result<[Option<Job>; 2]> {
    if extension.unique_index == 0 {
        return Ok([None, None]);
    }
    xact::with_latest_snapshot(|| {
        let jobs = Jobs::open_by_unique_key(extension, Lock::Read)?;
        let found = jobs.of_key(of)?;
        jobs.close()?;
        Ok(found)
    })
}

/// Keys of jobs that statements of the door for ends have taken away; `None`: the door is closed.
static LEFT: Local<Option<Vec<UniqueKey>>> = Local::new(None);

/// Writes an end, by `body`, and lets those go that waited for it.
pub fn following<T>(extension: &Extension, body: impl FnOnce() -> Result<T>) -> Result<T> {
    LEFT.set(Some(Vec::new()));
    let written = body();
    let left = LEFT.replace(None).unwrap_or_default();
    let written = written?;
    for key in &left {
        release_next(extension, key)?;
    }
    Ok(written)
}

/// A job has ended whose row was at hand and is gone: lets the one go that waited for it.
pub fn follow(extension: &Extension, job: &Job) -> Result<()> {
    match UniqueKey::of(|column| job.value(column))? {
        Some(key) => release_next(extension, &key),
        None => Ok(()),
    }
}

/// A job that had the key has ended in the open transaction: lets the one go that waits for that.
fn release_next(extension: &Extension, key: &UniqueKey) -> Result<()> {
    key.say_at_commit(Side::Ends, clock())?;
    let [_, waiting] = look(extension, key)?;
    let Some(waiting) = waiting else {
        return Ok(());
    };
    // A statement of a transaction with one snapshot may not see its row as it is, and would fail.
    let released = !xact::is_strict()
        && xact::subtransaction(|| release(extension, waiting.id)).is_ok_and(|done| done);
    match released {
        true => Ok(()),
        // Somebody changes it, and may be rolled back.
        false => wake::ask_reruns_at_commit(),
    }
}

/// Lets a job go that waits; false if somebody has its row. 55P03 if somebody inserts one with its key.
pub fn release(extension: &Extension, job: i64) -> Result<bool> {
    as_owner(extension, |spi| {
        guc::set_for_level(c"lock_timeout", c"10ms")?;
        let released = spi.run(&RELEASE, &[Some(job.datum())])?;
        Ok(released.count() > 0)
    })
}

/// The keeper shall let go what waits for nobody, if this transaction commits.
pub fn ask_at_commit() -> Result<()> {
    wake::ask_reruns_at_commit()
}

/// Told by the triggers: a row goes, or gives up its unique key.
pub fn row_goes(extension: &Extension, row: &TriggerRow) -> Result<()> {
    let old = |column| match row.is_update {
        true => row.old(column),
        false => row.get(column),
    };
    if old(column::UNIQUE_KEY).is_none() || old(column::RERUN).is_some_and(datum::as_bool) {
        return Ok(());
    }
    let Some(key) = UniqueKey::of(old)? else {
        return Ok(());
    };
    if row.is_update && UniqueKey::of(|column| row.get(column))?.as_ref() == Some(&key) {
        return Ok(());
    }
    let is_doors = LEFT.with(|left| {
        let Some(left) = left else { return false };
        left.push(key.clone());
        true
    });
    if is_doors {
        return Ok(());
    }
    key.say_at_commit(Side::Ends, clock())?;
    match look(extension, &key)? {
        [_, Some(_)] => wake::ask_reruns_at_commit(),
        _ => Ok(()),
    }
}

/// What a job waits for that was added while another one with its unique key ran.
pub fn waits_for(extension: &Extension, job: i64) -> Result<Option<String>> {
    let found = xact::with_latest_snapshot(|| {
        let jobs = Jobs::open_with(extension, extension.jobs_key, Lock::Read)?;
        let found = jobs.by_id(job)?;
        jobs.close()?;
        Ok(found)
    })?;
    let waits = |job: &Job| job.value(column::RERUN).is_some_and(datum::as_bool);
    let Some(found) = found.filter(waits) else {
        return Ok(None);
    };
    let Some(key) = UniqueKey::of(|column| found.value(column))? else {
        return Ok(None);
    };
    let [first, _] = look(extension, &key)?;
    Ok(Some(match first {
        Some(first) => format!("job {}, which has its unique key, has not ended", first.id),
        None => "the job that had its unique key has ended: the keeper will let it go".to_string(),
    }))
}

/// Whether a job's row is one that waits, of this home, and for nobody any more.
pub fn is_forgotten(extension: &Extension, job: &Job) -> Result<bool> {
    let waits = job.value(column::RERUN).is_some_and(datum::as_bool);
    let is_own = home::is_own_home(job.value(column::HOME).map(datum::as_i64));
    let key = UniqueKey::of(|column| job.value(column))?;
    let Some(key) = key.filter(|_| waits && is_own) else {
        return Ok(false);
    };
    let [first, _] = look(extension, &key)?;
    Ok(first.is_none())
}
