//! Waiting for a job to end, without polling: the waiter sleeps on its latch, and the worker that
//! ends a job wakes those who wait for it.

use crate::pg::datum::{Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::{
    INVALID_PARAMETER_VALUE, OBJECT_IN_USE, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result,
};
use crate::pg::spi::{Row, Rows, Statement};
use crate::pg::{bgworker, clock, identity, latch, owed, wait_event, xact};
use crate::shared::{self, Kind, Phase, SHARED, Slot, own};

use super::{as_owner, extension, queues, served};

/// Of an id, the job that has not ended, and all that have. One in a dead-letter queue has failed.
static STATUS: Statement = Statement::new(
    "SELECT q.xmin, CASE WHEN q.status = 'failed' OR q.origin IS NOT NULL THEN 'failed' END, \
     q.owner, q.xmax, NULL::pg_catalog.timestamptz, \
     q.handler IS NOT NULL OR q.command IS NOT NULL, n.handler IS NOT NULL, NULL::pg_catalog.xid FROM my_worker._jobs AS q \
     LEFT JOIN my_worker.queues AS n ON n.name = q.queue \
     WHERE q.id = $1 \
     UNION ALL SELECT NULL, h.status, h.owner, NULL, h.finished_at, NULL, NULL, h.xmin \
     FROM my_worker.history AS h WHERE h.id = $1",
    &[types::INT8],
);

/// The last id that the table's sequence has given; NULL before the first.
static LAST_ID: Statement = Statement::new(
    "SELECT CASE WHEN s.is_called THEN s.last_value END FROM my_worker._jobs_id_seq AS s",
    &[],
);

static BLOCKED_BY_ME: Statement = Statement::new(
    "SELECT pg_catalog.pg_backend_pid() = \
     ANY (pg_catalog.pg_blocking_pids($1))",
    &[types::INT4],
);

/// After a sleep of this length a waiter looks whether it blocks the job itself.
const DEADLOCK_LOOK: Micros = 900_000;

/// What is known of a job. Jobs of roles whose rights the caller does not have are unknown to it.
enum Known {
    /// Waiting or running.
    Live {
        /// It is held for a consumer: no worker will run it.
        is_held: bool,
    },
    /// Ended with this status.
    Ended(Vec<u8>),
    /// There is no trace of it.
    Nothing,
}

/// Waits until the job has ended and answers its status; `None` on time-out. `timeout` in
/// microseconds.
pub fn wait(job: i64, timeout: Option<Micros>) -> Result<Option<Vec<u8>>> {
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    if own::job() == Some(job) {
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
    let (mut seen, mut checked) = (false, false);
    loop {
        match look(job)? {
            Known::Ended(status) => return Ok(Some(status)),
            Known::Nothing => {
                if !seen {
                    refuse_never_given(job)?;
                }
                return Ok(Some(b"completed".to_vec()));
            }
            Known::Live { is_held } => {
                seen = true;
                if !is_held && !std::mem::replace(&mut checked, true) {
                    refuse_hopeless(job)?;
                }
            }
        }
        let left = deadline.map(|deadline| deadline.saturating_sub(clock::now()));
        if left.is_some_and(|left| left <= 0) {
            return Ok(None);
        }
        // Nobody wakes us for what COMMIT PREPARED or a DELETE by hand ends, so look now and then.
        let most = if woken { 1_000 } else { 50 };
        let ms = left.map_or(most, |left| (left + 999) / 1000).min(most);
        let since = clock::now();
        latch::wait(Some(ms), wait_event::job_wait())?;
        if clock::now().saturating_sub(since) >= DEADLOCK_LOOK {
            refuse_deadlock(job)?;
            checked = false;
        }
    }
}

/// An id that no job ever had is a mistake of the caller's. Whether there is such a job of another
/// role does not show: it is gone without a trace, too.
fn refuse_never_given(job: i64) -> Result<()> {
    let extension = extension()?;
    let last = as_owner(&extension, |spi| {
        let rows = spi.run(&LAST_ID, &[])?;
        Ok(rows.first().and_then(|row| row.i64(1)))
    })?;
    if job >= 1 && last.is_some_and(|last| job <= last) {
        return Ok(());
    }
    Err(
        PgError::new(INVALID_PARAMETER_VALUE, format!("job {job} does not exist"))
            .detail("No job has had this id yet.")
            .hint("Pass the id that my_worker.enqueue() or INSERT ... RETURNING id gave."),
    )
}

/// Nobody would ever run the job, and the caller would wait for nothing.
fn refuse_hopeless(job: i64) -> Result<()> {
    let reason = match bgworker::in_recovery() {
        true if bgworker::replay_is_paused() => Some((
            "the replay of WAL is paused on this standby".to_string(),
            "Jobs run on the primary server. See pg_wal_replay_resume().".to_string(),
        )),
        true => None,
        false if has_worker(job) => None,
        false => served::unserved()?,
    };
    match reason {
        None => Ok(()),
        Some((reason, hint)) => Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot wait for job {job}: {reason}"),
        )
        .hint(hint)),
    }
}

/// Whether a process has the job, as one of `launch_dynamic_worker()` may in any database.
fn has_worker(job: i64) -> bool {
    let database = bgworker::my_database();
    let of_job = |slot: &&Slot| {
        slot.phase != Phase::Free
            && slot.database == database
            && (slot.current().job() == Some(job) || slot.kind == Kind::Dynamic && slot.task == job)
    };
    SHARED
        .read(|state| state.used_slots().iter().any(|slot| of_job(&slot)))
        .unwrap_or(false)
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
            let Some(row) = newest_of(&rows, caller)? else {
                return Ok(Known::Nothing);
            };
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
            // The caller may tell the world that the job has ended.
            if let Some(end) = row.oid(8) {
                owed::flush_commit_of(end)?;
            }
            Ok(match row.text(2)? {
                Some(status) => Known::Ended(status),
                None => Known::Live {
                    is_held: queues::is_held(row.bool(6), row.bool(7)),
                },
            })
        })
    })
}

/// The row that counts, of those whose owners' rights the caller has: the job that has not ended, else
/// the one that ended last.
fn newest_of<'a>(rows: &Rows<'a>, caller: Oid) -> Result<Option<Row<'a>>> {
    let mut newest: Option<Row<'_>> = None;
    for row in rows.iter() {
        if !identity::has_rights_of(caller, row.oid(3).unwrap_or(0))? {
            continue;
        }
        let ended = |row: &Row<'_>| row.i64(5).unwrap_or(i64::MAX);
        if newest
            .as_ref()
            .is_none_or(|known| ended(&row) > ended(known))
        {
            newest = Some(row);
        }
    }
    Ok(newest)
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
/// named before. True if a job is watched only from now on: it may have ended since the caller looked. A job that
/// finds no place is not watched: its end is found by a look after a nap.
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
        for waiter in state.waiters.iter_mut().filter(|waiter| waiter.pid == pid) {
            if !jobs.clone().any(|job| *job == waiter.job) {
                waiter.pid = 0;
            }
        }
        let mut is_new = false;
        for job in jobs {
            let is_watched = |w: &shared::Waiter| w.pid == pid && w.job == *job;
            if state.waiters.iter().any(is_watched) {
                continue;
            }
            let Some(place) = state.waiters.iter_mut().find(|waiter| waiter.pid == 0) else {
                break;
            };
            *place = shared::Waiter {
                pid,
                procno,
                database,
                job: *job,
                is_keeper: true,
            };
            is_new = true;
        }
        is_new
    });
    is_new.unwrap_or(false)
}

/// `text` or NULL, as SQL wants it.
pub fn status_datum(status: Option<Vec<u8>>) -> Result<Option<Datum<'static>>> {
    status
        .as_deref()
        .map(crate::pg::datum::text_datum)
        .transpose()
}
