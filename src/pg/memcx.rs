//! Memory contexts of the server, for what is sized by data: lack of memory is an ERROR there, in
//! Rust's own heap it would end the server.

use std::ffi::CStr;

use super::error::Result;
use super::guard::protect;
use crate::sys;

/// A memory context of ours, never deleted: for long-lived values, or reset every round.
#[derive(Clone, Copy)]
pub struct MemoryContext(sys::MemoryContext);

// SAFETY: a context belongs to one process, and our code runs in its only thread.
unsafe impl Sync for MemoryContext {}
// SAFETY: as above.
unsafe impl Send for MemoryContext {}

impl MemoryContext {
    /// A child of TopMemoryContext.
    pub fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: TopMemoryContext exists from the start of every process.
        let top = unsafe { sys::TopMemoryContext };
        child(top, name).map(MemoryContext)
    }

    /// The context itself, for calls that take one.
    pub(super) fn raw(self) -> sys::MemoryContext {
        self.0
    }

    /// Frees all that was allocated in it.
    pub fn reset(self) -> Result<()> {
        // SAFETY: the context is ours and lives as long as the process.
        protect(|| unsafe { sys::MemoryContextReset(self.0) })
    }

    /// Runs `f` with this context current.
    pub fn run<R>(self, f: impl FnOnce() -> R) -> R {
        let outer = switch_to(self.0);
        let result = f();
        switch_to(outer);
        result
    }
}

/// A new child of a context.
pub(super) fn child(parent: sys::MemoryContext, name: &'static CStr) -> Result<sys::MemoryContext> {
    // SAFETY: the parent is there; ALLOCSET_DEFAULT_SIZES.
    protect(|| unsafe {
        sys::AllocSetContextCreateInternal(
            parent,
            name.as_ptr(),
            sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            8 * 1024,
            8 * 1024 * 1024,
        )
    })
}

/// Makes `context` current and gives back the one before.
pub(super) fn switch_to(context: sys::MemoryContext) -> sys::MemoryContext {
    // SAFETY: a plain process-local variable of the server.
    unsafe { (&raw mut sys::CurrentMemoryContext).replace(context) }
}

/// The context that is current.
pub(super) fn current() -> sys::MemoryContext {
    // SAFETY: a plain process-local variable of the server.
    unsafe { sys::CurrentMemoryContext }
}

/// Asks for `bytes` in the current context and gives them back: shows what lack of memory does.
pub fn allocate_and_free(bytes: usize) -> Result<()> {
    // SAFETY: palloc either returns a block of that size or raises.
    protect(|| unsafe { sys::pfree(sys::palloc(bytes)) })
}

/// Makes a context current that has no room for anything, until the statement ends: shows what lack of
/// memory does to the report of an error.
pub fn leave_no_room() -> Result<()> {
    // SAFETY: a context for blocks of one size only; it goes with the transaction.
    let context = protect(|| unsafe {
        sys::SlabContextCreate(sys::TopTransactionContext, c"no room".as_ptr(), 8192, 8)
    })?;
    switch_to(context);
    Ok(())
}
