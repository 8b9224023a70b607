//! Wait events of ours: with names where the server can (17 and newer), else "Extension".

use std::ffi::CStr;

use super::error::Result;
use super::local::Local;
use crate::sys;

/// A kind of waiting, as `pg_stat_activity` shows it.
pub struct Event {
    name: &'static CStr,
    code: Local<u32>,
}

impl Event {
    const fn new(name: &'static CStr) -> Self {
        Event {
            name,
            code: Local::new(0),
        }
    }

    /// The number by which the server knows it.
    pub(super) fn code(&self) -> Result<u32> {
        if self.code.get() == 0 {
            self.code.set(register(self.name)?);
        }
        Ok(self.code.get())
    }
}

/// Asks the server for the number, in a transaction or subtransaction of its own: other libraries may
/// have used all the numbers up, and the server then raises while it holds a lock, which only the end
/// of a (sub)transaction gives back. The event goes without a name in that case.
#[cfg(pg_ge_17)]
fn register(name: &'static CStr) -> Result<u32> {
    use super::error::PROGRAM_LIMIT_EXCEEDED;
    use super::{guard::protect, xact};
    // SAFETY: a constant string; registering the same name twice answers the same event.
    let ask = || protect(|| unsafe { sys::WaitEventExtensionNew(name.as_ptr()) });
    let asked = if xact::is_open() {
        xact::subtransaction(ask)
    } else {
        xact::catalog_transaction(ask)
    };
    match asked {
        Err(error) if error.sqlstate == PROGRAM_LIMIT_EXCEEDED => Ok(sys::PG_WAIT_EXTENSION),
        asked => asked,
    }
}

#[cfg(not(pg_ge_17))]
fn register(_: &'static CStr) -> Result<u32> {
    Ok(sys::PG_WAIT_EXTENSION)
}

/// The launcher has nothing to do.
pub fn launcher_main() -> &'static Event {
    static EVENT: Event = Event::new(c"MyWorkerLauncherMain");
    &EVENT
}

/// A worker has no job.
pub fn worker_idle() -> &'static Event {
    static EVENT: Event = Event::new(c"MyWorkerWorkerIdle");
    &EVENT
}

/// A keeper waits for the next due time.
pub fn keeper_main() -> &'static Event {
    static EVENT: Event = Event::new(c"MyWorkerKeeperMain");
    &EVENT
}

/// A dynamic worker waits for the transaction that launched it.
pub fn launch_commit() -> &'static Event {
    static EVENT: Event = Event::new(c"MyWorkerLaunchCommit");
    &EVENT
}

/// A session waits for a job to end.
pub fn job_wait() -> &'static Event {
    static EVENT: Event = Event::new(c"MyWorkerJobWait");
    &EVENT
}

/// A session of a consumer waits for a job.
pub fn consumer_wait() -> &'static Event {
    static EVENT: Event = Event::new(c"MyWorkerConsumerWait");
    &EVENT
}
