//! Waiting for a job to end, without polling: the waiter sleeps on its latch, and the worker that
//! ends a job wakes those who wait for it.

use crate::execute::Tally;
use crate::pg::datum::{Datum, Micros, ToDatum, types};
use crate::pg::error::{OBJECT_IN_USE, PgError, Result};
use crate::pg::spi::Statement;
use crate::pg::{bgworker, clock, identity, latch, wait_event, xact};
use crate::shared::{self, SHARED};
use crate::worker;

use super::{as_owner, extension, wake};

static STATUS: Statement = Statement::new(
    "SELECT q.xmin, CASE WHEN q.status OPERATOR(pg_catalog.=) 'failed' THEN q.status END, \
     q.owner, q.xmax FROM @queue@ AS q \
     WHERE q.id OPERATOR(pg_catalog.=) $1 \
     UNION ALL SELECT NULL, h.status, h.owner, NULL FROM my_worker.history AS h \
     WHERE h.id OPERATOR(pg_catalog.=) $1",
    &[types::INT8],
);

static BLOCKED_BY_ME: Statement = Statement::new(
    "SELECT pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) \
     ANY (pg_catalog.pg_blocking_pids($1))",
    &[types::INT4],
);

/// After a sleep of this length a waiter looks whether it blocks the job itself.
const DEADLOCK_LOOK: Micros = 900_000;

/// What is known of a job.
enum Known {
    /// Waiting or running.
    Live,
    /// Ended with this status; also a job without a trace.
    Ended(Vec<u8>),
}

/// Waits until the job has ended and answers its status; `None` on time-out. `timeout` in
/// microseconds.
pub fn wait(job: i64, timeout: Option<Micros>) -> Result<Option<Vec<u8>>> {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    if worker::current_job() == Some(job) {
        return Err(PgError::new(
            OBJECT_IN_USE,
            format!("cannot wait for job {job}: it is the one that waits"),
        ));
    }
    let deadline = timeout.map(|timeout| clock::now().saturating_add(timeout.max(0)));
    let place = take_place(job);
    let result = wait_in(job, deadline, place.is_some());
    leave_place();
    result
}

fn wait_in(job: i64, deadline: Option<Micros>, woken: bool) -> Result<Option<Vec<u8>>> {
    loop {
        match look(job)? {
            Known::Ended(status) => return Ok(Some(status)),
            Known::Live => {}
        }
        let left = deadline.map(|deadline| deadline.saturating_sub(clock::now()));
        if left.is_some_and(|left| left <= 0) {
            return Ok(None);
        }
        // Nobody wakes us for what a keeper or another session ends, so look now and then.
        let most = if woken { 1_000 } else { 50 };
        let ms = left.map_or(most, |left| (left + 999) / 1000).min(most);
        let since = clock::now();
        latch::wait(Some(ms), wait_event::job_wait())?;
        if clock::now().saturating_sub(since) >= DEADLOCK_LOOK {
            refuse_deadlock(job)?;
        }
    }
}

/// A job that waits for a lock or a snapshot of this very session would never end. The server's
/// own detector does not see it, since this session sleeps on no lock.
fn refuse_deadlock(job: i64) -> Result<()> {
    let database = bgworker::my_database();
    let pid = SHARED.read(|state| state.slot_of_job(database, job).map(|slot| slot.pid));
    let Some(pid) = pid.flatten() else {
        return Ok(());
    };
    let blocked = as_owner(&extension()?, |spi| {
        Ok(spi
            .run(&BLOCKED_BY_ME, &[Some(pid.datum())])?
            .first()
            .is_some_and(|row| row.bool(1)))
    })?;
    if !blocked {
        return Ok(());
    }
    Err(PgError::new(
        OBJECT_IN_USE,
        format!("cannot wait for job {job}: it waits for this session's own transaction"),
    )
    .detail(
        "The job needs a lock, or as CREATE INDEX CONCURRENTLY the end of a snapshot, that this \
             session holds.",
    )
    .hint("End the transaction, and look at my_worker.jobs instead of waiting in a statement."))
}

/// Looks with a snapshot of this moment, whatever the isolation level.
fn look(job: i64) -> Result<Known> {
    let caller = identity::current_role();
    xact::with_latest_snapshot(|| {
        as_owner(&extension()?, |spi| {
            let rows = spi.read(&STATUS, &[Some(job.datum())])?;
            let Some(row) = rows.first() else {
                return Ok(Known::Ended(b"completed".to_vec()));
            };
            super::manage::check_owner(caller, row.oid(3).unwrap_or(0), job)?;
            if row.oid(1).is_some_and(xact::is_own) {
                return Err(PgError::new(
                    OBJECT_IN_USE,
                    format!("cannot wait for job {job}: this transaction has enqueued it"),
                )
                .hint("The job starts after COMMIT; wait for it in the next transaction."));
            }
            // The caller has locked the job's row.
            if row.oid(4).is_some_and(xact::is_own) {
                return Err(PgError::new(
                    OBJECT_IN_USE,
                    format!("cannot wait for job {job}: this transaction holds it"),
                ));
            }
            Ok(match row.text(2)? {
                Some(status) => Known::Ended(status),
                None => Known::Live,
            })
        })
    })
}

/// Registers this session as a waiter; `None` if all places are taken.
fn take_place(job: i64) -> Option<usize> {
    let (database, procno, pid) = (
        bgworker::my_database(),
        latch::my_procno(),
        bgworker::my_pid(),
    );
    SHARED
        .write(|state| {
            // A session that died while it waited has left its place behind.
            let index = state
                .waiters
                .iter()
                .position(|waiter| waiter.pid == pid)
                .or_else(|| state.waiters.iter().position(|waiter| waiter.pid == 0))
                .or_else(|| {
                    state
                        .waiters
                        .iter()
                        .position(|waiter| !bgworker::is_alive(waiter.pid))
                })?;
            let waiter = state.waiters.get_mut(index)?;
            *waiter = shared::Waiter {
                pid,
                procno,
                database,
                job,
                is_keeper: false,
            };
            Some(index)
        })
        .flatten()
}

fn leave_place() {
    let pid = bgworker::my_pid();
    SHARED.write(|state| {
        for waiter in state.waiters.iter_mut().filter(|waiter| waiter.pid == pid) {
            waiter.pid = 0;
        }
    });
}

/// For the keeper: it shall look when one of these jobs has ended, and no longer for those that it
/// named before. What finds no place is found by its looks after naps. True if a job is watched
/// only from now on: it may have ended since the caller looked.
pub fn watch(jobs: &[i64]) -> bool {
    let (database, procno, pid) = (
        bgworker::my_database(),
        latch::my_procno(),
        bgworker::my_pid(),
    );
    let watching = SHARED.read(|state| state.waiters.iter().any(|waiter| waiter.pid == pid));
    if jobs.is_empty() && watching != Some(true) {
        return false;
    }
    // Sessions that wait need places, too.
    let jobs = jobs.iter().take(shared::WAITERS / 2);
    let is_new = SHARED.write(|state| {
        let known = |job: i64| move |w: &shared::Waiter| w.pid == pid && w.job == job;
        let is_new = jobs
            .clone()
            .any(|job| !state.waiters.iter().any(known(*job)));
        for waiter in state.waiters.iter_mut().filter(|waiter| waiter.pid == pid) {
            waiter.pid = 0;
        }
        let free = state.waiters.iter_mut().filter(|waiter| waiter.pid == 0);
        for (place, job) in free.zip(jobs) {
            *place = shared::Waiter {
                pid,
                procno,
                database,
                job: *job,
                is_keeper: true,
            };
        }
        is_new
    });
    is_new.unwrap_or(false)
}

/// The keeper shall look at COMMIT if it waits for the end of this job, which was cancelled.
pub fn tell_keeper(job: i64) -> Result<()> {
    let database = bgworker::my_database();
    let watched = SHARED.read(|state| {
        let mut keepers = state.waiters.iter().filter(|w| w.pid != 0 && w.is_keeper);
        keepers.any(|w| w.database == database && w.job == job)
    });
    match watched {
        Some(true) => wake::look_at_commit(),
        _ => Ok(()),
    }
}

/// Wakes those who wait for the jobs of a batch that has committed.
pub fn tell_waiters(tally: &Tally) {
    let database = bgworker::my_database();
    let mut wake = [-1i32; shared::WAITERS];
    let mut keeper = false;
    SHARED.read(|state| {
        let waiting = state
            .waiters
            .iter()
            .filter(|waiter| waiter.pid != 0 && waiter.database == database);
        for (place, waiter) in wake.iter_mut().zip(waiting) {
            let ended =
                |s: &&crate::execute::Settled| s.job == waiter.job && worker::is_final(s.outcome);
            if tally.settled.iter().any(|s| ended(&s)) {
                *place = waiter.procno;
                keeper |= waiter.is_keeper;
            }
        }
    });
    if keeper {
        SHARED.write(|state| state.ask_look(database));
    }
    wake.into_iter()
        .filter(|procno| *procno >= 0)
        .for_each(latch::wake);
}

/// `text` or NULL, as SQL wants it.
pub fn status_datum(status: Option<Vec<u8>>) -> Result<Option<Datum>> {
    status
        .as_deref()
        .map(crate::pg::datum::text_datum)
        .transpose()
}
