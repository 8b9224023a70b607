//! A lock that a command has over all its transactions, whatever they come to.
//!
//! A lock of the session survives a COMMIT; a ROLLBACK takes it like all others (LockReleaseAll). So it
//! is taken again before the next statement, which waits if somebody was faster, and fails if the
//! object is gone then. A process that ends gives it up itself: the server does so with the transaction that is open
//! then (ShutdownPostgres), and only if there is one.

use std::ffi::CStr;

use super::datum::Oid;
use super::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use super::guard::{self, protect};
use super::local::Local;
use super::xact::{self, End};
use crate::sys;

/// An extension that is held.
#[derive(Clone, Copy)]
struct Hold {
    name: &'static CStr,
    oid: Oid,
    /// Whether a ROLLBACK has taken the lock.
    lost: bool,
}

static HOLD: Local<Option<Hold>> = Local::new(None);

/// Whether the end of this process is waited for.
static ENDS: Local<bool> = Local::new(false);

unsafe extern "C-unwind" fn at_exit(_: i32, _: sys::Datum) {
    let _ = guard::enter((), release);
}

fn at_end(end: End) {
    if end == End::Abort {
        HOLD.with(|hold| {
            if let Some(hold) = hold {
                hold.lost = true;
            }
        });
    }
}

fn lock_tag(extension: Oid) -> sys::LOCKTAG {
    sys::LOCKTAG {
        // SAFETY: a variable of this process.
        locktag_field1: unsafe { sys::MyDatabaseId },
        locktag_field2: sys::ExtensionRelationId,
        locktag_field3: extension,
        locktag_field4: 0,
        locktag_type: sys::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: sys::DEFAULT_LOCKMETHOD as u8,
    }
}

fn lock(extension: Oid) -> Result<()> {
    let tag = lock_tag(extension);
    let tag = &raw const tag;
    // SAFETY: takes a heavyweight lock in an open transaction; raises on deadlock or cancel.
    protect(|| unsafe {
        sys::LockAcquire(tag, sys::AccessShareLock as i32, true, false);
    })
}

/// Takes a shared lock on an extension, until [`release`].
pub(super) fn take(name: &'static CStr, oid: Oid) -> Result<()> {
    xact::listen(at_end)?;
    if !ENDS.replace(true) {
        // SAFETY: at_exit is a function of this library, which is never unloaded.
        protect(|| unsafe { sys::before_shmem_exit(Some(at_exit), 0) })?;
    }
    lock(oid)?;
    let lost = false;
    HOLD.set(Some(Hold { name, oid, lost }));
    Ok(())
}

/// Before a statement: takes again what a ROLLBACK took.
pub(super) fn keep() -> Result<()> {
    let Some(hold) = HOLD.get().filter(|hold| hold.lost) else {
        return Ok(());
    };
    // SAFETY: reads the state of this process.
    if unsafe { !sys::IsTransactionState() || sys::IsAbortedTransactionBlockState() } {
        return Ok(());
    }
    lock(hold.oid)?;
    HOLD.set(Some(Hold {
        lost: false,
        ..hold
    }));
    let name = hold.name.as_ptr();
    // SAFETY: hears of what others have committed; then a catalog look-up, 0 if it is gone.
    let now = protect(|| unsafe {
        sys::AcceptInvalidationMessages();
        sys::get_extension_oid(name, true)
    })?;
    if now == hold.oid {
        return Ok(());
    }
    let name = hold.name.to_string_lossy();
    Err(PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("extension \"{name}\" was dropped while the command ran"),
    ))
}

/// Gives the lock up, if the session has it still.
pub(super) fn release() -> Result<()> {
    let Some(hold) = HOLD.replace(None).filter(|hold| !hold.lost) else {
        return Ok(());
    };
    let tag = lock_tag(hold.oid);
    let tag = &raw const tag;
    // SAFETY: the session has the lock.
    protect(|| unsafe {
        sys::LockRelease(tag, sys::AccessShareLock as i32, true);
    })
}
