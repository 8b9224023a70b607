//! Utility statements that need a database for themselves: told before they run.
//!
//! The server's hook is chained. Nothing of ours is alive while the statement runs, since it may
//! raise through our frame.

use libc::c_char;

use super::datum;
use super::error::Result;
use super::guard;
use super::local::Local;
use crate::sys;

/// Told the name of a database that is about to be dropped, renamed, moved or copied. An error
/// stops the statement.
pub type DatabaseHook = fn(&[u8]) -> Result<()>;

static PREVIOUS: Local<sys::ProcessUtility_hook_type> = Local::new(None);
static HOOK: Local<Option<DatabaseHook>> = Local::new(None);

/// Chains into the server's hook. From `_PG_init` while preloading.
pub fn on_exclusive_database(hook: DatabaseHook) {
    HOOK.set(Some(hook));
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
    let outcome = guard::enter((), || tell(statement));
    // SAFETY: this frame owns nothing; the arguments go on as they came.
    unsafe {
        guard::raise(outcome);
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
