//! The settings of queues: `my_worker.queues` by name.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::logic::columns::{QUEUES, queue as column};
use crate::logic::keys::Rule;
use crate::logic::limits;
use crate::logic::rates::Rate;
use crate::logic::retry_rules::Codes;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Datum, Micros, Oid};
use crate::pg::error::{PgError, Result, UNDEFINED_OBJECT};
use crate::pg::local::Local;
use crate::pg::table::{self, Compare, Key, Lock, Table};
use crate::pg::xact;
use crate::shared::SHARED;

use super::handler::quoted;
use super::{rules, wake};

/// The first column of its key.
const KEY_NAME: i16 = 1;

/// One queue's settings.
#[derive(Clone)]
pub struct Queue {
    /// Number by which shared memory knows it.
    pub id: i32,
    /// Its name.
    pub name: Vec<u8>,
    /// What its jobs call if they name nothing themselves.
    pub handler: Option<Vec<u8>>,
    /// See [`super::handler::Named`].
    pub handler_owner: Option<Oid>,
    /// The most of its jobs that run at once.
    pub concurrency: Option<i32>,
    /// Executions before a job is failed, unless it says otherwise.
    pub max_attempts: i32,
    /// Delay after the first failed attempt.
    pub backoff: Micros,
    /// The longest delay.
    pub backoff_max: Micros,
    /// How long an attempt may take, unless the job says otherwise.
    pub timeout: Option<Micros>,
    /// How long finished jobs are kept; 0: completed ones leave no row.
    pub retention: Micros,
    /// How fast its jobs may start.
    pub rate: Option<Rate>,
    /// No job starts.
    pub paused: bool,
    /// So many of its jobs share a savepoint.
    pub jobs_per_savepoint: i32,
    /// What it asks for of jobs that have the same key.
    pub by_key: Option<Rule>,
    /// Where its jobs go that have failed for good.
    pub dead_letter: Option<Vec<u8>>,
    /// Only jobs that failed with these errors are tried again.
    pub retry_on: Option<Codes>,
    /// Jobs that failed with these are not.
    pub fail_on: Option<Codes>,
}

impl Queue {
    /// The rate of each of its keys.
    pub fn rate_of_keys(&self) -> Option<Rate> {
        self.rate.filter(|rate| rate.per_key)
    }

    /// Whether looks at it tell the keys of its jobs apart.
    pub fn tells_keys(&self) -> bool {
        self.by_key.is_some() || self.rate_of_keys().is_some()
    }

    /// The most of its jobs that run at once.
    pub fn limit(&self) -> usize {
        self.concurrency
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX)
    }

    /// Whether its jobs are held for other consumers; `job_says`: those that say what to do themselves.
    pub fn holds(&self, job_says: bool) -> bool {
        is_held(job_says, self.handler.is_some())
    }
}

/// Whether a job is held for other consumers: neither the job says what to do, nor its queue. The one
/// place that knows it.
pub fn is_held(job_says: bool, queue_says: bool) -> bool {
    !job_says && !queue_says
}

/// Reads a queue under the active snapshot; `None` if there is none of that name.
pub fn find(extension: &Extension, name: Datum<'_>) -> Result<Option<Queue>> {
    let table = Table::open(extension.queues, extension.queues_key, Lock::Read, &QUEUES)?;
    let row = table.row()?;
    let found = table.first(&[Key::text(KEY_NAME, Compare::Equal, name)], &row)?;
    let queue = if found { Some(read(&row, name)?) } else { None };
    row.end()?;
    table.close()?;
    Ok(queue)
}

/// The name of a queue, by its id.
pub fn name_of(extension: &Extension, id: i32) -> Result<Option<Vec<u8>>> {
    let table = Table::open(extension.queues, extension.queues_key, Lock::Read, &QUEUES)?;
    let row = table.row()?;
    let scan = table.scan(&[])?;
    let mut name = None;
    while name.is_none() && scan.next(&row)? {
        if row.get(column::ID).map(datum::as_i32) == Some(id) {
            name = row.get(column::NAME).map(datum::as_text).transpose()?;
        }
    }
    scan.end()?;
    row.end()?;
    table.close()?;
    Ok(name)
}

/// What a process has heard of changes of queues.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Heard {
    table: Oid,
    /// Of those that told the pool at their COMMIT, at once.
    told: u64,
    /// Of all, a little later, so also of those by COMMIT PREPARED.
    announced: u64,
}

fn heard(extension: &Extension) -> Heard {
    let told = SHARED.peek(|unlocked| unlocked.queue_changes.load(Ordering::Acquire));
    Heard {
        table: extension.queues,
        told: told.unwrap_or_default(),
        announced: catalog::changes(),
    }
}

/// A queue's settings that outlive the transaction in which they were read.
#[derive(Clone)]
pub struct Kept {
    /// As they were read; many have them at hand.
    pub queue: Rc<Queue>,
    heard: Heard,
}

impl Kept {
    /// Reads a queue as it is at this moment; `None` if there is none of that name.
    pub fn read(extension: &Extension, name: &[u8]) -> Result<Option<Kept>> {
        // What is not seen because it is committed later is also told later.
        let heard = heard(extension);
        let name = datum::text_datum(name)?;
        let queue = xact::with_latest_snapshot(|| find(extension, name))?;
        Ok(queue.map(|queue| Kept {
            queue: Rc::new(queue),
            heard,
        }))
    }

    /// Whether no word of a change has come since.
    pub fn is_current(&self, extension: &Extension) -> bool {
        self.heard == heard(extension)
    }

    /// Whether its jobs rest, since no worker can run them: the queue is paused, or neither it nor the
    /// job says what to call. If so, how many changes had been told when that was read.
    pub fn resting(&self, job_says: bool) -> Option<u64> {
        let rests = self.queue.paused || self.queue.holds(job_says);
        rests.then_some(self.heard.told)
    }

    /// How many changes had been told when it was read.
    pub fn told(&self) -> u64 {
        self.heard.told
    }

    /// Whether the queue is there at this moment and not paused.
    pub fn is_open(&self, extension: &Extension) -> Result<bool> {
        if self.is_current(extension) {
            return Ok(!self.queue.paused);
        }
        let now = Kept::read(extension, &self.queue.name)?;
        Ok(now.is_some_and(|now| now.queue.id == self.queue.id && !now.queue.paused))
    }
}

/// The queue that this session held, or looked at, last.
static LAST_HELD: Local<Option<Kept>> = Local::new(None);

/// Answers about the queue that this session held last, if it has that name and no word of a change
/// has come since.
pub fn last_held<T>(
    extension: &Extension,
    name: &[u8],
    answer: impl FnOnce(&Kept) -> T,
) -> Option<T> {
    LAST_HELD.with(|last| {
        let of_that_name = last.as_ref().filter(|kept| kept.queue.name == name);
        let current = of_that_name.filter(|kept| kept.is_current(extension));
        current.map(answer)
    })
}

/// The settings of a queue as of the last word of a change; of the queue that this session dealt with last
/// nothing is read. An error if there is none.
pub fn kept_as_told(extension: &Extension, name: &[u8]) -> Result<Kept> {
    if let Some(kept) = last_held(extension, name, Kept::clone) {
        return Ok(kept);
    }
    let kept = Kept::read(extension, name)?.ok_or_else(|| unknown(name))?;
    LAST_HELD.set(Some(kept.clone()));
    Ok(kept)
}

/// Its settings alone.
pub fn kept(extension: &Extension, name: &[u8]) -> Result<Rc<Queue>> {
    kept_as_told(extension, name).map(|kept| kept.queue)
}

/// Has what is written next for this queue know it, if it is there.
pub fn look_at(extension: &Extension, name: &[u8]) -> Result<()> {
    if last_held(extension, name, |_| ()).is_none()
        && let Some(kept) = Kept::read(extension, name)?
    {
        LAST_HELD.set(Some(kept));
    }
    Ok(())
}

/// Finds a queue as it is at this moment, and keeps it from being dropped until the transaction
/// ends; with `alone` waits for those who keep it so, and keeps new ones out. An error if there
/// is none.
pub fn hold(extension: &Extension, name: &[u8], alone: bool) -> Result<()> {
    // Most often it is the queue of the last time. With the lock comes word of every change.
    let last_id = || last_held(extension, name, |kept| kept.queue.id);
    let mut held = last_id();
    if let Some(id) = held {
        table::hold_object(extension.queues, id, alone)?;
        if last_id() == Some(id) {
            return Ok(());
        }
    }
    // It may be dropped, and another one of its name created, while we wait for the lock.
    loop {
        match Kept::read(extension, name)? {
            None => return Err(unknown(name)),
            Some(kept) if held == Some(kept.queue.id) => {
                LAST_HELD.set(Some(kept));
                return Ok(());
            }
            Some(kept) => {
                table::hold_object(extension.queues, kept.queue.id, alone)?;
                held = Some(kept.queue.id);
            }
        }
    }
}

/// Like [`hold`] with others, without waiting; false if there is no such queue, or somebody drops it.
pub fn hold_if_free(extension: &Extension, name: &[u8]) -> Result<bool> {
    let last_id = || last_held(extension, name, |kept| kept.queue.id);
    let id = match last_id() {
        Some(id) => Some(id),
        None => Kept::read(extension, name)?.map(|kept| kept.queue.id),
    };
    let Some(id) = id else { return Ok(false) };
    if !table::try_hold_object(extension.queues, id)? {
        return Ok(false);
    }
    // With the lock comes word of every change.
    if last_id() == Some(id) {
        return Ok(true);
    }
    match Kept::read(extension, name)? {
        Some(kept) if kept.queue.id == id => {
            LAST_HELD.set(Some(kept));
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The rows of the table have changed: every process reads them anew.
pub fn changed() -> Result<()> {
    wake::settings_at_commit()?;
    match catalog::extension()? {
        Some(extension) => catalog::announce_change(extension.queues),
        None => Ok(()),
    }
}

fn read(row: &crate::pg::table::Row, name: Datum<'_>) -> Result<Queue> {
    let interval = |column| row.get(column).map(datum::interval_micros).transpose();
    Ok(Queue {
        id: row.get(column::ID).map_or(0, datum::as_i32),
        name: datum::as_text(name)?,
        handler: row.get(column::HANDLER).map(datum::as_text).transpose()?,
        handler_owner: row.get(column::HANDLER_OWNER).map(datum::as_oid),
        concurrency: row.get(column::CONCURRENCY).map(datum::as_i32),
        max_attempts: row.get(column::MAX_ATTEMPTS).map_or(1, datum::as_i32),
        backoff: interval(column::BACKOFF)?.unwrap_or(0),
        backoff_max: interval(column::BACKOFF_MAX)?.unwrap_or(0),
        timeout: interval(column::TIMEOUT)?,
        retention: interval(column::RETENTION)?.unwrap_or(0),
        rate: rate(row)?,
        paused: row.get(column::PAUSED).is_some_and(datum::as_bool),
        jobs_per_savepoint: row.get(column::JOBS_PER_SAVEPOINT).map_or(1, datum::as_i32),
        by_key: Rule::of(
            row.get(column::PER_KEY).map(datum::as_i32),
            row.get(column::FIFO).is_some_and(datum::as_bool),
        ),
        dead_letter: row
            .get(column::DEAD_LETTER)
            .map(datum::as_text)
            .transpose()?,
        retry_on: row.get(column::RETRY_ON).map(rules::read).transpose()?,
        fail_on: row.get(column::FAIL_ON).map(rules::read).transpose()?,
    })
}

fn rate(row: &crate::pg::table::Row) -> Result<Option<Rate>> {
    let (rate, period) = (row.get(column::RATE), row.get(column::RATE_PERIOD));
    let (Some(rate), Some(period)) = (rate, period) else {
        return Ok(None);
    };
    let burst = row.get(column::BURST).map_or(1, datum::as_i32);
    let per_key = row.get(column::RATE_PER_KEY).is_some_and(datum::as_bool);
    let period = datum::interval_micros(period)?;
    Ok(Some(Rate::new(datum::as_i32(rate), period, burst, per_key)))
}

/// The error for a queue that is not there.
pub fn unknown(name: &[u8]) -> PgError {
    PgError::new(UNDEFINED_OBJECT, quoted("queue ", name, " does not exist"))
        .hint("Create it with my_worker.create_queue().")
}

/// Refuses a name that no queue can have.
pub fn check_name(name: &[u8]) -> Result<()> {
    super::allowed(limits::name("queue name", name))
}
