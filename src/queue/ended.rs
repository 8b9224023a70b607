//! What a transaction remembers of the jobs that it ends without a worker, until its COMMIT tells.

use crate::counted::Ends;
use crate::shared::WAITERS;

/// Jobs that the open transaction ends, without a worker.
pub(super) struct Ended {
    /// What is counted of them, if anything is.
    pub(super) sum: Option<Ends>,
    /// Which they are.
    jobs: Vec<i64>,
    /// More than `jobs` can name: whoever waits for any job looks again.
    many: bool,
    /// The least and the greatest of their ids; of many that nobody has named, all there are.
    hull: (i64, i64),
}

impl Ended {
    /// An execution that ended, and the job, if that has ended with it.
    pub(super) fn one(sum: Option<Ends>, job: Option<i64>) -> Ended {
        Ended {
            sum,
            jobs: job.into_iter().collect(),
            many: false,
            hull: job.map_or((i64::MAX, i64::MIN), |job| (job, job)),
        }
    }

    /// Any number of jobs, whose ids are in that range.
    pub(super) fn many(sum: Option<Ends>, hull: (i64, i64)) -> Ended {
        Ended {
            sum,
            jobs: Vec::new(),
            many: true,
            hull,
        }
    }

    /// Whether the job has ended, or may have.
    pub(super) fn has(&self, job: i64) -> bool {
        self.many || self.jobs.contains(&job)
    }

    /// The range of their ids, where they are many.
    pub(super) fn range(&self) -> Option<(i64, i64)> {
        self.many.then_some(self.hull)
    }

    /// Their ids, where they are few.
    pub(super) fn jobs(&self) -> &[i64] {
        &self.jobs
    }

    /// Takes in the jobs of another one; false if they are counted apart.
    pub(super) fn takes_in(&mut self, more: &Ended) -> bool {
        match (&mut self.sum, &more.sum) {
            (None, None) => {}
            (Some(known), Some(more))
                if (known.queue, known.role, known.end) == (more.queue, more.role, more.end)
                    && known.called == more.called =>
            {
                known.count += more.count;
            }
            _ => return false,
        }
        self.hull = (self.hull.0.min(more.hull.0), self.hull.1.max(more.hull.1));
        self.many |= more.many || self.jobs.len() + more.jobs.len() > WAITERS;
        if !self.many {
            self.jobs.extend(&more.jobs);
        }
        true
    }
}
