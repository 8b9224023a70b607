//! Statements that user code has executed: told of before they start, with what they do to our
//! tables; and, once they have started, given the shortcut for their rows. The server's hook is chained; utility statements have
//! one of their own (`utility`).

use once_cell::sync::OnceCell;

use super::datum::Oid;
use super::error::Result;
use super::guard;
use super::nodes::{self, Node, child};
use super::{append, hold, owed, shortcut};
use crate::sys;

/// A planned statement that is about to start.
pub struct Statement<'a>(&'a sys::PlannedStmt);

impl Statement<'_> {
    /// Whether it locks, updates or deletes rows of a table, its name behind a view or not.
    pub fn holds_rows_of(&self, table: Oid) -> bool {
        let plan = self.0;
        let is_of_table = |index: usize| {
            let entry = child!(plan, rtable).members().nth(index);
            let entry = entry.and_then(Node::cast::<sys::RangeTblEntry>);
            entry.is_some_and(|entry| entry.relid == table)
        };
        let mut marks = child!(plan, rowMarks).all::<sys::PlanRowMark>();
        // As RowMarkRequiresRowShareLock() of the server: the weaker marks lock no row.
        if marks.any(|mark| {
            mark.markType <= sys::ROW_MARK_KEYSHARE
                && is_of_table((mark.rti as usize).wrapping_sub(1))
        }) {
            return true;
        }
        if plan.commandType == sys::CMD_INSERT && !plan.hasModifyingCTE {
            return false;
        }
        nodes::changed(plan).any(is_of_table)
    }
}

/// Has what was appended in this transaction written if the statement would miss it; and takes again
/// what a ROLLBACK has taken from the command that runs, see `catalog::hold_extension_on`.
pub(super) fn prepare(statement: &sys::PlannedStmt) -> Result<()> {
    append::show(statement)?;
    hold::keep()
}

/// Told of each statement. An error is raised in its place.
pub type StatementHook = fn(&Statement) -> Result<()>;

static PREVIOUS: OnceCell<sys::ExecutorStart_hook_type> = OnceCell::new();
static HOOK: OnceCell<StatementHook> = OnceCell::new();

/// Chains into the server's hook (ExecutorStart_hook, executor/executor.h). From `_PG_init`.
pub fn install() {
    // SAFETY: a variable of this process, which has one thread.
    unsafe {
        let _ = PREVIOUS.set(sys::ExecutorStart_hook);
        sys::ExecutorStart_hook = Some(executor_start);
    }
}

/// From now on `hook` is told in this process, and what an `Appender` holds back is written for who reads it.
pub fn watch(hook: StatementHook) {
    let _ = HOOK.set(hook);
}

/// Before a statement starts, in a process that watches.
fn before(statement: &sys::PlannedStmt, hook: StatementHook) -> Result<()> {
    hook(&Statement(statement))?;
    owed::before_statement(statement)?;
    prepare(statement)
}

unsafe extern "C-unwind" fn executor_start(query: *mut sys::QueryDesc, flags: i32) {
    // SAFETY: the server passes a valid description of a planned query; this frame owns nothing, and the
    // arguments go on as they came.
    unsafe {
        if let Some(hook) = HOOK.get().copied() {
            let outcome = guard::enter((), || before(&*(*query).plannedstmt, hook));
            guard::raise(outcome);
        }
        let next = PREVIOUS
            .get()
            .copied()
            .flatten()
            .unwrap_or(sys::standard_ExecutorStart);
        next(query, flags);
        if shortcut::may_take(query, flags) {
            let outcome = guard::enter((), || shortcut::take(query));
            guard::raise(outcome);
        }
    }
}
