//! `why()`: the first reason, from the job outward, for which a job is not running.
//!
//! Says what holds at the moment of the call, from the job's row, its queue's settings and shared
//! memory; takes no lock, and works on a standby.

use super::{WAITS_FOR_SLOT, waits};
use crate::consume;
use crate::pg::catalog::{self, Barred, Extension, Fit};
use crate::pg::datum::{self, Micros, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::{Spi, Statement};
use crate::pg::{bgworker, clock, identity, xact};
use crate::queue::after;
use crate::queue::handler::quoted;
use crate::queue::home;
use crate::queue::queues::{self, Queue};
use crate::queue::{any_extension, as_owner, extension};
use crate::queue::{rates, rerun};
use crate::settings;
use crate::shared::{Kind, Phase, SHARED, consumers};

static LIVE: Statement = Statement::new(
    "SELECT q.owner, q.queue, q.status = 'processing', q.run_at, \
     q.run_at::pg_catalog.text, (q.handler IS NOT NULL OR q.command IS NOT NULL) AND q.origin IS NULL, q.attempts, \
     (SELECT l.pid FROM pg_catalog.pg_locks AS l \
     WHERE l.locktype = 'transactionid' AND l.granted \
     AND l.mode = 'ExclusiveLock' \
     AND l.transactionid = q.xmax LIMIT 1), \
     q.status = 'failed', q.lease IS NOT NULL, q.group_key, q.origin, q.status = 'blocked', \
     q.expires_at <= pg_catalog.clock_timestamp(), q.rerun FROM my_worker._jobs AS q WHERE q.id = $1",
    &[types::INT8],
);

static FINISHED: Statement = Statement::new(
    "SELECT h.owner, h.status, h.finished_at::pg_catalog.text FROM my_worker.history AS h \
     WHERE h.id = $1 ORDER BY h.finished_at DESC LIMIT 1",
    &[types::INT8],
);

static TIME: Statement = Statement::new("SELECT $1::pg_catalog.text", &[types::TIMESTAMPTZ]);

/// What the row of a job that has not ended says.
struct Live {
    owner: Oid,
    queue: Vec<u8>,
    claimed: bool,
    run_at: Micros,
    run_at_text: String,
    says_itself: bool,
    attempts: i32,
    locked_by: Option<i32>,
    has_failed: bool,
    is_leased: bool,
    group_key: Option<Vec<u8>>,
    /// Where it failed, if it stands in a dead-letter queue.
    origin: Option<Vec<u8>>,
    is_blocked: bool,
    is_expired: bool,
    is_rerun: bool,
}

/// What shared memory says of a job, its queue and its role.
#[derive(Clone, Copy, Default)]
struct Pool {
    launcher: i32,
    /// Other databases that have the extension have all entries.
    left_out: bool,
    /// The process that runs the job, and since when.
    runs_in: Option<(i32, Micros)>,
    /// Jobs of its queue that run.
    in_queue: usize,
    /// Workers at work, and those of any state that could take the job once they are free.
    busy: usize,
    of_role: usize,
    free_slot: bool,
    /// Its role's workers in all databases.
    of_role_anywhere: usize,
    /// A worker for its role could not be started; tried again soon.
    refused: bool,
    /// The server has no free slot for a worker of its role.
    no_slot: bool,
}

/// The answer, for a caller who may know; by a snapshot of this moment.
pub fn why(job: i64) -> Result<Vec<u8>> {
    xact::with_latest_snapshot(|| look(job))
}

fn look(job: i64) -> Result<Vec<u8>> {
    let what = match any_extension()?.fit {
        Fit::Incomplete => Some("a table or an index of the extension is missing or invalid"),
        Fit::Altered(_) => Some("a column of a table of the extension was altered"),
        Fit::Good | Fit::OtherVersion => None,
    };
    if let Some(what) = what {
        return Ok(format!("no job runs: {what}, see my_worker.health()").into_bytes());
    }
    let extension = extension()?;
    let caller = identity::current_role();
    let live = as_owner(&extension, |spi| find_live(spi, job))?;
    let Some(live) = live else {
        return finished(&extension, caller, job);
    };
    if !consume::may_consume(&extension, caller, live.owner, &live.queue)? {
        return Ok(unknown(job));
    }
    if let Some(reason) = leased(&extension, job, &live)? {
        return Ok(reason.into_bytes());
    }
    if live.has_failed {
        return Ok(b"finished: failed, and set aside, as its end could not be written".to_vec());
    }
    let name = datum::text_datum(&live.queue)?;
    let Some(queue) = queues::find(&extension, name)? else {
        return Ok(quoted("queue ", &live.queue, " does not exist"));
    };
    let pool = pool(job, queue.id, live.owner);
    if let Some((pid, since)) = pool.runs_in {
        let since = as_owner(&extension, |spi| time_text(spi, since))?;
        return Ok(format!("running since {since} in process {pid}").into_bytes());
    }
    if let Some(reason) = nobody_runs(&pool)? {
        return Ok(reason.into_bytes());
    }
    if let Some(reason) = barred_by_others(&extension, job, &live)? {
        return Ok(reason.into_bytes());
    }
    if let Some(reason) = held(&live, &queue, &pool) {
        return Ok(reason);
    }
    if let Some(reason) = limited(&extension, live.owner, &queue, live.group_key.as_deref())? {
        return Ok(reason);
    }
    if let Some(reason) = for_consumers(&live, &queue) {
        return Ok(reason);
    }
    if let Some(reason) = barred(live.owner)? {
        return Ok(reason.into_bytes());
    }
    if let Some(reasons) = waits::waits_for(job)? {
        return Ok([b"waits for ", reasons.as_slice()].concat());
    }
    Ok(no_worker(&live, &pool).into_bytes())
}

/// The same for a job of somebody else and for one that never was: nobody learns which.
fn unknown(job: i64) -> Vec<u8> {
    format!("job {job} is unknown, or belongs to another role").into_bytes()
}

fn find_live(spi: &Spi, job: i64) -> Result<Option<Live>> {
    let rows = spi.read(&LIVE, &[Some(job.datum())])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default());
    Ok(Some(Live {
        owner: row.oid(1).unwrap_or(0),
        queue: row.text(2)?.unwrap_or_default(),
        claimed: row.bool(3),
        run_at: row.i64(4).unwrap_or(0),
        run_at_text: text(row.text(5)?).unwrap_or_default(),
        says_itself: row.bool(6),
        attempts: row.i32(7).unwrap_or(0),
        locked_by: row.i32(8),
        has_failed: row.bool(9),
        is_leased: row.bool(10),
        group_key: row.text(11)?,
        origin: row.text(12)?,
        is_blocked: row.bool(13),
        is_expired: row.bool(14),
        is_rerun: row.bool(15),
    }))
}

fn finished(extension: &Extension, caller: Oid, job: i64) -> Result<Vec<u8>> {
    let found = as_owner(extension, |spi| {
        let rows = spi.read(&FINISHED, &[Some(job.datum())])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let owner = row.oid(1).unwrap_or(0);
        Ok(Some((owner, row.text(2)?, row.text(3)?)))
    })?;
    let Some((owner, Some(status), Some(at))) = found else {
        return Ok(unknown(job));
    };
    if !identity::has_rights_of(caller, owner)? {
        return Ok(unknown(job));
    }
    Ok([b"finished: ", status.as_slice(), b" at ", &at].concat())
}

fn time_text(spi: &Spi, time: Micros) -> Result<String> {
    let rows = spi.read(&TIME, &[Some(time.datum())])?;
    let text = rows.first().map(|row| row.text(1)).transpose()?.flatten();
    Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned())
}

fn pool(job: i64, queue: i32, owner: Oid) -> Pool {
    let (database, now) = (bgworker::my_database(), clock::now());
    let look = |state: &crate::shared::State| {
        let mut pool = Pool {
            launcher: state.launcher_pid,
            left_out: state.is_left_out(database),
            in_queue: state.running_in_queue(database, queue),
            ..Pool::default()
        };
        if let Some(slot) = state.slot_of_job(database, job) {
            let since = slot.job_started();
            pool.runs_in = Some((slot.pid, since));
        }
        for slot in &state.slots {
            pool.free_slot |= slot.phase == Phase::Free;
            pool.busy += usize::from(slot.phase == Phase::Running && slot.kind == Kind::Worker);
            pool.of_role += usize::from(slot.serves(Kind::Worker, database, owner));
        }
        pool.of_role_anywhere = state.workers_of(owner);
        pool.no_slot = state.waits_for_slot(database, owner, now);
        let lane = |l: &&crate::shared::Lane| l.database == database && l.role == owner;
        let lane = state.lanes.iter().find(lane);
        pool.refused = lane.is_some_and(|lane| lane.pending && lane.retry_at > now);
        pool
    };
    SHARED.read(look).unwrap_or_default()
}

/// Why no job of this database runs at all.
fn nobody_runs(pool: &Pool) -> Result<Option<String>> {
    if bgworker::in_recovery() {
        let reason = "the server is a standby: jobs run on the primary server";
        return Ok(Some(reason.to_string()));
    }
    if !SHARED.is_attached() {
        let reason = "my_worker was not loaded when the server started: add it to \
                      shared_preload_libraries and restart";
        return Ok(Some(reason.to_string()));
    }
    if !settings::serves(&catalog::current_database()?) {
        let reason = match settings::list_was_refused() {
            true => {
                "no database is served: the value of my_worker.database was refused, see the server log"
            }
            false => "this database is not served: my_worker.database does not name it",
        };
        return Ok(Some(reason.to_string()));
    }
    Ok(match (settings::ENABLED.get(), pool.launcher) {
        (false, _) => Some("workers are disabled: my_worker.enabled is off".to_string()),
        (_, 0) => Some("the launcher is not running".to_string()),
        _ if home::is_known_copy() => {
            Some("this database is a copy of another one, see my_worker.adopt()".to_string())
        }
        _ if pool.left_out => Some(
            "this database has no place: others with the extension have all (my_worker.database)"
                .to_string(),
        ),
        _ => None,
    })
}

/// Who has the job, if a consumer has it.
fn leased(extension: &Extension, job: i64, live: &Live) -> Result<Option<String>> {
    if live.is_leased {
        let until = &live.run_at_text;
        return Ok(Some(format!("held by a consumer until {until}")));
    }
    let Some(lease) = consumers::of_job(extension.jobs, job) else {
        return Ok(None);
    };
    if !lease.is_valid() {
        let reason = "its consumer has lost it: the keeper will charge the attempt";
        return Ok(Some(reason.to_string()));
    }
    let since = as_owner(extension, |spi| time_text(spi, lease.since))?;
    let pid = lease.pid;
    Ok(Some(format!(
        "held by a consumer since {since} in process {pid}"
    )))
}

/// Whether it waits for other jobs, or was waited for in vain.
fn barred_by_others(extension: &Extension, job: i64, live: &Live) -> Result<Option<String>> {
    if live.is_expired {
        return Ok(Some(
            "it has expired: the keeper will cancel it".to_string(),
        ));
    }
    if live.is_rerun
        && let Some(reason) = rerun::waits_for(extension, job)?
    {
        return Ok(Some(reason));
    }
    match live.is_blocked {
        true => after::waits_for(extension, job).map(Some),
        false => Ok(None),
    }
}

/// What holds the job itself or its queue back.
fn held(live: &Live, queue: &Queue, pool: &Pool) -> Option<Vec<u8>> {
    if live.claimed {
        let reason = "the command was claimed by a process that is gone: the keeper will settle it";
        return Some(reason.into());
    }
    if queue.paused {
        return Some(quoted("queue ", &queue.name, " is paused"));
    }
    if live.run_at > clock::now() {
        let at = &live.run_at_text;
        let reason = match live.attempts {
            0 => format!("due later, at {at}"),
            1 => format!("due again at {at}, after 1 failed attempt"),
            failed => format!("due again at {at}, after {failed} failed attempts"),
        };
        return Some(reason.into_bytes());
    }
    if let Some(pid) = live.locked_by {
        return Some(format!("its row is locked by process {pid}").into_bytes());
    }
    let limit = queue.concurrency.and_then(|n| usize::try_from(n).ok());
    limit.filter(|limit| pool.in_queue >= *limit).map(|limit| {
        let rest = format!(" is full: {} of {limit} jobs run", pool.in_queue);
        quoted("queue ", &queue.name, &rest)
    })
}

/// Whether it is for consumers.
fn for_consumers(live: &Live, queue: &Queue) -> Option<Vec<u8>> {
    if !queue.holds(live.says_itself) {
        return None;
    }
    Some(match &live.origin {
        Some(origin) => {
            let failed = quoted("failed in queue ", origin, ", and waits in queue ");
            let rest = " for a consumer, or for my_worker.redrive()";
            [failed, quoted("", &queue.name, rest)].concat()
        }
        None => {
            let rest = " has a handler: it is held for other consumers";
            quoted("neither the job nor queue ", &queue.name, rest)
        }
    })
}

/// Whether the queue's rate holds it back.
fn limited(
    extension: &Extension,
    owner: Oid,
    queue: &Queue,
    group_key: Option<&[u8]>,
) -> Result<Option<Vec<u8>>> {
    let group_key = group_key.map(datum::text_datum).transpose()?;
    let Some(reason) = rates::reason(queue, owner, group_key)? else {
        return Ok(None);
    };
    let at = as_owner(extension, |spi| time_text(spi, reason.next))?;
    let rest = format!(" {}: next start at {at}", reason.words());
    Ok(Some(quoted("queue ", &queue.name, &rest)))
}

/// Why no job of its owner can run.
fn barred(owner: Oid) -> Result<Option<String>> {
    let name = identity::role_name(owner)?;
    Ok(match catalog::barred(owner)? {
        Some(Barred::Gone) => Some("its owner was dropped".to_string()),
        Some(Barred::NoLogin) => Some(format!("role \"{name}\" is not permitted to log in")),
        Some(Barred::NoConnect) => Some(format!(
            "role \"{name}\" is not permitted to connect to the database"
        )),
        None if !settings::SUPERUSER_JOBS.get() && identity::role_is_superuser(owner)? => Some(
            format!("role \"{name}\" is a superuser, and my_worker.superuser_jobs is off"),
        ),
        None => None,
    })
}

/// It could run: is there anybody to run it?
fn no_worker(live: &Live, pool: &Pool) -> String {
    let most = usize::try_from(settings::MAX_WORKERS.get()).unwrap_or(0);
    let cap = usize::try_from(settings::MAX_WORKERS_PER_ROLE.get()).unwrap_or(0);
    if pool.no_slot {
        return WAITS_FOR_SLOT.to_string();
    }
    if pool.refused {
        return "a worker could not be started: see the server log".to_string();
    }
    if cap != 0 && pool.of_role_anywhere >= cap {
        let has = pool.of_role_anywhere;
        return format!(
            "its role has as many workers as it may have: {has} of {cap} (my_worker.max_workers_per_role)"
        );
    }
    if pool.busy > most {
        return format!(
            "no worker is free: {most} of {most} are busy, and the one beyond them that is for roles \
             without a worker (my_worker.max_workers)"
        );
    }
    if pool.busy >= most {
        return format!("no worker is free: {most} of {most} are busy (my_worker.max_workers)");
    }
    if pool.of_role == 0 && !pool.free_slot {
        return "no slot is free for another worker".to_string();
    }
    let again = if live.attempts > 0 { " again" } else { "" };
    format!("due{again}, and waits its turn")
}
