//! What runs now, as the views show it, and what a job says of itself while it runs.

use std::collections::BTreeMap;

use crate::logic::consumers::lease::JobKey;
use crate::logic::consumers::waiting::WAITING;
use crate::pg::bgworker;
use crate::pg::datum::{self, Micros, Oid};
use crate::pg::error::{
    INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result,
};
use crate::pg::fmgr::{Call, Execution};
use crate::pg::identity;
use crate::pg::local::Local;
use crate::queue::extension;
use crate::shared::{Kind, MESSAGE_BYTES, NAME_BYTES, Phase, SHARED, SLOTS, Text, consumers, own};
use crate::stats::sight::Sight;

/// A job that runs in this database.
#[derive(Clone)]
pub struct Running {
    /// Its id.
    pub id: i64,
    /// Its owner.
    pub owner: Oid,
    /// The process that runs it.
    pub pid: i32,
    /// When the attempt began.
    pub started: Micros,
    /// What it reported last, 0 to 100.
    pub percent: Option<f32>,
    /// Its words, if any.
    pub message: Text<MESSAGE_BYTES>,
    /// The process is the session of a consumer.
    pub is_consumer: bool,
}

/// A process of ours, or one that was asked for.
pub struct Process {
    /// `None` for the launcher.
    pub slot: Option<i32>,
    /// 0 while it is being started.
    pub pid: i32,
    /// `launcher`, `worker`, `keeper` or `dynamic`.
    pub kind: &'static str,
    /// Where it works; 0 for the launcher.
    pub database: Oid,
    /// As whom; 0 for none.
    pub role: Oid,
    /// What it is at.
    pub state: &'static str,
    /// The job that it runs.
    pub job: Option<i64>,
    /// That job's queue; empty for none.
    pub queue: Text<NAME_BYTES>,
    /// For sessions of consumers: the queue's number; 0: several.
    pub queue_id: i32,
    /// When the job began.
    pub job_started: Micros,
    /// Jobs that it has finished; `None` if the caller may not know.
    pub jobs_done: Option<i64>,
    /// When it was asked for.
    pub started: Micros,
}

/// `progress()`: only within a job.
pub fn report(percent: f32, message: Option<&[u8]>) -> Result<()> {
    let outside = || {
        PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "progress() can only be called within a job",
        )
    };
    own::job().ok_or_else(outside)?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(PgError::new(
            INVALID_PARAMETER_VALUE,
            "percent must be between 0 and 100",
        ));
    }
    let message = message.unwrap_or_default();
    let length = datum::clip_length(message, MESSAGE_BYTES);
    // Nobody else sees a job that this session performs.
    let Some(slot) = own::slot().filter(|_| !own::performs()) else {
        return Ok(());
    };
    SHARED.write(|state| {
        if let Some(slot) = state.slot(slot) {
            slot.progress = percent;
            slot.message.set(message.get(..length).unwrap_or_default());
        }
    });
    Ok(())
}

/// What ran when an execution of a statement asked first, sorted by id.
static LOOKS: Local<Vec<(Execution, Vec<Running>)>> = Local::new(Vec::new());

/// Looks at the jobs that run here and belong to roles whose rights the caller has. All that one
/// execution of a statement asks is answered by one look, so the parts of a view never see a job
/// twice, or not at all, because it started or ended in between.
pub fn look<R>(call: &Call, with: impl FnOnce(&[Running]) -> R) -> Result<R> {
    let execution = call.execution();
    let known = LOOKS.with(|looks| looks.iter().any(|(of, _)| *of == execution));
    if !known {
        let caller = identity::current_role();
        let mut jobs = Vec::new();
        for job in running() {
            if identity::has_rights_of(caller, job.owner)? {
                jobs.push(job);
            }
        }
        jobs.sort_unstable_by_key(|job| job.id);
        execution.at_end(forget_look)?;
        LOOKS.with(|looks| looks.push((execution, jobs)));
    }
    Ok(LOOKS.with(|looks| {
        let found = looks.iter().find(|(of, _)| *of == execution);
        with(found.map(|(_, jobs)| jobs.as_slice()).unwrap_or_default())
    }))
}

fn forget_look(execution: Execution) {
    LOOKS.with(|looks| looks.retain(|(of, _)| *of != execution));
}

/// The jobs that run in this database now.
fn running() -> Vec<Running> {
    let database = bgworker::my_database();
    // Room for all before the lock: nothing allocates under it.
    let mut jobs = Vec::with_capacity(SLOTS);
    SHARED.read(|state| {
        for slot in state.slots.iter().filter(|slot| slot.database == database) {
            let Some(id) = slot.current().job().filter(|_| slot.phase != Phase::Free) else {
                continue;
            };
            jobs.push(Running {
                id,
                owner: slot.role,
                pid: slot.pid,
                started: slot.job_started(),
                percent: (slot.progress >= 0.0).then_some(slot.progress),
                message: slot.message,
                is_consumer: false,
            });
        }
    });
    jobs.extend(held_by_sessions(database));
    jobs
}

/// The jobs that sessions of consumers hold in this database.
fn held_by_sessions(database: Oid) -> Vec<Running> {
    let mut jobs = Vec::with_capacity(consumers::out());
    if jobs.capacity() == 0 {
        return jobs;
    }
    consumers::write(|consumers| {
        let room = jobs.capacity();
        let held = consumers.of_database(database);
        for lease in held.filter(|lease| lease.is_valid()).take(room) {
            let note = consumers.head.notes.get(lease.key, lease.token);
            jobs.push(Running {
                id: lease.key.job,
                owner: lease.owner,
                pid: lease.pid,
                started: lease.since,
                percent: note.map(|note| note.percent),
                message: note.map_or(Text::EMPTY, |note| note.message),
                is_consumer: true,
            });
        }
    });
    jobs
}

/// What the consumer of a job whose row holds the lease said last: the percentage and its words.
pub fn of_lease(job: i64, token: i64) -> Result<Option<(f32, Text<MESSAGE_BYTES>)>> {
    let key = JobKey {
        table: extension()?.jobs,
        job,
    };
    let found = consumers::write(|consumers| {
        let note = consumers.head.notes.get(key, token);
        note.map(|note| (note.percent, note.message))
    });
    Ok(found.flatten())
}

/// All processes, the launcher first. Who does not see the statistics of a role learns of its workers
/// what `pg_stat_activity` shows to all, and whether they are at work.
pub fn processes() -> Result<Vec<Process>> {
    let mut processes = all_processes();
    processes.extend(sessions());
    let sight = Sight::of_caller()?;
    for process in processes.iter_mut().filter(|_| !sight.is_full()) {
        if !sight.sees(process.role)? {
            process.job = None;
            process.queue = Text::EMPTY;
            process.queue_id = 0;
            process.job_started = 0;
            process.jobs_done = None;
        }
    }
    Ok(processes)
}

/// The sessions of consumers that hold jobs, or wait for some, of this database: one each.
fn sessions() -> Vec<Process> {
    let database = bgworker::my_database();
    let mut found = Vec::with_capacity(consumers::out() + WAITING);
    consumers::write(|consumers| {
        let room = found.capacity();
        let held = consumers
            .of_database(database)
            .filter(|lease| lease.is_valid());
        let held = held.map(|l| (l.pid, l.role, l.channel.queue, Some(l.key.job), l.since));
        let waiting = consumers.head.waiting.sessions(database);
        let waiting = waiting.map(|(pid, role, queue)| (pid, role, queue, None, 0));
        found.extend(held.chain(waiting).take(room));
    });
    let mut sessions: BTreeMap<i32, Process> = BTreeMap::new();
    for (pid, role, queue, job, since) in found {
        match sessions.get_mut(&pid) {
            None => {
                let session = session(pid, database, role, queue, job, since);
                sessions.insert(pid, session);
            }
            Some(known) => {
                if known.queue_id != queue {
                    known.queue_id = 0;
                }
                // Of several the one that it has had for longest.
                if job.is_some() && (known.job.is_none() || since < known.job_started) {
                    (known.job, known.job_started, known.state) = (job, since, "running");
                }
            }
        }
    }
    sessions.into_values().collect()
}

fn session(
    pid: i32,
    database: Oid,
    role: Oid,
    queue_id: i32,
    job: Option<i64>,
    since: Micros,
) -> Process {
    Process {
        slot: None,
        pid,
        kind: "consumer",
        database,
        role,
        state: if job.is_some() { "running" } else { "idle" },
        job,
        queue: Text::EMPTY,
        queue_id,
        job_started: since,
        jobs_done: None,
        started: 0,
    }
}

fn all_processes() -> Vec<Process> {
    let mut processes = Vec::with_capacity(SLOTS + 1);
    SHARED.read(|state| {
        if state.launcher_pid != 0 {
            processes.push(Process {
                slot: None,
                pid: state.launcher_pid,
                kind: "launcher",
                database: 0,
                role: 0,
                state: "running",
                job: None,
                queue: Text::EMPTY,
                queue_id: 0,
                job_started: 0,
                jobs_done: Some(0),
                started: state.launcher_since,
            });
        }
        for (index, slot) in state.slots.iter().enumerate() {
            if slot.phase == Phase::Free {
                continue;
            }
            processes.push(Process {
                slot: Some(index as i32 + 1),
                pid: slot.pid,
                kind: slot.kind.name(),
                database: slot.database,
                role: if slot.kind == Kind::Keeper {
                    0
                } else {
                    slot.role
                },
                state: slot.phase.name(),
                job: slot.current().job(),
                queue: slot.queue,
                queue_id: 0,
                job_started: slot.job_started(),
                jobs_done: Some(slot.jobs_done),
                started: slot.since,
            });
        }
    });
    processes
}
