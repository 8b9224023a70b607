//! What the processes count in shared memory: jobs ended, the time of the last run, and for each queue
//! how its jobs ended, waited and ran.
//!
//! A worker counts once a batch, under the lock, with everything worked out before; backends count
//! at COMMIT (`queue::wake`). Nothing here reads a table. What is counted by minute and by handler stands under
//! another lock, which is taken once the first one is free.

mod called;

use std::rc::Rc;

pub use called::called;

use crate::logic::counters::{Counters, Ending, Mark, SEVERAL_ROLES};
use crate::logic::recent::{Called, Whose};
use crate::logic::settled::Settled;
use crate::pg::bgworker;
use crate::pg::clock;
use crate::pg::datum::{Micros, Oid};
use crate::shared::{Charge, SHARED, SlotId, State, Wake, recent};

/// A job whose process is told to stop so often in the middle of it is charged an attempt: else one
/// that stops its own process would run for ever.
const MAX_STOPS: u32 = 3;

/// What jobs called, and how many of them one behind the other did.
pub type Calls = Vec<(Option<Rc<Called>>, usize)>;

/// Counts a batch that has committed.
pub fn count(slot: SlotId, queue: i32, settled: &[Settled], calls: &Calls) {
    let ended = settled
        .iter()
        .filter(|settled| settled.outcome.is_final())
        .count();
    let done = settled.len() as i64;
    let (now, database) = (clock::now(), bgworker::my_database());
    let marks: Vec<Mark> = settled
        .iter()
        .map(|settled| Mark::new(settled.outcome, settled.waited, settled.ran))
        .collect();
    let role = SHARED.write(|state| {
        let role = state.slot(slot).map_or(SEVERAL_ROLES, |slot| slot.role);
        if done > 0 {
            state.items_processed += ended as i64;
            state.last_run = now;
            if let Some(counters) = state.counted.of(database, queue, role, now) {
                marks.iter().for_each(|mark| counters.add(mark, now));
            }
        }
        if let Some(slot) = state.slot(slot) {
            slot.jobs_done += ended as i64;
        }
        role
    });
    if let Some(role) = role.filter(|_| done > 0) {
        let whose = Whose {
            database,
            queue,
            role,
        };
        let calls = calls.iter().map(|(called, n)| (called.as_deref(), *n));
        recent::count(whose, &marks, calls, now);
    }
}

/// Jobs of one queue that ended without a worker.
pub struct Ends {
    /// The queue's number.
    pub queue: i32,
    /// Whose they were, or [`SEVERAL_ROLES`].
    pub role: Oid,
    /// How they ended.
    pub end: Ending,
    /// How many.
    pub count: i64,
    /// What they call, if that is known.
    pub called: Option<Rc<Called>>,
}

impl Ends {
    /// The same by minute and handler, without that lock.
    pub fn count_by_time(&self, now: Micros) {
        let whose = Whose {
            database: bgworker::my_database(),
            queue: self.queue,
            role: self.role,
        };
        let called = self.called.as_deref();
        recent::count_ends(whose, called, (self.end, self.count), now);
    }
}

/// Counts jobs of this database that ended without a worker, under the lock.
pub fn count_ends(state: &mut State, database: Oid, ends: &Ends, now: Micros) {
    if let Some(counters) = state.counted.of(database, ends.queue, ends.role, now) {
        counters.add_end(ends.end, ends.count, now);
    }
}

/// An execution that ended without a worker: a consumer's, or one in a session.
pub struct Executed {
    /// The queue's number.
    pub queue: i32,
    /// Whose job it is.
    pub owner: Oid,
    /// How it ended.
    pub mark: Mark,
    /// What it called, if that is known.
    pub called: Option<Rc<Called>>,
}

impl Executed {
    /// Counts it as one of this database, under the lock.
    pub fn count(&self, state: &mut State, database: Oid, now: Micros) {
        if self.mark.is_final() {
            state.items_processed += 1;
            state.last_run = now;
        }
        if let Some(counters) = state.counted.of(database, self.queue, self.owner, now) {
            counters.add(&self.mark, now);
        }
    }

    /// The same by minute and handler, without that lock.
    pub fn count_by_time(&self, now: Micros) {
        let whose = Whose {
            database: bgworker::my_database(),
            queue: self.queue,
            role: self.owner,
        };
        let calls = std::iter::once((self.called.as_deref(), 1));
        recent::count(whose, std::slice::from_ref(&self.mark), calls, now);
    }
}

/// What was counted of a queue of this database, and whose jobs (0: nobody's); nothing at all without
/// preload.
pub fn counters(queue: i32) -> (Counters, Oid) {
    let database = bgworker::my_database();
    SHARED
        .read(|state| {
            let role = state.counted.role_of(database, queue);
            state.counted.find(database, queue).map(|all| (*all, role))
        })
        .flatten()
        .unwrap_or((Counters::NONE, 0))
}

/// `reset_stats()`: this database's queues start from zero.
pub fn reset() {
    let database = bgworker::my_database();
    SHARED.write(|state| state.counted.reset(database));
    recent::forget(database);
}

/// Notes under the lock that a process ended in the middle of a job, without a crash. `told`: it
/// was asked to by us, which is never held against the job. `charge`: what the job is charged if that has happened too
/// often. Answers the process to wake.
pub fn stopped(state: &mut State, role: Oid, charge: Charge, told: bool) -> Wake {
    let (job, database) = (charge.job, charge.database);
    if let Some(lane) = state.lane(database, role) {
        lane.set_pending();
    }
    if !told && state.count_stop(database, job) >= MAX_STOPS {
        return state.charge_now(charge);
    }
    Wake::NOBODY
}
