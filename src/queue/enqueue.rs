//! Putting jobs in: the functions, and the trigger that every row passes, however it comes.
//!
//! The functions check their arguments and insert as the extension's owner; the trigger then only
//! notes whom to wake. A plain INSERT or COPY is checked by the trigger itself, with the caller's
//! rights and search path: the owner is the caller, the queue exists, the handler is found and
//! stored qualified.

use crate::counted;
use crate::logic::limits;
use crate::pg::bgworker;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Datum, Micros, Oid, ToDatum, types};
use crate::pg::error::{
    CHECK_VIOLATION, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, NULL_VALUE_NOT_ALLOWED,
    OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result, SUCCESSFUL_COMPLETION,
};
use crate::pg::fmgr::TriggerRow;
use crate::pg::local::Local;
use crate::pg::log::{self, Level};
use crate::pg::spi::{Spi, Statement};
use crate::pg::utility::CopyTarget;
use crate::pg::{clock, identity};

use super::handler::{Named, quoted};
use super::{
    allowed, any_extension, as_owner, bar, bound, column, extension, handler, ids, queues, rights,
    served, wake,
};

/// A job as the functions take it.
pub struct NewJob {
    /// What to call; `None` for a command or the queue's handler.
    pub handler: Option<Named>,
    /// What to run.
    pub command: Option<Vec<u8>>,
    /// The queue's name.
    pub queue: Vec<u8>,
    /// Lower goes first.
    pub priority: i32,
    /// Not before this time; `None`: now.
    pub run_at: Option<Micros>,
    /// Executions before it is failed; `None`: as the queue says.
    pub max_attempts: Option<i32>,
    /// An `interval`; `None`: as the queue says.
    pub timeout: Option<Datum>,
    /// At most one live job of queue and owner has it.
    pub unique_key: Option<Vec<u8>>,
}

/// The INSERT of the functions: its payload, and what follows.
macro_rules! insert {
    ($payload:literal, $rest:literal) => {
        concat!(
            "INSERT INTO my_worker._jobs (handler, command, payload, queue, priority, run_at, \
             max_attempts, timeout, unique_key, owner, handler_owner) \
             SELECT $1, $2, coalesce(",
            $payload,
            ", '{}'::pg_catalog.jsonb), $4, $5, coalesce($6, pg_catalog.now()), $7, $8, $9, $10, $11 ",
            $rest
        )
    };
}

const INSERT_TYPES: &[Oid] = &[
    types::TEXT,
    types::TEXT,
    types::JSONB,
    types::TEXT,
    types::INT4,
    types::TIMESTAMPTZ,
    types::INT4,
    types::INTERVAL,
    types::TEXT,
    types::REGROLE,
    types::REGROLE,
];

static INSERT_ONE: Statement = Statement::new(insert!("$3", "RETURNING id"), INSERT_TYPES);

/// One statement for all: a row costs a fraction of a statement of its own.
static INSERT_MANY: Statement = Statement::new(
    insert!(
        "p.payload",
        "FROM pg_catalog.unnest($3) AS p (payload) RETURNING id"
    ),
    &[
        types::TEXT,
        types::TEXT,
        types::JSONB_ARRAY,
        types::TEXT,
        types::INT4,
        types::TIMESTAMPTZ,
        types::INT4,
        types::INTERVAL,
        types::TEXT,
        types::REGROLE,
        types::REGROLE,
    ],
);

static INSERT_UNIQUE: Statement = Statement::new(
    insert!(
        "$3",
        "ON CONFLICT (queue, owner, unique_key) WHERE unique_key IS NOT NULL DO NOTHING \
         RETURNING id"
    ),
    INSERT_TYPES,
);

static FIND_UNIQUE: Statement = Statement::new(
    "SELECT id FROM my_worker._jobs WHERE queue = $1 \
     AND owner = $2 AND unique_key = $3",
    &[types::TEXT, types::REGROLE, types::TEXT],
);

/// The queue that this transaction found last.
static KNOWN_QUEUE: Local<Option<Vec<u8>>> = Local::new(None);
/// Whether this transaction was told that a job of its waits for a consumer.
static TOLD_OF_CONSUMERS: Local<bool> = Local::new(false);
/// The last qualified handler that a plain INSERT named, its stored name, and in which statement.
static KNOWN_HANDLER: Local<Option<KnownHandler>> = Local::new(None);

struct KnownHandler {
    asked: Vec<u8>,
    stored: Named,
    role: Oid,
    statement: Micros,
}

fn forget() {
    KNOWN_QUEUE.set(None);
    KNOWN_HANDLER.set(None);
    served::forget();
    TOLD_OF_CONSUMERS.set(false);
    bar::forget_warning();
}

/// Enqueues the job and answers its id. With a unique key that a live job has, nothing is added
/// and that job's id is the answer.
pub fn enqueue(job: &NewJob, payload: Option<Datum>) -> Result<i64> {
    let extension = admit(job)?;
    let caller = identity::current_role();
    as_owner(&extension, |spi| insert_one(spi, job, payload, caller))
}

/// Enqueues the job once for each element of a `jsonb[]` and answers the ids in order.
pub fn enqueue_many(job: &NewJob, payloads: Datum) -> Result<Vec<i64>> {
    let extension = admit(job)?;
    let arguments = arguments(job, Some(payloads), identity::current_role())?;
    as_owner(&extension, |spi| {
        let inserted = spi.run(&INSERT_MANY, &arguments)?;
        Ok(inserted.iter().filter_map(|row| row.i64(1)).collect())
    })
}

/// Checks what the functions were given.
fn admit(job: &NewJob) -> Result<Extension> {
    refuse_restricted()?;
    check(job)?;
    let extension = extension()?;
    check_queue(&job.queue)?;
    warn_unserved()?;
    bar::warn(identity::current_role())?;
    Ok(extension)
}

/// What the statements take, in the order of [`INSERT_TYPES`].
fn arguments(job: &NewJob, payload: Option<Datum>, caller: Oid) -> Result<[Option<Datum>; 11]> {
    let text = |value: &Option<Vec<u8>>| value.as_deref().map(datum::text_datum).transpose();
    let handler = job.handler.as_ref();
    Ok([
        handler.map(|h| datum::text_datum(&h.name)).transpose()?,
        text(&job.command)?,
        payload,
        Some(datum::text_datum(&job.queue)?),
        Some(job.priority.datum()),
        job.run_at.map(ToDatum::datum),
        job.max_attempts.map(ToDatum::datum),
        job.timeout,
        text(&job.unique_key)?,
        Some(caller.datum()),
        handler.and_then(|h| h.owner).map(ToDatum::datum),
    ])
}

/// Inserts one checked job for `caller`, its owner, and answers its id.
pub fn insert_one(spi: &Spi, job: &NewJob, payload: Option<Datum>, caller: Oid) -> Result<i64> {
    let arguments = arguments(job, payload, caller)?;
    let statement = if job.unique_key.is_some() {
        &INSERT_UNIQUE
    } else {
        &INSERT_ONE
    };
    let [_, _, _, queue, .., key, owner, _] = arguments;
    // A row that is only tried counts as one more of the role.
    let bounded = job.unique_key.is_some() && bound::is_set();
    for attempt in 0..10 {
        if !bounded || attempt > 0 {
            let inserted = spi.run(statement, &arguments)?;
            if let Some(id) = inserted.first().and_then(|row| row.i64(1)) {
                return Ok(id);
            }
        }
        // Somebody's job has the key, unless it has ended just now.
        let found = spi.run(&FIND_UNIQUE, &[queue, owner, key])?;
        if let Some(id) = found.first().and_then(|row| row.i64(1)) {
            return Ok(id);
        }
    }
    Err(PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "could not decide whether the unique key is in use",
    )
    .hint("Retry the transaction in READ COMMITTED isolation."))
}

/// The live job of that owner that has the key, if any.
pub fn find_unique(spi: &Spi, queue: &[u8], owner: Oid, key: &[u8]) -> Result<Option<i64>> {
    let arguments = [
        Some(datum::text_datum(queue)?),
        Some(owner.datum()),
        Some(datum::text_datum(key)?),
    ];
    let found = spi.run(&FIND_UNIQUE, &arguments)?;
    Ok(found.first().and_then(|row| row.i64(1)))
}

/// Refuses numbers, times and keys that no job can have.
pub fn check(job: &NewJob) -> Result<()> {
    check_limits(job.max_attempts, job.timeout, job.unique_key.as_deref())
}

fn check_limits(
    max_attempts: Option<i32>,
    timeout: Option<Datum>,
    unique_key: Option<&[u8]>,
) -> Result<()> {
    if let Some(attempts) = max_attempts {
        allowed(limits::max_attempts(attempts))?;
    }
    if let Some(timeout) = timeout {
        let timeout = datum::interval_micros(timeout);
        allowed(limits::positive_interval("timeout", timeout))?;
    }
    if let Some(key) = unique_key {
        allowed(limits::unique_key(key))?;
    }
    Ok(())
}

/// An index expression or a maintenance command of a stranger's table is no place to enqueue from.
pub fn refuse_restricted() -> Result<()> {
    if identity::in_restricted_operation() {
        return Err(PgError::new(
            INSUFFICIENT_PRIVILEGE,
            "cannot enqueue a job within security-restricted operation",
        ));
    }
    Ok(())
}

/// The queue is there, and stays until this transaction ends.
pub fn check_queue(name: &[u8]) -> Result<()> {
    wake::on_any_end(forget)?;
    if KNOWN_QUEUE.with(|known| known.as_deref() == Some(name)) {
        return Ok(());
    }
    queues::hold(&any_extension()?, name, false)?;
    KNOWN_QUEUE.set(Some(name.to_vec()));
    Ok(())
}

/// Like [`check_queue`]; false if there is no such queue.
pub fn holds_queue(name: &[u8]) -> Result<bool> {
    let there = queues::find(&extension()?, datum::text_datum(name)?)?.is_some();
    if there {
        check_queue(name)?;
    }
    Ok(there)
}

/// Says once a transaction that nobody will run the jobs of this database.
pub fn warn_unserved() -> Result<()> {
    wake::on_any_end(forget)?;
    served::warn()
}

/// The table that COPY FROM STDIN may fill although row-level security applies: each row passes the
/// trigger, which checks its owner.
pub fn copy_target() -> Result<Option<CopyTarget>> {
    let extension = catalog::extension()?.filter(Extension::is_current);
    Ok(extension.map(|extension| CopyTarget {
        view: extension.door,
        name: (c"my_worker", c"_jobs"),
        table: extension.jobs,
        policy: c"jobs_own",
    }))
}

/// The trigger of `my_queue`, BEFORE INSERT OR UPDATE of each row.
pub fn before_write(mut row: TriggerRow) -> Result<Datum> {
    let is_users = !identity::is_ours() && check_row(&mut row)?;
    // A row that is there with such an id, from a restore or by a hand, is settled like any other.
    if !row.is_update || row.old(column::ID) != row.get(column::ID) {
        check_id(row.get(column::ID).map_or(0, datum::as_i64))?;
    }
    let role = row.get(column::OWNER).map_or(0, datum::as_oid);
    let run_at = row.get(column::RUN_AT).map_or(0, datum::as_i64);
    let queue = row
        .get(column::QUEUE)
        .map_or(Ok(Vec::new()), datum::as_text)?;
    wake::on_any_end(forget)?;
    let says_itself = row.get(column::HANDLER).is_some() || row.get(column::COMMAND).is_some();
    // Not the one that this session held: a worker finds out.
    let (id, resting, is_held) = queues::last_held(&any_extension()?, &queue, |kept| {
        let is_held = !says_itself && kept.queue.handler.is_none();
        (kept.queue.id, kept.resting(says_itself), is_held)
    })
    .unwrap_or_default();
    if is_users && is_held && !row.is_update {
        tell_of_consumers(&queue)?;
    }
    let before = match row.is_update {
        true => None,
        false => bound::admit(role)?,
    };
    wake::note(&wake::Written {
        role,
        queue: id,
        run_at,
        resting,
        is_new: !row.is_update,
        before,
    })?;
    Ok(row.result())
}

/// Refuses an id that no slot can show: somebody has set the sequence there, and the keeper sets it
/// right.
fn check_id(id: i64) -> Result<()> {
    if ids::is_good(id) {
        return Ok(());
    }
    let message = format!("id {id} of a job is out of range");
    Err(PgError::new(CHECK_VIOLATION, message)
        .hint("If the sequence has given it, the keeper sets that right within a nap."))
}

/// Says once a transaction that no worker will run such a job: its writer may have forgotten the
/// handler.
fn tell_of_consumers(queue: &[u8]) -> Result<()> {
    if TOLD_OF_CONSUMERS.replace(true) {
        return Ok(());
    }
    let message = quoted(
        "queue ",
        queue,
        " has no handler: a job that names none waits for a consumer",
    );
    let hint = b"Name a handler or a command in the job, or give the queue a handler with \
                 my_worker.alter_queue().";
    log::report_with(
        Level::Notice,
        SUCCESSFUL_COMPLETION,
        &message,
        None,
        Some(hint),
    )
}

/// Checks and completes a row that is not ours; false if it is taken as it is, from a dump.
fn check_row(row: &mut TriggerRow) -> Result<bool> {
    check_values(row)?;
    rights::check_row(row)?;
    let caller = identity::current_role();
    let mut changes = Vec::new();
    if let Some(owner) = check_owner(row, caller)? {
        changes.push((column::OWNER, Some(owner.datum())));
    }
    if row.get(column::RUN_AT).is_none() {
        changes.push((column::RUN_AT, Some(clock::transaction_start().datum())));
    }
    // A dump is taken back as it is. No stranger's code updates within such an operation.
    let ours = row.is_update && identity::in_restricted_operation();
    let is_users = !ours && !super::is_restore()?;
    if is_users {
        refuse_restricted()?;
        check_names(row, &mut changes)?;
        warn_unserved()?;
        if !row.is_update {
            bar::warn(caller)?;
        }
    }
    row.set(&changes)?;
    Ok(is_users)
}

/// What CHECK constraints of the table would say; those are parsed anew by every statement.
fn check_values(row: &TriggerRow) -> Result<()> {
    let wrong = |message: &str| Err(PgError::new(CHECK_VIOLATION, message));
    let text = |column| row.get(column).map(datum::as_text).transpose();
    let status = text(column::STATUS)?;
    let (pending, processing) = (b"pending".as_slice(), b"processing".as_slice());
    if status.is_some_and(|status| status != pending && status != processing)
        && !may_be_failed(row)?
    {
        return wrong("the status of a job in the queue must be \"pending\" or \"processing\"");
    }
    if row.get(column::HANDLER).is_some() && row.get(column::COMMAND).is_some() {
        return wrong("a job has either a handler or a command");
    }
    let max_attempts = row.get(column::MAX_ATTEMPTS).map(datum::as_i32);
    let unique_key = text(column::UNIQUE_KEY)?;
    check_limits(
        max_attempts,
        row.get(column::TIMEOUT),
        unique_key.as_deref(),
    )
}

/// Only statements of ours set a job aside; one that is stays so until they take it back, also in a
/// dump.
fn may_be_failed(row: &TriggerRow) -> Result<bool> {
    let is_failed = |status: Option<Datum>| status.is_some_and(|s| datum::text_is(s, b"failed"));
    let stays = row.is_update && is_failed(row.old(column::STATUS));
    Ok(is_failed(row.get(column::STATUS)) && (stays || super::is_restore()?))
}

/// The owner to fill in, if any; an error if the row names another role.
fn check_owner(row: &TriggerRow, caller: Oid) -> Result<Option<Oid>> {
    let owner = row.get(column::OWNER).map(datum::as_oid);
    if row.is_update {
        return match row.old(column::OWNER).map(datum::as_oid) == owner {
            true => Ok(None),
            false => Err(
                PgError::new(FEATURE_NOT_SUPPORTED, "cannot change the owner of a job")
                    .hint("Cancel the job and enqueue it as the other role."),
            ),
        };
    }
    match owner {
        None => Ok(Some(caller)),
        Some(owner) if owner == caller || super::is_restore()? => Ok(None),
        Some(owner) => Err(PgError::new(
            INSUFFICIENT_PRIVILEGE,
            format!(
                "permission denied to enqueue a job for role \"{}\"",
                identity::role_name(owner)?
            ),
        )
        .detail("The owner of a job is the role that enqueues it.")),
    }
}

fn check_names(row: &TriggerRow, changes: &mut Vec<(i32, Option<Datum>)>) -> Result<()> {
    let Some(queue) = row.get(column::QUEUE) else {
        return Err(PgError::new(NULL_VALUE_NOT_ALLOWED, "a job needs a queue"));
    };
    if is_new(row, column::QUEUE)? {
        check_queue(&datum::as_text(queue)?)?;
    }
    if let Some(handler) = row.get(column::HANDLER)
        && is_new(row, column::HANDLER)?
    {
        let asked = datum::as_text(handler)?;
        let stored = stored_handler(&asked)?;
        if stored.name != asked {
            changes.push((column::HANDLER, Some(datum::text_datum(&stored.name)?)));
        }
        if row.is_update || stored.owner.is_some() {
            changes.push((column::HANDLER_OWNER, stored.owner.map(ToDatum::datum)));
        }
    }
    Ok(())
}

/// Whether the row brings this text: the column of a new row, or one that an UPDATE changes.
fn is_new(row: &TriggerRow, column: i32) -> Result<bool> {
    let text = |value: Option<Datum>| value.map(datum::as_text).transpose();
    Ok(!row.is_update || text(row.old(column))? != text(row.get(column))?)
}

/// What a job keeps of a handler. Within a statement a qualified one is looked up once.
fn stored_handler(asked: &[u8]) -> Result<Named> {
    let (role, statement) = (identity::current_role(), clock::statement_start());
    let known = KNOWN_HANDLER.with(|known| {
        let same =
            |k: &&KnownHandler| k.asked == asked && k.role == role && k.statement == statement;
        known.as_ref().filter(same).map(|k| k.stored.clone())
    });
    if let Some(stored) = known {
        return Ok(stored);
    }
    let stored = handler::name(asked)?;
    if asked.contains(&b'.') {
        let (asked, stored) = (asked.to_vec(), stored.clone());
        KNOWN_HANDLER.set(Some(KnownHandler {
            asked,
            stored,
            role,
            statement,
        }));
    }
    Ok(stored)
}

/// After ALTER EXTENSION UPDATE: the launcher learns at COMMIT that the library fits, and jobs run at
/// once. It had given the database up for one without the extension.
pub fn updated() -> Result<()> {
    match bgworker::in_recovery() {
        true => Ok(()),
        false => wake::look_at_commit(),
    }
}

/// After CREATE EXTENSION: the launcher learns of it at COMMIT. The numbers of queues start anew,
/// so what an earlier one of this database has counted is not theirs.
pub fn installed() -> Result<()> {
    if bgworker::in_recovery() {
        return Ok(());
    }
    counted::reset();
    warn_unserved()?;
    wake::look_at_commit()
}
