//! Waiting on the process latch, and waking others.

use super::error::Result;
use super::guard::protect;
use super::wait_event::Event;
use crate::sys;

/// Sleeps until the latch is set, or `timeout_ms` have passed (`None`: no limit). Handles
/// interrupts first and last, so FATAL ends the process here; exits when the postmaster dies.
pub fn wait(timeout_ms: Option<i64>, event: &Event) -> Result<()> {
    let mut events = sys::WL_LATCH_SET | sys::WL_EXIT_ON_PM_DEATH;
    if timeout_ms.is_some() {
        events |= sys::WL_TIMEOUT;
    }
    let timeout = timeout_ms.unwrap_or(-1);
    let event = event.code()?;
    // SAFETY: MyLatch is this process's own.
    protect(|| unsafe {
        sys::mw_check_for_interrupts();
        sys::WaitLatch(sys::MyLatch, events as i32, timeout, event);
        sys::ResetLatch(sys::MyLatch);
        sys::mw_check_for_interrupts();
    })
}

/// The same in a client's session, for at most that many milliseconds; a client that goes ends it at
/// once, by FATAL.
pub fn wait_for_client(ms: i64, event: &Event) -> Result<()> {
    let event = event.code()?;
    // SAFETY: MyLatch is this process's own, and so is the client's socket.
    protect(|| unsafe { sys::mw_wait_for_client(ms, event) })
}

/// The number by which others reach this process's latch.
pub fn my_procno() -> i32 {
    // SAFETY: MyProc is set in every process that runs our code.
    unsafe { sys::mw_my_procno() }
}

/// Wakes the process with that number, if any; a number that is out of date wakes a stranger,
/// which does no harm. Safe in the commit callback: raises nothing, allocates nothing.
pub fn wake(procno: i32) {
    // SAFETY: the shim checks the range.
    unsafe { sys::mw_set_latch(procno) }
}

/// Handles what is pending: cancel, termination, barriers. A long loop of ours calls it.
pub fn check_for_interrupts() -> Result<()> {
    // SAFETY: may raise, which protect catches; FATAL ends the process.
    protect(|| unsafe { sys::mw_check_for_interrupts() })
}
