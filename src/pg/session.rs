//! What a job may leave behind in its session, and how it is taken away; cancels and timeouts.

use super::datum::ToDatum;
use super::error::Result;
use super::guard::protect;
use super::local::Local;
use super::random;
use crate::sys;

/// Loads what `session_preload_libraries` and `local_preload_libraries` name, as a session does at its start, and a background
/// worker does not by itself (tcop/postgres.c). Raises what a session that logs in would: a library is not there.
pub fn preload_libraries() -> Result<()> {
    // SAFETY: the process has logged in, and no transaction is open.
    protect(|| unsafe { sys::process_session_preload_libraries() })
}

/// Takes away what a job left that does not end with its (sub)transaction: cursors, prepared
/// statements, session-level advisory locks, currval, large objects left open, the seed of random(). Settings and temporary tables are the
/// caller's, see `guc::Level` and [`touched_temporary`]. Cheap where there is nothing.
pub fn discard_leftovers() -> Result<()> {
    let seed = random::unit();
    // SAFETY: no portal of this session is running: jobs are called outside of any; setseed() takes a
    // float8 from -1 to 1.
    protect(|| unsafe {
        sys::DirectFunctionCall1Coll(Some(sys::setseed), 0, seed.datum().raw());
        sys::PortalHashTableDeleteAll();
        sys::DropAllPreparedStatements();
        sys::LockReleaseSession(sys::USER_LOCKMETHOD as _);
        sys::ResetSequenceCaches();
        sys::AtEOXact_LargeObject(true);
    })
}

/// Has random() start anew, whatever setseed() was given.
pub fn reseed() -> Result<()> {
    let seed = random::unit();
    // SAFETY: setseed() takes a float8 from -1 to 1.
    protect(|| unsafe {
        sys::DirectFunctionCall1Coll(Some(sys::setseed), 0, seed.datum().raw());
    })
}

/// Whether the open transaction has used this session's temporary schema.
pub fn touched_temporary() -> bool {
    // SAFETY: reads process-local state.
    unsafe { sys::MyXactFlags as u32 & sys::XACT_FLAGS_ACCESSEDTEMPNAMESPACE != 0 }
}

static CONSTRAINTS_SET: Local<bool> = Local::new(false);

/// SET CONSTRAINTS is about to run.
pub(super) fn touch_constraints() {
    CONSTRAINTS_SET.set(true);
}

/// Whether SET CONSTRAINTS was used since the last call: what it set lasts until the transaction
/// ends, and nothing but that puts it back.
pub fn touched_constraints() -> bool {
    CONSTRAINTS_SET.take()
}

/// Drops all temporary objects of the session. In a transaction.
pub fn drop_temporary() -> Result<()> {
    // SAFETY: as DISCARD TEMP does it.
    protect(|| unsafe { sys::ResetTempTableNamespace() })
}

/// Cancels do not reach us until [`accept_cancels`]: they are for jobs.
pub fn hold_cancels() {
    // SAFETY: process-local variables of the server; an ERROR has reset the count to zero, so it
    // is set and not counted up.
    unsafe { sys::QueryCancelHoldoffCount = 1 };
}

/// From here on a cancel raises an ERROR.
pub fn accept_cancels() {
    // SAFETY: as above.
    unsafe { sys::QueryCancelHoldoffCount = 0 };
}

/// Forgets a cancel that came too late; true if there was one.
pub fn forget_cancel() -> bool {
    // SAFETY: as above.
    unsafe { (&raw mut sys::QueryCancelPending).replace(0) != 0 }
}

/// `statement_timeout` of the session in milliseconds, 0 for none.
pub fn statement_timeout_ms() -> i32 {
    // SAFETY: reads process-local state.
    unsafe { sys::StatementTimeout }
}

/// Cancels what runs after that many milliseconds. Background workers have no such limit unless
/// it is armed like this.
pub fn start_statement_timeout(ms: i32) -> Result<()> {
    // SAFETY: the server has registered this timeout in every session.
    protect(|| unsafe { sys::enable_timeout_after(sys::STATEMENT_TIMEOUT, ms) })
}

/// Disarms it; true if it had fired.
pub fn stop_statement_timeout() -> Result<bool> {
    // SAFETY: as above.
    protect(|| unsafe {
        let fired = sys::get_timeout_indicator(sys::STATEMENT_TIMEOUT, false);
        sys::disable_timeout(sys::STATEMENT_TIMEOUT, false);
        fired
    })
}

/// Rings after that many milliseconds, and wakes the process `procno` then.
pub fn start_overrun_timer(ms: i32, procno: i32) -> Result<()> {
    // SAFETY: the process has its timeouts set up, as every one with a database has.
    protect(|| unsafe { sys::mw_overrun_start(procno, ms) })
}

/// From here on the overrun timer also cancels what runs here, at once if it has rung; and wakes that
/// process once more if what was cancelled still runs after as long again.
pub fn overrun_cancels() -> Result<()> {
    // SAFETY: writes a variable that the handler reads.
    if !unsafe { sys::mw_overrun_cancels() } {
        return Ok(());
    }
    // SAFETY: as above.
    protect(|| unsafe { sys::mw_overrun_again() })
}

/// Disarms the timer; true if it had rung.
pub fn stop_overrun_timer() -> Result<bool> {
    // SAFETY: as above.
    protect(|| unsafe { sys::mw_overrun_stop() })
}

/// Whether the timer has rung.
pub fn has_overrun() -> bool {
    // SAFETY: a flag written by a signal handler of this process.
    unsafe { (&raw const sys::mw_overrun).read_volatile() != 0 }
}

/// Sets whether this transaction may write; jobs start as their role's default says.
pub fn set_read_only(read_only: bool) {
    // SAFETY: process-local state, put back at the end of the surrounding (sub)transaction.
    unsafe { sys::XactReadOnly = read_only };
}

/// `default_transaction_read_only` of the session.
pub fn default_read_only() -> bool {
    // SAFETY: reads process-local state.
    unsafe { sys::DefaultXactReadOnly }
}
