//! What nobody but the extension's owner may do to our tables, whatever rights somebody was granted on
//! them: GRANT ALL ON ALL TABLES, pg_write_all_data.
//!
//! The engine and all roles rely on these tables, and triggers, rules and foreign keys on them would
//! run within statements of ours. What roles may do they do through the functions and `my_queue`.

use crate::logic::columns::JOB_COLUMNS;
use crate::pg::catalog::{self, Extension, TABLES};
use crate::pg::datum::{self, Datum, Oid};
use crate::pg::ddl::Made;
use crate::pg::error::{FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, PgError, Result};
use crate::pg::fmgr::TriggerRow;
use crate::pg::utility::Definition;
use crate::pg::{birth, clock, identity, sequence};

use super::{any_extension, column};

/// Whether the current role has the rights of the extension's owner.
pub fn is_owner(extension: &Extension) -> Result<bool> {
    identity::has_rights_of(identity::current_role(), extension.owner)
}

/// The trigger of statements that write to a table of ours: 42501 for anybody but its owner.
pub fn only_owner(table: Oid) -> Result<()> {
    let extension = any_extension()?;
    if is_owner(&extension)? {
        return Ok(());
    }
    Err(PgError::new(
        INSUFFICIENT_PRIVILEGE,
        format!("permission denied for table {}", name_of(&extension, table)),
    )
    .detail("Only the owner of extension \"my_worker\" may write to this table.")
    .hint("Use the functions of schema my_worker."))
}

/// A table of ours as messages name it.
fn name_of(extension: &Extension, table: Oid) -> &'static str {
    let tables = extension.tables().into_iter().zip(TABLES);
    let mut named = tables.filter(|(oid, _)| *oid == table);
    let name = named.next().map_or("my_worker._jobs", |(_, name)| name);
    name.strip_prefix("my_worker.").unwrap_or(name)
}

/// Refuses a job's row in which somebody else than the owner of the extension sets what only the
/// engine sets; an id must have come from the sequence in this session.
pub fn check_row(row: &TriggerRow) -> Result<()> {
    let extension = any_extension()?;
    if is_owner(&extension)? {
        return Ok(());
    }
    // What only the engine sets a new job may not bring, and an UPDATE not change.
    let live = JOB_COLUMNS.iter().filter(|one| one.is_live());
    for (one, column) in live.zip(1..).filter(|(one, _)| one.is_forbidden()) {
        let (name, new) = (one.column.name, row.get(column));
        let is_as_it_must_be = match (row.is_update, column) {
            (true, _) => datum::are_same(row.old(column), new)?,
            (false, column::STATUS) => new.is_some_and(|new| datum::text_is(new, b"pending")),
            (false, column::ATTEMPTS) => new.map(datum::as_i32) == Some(0),
            (false, column::CREATED_AT) => {
                new.map(datum::as_i64) == Some(clock::transaction_start())
            }
            (false, column::HOME) => new.map(datum::as_i64) == Some(birth::home()),
            (false, column::RERUN) => new.map(datum::as_bool) == Some(false),
            (false, _) => new.is_none(),
        };
        if !is_as_it_must_be {
            return Err(refused(name));
        }
    }
    let number = |value: Option<Datum<'_>>| value.map(datum::as_i64);
    let id = number(row.get(column::ID));
    let is_own_id = match row.is_update {
        true => number(row.old(column::ID)) == id,
        false => sequence::last_drawn(extension.jobs_sequence, extension.owner)? == id,
    };
    if is_own_id {
        Ok(())
    } else {
        Err(refused("id"))
    }
}

fn refused(column: &str) -> PgError {
    PgError::new(
        INSUFFICIENT_PRIVILEGE,
        format!("permission denied to set column \"{column}\" of a job"),
    )
    .detail("Only the owner of extension \"my_worker\" may set it.")
}

/// Before a utility statement that locks relations or our extension before it looks at rights:
/// whoever may not do it is told so at once, and stalls nobody. 42501; 0A000 for a foreign key.
pub fn check_definition(definition: &Definition) -> Result<()> {
    let locks = definition.locks_extension(c"my_worker");
    if definition.targets.is_empty() && !locks {
        return Ok(());
    }
    let Some(extension) = catalog::extension()? else {
        return Ok(());
    };
    for target in &definition.targets {
        if !catalog::is_own_relation(&extension, target.relation)? {
            continue;
        }
        let name = catalog::relation_name(target.relation)?;
        if target.is_foreign_key {
            return Err(no_foreign_key(&name));
        }
        if !is_owner(&extension)? {
            return Err(not_owner(&name));
        }
    }
    if locks && !is_owner(&extension)? {
        let message = "must be owner of extension my_worker";
        return Err(PgError::new(INSUFFICIENT_PRIVILEGE, message));
    }
    Ok(())
}

/// After something was made that hangs on a relation of ours, or before that is truncated: only the
/// owner of the extension may. 42501; 0A000 for a foreign key, which nobody may have.
pub fn check_made(made: Made, relation: Oid) -> Result<()> {
    let Some(extension) = catalog::extension()? else {
        return Ok(());
    };
    if !catalog::is_own_relation(&extension, relation)? {
        return Ok(());
    }
    let name = catalog::relation_name(relation)?;
    match made {
        Made::ForeignKey => Err(no_foreign_key(&name)),
        _ if is_owner(&extension)? => Ok(()),
        _ => Err(not_owner(&name)),
    }
}

fn not_owner(name: &[u8]) -> PgError {
    let message = [b"must be owner of relation ".as_slice(), name].concat();
    PgError::new(INSUFFICIENT_PRIVILEGE, message).detail(
        "Triggers, rules, policies and locks on it would reach into the work of the extension.",
    )
}

fn no_foreign_key(name: &[u8]) -> PgError {
    let message = [
        b"foreign keys to relation \"".as_slice(),
        name,
        b"\" are not supported",
    ]
    .concat();
    PgError::new(FEATURE_NOT_SUPPORTED, message)
        .detail("A job leaves the queue when it has ended, and its history is forgotten in time.")
        .hint("Keep the job's id in a column without a foreign key, and look it up in my_worker.jobs.")
}
