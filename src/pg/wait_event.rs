//! Wait events of ours: with names where the server can (17 and newer), else "Extension".

use std::ffi::CStr;

use super::local::Local;
use crate::sys;

struct Event {
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

    fn code(&self) -> u32 {
        if self.code.get() == 0 {
            self.code.set(register(self.name));
        }
        self.code.get()
    }
}

#[cfg(pg_ge_17)]
fn register(name: &'static CStr) -> u32 {
    // SAFETY: a constant string; registering the same name twice answers the same event.
    super::guard::protect(|| unsafe { sys::WaitEventExtensionNew(name.as_ptr()) })
        .unwrap_or(sys::PG_WAIT_EXTENSION)
}

#[cfg(not(pg_ge_17))]
fn register(_: &'static CStr) -> u32 {
    sys::PG_WAIT_EXTENSION
}

/// The launcher has nothing to do.
pub fn launcher_main() -> u32 {
    static EVENT: Event = Event::new(c"MyWorkerLauncherMain");
    EVENT.code()
}

/// A worker has no job.
pub fn worker_idle() -> u32 {
    static EVENT: Event = Event::new(c"MyWorkerWorkerIdle");
    EVENT.code()
}

/// A keeper waits for the next due time.
pub fn keeper_main() -> u32 {
    static EVENT: Event = Event::new(c"MyWorkerKeeperMain");
    EVENT.code()
}

/// A dynamic worker waits for the transaction that launched it.
pub fn launch_commit() -> u32 {
    static EVENT: Event = Event::new(c"MyWorkerLaunchCommit");
    EVENT.code()
}

/// A session waits for a job to end.
pub fn job_wait() -> u32 {
    static EVENT: Event = Event::new(c"MyWorkerJobWait");
    EVENT.code()
}
