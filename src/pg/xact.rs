//! Transactions and subtransactions as scopes, and the one hook at their end.

use super::error::Result;
use super::guard::protect;
use super::local::Local;
use super::memcx;
use crate::sys;

/// A whole transaction of ours: commits on `Ok`, aborts on `Err`. An active snapshot is set for `body`.
/// READ COMMITTED and READ WRITE, whatever the session's defaults are.
pub fn transaction<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    begin(true)?;
    complete(body)
}

/// The same for jobs, with the isolation level that the session starts its transactions with.
pub fn job_transaction<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    begin(false)?;
    complete(body)
}

fn complete<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = body().and_then(|value| commit().map(|()| value));
    if result.is_err() {
        abort()?;
    }
    result
}

/// A transaction for look-ups in shared catalogs, also without a database: no snapshot is taken.
pub fn catalog_transaction<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: called outside a transaction.
    protect(|| unsafe { sys::StartTransactionCommand() })?;
    let result = body().and_then(|value| commit().map(|()| value));
    if result.is_err() {
        abort()?;
    }
    result
}

/// Whether the session's transactions, or the open one, keep one snapshot for all their statements:
/// then an error may doom all of it.
pub fn is_strict() -> bool {
    // SAFETY: reads process-local state.
    unsafe {
        let level = match sys::IsTransactionState() {
            true => sys::XactIsoLevel,
            false => sys::DefaultXactIsoLevel,
        };
        level >= sys::XACT_REPEATABLE_READ as i32
    }
}

/// Starts a transaction with an active snapshot. Its end is [`commit`] or [`abort`].
fn begin(ours: bool) -> Result<()> {
    // SAFETY: called outside a transaction, as workers do between rounds; the level is set before
    // the first snapshot is taken.
    protect(|| unsafe {
        sys::SetCurrentStatementStartTimestamp();
        sys::StartTransactionCommand();
        sys::XactReadOnly = false;
        if ours {
            sys::XactIsoLevel = sys::XACT_READ_COMMITTED as i32;
        }
        sys::PushActiveSnapshot(sys::GetTransactionSnapshot());
    })
}

/// Whether a transaction is open.
#[cfg(pg_ge_17)]
pub(super) fn is_open() -> bool {
    // SAFETY: reads process-local state.
    unsafe { sys::IsTransactionState() }
}

/// Fires the deferred triggers of statements so far, outside of subtransactions.
pub fn fire_deferred() -> Result<()> {
    // SAFETY: a transaction is open, and no query runs in it.
    protect(|| unsafe { sys::AfterTriggerFireDeferred() })
}

/// Commits what [`begin`] started. Triggers that are still deferred fire here, so it may raise anything.
pub fn commit() -> Result<()> {
    // SAFETY: begin() pushed the one active snapshot that is left.
    protect(|| unsafe {
        if sys::ActiveSnapshotSet() {
            sys::PopActiveSnapshot();
        }
        sys::CommitTransactionCommand();
    })
}

/// Aborts what [`begin`] started, from whatever state an error left.
pub fn abort() -> Result<()> {
    // SAFETY: AbortCurrentTransaction cleans up after any failure, also after a failed commit.
    protect(|| unsafe { sys::AbortCurrentTransaction() })
}

/// Runs `body` with a snapshot of this moment active, whatever the isolation level. What it reads
/// by read-only statements is seen so.
pub fn with_latest_snapshot<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: a transaction is open; popped by the next call, or by the end of the (sub)transaction.
    protect(|| unsafe { sys::PushActiveSnapshot(sys::GetLatestSnapshot()) })?;
    with_pushed_snapshot(body)
}

/// Runs `body` with a snapshot as a next statement of this transaction takes it: of this moment,
/// unless the isolation level keeps one for all.
pub fn with_next_snapshot<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: as above.
    protect(|| unsafe { sys::PushActiveSnapshot(sys::GetTransactionSnapshot()) })?;
    with_pushed_snapshot(body)
}

fn with_pushed_snapshot<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let value = body()?;
    // SAFETY: the caller pushed it; an error leaves it to the end of the (sub)transaction.
    protect(|| unsafe { sys::PopActiveSnapshot() })?;
    Ok(value)
}

/// Runs `body` in a subtransaction with a snapshot of its own: `Err` rolls back all it did, and
/// only that.
pub fn subtransaction<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let context = memcx::current();
    // SAFETY: a transaction is open; the variable belongs to this process.
    let owner = unsafe { sys::CurrentResourceOwner };
    // SAFETY: a transaction is open; memory context and resource owner are put back below.
    protect(|| unsafe {
        sys::BeginInternalSubTransaction(std::ptr::null());
        sys::CurrentMemoryContext = context;
        sys::PushActiveSnapshot(sys::GetTransactionSnapshot());
    })?;
    let result = body().and_then(|value| {
        // SAFETY: the subtransaction that was begun above is the innermost one.
        protect(|| unsafe {
            sys::PopActiveSnapshot();
            sys::ReleaseCurrentSubTransaction();
        })
        .map(|()| value)
    });
    let ended = match &result {
        Ok(_) => Ok(()),
        // SAFETY: as above; the rollback also drops the snapshot.
        Err(_) => protect(|| unsafe { sys::RollbackAndReleaseCurrentSubTransaction() }),
    };
    memcx::switch_to(context);
    // SAFETY: the owner of the surrounding (sub)transaction, which is current again.
    unsafe { sys::CurrentResourceOwner = owner };
    ended.and(result)
}

/// Has later commands of this transaction see what was changed so far.
pub fn next_command() -> Result<()> {
    // SAFETY: a transaction is open.
    protect(|| unsafe { sys::CommandCounterIncrement() })
}

/// How many subtransactions that wrote something the open transaction has had. More than 64 of
/// them spill out of the snapshots' cache (PGPROC_MAX_CACHED_SUBXIDS, storage/proc.h).
pub fn writing_subtransactions() -> usize {
    let mut children = std::ptr::null_mut();
    // SAFETY: reads the state of the open transaction; the array stays the server's.
    usize::try_from(unsafe { sys::xactGetCommittedChildren(&mut children) }).unwrap_or(0)
}

/// The subtransaction that is open now; 1 is the transaction itself.
pub fn current_subtransaction() -> u32 {
    // SAFETY: reads process-local state.
    unsafe { sys::GetCurrentSubTransactionId() }
}

/// Waits for the end of another transaction or subtransaction. The server knows of it: who would
/// wait for ever gets an error.
pub fn wait_for_end(xid: u32) -> Result<()> {
    // SAFETY: a transaction is open, which is not that one.
    protect(|| unsafe {
        sys::XactLockTableWait(
            xid,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            sys::XLTW_None,
        );
    })
}

/// 25006 if this transaction is read only; `what` names what is refused.
pub fn refuse_read_only(what: &'static std::ffi::CStr) -> Result<()> {
    // SAFETY: raises, or does nothing.
    protect(|| unsafe { sys::PreventCommandIfReadOnly(what.as_ptr()) })
}

/// 25006 on a standby.
pub fn refuse_recovery(what: &'static std::ffi::CStr) -> Result<()> {
    // SAFETY: as above.
    protect(|| unsafe { sys::PreventCommandDuringRecovery(what.as_ptr()) })
}

/// Whether a row with this xmin was written by the open transaction.
pub fn is_own(xid: u32) -> bool {
    // SAFETY: reads process-local state.
    unsafe { sys::TransactionIdIsCurrentTransactionId(xid) }
}

/// What happens to a transaction or subtransaction that [`on_end`] tells of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The transaction has committed and is visible to others.
    Commit,
    /// It was rolled back.
    Abort,
    /// It is about to be prepared; `Err` stops it.
    BeforePrepare,
    /// It was prepared for COMMIT PREPARED and is no longer this session's.
    Prepare,
    /// The subtransaction became part of its parent.
    SubCommit {
        /// The one that ended.
        id: u32,
        /// Its parent.
        parent: u32,
    },
    /// The subtransaction was rolled back.
    SubAbort {
        /// The one that ended.
        id: u32,
    },
}

/// Told of the end of every (sub)transaction of this process. Raises nothing, except for
/// `BeforePrepare`, where it may return an error.
pub type EndHook = fn(End) -> Result<()>;

static HOOKS: Local<[Option<EndHook>; 3]> = Local::new([None; 3]);

/// Registers a hook, once a process: one of three in all.
pub fn on_end(hook: EndHook) -> Result<()> {
    let is_new = HOOKS.with(|all| {
        let is_known = |known: EndHook| std::ptr::fn_addr_eq(known, hook);
        if all.iter().flatten().any(|known| is_known(*known)) {
            return false;
        }
        if let Some(place) = all.iter_mut().find(|place| place.is_none()) {
            *place = Some(hook);
        }
        true
    });
    if is_new { watch() } else { Ok(()) }
}

/// Told of the same, before the hooks. A listener only changes what this process remembers.
pub(super) type Listener = fn(End);

static LISTENERS: Local<[Option<Listener>; 2]> = Local::new([None; 2]);

/// Registers a listener of this layer: the first or the second one of all.
pub(super) fn listen(listener: Listener) -> Result<()> {
    let is_new = LISTENERS.with(|all| {
        let is_known = |known: Listener| std::ptr::fn_addr_eq(known, listener);
        if all.iter().flatten().any(|known| is_known(*known)) {
            return false;
        }
        if let Some(place) = all.iter_mut().find(|place| place.is_none()) {
            *place = Some(listener);
        }
        true
    });
    if is_new { watch() } else { Ok(()) }
}

static WATCHING: Local<bool> = Local::new(false);

fn watch() -> Result<()> {
    if WATCHING.replace(true) {
        return Ok(());
    }
    // SAFETY: both callbacks are functions of this library, which is never unloaded.
    protect(|| unsafe {
        sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
        sys::RegisterSubXactCallback(Some(at_sub_end), std::ptr::null_mut());
    })
}

fn call_hook(end: End) -> Result<()> {
    for listener in LISTENERS.get().into_iter().flatten() {
        listener(end);
    }
    let mut hooks = HOOKS.get().into_iter().flatten();
    hooks.try_for_each(|hook| hook(end))
}

unsafe extern "C-unwind" fn at_end(event: sys::XactEvent, _: *mut libc::c_void) {
    let end = match event {
        sys::XACT_EVENT_COMMIT => End::Commit,
        sys::XACT_EVENT_ABORT => End::Abort,
        sys::XACT_EVENT_PRE_PREPARE => End::BeforePrepare,
        sys::XACT_EVENT_PREPARE => End::Prepare,
        _ => return,
    };
    let outcome = super::guard::enter((), || call_hook(end));
    if end == End::BeforePrepare {
        // SAFETY: this frame owns nothing, and raising is allowed before PREPARE.
        unsafe { super::guard::raise(outcome) };
    }
}

unsafe extern "C-unwind" fn at_sub_end(
    event: sys::SubXactEvent,
    id: sys::SubTransactionId,
    parent: sys::SubTransactionId,
    _: *mut libc::c_void,
) {
    let end = match event {
        sys::SUBXACT_EVENT_COMMIT_SUB => End::SubCommit { id, parent },
        sys::SUBXACT_EVENT_ABORT_SUB => End::SubAbort { id },
        _ => return,
    };
    let _ = super::guard::enter((), || call_hook(end));
}
