//! Whose fault it is that a transaction with jobs has failed, and what becomes of them.
//!
//! It is rolled back, so all its jobs wait again. The guilty one is charged in a transaction of its
//! own, which no isolation level and no error of the job's can spoil. A job whose end cannot be
//! written even there is set aside.

use std::rc::Rc;

use crate::execute::aside::{is_servers, set_aside, write_alone};
use crate::execute::{self, Blame, Guilty, Tally};
use crate::logic::counters::Ending;
use crate::logic::recent::Called;
use crate::logic::settled::Settled;
use crate::pg::error::{DEADLOCK_DETECTED, PgError, Result, SERIALIZATION_FAILURE, SqlState};
use crate::pg::fault::fault;
use crate::pg::identity;
use crate::queue::end::{Attempt, EndOf, Execution, How, Said};
use crate::queue::queues::Queue;
use crate::queue::report::{self, Runs};
use crate::queue::told::Untold;
use crate::shared::SlotId;

/// The jobs of a transaction, should it fail.
pub struct Suspects {
    queue: Queue,
    blame: Blame,
    settled: Vec<Settled>,
    /// What each of these called.
    called: Vec<Option<Rc<Called>>>,
    /// One of them was cut off for the others' sake, which may be what makes it fail.
    interrupted: bool,
    /// What the last one that failed failed with.
    last_error: Option<PgError>,
}

impl Suspects {
    /// Those of a batch, if any of its jobs may be to blame.
    pub fn of(queue: &Queue, tally: &mut Tally) -> Option<Self> {
        let blame = std::mem::take(&mut tally.blame);
        if matches!(blame, Blame::Nobody) {
            return None;
        }
        Some(Suspects {
            queue: queue.clone(),
            blame,
            settled: tally.untold.list().to_vec(),
            called: tally.untold.called(),
            interrupted: tally.interrupted,
            last_error: tally.last_error.take(),
        })
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.settled.len() + 1
    }

    /// Charges the guilty one, if it is known, and ends as cancelled those that were. True if it may
    /// have been any of several. An error that is the server's is nobody's fault, and is handed on.
    pub fn settle(self, slot: SlotId, error: &PgError) -> Result<bool> {
        if is_servers(error.sqlstate) {
            return Err(error.clone());
        }
        // Whoever cancelled them was told so.
        for (job, called) in self.settled.iter().zip(&self.called) {
            if is_cancelled(job) {
                self.charge(slot, (job, called.as_ref()), true, error)?;
            }
        }
        match (&self.blame, self.settled.as_slice()) {
            (Blame::Job(guilty), _) => self.charge_guilty(slot, guilty, error),
            (Blame::Settled, []) if !self.interrupted => Err(error.clone()),
            (Blame::Settled, [only]) if !self.interrupted => {
                if !is_cancelled(only) {
                    self.charge_only(slot, only, error)?;
                }
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    fn charge_guilty(&self, slot: SlotId, guilty: &Guilty, error: &PgError) -> Result<bool> {
        if !guilty.ran && is_conflict(error.sqlstate) {
            return Ok(true);
        }
        let cancelled = guilty.cancelled || execute::is_cancelling(slot, guilty.job.job);
        if !cancelled {
            report::log_failure(&guilty.names, ended(&guilty.job), error)?;
        }
        let job = (&guilty.job, guilty.called.as_ref());
        self.charge(slot, job, cancelled, error)?;
        Ok(false)
    }

    /// A job that was alone in a transaction that failed at COMMIT. If it had failed before, that is
    /// what it is charged for.
    fn charge_only(&self, slot: SlotId, job: &Settled, error: &PgError) -> Result<()> {
        let called = self.called.first().and_then(Option::as_ref);
        match &self.last_error {
            Some(error) => self.charge(slot, (job, called), false, error),
            None => {
                report::log_commit_failure(job.job, &self.queue.name, error)?;
                self.charge(slot, (job, called), false, error)
            }
        }
    }

    /// Charges a job whose transaction was rolled back, or ends it as cancelled; sets it aside if that
    /// cannot be written. The log has said already what it failed with.
    fn charge(
        &self,
        slot: SlotId,
        (job, called): (&Settled, Option<&Rc<Called>>),
        cancelled: bool,
        error: &PgError,
    ) -> Result<()> {
        let queue = &self.queue;
        let of = EndOf {
            queue: Some(queue),
            queue_name: &queue.name,
            owner: identity::current_role(),
            runs: Runs::Unknown(called),
            attempt: Attempt {
                job: job.job,
                attempts: job.attempts,
                ended: ended(job),
                started: job.started,
            },
            max_attempts: job.max_attempts,
            execution: Some(Execution {
                due: job.started.saturating_sub(job.waited),
                finished: job.started.saturating_add(job.ran),
            }),
        };
        let how = match cancelled {
            true => How::Cancelled,
            false => How::Failed(error, Said::Yes),
        };
        fault!(Blamed);
        let written = match write_alone(&of, how) {
            Err(refused) if !is_servers(refused.sqlstate) => set_aside(&of, &refused)?,
            written => written?,
        };
        let mut untold = Untold::default();
        untold.add(written);
        untold.tell(slot, queue.id)
    }
}

fn is_cancelled(job: &Settled) -> bool {
    job.outcome == Ending::Cancelled
}

fn ended(job: &Settled) -> i32 {
    job.attempts.saturating_add(1)
}

/// Whether others did the same at the same time.
pub fn is_conflict(code: SqlState) -> bool {
    [SERIALIZATION_FAILURE, DEADLOCK_DETECTED].contains(&code)
}
