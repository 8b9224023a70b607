//! Each row that comes into `my_worker._jobs`, by whatever way: the trigger of the table.
//!
//! What our functions insert, they have checked. A plain INSERT or COPY is checked here, with the
//! caller's rights and search path: the owner is the caller, the queue exists, the handler is found and
//! stored qualified.

use crate::logic::columns::JOBS;
use crate::pg::catalog::{self, Extension};
use crate::pg::datum::{self, Datum, Oid, ToDatum};
use crate::pg::error::{
    CHECK_VIOLATION, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, NULL_VALUE_NOT_ALLOWED,
    OBJECT_IN_USE, PgError, Result, SUCCESSFUL_COMPLETION,
};
use crate::pg::fmgr::TriggerRow;
use crate::pg::local::Local;
use crate::pg::log::{self, Level};
use crate::pg::utility::CopyTarget;
use crate::pg::{birth, clock, identity};

use super::admit::{
    KNOWN_HANDLER, KnownHandler, check_flow, check_limits, check_queue, check_texts, forget,
    refuse_restricted, warn_unserved,
};
use super::handler::{Named, quoted};
use super::target::Target;
use super::{
    after, any_extension, bar, column, expiry, handler, home, ids, keys, queues, rerun, rights,
    wake,
};
use crate::shared::consumers;

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

/// The trigger of `my_worker._jobs`, BEFORE INSERT OR UPDATE of each row.
pub fn before_write(mut row: TriggerRow) -> Result<Datum<'static>> {
    row.check(&JOBS)?;
    let extension = any_extension()?;
    let is_users = !identity::is_ours() && check_row(&mut row)?;
    // A row that is there with such an id, from a restore or by a hand, is settled like any other.
    if !row.is_update
        || row.old(column::ID).map(datum::as_i64) != row.get(column::ID).map(datum::as_i64)
    {
        check_id(row.get(column::ID).map_or(0, datum::as_i64))?;
    }
    let role = row.get(column::OWNER).map_or(0, datum::as_oid);
    let run_at = row.get(column::RUN_AT).map_or(0, datum::as_i64);
    let queue = row
        .get(column::QUEUE)
        .map_or(Ok(Vec::new()), datum::as_text)?;
    wake::on_any_end(forget)?;
    let is_blocked = comes_after(&mut row, &extension, is_users)?;
    let target = Target::of(|column| row.get(column), &extension, &queue, role)?;
    if is_users && !row.is_update {
        match target.is_held {
            true if target.id != 0 => tell_of_consumers(target.id, &queue)?,
            true => {}
            false => bar::warn(identity::current_role())?,
        }
    }
    if !home::is_own_home(row.get(column::HOME).map(datum::as_i64)) {
        // It came with a copy: the keeper finds that out, and nobody runs it meanwhile.
        wake::look_at_commit()?;
        return Ok(row.result());
    }
    if row.is_update {
        hear_of_update(&row, &extension)?;
    }
    if row.get(column::EXPIRES_AT).is_some() && (is_users || identity::is_ours()) {
        expiry::note(&row, &extension)?;
    }
    if row.get(column::LEASE).is_some() || is_blocked && row.is_update {
        // It waits for nobody: its consumer has it until it ends the lease; or for other jobs.
        return Ok(row.result());
    }
    let kind = row.get(column::KIND);
    target.tell(role, kind, run_at, is_blocked, !row.is_update)?;
    Ok(row.result())
}

/// What the trigger does for a new job that is inserted without a statement (`direct`): one that our functions
/// have checked, of this home, and that neither comes after others nor expires. `get`: its columns.
pub(super) fn new_job<'a>(
    extension: &Extension,
    id: i64,
    get: impl Fn(i32) -> Option<Datum<'a>>,
) -> Result<()> {
    check_id(id)?;
    wake::on_any_end(forget)?;
    let role = get(column::OWNER).map_or(0, datum::as_oid);
    let run_at = get(column::RUN_AT).map_or(0, datum::as_i64);
    let queue = get(column::QUEUE).map_or(Ok(Vec::new()), datum::as_text)?;
    let kind = get(column::KIND);
    Target::of(get, extension, &queue, role)?.tell(role, kind, run_at, false, true)
}

/// What an UPDATE takes from the job may be what others wait for.
fn hear_of_update(row: &TriggerRow, extension: &Extension) -> Result<()> {
    if !identity::is_ours() {
        refuse_leased(row, extension)?;
    }
    if row.old(column::GROUP_KEY).is_some() {
        tell_of_key(row, extension)?;
    }
    rerun::row_goes(extension, row)
}

/// Whether the job waits for jobs that it comes after. A new one is looked at, unless a dump brings it.
fn comes_after(row: &mut TriggerRow, extension: &Extension, is_users: bool) -> Result<bool> {
    if row.is_update && !identity::is_ours() {
        after::refuse_change(row)?;
    }
    if !row.is_update && (is_users || identity::is_ours()) {
        let waits = match row.get(column::AFTER) {
            Some(_) if extension.is_current() => after::resolve(row, extension)?,
            _ => false,
        };
        return Ok(waits || row.get(column::RERUN).is_some_and(datum::as_bool));
    }
    let status = row.get(column::STATUS);
    Ok(status.is_some_and(|status| datum::text_is(status, b"blocked")))
}

/// The trigger BEFORE DELETE of each row.
pub fn before_delete(row: &TriggerRow) -> Result<Datum<'static>> {
    row.check(&JOBS)?;
    let is_keyed = row.get(column::GROUP_KEY).is_some();
    let extension = any_extension()?;
    if !identity::is_ours() {
        refuse_leased(row, &extension)?;
        let job = row.get(column::ID).map_or(0, datum::as_i64);
        wake::gone_at_commit(job)?;
    }
    if is_keyed {
        tell_of_key(row, &extension)?;
    }
    rerun::row_goes(&extension, row)?;
    Ok(row.result())
}

/// A job with a key goes, or changes: if it stands before the others of its key no more, they learn it.
fn tell_of_key(row: &TriggerRow, extension: &Extension) -> Result<()> {
    let old = |column| match row.is_update {
        true => row.old(column),
        false => row.get(column),
    };
    let is_same = |column| datum::are_same(old(column), row.get(column));
    let stays = row.is_update
        && is_same(column::STATUS)?
        && is_same(column::QUEUE)?
        && is_same(column::GROUP_KEY)?;
    let begins = row.is_update
        && row
            .get(column::STATUS)
            .is_some_and(|status| datum::text_is(status, b"processing"));
    let (Some(queue), Some(key)) = (old(column::QUEUE), old(column::GROUP_KEY)) else {
        return Ok(());
    };
    if stays || begins {
        return Ok(());
    }
    let queue = datum::as_text(queue)?;
    let kept = queues::last_held(extension, &queue, |kept| {
        (kept.queue.id, kept.queue.by_key.is_some())
    });
    let owner = old(column::OWNER).map_or(0, datum::as_oid);
    match kept {
        Some((_, false)) => Ok(()),
        kept => keys::free_at_commit((&queue, kept.map_or(0, |(id, _)| id)), owner, key),
    }
}

/// Refuses to change or delete a job by SQL that a consumer has. The row is locked, so a consumer that has
/// published a lease since sees that.
fn refuse_leased(row: &TriggerRow, extension: &Extension) -> Result<()> {
    let old = |column| match row.is_update {
        true => row.old(column),
        false => row.get(column),
    };
    let job = old(column::ID).map_or(0, datum::as_i64);
    if old(column::LEASE).is_none() && consumers::of_job(extension.jobs, job).is_none() {
        return Ok(());
    }
    let message = format!("job {job} is held by a consumer");
    Err(PgError::new(OBJECT_IN_USE, message)
        .hint("Cancel it with my_worker.cancel(), or wait until its consumer has ended it."))
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

/// The queues, by id, of which this session was told that their jobs wait for a consumer.
static TOLD: Local<Vec<i32>> = Local::new(Vec::new());
/// The most that are remembered.
const MOST_TOLD: usize = 100;

/// Says once a session and queue that no worker will run such a job: its writer may have forgotten the
/// handler. Producers for consumers of their own enqueue such jobs all day.
fn tell_of_consumers(id: i32, queue: &[u8]) -> Result<()> {
    let is_told = TOLD.with(|told| {
        let known = told.contains(&id) || told.len() >= MOST_TOLD;
        if !known {
            told.push(id);
        }
        known
    });
    if is_told {
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
    } else if !row.is_update && row.get(column::HOME).map(datum::as_i64) == Some(birth::home()) {
        // Of this home, or of a time before there were any: others may have run it since the dump was made.
        changes.push((column::HOME, Some(home::RESTORED.datum())));
    }
    row.set(&changes)?;
    Ok(is_users)
}

/// What CHECK constraints of the table would say; those are parsed anew by every statement.
fn check_values(row: &TriggerRow) -> Result<()> {
    let wrong = |message: &str| Err(PgError::new(CHECK_VIOLATION, message));
    let text = |column| row.get(column).map(datum::as_text).transpose();
    let status = row.get(column::STATUS);
    let is_given = |word| status.is_some_and(|status| datum::text_is(status, word));
    if status.is_some()
        && !(is_given(b"pending".as_slice())
            || is_given(b"processing")
            || is_given(b"failed") && may_be(row, b"failed")?
            || is_given(b"blocked") && (is_waiting_rerun(row) || may_be(row, b"blocked")?))
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
    )?;
    let (kind, group_key) = (text(column::KIND)?, text(column::GROUP_KEY)?);
    check_texts(kind.as_deref(), group_key.as_deref())?;
    check_flow(|column| row.get(column))
}

/// One that waits for the end of another says so in two columns, which only the owner of the extension sets.
fn is_waiting_rerun(row: &TriggerRow) -> bool {
    let blocked = row.get(column::STATUS);
    blocked.is_some_and(|status| datum::text_is(status, b"blocked"))
        && row.get(column::RERUN).is_some_and(datum::as_bool)
}

/// Only statements of ours set a job aside, or have it wait for others; one that does stays so until they take it
/// back, also in a dump.
fn may_be(row: &TriggerRow, word: &[u8]) -> Result<bool> {
    let old = row.old(column::STATUS);
    let stays = row.is_update && old.is_some_and(|old| datum::text_is(old, word));
    Ok(stays || super::is_restore()?)
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

fn check_names(row: &TriggerRow, changes: &mut Vec<(i32, Option<Datum<'static>>)>) -> Result<()> {
    let Some(queue) = row.get(column::QUEUE) else {
        return Err(PgError::new(NULL_VALUE_NOT_ALLOWED, "a job needs a queue"));
    };
    if is_new(row, column::QUEUE)? {
        datum::with_text(queue, check_queue)??;
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
    let text = |value: Option<Datum<'_>>| value.map(datum::as_text).transpose();
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
