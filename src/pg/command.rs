//! SQL text run at top level, as a client's simple query would be.
//!
//! The statements of one text share an implicit transaction, unless they say otherwise themselves; a
//! single one may be VACUUM or CALL of a procedure that commits. What they return goes nowhere: the
//! receiver drops rows unformatted. Compare exec_simple_query() in tcop/postgres.c.

use std::ffi::CStr;
use std::ptr;

use super::clock::MICROS_PER_MS;
use super::error::{
    ACTIVE_SQL_TRANSACTION, FEATURE_NOT_SUPPORTED, IN_FAILED_SQL_TRANSACTION, PgError, Result,
};
use super::guard::{protect, text};
use super::memcx::{self, MemoryContext};
use super::nodes::{Node, child};
use super::{datum, hold, session};
use crate::sys::{self, RawStmt};

/// Runs the text outside a transaction; it begins and ends its own. Answers the tag of the last
/// statement, like `UPDATE 5`. `context` holds parse trees and plans and is the caller's to reset.
/// Raises whatever the text raises; the transaction is aborted then, and none is open in either
/// case. It is cancelled after `timeout_ms` (0: never), and each statement after the session's
/// `statement_timeout`. Log lines show `label` in its place.
pub fn run(sql: &[u8], label: &str, context: MemoryContext, timeout_ms: i32) -> Result<String> {
    let (sql, label) = (text(sql), text(label.as_bytes()));
    let outer = memcx::current();
    // SAFETY: a variable of this process; the context lives as long as the process.
    let messages = unsafe { (&raw mut sys::MessageContext).replace(context.raw()) };
    let result = Text::begin(&sql, &label, context, timeout_ms).and_then(Text::run);
    // SAFETY: as above; nothing shows the label any more.
    unsafe {
        sys::MessageContext = messages;
        sys::debug_query_string = ptr::null();
    }
    memcx::switch_to(outer);
    if result.is_err() {
        abort()?;
        memcx::switch_to(outer);
    }
    result
}

/// Takes away all that a session can leave behind, as `DISCARD ALL` does, and the seed of random(). Plans stay, as
/// they are of no consequence and what writes the job's end down has some. Outside a transaction.
/// Compare DiscardAll() in commands/discard.c.
pub fn discard_all() -> Result<()> {
    let outer = memcx::current();
    // SAFETY: no transaction is open, and no portal of this session is running. Dropping temporary tables may fetch
    // toasted values of catalogs, which takes a snapshot.
    let result = protect(|| unsafe {
        sys::StartTransactionCommand();
        sys::PushActiveSnapshot(sys::GetTransactionSnapshot());
        // Closing portals may run code of users, so it comes first.
        sys::PortalHashTableDeleteAll();
        sys::SetPGVariable(c"session_authorization".as_ptr(), ptr::null_mut(), false);
        sys::ResetAllOptions();
        sys::DropAllPreparedStatements();
        sys::Async_UnlistenAll();
        sys::LockReleaseAll(sys::USER_LOCKMETHOD as _, true);
        sys::ResetTempTableNamespace();
        sys::ResetSequenceCaches();
        sys::PopActiveSnapshot();
        sys::CommitTransactionCommand();
    })
    .and_then(|()| session::reseed());
    if result.is_err() {
        abort()?;
    }
    memcx::switch_to(outer);
    result
}

/// Ends whatever transaction an error or an open BEGIN left.
fn abort() -> Result<()> {
    // SAFETY: cleans up after any failure.
    protect(|| unsafe {
        sys::disable_timeout(sys::STATEMENT_TIMEOUT, false);
        sys::AbortOutOfAnyTransaction();
    })
}

/// A text that runs.
struct Text<'a> {
    sql: &'a CStr,
    context: MemoryContext,
    /// When it has to be done, unless 0.
    end: i64,
    /// Its statements, a list of [`RawStmt`] in the context.
    statements: Node<'a>,
}

/// One statement of a text.
struct Step<'a> {
    statement: &'a RawStmt,
    /// Whether there are others.
    in_block: bool,
    is_last: bool,
}

impl<'a> Text<'a> {
    /// Begins the first transaction and parses the text.
    fn begin(sql: &'a CStr, label: &CStr, context: MemoryContext, timeout_ms: i32) -> Result<Self> {
        let (pointer, label) = (sql.as_ptr(), label.as_ptr());
        // SAFETY: no transaction is open; the label lives until `run` has taken it away.
        let (start, statements) = protect(|| unsafe {
            sys::debug_query_string = label;
            sys::SetCurrentStatementStartTimestamp();
            sys::StartTransactionCommand();
            memcx::switch_to(context.raw());
            let start = sys::GetCurrentStatementStartTimestamp();
            (start, sys::pg_parse_query(pointer))
        })?;
        let end = match timeout_ms {
            1.. => start + i64::from(timeout_ms) * MICROS_PER_MS,
            _ => 0,
        };
        // SAFETY: a list of nodes in the context, which is the caller's to reset.
        let statements = unsafe { Node::new(statements.cast_const().cast()) };
        Ok(Text {
            sql,
            context,
            end,
            statements,
        })
    }

    fn run(self) -> Result<String> {
        let count = self.statements.all::<RawStmt>().count();
        // SAFETY: all-zero is a completion without a tag.
        let mut completion: sys::QueryCompletion = unsafe { std::mem::zeroed() };
        for (index, statement) in self.statements.all::<RawStmt>().enumerate() {
            let step = Step {
                statement,
                in_block: count > 1,
                is_last: index + 1 == count,
            };
            completion = self.run_step(&step)?;
        }
        // SAFETY: ends the transaction that a text without statements has begun.
        let is_open = protect(|| unsafe {
            if count == 0 {
                sys::CommitTransactionCommand();
            }
            sys::disable_timeout(sys::STATEMENT_TIMEOUT, false);
            sys::IsTransactionBlock()
        })?;
        if is_open {
            return Err(
                PgError::new(ACTIVE_SQL_TRANSACTION, "command left a transaction open")
                    .hint("End it with COMMIT."),
            );
        }
        match count {
            0 => Ok(String::new()),
            _ => tag(&completion),
        }
    }

    fn run_step(&self, step: &Step) -> Result<sys::QueryCompletion> {
        let context = self.context.raw();
        // A long script must not pile up the plans of all its statements.
        let plans = match step.is_last {
            true => context,
            false => memcx::child(context, c"my_worker statement")?,
        };
        limit_statement(self.end)?;
        self.prepare(step)?;
        let completion = self.execute(step, plans)?;
        let is_transaction = child!(step.statement, stmt)
            .cast::<sys::TransactionStmt>()
            .is_some();
        let (is_last, in_block) = (step.is_last, step.in_block);
        // SAFETY: the statement has run, in a transaction; its plans are used no more.
        protect(|| unsafe {
            if is_last && in_block {
                sys::EndImplicitTransactionBlock();
            }
            if is_last || is_transaction {
                sys::CommitTransactionCommand();
            } else {
                sys::CommandCounterIncrement();
            }
            memcx::switch_to(context);
            if !is_last {
                sys::MemoryContextDelete(plans);
            }
        })?;
        Ok(completion)
    }

    /// What comes before a statement, also before it is looked at.
    fn prepare(&self, step: &Step) -> Result<()> {
        let statement = child!(step.statement, stmt);
        refuse_client_copy(statement)?;
        // SAFETY: reads the state of this process.
        let is_aborted = unsafe { sys::IsAbortedTransactionBlockState() };
        if is_aborted && statement.cast::<sys::TransactionStmt>().is_none() {
            return Err(PgError::new(
                IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        let in_block = step.in_block;
        // SAFETY: a statement before it may have ended the transaction.
        protect(|| unsafe {
            sys::pgstat_report_query_id(0, true);
            if !sys::IsTransactionState() {
                sys::StartTransactionCommand();
            }
            if in_block {
                sys::BeginImplicitTransactionBlock();
            }
            sys::mw_check_for_interrupts();
        })?;
        hold::keep()
    }

    /// Analyzes, plans and runs a statement. Its plans stay in a context that outlives a COMMIT within it.
    fn execute(&self, step: &Step, plans: sys::MemoryContext) -> Result<sys::QueryCompletion> {
        let sql = self.sql.as_ptr();
        let statement = ptr::from_ref(step.statement).cast_mut();
        // SAFETY: a transaction is open; statement and text live until the text has run, the plans until
        // the portal is dropped. Nothing here owns what an ERROR would have to give back.
        protect(|| unsafe {
            memcx::switch_to(plans);
            let list = analyze_and_plan(statement, sql);
            let mut completion: sys::QueryCompletion = std::mem::zeroed();
            run_portal(statement, sql, list, &mut completion);
            completion
        })
    }
}

/// May raise.
///
/// # Safety
/// A transaction is open, and a statement of a text was parsed from it.
unsafe fn analyze_and_plan(statement: *mut RawStmt, sql: *const libc::c_char) -> *mut sys::List {
    // SAFETY: as the caller says.
    unsafe {
        let takes_snapshot = sys::analyze_requires_snapshot(statement);
        if takes_snapshot {
            sys::PushActiveSnapshot(sys::GetTransactionSnapshot());
        }
        let none = ptr::null_mut();
        let queries = sys::pg_analyze_and_rewrite_fixedparams(statement, sql, ptr::null(), 0, none);
        let options = sys::CURSOR_OPT_PARALLEL_OK as i32;
        let plans = sys::pg_plan_queries(queries, sql, options, ptr::null_mut());
        if takes_snapshot {
            sys::PopActiveSnapshot();
        }
        plans
    }
}

/// May raise.
///
/// # Safety
/// As above; the plans are of that statement.
unsafe fn run_portal(
    statement: *mut RawStmt,
    sql: *const libc::c_char,
    plans: *mut sys::List,
    completion: *mut sys::QueryCompletion,
) {
    // SAFETY: as the caller says; a receiver of this kind drops what it gets.
    unsafe {
        let portal = sys::CreatePortal(c"".as_ptr(), true, true);
        let receiver = sys::CreateDestReceiver(sys::DestNone);
        (*portal).visible = false;
        let tag = sys::CreateCommandTag((*statement).stmt);
        sys::PortalDefineQuery(portal, ptr::null(), sql, tag, plans, ptr::null_mut());
        sys::PortalStart(portal, ptr::null_mut(), 0, ptr::null_mut());
        memcx::switch_to(sys::CurTransactionContext);
        // FETCH_ALL
        let all = libc::c_long::MAX;
        #[cfg(pg_ge_18)]
        sys::PortalRun(portal, all, true, receiver, receiver, completion);
        #[cfg(not(pg_ge_18))]
        sys::PortalRun(portal, all, true, true, receiver, receiver, completion);
        if let Some(destroy) = (*receiver).rDestroy {
            destroy(receiver);
        }
        sys::PortalDrop(portal, false);
    }
}

/// `statement_timeout` is of one statement and may be set by the one before; `end`, unless 0, is the end
/// of them all.
fn limit_statement(end: i64) -> Result<()> {
    let own = i64::from(session::statement_timeout_ms());
    // SAFETY: every session has this timeout.
    protect(|| unsafe {
        let until = match own {
            1.. => sys::GetCurrentTimestamp() + own * MICROS_PER_MS,
            _ => 0,
        };
        let ends = [until, end];
        match ends.into_iter().filter(|end| *end != 0).min() {
            Some(first) => sys::enable_timeout_at(sys::STATEMENT_TIMEOUT, first),
            None => sys::disable_timeout(sys::STATEMENT_TIMEOUT, false),
        }
    })
}

/// Without a client there is nothing to copy from or to but the server's own files.
fn refuse_client_copy(statement: Node) -> Result<()> {
    let copy = statement.cast::<sys::CopyStmt>();
    let Some(copy) = copy.filter(|copy| copy.filename.is_null()) else {
        return Ok(());
    };
    let what = if copy.is_from {
        "FROM STDIN"
    } else {
        "TO STDOUT"
    };
    let message = format!("cannot execute COPY {what} within a background process");
    Err(PgError::new(FEATURE_NOT_SUPPORTED, message)
        .hint("A job has no client; use a file, a program or INSERT."))
}

/// What a client would be told of a statement (BuildQueryCompletionString, which 15 does not have).
fn tag(completion: &sys::QueryCompletion) -> Result<String> {
    let tag = completion.commandTag;
    // SAFETY: a tag of the server, and its name, which is static.
    let (name, counts) = protect(|| unsafe {
        let counts = sys::command_tag_display_rowcount(tag);
        (sys::GetCommandTagName(tag), counts)
    })?;
    let name = datum::from_c(name).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    Ok(match counts {
        true if tag == sys::CMDTAG_INSERT => format!("{name} 0 {}", completion.nprocessed),
        true => format!("{name} {}", completion.nprocessed),
        false => name.into_owned(),
    })
}
