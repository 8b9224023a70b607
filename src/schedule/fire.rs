//! What the keeper does with schedules that are due.
//!
//! Due schedules are taken in batches, the owners in turn; each is decided, its jobs inserted and its row advanced in
//! one subtransaction, so that a row that cannot be fired costs itself alone. It disables itself
//! and says why, unless the error is one that passes (no space, no memory, a deadlock): then it is
//! tried again after a while. Rows that somebody else has locked are left for a second, also those
//! that are to be disabled.
//! Runs that have to wait for an earlier one are `hold`'s.

use std::collections::{BTreeMap, VecDeque};

use super::plan::plan;
use super::row::{Found, array, find, first_column};
use super::{HELD, together};
use crate::logic::schedule::{Overlap, Plan};
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Micros, ToDatum, types};
use crate::pg::error::{PgError, Result};
use crate::pg::fault::fault;
use crate::pg::log::{self, Level};
use crate::pg::spi::{Spi, Statement};
use crate::pg::{clock, xact};
use crate::queue::admit;
use crate::queue::as_owner;
use crate::queue::column;
use crate::queue::enqueue;
use crate::queue::handler::quoted;

/// Schedules that one transaction fires; each may cost it a subtransaction, and 64 are cheap.
pub const BATCH: usize = 50;
/// Fewer are fired one by one.
const SOME: usize = 4;
/// How long a row that somebody has locked is left alone.
const LOCKED_FOR: Micros = 1_000_000;
/// How long a row is left alone after an error that passes; less where the tests have errors on purpose.
const FAILED_FOR: Micros = if cfg!(feature = "faults") {
    1_000_000
} else {
    10_000_000
};
/// How often the log hears of that.
const LOG_EVERY: Micros = 60_000_000;
/// A transaction fires no more after this time.
const STEP: Micros = 15_000;
/// How many due schedules are read at once, and for how long at least that stands.
const READ: i64 = 500;
const FRESH_FOR: Micros = 30_000;
/// Unfinished jobs that a row remembers.
const REMEMBERED: usize = 1000;

/// The owners take turns, so that one with many does not keep another waiting.
static DUE: Statement = Statement::new(
    "SELECT id FROM (SELECT id, next_run_at, pg_catalog.row_number() \
     OVER (PARTITION BY owner ORDER BY next_run_at, id) AS turn \
     FROM my_worker._schedules WHERE active \
     AND (next_run_at <= $1 OR next_run_at IS NULL) \
     AND id <> ALL ($2)) AS due \
     ORDER BY turn, next_run_at, id LIMIT $3",
    &[types::TIMESTAMPTZ, types::INT8_ARRAY, types::INT8],
);

static NEXT: Statement = Statement::new(
    "SELECT next_run_at FROM my_worker._schedules WHERE active \
     AND next_run_at IS NOT NULL AND id <> ALL ($1) \
     ORDER BY next_run_at LIMIT 1",
    &[types::INT8_ARRAY],
);

static ADVANCE: Statement = Statement::new(
    "UPDATE my_worker._schedules SET next_run_at = $2, last_due = coalesce($3, last_due), \
     last_job_id = coalesce($4, last_job_id), \
     last_enqueued_at = CASE WHEN $4 IS NULL THEN last_enqueued_at ELSE $5 END, \
     last_skipped_at = CASE WHEN $6 THEN $5 ELSE last_skipped_at END, \
     live_jobs = $7, held_jobs = $8, runs = runs + $9 WHERE id = $1",
    &[
        types::INT8,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
        types::INT8,
        types::TIMESTAMPTZ,
        types::BOOL,
        types::INT8_ARRAY,
        types::INT8_ARRAY,
        types::INT8,
    ],
);

static LOCK: Statement = Statement::new(
    "SELECT FROM my_worker._schedules WHERE id = $1 FOR UPDATE SKIP LOCKED",
    &[types::INT8],
);

static DISABLE: Statement = Statement::new(
    "UPDATE my_worker._schedules SET active = false, next_run_at = NULL, disabled_reason = $2 \
     WHERE id = $1 AND active RETURNING name",
    &[types::INT8, types::TEXT],
);

/// What firing one row came to.
pub enum Fired {
    /// Nothing is left to do now.
    Done,
    /// Somebody has it locked.
    Locked,
}

/// Rows that are left alone for a while: somebody has them, or an error passes.
#[derive(Default)]
pub struct Left {
    /// Until when.
    until: BTreeMap<i64, Micros>,
    /// When the log heard of errors last, and how many it has not heard of.
    logged: Micros,
    unsaid: u64,
}

impl Left {
    fn add(&mut self, id: i64, wait: Micros) {
        self.until.insert(id, super::now().saturating_add(wait));
    }

    /// Those that are still left alone, in order; also if the clock was set back.
    pub fn ids(&mut self) -> Vec<i64> {
        let now = super::now();
        let waits = |until: Micros| (1..=FAILED_FOR).contains(&until.saturating_sub(now));
        self.until.retain(|_, until| waits(*until));
        self.until.keys().copied().collect()
    }

    fn next(&self) -> Option<Micros> {
        self.until.values().min().copied()
    }

    /// What hits one is likely to hit all: a full disk does not want more lines of log.
    fn log(&mut self, id: i64, error: &PgError) -> Result<()> {
        let now = super::now();
        if self.logged != 0 && (0..LOG_EVERY).contains(&now.saturating_sub(self.logged)) {
            self.unsaid += 1;
            return Ok(());
        }
        self.logged = now;
        let unsaid = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            more => format!(", and {more} times more before"),
        };
        let why = error.summary();
        let message = format!("schedule {id} is put off: {why}{unsaid}");
        log::report(Level::Log, &message)
    }
}

/// The firer of due schedules: enqueues their jobs, some in each step, the owners in turn.
#[derive(Default)]
pub struct Firer {
    wanted: bool,
    /// What is due, in the order in which it is fired, as of when that was read.
    due: VecDeque<i64>,
    read_at: Micros,
    /// How long that took.
    read_in: Micros,
    /// When the next schedule is due, in real time; 0: none is, or it is not known yet.
    pub next: Micros,
}

impl Firer {
    /// Schedules may be due.
    pub fn want(&mut self) {
        self.wanted = true;
        self.next = 0;
    }

    /// Whether there is something to do.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Fires some schedules in one transaction.
    pub fn step(&mut self, left: &mut Left) -> Result<()> {
        let mut next = None;
        in_extension(|extension| {
            if !self.is_fresh() {
                self.read(extension, left)?;
            }
            if self.due.is_empty() {
                next = Some(next_due(extension, left)?);
                return Ok(());
            }
            let began = clock::now();
            let mut batch: VecDeque<i64> = self.due.drain(..BATCH.min(self.due.len())).collect();
            if batch.len() >= SOME {
                let fired = together::fire(extension, batch.make_contiguous());
                batch.retain(|id| !fired.contains(id));
            }
            while let Some(id) = batch.pop_front() {
                fenced(extension, id, left, |spi| fire(spi, id))?;
                if !(0..STEP).contains(&clock::now().saturating_sub(began)) {
                    break;
                }
            }
            // The next step goes on with the rest.
            batch.append(&mut self.due);
            self.due = batch;
            Ok(())
        })
        .inspect_err(|_| self.due.clear())?;
        if let Some(next) = next {
            self.wanted = false;
            self.next = next.map_or(0, super::real);
        }
        Ok(())
    }

    /// What was read a moment ago stands: another role's schedule may be due since. Reading it anew
    /// takes a small part of the time.
    fn is_fresh(&self) -> bool {
        let age = clock::now().saturating_sub(self.read_at);
        !self.due.is_empty() && (0..FRESH_FOR.max(4 * self.read_in)).contains(&age)
    }

    fn read(&mut self, extension: &Extension, left: &mut Left) -> Result<()> {
        self.read_at = clock::now();
        let ids = left.ids();
        let due = as_owner(extension, |spi| {
            let arguments = [
                Some(super::now().datum()),
                Some(array(&ids)?),
                Some(READ.datum()),
            ];
            first_column(&spi.run(&DUE, &arguments)?)
        })?;
        self.due = due.into();
        self.read_in = clock::now().saturating_sub(self.read_at).max(0);
        Ok(())
    }
}

/// A transaction of ours, if the database still has the extension.
pub fn in_extension<T>(body: impl FnOnce(&Extension) -> Result<T>) -> Result<Option<T>> {
    xact::transaction(|| match catalog::extension()? {
        Some(extension) => body(&extension).map(Some),
        None => Ok(None),
    })
}

/// Runs `body` for one row: an error disables the row or puts it off, and reaches no other row.
pub fn fenced(
    extension: &Extension,
    id: i64,
    left: &mut Left,
    body: impl FnOnce(&Spi) -> Result<Fired>,
) -> Result<()> {
    match xact::subtransaction(|| as_owner(extension, body)) {
        Ok(Fired::Done) => Ok(()),
        Ok(Fired::Locked) => {
            left.add(id, LOCKED_FOR);
            Ok(())
        }
        Err(error) if error.passes() => {
            left.add(id, FAILED_FOR);
            left.log(id, &error)
        }
        Err(error) => {
            match xact::subtransaction(|| disable(extension, id, &error)) {
                Ok(Fired::Done) => {}
                Ok(Fired::Locked) => left.add(id, LOCKED_FOR),
                Err(second) => {
                    left.add(id, FAILED_FOR);
                    left.log(id, &second)?;
                }
            }
            Ok(())
        }
    }
}

/// Disables a schedule and says why, in its row and in the log.
fn disable(extension: &Extension, id: i64, error: &PgError) -> Result<Fired> {
    as_owner(extension, |spi| {
        // The error has cost us the lock.
        if spi.run(&LOCK, &[Some(id.datum())])?.count() == 0 {
            return Ok(Fired::Locked);
        }
        let reason = datum::text_datum(&error.message)?;
        let rows = spi.run(&DISABLE, &[Some(id.datum()), Some(reason)])?;
        let Some(row) = rows.first() else {
            return Ok(Fired::Done);
        };
        let name = row.text(1)?.unwrap_or_default();
        let mut message = quoted("schedule ", &name, " is disabled: ");
        message.extend_from_slice(&error.message);
        let hint =
            b"Define it again with my_worker.schedule(), or use my_worker.resume_schedule().";
        log::report_with(Level::Log, error.sqlstate, &message, None, Some(hint))?;
        Ok(Fired::Done)
    })
}

/// Decides one schedule, enqueues its jobs and advances it.
fn fire(spi: &Spi, id: i64) -> Result<Fired> {
    let Some(mut found) = find(spi, id)?.filter(|found| found.is_own) else {
        return Ok(Fired::Locked);
    };
    let now = super::now();
    let Some(plan) = plan(&found, now)? else {
        return Ok(Fired::Done);
    };
    let last_job = insert_jobs(spi, &mut found, &plan)?;
    advance(spi, &found, &plan, last_job, now)?;
    fault!(Fired);
    Ok(Fired::Done)
}

/// Enqueues a job for each due time of the plan and answers the last one's id.
fn insert_jobs(spi: &Spi, found: &mut Found, plan: &Plan) -> Result<Option<i64>> {
    admit::check_queue(&found.job.queue()?)?;
    let mut last_job = None;
    for due in &plan.enqueue {
        let waits =
            found.overlap == Overlap::Queue && !(found.live.is_empty() && found.held.is_empty());
        let run_at = if waits { HELD } else { super::real(*due) };
        found.job.set(column::RUN_AT, Some(run_at.datum()));
        let job = enqueue::insert_one(spi, &found.job)?;
        if waits {
            found.held.push(job);
        } else {
            found.live.push(job);
        }
        last_job = Some(job);
    }
    Ok(last_job)
}

fn advance(
    spi: &Spi,
    found: &Found,
    plan: &Plan,
    last_job: Option<i64>,
    now: Micros,
) -> Result<()> {
    // What must not be forgotten are the held ones, so that they are released.
    let remembered = found.live.len().saturating_sub(REMEMBERED);
    let live = found.live.get(remembered..).unwrap_or_default();
    let arguments = [
        Some(found.id.datum()),
        plan.next_run_at.map(ToDatum::datum),
        plan.enqueue.last().map(|due| due.datum()),
        last_job.map(ToDatum::datum),
        Some(now.datum()),
        Some(plan.left_out.datum()),
        Some(array(live)?),
        Some(array(&found.held)?),
        Some((plan.enqueue.len() as i64).datum()),
    ];
    spi.run(&ADVANCE, &arguments).map(|_| ())
}

/// When the next schedule is due that this look did not leave alone.
fn next_due(extension: &Extension, left: &mut Left) -> Result<Option<Micros>> {
    let ids = left.ids();
    let next = as_owner(extension, |spi| {
        let rows = spi.run(&NEXT, &[Some(array(&ids)?)])?;
        Ok(rows.first().and_then(|row| row.i64(1)))
    })?;
    Ok(next.into_iter().chain(left.next()).min())
}
