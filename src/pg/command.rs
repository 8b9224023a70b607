//! SQL text run at top level, as a client's simple query would be. See `sys/command.c`.

use std::ffi::CStr;

use super::error::Result;
use super::guard::{protect, text};
use super::memcx::{self, MemoryContext};
use super::session;
use crate::sys;

/// Runs the text outside a transaction; it begins and ends its own. Answers the tag of the last
/// statement, like `UPDATE 5`. `context` holds parse trees and plans and is the caller's to reset.
/// Raises whatever the text raises; the transaction is aborted then, and none is open in either
/// case. It is cancelled after `timeout_ms` (0: never), and each statement after the session's
/// `statement_timeout`. Log lines show `label` in its place.
pub fn run(sql: &[u8], label: &str, context: MemoryContext, timeout_ms: i32) -> Result<String> {
    let (sql, label) = (text(sql), text(label.as_bytes()));
    let (sql, label) = (sql.as_ptr(), label.as_ptr());
    let mut tag = [0 as libc::c_char; sys::COMPLETION_TAG_BUFSIZE as usize];
    let pointer = tag.as_mut_ptr();
    let outer = memcx::current();
    // SAFETY: no transaction is open; the texts and the tag live for the call.
    let result = protect(|| unsafe {
        sys::mw_command_run(sql, label, context.raw(), timeout_ms, pointer);
    });
    memcx::switch_to(outer);
    if let Err(error) = result {
        // SAFETY: ends whatever the error left open.
        protect(|| unsafe { sys::mw_command_abort() })?;
        memcx::switch_to(outer);
        return Err(error);
    }
    // SAFETY: the shim terminates the tag.
    Ok(unsafe { CStr::from_ptr(tag.as_ptr()) }
        .to_string_lossy()
        .into_owned())
}

/// Takes away all that a session can leave behind (`DISCARD ALL`), and the seed of random(). Outside a
/// transaction.
pub fn discard_all() -> Result<()> {
    let outer = memcx::current();
    // SAFETY: no transaction is open.
    let result = protect(|| unsafe { sys::mw_discard_all() }).and_then(|()| session::reseed());
    if result.is_err() {
        // SAFETY: as above.
        protect(|| unsafe { sys::mw_command_abort() })?;
    }
    memcx::switch_to(outer);
    result
}
