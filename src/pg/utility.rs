//! Utility statements that concern us: those that need a database for themselves are told before
//! they run, and COPY FROM STDIN into our table runs where row-level security would refuse it.
//!
//! The server's hook is chained. Nothing of ours is alive while the statement runs, since it may
//! raise through our frame.

use std::ffi::CStr;

use libc::c_char;

use super::datum::{self, Oid};
use super::error::Result;
use super::guard;
use super::local::Local;
use super::statements;
use crate::sys;

/// Told the name of a database that is about to be dropped, renamed, moved or copied. An error
/// stops the statement.
pub type DatabaseHook = fn(&[u8]) -> Result<()>;

static PREVIOUS: Local<sys::ProcessUtility_hook_type> = Local::new(None);
static HOOK: Local<Option<DatabaseHook>> = Local::new(None);

/// A table that COPY FROM STDIN may fill although its one policy, of that name, would refuse it.
pub type CopyTarget = (Oid, &'static CStr);

/// Asked for it; `None` if there is none.
pub type CopyHook = fn() -> Result<Option<CopyTarget>>;

static COPY_HOOK: Local<Option<CopyHook>> = Local::new(None);

/// Chains into the server's hook. From `_PG_init`.
pub fn install(database: DatabaseHook, copy: CopyHook) {
    HOOK.set(Some(database));
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

/// The table that the statement may fill by COPY FROM STDIN, where the server would refuse it.
fn copy_target(statement: *mut sys::PlannedStmt) -> Result<Option<CopyTarget>> {
    // SAFETY: the server passes a valid statement.
    if !unsafe { sys::mw_is_client_copy(statement) } {
        return Ok(None);
    }
    COPY_HOOK.get().map_or(Ok(None), |hook| hook())
}

fn before(statement: *mut sys::PlannedStmt) -> Result<Option<CopyTarget>> {
    tell(statement)?;
    statements::prepare(statement)?;
    copy_target(statement)
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
    let outcome = guard::enter(None, || before(statement));
    // SAFETY: this frame owns nothing; the arguments go on as they came.
    unsafe {
        let target = guard::raise(outcome);
        // Hooks that this library chained into do not hear of it.
        if let Some((table, policy)) = target
            && sys::mw_client_copy(
                statement,
                query,
                environment,
                completion,
                table,
                policy.as_ptr(),
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
