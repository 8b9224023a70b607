//! Background workers: registration, start, and what every process of ours sets up first.

use std::ffi::CStr;

use super::datum::Oid;
use super::error::Result;
use super::guard::protect;
use super::local::Local;
use crate::sys;

/// How a process is registered.
pub struct Worker<'a> {
    /// What `ps` and the log show.
    pub name: &'a str,
    /// `backend_type` in `pg_stat_activity`.
    pub kind: &'a str,
    /// The exported function that it runs.
    pub entry: &'static CStr,
    /// The argument of that function.
    pub argument: u64,
    /// Seconds after which it is restarted when it ends with exit code 1; `None`: never.
    pub restart_seconds: Option<i32>,
    /// Whether this process is told of its start and end.
    pub notify: bool,
}

impl Worker<'_> {
    fn raw(&self) -> sys::BackgroundWorker {
        // SAFETY: all-zero is a valid BackgroundWorker.
        let mut raw: sys::BackgroundWorker = unsafe { std::mem::zeroed() };
        copy(&mut raw.bgw_name, self.name.as_bytes());
        copy(&mut raw.bgw_type, self.kind.as_bytes());
        copy(&mut raw.bgw_library_name, b"my_worker");
        copy(&mut raw.bgw_function_name, self.entry.to_bytes());
        raw.bgw_flags =
            (sys::BGWORKER_SHMEM_ACCESS | sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as i32;
        raw.bgw_start_time = sys::BgWorkerStart_RecoveryFinished;
        raw.bgw_restart_time = self.restart_seconds.unwrap_or(sys::BGW_NEVER_RESTART);
        raw.bgw_main_arg = self.argument as sys::Datum;
        raw.bgw_notify_pid = if self.notify { my_pid() } else { 0 };
        raw
    }

    /// Registers a static worker, from `_PG_init` while preloading.
    pub fn register(&self) {
        let mut raw = self.raw();
        // SAFETY: the struct is copied.
        unsafe { sys::RegisterBackgroundWorker(&mut raw) };
    }

    /// Asks the postmaster for a worker; `None` if `max_worker_processes` is exhausted.
    pub fn start(&self) -> Result<Option<Handle>> {
        let mut raw = self.raw();
        let raw = &raw mut raw;
        // SAFETY: the struct is copied; the handle is palloc'd in TopMemoryContext so that it
        // outlives the transaction.
        let handle = protect(|| unsafe {
            let mut handle = std::ptr::null_mut();
            let outer = (&raw mut sys::CurrentMemoryContext).replace(sys::TopMemoryContext);
            let registered = sys::RegisterDynamicBackgroundWorker(raw, &mut handle);
            sys::CurrentMemoryContext = outer;
            if registered {
                handle
            } else {
                std::ptr::null_mut()
            }
        })?;
        Ok((!handle.is_null()).then_some(Handle(handle)))
    }
}

fn copy<const N: usize>(target: &mut [libc::c_char; N], text: &[u8]) {
    for (to, from) in target.iter_mut().take(N - 1).zip(text) {
        *to = *from as libc::c_char;
    }
}

/// A worker that was asked for.
pub struct Handle(*mut sys::BackgroundWorkerHandle);

/// What is known of a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not started yet.
    Starting,
    /// Running, with its process id.
    Running(i32),
    /// It has ended, or could not be started.
    Stopped,
    /// There is no postmaster any more.
    PostmasterDied,
}

impl Status {
    fn of(code: sys::BgwHandleStatus, pid: i32) -> Self {
        match code {
            sys::BGWH_STARTED => Status::Running(pid),
            sys::BGWH_NOT_YET_STARTED => Status::Starting,
            sys::BGWH_STOPPED => Status::Stopped,
            _ => Status::PostmasterDied,
        }
    }
}

impl Handle {
    /// What is known now.
    pub fn status(&self) -> Status {
        let mut pid = 0;
        // SAFETY: the handle came from the server; the call takes a lock and raises nothing.
        let code = unsafe { sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        Status::of(code, pid)
    }

    /// Waits until it has started or failed to.
    pub fn wait_for_start(&self) -> Result<Status> {
        let mut pid = 0;
        let pid = &raw mut pid;
        // SAFETY: as above; the wait handles interrupts.
        let code = protect(|| unsafe { sys::WaitForBackgroundWorkerStartup(self.0, pid) })?;
        // SAFETY: points to the local above.
        Ok(Status::of(code, unsafe { *pid }))
    }

    /// Asks the postmaster to end it.
    pub fn terminate(&self) {
        // SAFETY: as above; sets a flag and signals the postmaster.
        unsafe { sys::TerminateBackgroundWorker(self.0) }
    }

    /// Frees the handle; the worker goes on.
    pub fn forget(self) {
        // SAFETY: palloc'd by the registration and used by nobody else.
        unsafe { sys::pfree(self.0.cast()) }
    }
}

/// First thing in every process of ours: the server's own signal handlers, then signals on. A
/// SIGHUP that came after the fork and before them was ignored (StartBackgroundWorker), so the
/// configuration counts as changed.
pub fn accept_signals() {
    // SAFETY: called once at the start of a worker's main function; the handlers are the server's,
    // and the flag is this process's own.
    unsafe {
        sys::mw_install_signal_handlers();
        sys::BackgroundWorkerUnblockSignals();
        (&raw mut sys::ConfigReloadPending).write(1);
    }
}

/// Logs in, as nobody else than that role, whatever ALTER ROLE .. SET ROLE says. FATAL, with exit code 1,
/// if the database or the role does not allow it.
pub fn connect(database: Oid, role: Oid) -> Result<()> {
    // SAFETY: called once, before any database access; signals are unblocked. PGC_S_OVERRIDE makes the
    // setting what RESET ROLE goes back to, too.
    protect(|| unsafe {
        sys::BackgroundWorkerInitializeConnectionByOid(database, role, 0);
        sys::SetConfigOption(
            c"role".as_ptr(),
            c"none".as_ptr(),
            sys::PGC_USERSET,
            sys::PGC_S_OVERRIDE,
        );
    })
}

/// Connects to the shared catalogs alone, as the launchers of the server do.
pub fn connect_to_no_database() -> Result<()> {
    connect(0, 0)
}

/// Has `callback` called with the exit code when the process ends in an orderly way or by FATAL,
/// while shared memory is still there. One callback a process; it raises nothing.
pub fn before_exit(callback: fn(i32)) -> Result<()> {
    if AT_EXIT.replace(Some(callback)).is_some() {
        return Ok(());
    }
    // SAFETY: at_exit is a function of this library, which is never unloaded.
    protect(|| unsafe { sys::before_shmem_exit(Some(at_exit), 0) })
}

static AT_EXIT: Local<Option<fn(i32)>> = Local::new(None);

unsafe extern "C-unwind" fn at_exit(code: i32, _: sys::Datum) {
    let _ = super::guard::enter((), || {
        if let Some(callback) = AT_EXIT.get() {
            callback(code);
        }
        Ok(())
    });
}

/// This process.
pub fn my_pid() -> i32 {
    // SAFETY: reads process-local state.
    unsafe { sys::MyProcPid }
}

/// The database of this session, 0 if none.
pub fn my_database() -> Oid {
    // SAFETY: reads process-local state.
    unsafe { sys::MyDatabaseId }
}

/// Whether the library is being loaded by `shared_preload_libraries`, in a server that is up for
/// real work.
pub fn is_preloading() -> bool {
    // SAFETY: reads flags of the process.
    unsafe { sys::process_shared_preload_libraries_in_progress && !sys::IsBinaryUpgrade }
}

/// Whether the server replays another one's changes.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared state of the server.
    unsafe { sys::RecoveryInProgress() }
}

/// Whether a standby's replay is halted, so that nothing changes there. Only in recovery.
pub fn replay_is_paused() -> bool {
    // SAFETY: reads shared state of the server under its own lock.
    unsafe { sys::mw_replay_is_paused() }
}

/// Whether this session ends because the server could not send to its client any more (miscadmin.h).
pub fn has_lost_client() -> bool {
    // SAFETY: a flag of this process, which its own code sets.
    unsafe { sys::ClientConnectionLost != 0 }
}

/// Whether the postmaster is shutting the server down in order, as it notes for `pg_ctl` before it tells
/// its processes (the last line of postmaster.pid, `LOCK_FILE_LINE_PM_STATUS`, miscadmin.h).
pub fn is_shutting_down() -> bool {
    let status = std::fs::read_to_string("postmaster.pid").unwrap_or_default();
    status
        .lines()
        .nth(7)
        .is_none_or(|line| line.starts_with("stopping"))
}

/// Sends a signal to one of our processes.
pub fn signal(pid: i32, signal: i32) {
    // SAFETY: a plain system call; a process that is gone is no error here.
    unsafe { libc::kill(pid, signal) };
}

/// Whether a process of that number exists.
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 only asks.
    pid > 0 && (unsafe { libc::kill(pid, 0) } == 0)
}

/// Whether there is a postmaster, and not a single-user session.
pub fn under_postmaster() -> bool {
    // SAFETY: reads a flag of the process.
    unsafe { sys::IsUnderPostmaster }
}
