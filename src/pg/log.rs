//! Reports of the levels that return. They reach the log and, by the client's settings, the client.

use std::ptr;

use super::error::{Result, SUCCESSFUL_COMPLETION, SqlState};
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

/// From here on no line of a process of ours shows the text of a statement, nor that the process was
/// told to end. From `_PG_init` while preloading.
pub fn quieten() {
    // SAFETY: chains into a hook; the postmaster is loading libraries, single-threaded.
    unsafe { sys::mw_be_quiet() }
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
