//! Utility statements that concern us: those that need a database for themselves are told before
//! they run, and COPY into our table is let through row-level security.
//!
//! The server's hook is chained. Nothing of ours is alive while the statement runs, since it may
//! raise through our frame.

use libc::c_char;

use super::datum::{self, Oid};
use super::error::Result;
use super::guard::{self, protect};
use super::identity;
use super::local::Local;
use super::statements;
use crate::sys;

/// Told the name of a database that is about to be dropped, renamed, moved or copied. An error
/// stops the statement.
pub type DatabaseHook = fn(&[u8]) -> Result<()>;

static PREVIOUS: Local<sys::ProcessUtility_hook_type> = Local::new(None);
static HOOK: Local<Option<DatabaseHook>> = Local::new(None);

/// Asked for the table that a COPY FROM STDIN may fill on behalf of roles that row-level security
/// applies to, with its owner; `None` if there is none.
pub type CopyHook = fn() -> Result<Option<(Oid, Oid)>>;

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

/// COPY FROM is refused where row-level security applies, though INSERT is not. For our table,
/// whose trigger checks each row anyway, the owner stands in. Answers the owner, or 0.
fn copy_owner(statement: *mut sys::PlannedStmt) -> Result<Oid> {
    // SAFETY: the server passes a valid statement.
    if !unsafe { sys::mw_is_client_copy(statement) } {
        return Ok(0);
    }
    let Some((table, owner)) = COPY_HOOK.get().map_or(Ok(None), |hook| hook())? else {
        return Ok(0);
    };
    // SAFETY: it is a COPY; catalog look-ups in its transaction.
    let may = protect(|| unsafe { sys::mw_may_copy(statement, table) })?;
    Ok(if may { owner } else { 0 })
}

fn before(statement: *mut sys::PlannedStmt) -> Result<Oid> {
    tell(statement)?;
    statements::show_appended(statement)?;
    copy_owner(statement)
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
    let outcome = guard::enter(0, || before(statement));
    // SAFETY: this frame owns nothing; the arguments go on as they came.
    unsafe {
        let owner = guard::raise(outcome);
        let caller = if owner == 0 {
            None
        } else {
            Some(identity::stand_in(owner))
        };
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
        if let Some(caller) = caller {
            identity::stand_down(caller);
        }
    }
}
