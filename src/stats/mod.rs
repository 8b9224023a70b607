//! What the processes count, in shared memory: jobs ended, time of the last run, and for each
//! queue how its jobs ended, waited and ran.
//!
//! A worker counts once a batch, under the lock, with everything worked out before; backends count
//! at COMMIT (`queue::wake`). Nothing here reads a table.

pub mod health;
pub mod queues;
pub mod saved;
pub mod sight;
pub mod why;

use crate::execute::{Outcome, Tally};
use crate::logic::counters::{Counters, Ending, Mark, SEVERAL_ROLES};
use crate::pg::bgworker;
use crate::pg::clock;
use crate::pg::datum::{Micros, Oid};
use crate::settings;
use crate::shared::{Charge, Death, Phase, SHARED, SlotId, State};
use crate::worker;

/// A job whose process is told to stop so often in the middle of it is charged an attempt: else one
/// that stops its own process would run for ever.
const MAX_STOPS: u32 = 3;

/// What the status and `why()` say while work waits for a place of the server.
pub const WAITS_FOR_SLOT: &str = "waiting for a free worker slot (max_worker_processes)";

/// Counts a batch that has committed.
pub fn count(slot: SlotId, tally: &Tally) {
    let ended = tally
        .settled
        .iter()
        .filter(|settled| worker::is_final(settled.outcome))
        .count();
    let done = tally.settled.len() as i64;
    let (now, database) = (clock::now(), bgworker::my_database());
    let marks: Vec<Mark> = tally
        .settled
        .iter()
        .map(|settled| Mark::new(end(settled.outcome), settled.waited, settled.ran))
        .collect();
    SHARED.write(|state| {
        let role = state.slot(slot).map_or(SEVERAL_ROLES, |slot| slot.role);
        if done > 0 {
            state.items_processed += ended as i64;
            state.last_run = now;
            if let Some(counters) = state.counted.of(database, tally.queue, role, now) {
                marks.iter().for_each(|mark| counters.add(mark, now));
            }
        }
        if let Some(slot) = state.slot(slot) {
            slot.jobs_done += ended as i64;
        }
    });
}

fn end(outcome: Outcome) -> Ending {
    match outcome {
        Outcome::Completed => Ending::Completed,
        Outcome::Failed => Ending::Failed,
        Outcome::Retried => Ending::Retried,
        Outcome::Cancelled => Ending::Cancelled,
    }
}

/// Jobs of one queue that ended without a worker.
#[derive(Clone, Copy)]
pub struct Ends {
    /// The queue's number.
    pub queue: i32,
    /// Whose they were, or [`SEVERAL_ROLES`].
    pub role: Oid,
    /// How they ended.
    pub end: Ending,
    /// How many.
    pub count: i64,
}

/// Counts jobs of this database that ended without a worker, under the lock.
pub fn count_ends(state: &mut State, database: Oid, ends: &Ends, now: Micros) {
    if let Some(counters) = state.counted.of(database, ends.queue, ends.role, now) {
        counters.add_end(ends.end, ends.count, now);
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
}

/// Notes under the lock that a process ended in the middle of a job, without a crash. `told`: it
/// was asked to by us, which is never held against the job.
pub fn stopped(state: &mut State, database: Oid, role: Oid, job: i64, told: bool) {
    if let Some(lane) = state.lane(database, role) {
        lane.set_pending();
    }
    if !told && state.count_stop(database, job) >= MAX_STOPS {
        state.charge(Charge {
            job,
            database,
            attempts: -1,
            death: Death::Stops,
        });
        state.ask_look(database);
    }
}

/// What `get_worker_stats()` shows.
pub struct Totals {
    /// Jobs that have ended since the server started.
    pub items_processed: i64,
    /// When the last one did; 0: never.
    pub last_run: Micros,
    /// What goes on, in words.
    pub status: String,
}

/// The totals; `None` without preload.
pub fn totals() -> Option<Totals> {
    let now = clock::now();
    let (items_processed, last_run, running, launcher, waits) = SHARED.read(|state| {
        let at_work =
            |s: &&crate::shared::Slot| s.phase != Phase::Free && s.current().job().is_some();
        let running = state.used_slots().iter().filter(at_work).count();
        (
            state.items_processed,
            state.last_run,
            running,
            state.launcher_pid,
            state.waits_for_slot(0, 0, now),
        )
    })?;
    let status = match (launcher, settings::ENABLED.get(), running) {
        (0, ..) => "launcher not running".to_string(),
        (_, false, 0) => "disabled".to_string(),
        (_, false, n) => format!("disabled, {n} running"),
        (_, _, 0) if waits => WAITS_FOR_SLOT.to_string(),
        (_, _, 0) => "idle".to_string(),
        (_, _, n) if waits => format!("running {n}, {WAITS_FOR_SLOT}"),
        (_, _, n) => format!("running {n}"),
    };
    Some(Totals {
        items_processed,
        last_run,
        status,
    })
}
