//! Enqueueing with a unique key: what becomes of the job, and of the one that has the key.
//!
//! Whether that one waits or runs is decided under the lock of its row, which a worker takes before it reads
//! what the job says. So what is changed under the lock is seen by whoever starts the job; and if the lock
//! cannot be had, or the job's attempt stands in shared memory, it has begun, and a change needs another job.
//! A consumer takes no lock: it publishes its lease and then looks at the row; here the row is locked first,
//! and then the leases are looked at. One of the two sees the other.
//! No running job is waited for; other transactions that change the job are, as by any UPDATE.

use crate::logic::columns::GIVEN;
use crate::logic::consumers::lease::Stage;
use crate::logic::reruns::Side;
use crate::pg::bgworker;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Datum, Micros, ToDatum, types};
use crate::pg::error::{
    INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result,
    SERIALIZATION_FAILURE, UNIQUE_VIOLATION,
};
use crate::pg::holder::Deed;
use crate::pg::spi::Statement;
use crate::pg::table::Lock;
use crate::pg::{clock, identity, latch, wait_event, xact};
use crate::shared::{Kind, Phase, SHARED, Slot, State, consumers, own};

use super::claim::{Job, Jobs};
use super::handler::quoted;
use super::lists::{self, GIVEN_TYPES};
use super::rerun::{self, UniqueKey};
use super::{as_owner, column};

/// What enqueueing does if a live job has the unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueMode {
    /// Adds nothing and answers that job's id.
    Keep,
    /// The same, and a waiting one becomes what the new one says.
    Replace,
    /// The same, and if it runs, adds one that starts when it has ended.
    Rerun,
    /// Fails with 23505.
    Error,
}

impl UniqueMode {
    /// The one of that name.
    pub fn named(name: &[u8]) -> Result<Self> {
        match name {
            b"keep" => Ok(UniqueMode::Keep),
            b"replace" => Ok(UniqueMode::Replace),
            b"rerun" => Ok(UniqueMode::Rerun),
            b"error" => Ok(UniqueMode::Error),
            _ => {
                let message = quoted("unique_mode must not be ", name, "");
                Err(PgError::new(INVALID_PARAMETER_VALUE, message)
                    .hint("It is keep, replace, rerun or error."))
            }
        }
    }
}

/// What the functions store in place of NULL.
pub const DEFAULTS: [(i32, &str); 2] = [
    (column::PAYLOAD, "coalesce(@, '{}'::pg_catalog.jsonb)"),
    (column::RUN_AT, "coalesce(@, pg_catalog.now())"),
];

const UNLESS_TAKEN: &str = "ON CONFLICT (queue, owner, unique_key, rerun) \
                            WHERE unique_key IS NOT NULL AND origin IS NULL DO NOTHING RETURNING id";

static INSERT: Statement = Statement::made(
    || lists::insert_job(&DEFAULTS, &[], UNLESS_TAKEN),
    &GIVEN_TYPES,
);

/// Of a job that waits for the end of another one.
static INSERT_WAITING: Statement = Statement::made(
    || {
        let waits = [("status", "'blocked'"), ("rerun", "true")];
        lists::insert_job(&DEFAULTS, &waits, UNLESS_TAKEN)
    },
    &GIVEN_TYPES,
);

/// What a waiting job takes over. Its id, its attempts, its key and its group's stay, and what it comes after.
const REPLACED: [i32; 11] = [
    column::HANDLER,
    column::HANDLER_OWNER,
    column::COMMAND,
    column::PAYLOAD,
    column::KIND,
    column::HEADERS,
    column::PRIORITY,
    column::RUN_AT,
    column::MAX_ATTEMPTS,
    column::TIMEOUT,
    column::EXPIRES_AT,
];

/// Of the parameters of [`INSERT`], and as the last one the job's id.
static REPLACE: Statement = Statement::made(
    || {
        let set = lists::set_job(&REPLACED, &DEFAULTS);
        let id = GIVEN.len().saturating_add(1);
        format!("UPDATE my_worker._jobs SET {set} WHERE id = ${id} AND status <> 'failed'")
    },
    &REPLACE_TYPES,
);

const REPLACE_TYPES: [u32; GIVEN.len() + 1] = lists::given_types_and(types::INT8);

/// So often it is tried to decide what is to be done, while others change what was found, or while it is not known
/// what a crash cut off. The pause before each try is longer than the one before: ten seconds in all.
const TRIES: i64 = 100;
/// So often, and so many milliseconds apart, it is looked whether a lock or a lease is about to go.
const LOOKS: u32 = 12;
const PAUSE_MS: i64 = 2;
/// A lease of this age has been received, and is not given up for a lock.
const SETTLED: Micros = 50_000;

/// What a job is at.
enum At {
    /// It waits, and this transaction has its row.
    Waiting,
    /// It runs, or its attempt has yet to be settled.
    Running,
    /// A transaction that does something else to it.
    Held(u32),
    /// It has changed since it was found.
    Changed,
}

/// A job to enqueue, as the parameters of the statements, with its key.
pub struct Enqueued<'a> {
    /// The columns of [`GIVEN`].
    pub arguments: [Option<Datum<'a>>; GIVEN.len()],
    /// Its unique key.
    pub key: UniqueKey,
}

impl Enqueued<'_> {
    /// Enqueues it, or does what the mode says to the one that has its key; answers the id.
    pub fn enqueue(&self, extension: &Extension, mode: UniqueMode) -> Result<i64> {
        xact::refuse_read_only(c"INSERT")?;
        for tried in 0..TRIES {
            if let Some(id) = self.try_once(extension, mode)? {
                return Ok(id);
            }
            latch::wait(Some(PAUSE_MS * tried), wait_event::job_wait())?;
        }
        Err(PgError::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "could not decide whether the unique key is in use",
        )
        .hint("Retry the transaction in READ COMMITTED isolation."))
    }

    /// `None`: what was found has changed meanwhile.
    fn try_once(&self, extension: &Extension, mode: UniqueMode) -> Result<Option<i64>> {
        let clock = rerun::clock();
        let [first, waiting] = rerun::look(extension, &self.key)?;
        let Some(found) = waiting.as_ref().or(first.as_ref()) else {
            return self.insert(extension, &INSERT);
        };
        if matches!(mode, UniqueMode::Keep | UniqueMode::Error) {
            if let Some(transaction) = taken_away(extension, found)? {
                return xact::wait_for_end(transaction).map(|()| None);
            }
            if mode == UniqueMode::Error {
                return Err(self.taken());
            }
            // With a snapshot from before that job it is the server that refuses to answer for it.
            let is_new = xact::is_strict() && waiting.is_none();
            let new = if is_new {
                self.insert(extension, &INSERT)?
            } else {
                None
            };
            return Ok(new.or(Some(found.id)));
        }
        if waiting.is_some() {
            // Who would let it go now finds it locked, and leaves it.
            self.key.say_at_commit(Side::Waits, clock)?;
            if first.is_none() {
                rerun::ask_at_commit()?;
            }
        }
        match at(extension, found, mode)? {
            At::Waiting => self.replace(extension, found.id),
            At::Running if waiting.is_none() && mode == UniqueMode::Rerun => {
                self.key.say_at_commit(Side::Waits, clock)?;
                self.insert(extension, &INSERT_WAITING)
            }
            // The one that waited was let go and has started.
            At::Running if waiting.is_some() => Ok(None),
            At::Running => Ok(Some(found.id)),
            At::Held(transaction) => xact::wait_for_end(transaction).map(|()| None),
            At::Changed => Ok(None),
        }
    }

    /// `None` if somebody was faster.
    fn insert(&self, extension: &Extension, statement: &Statement) -> Result<Option<i64>> {
        as_owner(extension, |spi| {
            let inserted = spi.run(statement, &self.arguments)?;
            Ok(inserted.first().and_then(|row| row.i64(1)))
        })
    }

    /// Has a job that waits say what this one does. This transaction has its row.
    fn replace(&self, extension: &Extension, job: i64) -> Result<Option<i64>> {
        let mut arguments = [None; GIVEN.len() + 1];
        for (place, argument) in arguments.iter_mut().zip(self.arguments) {
            *place = argument;
        }
        if let Some(last) = arguments.last_mut() {
            *last = Some(job.datum());
        }
        let replaced = as_owner(extension, |spi| {
            Ok(spi.run(&REPLACE, &arguments)?.count() > 0)
        })?;
        match replaced {
            true => Ok(Some(job)),
            // Its statements see an older state.
            false if xact::is_strict() => Err(PgError::new(
                SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )),
            false => Ok(None),
        }
    }

    /// As a unique index says it.
    fn taken(&self) -> PgError {
        let owner = identity::role_name(self.key.owner).unwrap_or_default();
        let detail = [
            b"Key (queue, owner, unique_key)=(".as_slice(),
            &self.key.queue,
            b", ",
            owner.as_bytes(),
            b", ",
            &self.key.key,
            b") already exists.",
        ];
        let message = "duplicate key value violates unique constraint \"_jobs_unique_key_idx\"";
        PgError::new(UNIQUE_VIOLATION, message).detail(detail.concat())
    }
}

/// What the job is at that was found by a snapshot of a moment ago. If it waits, its row is locked.
fn at(extension: &Extension, job: &Job, mode: UniqueMode) -> Result<At> {
    let status = job.value(column::STATUS);
    if status.is_some_and(|status| datum::text_is(status, b"processing")) {
        return Ok(At::Running);
    }
    for _ in 0..LOOKS {
        let before = shown(extension, job.id, mode);
        let found = match before {
            Shown::Yes => return Ok(At::Running),
            // What this transaction wrote nobody else can have.
            _ if job.is_own() => return Ok(At::Waiting),
            Shown::Unsure => At::Running,
            Shown::No => lock(extension, job)?,
        };
        match found {
            At::Waiting if shown(extension, job.id, mode) == Shown::No => return Ok(At::Waiting),
            // Another job too many does no harm.
            At::Waiting | At::Running if mode == UniqueMode::Rerun => return Ok(At::Running),
            // A worker locks a row as it starts the job; a consumer gives up a lease that it has published
            // just now, if it has seen a lock. It shows in a moment.
            At::Waiting | At::Running => latch::wait(Some(PAUSE_MS), wait_event::job_wait())?,
            At::Held(_) | At::Changed => return Ok(found),
        }
    }
    Ok(At::Running)
}

/// The transaction that cancels or deletes the job, or has just ended it. The call of a batch handler deletes
/// its jobs before it runs, and is not waited for.
fn taken_away(extension: &Extension, job: &Job) -> Result<Option<u32>> {
    let holder = xact::with_latest_snapshot(|| {
        let jobs = Jobs::open_by_unique_key(extension, Lock::Read)?;
        let holder = jobs.holder(job)?;
        jobs.close()?;
        Ok(holder)
    })?;
    let holder = holder.filter(|holder| holder.deed == Deed::Deleted);
    let runs = |pid: i32| {
        let of_pid = |slot: &&Slot| slot.phase != Phase::Free && slot.pid == pid;
        let look = |state: &State| {
            let slot = state.used_slots().iter().find(of_pid);
            slot.is_some_and(|slot| slot.current().job().is_some())
        };
        pid != 0 && SHARED.read(look) == Some(true)
    };
    Ok(holder
        .filter(|holder| !runs(holder.pid))
        .map(|holder| holder.transaction))
}

/// Locks the job's row, if nobody has it; else says who has.
fn lock(extension: &Extension, job: &Job) -> Result<At> {
    let status = job.value(column::STATUS);
    let may_run = status.is_some_and(|status| datum::text_is(status, b"pending"));
    xact::with_latest_snapshot(|| {
        let jobs = Jobs::open_by_unique_key(extension, Lock::Write)?;
        let is_locked = jobs.lock(job)?;
        let holder = if is_locked { None } else { jobs.holder(job)? };
        jobs.close()?;
        Ok(match holder {
            _ if is_locked => At::Waiting,
            None => At::Changed,
            // A worker that runs it locks it, or has deleted it; a handler's statement may have changed it.
            Some(holder) if may_run && holder.deed != Deed::Replaced && is_worker(holder.pid) => {
                At::Running
            }
            Some(holder) => At::Held(holder.transaction),
        })
    })
}

/// Whether shared memory shows an attempt of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    No,
    /// A consumer's lease, which it may give up at once.
    Unsure,
    Yes,
}

/// Whether an attempt of the job runs, or has yet to be charged.
fn shown(extension: &Extension, job: i64, mode: UniqueMode) -> Shown {
    let database = bgworker::my_database();
    let in_pool = SHARED.read(|state| {
        // What a crash cut off is not known before.
        (!state.marks_read && mode == UniqueMode::Rerun)
            || state.slot_of_job(database, job).is_some()
            || state.charged(database).any(|charged| charged == job)
    });
    if in_pool == Some(true) || own::has_in_call(job) {
        return Shown::Yes;
    }
    match consumers::of_job(extension.jobs, job) {
        None => Shown::No,
        Some(lease) if lease.stage != Stage::Received => Shown::Yes,
        Some(lease) if clock::now().saturating_sub(lease.since) > SETTLED => Shown::Yes,
        Some(_) => Shown::Unsure,
    }
}

/// Whether that process is one that runs jobs.
fn is_worker(pid: i32) -> bool {
    let is_it =
        |slot: &Slot| slot.phase != Phase::Free && slot.pid == pid && slot.kind != Kind::Keeper;
    pid != 0 && SHARED.read(|state| state.used_slots().iter().any(is_it)) == Some(true)
}
