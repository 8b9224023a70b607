//! Reports of the levels that return. They reach the log and, by the client's settings, the client.

use std::ffi::CStr;
use std::ptr;

use once_cell::sync::OnceCell;

use super::error::{ADMIN_SHUTDOWN, Result, SUCCESSFUL_COMPLETION, SqlState};
use super::guard::{protect, text};
use crate::sys;

/// Levels that return to the caller.
#[derive(Clone, Copy)]
pub enum Level {
    /// For the server's log.
    Log,
    /// For the client.
    Notice,
    /// For both, when something is amiss.
    Warning,
}

impl Level {
    fn code(self) -> i32 {
        (match self {
            Level::Log => sys::LOG,
            Level::Notice => sys::NOTICE,
            Level::Warning => sys::WARNING,
        }) as i32
    }
}

static PREVIOUS: OnceCell<sys::emit_log_hook_type> = OnceCell::new();

/// From here on no line of a process of ours shows the text of a statement, which is its owner's, nor
/// that the process was told to end: it says so itself where it was in the middle of a job. From
/// `_PG_init` while preloading.
pub fn quieten() {
    // SAFETY: a variable of this process, which has one thread.
    unsafe {
        let _ = PREVIOUS.set(sys::emit_log_hook);
        sys::emit_log_hook = Some(on_log);
    }
}

/// Whether this is a process of ours, or helps one with a statement.
fn is_ours() -> bool {
    // SAFETY: variables of this process; the names are terminated.
    unsafe {
        let Some(process) = sys::MyBgworkerEntry.as_ref() else {
            return false;
        };
        let is_parallel = sys::ParallelWorkerNumber >= 0;
        if !is_parallel {
            return CStr::from_ptr(process.bgw_library_name.as_ptr()) == c"my_worker";
        }
        let name = sys::application_name.cast_const();
        !name.is_null() && CStr::from_ptr(name).to_bytes().starts_with(b"my_worker ")
    }
}

unsafe extern "C-unwind" fn on_log(report: *mut sys::ErrorData) {
    if is_ours() {
        // SAFETY: the report that the server is about to write.
        unsafe {
            (*report).hide_stmt = true;
            let is_end = (*report).sqlerrcode == ADMIN_SHUTDOWN.0;
            if is_end && (*report).elevel == sys::FATAL as i32 {
                (*report).output_to_server = false;
            }
        }
    }
    if let Some(previous) = PREVIOUS.get().copied().flatten() {
        // SAFETY: the hook of another library, called as the server would.
        unsafe { previous(report) };
    }
}

/// Writes one report. May raise a cancel that is pending.
pub fn report(level: Level, message: &str) -> Result<()> {
    report_with(level, SUCCESSFUL_COMPLETION, message.as_bytes(), None, None)
}

/// Writes one report with a hint.
pub fn report_hint(level: Level, sqlstate: SqlState, message: &str, hint: &str) -> Result<()> {
    report_with(
        level,
        sqlstate,
        message.as_bytes(),
        None,
        Some(hint.as_bytes()),
    )
}

/// Writes one report with every field.
pub fn report_with(
    level: Level,
    sqlstate: SqlState,
    message: &[u8],
    detail: Option<&[u8]>,
    hint: Option<&[u8]>,
) -> Result<()> {
    let (message, detail, hint) = (text(message), detail.map(text), hint.map(text));
    let message = message.as_ptr();
    let detail = detail.as_ref().map_or(ptr::null(), |t| t.as_ptr());
    let hint = hint.as_ref().map_or(ptr::null(), |t| t.as_ptr());
    let (level, code) = (level.code(), sqlstate.0);
    // SAFETY: the strings live until the end of this function, and the level returns.
    protect(|| unsafe { sys::mw_report(level, code, message, detail, hint) })
}
