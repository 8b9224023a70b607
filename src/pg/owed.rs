//! Commits that do not wait for the disk, and what a command may do before the disk has its claim.
//!
//! Such a commit is *owed*. The log is one sequence, so whatever a command writes into the database is on disk only if
//! its claim is: a crash that loses the claim loses the rest as well. Anything else that others could notice must not
//! happen before. So the server's hooks tell this module of each statement and each function of a command before it
//! runs. The command stays *quiet* as long as they are of those that only compute, read, or change tables without triggers;
//! bodies in SQL and PL/pgSQL are watched in their turn. Before anything else runs, the claim is flushed.

use super::error::Result;
use super::guard::protect;
use super::guc;
use super::local::Local;
use super::nodes::{self, Node, child};
use super::syscache;
use crate::sys;

/// Has the COMMIT of the open transaction, which is one of ours, not wait for the disk; but it does where a standby is to confirm it.
pub fn do_not_wait() -> Result<()> {
    match is_confirmed_by_standbys() {
        true => Ok(()),
        false => guc::set_for_transaction(c"synchronous_commit", c"off"),
    }
}

/// Whether a COMMIT waits for standbys (synchronous_standby_names).
fn is_confirmed_by_standbys() -> bool {
    // SAFETY: NULL, or a text of the settings.
    unsafe { sys::SyncRepStandbyNames.as_ref().is_some_and(|c| *c != 0) }
}

/// Has the disk take over what a transaction has committed, if it owes that. Cheap if the disk has it.
pub fn flush_commit_of(xid: u32) -> Result<()> {
    // SAFETY: the log is flushed as far as the server says that it must be for this transaction.
    protect(|| unsafe {
        let end = sys::mw_commit_lsn(xid);
        if end != 0 {
            sys::XLogFlush(end);
        }
    })
}

/// The command that is watched.
#[derive(Clone, Copy)]
struct Watched {
    /// Where its claim ends in the log.
    claim: sys::XLogRecPtr,
    /// Records that this process had written to the log before it.
    records: i64,
}

/// `None`: none is, or it is quiet no more.
static WATCHED: Local<Option<Watched>> = Local::new(None);

/// Watches a command that is about to run. Its claim was the last thing that this process has committed.
pub fn watch() {
    // SAFETY: a variable of this process.
    let claim = unsafe { sys::XactLastCommitEnd };
    let records = records();
    WATCHED.set(Some(Watched { claim, records }));
}

/// The command has run. Whether it was quiet and has written nothing to the log: then it makes no difference whether it is run again after a
/// crash.
pub fn was_quiet() -> bool {
    let watched = WATCHED.replace(None);
    watched.is_some_and(|watched| watched.records == records())
}

fn records() -> i64 {
    // SAFETY: a variable of this process, which counts up.
    unsafe { sys::pgWalUsage.wal_records }
}

/// The command is about to do something that others could notice: the disk gets its claim before.
fn reach_out() -> Result<()> {
    let Some(watched) = WATCHED.replace(None) else {
        return Ok(());
    };
    // SAFETY: the log is flushed as far as a record of this process, unless it is.
    protect(|| unsafe { sys::XLogFlush(watched.claim) })
}

fn is_watching() -> bool {
    WATCHED.with(|watched| watched.is_some())
}

/// A planned statement is about to start.
pub(super) fn before_statement(statement: &sys::PlannedStmt) -> Result<()> {
    match is_watching() && !stays_here(statement)? {
        true => reach_out(),
        false => Ok(()),
    }
}

/// Whether it reads no foreign table, and changes only plain tables without triggers.
fn stays_here(statement: &sys::PlannedStmt) -> Result<bool> {
    let tables = child!(statement, rtable);
    let mut entries = tables.all::<sys::RangeTblEntry>();
    if entries.any(|entry| entry.relkind == FOREIGN_TABLE) {
        return Ok(false);
    }
    for index in nodes::changed(statement) {
        let entry = tables
            .members()
            .nth(index)
            .and_then(Node::cast::<sys::RangeTblEntry>);
        let Some(entry) = entry else {
            return Ok(false);
        };
        if !is_plain(entry.relid)? {
            return Ok(false);
        }
    }
    Ok(true)
}

const FOREIGN_TABLE: libc::c_char = b'f' as libc::c_char;
const TABLE: libc::c_char = b'r' as libc::c_char;

fn is_plain(table: u32) -> Result<bool> {
    let read = |class: &sys::FormData_pg_class| class.relkind == TABLE && !class.relhastriggers;
    Ok(syscache::with_row(table, read)?.unwrap_or(false))
}

/// A utility statement is about to run.
pub(super) fn before_utility(statement: &sys::PlannedStmt) -> Result<()> {
    match is_watching() && !only_leads_on(child!(statement, utilityStmt)) {
        true => reach_out(),
        false => Ok(()),
    }
}

/// Whether it does nothing but what this module hears of in its turn, or what concerns this session alone.
fn only_leads_on(statement: Node) -> bool {
    statement.cast::<sys::CallStmt>().is_some()
        || statement.cast::<sys::TransactionStmt>().is_some()
        || statement.cast::<sys::VariableSetStmt>().is_some()
        || statement.cast::<sys::VariableShowStmt>().is_some()
}

/// A function is about to be called, by a query or by the planner.
pub(super) fn before_function(function: u32) -> Result<()> {
    match is_watching() && !is_own_business(function)? {
        true => reach_out(),
        false => Ok(()),
    }
}

/// OIDs below are of functions that the server has built in (FirstGenbkiObjectId, access/transam.h).
const BUILT_IN: u32 = 10_000;
/// INTERNALlanguageId and SQLlanguageId (pg_language.dat).
const INTERNAL: u32 = 12;
const SQL: u32 = 14;
/// Volatile functions of the server that reach nobody: random(), clock_timestamp(), pg_sleep(), set_config() and
/// gen_random_uuid(). There are others; before them the claim is flushed.
const HARMLESS: [u32; 5] = [1598, 2649, 2626, 2078, 3432];
const VOLATILE: libc::c_char = b'v' as libc::c_char;

/// Whether it only computes or reads, or its body is watched in its turn.
fn is_own_business(function: u32) -> Result<bool> {
    let read = |row: &sys::FormData_pg_proc| (row.prolang, row.provolatile);
    let Some((language, volatility)) = syscache::with_row(function, read)? else {
        return Ok(false);
    };
    Ok(match language {
        INTERNAL => function < BUILT_IN && (volatility != VOLATILE || HARMLESS.contains(&function)),
        SQL => true,
        // SAFETY: a catalog look-up; 0 if there is none.
        other => other == protect(|| unsafe { sys::get_language_oid(c"plpgsql".as_ptr(), true) })?,
    })
}
