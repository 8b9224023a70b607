//! Commands one after the other: the one that a batch has claimed, and those that are claimed as the one before ends.

use super::Worker;
use crate::execute::command::{self, Claimed};
use crate::execute::{BUDGET_MS, Tally};
use crate::pg::catalog::Extension;
use crate::pg::datum::Micros;
use crate::pg::error::Result;
use crate::pg::{clock, stain, xact};
use crate::queue::claim::{Candidate, Jobs};
use crate::queue::queues::Queue;
use crate::queue::told::Untold;
use crate::shared::SHARED;

impl Worker {
    /// Runs the command that the batch claimed, if any, now that the claim is committed, and others of its queue
    /// for as long as a batch may take. The end of the last one is told with those of the batch.
    pub(super) fn run_commands(&mut self, tally: Option<Tally>) -> Result<Option<Tally>> {
        let Some(mut tally) = tally else {
            return Ok(None);
        };
        let Some(first) = tally.command.take() else {
            return Ok(Some(tally));
        };
        let (id, queue_id, context) = (self.id, tally.queue, self.memory.job);
        let queue = first.queue.clone();
        let until = clock::now().saturating_add(Micros::from(BUDGET_MS) * 1000);
        let next = |extension: &Extension| self.next_command(extension, &queue, until);
        let tell = |written| {
            let mut untold = Untold::default();
            untold.add(written);
            untold.tell(id, queue_id)
        };
        let last = command::execute(id, first, context, next, tell)?;
        tally.untold.add(last);
        tally.stained |= stain::is_stained();
        Ok(Some(tally))
    }

    /// Claims the next job of the queue in the open transaction, if it is a command that nothing holds back; whatever
    /// else comes next is for a batch.
    fn next_command(
        &mut self,
        extension: &Extension,
        queue: &Queue,
        until: Micros,
    ) -> Result<Option<Claimed>> {
        let now = clock::now();
        let is_plain = queue.rate.is_none() && queue.by_key.is_none() && !xact::is_strict();
        if now >= until || !is_plain || self.alone > 0 || self.stopped() || stain::is_stained() {
            return Ok(None);
        }
        let Some(mut known) = self.known.remove(&queue.name) else {
            return Ok(None);
        };
        let jobs = Jobs::open(extension)?;
        let found = match known.is_open(extension)? {
            true => self.find::<Candidate>(&jobs, queue, 1, &mut known),
            false => Ok(Vec::new()),
        };
        self.known.insert(queue.name.clone(), known);
        let claimed = match found?.first() {
            Some(candidate) => self.claim_command(extension, &jobs, queue, candidate)?,
            None => None,
        };
        jobs.close()?;
        Ok(claimed)
    }

    fn claim_command(
        &self,
        extension: &Extension,
        jobs: &Jobs,
        queue: &Queue,
        candidate: &Candidate,
    ) -> Result<Option<Claimed>> {
        let started = clock::now();
        let job = jobs.take(candidate)?;
        let job =
            job.filter(|job| job.is_command && job.defect().is_none() && !job.is_expired(started));
        let Some(job) = job else {
            return Ok(None);
        };
        let id = self.id;
        // What the command before has said of itself.
        SHARED.write(|state| {
            if let Some(slot) = state.slot(id) {
                slot.progress = -1.0;
                slot.message.set(b"");
            }
        });
        command::claim(extension, id, queue, &job, started).map(Some)
    }
}
