//! Main functions of the background workers.

use crate::launcher;
use crate::pg::guard;
use crate::sys;

/// The launcher, its workers and keepers.
///
/// # Safety
/// Called by the server alone.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn my_worker_main(argument: sys::Datum) {
    let outcome = guard::enter((), || launcher::process_main(argument as u64));
    // SAFETY: this frame owns nothing. An ERROR at this level ends the process with exit code 1.
    unsafe { guard::raise(outcome) }
}

/// The one-shot workers of `launch_dynamic_worker`.
///
/// # Safety
/// Called by the server alone.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dynamic_worker_main(argument: sys::Datum) {
    let outcome = guard::enter((), || launcher::process_main(argument as u64));
    // SAFETY: as above.
    unsafe { guard::raise(outcome) }
}
