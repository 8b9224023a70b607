//! Single jobs by their id: finds and locks one.

use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Micros, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::{Spi, Statement};

use super::as_owner;
use super::end::{Attempt, EndOf};
use super::home;
use super::queues::{self, Queue};
use super::report::Runs;

macro_rules! find_job {
    () => {
        "SELECT owner, queue, attempts, max_attempts, status = 'processing' AND lease IS NULL, \
         CASE WHEN origin IS NULL THEN handler END, command IS NOT NULL AND origin IS NULL, status = 'failed', \
         lease, run_at, started_at, timeout, home, status = 'blocked', expires_at \
         FROM my_worker._jobs WHERE id = $1"
    };
}

static FIND_JOB: Statement = Statement::new(find_job!(), &[types::INT8]);

static LOCK_JOB: Statement = Statement::new(
    concat!(find_job!(), " FOR UPDATE SKIP LOCKED"),
    &[types::INT8],
);

/// Locks a job's row, without waiting; false if somebody else has it, or it is gone.
pub fn lock(spi: &Spi, job: i64) -> Result<bool> {
    Ok(spi.run(&LOCK_JOB, &[Some(job.datum())])?.count() > 0)
}

pub(super) fn still_there(extension: &Extension, job: i64) -> Result<bool> {
    as_owner(extension, |spi| {
        Ok(spi.run(&FIND_JOB, &[Some(job.datum())])?.count() > 0)
    })
}

/// A job as its row says it.
pub struct Standing {
    /// Its id.
    pub job: i64,
    /// Whose it is.
    pub owner: Oid,
    /// Its queue's name.
    pub queue_name: Vec<u8>,
    /// Its queue's settings; `None`: there is no such queue.
    pub queue: Option<Queue>,
    /// Executions that have begun, for a claimed command, or have ended.
    pub attempts: i32,
    /// Executions before it is failed, if it says so itself.
    max_attempts: Option<i32>,
    /// Whether it is a command that has been claimed, and charged with it.
    pub is_claimed: bool,
    /// What it calls, if it says so itself.
    handler: Option<Vec<u8>>,
    is_command: bool,
    /// It was set aside.
    pub has_failed: bool,
    /// It is of this home, not of a copy's.
    is_own: bool,
    /// The lease that stands in its row.
    pub lease: Option<InRow>,
    /// How long an attempt may take, if it says so itself.
    timeout: Option<Micros>,
    /// It waits for jobs that it comes after.
    pub is_blocked: bool,
    /// When it expires.
    pub expires_at: Option<Micros>,
}

/// A lease that stands in a job's row.
#[derive(Clone, Copy)]
pub struct InRow {
    /// When it began.
    pub started: Micros,
    /// When it ends.
    pub until: Micros,
}

impl Standing {
    fn read(extension: &Extension, job: i64, statement: &Statement) -> Result<Option<Self>> {
        let found = as_owner(extension, |spi| {
            let rows = spi.run(statement, &[Some(job.datum())])?;
            let Some(row) = rows.first() else {
                return Ok(None);
            };
            Ok(Some(Standing {
                job,
                owner: row.oid(1).unwrap_or(0),
                queue_name: row.text(2)?.unwrap_or_default(),
                queue: None,
                attempts: row.i32(3).unwrap_or(0),
                max_attempts: row.i32(4),
                is_claimed: row.bool(5),
                handler: row.text(6)?,
                is_command: row.bool(7),
                has_failed: row.bool(8),
                lease: row.i64(9).map(|_| InRow {
                    until: row.i64(10).unwrap_or(0),
                    started: row.i64(11).unwrap_or(0),
                }),
                timeout: row.datum(12).map(datum::interval_micros).transpose()?,
                is_own: home::is_own_home(row.i64(13)),
                is_blocked: row.bool(14),
                expires_at: row.i64(15),
            }))
        })?;
        let Some(mut standing) = found else {
            return Ok(None);
        };
        let name = datum::text_datum(&standing.queue_name)?;
        standing.queue = queues::find(extension, name)?;
        Ok(Some(standing))
    }

    /// Whether it is a command that was claimed for this attempt, and whose row does not say so.
    pub fn lacks_claim(&self, attempt: i32) -> bool {
        self.is_command && !self.is_claimed && self.attempts.saturating_add(1) == attempt
    }

    /// Executions before it is failed.
    pub fn max_attempts(&self) -> i32 {
        let of_queue = || self.queue.as_ref().map(|queue| queue.max_attempts);
        self.max_attempts.or_else(of_queue).unwrap_or(1)
    }

    /// How long an attempt may take.
    pub fn timeout(&self) -> Option<Micros> {
        let of_queue = || self.queue.as_ref().and_then(|queue| queue.timeout);
        self.timeout.or_else(of_queue)
    }

    /// Whether it runs a command.
    pub fn is_command(&self) -> bool {
        self.is_command
    }

    /// Whether it is held for other consumers.
    pub fn is_held(&self) -> bool {
        let queue_says = self.queue.as_ref().is_some_and(|q| q.handler.is_some());
        queues::is_held(self.handler.is_some() || self.is_command, queue_says)
    }

    /// What the door for ends has to know of it, if nobody knows of an execution. `charged`: an attempt
    /// ends that the row does not count yet.
    pub fn end_of(&self, charged: bool) -> EndOf<'_> {
        let of_queue = || self.queue.as_ref().and_then(|queue| queue.handler.as_ref());
        let handler = self.handler.as_ref().or_else(of_queue);
        EndOf {
            queue: self.queue.as_ref(),
            queue_name: &self.queue_name,
            owner: self.owner,
            runs: match handler {
                _ if self.is_command => Runs::Command,
                Some(handler) => Runs::Handler(handler),
                None => Runs::Consumer,
            },
            attempt: Attempt {
                job: self.job,
                attempts: self.attempts,
                ended: self.attempts.saturating_add(i32::from(charged)),
                started: 0,
            },
            max_attempts: self.max_attempts(),
            execution: None,
        }
    }
}

/// What the keeper gets of a job that it means to settle.
pub enum Taken {
    /// It, locked until the transaction ends.
    Live(Box<Standing>),
    /// Nothing: it has ended.
    Gone,
    /// Nothing yet: somebody else has its row.
    Locked,
}

/// For the keeper: takes a job that has not ended, without waiting for whoever has its row. One whose
/// queue is not there, perhaps not yet, or that came with a copy, is left alone.
pub fn take(extension: &Extension, job: i64) -> Result<Taken> {
    Ok(match Standing::read(extension, job, &LOCK_JOB)? {
        Some(live) if live.has_failed || live.queue.is_none() || !live.is_own => Taken::Gone,
        Some(live) => Taken::Live(Box::new(live)),
        None if still_there(extension, job)? => Taken::Locked,
        None => Taken::Gone,
    })
}

/// A job as its row says it once that is locked, which is not waited for; `None` if somebody else has it, or it
/// is gone.
pub fn find_locked(extension: &Extension, job: i64) -> Result<Option<Standing>> {
    Standing::read(extension, job, &LOCK_JOB)
}

/// A job that has not ended, whoever has its row.
pub fn find(extension: &Extension, job: i64) -> Result<Option<Standing>> {
    Standing::read(extension, job, &FIND_JOB)
}
