//! Utility statements that concern us: those that need a database for themselves are told before
//! they run, and COPY FROM STDIN into our table runs where row-level security would refuse it.
//!
//! The server's hook is chained. Nothing of ours is alive while the statement runs, since it may
//! raise through our frame.

use std::ffi::CStr;
use std::ptr;

use libc::c_char;

use once_cell::sync::OnceCell;

use super::copy::{self, CopyHook, Left};
use super::datum::{self, Oid};
use super::ddl::{self, Target};
use super::error::Result;
use super::guard::{self, protect};
use super::nodes::{Node, child, word};
use super::{owed, session, statements};
use crate::sys::{self, PlannedStmt};

pub use super::copy::CopyTarget;

/// Told the name of a database that is about to be dropped, renamed, moved or copied. An error
/// stops the statement.
pub type DatabaseHook = fn(&[u8]) -> Result<()>;

static PREVIOUS: OnceCell<sys::ProcessUtility_hook_type> = OnceCell::new();
static HOOK: OnceCell<DatabaseHook> = OnceCell::new();

static COPY_HOOK: OnceCell<CopyHook> = OnceCell::new();

/// Told what a statement is about to do to relations, before it locks them. An error stops it.
pub type DefinitionHook = fn(&Definition) -> Result<()>;

static DEFINITION_HOOK: OnceCell<DefinitionHook> = OnceCell::new();

/// A statement that is about to lock relations, or an extension.
pub struct Definition<'a> {
    statement: &'a PlannedStmt,
    /// See [`Target`].
    pub targets: Vec<Target>,
}

impl Definition<'_> {
    /// Whether it locks that extension against everybody: to drop it, or to have an object depend on it.
    pub fn locks_extension(&self, name: &'static CStr) -> bool {
        ddl::locks_extension(self.statement, name)
    }
}

/// Chains into the server's hook. From `_PG_init`.
pub fn install(database: DatabaseHook, copy: CopyHook, definition: DefinitionHook) {
    let _ = HOOK.set(database);
    let _ = DEFINITION_HOOK.set(definition);
    let _ = COPY_HOOK.set(copy);
    // SAFETY: the postmaster is loading libraries, single-threaded.
    unsafe {
        let _ = PREVIOUS.set(sys::ProcessUtility_hook);
        sys::ProcessUtility_hook = Some(process_utility);
    }
}

fn tell(planned: &PlannedStmt) -> Result<()> {
    let Some(hook) = HOOK.get().copied() else {
        return Ok(());
    };
    match database_wanted(child!(planned, utilityStmt))? {
        Some(name) => hook(&name),
        None => Ok(()),
    }
}

/// The database that a utility statement needs free of sessions.
fn database_wanted(statement: Node) -> Result<Option<Vec<u8>>> {
    let name = if let Some(drop) = statement.cast::<sys::DropdbStmt>() {
        word!(drop, dbname)
    } else if let Some(rename) = statement.cast::<sys::RenameStmt>() {
        word!(rename, subname).filter(|_| rename.renameType == sys::OBJECT_DATABASE)
    } else if let Some(changed) = statement.cast::<sys::AlterDatabaseStmt>() {
        let moves = option(child!(changed, options), c"tablespace").is_some();
        word!(changed, dbname).filter(|_| moves)
    } else if let Some(created) = statement.cast::<sys::CreatedbStmt>() {
        let template = option(child!(created, options), c"template");
        let Some(template) = template.filter(|template| !template.arg.is_null()) else {
            return Ok(Some(b"template1".to_vec()));
        };
        let template = ptr::from_ref(template).cast_mut();
        // SAFETY: a node of the statement; the text lies in it, or in the current memory.
        let name = protect(|| unsafe { sys::defGetString(template).cast_const() })?;
        return Ok(datum::from_c(name));
    } else {
        None
    };
    Ok(name.map(|name| name.to_bytes().to_vec()))
}

/// An option of a statement.
fn option<'a>(options: Node<'a>, name: &CStr) -> Option<&'a sys::DefElem> {
    let mut options = options.all::<sys::DefElem>();
    options.find(|option| word!(*option, defname) == Some(name))
}

/// The statement to run, and the table that it fills from the client although the server would refuse
/// it; 0: none.
type Directed = (*mut PlannedStmt, Oid);

fn check_definition(statement: &PlannedStmt) -> Result<()> {
    let targets = ddl::targets(statement)?;
    let hook = DEFINITION_HOOK.get().copied();
    hook.map_or(Ok(()), |hook| hook(&Definition { statement, targets }))
}

/// Called after DISCARD ALL.
static RESET_HOOK: OnceCell<fn()> = OnceCell::new();

/// Has `reset` called when a session is reset, as by a pooler. From `_PG_init`.
pub fn on_reset(reset: fn()) {
    let _ = RESET_HOOK.set(reset);
}

/// Whether it resets the session.
fn is_reset(statement: &PlannedStmt) -> bool {
    let discard = child!(statement, utilityStmt).cast::<sys::DiscardStmt>();
    discard.is_some_and(|discard| discard.target == sys::DISCARD_ALL)
}

fn before(statement: &PlannedStmt) -> Result<Directed> {
    let utility = child!(statement, utilityStmt);
    if utility.cast::<sys::ConstraintsSetStmt>().is_some() {
        session::touch_constraints();
    }
    check_definition(statement)?;
    tell(statement)?;
    owed::before_utility(statement)?;
    statements::prepare(statement)?;
    let (statement, table) = copy::direct(statement, COPY_HOOK.get().copied())?;
    Ok((ptr::from_ref(statement).cast_mut(), table))
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
    // SAFETY: the server passes a valid statement, which lives until the hook has returned.
    let outcome = guard::enter((statement, 0), || before(unsafe { &*statement }));
    // SAFETY: this frame owns nothing.
    let (statement, table) = unsafe { guard::raise(outcome) };
    let previous = PREVIOUS.get().copied().flatten();
    let next = previous.unwrap_or(sys::standard_ProcessUtility);
    // SAFETY: the arguments go on as they came. Nothing here owns anything.
    let call = || unsafe {
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
    };
    if table == 0 {
        // SAFETY: the statement lives until this hook has returned.
        let resets = is_reset(unsafe { &*statement });
        call();
        // Not before: the server refuses it within a transaction block.
        if let Some(hook) = RESET_HOOK.get().filter(|_| resets) {
            let _ = guard::enter((), || {
                hook();
                Ok(())
            });
        }
        return;
    }
    let left = guard::enter(Left::CheckAndFill, || match previous {
        Some(_) => copy::show(call),
        None => Ok(Left::CheckAndFill),
    });
    // SAFETY: this frame owns nothing; statement and table are those of `direct`.
    unsafe {
        let left = guard::raise(left);
        if left != Left::Nothing {
            let fill = (table, left == Left::CheckAndFill);
            copy::fill(statement, query, environment, completion, fill);
        }
    }
}
