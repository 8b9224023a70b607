//! Telling of ends, once they are committed: the counters, those who wait, and the log.
//!
//! [`super::end::write`] is the only source of what is told here. What it hands out can be told in two
//! ways: a worker adds it to the [`Untold`] of its batch, and tells all of them after COMMIT; whoever
//! else ends a job has the COMMIT itself tell it, in whose transaction that may be.

use std::rc::Rc;

use crate::counted::{self, Calls, Ends, Executed};
use crate::logic::counters::{Ending, Mark, SEVERAL_ROLES};
use crate::logic::recent::Called;
use crate::logic::settled::Settled;
use crate::pg::bgworker;
use crate::pg::datum::Oid;
use crate::pg::error::Result;
use crate::pg::log::{self, Level};
use crate::shared::{self, SHARED, SlotId, WAITERS, Wake};

use super::report::{self, Dead};
use super::wake;
use super::{consumed, dependents};

/// What was written of one end in this transaction, and told to nobody yet; nothing, if somebody else
/// had written it.
#[must_use = "whoever writes an end has it told: `Untold::add`, or `Written::tell_at_commit`"]
pub struct Written(pub(super) Option<End>);

/// The end of one execution, or of a job that waited.
pub(super) struct End {
    /// The queue, by its number; 0: it is not there.
    pub(super) queue: i32,
    /// Whose job it is.
    pub(super) owner: Oid,
    /// The execution.
    pub(super) settled: Settled,
    /// There was one, and its times are known.
    pub(super) executed: bool,
    /// What it calls, if that is known.
    pub(super) called: Option<Rc<Called>>,
    /// The line of any end, where all are logged.
    pub(super) line: Option<String>,
    /// The line of a job that has failed for good. Few do, and an end is moved often.
    pub(super) dead: Option<Box<Dead>>,
}

impl Written {
    /// Nothing was written.
    pub const NOTHING: Written = Written(None);

    /// How it ended; `None` if nothing was written.
    pub fn outcome(&self) -> Option<Ending> {
        self.0.as_ref().map(|end| end.settled.outcome)
    }

    /// For whoever is no worker: the COMMIT of the open transaction tells it. A rollback, also to a
    /// savepoint, forgets it with the end. Answers how it ended; `None` if nothing was written.
    pub fn tell_at_commit(self) -> Result<Option<Ending>> {
        let Some(end) = self.0 else {
            return Ok(None);
        };
        let Settled { job, outcome, .. } = end.settled;
        // An execution is counted with its times.
        let sum = match end.executed {
            true => {
                let mark = Mark::new(outcome, end.settled.waited, end.settled.ran);
                consumed::executed(Executed {
                    queue: end.queue,
                    owner: end.owner,
                    mark,
                    called: end.called,
                })?;
                None
            }
            false => Some(Ends {
                queue: end.queue,
                role: end.owner,
                end: outcome,
                count: 1,
                called: end.called,
            }),
        };
        wake::ended_at_commit(
            sum,
            outcome.is_final().then_some(job),
            end.dead.map(|dead| *dead),
        )?;
        Ok(Some(outcome))
    }
}

/// Jobs that were deleted together, without a look at each.
#[must_use = "whoever deletes jobs has it told: `Purged::tell_at_commit`"]
pub struct Purged {
    /// How many waited.
    waiting: i64,
    /// How many had been set aside, and counted then.
    aside: i64,
    /// The least and the greatest of their ids.
    ids: (i64, i64),
}

impl Purged {
    /// None at all.
    pub(super) const NONE: Purged = Purged {
        waiting: 0,
        aside: 0,
        ids: (i64::MAX, i64::MIN),
    };

    /// One more was deleted.
    pub(super) fn add(&mut self, job: i64, was_aside: bool) {
        self.ids = (self.ids.0.min(job), self.ids.1.max(job));
        match was_aside {
            true => self.aside += 1,
            false => self.waiting += 1,
        }
    }

    /// How many they were.
    pub fn count(&self) -> i64 {
        self.waiting + self.aside
    }

    /// The COMMIT of the open transaction tells of them. They waited and will not run: they count as
    /// cancelled, so whoever counts what comes and what goes misses none. `queue`: its number; of one
    /// that goes with them nothing is counted.
    pub fn tell_at_commit(self, queue: Option<i32>) -> Result<()> {
        if self.count() == 0 {
            return Ok(());
        }
        let sum = queue.map(|queue| Ends {
            queue,
            role: SEVERAL_ROLES,
            end: Ending::Cancelled,
            count: self.waiting,
            called: None,
        });
        wake::many_ended_at_commit(sum.filter(|sum| sum.count > 0), self.ids)
    }
}

/// The ends of a batch, which its worker tells once it has committed. Where it is rolled back they
/// are gone with it.
#[derive(Default)]
pub struct Untold {
    settled: Vec<Settled>,
    calls: Calls,
    lines: Vec<String>,
    dead: Vec<Dead>,
}

impl Untold {
    /// Adds one.
    pub fn add(&mut self, written: Written) {
        if let Some(end) = written.0 {
            self.settled.push(end.settled);
            match self.calls.last_mut() {
                Some((called, count)) if *called == end.called => *count += 1,
                _ => self.calls.push((end.called, 1)),
            }
            self.lines.extend(end.line);
            self.dead.extend(end.dead.map(|dead| *dead));
        }
    }

    /// Which they are.
    pub fn list(&self) -> &[Settled] {
        &self.settled
    }

    /// What each of them called.
    pub fn called(&self) -> Vec<Option<Rc<Called>>> {
        let each =
            |(called, count): &(_, usize)| std::iter::repeat_n(Option::clone(called), *count);
        self.calls.iter().flat_map(each).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.settled.is_empty()
    }

    /// After COMMIT: counts them as executions of that slot and queue, by one hold of the lock for all,
    /// wakes those who wait for them, and logs what is to be logged.
    pub fn tell(self, slot: SlotId, queue: i32) -> Result<()> {
        counted::count(slot, queue, &self.settled, &self.calls);
        let logged = self
            .lines
            .iter()
            .try_for_each(|line| log::report(Level::Log, line));
        wake_waiters(&self.settled);
        dependents::tell_settled(&self.settled);
        self.dead.iter().try_for_each(report::log_dead)?;
        logged
    }
}

/// Wakes those who wait for one of these jobs.
fn wake_waiters(settled: &[Settled]) {
    let database = bgworker::my_database();
    let has_ended = |job| {
        let ended = |s: &Settled| s.job == job && s.outcome.is_final();
        settled.iter().any(ended)
    };
    let mut wake = [Wake::NOBODY; WAITERS];
    let mut keeper = false;
    SHARED.read(|state| {
        let waiting = state.waiting_for(database, has_ended);
        for (place, waiter) in wake.iter_mut().zip(waiting) {
            *place = Wake::process(waiter.procno);
            keeper |= waiter.is_keeper;
        }
    });
    if keeper {
        // The keeper, which is woken below as one who waits.
        SHARED.change(|state| state.ask_look(database)).is_awake();
    }
    wake.into_iter().for_each(shared::wake);
}
