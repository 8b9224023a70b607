//! What a batch came to, and the memory that it works in.

use super::command::Claimed;
use super::end::Blame;
use crate::pg::datum::Micros;
use crate::pg::error::{PgError, Result};
use crate::pg::memcx::MemoryContext;
use crate::queue::told::Untold;

/// A start that a queue's rate has allowed.
#[derive(Clone, Copy)]
pub struct Grant {
    /// The job, as it was then: executions of it that had ended.
    pub job: (i64, i32),
    /// When it started.
    pub at: Micros,
}

/// What a batch came to, once it has committed.
#[derive(Default)]
pub struct Tally {
    /// The queue, as shared memory knows it.
    pub queue: i32,
    /// The ends of jobs that were taken.
    pub untold: Untold,
    /// Candidates that somebody else had locked.
    pub missed: Vec<i64>,
    /// Its queue's rate held some back that were to start.
    pub limited: bool,
    /// What its queue's rate has let start.
    pub grants: Vec<Grant>,
    /// A job was cancelled because others waited for it: run it alone.
    pub interrupted: bool,
    /// The session's temporary schema was used: drop what is in it.
    pub temporary: bool,
    /// SET CONSTRAINTS was used, which lasts until the commit.
    pub constraints: bool,
    /// Candidates that were not reached.
    pub left: usize,
    /// So many jobs failed in one call of their batch handler: each is run alone next.
    pub split: usize,
    /// A command that was claimed, to run once the batch has committed.
    pub command: Option<Claimed>,
    /// A job was cancelled: its mark stays until that is committed.
    pub cancelled: bool,
    /// A job has left in this process what cannot be taken away: it ends.
    pub stained: bool,
    /// What the last job that failed failed with.
    pub last_error: Option<PgError>,
    /// Whose fault it is if the batch has failed.
    pub blame: Blame,
}

/// Memory of a worker: what lives for a batch, and what lives for a job.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Reset before each batch.
    pub batch: MemoryContext,
    /// Reset after each job.
    pub job: MemoryContext,
}

impl Memory {
    /// The two contexts of a process.
    pub fn new() -> Result<Self> {
        Ok(Memory {
            batch: MemoryContext::new(c"my_worker batch")?,
            job: MemoryContext::new(c"my_worker job")?,
        })
    }
}
