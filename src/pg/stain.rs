//! What a job leaves in its process that cannot be taken away, such as a connection to another
//! server: the process ends then.

use crate::sys;

/// Whether a library has been loaded since the first call that keeps such things. Some 50 ns.
pub fn is_stained() -> bool {
    // SAFETY: reads the dynamic loader's list and process-local variables.
    unsafe { sys::mw_is_stained() }
}
