//! Utility statements that concern us: those that need a database for themselves are told before
//! they run, and COPY FROM STDIN into our table runs where row-level security would refuse it.
//!
//! The server's hook is chained. Nothing of ours is alive while the statement runs, since it may
//! raise through our frame.

use std::ffi::CStr;

use libc::c_char;

use super::datum::{self, Oid};
use super::ddl::{self, Target};
use super::error::Result;
use super::guard::{self, protect};
use super::local::Local;
use super::statements;
use crate::sys;

/// Told the name of a database that is about to be dropped, renamed, moved or copied. An error
/// stops the statement.
pub type DatabaseHook = fn(&[u8]) -> Result<()>;

static PREVIOUS: Local<sys::ProcessUtility_hook_type> = Local::new(None);
static HOOK: Local<Option<DatabaseHook>> = Local::new(None);

/// What COPY does with a view of ours and with the table behind it.
#[derive(Clone, Copy)]
pub struct CopyTarget {
    /// The view: its COPY is one of the table.
    pub view: Oid,
    /// Schema and name of the table.
    pub name: (&'static CStr, &'static CStr),
    /// The table. COPY FROM STDIN may fill it although its one policy, of that name, would refuse it.
    pub table: Oid,
    /// That policy.
    pub policy: &'static CStr,
}

/// Asked for it; `None` if there is none.
pub type CopyHook = fn() -> Result<Option<CopyTarget>>;

static COPY_HOOK: Local<Option<CopyHook>> = Local::new(None);

/// Told what a statement is about to do to relations, before it locks them. An error stops it.
pub type DefinitionHook = fn(&Definition) -> Result<()>;

static DEFINITION_HOOK: Local<Option<DefinitionHook>> = Local::new(None);

/// A statement that is about to lock relations, or an extension.
pub struct Definition {
    statement: *mut sys::PlannedStmt,
    /// See [`Target`].
    pub targets: Vec<Target>,
}

impl Definition {
    /// Whether it locks that extension against everybody: to drop it, or to have an object depend on it.
    pub fn locks_extension(&self, name: &'static CStr) -> bool {
        ddl::locks_extension(self.statement, name)
    }
}

/// Chains into the server's hook. From `_PG_init`.
pub fn install(database: DatabaseHook, copy: CopyHook, definition: DefinitionHook) {
    HOOK.set(Some(database));
    DEFINITION_HOOK.set(Some(definition));
    COPY_HOOK.set(Some(copy));
    // SAFETY: the postmaster is loading libraries, single-threaded.
    unsafe {
        PREVIOUS.set(sys::ProcessUtility_hook);
        sys::ProcessUtility_hook = Some(process_utility);
    }
}

fn tell(statement: *mut sys::PlannedStmt) -> Result<()> {
    // SAFETY: the server passes a valid statement; the name is NULL or lies within it.
    let name: *const c_char = unsafe { sys::mw_database_wanted(statement) };
    match (datum::from_c(name), HOOK.get()) {
        (Some(name), Some(hook)) => hook(&name),
        _ => Ok(()),
    }
}

/// The statement to run, and the table that it may fill by COPY FROM STDIN where the server would
/// refuse it.
type Directed = (*mut sys::PlannedStmt, Option<CopyTarget>);

fn direct_copy(statement: *mut sys::PlannedStmt) -> Result<Directed> {
    // SAFETY: the server passes a valid statement.
    if !unsafe { sys::mw_is_copy(statement) } {
        return Ok((statement, None));
    }
    let Some(target) = COPY_HOOK.get().map_or(Ok(None), |hook| hook())? else {
        return Ok((statement, None));
    };
    let (schema, table) = (target.name.0.as_ptr(), target.name.1.as_ptr());
    // SAFETY: the statement is valid; what comes back is it, or a copy in the current memory.
    let statement =
        protect(|| unsafe { sys::mw_copy_through(statement, target.view, schema, table) })?;
    // SAFETY: as above.
    let from_client = unsafe { sys::mw_is_client_copy(statement) };
    Ok((statement, from_client.then_some(target)))
}

fn check_definition(statement: *mut sys::PlannedStmt) -> Result<()> {
    let targets = ddl::targets(statement)?;
    let hook = DEFINITION_HOOK.get();
    hook.map_or(Ok(()), |hook| hook(&Definition { statement, targets }))
}

fn before(statement: *mut sys::PlannedStmt) -> Result<Directed> {
    check_definition(statement)?;
    tell(statement)?;
    statements::prepare(statement)?;
    direct_copy(statement)
}

unsafe extern "C-unwind" fn process_utility(
    statement: *mut sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: sys::ProcessUtilityContext,
    params: sys::ParamListInfo,
    environment: *mut sys::QueryEnvironment,
    receiver: *mut sys::DestReceiver,
    completion: *mut sys::QueryCompletion,
) {
    let outcome = guard::enter((statement, None), || before(statement));
    // SAFETY: this frame owns nothing; the arguments go on as they came.
    unsafe {
        let (statement, target) = guard::raise(outcome);
        // Hooks that this library chained into do not hear of it.
        if let Some(target) = target
            && sys::mw_client_copy(
                statement,
                query,
                environment,
                completion,
                target.table,
                target.policy.as_ptr(),
            )
        {
            return;
        }
        let next = PREVIOUS.get().unwrap_or(sys::standard_ProcessUtility);
        next(
            statement,
            query,
            read_only_tree,
            context,
            params,
            environment,
            receiver,
            completion,
        );
    }
}
