//! Shared memory under one LWLock: requested and set up by the server's two hooks, read and
//! written through closures that copy in and out.

use std::ffi::CStr;
use std::ptr;

use super::error::Result;
use super::guard::protect;
use super::local::Local;
use crate::sys;

/// A struct in shared memory. All-zero bytes are its valid first value, and it points to no memory of
/// one process.
///
/// # Safety
/// The implementor keeps both promises.
pub unsafe trait Zeroed {}

/// What stands beside a struct that the lock guards, for all to read and change without it.
///
/// # Safety
/// Every field is an atomic, or made of some.
pub unsafe trait Unlocked: Zeroed + Sync + 'static {}

/// A struct that the lock guards.
pub trait Guarded: Zeroed + Sized {
    /// What stands beside it.
    type Unlocked: Unlocked;

    /// Is told where that stands, before there is any process: it is at the same place in all.
    fn link(&mut self, unlocked: &'static Self::Unlocked);
}

/// Both, in shared memory. There is a reference to the one or to the other, never to the whole.
#[repr(C)]
struct Area<T: Guarded> {
    guarded: T,
    unlocked: T::Unlocked,
}

/// The one shared struct of this library, with its lock.
pub struct Shared<T: Guarded> {
    name: &'static CStr,
    address: Local<*mut Area<T>>,
    lock: Local<*mut sys::LWLock>,
}

/// The lock is held until this is dropped, also by a panic of ours. A server ERROR cannot occur
/// while it lives: the closures under the lock do not call the server.
pub(super) struct Held(*mut sys::LWLock);

impl Held {
    pub(super) fn acquire(lock: *mut sys::LWLock, mode: sys::LWLockMode) -> Self {
        // SAFETY: the lock was set up with the shared struct; it raises only beyond 200 locks held.
        unsafe { sys::LWLockAcquire(lock, mode) };
        Held(lock)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: held since `acquire`, and released nowhere else.
        unsafe { sys::LWLockRelease(self.0) };
    }
}

impl<T: Guarded> Shared<T> {
    /// Name of the segment and of the lock's tranche.
    pub const fn new(name: &'static CStr) -> Self {
        Shared {
            name,
            address: Local::new(ptr::null_mut()),
            lock: Local::new(ptr::null_mut()),
        }
    }

    /// Asks for the memory and the lock. From the request hook only.
    pub fn request(&self) {
        // SAFETY: called in the request hook, where the server allows it.
        unsafe {
            sys::RequestAddinShmemSpace(size_of::<Area<T>>());
            sys::RequestNamedLWLockTranche(self.name.as_ptr(), 1);
        }
    }

    /// Finds or creates the memory; true if it is new and zeroed. From the startup hook only.
    pub fn attach(&self) -> bool {
        let mut found = false;
        // SAFETY: called in the startup hook; the size is the one requested. The server aligns to cache lines,
        // and no process but this one is there while the memory is new.
        unsafe {
            let address = sys::mw_shmem_init(self.name.as_ptr(), size_of::<Area<T>>(), &mut found);
            let area = address.cast::<Area<T>>();
            self.address.set(area);
            let tranche = sys::GetNamedLWLockTranche(self.name.as_ptr());
            self.lock.set(&raw mut (*tranche).lock);
            if !found {
                (*area).guarded.link(&(*area).unlocked);
            }
        }
        !found
    }

    /// Whether the library was preloaded and the memory is there.
    pub fn is_attached(&self) -> bool {
        !self.address.get().is_null()
    }

    /// Reads under the lock, shared. `None` without preload. The closure copies out, and calls
    /// nothing of the server.
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.is_attached().then(|| {
            let _held = Held::acquire(self.lock.get(), sys::LW_SHARED);
            // SAFETY: attached, and no writer while the lock is held.
            f(unsafe { &(*self.address.get()).guarded })
        })
    }

    /// Changes under the lock, exclusive. `None` without preload. The closure copies in and out, and
    /// calls nothing of the server.
    pub fn write<R: Copy>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.exclusively(f)
    }

    /// The same for an answer that must not be lost in an `Option`; without preload it is the default.
    pub fn change<R: Default>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.exclusively(f).unwrap_or_default()
    }

    fn exclusively<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.is_attached().then(|| {
            let _held = Held::acquire(self.lock.get(), sys::LW_EXCLUSIVE);
            // SAFETY: attached, and nobody else looks while the lock is held.
            f(unsafe { &mut (*self.address.get()).guarded })
        })
    }

    /// Changes without the lock, in the postmaster while it has no children: in the startup hook
    /// and at its exit, where no lock can be waited for.
    pub fn alone<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        // SAFETY: attached, and no other process is attached.
        self.is_attached()
            .then(|| f(unsafe { &mut (*self.address.get()).guarded }))
    }

    /// Reads and changes without the lock what needs none.
    pub fn peek<R>(&self, f: impl FnOnce(&T::Unlocked) -> R) -> Option<R> {
        // SAFETY: attached; atomics, to which there is no exclusive reference.
        self.is_attached()
            .then(|| f(unsafe { &(*self.address.get()).unlocked }))
    }
}

static PREVIOUS_REQUEST: Local<sys::shmem_request_hook_type> = Local::new(None);
static PREVIOUS_STARTUP: Local<sys::shmem_startup_hook_type> = Local::new(None);
static REQUEST: Local<Option<fn()>> = Local::new(None);
static STARTUP: Local<Option<fn()>> = Local::new(None);

/// Chains the two functions into the server's hooks. From `_PG_init` while preloading.
pub fn install_hooks(request: fn(), startup: fn()) {
    REQUEST.set(Some(request));
    STARTUP.set(Some(startup));
    // SAFETY: the postmaster is loading libraries, single-threaded.
    unsafe {
        PREVIOUS_REQUEST.set(sys::shmem_request_hook);
        sys::shmem_request_hook = Some(on_request);
        PREVIOUS_STARTUP.set(sys::shmem_startup_hook);
        sys::shmem_startup_hook = Some(on_startup);
    }
}

unsafe extern "C-unwind" fn on_request() {
    if let Some(previous) = PREVIOUS_REQUEST.get() {
        // SAFETY: the hook of another library, called as the server would.
        unsafe { previous() };
    }
    if let Some(request) = REQUEST.get() {
        request();
    }
}

unsafe extern "C-unwind" fn on_startup() {
    if let Some(previous) = PREVIOUS_STARTUP.get() {
        // SAFETY: as above.
        unsafe { previous() };
    }
    if let Some(startup) = STARTUP.get() {
        startup();
    }
}

/// Whether the server's last life ended in order: not by a crash, nor by an immediate shutdown. From
/// the startup hook, before recovery.
pub fn was_shut_down() -> Result<bool> {
    // SAFETY: reads a file; raises if it cannot.
    protect(|| unsafe { sys::mw_was_shut_down() })
}

static AT_EXIT: Local<Option<fn()>> = Local::new(None);

/// Has `save` called when the server has shut down, in order or at once, by the process that made the
/// shared memory. From the startup hook; nothing happens in other processes.
pub fn at_shutdown(save: fn()) {
    // SAFETY: reads process-local state; the callback is a function of this library. Children
    // forget it when they are forked.
    unsafe {
        if sys::IsUnderPostmaster {
            return;
        }
        AT_EXIT.set(Some(save));
        sys::on_shmem_exit(Some(on_exit), 0);
    }
}

/// A code other than 0 is a crash, after which the memory is made anew.
unsafe extern "C-unwind" fn on_exit(code: i32, _arg: sys::Datum) {
    if let Some(save) = AT_EXIT.get().filter(|_| code == 0) {
        let _ = std::panic::catch_unwind(save);
    }
}
