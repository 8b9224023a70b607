//! One-shot workers of `launch_dynamic_worker`: run one job now, and exit.
//!
//! The caller's backend takes a slot, starts the process and answers its PID. The worker, logged in
//! as the job's owner, waits for the end of the caller's transaction: after COMMIT it takes the job
//! by the same path as every worker, after ROLLBACK it exits and nothing ran.

use crate::execute::{Batch, Memory, Tally, command};
use crate::pg::bgworker::{self, Handle, Status, Worker};
use crate::pg::catalog::Extension;
use crate::pg::datum::{Micros, Oid};
use crate::pg::error::{
    FEATURE_NOT_SUPPORTED, INSUFFICIENT_RESOURCES, OBJECT_IN_USE, OBJECT_NOT_IN_PREREQUISITE_STATE,
    PgError, READ_ONLY_SQL_TRANSACTION, Result, UNDEFINED_OBJECT,
};
use crate::pg::fault::fault;
use crate::pg::log::{self, Level};
use crate::pg::{activity, clock, guc, identity, latch, marks, session, wait_event, xact};
use crate::queue::bar;
use crate::queue::claim::{Candidate, Jobs};
use crate::queue::home;
use crate::queue::keys::{self, Admitted};
use crate::queue::single::{self, Standing};
use crate::queue::{extension, hold_extension, permit, queues, rates, report, wake};
use crate::settings;
use crate::shared::{self, Current, Go, Phase, Refused, SHARED, SlotId};
use crate::worker::blame::{Suspects, is_conflict};

/// `backend_type` of these workers, as in the tutorial.
const PROCESS_TYPE: &str = "dynamic_worker";

/// How often a launched worker looks whether its job's queue has a permit for it, in milliseconds.
const PERMIT_LOOK_MS: i64 = 20;

/// So often it looks, at least, while its queue's rate keeps it waiting, in milliseconds.
const RATE_LOOK_MS: i64 = 1_000;

/// How long a launch waits for an idle process of ours to leave, in microseconds.
const ROOM_LIMIT: i64 = 1_000_000;
/// How often it looks, in milliseconds.
const ROOM_LOOK_MS: i64 = 10;

/// Starts a worker for the job and answers its PID once it has started.
pub fn launch(job: i64) -> Result<i32> {
    if bgworker::in_recovery() {
        return Err(PgError::new(
            READ_ONLY_SQL_TRANSACTION,
            "cannot launch a dynamic worker during recovery",
        )
        .hint("Jobs run on the primary server."));
    }
    if !SHARED.is_attached() {
        return Err(shared::not_preloaded());
    }
    if !bgworker::under_postmaster() {
        return Err(PgError::new(
            FEATURE_NOT_SUPPORTED,
            "cannot launch a dynamic worker in single-user mode",
        ));
    }
    let found = find(job)?;
    home::refuse_copy()?;
    if let Some(reason) = bar::bar(found.owner)? {
        return Err(reason);
    }
    if !is_running(job) {
        check_runnable(job, &found)?;
        check_turn(job, &found)?;
    }
    let id = take_slot(job, found.owner)?;
    let result = start(id, job);
    if result.is_err() {
        shared::tell(|state| state.free_slot(id));
    }
    result
}

/// The job, if the caller has its owner's rights: another role's is answered for as one that is not
/// there.
fn find(job: i64) -> Result<Standing> {
    let caller = identity::current_role();
    match single::find(&extension()?, job)? {
        Some(found) if identity::has_rights_of(caller, found.owner)? => Ok(found),
        _ => Err(
            PgError::new(UNDEFINED_OBJECT, format!("job {job} does not exist"))
                .hint("Only jobs that wait in my_queue can be launched."),
        ),
    }
}

fn is_running(job: i64) -> bool {
    let database = bgworker::my_database();
    SHARED
        .read(|state| state.slot_of_job(database, job).is_some())
        .unwrap_or(false)
}

/// Refuses what a worker would pass over.
fn check_runnable(job: i64, found: &Standing) -> Result<()> {
    let (message, hint) = if found.is_claimed {
        (
            format!("job {job} was begun and is not settled"),
            "Its process is gone. The attempt is settled within a nap while \"my_worker.enabled\" is on.",
        )
    } else if found.has_failed {
        (
            format!("job {job} has failed"),
            "Send it back to the queue with my_worker.retry().",
        )
    } else if found.is_blocked {
        (
            format!("job {job} waits for jobs that it comes after"),
            "It starts when they have ended; see my_worker.why().",
        )
    } else if found.expires_at.is_some_and(|at| at <= clock::now()) {
        (
            format!("job {job} has expired"),
            "It was not started before its expires_at, and is about to be cancelled.",
        )
    } else if found.is_held() {
        (
            format!("job {job} has no handler, nor has its queue"),
            "It is held for other consumers. Give the queue a handler with my_worker.alter_queue().",
        )
    } else {
        return Ok(());
    };
    Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint(hint))
}

/// Refuses a job of a fifo queue that earlier ones of its key are before.
fn check_turn(job: i64, found: &Standing) -> Result<()> {
    let Some(queue) = found.queue.as_ref().filter(|queue| queue.by_key.is_some()) else {
        return Ok(());
    };
    let Some(first) = keys::earlier(&extension()?, queue, job)? else {
        return Ok(());
    };
    let message = format!("job {job} waits for job {first} of the same key");
    Err(PgError::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        .hint("Its queue is fifo: launch the first job of the key, or wait until it has ended."))
}

/// Takes a place beside the pool for that job.
pub fn take_slot(job: i64, owner: Oid) -> Result<SlotId> {
    let most = usize::try_from(settings::MAX_WORKERS.get()).unwrap_or(1);
    let (database, now) = (bgworker::my_database(), clock::now());
    let taken = SHARED.write(|state| state.take_launch(database, owner, job, most, now));
    match taken {
        Some(Ok(id)) => Ok(id),
        Some(Err(Refused::Running)) => Err(PgError::new(
            OBJECT_IN_USE,
            format!("job {job} is already running"),
        )
        .hint("Watch it in my_worker.jobs.")),
        Some(Err(Refused::Full)) => Err(PgError::new(
            INSUFFICIENT_RESOURCES,
            format!("too many dynamic workers: {most} run already"),
        )
        .hint(
            "You might need to increase \"my_worker.max_workers\". Beyond it, a role may launch one if \
             it has none.",
        )),
        Some(Err(Refused::NoPlace)) => {
            let run = most.saturating_mul(2);
            Err(PgError::new(
                INSUFFICIENT_RESOURCES,
                format!("too many dynamic workers: {run} run already"),
            )
            .hint("You might need to increase \"my_worker.max_workers\"."))
        }
        None => Err(shared::not_preloaded()),
    }
}

fn start(id: SlotId, job: i64) -> Result<i32> {
    let name = format!("dynamic_worker_{job}");
    let worker = Worker {
        name: &name,
        kind: PROCESS_TYPE,
        entry: c"dynamic_worker_main",
        argument: id.pack(),
        restart_seconds: None,
        notify: true,
    };
    let Some(handle) = start_or_make_room(&worker)? else {
        return Err(PgError::new(
            INSUFFICIENT_RESOURCES,
            "could not register background worker: no free slot",
        )
        .hint("You might need to increase \"max_worker_processes\"."));
    };
    wake::launched(id)?;
    let pid = wait_until_attached(id, handle.wait_for_start()?)?;
    log::report(
        Level::Notice,
        &format!("dynamic worker started with PID {pid}"),
    )?;
    handle.forget();
    Ok(pid)
}

/// Starts the process; if the server has no free slot, an idle worker or keeper of ours leaves for it.
fn start_or_make_room(worker: &Worker) -> Result<Option<Handle>> {
    let since = clock::now();
    loop {
        if let Some(handle) = worker.start()? {
            return Ok(Some(handle));
        }
        let now = clock::now();
        shared::tell(|state| state.make_room_for_launch(now));
        let asked = SHARED.read(|state| state.makes_room(now)).unwrap_or(false);
        if !asked || !(0..ROOM_LIMIT).contains(&now.saturating_sub(since)) {
            return Ok(None);
        }
        latch::wait(Some(ROOM_LOOK_MS), wait_event::job_wait())?;
    }
}

/// The process may have ended at once because its role may not log in, which is worth an error.
fn wait_until_attached(id: SlotId, status: Status) -> Result<i32> {
    let attached = SHARED.read(|state| {
        let slot = state.slots.get(id.index)?;
        (slot.generation == id.generation && slot.phase != Phase::Free).then_some(())
    });
    match (status, attached.flatten()) {
        (Status::Running(pid), Some(())) => Ok(pid),
        _ => Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "could not start background worker",
        )
        .hint("The job's owner may not be able to log in; see the server log.")),
    }
}

/// The life of a dynamic worker.
pub fn main(id: SlotId, _database: Oid) -> Result<()> {
    activity::application_name("my_worker dynamic");
    marks::excuse_on_quit(id.index);
    session::hold_cancels();
    session::preload_libraries()?;
    guc::reload_if_asked()?;
    if !wait_for_commit(id)? {
        return Ok(());
    }
    fault!(Launched);
    let memory = Memory::new()?;
    let tally = loop {
        let mut suspects = None;
        match take_and_run(id, memory, &mut suspects) {
            Ok(Taken::Ran(tally)) => break tally,
            // Whoever gives back a permit wakes no stranger's process: look soon.
            Ok(Taken::Full) => {
                activity::title(b"waiting for its queue");
                latch::wait(Some(PERMIT_LOOK_MS), wait_event::launch_commit())?;
            }
            Ok(Taken::Limited(rest_ms)) => {
                activity::title(b"waiting for its queue's rate");
                latch::wait(Some(rest_ms), wait_event::launch_commit())?;
            }
            Err(error) => match suspects {
                // What fails at COMMIT is charged like what fails before.
                Some(suspects) => {
                    suspects.settle(id, &error)?;
                    break None;
                }
                None if is_conflict(error.sqlstate) => {}
                None => return Err(error),
            },
        }
    };
    if let Some(mut tally) = tally {
        if let Some(claimed) = tally.command.take() {
            let only = |_: &Extension| Ok(None);
            let written = command::execute(id, claimed, memory.job, only, |_| Ok(()))?;
            tally.untold.add(written);
        }
        leave(id);
        tally.untold.tell(id, tally.queue)?;
    }
    report::log_held_back(true)?;
    activity::flush_statistics()
}

/// What became of the job that was launched.
enum Taken {
    /// It was run, or somebody else has it; `None` if it is gone, or nothing that a worker may run.
    Ran(Option<Box<Tally>>),
    /// Its queue's concurrency is used up.
    Full,
    /// Its queue's rate does not allow it for so many milliseconds; it looks now and then meanwhile.
    Limited(i64),
}

/// In one transaction; where that has one snapshot for all, the job is found in one before, so that
/// what others do to the queue meanwhile is no conflict.
fn take_and_run(id: SlotId, memory: Memory, suspects: &mut Option<Suspects>) -> Result<Taken> {
    if !xact::is_strict() {
        return xact::job_transaction(|| {
            let extension = hold_extension()?;
            match find_and_enter(id, &extension)? {
                Found::Job(candidate, queue) => {
                    run(id, &extension, memory, candidate, &queue, suspects)
                }
                Found::Full => Ok(Taken::Full),
                Found::Limited(next) => Ok(limited(next)),
                Found::Nothing => Ok(Taken::Ran(None)),
            }
        });
    }
    match xact::transaction(|| find_and_enter(id, &hold_extension()?))? {
        Found::Job(candidate, queue) => xact::job_transaction(|| {
            run(id, &hold_extension()?, memory, candidate, &queue, suspects)
        }),
        Found::Full => Ok(Taken::Full),
        Found::Limited(next) => Ok(limited(next)),
        Found::Nothing => Ok(Taken::Ran(None)),
    }
}

/// What a look for the job that was launched found.
enum Found {
    /// It, with a permit of its queue.
    Job(Candidate, Box<queues::Queue>),
    /// Its queue's concurrency is used up.
    Full,
    /// Its queue's rate does not allow it before that time.
    Limited(Micros),
    /// It is gone, or nothing that a worker may run.
    Nothing,
}

fn limited(next: Micros) -> Taken {
    let rest_ms = next.saturating_sub(clock::now()) / 1000;
    Taken::Limited(rest_ms.clamp(1, RATE_LOOK_MS))
}

fn find_and_enter(id: SlotId, extension: &Extension) -> Result<Found> {
    let jobs = Jobs::open(extension)?;
    let task = SHARED
        .write(|state| state.slot(id).map(|slot| slot.task))
        .flatten();
    let found = jobs.find(extension, task.unwrap_or(0))?;
    jobs.close()?;
    let Some((candidate, queue, group_key)) = found else {
        return Ok(Found::Nothing);
    };
    let role = identity::current_role();
    if let Some(reason) = rates::reason(&queue, role, group_key)?
        && !reason.is_near()
    {
        return Ok(Found::Limited(reason.next));
    }
    if !has_key(id, extension, &queue, &candidate)? {
        return Ok(Found::Full);
    }
    Ok(match enter(id, extension, &queue)? {
        true => Found::Job(candidate, Box::new(queue)),
        false => {
            keys::give_back(id, role);
            Found::Full
        }
    })
}

/// Takes the key of the job, if it has one; false if it is not its turn.
pub fn has_key(
    id: SlotId,
    extension: &Extension,
    queue: &queues::Queue,
    candidate: &Candidate,
) -> Result<bool> {
    let Some(key) = &candidate.key else {
        return Ok(true);
    };
    let jobs = Jobs::open(extension)?;
    jobs.prepare_keys(queue)?;
    let (owner, job) = (identity::current_role(), candidate.place.id);
    let admitted = keys::admit(&jobs, id, queue, owner, key, job)?;
    jobs.close()?;
    Ok(admitted == Admitted::Yes)
}

fn run(
    id: SlotId,
    extension: &Extension,
    memory: Memory,
    candidate: Candidate,
    queue: &queues::Queue,
    suspects: &mut Option<Suspects>,
) -> Result<Taken> {
    session::set_read_only(false);
    activity::introduce(Some(identity::current_role()))?;
    activity::title(&[b"running ", queue.name.as_slice()].concat());
    let jobs = Jobs::open(extension)?;
    let batch = Batch::new(extension, queue, &jobs, id, memory)?;
    let nothing = |_, _| Ok(Vec::new());
    let (done, mut tally) = batch.run(vec![candidate], nothing, |_, _| Ok(Vec::new()), || false);
    *suspects = Suspects::of(queue, &mut tally);
    done?;
    jobs.close()?;
    if tally.limited {
        // Somebody else's job has started meanwhile.
        leave(id);
        return Ok(Taken::Limited(1));
    }
    Ok(Taken::Ran(Some(Box::new(tally))))
}

/// Sleeps until the caller's transaction has ended; true if it has committed.
fn wait_for_commit(id: SlotId) -> Result<bool> {
    loop {
        let go = SHARED
            .write(|state| state.slot(id).map(|slot| slot.go))
            .flatten();
        match go {
            Some(Go::Yes) => return Ok(true),
            Some(Go::Wait) => {
                activity::title(b"waiting for commit");
                latch::wait(Some(10_000), wait_event::launch_commit())?;
            }
            Some(Go::No) | None => return Ok(false),
        }
    }
}

/// Takes one of the queue's permits; false if it has none left.
fn enter(id: SlotId, extension: &Extension, queue: &queues::Queue) -> Result<bool> {
    if permit::enter(extension, queue, id)?.is_none() {
        return Ok(false);
    }
    SHARED.write(|state| state.slot(id).map(|slot| slot.phase = Phase::Running));
    Ok(true)
}

fn leave(id: SlotId) {
    keys::give_back(id, identity::current_role());
    shared::tell(|state| {
        if let Some(slot) = state.slot(id) {
            slot.phase = Phase::Stopping;
            slot.set_current(Current::None, 0);
        }
        state.leave_queue(id)
    });
}
