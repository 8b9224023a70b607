//! Whose fault it is that a transaction with jobs has failed, and what becomes of them.
//!
//! It is rolled back, so all its jobs wait again. The guilty one is charged in a transaction of its
//! own, which no isolation level and no error of the job's can spoil. A job whose end cannot be
//! written even there is set aside.

use crate::counted;
use crate::execute::aside::{End, dead, is_servers, set_aside};
use crate::execute::{self, Blame, Guilty, Tally};
use crate::logic::counters::Ending;
use crate::logic::settled::Settled;
use crate::pg::error::{DEADLOCK_DETECTED, PgError, Result, SERIALIZATION_FAILURE, SqlState};
use crate::pg::{catalog, xact};
use crate::queue::queues::Queue;
use crate::queue::settle::{self, Attempt, Verdict};
use crate::queue::wait;
use crate::shared::SlotId;

/// The jobs of a transaction, should it fail.
pub struct Suspects {
    queue: Queue,
    blame: Blame,
    settled: Vec<Settled>,
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
            settled: tally.settled.clone(),
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
        for job in self.settled.iter().filter(|job| is_cancelled(job)) {
            charge(slot, &self.queue, job, true, error)?;
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
            execute::log_failure(&guilty.names, ended(&guilty.job), error)?;
        }
        charge(slot, &self.queue, &guilty.job, cancelled, error)?;
        Ok(false)
    }

    /// A job that was alone in a transaction that failed at COMMIT. If it had failed before, that is
    /// what it is charged for.
    fn charge_only(&self, slot: SlotId, job: &Settled, error: &PgError) -> Result<()> {
        match &self.last_error {
            Some(error) => charge(slot, &self.queue, job, false, error),
            None => {
                execute::log_commit_failure(job.job, &self.queue.name, error)?;
                charge(slot, &self.queue, job, false, error)
            }
        }
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

/// Charges a job whose transaction was rolled back, or ends it as cancelled; sets it aside if that
/// cannot be written.
fn charge(
    slot: SlotId,
    queue: &Queue,
    job: &Settled,
    cancelled: bool,
    error: &PgError,
) -> Result<()> {
    let end = match xact::transaction(|| write_end(queue, job, cancelled, error)) {
        Err(refused) if !is_servers(refused.sqlstate) => {
            set_aside(queue, job, ended(job), &refused)?
        }
        end => end?,
    };
    let Some((outcome, dead)) = end else {
        return Ok(());
    };
    let tally = Tally {
        queue: queue.id,
        settled: vec![Settled { outcome, ..*job }],
        ..Tally::default()
    };
    counted::count(slot, tally.queue, &tally.settled);
    wait::tell_waiters(&tally.settled);
    dead.map_or(Ok(()), |dead| execute::log_dead(&dead))
}

fn write_end(queue: &Queue, job: &Settled, cancelled: bool, error: &PgError) -> Result<End> {
    let Some(extension) = catalog::hold_extension()? else {
        return Ok(None);
    };
    let attempt = Attempt {
        job: job.job,
        attempts: job.attempts,
        ended: ended(job),
        started: job.started,
    };
    if cancelled {
        let was_there = settle::cancel(&extension, attempt.job, Some(&attempt))?;
        return Ok(was_there.then_some((Ending::Cancelled, None)));
    }
    let verdict = settle::fail(&extension, queue, &attempt, job.max_attempts, error)?;
    Ok(match verdict {
        Verdict::Retry => Some((Ending::Retried, None)),
        Verdict::Failed => Some((Ending::Failed, Some(dead(queue, job, ended(job), error)?))),
        Verdict::Gone => None,
    })
}
